"""Rows that cannot be read: which one is said, the others are there, and it can be taken away or replaced."""

from __future__ import annotations

import contextlib
import json
import pickle
import sqlite3
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from selfdb.cli import main
from selfdb.indexie import BulkError, DatabaseCorruptError, ModifyError, UpgradeError, use_live_query
from selfdb.indexie.keys.values import load, load_all

from .kit import SOON, Calls

Make = Callable[..., Any]

STORES = {"users": "++id, &email, name, age, *tags, &*codes", "others": "++id"}

DAMAGES: Dict[str, str] = {
    "cut off": '\'{"name":"Be\'',
    "empty": "''",
    "bytes": "x'7b22'",
    "no UTF-8": "CAST(x'7b2261223a22ff227d' AS TEXT)",
    "something behind it": '\'{"name":"Ben"}, {"name":"Ben"}\'',
    "of a kind that nobody knows": '\'{"$ix":["later",1]}\'',
}


@pytest.fixture(params=DAMAGES)
def damage(request: Any) -> str:
    """SQL for what stands in the place of a document."""
    return DAMAGES[request.param]


two_damages = pytest.mark.parametrize("damage", ["cut off", "no UTF-8"], indirect=True)


@pytest.fixture
def db(make_db: Make, path: Path, damage: str) -> Any:
    """Three users, of whom the second cannot be read."""
    db = make_db(STORES).open()
    for at, name in enumerate(["Ann", "Ben", "Cleo"]):
        db.users.add({"name": name, "age": 30 + at, "email": name, "tags": ["x", name], "codes": [at, at + 10]})
    db.close()
    with contextlib.closing(sqlite3.connect(path)) as raw, raw:
        raw.execute(f"UPDATE s1 SET d = {damage} WHERE k = 2")
    return db.open()


def test_it_can_be_deleted_whatever_it_holds(db: Any) -> None:
    assert db.users.delete(2)
    whole(db)


def whole(db: Any) -> None:
    """Nothing of the row is left, in no index."""
    assert db.integrity_check() == []
    assert [row["name"] for row in db.users.to_array()] == ["Ann", "Cleo"]
    assert db.users.where("tags").equals("x").count() == 2
    assert db.users.where("codes").any_of(1, 11).count() == 0
    assert db.users.add({"email": "Ben", "codes": [1, 11]}) == 4, "what was unique of it is free again"


READS: Dict[str, Callable[[Any], Any]] = {
    "get": lambda db: db.users.get(2),
    "bulk_get": lambda db: db.users.bulk_get([1, 2]),
    "get by an index": lambda db: db.users.get({"email": "Ben"}),
    "to_array": lambda db: db.users.to_array(),
    "first": lambda db: db.users.where("name").equals("Ben").first(),
    "last": lambda db: db.users.where("age").below(32).last(),
    "items": lambda db: db.users.to_collection().items(),
    "filter": lambda db: db.users.filter(bool).count(),
    "several indexes": lambda db: db.users.where("name").equals("Ben").or_("age").above(99).to_array(),
    "entries": lambda db: db.users.where("tags").equals("x").to_array(),
    "iteration": lambda db: list(db.users.to_collection()),
    "within a transaction": lambda db: db.transaction("rw", "users", lambda: db.users.get(2)),
    "update": lambda db: db.users.update(2, {"age": 1}),
    "export_json": lambda db: db.export_json(Path("never written")),
}


def test_which_row_cannot_be_read_is_said(db: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name, read in READS.items():
        with pytest.raises(DatabaseCorruptError, match=r"the row 2 of 'users' cannot be read") as caught:
            read(db)
        error = pickle.loads(pickle.dumps(caught.value))
        assert (error.table, error.key) == ("users", 2), name
    assert not Path("never written").exists()
    assert db.users.get(3)["name"] == "Cleo"
    assert db.users.where("name").starts_with("C").to_array()[0]["id"] == 3
    assert (db.users.count(), db.users.primary_keys()) == (3, [1, 2, 3])


REMOVALS: Dict[str, Callable[[Any], Any]] = {
    "delete": lambda db: db.users.delete(2),
    "bulk_delete": lambda db: db.users.bulk_delete([2]),
    "a query": lambda db: db.users.where("name").equals("Ben").delete(),
    "a transaction": lambda db: db.transaction("rw", "users", lambda: db.users.delete(2)),
    "put and delete": lambda db: (db.users.put({"id": 2}), db.users.delete(2)),
}


@two_damages
@pytest.mark.parametrize("remove", REMOVALS)
def test_it_can_be_deleted(db: Any, remove: str) -> None:
    assert REMOVALS[remove](db) in (1, True, (2, True))
    whole(db)


@two_damages
@pytest.mark.parametrize("optimistic", [True, False])
def test_an_overlay_can_delete_it_and_put_over_it(db: Any, optimistic: bool) -> None:
    with db.users.start_transaction(optimistic=optimistic) as tx:
        db.users.put({"id": 2, "name": "Bo", "age": 7})
        assert db.users.get(2)["name"] == "Bo"
        assert db.users.where("age").above(0).count() == 3
        tx.rollback()
    with db.users.start_transaction(optimistic=optimistic) as tx:
        db.users.delete(2)
        assert [row["name"] for row in db.users.to_array()] == ["Ann", "Cleo"]
        assert (db.users.count(), db.users.where("name").above("A").count()) == (2, 2)
        tx.commit()
    whole(db)


WRITES: Dict[str, Callable[[Any, Any], Any]] = {
    "put": lambda db, row: db.users.put(row),
    "bulk_put": lambda db, row: db.users.bulk_put([row]),
    "import_json": lambda db, row: db.import_json(_exported(db, row)),
}


def _exported(db: Any, row: Any) -> Any:
    import io

    stores = {"users": {"schema": "", "rows": [[row["id"], row]]}}
    return io.StringIO(json.dumps({"format": "selfdb.indexie", "stores": stores}))


@two_damages
@pytest.mark.parametrize("write", WRITES)
def test_another_one_can_be_put_over_it(db: Any, write: str) -> None:
    row = {"id": 2, "name": "Bo", "email": "Bo", "tags": ["new"], "codes": [5]}
    WRITES[write](db, row)
    assert db.users.get(2) == row
    assert db.integrity_check() == []
    assert [each["id"] for each in db.users.where("tags").equals("new")] == [2]
    assert db.users.where("name").equals("Ben").count() == 0
    db.users.add({"email": "Ben", "codes": [1]})


@two_damages
def test_what_clashes_leaves_it_as_it_is(db: Any) -> None:
    with db.transaction("rw", "users"):
        for row in ({"id": 2, "email": "Ann"}, {"id": 2, "codes": [99, 10]}):
            with pytest.raises(Exception, match="unique"):
                db.users.put(row)
    with pytest.raises(DatabaseCorruptError):
        db.users.get(2)
    assert db.users.where("codes").any_of(1, 11).count() == 2
    db.users.delete(2)
    whole(db)


@two_damages
def test_many_rows_are_changed_but_it(db: Any) -> None:
    with pytest.raises(ModifyError) as caught:
        db.transaction("rw", "users", lambda: db.users.to_collection().modify({"age": 1}))
    assert (caught.value.failed_keys, caught.value.success_count) == ([2], 2)
    with pytest.raises(BulkError) as failed:
        db.users.bulk_update([(1, {"age": 2}), (2, {"age": 2})])
    assert [error.key for error in failed.value.failures] == [2]


@two_damages
def test_hooks_are_told_that_it_is_gone(db: Any) -> None:
    told = Calls()
    db.users.hook.on_delete(told, name="push")
    db.users.hook.on_update(told, name="pull")
    db.users.put({"id": 2, "name": "Bo"})
    first = told.wait(1)[0]
    assert (first["op"], first["key"], first["old"], first["item"], first["changes"]) == (
        "update",
        2,
        None,
        {"id": 2, "name": "Bo"},
        {},
    )
    db.users.delete(2)
    assert told.wait(2)[1]["old"] == {"id": 2, "name": "Bo"}
    assert db.outbox.flush(SOON)


@two_damages
def test_a_live_query_that_meets_it_recovers(db: Any, path: Path, damage: str) -> None:
    errors = Calls()
    with pytest.raises(DatabaseCorruptError, match="row 2"):
        use_live_query(db.users.to_array)
    names = use_live_query(lambda: [row["name"] for row in db.users.where("age").above(31)])
    names.subscribe(lambda value: None, on_error=errors)
    assert names.value == ["Cleo"]
    few = use_live_query(lambda: db.users.where("age").below(31).count())
    assert few.value == 1
    with contextlib.closing(sqlite3.connect(path)) as raw, raw:
        raw.execute(f"UPDATE s1 SET d = {damage} WHERE k = 3")
    db.users.add({"name": "Dan", "age": 40})
    assert errors.wait(1)[0].key == 3
    assert names.value == ["Cleo"]
    db.users.delete(3)
    assert names.wait_until(lambda value: value == ["Dan"], SOON)
    db.users.delete(1)
    few.wait_until(lambda count: count == 0, SOON)
    assert few.value == 0


@two_damages
def test_the_rest_can_be_exported(db: Any, make_db: Make, tmp_path: Path, capsys: Any) -> None:
    assert db.integrity_check()[0].startswith("users: the row of the key 2: a stored document ")
    assert db.export_json(tmp_path / "rest.json", skip_damaged=True) == 2
    other = make_db(STORES, file=tmp_path / "other.db")
    assert other.import_json(tmp_path / "rest.json") == 2
    assert [row["name"] for row in other.users.to_array()] == ["Ann", "Cleo"]
    assert main(["indexie", "export", str(db.path)]) == 1
    assert "row 2 of 'users'" in capsys.readouterr().err
    assert main(["indexie", "export", str(db.path), "--skip-damaged"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "rest.json").read_text(encoding="utf-8"))


@two_damages
def test_an_upgrade_that_has_to_read_it_says_which(db: Any, make_db: Make, damage: str) -> None:
    db.close()
    later = make_db(STORES)
    later.version(2).stores({"users": STORES["users"] + ", zip"})
    with pytest.raises(UpgradeError) as caught:
        later.open()
    assert isinstance(caught.value.__cause__, DatabaseCorruptError)
    db.open().users.delete(2)
    db.close()
    assert later.open().verno == 2


@pytest.mark.parametrize("texts", [["1,2"], ["1", "2 x"], ['{"a":1}]'], ["1", b"2"], ["[" * 100_000]])
def test_texts_that_are_none_are_no_documents(texts: List[Any]) -> None:
    with pytest.raises(DatabaseCorruptError):
        load_all(texts)
    with pytest.raises(DatabaseCorruptError):
        load(texts[-1])
