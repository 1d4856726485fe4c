"""Opening a file: making it, upgrading it, and refusing what is none."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import pytest

from selfdb.indexie import (
    MIN_KEY,
    ConstraintError,
    DatabaseClosedError,
    DatabaseCorruptError,
    InvalidArgumentError,
    InvalidStateError,
    InvalidTableError,
    OpenFailedError,
    SchemaError,
    UpgradeError,
    VersionChangeError,
    VersionError,
)

from .kit import wait_until

Make = Callable[..., Any]


def at_version(make_db: Make, *versions: Any, **options: Any) -> Any:
    """A database that declares these versions, from 1 on."""
    db = make_db(None, **options)
    for number, stores in enumerate(versions, 1):
        db.version(number).stores(stores)
    return db


def made(make_db: Make, *versions: Any) -> None:
    """A file of these versions, closed."""
    at_version(make_db, *versions).open().close()


def content(path: Path) -> Dict[str, Any]:
    """All that the file holds, table by table, and its schema in SQL."""
    raw = sqlite3.connect(path)
    try:
        tables = raw.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
        rows = {
            name: sorted(raw.execute(f"SELECT * FROM {name}").fetchall(), key=repr)
            for name, sql in tables
            if sql and sql.startswith("CREATE TABLE")
        }
        return {"schema": tables, **rows}
    finally:
        raw.close()


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


def test_c004_a_store_that_is_not_declared_stays(make_db: Make) -> None:
    db = at_version(make_db, {"users": "++id, name", "todos": "++id, title"})
    for title in "abc":
        db.todos.add({"title": title})
    rows = db.todos.to_array()
    db.close()

    later = at_version(make_db, {"users": "++id, name"}, {"users": "++id, name, age"}).open()
    assert later.todos.to_array() == rows
    assert later.todos.where("title").equals("b").first() == {"title": "b", "id": 2}
    assert [table.name for table in later.tables] == ["users", "todos"]


def test_c005_a_deleted_store_is_there_in_its_hook(make_db: Make) -> None:
    db = at_version(make_db, {"users": "++id, name", "todos": "++id, title"})
    db.todos.add({"title": "milk"})
    db.close()

    later = make_db(None)
    later.version(1).stores({"users": "++id, name", "todos": "++id, title"})
    seen: List[Any] = []

    def hook(tx: Any) -> None:
        seen.extend([tx.table("todos").to_array(), later.todos.to_array(), tx.todos.count(), tx["todos"].count()])
        later.users.add({"name": later.todos.get(1)["title"]})

    later.version(2).stores({"todos": None}).upgrade(hook)
    later.open()
    assert seen == [[{"title": "milk", "id": 1}], [{"title": "milk", "id": 1}], 1, 1]
    assert later.users.to_array() == [{"name": "milk", "id": 1}]
    with pytest.raises(InvalidTableError):
        later.table("todos")
    with pytest.raises(AttributeError):
        later.todos


def test_c005_a_store_that_no_version_of_the_code_declares_is_there_in_its_hook(make_db: Make) -> None:
    db = at_version(make_db, {"old": "++id"})
    db.old.add({"a": 1})
    db.close()
    later = make_db(None)
    seen: List[Any] = []
    later.version(2).stores({"new": "++id"}).upgrade(lambda: seen.append(later.old.to_array()))
    later.open()
    assert seen == [[{"a": 1, "id": 1}]]


def test_c005_a_deleted_store_can_come_again(make_db: Make) -> None:
    db = at_version(make_db, {"todos": "++id, title"})
    db.todos.add({"title": "milk"})
    db.close()
    later = at_version(make_db, {"todos": "++id, title"}, {"todos": None}, {"todos": "++key, *tags"}).open()
    assert later.todos.add({"tags": ["a"]}) == 1
    assert later.todos.to_array() == [{"tags": ["a"], "key": 1}]


def test_c006_a_new_index_has_all_rows(make_db: Make) -> None:
    db = at_version(make_db, {"users": "++id, name"})
    db.users.bulk_add(
        [{"name": f"n{at}", "age": at % 100, "tags": [at % 7, "x"], "a": {"b": at}} for at in range(10_000)]
    )
    db.users.add({"name": "no age"})
    db.close()
    later = at_version(make_db, {"users": "++id, name"}, {"users": "++id, name, age, *tags, [age+name], &a.b"}).open()
    assert later.users.where("age").above(MIN_KEY).count() == 10_000
    assert later.users.where("age").equals(42).primary_keys() == [at + 1 for at in range(42, 10_000, 100)]
    assert later.users.where("tags").equals("x").count() == 10_000
    assert later.users.where("tags").equals(3).count() == len(range(3, 10_000, 7))
    assert later.users.where(["age", "name"]).equals([42, "n142"]).first()["id"] == 143
    assert later.users.where("a.b").equals(77).first()["id"] == 78
    assert later.integrity_check() == []


def test_c006_an_index_that_is_dropped_and_another_in_its_place(make_db: Make) -> None:
    db = at_version(make_db, {"users": "++id, name, *tags"})
    db.users.bulk_add([{"name": f"n{at}", "age": at, "tags": [at]} for at in range(50)])
    db.close()
    later = at_version(make_db, {"users": "++id, name, *tags"}, {"users": "++id, [age+name]"})
    later.users.add({"name": "new", "age": 99, "tags": [1]})
    assert later.integrity_check() == []
    with pytest.raises(SchemaError):
        later.users.where("tags")
    later.close()
    last = at_version(make_db, {}, {}, {"users": "++id, age, &name"}).open()
    assert last.users.where("age").above(40).count() == 10
    assert last.users.where("name").equals("new").first()["age"] == 99
    assert str(last.users.schema) == "++id, age, &name"
    assert last.integrity_check() == []


def test_c006_an_index_becomes_unique_and_multi_entry(make_db: Make) -> None:
    db = at_version(make_db, {"users": "++id, email, tags"})
    db.users.bulk_add([{"email": str(at), "tags": [at, at + 1]} for at in range(10)])
    db.close()
    later = at_version(make_db, {}, {"users": "++id, &email, *tags"}).open()
    with pytest.raises(ConstraintError):
        later.users.add({"email": "3"})
    assert later.users.where("tags").equals(5).count() == 2
    assert later.integrity_check() == []


def test_c007_an_upgrade_that_fails_leaves_the_file(make_db: Make, path: Path) -> None:
    db = at_version(make_db, {"users": "++id, name", "todos": "++id"})
    db.users.bulk_add([{"name": str(at)} for at in range(100)])
    db.todos.add({"a": 1})
    db.close()
    before = content(path)

    broken = ValueError("no more")
    later = at_version(make_db, {"users": "++id, name", "todos": "++id"})

    def hook(tx: Any) -> None:
        for at in range(500):
            tx.users.put({"id": at, "age": at})
        assert tx.users.where("age").above(0).count() == 499
        raise broken

    later.version(2).stores({"users": "++id, name, age", "todos": None, "new": "id"}).upgrade(hook)
    with pytest.raises(UpgradeError) as caught:
        later.open()
    assert caught.value.__cause__ is broken
    assert not later.is_open
    assert content(path) == before

    again = at_version(make_db, {"users": "++id, name", "todos": "++id"}).open()
    assert (again.verno, again.users.count(), again.todos.to_array()) == (1, 100, [{"a": 1, "id": 1}])
    assert again.users.add({}) == 101
    with pytest.raises(SchemaError):
        again.users.where("age")


def test_c007_an_interrupted_upgrade_goes_on_as_it_is(make_db: Make, path: Path) -> None:
    made(make_db, {"users": "++id"})
    before = content(path)

    def hook(tx: Any) -> None:
        tx.users.add({})
        raise KeyboardInterrupt

    later = at_version(make_db, {"users": "++id"})
    later.version(2).upgrade(hook)
    with pytest.raises(KeyboardInterrupt):
        later.open()
    assert content(path) == before


def test_c007_the_same_object_can_try_again(make_db: Make) -> None:
    made(make_db, {"users": "++id"})
    later = at_version(make_db, {"users": "++id"})
    failures = [ValueError()]

    def hook(tx: Any) -> None:
        tx.users.add({})
        if failures:
            raise failures.pop()

    later.version(2).upgrade(hook)
    with pytest.raises(UpgradeError):
        later.open()
    assert later.open().users.count() == 1


def test_c008_a_new_file_runs_no_upgrade(make_db: Make) -> None:
    db = make_db(None)
    ran: List[Any] = []
    for number in (1, 2, 3):
        db.version(number).stores({f"s{number}": "++id"}).upgrade(lambda tx: ran.append("upgrade"))

    @db.on_populate
    def populate(tx: Any) -> None:
        ran.append(("populate", sorted(tx.scope), tx.active, tx.mode))
        tx.s1.add({"first": True})
        db.s3.bulk_add([{}, {}])

    db.open()
    assert ran == [("populate", ["s1", "s2", "s3"], True, "rw")]
    assert (db.verno, db.s1.to_array(), db.s3.count()) == (3, [{"first": True, "id": 1}], 2)
    db.close()
    db.open()
    assert len(ran) == 1


def test_c008_a_file_whose_population_fails_is_not_made(make_db: Make) -> None:
    db = make_db()
    failures = [ValueError("no")]

    @db.on_populate
    def populate() -> None:
        db.users.add({"name": "half"})
        if failures:
            raise failures[0]

    with pytest.raises(ValueError, match="no"):
        db.open()
    failures.clear()
    assert db.users.count() == 1


def test_c009_each_later_hook_once_and_in_order(make_db: Make) -> None:
    made(make_db, {"users": "++id"})
    db = make_db(None)
    ran: List[str] = []
    db.version(3).stores({"c": "id"}).upgrade(lambda tx: ran.append(f"3 {sorted(tx.scope)}"))
    db.version(1).stores({"users": "++id"}).upgrade(lambda: ran.append("1"))
    db.version(2).stores({"b": "id"}).upgrade(lambda tx: ran.append(f"2 {sorted(tx.scope)}"))
    db.version(2).upgrade(lambda: ran.append("2 again"))
    db.open()
    assert ran == ["2 ['b', 'users']", "2 again", "3 ['b', 'c', 'users']"]
    db.close()
    db.open()
    assert len(ran) == 3


def test_c009_a_hook_can_nest_a_transaction(make_db: Make) -> None:
    made(make_db, {"users": "++id"})
    db = at_version(make_db, {"users": "++id"})

    def hook(tx: Any) -> None:
        db.transaction("rw", ["users"], lambda: db.users.add({"kept": True}))
        with pytest.raises(ValueError, match="inner"):
            db.transaction("rw", ["users"], fail)

    def fail() -> None:
        db.users.add({"kept": False})
        raise ValueError("inner")

    db.version(2).upgrade(hook)
    assert db.users.to_array() == [{"kept": True, "id": 1}]


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


@pytest.mark.parametrize(
    ("before", "after"), [("id", "++id"), ("++id", "id"), ("id", "[id+x]"), ("id", "key"), ("++", "")]
)
def test_c013_another_primary_key(make_db: Make, path: Path, before: str, after: str) -> None:
    made(make_db, {"users": before})
    there = content(path)
    with pytest.raises(UpgradeError, match="primary key"):
        at_version(make_db, {"users": before}, {"users": after}).open()
    assert content(path) == there


@pytest.mark.parametrize("index", ["&email", "&*emails", "&[email+x]"])
def test_c014_a_unique_index_over_duplicates(make_db: Make, path: Path, index: str) -> None:
    db = at_version(make_db, {"users": "++id"})
    for _ in range(2):
        db.users.add({"email": "a", "emails": ["b", "a"], "x": 1})
    db.close()
    before = content(path)
    with pytest.raises(UpgradeError) as caught:
        at_version(make_db, {"users": "++id"}, {"users": f"++id, {index}"}).open()
    cause = caught.value.__cause__
    assert isinstance(cause, ConstraintError)
    assert (cause.table, cause.index) == ("users", index.lstrip("&*"))
    assert cause.value in ("a", "b", ["a", 1])
    assert content(path) == before


def test_c015_drop_is_for_upgrades(make_db: Make) -> None:
    db = make_db().open()
    with pytest.raises(InvalidStateError):
        db.users.drop()
    assert db.users.count() == 0


def test_c015_drop_in_an_upgrade(make_db: Make, path: Path) -> None:
    db = at_version(make_db, {"users": "++id, *tags", "old": "++id, *tags"})
    db.old.add({"tags": ["a"]})
    db.close()
    later = at_version(make_db, {"users": "++id, *tags"})

    def hook(tx: Any) -> None:
        old = later.old
        old.drop()
        with pytest.raises(InvalidTableError):
            old.count()
        with pytest.raises(AttributeError):
            later.old

    later.version(2).upgrade(hook)
    later.open()
    with pytest.raises(AttributeError):
        later.old
    assert [table.name for table in later.tables] == ["users"]
    later.close()
    assert not [name for name in content(path) if name in ("s2", "m2_1")]
    assert make_db(None).open().users.count() == 0


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


def test_hooks_cannot_open_or_close_what_they_are_part_of(make_db: Make) -> None:
    made(make_db, {"users": "++id"})
    db = at_version(make_db, {"users": "++id"})
    refused: List[Optional[type]] = []

    def hook() -> None:
        for call in (db.open, db.close):
            try:
                call()
            except InvalidStateError as error:
                refused.append(type(error))

    db.version(2).upgrade(hook)
    db.open()
    assert refused == [InvalidStateError, InvalidStateError]


@pytest.mark.parametrize(("durability", "level"), [("relaxed", 1), ("strict", 2)])
def test_durability(make_db: Make, durability: str, level: int) -> None:
    db = make_db(durability=durability).open()
    for connection in (db._connections.reader(), db._connections._writer):
        assert connection.one("SELECT count(*) FROM _ix_meta") is not None
        assert connection.one("PRAGMA synchronous") == (level,)
        assert connection.one("PRAGMA journal_mode") == ("wal",)
