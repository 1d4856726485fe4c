"""Writing rows: keys and their generator, whole documents and fields of them, many rows at a time."""

from __future__ import annotations

import dataclasses
import queue
import threading
from typing import Any, Callable

import pydantic
import pytest

from selfdb.indexie import (
    DELETE,
    DELETE_FIELD,
    MIN_KEY,
    SKIP,
    BulkError,
    ConstraintError,
    DataCloneError,
    DataError,
    InvalidArgumentError,
    KeyNotFoundError,
    ModifyError,
    StorageError,
    ops,
)
from selfdb.indexie.file.lease import Lease
from tests import soak

from .conftest import SCHEMA

TIMES = soak.amount("SELFDB_IX_UPDATES", here=20, long=250)


def rows(table: Any) -> Any:
    return {row["id"]: row for row in table.to_array()}


# Keys and their generator


def test_c031_keys_count_up_whatever_is_deleted(db: Any) -> None:
    assert db.users.add({}) == 1
    assert db.users.add({}) == 2
    assert db.users.delete(2) is True
    assert db.users.add({}) == 3
    assert db.users.clear() == 2
    assert db.users.add({}) == 4


def test_c032_an_explicit_key_moves_the_generator(db: Any) -> None:
    assert db.users.add({"id": 100}) == 100
    assert db.users.add({}) == 101
    assert db.users.add({"id": 50}) == 50
    assert db.users.add({}) == 102


def test_c032_a_fraction_moves_it_to_the_next_whole_number(db: Any) -> None:
    assert db.users.add({"id": 7.9}) == 7.9
    assert db.users.add({}) == 8


def test_c032_a_string_key_leaves_it_alone(db: Any) -> None:
    assert db.users.add({"id": "z"}) == "z"
    assert db.users.add({}) == 1


@pytest.mark.parametrize("how", ["put", "bulk_add", "bulk_put"])
def test_c032_every_way_of_adding_moves_it(db: Any, how: str) -> None:
    rows = [{"id": 30}, {}, {"id": 10}, {"id": 40.5}, {}]
    keys = [db.users.put(row) for row in rows] if how == "put" else getattr(db.users, how)(rows, all_keys=True)
    assert keys == [30, 31, 10, 40.5, 41]
    assert db.users.add({}) == 42


@pytest.mark.parametrize("last", [2**53, 2**60, float("inf")])
def test_c033_a_generator_that_is_used_up(db: Any, last: Any) -> None:
    db.users.add({"id": last})
    with pytest.raises(ConstraintError) as caught:
        db.users.add({})
    assert (caught.value.table, caught.value.index) == ("users", ":id")
    with pytest.raises(BulkError):
        db.users.bulk_add([{}])
    assert db.users.add({"id": 5}) == 5
    assert db.users.add({"id": -(2**60)}) == -(2**60)
    assert db.users.count() == 3


def test_c033_the_last_key_is_still_generated(db: Any) -> None:
    db.users.add({"id": 2**53 - 1})
    assert db.users.bulk_add([{}]) == 2**53
    with pytest.raises(ConstraintError):
        db.users.add({})


def test_c034_a_rolled_back_key_is_handed_out_again(db: Any) -> None:
    def fail() -> None:
        assert db.users.add({}) == 1
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        db.transaction("rw", "users", fail)
    assert db.users.add({}) == 1


def test_c034_so_is_one_of_a_nested_block(db: Any) -> None:
    with db.transaction("rw", "users"):
        assert db.users.add({}) == 1
        with pytest.raises(RuntimeError), db.transaction("rw", "users"):
            assert db.users.add({}) == 2
            raise RuntimeError("no")
        assert db.users.add({}) == 2
    assert db.users.add({}) == 3


def test_c035_an_existing_key(db: Any) -> None:
    db.users.add({"id": 1, "name": "old"})
    with pytest.raises(ConstraintError) as caught:
        db.users.add({"id": 1, "name": "new"})
    assert (caught.value.table, caught.value.index, caught.value.value) == ("users", ":id", 1)
    assert db.users.get(1) == {"id": 1, "name": "old"}


def test_c035_the_key_is_named_before_an_index(db: Any) -> None:
    db.users.add({"id": 1, "email": "a"})
    with pytest.raises(ConstraintError) as caught:
        db.users.add({"id": 1.0, "email": "a"})
    assert caught.value.index == ":id"


def test_c036_an_existing_entry_of_a_unique_index(db: Any) -> None:
    db.users.add({"email": "a"})
    with pytest.raises(ConstraintError) as caught:
        db.users.add({"email": "a"})
    assert (caught.value.table, caught.value.index, caught.value.value) == ("users", "email", "a")
    assert db.users.count() == 1
    assert db.users.add({"email": "b"}) == 2


def test_c036_in_a_transaction_too(db: Any) -> None:
    with db.transaction("rw", "users"):
        db.users.add({"email": "a"})
        with pytest.raises(ConstraintError):
            db.users.add({"email": "a"})
        assert db.users.add({"email": "b"}) == 2
    assert db.users.count() == 2


def test_c036_of_a_unique_multi_entry_index(make_db: Callable[..., Any]) -> None:
    db = make_db({"users": "++id, &*tags, name"}).open()
    db.users.add({"tags": ["a", "b"]})
    with pytest.raises(ConstraintError) as caught:
        db.users.add({"tags": ["c", "b"], "name": "x"})
    assert (caught.value.index, caught.value.value) == ("tags", "b")
    with db.transaction("rw", "users"):
        assert db.users.add({"tags": ["c"]}) == 2
        with pytest.raises(ConstraintError):
            db.users.update(2, {"tags": ["d", "a"], "name": "y"})
        with pytest.raises(ConstraintError):
            db.users.add({"tags": ["e", "a"]})
    assert db.users.get(2) == {"tags": ["c"], "id": 2}
    assert db.users.where("tags").above(MIN_KEY).keys() == ["a", "b", "c"]
    assert db.users.where("name").above(MIN_KEY).count() == 0
    assert db.users.update(2, {"tags": ["d", "c"]})
    assert db.users.where("tags").above(MIN_KEY).keys() == ["a", "b", "c", "d"]


# put


def test_c037_put_onto_another_rows_unique_entry(db: Any) -> None:
    db.users.bulk_add([{"id": 1, "email": "a"}, {"id": 2, "email": "b"}])
    with pytest.raises(ConstraintError) as caught:
        db.users.put({"id": 1, "email": "b"})
    assert caught.value.index == "email"
    assert db.users.to_array() == [{"id": 1, "email": "a"}, {"id": 2, "email": "b"}]


def test_c037_put_of_a_new_row_onto_it(db: Any) -> None:
    db.users.add({"id": 2, "email": "b"})
    with pytest.raises(ConstraintError):
        db.users.put({"id": 3, "email": "b"})
    assert rows(db.users) == {2: {"id": 2, "email": "b"}}


def test_c038_put_replaces_the_whole_row(db: Any) -> None:
    db.users.add({"id": 1, "email": "a", "name": "A", "age": 3, "tags": ["x", "y"]})
    assert db.users.put({"id": 1, "name": "X"}) == 1
    assert db.users.get(1) == {"id": 1, "name": "X"}
    assert db.users.where("tags").above(MIN_KEY).count() == 0
    assert db.users.where("email").equals("a").first() is None
    assert db.users.where("name").equals("X").first() == {"id": 1, "name": "X"}


def test_put_creates(db: Any) -> None:
    assert db.users.put({"name": "A"}) == 1
    assert db.users.put({"id": "k", "name": "B"}) == "k"
    assert db.users.count() == 2


# update


def test_c039_dotted_paths(db: Any) -> None:
    db.users.add({"id": 1, "address": {"city": "Bergen", "zip": "5003"}})
    assert db.users.update(1, {"address.city": "Oslo", "a.b.c": 1}) is True
    assert db.users.get(1) == {"id": 1, "address": {"city": "Oslo", "zip": "5003"}, "a": {"b": {"c": 1}}}
    assert db.users.where("address.city").equals("Oslo").count() == 1
    assert db.users.where("address.city").equals("Bergen").count() == 0


def test_c039_a_literal_property_comes_first(db: Any) -> None:
    db.users.add({"id": 1, "a.b": 0})
    db.users.update(1, {"a.b": 1})
    assert db.users.get(1) == {"id": 1, "a.b": 1}


def test_c039_what_stands_in_the_way_is_not_overwritten(db: Any) -> None:
    db.users.add({"id": 1, "address": "Oslo"})
    with pytest.raises(InvalidArgumentError):
        db.users.update(1, {"address.city": "Oslo"})
    assert db.users.get(1) == {"id": 1, "address": "Oslo"}


def test_c040_an_absent_row_raises(db: Any) -> None:
    with pytest.raises(KeyNotFoundError) as caught:
        db.users.update(99, {"age": 1})
    assert (caught.value.table, caught.value.key) == ("users", 99)
    assert isinstance(caught.value, KeyError)


def test_c040_an_absent_row_is_ignored(db: Any) -> None:
    assert db.users.update(99, {"age": 1}, missing="ignore") is False
    assert db.users.count() == 0


def test_c040_an_absent_row_is_inserted(db: Any) -> None:
    db.users.update(99, {"address.city": "Oslo", "age": ops.add(2)}, missing="insert")
    assert db.users.get(99) == {"address": {"city": "Oslo"}, "age": 2, "id": 99}
    assert db.users.where("age").equals(2).count() == 1
    assert db.users.add({}) == 100
    with pytest.raises(InvalidArgumentError):
        db.users.update(7, lambda row: None, missing="insert")
    with pytest.raises(InvalidArgumentError):
        db.users.update(7, {}, missing="perhaps")


def test_upsert_tells_whether_it_created(db: Any) -> None:
    assert db.users.upsert(5, {"age": 1}) is True
    assert db.users.upsert(5, {"age": 2}) is False
    assert db.users.get(5) == {"age": 2, "id": 5}


def test_c041_functional_updates_of_many_threads_and_processes(
    make_db: Callable[..., Any], peer: Callable[[], Any]
) -> None:
    db = make_db(busy_timeout=100).open()
    db.users.add({"id": 1, "age": 0})
    code = """
import pathlib, threading
from selfdb.indexie import Indexie
db = Indexie(pathlib.Path(path), busy_timeout=100)
db.version(1).stores(stores)
def count():
    for _ in range(times):
        db.users.update(1, lambda u: u.update({"age": u["age"] + 1}))
threads = [threading.Thread(target=count) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
db.close()
"""
    others = [peer() for _ in range(3)]
    for other in others:
        other.start(code, stores=SCHEMA, times=TIMES)

    def count() -> None:
        for _ in range(TIMES):
            db.users.update(1, lambda user: user.update({"age": user["age"] + 1}))

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for other in others:
        other.finish()
    assert db.users.get(1) == {"id": 1, "age": 4 * 8 * TIMES}


def test_c042_what_a_function_returns_is_ignored(db: Any) -> None:
    db.users.add({"id": 1, "active": True})
    assert db.users.update(1, lambda user: bool(user.pop("active")) and False) is True
    assert db.users.get(1) == {"id": 1}


def test_c042_skip_writes_nothing_and_tells_nobody(db: Any) -> None:
    told: queue.SimpleQueue[Any] = queue.SimpleQueue()
    db.users.hook.on_update(lambda payload: told.put(payload["key"]), durable=False)
    db.users.bulk_add([{"id": 1, "age": 1}, {"id": 2}])
    before = db._snapshot(Lease())
    seq = before.seq
    before.close()

    def edit(user: Any) -> Any:
        user["age"] = 2
        return SKIP

    assert db.users.update(1, edit) is False
    assert db.users.get(1) == {"id": 1, "age": 1}
    after = db._snapshot(Lease())
    assert after.seq == seq
    after.close()
    db.users.update(2, {"age": 1})
    assert told.get(timeout=10) == 2
    assert told.empty()


def test_c042_delete_deletes(db: Any) -> None:
    db.users.add({"id": 1, "tags": ["a"]})
    assert db.users.update(1, lambda user: DELETE) is True
    assert db.users.get(1) is None
    assert db.users.where("tags").equals("a").count() == 0


def test_a_returned_dict_beside_an_untouched_draft_is_refused(db: Any) -> None:
    db.users.add({"id": 1, "age": 1})
    with pytest.raises(InvalidArgumentError, match=r"row\.update.*update\(key"):
        db.users.update(1, lambda user: {**user, "age": 2})
    assert db.users.get(1) == {"id": 1, "age": 1}
    # The seed's form edits in place; a returned dict does no harm then.
    assert db.users.update(1, lambda user: user.update({"age": user["age"] + 1})) is True
    assert db.users.update(1, lambda user: user.setdefault("more", {"a": 1})) is True
    assert db.users.update(1, lambda user: user) is True
    assert db.users.get(1) == {"id": 1, "age": 2, "more": {"a": 1}}


@pytest.mark.parametrize(
    "change", [{"id": 2}, {"id": "1"}, {"id": DELETE_FIELD}, lambda row: row.update({"id": 5}), lambda row: row.clear()]
)
def test_c043_the_key_cannot_be_changed(db: Any, change: Any) -> None:
    db.users.add({"id": 1, "age": 1})
    with pytest.raises(DataError):
        db.users.update(1, change)
    assert db.users.to_array() == [{"id": 1, "age": 1}]


def test_c043_the_same_key_may_be_named(db: Any) -> None:
    db.users.add({"id": 1})
    assert db.users.update(1, {"id": 1.0, "age": 3}) is True
    assert db.users.get(1)["age"] == 3


# Many rows

FIVE = [{"email": "a"}, {"email": "b"}, {"email": "a"}, {"email": "c"}, {"email": "d"}]


def test_c044_a_clash_undoes_the_call(db: Any) -> None:
    with pytest.raises(BulkError) as caught:
        db.users.bulk_add(FIVE)
    assert list(caught.value.failures_by_pos) == [2]
    assert isinstance(caught.value.failures[0], ConstraintError)
    assert db.users.count() == 0
    assert db.users.add({}) == 1


def test_c044_partial_keeps_the_good_rows(db: Any) -> None:
    with pytest.raises(BulkError) as caught:
        db.users.bulk_add(FIVE, partial=True)
    assert list(caught.value.failures_by_pos) == [2]
    assert caught.value.success_count == 4
    assert [row["email"] for row in db.users.to_array()] == ["a", "b", "c", "d"]
    assert db.users.primary_keys() == [1, 2, 3, 4]


def test_c044_rows_that_cannot_even_be_stored_are_told_by_position(db: Any) -> None:
    bad = [{"email": "a"}, {"x": object()}, {"id": None, "email": "b"}, {"id": {}}]
    with pytest.raises(BulkError) as caught:
        db.users.bulk_add(bad, partial=True)
    assert {at: type(error) for at, error in caught.value.failures_by_pos.items()} == {1: DataCloneError, 3: DataError}
    assert db.users.count() == 2


def test_c045_caught_in_a_transaction_the_good_rows_stay(db: Any) -> None:
    def add() -> None:
        with pytest.raises(BulkError):
            db.users.bulk_add(FIVE)

    db.transaction("rw", "users", add)
    assert db.users.count() == 4


def test_c045_uncaught_nothing_stays(db: Any) -> None:
    with pytest.raises(BulkError):
        db.transaction("rw", "users", lambda: db.users.bulk_add(FIVE))
    assert db.users.count() == 0


def test_c046_bulk_get_has_holes(db: Any) -> None:
    db.users.bulk_add([{"id": 1}, {"id": 3}])
    assert db.users.bulk_get([3, 99, 1, 3]) == [{"id": 3}, None, {"id": 1}, {"id": 3}]
    assert db.users.bulk_get([]) == []
    assert db.users.bulk_get(range(1000)).count(None) == 998


def test_bulk_calls_return_what_they_say(make_db: Callable[..., Any]) -> None:
    db = make_db({"notes": "", "users": "++id, &email"}).open()
    assert db.notes.bulk_add(["a", "b"], keys=["x", "y"]) == "y"
    assert db.notes.bulk_put(["c", 5], ["x", "z"], all_keys=True) == ["x", "z"]
    assert db.notes.to_collection().items() == [("x", "c"), ("y", "b"), ("z", 5)]
    with pytest.raises(InvalidArgumentError):
        db.notes.bulk_add(["a"], keys=["x", "y"])
    assert db.users.bulk_add([]) is None
    db.users.bulk_add([{"email": str(n)} for n in range(300)])
    assert db.users.bulk_update([(1, {"email": "x"}), (400, {}), (2, lambda row: row.update(email="y"))]) == 2
    with pytest.raises(BulkError) as caught:
        db.users.bulk_update([(1, {"email": "z"}), (2, {"email": "z"})])
    assert list(caught.value.failures_by_pos) == [1]
    assert db.users.get(1)["email"] == "x"
    assert db.users.bulk_delete([1, 2, 2, 999]) == 2
    assert db.users.count() == 298


def test_bulk_put_sees_its_own_rows(db: Any) -> None:
    db.users.add({"id": 1, "tags": ["old"]})
    keys = db.users.bulk_put(
        [{"id": 1, "tags": ["a"]}, {"id": 2}, {"id": 1, "tags": ["b"]}, {"id": 2, "age": 9}], all_keys=True
    )
    assert keys == [1, 2, 1, 2]
    assert db.users.to_array() == [{"id": 1, "tags": ["b"]}, {"id": 2, "age": 9}]
    assert db.users.where("tags").above(MIN_KEY).keys() == ["b"]


def test_bulk_put_replaces_a_row_whose_key_it_has_generated_itself(db: Any) -> None:
    assert db.users.bulk_put([{"name": "generated"}, {"id": 1, "name": "put"}, {}], all_keys=True) == [1, 1, 2]
    assert db.users.to_array() == [{"id": 1, "name": "put"}, {"id": 2}]


def test_c047_nothing_to_delete_tells_nobody(db: Any) -> None:
    told: queue.SimpleQueue[Any] = queue.SimpleQueue()
    db.users.hook.on_delete(lambda payload: told.put((payload["key"], payload["all"])), durable=False)
    assert db.users.delete(99) is False
    assert db.users.clear() == 0
    db.users.add({"id": 1})
    assert db.users.delete(1) is True
    db.users.bulk_add([{}, {}])
    assert db.users.clear() == 2
    # They come in order: had the first two told anybody, that would be here.
    assert told.get(timeout=10)[0] == 1
    assert told.get(timeout=10)[1] is True
    assert told.empty()


def test_c048_operators_and_their_index_entries(db: Any) -> None:
    db.users.add({"id": 1, "tags": ["b"]})
    db.users.update(1, {"age": ops.add(5)})
    assert db.users.get(1)["age"] == 5
    assert db.users.where("age").equals(5).count() == 1
    db.users.update(1, {"age": ops.remove(2), "tags": ops.add(["c", "a", "b"])})
    assert db.users.get(1) == {"id": 1, "tags": ["a", "b", "c"], "age": 3}
    assert db.users.where("tags").above(MIN_KEY).keys() == ["a", "b", "c"]
    db.users.update(1, {"age": DELETE_FIELD, "tags": ops.remove(["a", "zz"]), "no.such": DELETE_FIELD})
    assert db.users.get(1) == {"id": 1, "tags": ["b", "c"]}
    assert db.users.where("age").above(MIN_KEY).count() == 0
    assert db.users.where("tags").above(MIN_KEY).keys() == ["b", "c"]


@pytest.mark.parametrize("value", [True, "text", {"a": 1}, [1]])
def test_c048_operators_refuse_what_they_are_not_for(db: Any, value: Any) -> None:
    db.users.add({"id": 1, "x": value})
    with pytest.raises(InvalidArgumentError):
        db.users.update(1, {"x": ops.add(1)})
    with pytest.raises(InvalidArgumentError):
        ops.add("text")
    assert db.users.get(1)["x"] == value


# What is given and what is stored


def test_in_line_keys_given_beside(db: Any) -> None:
    mine = {"name": "A"}
    assert db.users.add(mine, 5) == 5
    assert db.users.add({"id": 6}, key=6) == 6
    assert mine == {"name": "A"}
    with pytest.raises(DataError):
        db.users.add({"id": 7}, 8)
    assert db.users.to_array() == [{"name": "A", "id": 5}, {"id": 6}]


@pytest.mark.parametrize(
    "schema, item, key",
    [
        ("id", {"a": 1}, None),
        ("", {"a": 1}, None),
        ("id", [1], None),
        ("[a+b]", {"a": 1}, None),
        ("id", {"id": {}}, None),
    ],
)
def test_without_a_key_nothing_is_stored(make_db: Callable[..., Any], schema: str, item: Any, key: Any) -> None:
    db = make_db({"things": schema}).open()
    with pytest.raises(DataError):
        db.things.add(item, key)
    assert db.things.count() == 0


def test_compound_and_dotted_keys(make_db: Callable[..., Any]) -> None:
    db = make_db({"pairs": "[a+b]", "deep": "++meta.id, name", "out": "++"}).open()
    assert db.pairs.add({"a": 1, "b": "x"}) == [1, "x"]
    assert db.pairs.add({"c": 1}, [2, "y"]) == [2, "y"]
    assert db.pairs.get([2, "y"]) == {"c": 1, "a": 2, "b": "y"}
    nested = {"name": "A", "meta": {"kind": 1}}
    assert db.deep.bulk_add([nested, {}], all_keys=True) == [1, 2]
    assert nested == {"name": "A", "meta": {"kind": 1}}
    assert db.deep.to_array() == [{"name": "A", "meta": {"kind": 1, "id": 1}}, {"meta": {"id": 2}}]
    assert db.out.bulk_add(["a", 5, None], all_keys=True) == [1, 2, 3]
    assert db.out.to_array() == ["a", 5, None]


class Model(pydantic.BaseModel):
    id: Any = None
    email: str


@dataclasses.dataclass
class Data:
    email: str
    id: int = 9


def test_models_and_data_classes_are_stored_as_dicts(db: Any) -> None:
    assert db.users.add(Model(email="a")) == 1
    assert db.users.add(Data("b")) == 9
    assert db.users.to_array() == [{"id": 1, "email": "a"}, {"email": "b", "id": 9}]
    assert db.users.where("email").equals("b").count() == 1


def test_a_key_at_the_end_of_any_document(make_db: Callable[..., Any]) -> None:
    db = make_db({"a": '++i"d', "b": "++id"}).open()
    assert db.a.add({}) == 1
    assert db.a.add({"$ix": 1}) == 2
    assert db.b.add({"id": None, "x": 1}) == 1
    assert db.a.to_array() == [{'i"d': 1}, {"$ix": 1, 'i"d': 2}]
    assert db.b.to_array() == [{"id": 1, "x": 1}]


def test_attach_schema_checks_what_is_written(db: Any) -> None:
    db.users.attach_schema(Model)
    with pytest.raises(StorageError, match="refused by its schema"):
        db.users.add({"name": "no e-mail"})
    db.users.add({"email": "a"})
    with pytest.raises(StorageError):
        db.users.update(1, {"email": 5})
    with pytest.raises(BulkError) as caught:
        db.users.bulk_add([{"email": "b"}, {}])
    assert list(caught.value.failures_by_pos) == [1]
    with pytest.raises(ModifyError):
        db.users.to_collection().modify({"email": None})
    db.users.add({}, silent=True)
    assert db.users.to_array() == [{"email": "a", "id": 1}, {"id": 2}]
    db.users.attach_schema(None)
    db.users.add({})
    with pytest.raises(InvalidArgumentError):
        db.users.attach_schema(5)


def test_a_write_of_the_same_document_is_none(db: Any) -> None:
    db.users.add({"id": 1, "age": 3})
    view = db._snapshot(Lease())
    seq = view.seq
    view.close()
    db.users.put({"id": 1, "age": 3})
    db.users.update(1, {"age": 3})
    db.users.update(1, lambda row: None)
    view = db._snapshot(Lease())
    assert view.seq == seq
    view.close()
