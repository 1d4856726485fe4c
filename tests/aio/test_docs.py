"""The page on asyncio and the README's lines with await: their code runs as it stands there."""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, Dict, List

from selfdb.aio import SelfDB
from tests.support import ADMIN_EMAIL, ADMIN_PASSWORD, unique

ROOT = Path(__file__).parents[2]


def code_blocks(page: str) -> List[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(r"^\.\. code-block:: python\n\n((?:    .*\n|\n)+)", text, re.MULTILINE)
    return [textwrap.dedent(block) for block in found]


def test_the_first_lines_of_the_page_are_a_program() -> None:
    (program,) = code_blocks("docs/aio.rst")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(map(int, done.stdout.split())) == list(range(100))


def test_the_lines_of_the_readme_run(server: Any, monkeypatch: Any) -> None:
    (lines,) = [block for block in code_blocks("README.rst") if "selfdb.aio" in block]
    monkeypatch.setenv("SELFDB_URL", server.url)
    monkeypatch.setenv("SELFDB_API_KEY", server.api_key)
    name, seen = unique("people"), []
    names: Dict[str, Any] = {}

    async def coroutine_function(event: Any) -> None:
        seen.append(event.new["name"])
        names["arrived"].set()

    async def prepared() -> None:
        async with SelfDB() as db:
            await db.auth.login(ADMIN_EMAIL, ADMIN_PASSWORD)
            table = await db.tables.create({"name": name, "table_schema": {"name": {"type": "text"}}})
            await db.tables.update(table.id, {"realtime_enabled": True})
            await db.tables.data.insert(table.id, {"name": "Ada"})

    lines = lines.replace("email=...", f"email={ADMIN_EMAIL!r}").replace("password=...", f"password={ADMIN_PASSWORD!r}")
    lines = lines.replace("people", name)
    lines += '    await db.tables.data.insert(people.id, {"name": "Eve"})\n    await arrived.wait()\n'.replace(
        "people", name
    )
    program = "async def main():\n" + textwrap.indent(lines, "    ")
    names["coroutine_function"] = coroutine_function
    exec(compile(program, "README.rst", "exec"), names)

    async def run() -> None:
        names["arrived"] = asyncio.Event()
        await prepared()
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            await asyncio.wait_for(names["main"](), 20)
        assert printed.getvalue() == "Ada\n"

    asyncio.run(run())
    assert seen == ["Eve"]
