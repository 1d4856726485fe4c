"""A process that ends at any statement of an overlay's commit, or of a delivery: nothing half there, nothing lost."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from selfdb.indexie.database import Indexie
from selfdb.indexie.file.connections import Connections
from selfdb.indexie.timing import Timing

STORES = {"users": "++id, &email, name, *tags"}
QUICK = Timing(outbox_poll=0.005, retry_first=0.005, lease=0.05, lease_renewal=0.02)
CRASHED = 9


def opened(path: Path) -> Any:
    database = Indexie(path, timing=QUICK)
    database.version(1).stores(STORES)
    return database.open()


class Crash:
    """Ends the process right before the n-th statement after :meth:`arm`, on whichever connection and thread."""

    def __init__(self, at: int) -> None:
        self._left = at
        self._armed = False

    def arm(self) -> None:
        self._armed = True

    def disarm(self) -> None:
        self._armed = False

    def trace(self, statement: str) -> None:
        if self._armed:
            self._left -= 1
            if self._left <= 0:
                os._exit(CRASHED)


def crashes(path: Path, work: Callable[[Any, Crash], None], check: Callable[[Any, bool], None]) -> int:
    """Do ``work`` in children that end at its first statement, at its second, and so on until one comes through; after
    each ``check`` the file. How many there were."""
    template = path.with_suffix(".template")
    shutil.copy(path, template)
    for at in range(1, 500):
        for suffix in ("", "-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        shutil.copy(template, path)
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            _child(path, work, Crash(at))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, CRASHED)
        with opened(path) as database:
            check(database, status == 0)
            assert database.integrity_check() == []
        if status == 0:
            return at - 1
    raise AssertionError("it never came through")


def _child(path: Path, work: Callable[[Any, Crash], None], crash: Crash) -> None:
    code = 1
    try:
        connect = Connections._connect

        def traced(self: Connections, timeout: float) -> sqlite3.Connection:
            raw = connect(self, timeout)
            raw.set_trace_callback(crash.trace)
            return raw

        Connections._connect = traced  # type: ignore[method-assign]
        database = opened(path)
        work(database, crash)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


BEFORE = [
    {"email": "a", "name": "Ann", "tags": ["x"], "id": 1},
    {"email": "b", "name": "Bob", "tags": ["x", "y"], "id": 2},
    {"email": "c", "name": "Eve", "tags": [], "id": 3},
]
AFTER = [
    {"email": "b", "name": "Ann", "tags": ["z"], "id": 1},
    {"email": "c", "name": "Eve", "tags": [], "id": 3},
    {"email": "d", "name": "Dan", "tags": ["x"], "id": 4},
]


def nothing(payload: Dict[str, Any]) -> None:
    """A hook for the catalogue."""


@pytest.fixture
def stored(path: Path) -> Path:
    with opened(path) as database:
        database.users.bulk_add(BEFORE)
        database.outbox.pause()
        for register in (database.users.hook.on_add, database.users.hook.on_update, database.users.hook.on_delete):
            register(nothing, name="push")
    return path


def change(users: Any) -> None:
    users.delete(2)
    users.update(1, {"email": "b", "tags": ["z"]})
    users.add({"email": "d", "name": "Dan", "tags": ["x"]})


def check_whole(database: Any, entries: int, done: bool) -> None:
    rows = database.users.to_array()
    assert rows in (BEFORE, AFTER)
    assert database.outbox.pending() == (entries if rows == AFTER else 0)
    if done:
        assert rows == AFTER


def test_a_standard_overlay_is_stored_with_its_entries_or_not_at_all(stored: Path) -> None:
    def work(database: Any, crash: Crash) -> None:
        with database.users.start_transaction() as tx:
            change(database.users)
            crash.arm()
            tx.commit()

    assert crashes(stored, work, lambda database, done: check_whole(database, 3, done)) >= 8


def test_a_delivery_ends_no_entry_before_its_hooks(path: Path, tmp_path: Path) -> None:
    told = tmp_path / "told"

    def register(database: Any) -> None:
        def hook(name: str) -> Callable[[Dict[str, Any]], None]:
            def tell(payload: Dict[str, Any]) -> None:
                with told.open("a") as file:
                    file.write(f"{name} {payload['operation_id']}\n")

            return tell

        for name in ("one", "two"):
            database.users.hook.on_add(hook(name), name=name)

    with opened(path) as database:
        database.outbox.pause()
        register(database)
        database.users.bulk_add(BEFORE[:2])
        operations = [entry.operation_id for entry in database.outbox.entries()]

    def work(database: Any, crash: Crash) -> None:
        database.outbox.pause()
        register(database)
        crash.arm()
        database.outbox.resume()
        assert database.outbox.flush(20)
        crash.disarm()

    def lines() -> List[str]:
        return told.read_text().splitlines() if told.exists() else []

    def check(database: Any, done: bool) -> None:
        assert database.users.count() == 2
        left = {entry.operation_id: entry.hooks for entry in database.outbox.entries()}
        for operation in operations:
            for name in ("one", "two"):
                if name not in left.get(operation, ()):
                    assert f"{name} {operation}" in lines()
        register(database)
        assert database.outbox.flush(20)
        assert database.outbox.entries() == []
        assert set(lines()) == {f"{name} {operation}" for name in ("one", "two") for operation in operations}
        told.unlink()

    assert crashes(path, work, check) >= 20
