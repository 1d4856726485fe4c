"""The embedded server on SQLite against a bare FastAPI route with sqlite3: ``python -m benchmarks server``."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

from selfdb import SelfDB

from .load import answer_to, load, message
from .measure import HERE, Figures, Results, in_turns, kept, parser_of, save, show

KEY = "bench-key-0123456789"
COLUMNS = (
    ("rate", "answers/s", 1, ".0f"),
    ("cpu", "server's CPU us", 1e6, ".0f"),
    ("p99", "p99 ms", 1e3, ".1f"),
    ("generator", "load's own CPU %", 1e2, ".0f"),
)
SCHEMA = {
    "title": {"type": "text"},
    "n": {"type": "integer"},
    "done": {"type": "boolean"},
    "note": {"type": "text"},
}
NEW_ROW = {"title": "a row of about two hundred bytes", "n": 7, "done": False, "note": "x" * 110}
BARE_TABLE = "CREATE TABLE {} (id TEXT PRIMARY KEY, title TEXT, n INTEGER, done INTEGER, note TEXT"
BARE_TABLE += ", created_at TEXT, updated_at TEXT)"


@contextlib.contextmanager
def serving(command: List[str]) -> Iterator[Tuple[str, int]]:
    """A server that tells its address in its first line, and its process id; ended by a signal."""
    variables = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip().rpartition(" ")[2], process.pid
        finally:
            process.terminate()


def filled(db: Any) -> Tuple[str, str]:
    """The ids of a table of 100 rows and of an empty one."""
    page, many = (db.tables.create({"name": name, "table_schema": SCHEMA}).id for name in ("page", "many"))
    for number in range(100):
        db.tables.data.insert(page, {"title": f"row {number}", "n": number, "done": False, "note": ""})
    return page, many


def copied(file: Path, page: bytes) -> None:
    """A database with the rows of ``page``."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        for name in ("page", "many"):
            connection.execute(BARE_TABLE.format(name))
        for row in json.loads(page)["data"]:
            names = ", ".join(row)
            marks = ", ".join("?" * len(row))
            connection.execute(f"INSERT INTO page ({names}) VALUES ({marks})", list(row.values()))  # noqa: S608
        connection.commit()


def measure(rounds: int, environments: Path, connections: int = 8, seconds: float = 2.0) -> Results:
    """The rounds of either request. ``environments`` is not needed: both servers are of this one."""
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        folder = Path(temporary)
        command = [sys.executable, "-m", "selfdb", "serve", "--port", "0", "--data", str(folder / "data")]
        ours, our_pid = stack.enter_context(serving([*command, "--api-key", KEY, "--no-access-log"]))
        db = stack.enter_context(SelfDB(ours, KEY))
        token = db.auth.login("admin@example.com", "password").access_token
        page, many = filled(db)
        headers = {"X-API-Key": KEY, "Authorization": f"Bearer {token}"}
        ask_page = message("GET", f"{ours}/tables/{page}/data?page=1&page_size=100", headers)
        shown = answer_to(ours, ask_page)
        copied(folder / "bare.sqlite3", shown)
        command = [sys.executable, str(HERE / "bare_server.py"), str(folder / "bare.sqlite3")]
        theirs, their_pid = stack.enter_context(serving(command))
        ask_bare = message("GET", f"{theirs}/rows?page=1&page_size=100", headers)
        if answer_to(theirs, ask_bare) != shown:
            raise RuntimeError("the two servers answer different bytes")
        body = json.dumps(NEW_ROW).encode()
        requests = {
            "server: page of 100 rows": (ask_page, ask_bare),
            "server: insert": (
                message("POST", f"{ours}/tables/{many}/data", headers, body),
                message("POST", f"{theirs}/rows", headers, body),
            ),
        }
        results: Results = {}
        for name, (to_ours, to_theirs) in requests.items():
            if len(answer_to(ours, to_ours)) != len(answer_to(theirs, to_theirs)):
                raise RuntimeError(f"{name}: {answer_to(ours, to_ours)!r} is not {answer_to(theirs, to_theirs)!r}")
            turns: Dict[str, Callable[[], Figures]] = {
                "selfdb": lambda to=to_ours: load(ours, to, connections, seconds, our_pid),  # type: ignore[misc]
                "bare": lambda to=to_theirs: load(theirs, to, connections, seconds, their_pid),  # type: ignore[misc]
            }
            for turn in turns.values():
                turn()
            results[name] = in_turns(turns, rounds)
            print(show(name, results[name], COLUMNS), flush=True)
    return results


def main(arguments: List[str]) -> None:
    """Measure and print."""
    parser = parser_of("server", __doc__, 5)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    options = parser.parse_args(arguments)
    with kept(options.environments) as environments:
        save(measure(options.rounds, environments, options.connections, options.seconds), options.json)
