"""The page on realtime: its code runs, from top to bottom, as one program on a table in which orders come and go."""

from __future__ import annotations

import contextlib
import io
import re
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple

import pytest

from selfdb import SelfDB, SelfDBError
from tests.servers.process import free_port
from tests.support import ADMIN_EMAIL, ADMIN_PASSWORD

PAGE = Path(__file__).parents[2] / "docs" / "realtime.rst"
SECONDS = 60.0


class Snippet(NamedTuple):
    section: str
    line: int
    code: str


def snippets() -> List[Snippet]:
    found: List[Snippet] = []
    section, lines = "", PAGE.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if number and line and set(line) <= set("=-") and len(line) >= len(lines[number - 1]) > 0:
            section = lines[number - 1]
        if line == ".. code-block:: python":
            block = []
            for inner in lines[number + 1 :]:
                if inner and not inner.startswith("    "):
                    break
                block.append(inner[4:])
            found.append(Snippet(section, number + 3, "\n".join(block).strip("\n") + "\n"))
    return found


class Shop:
    """Lets orders come, be paid and be taken away, one after the other, until it is closed."""

    def __init__(self, db: SelfDB, table_id: str) -> None:
        self._data = db.tables.data
        self._table_id = table_id
        self._closed = threading.Event()
        self.failures: List[BaseException] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._closed.is_set():
                row = self._data.insert(self._table_id, {"item": "green tea", "state": "new"})
                self._data.update_row(self._table_id, row["id"], {"state": "paid"})
                self._data.delete_row(self._table_id, row["id"])
                self._closed.wait(0.2)
        except SelfDBError as error:
            self.failures.append(error)

    def close(self) -> None:
        self._closed.set()
        self._thread.join(SECONDS)


class Output(io.StringIO):
    """What the page's program prints, on whichever thread."""

    def __init__(self) -> None:
        super().__init__()
        self._came = threading.Condition()

    def write(self, text: str) -> int:
        with self._came:
            self._came.notify_all()
            return super().write(text)

    def wait_for(self, pattern: str) -> None:
        found = re.compile(pattern, re.MULTILINE)
        with self._came:
            assert self._came.wait_for(lambda: found.search(self.getvalue()), SECONDS), (pattern, self.getvalue())


@pytest.fixture
def program(make_server: Callable[..., Any]) -> Iterator[Dict[str, Any]]:
    """The names that the page takes for granted, and the server."""
    server = make_server(backend="sqlite")
    with SelfDB(server.url, server.api_key) as db:
        db.auth.login(ADMIN_EMAIL, ADMIN_PASSWORD)
        table = db.tables.create(
            {"name": "orders", "table_schema": {"item": {"type": "text"}, "state": {"type": "text"}}}
        )
        shop = Shop(db, table.id)
        try:
            yield {"db": db}
        finally:
            shop.close()
        assert shop.failures == []


def test_the_code_of_the_page_runs_and_prints_what_it_says(program: Dict[str, Any]) -> None:
    errors: List[BaseException] = []
    db = program["db"]
    db.realtime.on_error(errors.append)
    with contextlib.redirect_stdout(Output()) as output:
        for snippet in snippets():
            exec(compile("\n" * (snippet.line - 1) + snippet.code, str(PAGE), "exec"), program)
            if "any of these:" in snippet.code:
                for line in ("new: green tea", "was new and is paid", "gone: green tea", "any of these: DELETE orders"):
                    output.wait_for(f"^{line}$")
        output.wait_for(r"^DELETE \{.*green tea")
        output.wait_for("^still there$")
        output.wait_for("no table|not found")
        db.realtime.disconnect()
    assert [event.event for event in program["seen"]] != []
    assert program["paid"].new["state"] == "paid"
    assert program["event"].event in ("INSERT", "DELETE")
    assert program["channel"].state == "closed"
    assert errors == []


def test_each_part_of_the_page_that_can_be_shown_has_code() -> None:
    shown = {snippet.section for snippet in snippets()}
    assert shown == {
        "A first look",
        "Loops instead of callbacks",
        "Following a table",
        "Gaps",
        "Slow callbacks",
        "What is raised",
    }
    assert len(snippets()) == 11


def test_what_the_page_says_of_a_gap(make_server: Callable[..., Any], tmp_path: Path) -> None:
    """``resync`` comes before the next event, is no part of ``*``, and reading again there fills the gap."""
    read_again = next(snippet.code for snippet in snippets() if "def read_again" in snippet.code)
    server = make_server(path=tmp_path / "data", port=free_port())
    with SelfDB(server.url, server.api_key) as db:
        db.auth.login(ADMIN_EMAIL, ADMIN_PASSWORD)
        orders = db.tables.create({"name": "orders", "table_schema": {"item": {"type": "text"}}})
        db.tables.update(orders.id, {"realtime_enabled": True})
        db.realtime.connect()
        channel = db.realtime.channel("table:orders")
        program: Dict[str, Any] = {"db": db, "orders": orders, "channel": channel}
        exec(read_again, program)
        came: List[Any] = []
        back, last = threading.Event(), threading.Event()

        def take(event: Any) -> None:
            came.append(event)
            if event.event == "resync":
                back.set()
            elif event.new and event.new["item"] == "after the gap":
                last.set()

        channel.on("resync", take).on("*", take).subscribe()
        server.stop()
        server.start()
        early = db.tables.data.insert(orders.id, {"item": "in the gap, or soon after it"})
        assert back.wait(SECONDS)
        db.tables.data.insert(orders.id, {"item": "after the gap"})
        assert last.wait(SECONDS)
        assert [event.event for event in came].count("resync") == 1
        assert came[0].event == "resync"
        assert early["id"] in program["known"] or early["id"] in [event.new["id"] for event in came[1:]]
