"""What each error says of itself: which class it is, what it carries, and that it crosses to another process whole."""

from __future__ import annotations

import contextvars
import pickle
import sqlite3
from typing import Any, Callable, Dict, NamedTuple, Tuple, Type

import pytest

import selfdb.indexie as store
from selfdb import SelfDBError
from selfdb.indexie import Strategy

ROW = {"id": 1, "name": "Ann", "age": 30}


class Case(NamedTuple):
    """One way to an error.

    :ivar says: a part of its text.
    """

    call: Callable[[Any], Any]
    kind: Type[Exception]
    carries: Dict[str, Any]
    says: str = ""


def fails(payload: Any) -> None:
    raise ConnectionError("no way")


def hooked(db: Any, write: Callable[[], Any]) -> None:
    db.users.hook.on_add(fails, name="push")
    try:
        write()
    finally:
        db.users.hook.off(fails)
        db.outbox.retire("users")


def network_first(db: Any) -> None:
    db.users.strategy = Strategy.NETWORK_FIRST
    try:
        hooked(db, lambda: db.users.add({"id": 7, "name": "Zoe"}))
    finally:
        db.users.strategy = Strategy.LOCAL_FIRST


def optimistic(db: Any) -> None:
    def write() -> None:
        with db.users.start_transaction(optimistic=True) as tx:
            db.users.add({"id": 8, "name": "Zoe"})
            tx.commit()

    hooked(db, write)


def conflict(db: Any) -> None:
    with db.users.start_transaction() as tx:
        db.users.update(1, {"age": 31})
        contextvars.Context().run(db.users.update, 1, {"age": 32})
        tx.commit()


CASES = {
    "schema": Case(lambda db: db.users.where("nick"), store.SchemaError, {"table": "users", "path": "nick"}, "filter"),
    "order": Case(lambda db: db.users.order_by("nick"), store.SchemaError, {"table": "users", "path": "nick"}),
    "criteria": Case(lambda db: db.users.get({"x": 1}), store.SchemaError, {"table": "users", "path": "x"}),
    "table": Case(lambda db: db.table("no"), store.InvalidTableError, {"table": "no"}),
    "table of a transaction": Case(lambda db: db.transaction("r", "no"), store.InvalidTableError, {"table": "no"}),
    "no key": Case(lambda db: db.users.get(None), store.DataError, {"key": None}, "filter"),
    "no key of an index": Case(lambda db: db.users.where("age").equals({}), store.DataError, {"key": {}}, "filter"),
    "two keys": Case(lambda db: db.users.add({"id": 1}, 2), store.DataError, {"key": 2}),
    "another key": Case(lambda db: db.users.update(1, {"id": 5}), store.DataError, {"key": 1}),
    "a value": Case(lambda db: db.users.add({"a": [1, {"b": print}]}), store.DataCloneError, {"path": "a[1].b"}),
    "a key again": Case(
        lambda db: db.users.add(ROW), store.ConstraintError, {"table": "users", "index": ":id", "value": 1}
    ),
    "an entry again": Case(
        lambda db: db.users.add({"name": "Ann"}),
        store.ConstraintError,
        {"table": "users", "index": "name", "value": "Ann"},
    ),
    "no row": Case(lambda db: db.users.update(9, {}), store.KeyNotFoundError, {"table": "users", "key": 9}),
    "scope": Case(
        lambda db: db.transaction("rw", "users", lambda: db.logs.add({})),
        store.NotInScopeError,
        {"table": "logs", "scope": ("users",)},
    ),
    "bulk": Case(
        lambda db: db.users.bulk_add([{"id": 2}, {"id": 1}, {"id": 3}]), store.BulkError, {"success_count": 2}
    ),
    "modify": Case(
        lambda db: db.users.to_collection().modify({"id": 9}),
        store.ModifyError,
        {"success_count": 0, "failed_keys": [1]},
    ),
    "conflict": Case(conflict, store.WriteConflictError, {"table": "users", "keys": [1], "hooks_succeeded": False}),
    "hook": Case(
        network_first,
        store.HookError,
        {"table": "users", "op": "add", "key": 7, "hook": "push", "completed": []},
    ),
    "hook of a commit": Case(
        optimistic, store.HookError, {"table": "users", "op": "add", "key": 8, "hook": "push", "completed": []}
    ),
}


@pytest.fixture
def db(make_db: Callable[..., Any]) -> Any:
    database = make_db({"users": "++id, &name, age", "logs": "++id"}).open()
    database.users.add(ROW)
    return database


@pytest.mark.parametrize("case", sorted(CASES))
def test_an_error_carries_what_it_is_about(db: Any, case: str) -> None:
    call, kind, carries, says = CASES[case]
    with pytest.raises(kind) as caught:
        call(db)
    error = caught.value
    assert type(error) is kind
    assert says in str(error)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy)) == (kind, str(error))
    for each in (error, copy):
        assert {name: getattr(each, name) for name in carries} == carries
    assert db.users.count() == 1
    assert [row["name"] for row in db.users.to_array()] == ["Ann"]


def test_the_rows_that_failed_are_told_with_their_reasons(db: Any) -> None:
    with pytest.raises(store.BulkError) as bulk:
        db.users.bulk_put([{"name": "Ben"}, {"name": "Ann"}, {"id": None, "name": print}])
    # What cannot even be stored is told before the others are tried.
    assert [(at, type(error)) for at, error in bulk.value.failures_by_pos.items()] == [(2, store.DataCloneError)]
    assert list(bulk.value.failures_by_pos.values()) == bulk.value.failures
    with pytest.raises(store.ModifyError) as modify:
        db.users.to_collection().modify({"id": 2})
    assert [type(error) for error in modify.value.failures] == [store.DataError]


@pytest.mark.parametrize("call", ["add", "put", "hook"])
def test_what_was_behind_it_is_its_cause(db: Any, call: str) -> None:
    calls: Dict[str, Callable[[], Any]] = {
        "add": lambda: db.users.add({"name": "Ann"}),
        "put": lambda: db.users.put({"id": 5, "name": "Ann"}),
        "hook": lambda: network_first(db),
    }
    with pytest.raises(store.IndexedDBError) as caught:
        calls[call]()
    assert isinstance(caught.value.__cause__, ConnectionError if call == "hook" else sqlite3.IntegrityError)


ALSO: Dict[Type[Exception], Tuple[type, ...]] = {
    store.DataError: (ValueError,),
    store.DataCloneError: (TypeError,),
    store.KeyNotFoundError: (KeyError,),
    store.InvalidArgumentError: (ValueError,),
    store.IndexieTimeoutError: (TimeoutError,),
    store.VersionError: (store.OpenFailedError,),
    store.VersionChangeError: (store.DatabaseClosedError,),
}


@pytest.mark.parametrize("name", sorted(name for name in store.__all__ if name.endswith("Error")))
def test_the_family_of_an_error(name: str) -> None:
    kind = getattr(store, name)
    assert issubclass(kind, SelfDBError)
    assert all(issubclass(kind, each) for each in ALSO.get(kind, ()))
    assert issubclass(kind, store.StorageError)
    assert issubclass(kind, store.IndexedDBError) or kind is store.StorageError
    error = pickle.loads(pickle.dumps(kind("why")))
    assert (type(error), str(error)) == (kind, "why")
