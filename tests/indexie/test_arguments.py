"""Arguments that make no sense: each is refused at the call, by an error of ours, and nothing was done."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Callable, Dict

import pytest

from selfdb.indexie import Indexie, InvalidArgumentError, NotInScopeError, StorageError, use_live_query

NAN = float("nan")


@pytest.fixture
def other(make_db: Callable[..., Any], tmp_path: Path) -> Any:
    return make_db(file=tmp_path / "other.indexie.db").open()


CALLS: Dict[str, Callable[[Any, Any, Path], object]] = {
    "bulk_add of nothing": lambda db, other, folder: db.users.bulk_add(None),
    "bulk_add of a number": lambda db, other, folder: db.users.bulk_add(5),
    "bulk_add of one document": lambda db, other, folder: db.users.bulk_add({"name": "Ann"}),
    "bulk_add with a text for keys": lambda db, other, folder: db.users.bulk_add([{}, {}], keys="ab"),
    "bulk_put of a text": lambda db, other, folder: db.users.bulk_put("ab"),
    "bulk_get of a text": lambda db, other, folder: db.users.bulk_get("ab"),
    "bulk_get of nothing": lambda db, other, folder: db.users.bulk_get(None),
    "bulk_delete of a text": lambda db, other, folder: db.users.bulk_delete("ab"),
    "bulk_delete of bytes": lambda db, other, folder: db.users.bulk_delete(b"\x01"),
    "bulk_delete of a number": lambda db, other, folder: db.users.bulk_delete(1),
    "bulk_update of a dict": lambda db, other, folder: db.users.bulk_update({1: {"age": 5}}),
    "bulk_update of no pairs": lambda db, other, folder: db.users.bulk_update([1]),
    "an overlay over a number": lambda db, other, folder: db.users.start_transaction(tables=5),
    "an overlay over another database's table": lambda db, other, folder: db.start_transaction([other.users]),
    "an overlay over it too": lambda db, other, folder: db.users.start_transaction(tables=other.users),
    "pending of a number": lambda db, other, folder: db.outbox.pending(5),
    "retry of a text": lambda db, other, folder: db.outbox.retry("1"),
    "retry of an entry": lambda db, other, folder: db.outbox.retry(object()),
    "drop of a number that is none": lambda db, other, folder: db.outbox.drop(2**70),
    "drop of a truth": lambda db, other, folder: db.outbox.drop(True),
    "an export to nowhere": lambda db, other, folder: db.export_json(None),
    "an export into bytes": lambda db, other, folder: db.export_json(io.BytesIO()),
    "an import from nowhere": lambda db, other, folder: db.import_json(None),
}


@pytest.mark.parametrize("call", CALLS)
def test_it_is_refused(db: Any, other: Any, tmp_path: Path, call: str) -> None:
    db.users.bulk_add([{"name": "Ann"}, {"id": "a"}, {"id": "b"}])
    before = db.users.to_array()
    with pytest.raises(InvalidArgumentError):
        CALLS[call](db, other, tmp_path)
    assert db.users.to_array() == before


@pytest.mark.parametrize("timeout", [NAN, -1, "1", None], ids=repr)
def test_a_deletion_that_would_wait_for_ever(db: Any, path: Path, timeout: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="timeout"):
        Indexie.delete_database(path, timeout=timeout)
    assert db.users.count() == 0


@pytest.mark.parametrize("directory", [5, b"x", "a\0b", ["x"]], ids=repr)
def test_a_folder_is_a_path(directory: Any) -> None:
    for ask in (
        lambda: Indexie("x", directory=directory),
        lambda: Indexie.exists("x", directory=directory),
        lambda: Indexie.delete_database("x", directory=directory),
        lambda: Indexie.database_names(directory=directory),
    ):
        with pytest.raises(InvalidArgumentError, match="directory"):
            ask()


@pytest.mark.parametrize("timeout", [NAN, "1", [1]], ids=repr)
@pytest.mark.parametrize("wait", ["wait_for_change", "wait_until", "settle"])
def test_a_wait_that_would_not_end_as_it_was_told(db: Any, wait: str, timeout: Any) -> None:
    waits: Dict[str, Callable[[Any], object]] = {
        "wait_for_change": lambda live: live.wait_for_change(timeout),
        "wait_until": lambda live: live.wait_until(lambda count: count > 5, timeout),
        "settle": lambda live: live.settle(timeout),
    }
    with use_live_query(lambda: db.users.count()) as live, pytest.raises(InvalidArgumentError, match="timeout"):
        waits[wait](live)


def test_a_wait_that_is_over_already(db: Any) -> None:
    with use_live_query(lambda: db.users.count()) as live:
        assert live.wait_for_change(-1) is False
        with pytest.raises(InvalidArgumentError, match="function"):
            live.wait_until(5, 1)


def test_pending_takes_a_table_or_its_name(db: Any) -> None:
    db.outbox.pause()
    db.users.hook.on_add(print, name="push")
    db.users.add({})
    assert db.outbox.pending(db.users) == db.outbox.pending("users") == db.outbox.pending() == 1
    assert db.outbox.pending("nobody") == 0


# A schema that is attached to a table holds for it by whichever way it is reached


@pytest.fixture
def checked(make_db: Callable[..., Any]) -> Any:
    db: Indexie = make_db({"users": "++id, name"}).open()

    def named(document: Any) -> None:
        if "name" not in document:
            raise ValueError("no name")

    db.users.attach_schema(named)
    return db


@pytest.mark.parametrize("way", ["alone", "transaction", "its table", "overlay", "its table, too"])
def test_an_attached_schema_holds_everywhere(checked: Any, way: str) -> None:
    def write() -> None:
        if way == "alone":
            checked.users.add({})
        elif way == "transaction":
            checked.transaction("rw", "users", lambda: checked.users.add({}))
        elif way == "its table":
            checked.transaction("rw", "users", lambda tx: tx.users.add({}))
        else:
            with checked.users.start_transaction() as tx:
                (checked.users if way == "overlay" else tx.table("users")).add({})
                tx.commit()

    with pytest.raises(StorageError, match="refused by its schema"):
        write()
    assert checked.users.count() == 0


def test_an_upgrade_is_silent_and_not_checked(checked: Any) -> None:
    checked.close()

    def upgrade(tx: Any) -> None:
        key = tx.users.add({})
        tx.users.update(key, {"age": 1})
        tx.users.bulk_add([{}, {}])
        tx.users.bulk_update([(key, {"age": 2})])
        tx.users.to_collection().modify({"age": 3})

    checked.version(2).upgrade(upgrade)
    assert [row["age"] for row in checked.open().users.to_array()] == [3] * 3
    with pytest.raises(StorageError):
        checked.users.update(1, {"age": 4})


@pytest.mark.parametrize("name", [5, None, "nosuch"])
def test_an_overlay_has_its_own_tables_only(db: Any, name: Any) -> None:
    with db.users.start_transaction() as tx, pytest.raises(NotInScopeError):
        tx.table(name)
