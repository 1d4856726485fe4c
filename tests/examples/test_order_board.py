"""The order board: follows a table in a process of its own, across a restart of the server, until it is told to end."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Iterator, List, Tuple

import pytest

from selfdb import SelfDB
from tests.examples.conftest import ROOT, Output, Reader
from tests.servers.process import free_port
from tests.support import ADMIN_EMAIL, ADMIN_PASSWORD, Http

BOARD = "order_board.py"
SECONDS = 90.0
LIMITS = (1, 4, 16, 64)  # seconds; the first is long enough to show what is there, unless the machine is busy


class Board:
    """A running board."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.process = process
        self.shown = Output(process.stdout)
        self.said = Output(process.stderr)

    def wait(self) -> int:
        """Its exit code."""
        code = self.process.wait(SECONDS)
        self.shown.join()
        self.said.join()
        assert "Traceback" not in "\n".join(self.said.lines)
        return code


@pytest.fixture
def start() -> Iterator[Callable[..., Board]]:
    """``start(reader, *arguments, **changes)``: a `Board`, ended with the test at the latest."""
    boards: List[Board] = []

    def start_board(reader: Reader, *arguments: object, **changes: str) -> Board:
        boards.append(Board(reader.start(BOARD, *arguments, **changes)))
        return boards[-1]

    yield start_board
    for board in boards:
        with board.process:
            board.process.kill()  # harmless once it has ended
            board.shown.join()
            board.said.join()


@pytest.fixture
def table(db: SelfDB, unique: Callable[..., str]) -> Any:
    return make_table(db, unique("orders"))


def make_table(db: SelfDB, name: str) -> Any:
    return db.tables.create({"name": name, "table_schema": {"state": {"type": "text"}}})


def test_it_shows_what_is_there_and_every_change_across_a_restart_of_the_server(
    make_server: Callable[..., Any], tmp_path: Path, start: Callable[..., Board]
) -> None:
    server = make_server(path=tmp_path / "data", port=free_port())
    with SelfDB(server.url, server.api_key) as db:
        db.auth.login(ADMIN_EMAIL, ADMIN_PASSWORD)
        table = make_table(db, "orders")
        rows = [db.tables.data.insert(table.id, {"state": "new"}) for _ in range(3)]
        board = start(Reader(server, tmp_path), "orders")
        board.shown.wait_for("3 new")
        assert db.tables.get(table.id).realtime_enabled
        db.tables.data.update_row(table.id, rows[0]["id"], {"state": "paid"})
        board.shown.wait_for("2 new, 1 paid")
        db.tables.data.delete_row(table.id, rows[0]["id"])
        seen = board.shown.wait_for("2 new")

        server.stop()
        told = board.said.wait_for("orders: reconnecting")
        server.start()
        # Whether the board is back in time to see them or finds them when it comes: they are on it.
        db.tables.data.delete_row(table.id, rows[1]["id"])
        db.tables.data.update_row(table.id, rows[2]["id"], {"state": "paid"})
        board.said.wait_for("orders: connected", after=told)
        seen = board.shown.wait_for("1 paid", after=seen)
        db.tables.data.insert(table.id, {"state": "new"})
        db.tables.data.insert(table.id, {"state": "new"})
        board.shown.wait_for("2 new, 1 paid", after=seen)

        board.process.send_signal(signal.SIGINT)
        assert board.wait() == 0
    assert all(line.startswith("orders: ") for line in board.said.lines)
    assert board.said.lines[:2] == ["orders: connecting", "orders: connected"]


def test_it_ends_after_the_seconds_that_it_was_given(
    reader: Reader, db: SelfDB, table: Any, start: Callable[..., Board]
) -> None:
    db.tables.data.insert(table.id, {"state": "new"})
    for seconds in LIMITS:
        board = start(reader, table.name, "--for", seconds)
        code = board.wait()
        if board.shown.lines:
            break
    assert code == 0
    assert board.shown.lines == ["1 new"]


def on_a_terminal(reader: Reader, *arguments: str) -> Tuple[int, List[str]]:
    """The exit code, and what stood behind each clearing of the screen."""
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(
            [sys.executable, str(ROOT / "examples" / BOARD), *arguments],
            env=reader.variables,
            stdin=subprocess.DEVNULL,
            stdout=theirs,
        ) as process:
            code = process.wait(SECONDS)
        os.set_blocking(ours, False)
        with contextlib.suppress(BlockingIOError):  # it has drawn nothing
            return code, os.read(ours, 100_000).decode().replace("\r\n", "\n").split("\x1b[2J\x1b[H")
        return code, []
    finally:
        os.close(theirs)
        os.close(ours)


def test_it_is_drawn_in_place_on_a_terminal(reader: Reader, db: SelfDB, table: Any) -> None:
    for state in ("new", "paid", "new"):
        db.tables.data.insert(table.id, {"state": state})
    for seconds in LIMITS:
        code, screens = on_a_terminal(reader, table.name, "--for", str(seconds))
        if len(screens) >= 4:
            break
    assert code == 0
    assert len(screens) == 4
    assert screens[-1].splitlines() == [f"{table.name:<20}{3:>8}", f"{'new':<20}{2:>8}", f"{'paid':<20}{1:>8}"]


def test_it_ends_with_a_reason_when_the_table_goes(
    reader: Reader, db: SelfDB, table: Any, start: Callable[..., Board]
) -> None:
    db.tables.data.insert(table.id, {"state": "new"})
    board = start(reader, table.name)
    board.shown.wait_for("1 new")
    db.tables.delete(table.id)
    assert board.wait() == 1
    assert "its table is gone" in "\n".join(board.said.lines)  # word of the connection may come behind it


def test_one_who_may_not_enable_realtime_is_told_who_can(
    reader: Reader, db: SelfDB, table: Any, start: Callable[..., Board]
) -> None:
    db.tables.update(table.id, {"public": True})
    user, _ = Http(reader.server).new_user(password="password123")
    board = start(reader, table.name, SELFDB_EMAIL=user["email"], SELFDB_PASSWORD="password123")
    assert board.wait() == 1
    assert board.said.lines == [f"order_board: realtime is off for {table.name}, and its owner has to enable it"]


def test_without_a_server_it_says_so(reader: Reader, nowhere: str, start: Callable[..., Board]) -> None:
    board = start(reader, "orders", SELFDB_URL=nowhere)
    assert board.wait() == 1
    assert "order_board: " in "\n".join(board.said.lines)
    assert board.shown.lines == []
