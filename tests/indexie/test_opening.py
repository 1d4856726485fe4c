"""Opening a file: making it, refusing what is none, and giving way to who upgrades it."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from selfdb.indexie import (
    DatabaseClosedError,
    DatabaseCorruptError,
    IndexieTimeoutError,
    InvalidArgumentError,
    InvalidTableError,
    OpenFailedError,
    SchemaError,
    VersionChangeError,
    VersionError,
)

from .kit import wait_until
from .versions import at_version, content, made

Make = Callable[..., Any]


def test_c001_eight_threads_open_it_once(make_db: Make, path: Path) -> None:
    db = make_db()
    populated: List[int] = []
    db.on_populate(lambda tx: populated.append(1))
    barrier = threading.Barrier(8)
    opened: List[Any] = []

    def work() -> None:
        barrier.wait()
        opened.append(db.open())
        opened.append(db.open())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert populated == [1]
    assert [each is db for each in opened] == [True] * 16
    assert (db.verno, db.is_open, path.exists()) == (1, True, True)


def test_c002_the_first_operation_opens(make_db: Make, path: Path) -> None:
    db = make_db({"users": "++id, name"})
    assert not db.is_open
    assert not path.exists()
    assert db.users.add({"name": "Ann"}) == 1
    assert db.is_open


@pytest.mark.parametrize("operation", ["get", "where", "transaction", "outbox", "iteration", "integrity_check"])
def test_c002_any_operation_does(make_db: Make, operation: str) -> None:
    db = make_db()
    if operation == "get":
        assert db.users.get(1) is None
    elif operation == "where":
        assert db.users.where("name").equals("Ann").to_array() == []
    elif operation == "transaction":
        assert db.transaction("rw", "users", lambda: db.users.add({})) == 1
    elif operation == "outbox":
        assert db.outbox.pending() == 0
    elif operation == "iteration":
        assert list(db.users.to_collection()) == []
    else:
        assert db.integrity_check() == []
    assert db.is_open


def test_c010_two_processes_upgrade_it_once(make_db: Make, path: Path, peer: Callable[..., Any]) -> None:
    made(make_db, {"users": "++id", "ran": "++"})
    code = """
from selfdb.indexie import Indexie
import time
db = Indexie(path)
db.version(1).stores({"users": "++id", "ran": "++"})
def hook(tx):
    tx.ran.add("hook")
    for at in range(300):
        tx.users.add({"at": at})
db.version(2).stores({"users": "++id, at"}).upgrade(hook)
"""
    peers = [peer() for _ in range(3)]
    for each in peers:
        each.run(code)
    for each in peers:
        each.start("db.open(); result = (db.verno, db.ran.count(), db.users.where('at').above(-1).count())")
    assert [each.finish() for each in peers] == [(2, 1, 300)] * 3


def test_c010_two_processes_make_it_once(path: Path, peer: Callable[..., Any]) -> None:
    code = """
from selfdb.indexie import Indexie
db = Indexie(path)
db.version(1).stores({"users": "++id"})
db.on_populate(lambda tx: tx.users.add({"made": True}))
"""
    peers = [peer() for _ in range(3)]
    for each in peers:
        each.run(code)
    for each in peers:
        each.start("db.open(); result = db.users.count()")
    assert [each.finish() for each in peers] == [1] * 3


@pytest.mark.parametrize("whose", ["another object's", "another thread's"])
def test_c010_open_waits_for_an_upgrade_for_as_long_as_it_is_told(make_db: Make, whose: str) -> None:
    made(make_db, {"users": "++id"})
    entered, go_on = threading.Event(), threading.Event()

    def hook() -> None:
        entered.set()
        assert go_on.wait(20)

    upgrading, other = [at_version(make_db, {"users": "++id"}, {}, busy_timeout=0.05) for _ in range(2)]
    upgrading.version(2).upgrade(hook)
    thread = threading.Thread(target=lambda: upgrading.open(timeout=20))
    thread.start()
    assert entered.wait(20)
    waits = other if whose == "another object's" else upgrading
    for attempt in (lambda: waits.open(timeout=0.1), lambda: waits.open(), lambda: waits.users.count()):
        with pytest.raises(IndexieTimeoutError):
            attempt()
    timer = threading.Timer(0.1, go_on.set)
    timer.start()
    assert waits.open(timeout=20).verno == 2
    assert waits.users.add({}) == 1
    timer.join()
    thread.join()


OLD = "from selfdb.indexie import Indexie; db = Indexie(path); db.version(1).stores({'users': '++id'}); db.open()"
NEW = "from selfdb.indexie import Indexie; new = Indexie(path); new.version(2).stores({'users': '++id, x'}); new.open()"


@pytest.mark.parametrize("operation", ["add", "get", "to_array", "iteration", "rw", "r", "integrity_check"])
def test_c011_another_process_upgrades(make_db: Make, peer: Callable[..., Any], operation: str) -> None:
    db = make_db({"users": "++id"}).open()
    db.users.add({"before": True})
    assert db.users.get(1) == {"before": True, "id": 1}
    told: List[Any] = []
    db.on_versionchange(told.append)
    db.on_versionchange(lambda: told.append("no argument"))
    other = peer()
    other.run(NEW)
    with pytest.raises(VersionChangeError):
        if operation == "add":
            db.users.add({"after": True})
        elif operation == "get":
            db.users.get(1)
        elif operation == "to_array":
            db.users.to_array()
        elif operation == "iteration":
            next(iter(db.users.to_collection()))
        elif operation == "integrity_check":
            db.integrity_check()
        else:
            db.transaction(operation, ["users"], lambda: db.users.count())
    wait_until(lambda: len(told) == 2)
    assert told == [db, "no argument"]
    assert not db.is_open
    with pytest.raises(VersionChangeError):
        db.users.add({})
    with pytest.raises(VersionError):
        db.open()
    assert other.run("result = new.users.to_array()") == [{"before": True, "id": 1}]


def test_c011_a_transaction_that_runs_ends_first(make_db: Make, peer: Callable[..., Any]) -> None:
    db = make_db({"users": "++id"}).open()
    other = peer()
    other.run("pass")
    with db.transaction("rw", ["users"]):
        db.users.add({})
        other.start(NEW)
        db.users.add({})
        assert db.users.count() == 2
    other.finish()
    assert other.run("result = new.users.count()") == 2


def test_c011_a_handle_without_versions_goes_on_by_itself(make_db: Make, peer: Callable[..., Any]) -> None:
    made(make_db, {"users": "++id"})
    db = make_db(None).open()
    peer().run(NEW)
    with pytest.raises(VersionChangeError):
        db.users.get(1)
    wait_until(lambda: not db._opening.taken)
    assert db.open().verno == 2


def test_c012_a_newer_file(make_db: Make, path: Path) -> None:
    made(make_db, {"users": "++id"}, {}, {"users": "++id, name"})
    before = content(path)
    db = at_version(make_db, {"users": "++id"}, {})
    with pytest.raises(VersionError) as caught:
        db.users.add({})
    assert (caught.value.stored, caught.value.declared) == (3, 2)
    assert isinstance(caught.value, OpenFailedError)
    assert content(path) == before


def test_c012_a_file_of_a_later_release(make_db: Make, path: Path) -> None:
    made(make_db, {"users": "++id"})
    raw = sqlite3.connect(path)
    raw.execute("PRAGMA user_version = 2")
    raw.close()
    with pytest.raises(VersionError, match="later release"):
        make_db({"users": "++id"}).open()


def test_c016_names_of_stores(make_db: Make) -> None:
    db = make_db({"open": "++id", "users": "++id", "_private": "++id"})
    with pytest.raises(AttributeError):
        db.nosuch
    with pytest.raises(InvalidTableError) as caught:
        db.table("nosuch")
    assert caught.value.table == "nosuch"
    with pytest.raises(InvalidTableError):
        db["nosuch"]
    with pytest.raises(InvalidTableError):
        db.table(5)
    assert db["open"].add({"a": 1}) == 1
    assert callable(db.open)
    assert db["_private"].add({}) == 1
    assert db.users is db["users"] is db.table("users")


@pytest.mark.parametrize("schema", ["++id, name, age", "++id", "++id, &name", "id, name"])
def test_c017_the_same_version_with_another_schema(make_db: Make, path: Path, schema: str) -> None:
    made(make_db, {"users": "++id, name"})
    before = content(path)
    with pytest.raises(SchemaError, match="version"):
        make_db({"users": schema}).open()
    assert content(path) == before


def test_c017_the_same_version_with_another_store(make_db: Make) -> None:
    made(make_db, {"users": "++id, name"})
    with pytest.raises(SchemaError, match="lacks 'more'"):
        make_db({"users": "++id, name", "more": "id"}).open()


@pytest.mark.parametrize(
    "junk", [b"this is no database, whatever its name says" * 40, b"SQLite format 3\0" + b"\xff" * 4080]
)
def test_c018_a_file_that_is_no_database(make_db: Make, path: Path, junk: bytes) -> None:
    path.write_bytes(junk)
    for db in (make_db(), make_db(None)):
        with pytest.raises(DatabaseCorruptError):
            db.open()
    assert path.read_bytes() == junk
    assert sorted(each.name for each in path.parent.iterdir()) == [path.name]


def test_c018_a_database_of_another_program(make_db: Make, path: Path) -> None:
    raw = sqlite3.connect(path)
    raw.execute("CREATE TABLE theirs (a)")
    raw.commit()
    raw.close()
    before = path.read_bytes()
    with pytest.raises(DatabaseCorruptError, match="another program"):
        make_db().open()
    assert path.read_bytes() == before


@pytest.mark.parametrize("table", ["s1", "_ix_store", "_ix_log"])
def test_c018_a_damaged_file(make_db: Make, path: Path, table: str) -> None:
    db = make_db()
    db.users.bulk_add([{"name": "x" * 500, "email": str(at)} for at in range(200)])
    db.close()
    raw = sqlite3.connect(path)
    (page,) = raw.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    raw.close()
    data = bytearray(path.read_bytes())
    data[(page - 1) * 4096 : page * 4096] = b"\x55" * 4096
    path.write_bytes(data)
    db = make_db()
    with pytest.raises(DatabaseCorruptError):
        db.transaction("rw", "users", lambda: db.users.to_array())


def test_no_file_and_no_version(make_db: Make, path: Path) -> None:
    db = make_db(None)
    with pytest.raises(OpenFailedError):
        db.open()
    with pytest.raises(OpenFailedError):
        db.users
    assert not path.exists()
    path.touch()
    with pytest.raises(OpenFailedError):
        db.open()


def test_a_file_as_it_is(make_db: Make) -> None:
    db = make_db()
    db.users.add({"name": "Ann", "tags": ["a"]})
    db.close()
    dynamic = make_db(None)
    assert dynamic.users.where("tags").equals("a").first()["name"] == "Ann"
    assert dynamic.verno == 1
    dynamic.close()
    with pytest.raises(DatabaseClosedError):
        dynamic.users.count()


@pytest.mark.parametrize("place", ["missing/file.db", "."])
def test_a_place_where_no_file_can_be(make_db: Make, tmp_path: Path, place: str) -> None:
    with pytest.raises(OpenFailedError):
        make_db(file=tmp_path / place).open()


def test_closing_and_opening_again(make_db: Make) -> None:
    db = make_db()
    ready: List[Any] = []
    db.on_ready(lambda: ready.append(db.is_open))
    db.on_ready(ready.append)
    with db as entered:
        assert entered is db
        db.users.add({})
    assert ready == [True, db]
    assert not db.is_open
    db.close()
    for operation in (lambda: db.users.get(1), lambda: db.users.add({}), lambda: db.transaction("r", "users", int)):
        with pytest.raises(DatabaseClosedError):
            operation()
    assert db.open().users.count() == 1
    assert len(ready) == 4


def test_a_hook_of_on_ready_that_fails(make_db: Make) -> None:
    db = make_db()
    db.on_ready(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        db.open()
    assert db.is_open


def test_closing_before_it_was_ever_open(make_db: Make) -> None:
    db = make_db()
    db.close()
    with pytest.raises(DatabaseClosedError):
        db.users.count()


@pytest.mark.parametrize(
    "options",
    [
        {"durability": "none"},
        {"busy_timeout": -1},
        {"busy_timeout": "1"},
        {"busy_timeout": float("inf")},
        {"busy_timeout": float("nan")},
        {"busy_timeout": True},
        {"log_retention": 0},
        {"log_retention": 1.5},
        {"poll_interval": 0},
        {"poll_interval": float("nan")},
    ],
)
def test_wrong_arguments(make_db: Make, options: Dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        make_db(**options)


@pytest.mark.parametrize("hook", [None, 5, "fn"])
def test_hooks_are_functions(make_db: Make, hook: Any) -> None:
    db = make_db()
    for register in (db.on_ready, db.on_populate, db.on_versionchange, db.version(1).upgrade):
        with pytest.raises(InvalidArgumentError):
            register(hook)


@pytest.mark.parametrize(("durability", "level"), [("relaxed", 1), ("strict", 2)])
def test_durability(make_db: Make, durability: str, level: int) -> None:
    db = make_db(durability=durability).open()
    for connection in (db._connections.reader(), db._connections._writer):
        assert connection.one("SELECT count(*) FROM _ix_meta") is not None
        assert connection.one("PRAGMA synchronous") == (level,)
        assert connection.one("PRAGMA journal_mode") == ("wal",)
