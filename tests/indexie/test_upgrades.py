"""From version to version: stores and indexes that come and go, hooks, and what fails."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Callable, List

import pytest

from selfdb.indexie import (
    MIN_KEY,
    ConstraintError,
    InvalidStateError,
    InvalidTableError,
    SchemaError,
    UpgradeError,
    use_live_query,
)

from .versions import at_version, content, made

Make = Callable[..., Any]


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


@pytest.mark.parametrize(
    "call",
    [
        lambda db: db.open(),
        lambda db: db.close(),
        lambda db: db.vacuum(),
        lambda db: db.checkpoint(),
        lambda db: db.integrity_check(),
        lambda db: db.export_json(io.StringIO()),
        lambda db: db.outbox.pending(),
        lambda db: use_live_query(db.users.count),
    ],
    ids=["open", "close", "vacuum", "checkpoint", "integrity_check", "export_json", "outbox", "use_live_query"],
)
@pytest.mark.parametrize("hooked", ["upgrade", "on_populate"])
def test_hooks_ask_nothing_of_the_file_that_they_are_opening(
    make_db: Make, hooked: str, call: Callable[[Any], object]
) -> None:
    if hooked == "upgrade":
        made(make_db, {"users": "++id"})
    db = at_version(make_db, {"users": "++id"}, {})
    refused: List[InvalidStateError] = []

    def hook() -> None:
        with pytest.raises(InvalidStateError, match="is being opened") as caught:
            call(db)
        refused.append(caught.value)

    db.version(2).upgrade(hook) if hooked == "upgrade" else db.on_populate(hook)
    db.open()
    assert len(refused) == 1
    call(db)
