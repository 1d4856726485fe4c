"""Type checkers accept what the specification shows, awaited, and refuse a missing ``await`` in the line it is in."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import List, Set

import pytest

from tests.client.seed_calls import SEED_CALLS
from tests.conftest import unavailable

ROOT = Path(__file__).parents[2]
USE = Path(__file__).with_name("typed_use.py")
MISUSE = Path(__file__).with_name("typed_misuse.py")


def lines(path: Path) -> List[str]:
    return path.read_text(encoding="utf-8").splitlines()


def at(path: Path, number: int) -> str:
    return f"{path.name}:{number}: {lines(path)[number - 1].strip()}"


REFUSED = {at(MISUSE, number) for number, line in enumerate(lines(MISUSE), 1) if line.endswith("# refused")}


def run(command: List[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command, str(USE.relative_to(ROOT)), str(MISUSE.relative_to(ROOT))],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )


def test_every_awaited_call_of_the_specification_is_there() -> None:
    tree = ast.parse(USE.read_text(encoding="utf-8"))
    seed = [node for node in tree.body if isinstance(node, ast.AsyncFunctionDef) and node.name.startswith("seed_")]
    calls = [node for function in seed for node in ast.walk(function) if isinstance(node, ast.Await)]
    assert len(calls) == len(SEED_CALLS) == 56


def test_there_is_much_to_refuse() -> None:
    assert len(REFUSED) > 30


@pytest.mark.timeout(300)
def test_mypy_agrees() -> None:
    done = run(["mypy", "--strict"])  # as in the other tests of types, so that what one has read is not read again
    found: Set[str] = set()
    elsewhere: List[str] = []
    for line in done.stdout.splitlines():
        match = re.match(r"(?:.*[/\\])?(\w+\.py):(\d+): error: ", line)
        if match is not None and match[1] in (USE.name, MISUSE.name):
            found.add(at(USE if match[1] == USE.name else MISUSE, int(match[2])))
        elif ": error: " in line:
            elsewhere.append(line)
    assert elsewhere == []
    assert found == REFUSED, done.stdout + done.stderr


@pytest.mark.timeout(300)
def test_pyright_agrees() -> None:
    if importlib.util.find_spec("pyright") is None:
        unavailable("the package pyright")
    if shutil.which("node") is None:
        unavailable("node, for pyright")
    try:
        done = run(["pyright", "--outputjson", "--pythonpath", sys.executable], PYRIGHT_PYTHON_IGNORE_WARNINGS="1")
        report = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError) as error:  # an older one that could not fetch the rest of itself
        unavailable(f"pyright, which did not run: {error}")
    errors = [finding for finding in report["generalDiagnostics"] if finding["severity"] == "error"]
    found = {
        at(USE if Path(finding["file"]).name == USE.name else MISUSE, finding["range"]["start"]["line"] + 1)
        for finding in errors
    }
    assert report["summary"]["filesAnalyzed"] == 2
    assert found == REFUSED, json.dumps(errors, indent=1)
