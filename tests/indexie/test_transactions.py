"""Several calls as one: what is kept, what is undone, what is refused, and what nesting does."""

from __future__ import annotations

import contextvars
import functools
import queue
import threading
import time
from typing import Any, Callable, List

import pytest

from selfdb.indexie import (
    AbortError,
    ConstraintError,
    Indexie,
    IndexieTimeoutError,
    InvalidArgumentError,
    InvalidStateError,
    InvalidTableError,
    NotInScopeError,
    ReadOnlyError,
    Strategy,
    SubTransactionError,
    TransactionInactiveError,
    use_live_query,
)
from selfdb.indexie.file.log import ChangeSet
from tests import soak

SCHEMA = {"users": "++id, &email, age", "logs": "++id, *tags", "other": "id"}


class Mine(Exception):
    """Nobody else's."""


@pytest.fixture
def db(make_db: Callable[..., Any]) -> Any:
    return make_db(SCHEMA).open()


def begin(db: Any, form: str, mode: str, tables: Any, function: Callable[..., Any]) -> Any:
    """One of the two ways in which a transaction is written."""
    if form == "function":
        return db.transaction(mode, tables, function)
    with db.transaction(mode, tables) as tx:
        return function(*([tx] if function.__code__.co_argcount else []))


FORMS = pytest.mark.parametrize("form", ["function", "block"])


@FORMS
def test_c064_what_raises_undoes_everything(db: Any, form: str) -> None:
    error = Mine("mine")
    with use_live_query(lambda: (db.users.count(), db.logs.count())) as live:

        def fail() -> None:
            db.users.add({"email": "a"})
            db.logs.add({"tags": ["x"]})
            assert (db.users.count(), db.logs.count()) == (1, 1)
            raise error

        with pytest.raises(Mine) as caught:
            begin(db, form, "rw", ["users", "logs"], fail)
        assert caught.value is error
        assert (db.users.count(), db.logs.where("tags").equals("x").count()) == (0, 0)
        live.settle(10)
        assert (live.version, live.value) == (1, (0, 0))
        # The same once more without an error is one change.
        db.transaction("rw", ["users", "logs"], lambda: (db.users.add({}), db.logs.add({})))
        assert live.wait_until(lambda value: value == (1, 1), 10)
        assert live.version == 2


@FORMS
@pytest.mark.parametrize("mode", ["rw", Indexie.Mode.READ_WRITE, "readwrite"])
def test_c064_what_ends_well_is_kept_and_returned(db: Any, form: str, mode: str) -> None:
    def add(tx: Any) -> Any:
        assert (tx.mode, tx.scope, tx.active) == ("rw", ("users", "logs"), True)
        tx.logs.add({})
        tx.table("logs").add({})
        return tx.users.add({"email": "a"})

    assert begin(db, form, mode, ["users", db.logs], add) == 1
    assert (db.users.count(), db.logs.count()) == (1, 2)


def test_a_function_is_given_the_transaction_only_if_it_wants_it(db: Any) -> None:
    assert db.transaction("r", "users", lambda: 5) == 5
    assert db.transaction("r", "users", lambda tx: tx.mode) == "r"
    assert db.transaction("r", "users", lambda captured=7: captured) == 7
    assert db.transaction("r", "users", functools.partial(lambda a, b=1: a, 3)) == 3
    assert db.transaction("r", db.users, dict) == {}
    with pytest.raises(InvalidArgumentError):
        db.transaction("r", "users", 5)


def test_a_coroutine_function_is_pointed_to_the_other_face(db: Any) -> None:
    async def add() -> None:
        raise AssertionError("nobody runs this")

    with pytest.raises(InvalidArgumentError, match="aio"):
        db.transaction("rw", "users", add)


@pytest.mark.parametrize("mode", ["w", "rw!", "r?", "", None, 5, "RW"])
def test_unknown_modes_are_refused(db: Any, mode: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        db.transaction(mode, "users", lambda: None)


@pytest.mark.parametrize(
    "tables, error", [([], InvalidArgumentError), ("no", InvalidTableError), ([5], InvalidTableError)]
)
def test_unknown_tables_are_refused(db: Any, tables: Any, error: Any) -> None:
    with pytest.raises(error):
        db.transaction("rw", tables, lambda: None)


def test_the_table_of_another_database_is_refused(db: Any, make_db: Callable[..., Any], tmp_path: Any) -> None:
    other = make_db(SCHEMA, file=tmp_path / "other.db").open()
    with pytest.raises(InvalidArgumentError):
        db.transaction("rw", other.users)
    with db.transaction("rw", "users"):
        db.users.add({})
        assert other.users.add({}) == 1  # it knows nothing of this transaction
        assert other.logs.add({}) == 1
    assert (db.users.count(), other.users.count()) == (1, 1)


# What is not allowed

WRITES = {
    "add": lambda table: table.add({"id": 9}),
    "put": lambda table: table.put({"id": 9}),
    "update": lambda table: table.update(1, {"age": 1}, missing="ignore"),
    "delete": lambda table: table.delete(1),
    "clear": lambda table: table.clear(),
    "bulk_add": lambda table: table.bulk_add([{"id": 9}]),
    "modify": lambda table: table.to_collection().modify({"age": 1}),
    "delete found": lambda table: table.to_collection().delete(),
}


@pytest.mark.parametrize("write", WRITES)
def test_c065_a_store_out_of_scope(db: Any, write: str) -> None:
    def go(tx: Any) -> None:
        db.users.add({})
        WRITES[write](db.other)

    with pytest.raises(NotInScopeError) as caught:
        db.transaction("rw", ["users", "logs"], go)
    assert (caught.value.table, caught.value.scope) == ("other", ("users", "logs"))
    assert db.users.count() == 0


@pytest.mark.parametrize(
    "read",
    [
        lambda table: table.get(1),
        lambda table: table.to_array(),
        lambda table: table.count(),
        lambda table: list(table),
        lambda table: table.bulk_get([1]),
    ],
)
@pytest.mark.parametrize("mode", ["r", "rw"])
def test_c065_it_is_not_read_either(db: Any, mode: str, read: Any) -> None:
    with pytest.raises(NotInScopeError):
        db.transaction(mode, "users", lambda: read(db.other))
    with pytest.raises(NotInScopeError):
        db.transaction(mode, "users", lambda tx: tx.table("other"))


@pytest.mark.parametrize("write", WRITES)
def test_c065_a_write_where_only_reading_is_allowed(db: Any, write: str) -> None:
    db.users.add({"id": 1})
    with pytest.raises(ReadOnlyError):
        db.transaction("r", "users", lambda: WRITES[write](db.users))
    with db.transaction("r", "users"):
        with pytest.raises(ReadOnlyError):
            WRITES[write](db.users)
        assert db.users.to_array() == [{"id": 1}]


def test_c065_caught_it_undoes_nothing_else(db: Any) -> None:
    with db.transaction("rw", "users"):
        db.users.add({"email": "a"})
        with pytest.raises(NotInScopeError):
            db.logs.add({})
        with pytest.raises(ConstraintError):
            db.users.add({"email": "a"})
        db.users.add({"email": "b"})
    assert db.users.count() == 2


def test_c092_network_first_is_refused_within(db: Any) -> None:
    db.users.strategy = Strategy.NETWORK_FIRST
    with db.transaction("rw", "users"):
        with pytest.raises(InvalidStateError):
            db.users.add({})
        db.users.add({}, silent=True)
    assert db.users.count() == 1


# Nesting


@FORMS
def test_c066_a_failure_within_undoes_only_its_own(db: Any, form: str) -> None:
    with db.transaction("rw", ["users", "logs"]):
        db.users.add({"email": "outer"})

        def fail() -> None:
            db.users.add({"email": "inner", "age": 5})
            db.users.where("email").equals("outer").modify({"age": 1})
            db.logs.add({"tags": ["a"]})
            raise Mine

        with pytest.raises(Mine):
            begin(db, form, "rw", "users" if form == "x" else ["users", "logs"], fail)
        assert db.users.to_array() == [{"email": "outer", "id": 1}]
        begin(db, form, "rw", "users", lambda: db.users.add({"email": "second"}))
    assert [row["email"] for row in db.users.to_array()] == ["outer", "second"]
    assert db.users.where("age").above(0).count() == db.logs.count() == 0
    assert db.integrity_check() == []


def test_c066_a_failure_without_undoes_what_was_within(db: Any) -> None:
    with pytest.raises(Mine), db.transaction("rw", "users"):
        with db.transaction("rw", "users"), db.transaction("rw", "users"):
            db.users.add({})
        raise Mine
    assert db.users.count() == 0


@pytest.mark.parametrize(
    "outer, inner, tables",
    [("rw", "rw", ["users", "logs"]), ("r", "r", "logs"), ("r", "rw", "users"), ("rw", "r", ["other"])],
)
def test_c066_more_than_the_outer_one_has(db: Any, outer: str, inner: str, tables: Any) -> None:
    with pytest.raises(SubTransactionError):
        db.transaction(outer, "users", lambda: db.transaction(inner, tables, lambda: None))
    with db.transaction(outer, "users"):
        with pytest.raises(SubTransactionError), db.transaction(inner, tables):
            raise AssertionError
        assert db.users.count() == 0


def test_c066_a_reading_one_within_a_writing_one_sees_its_rows(db: Any) -> None:
    with db.transaction("rw", "users"):
        db.users.add({})
        with db.transaction("r", "users"):
            assert db.users.count() == 1
            with pytest.raises(ReadOnlyError):
                db.users.add({})
        db.users.add({})
    assert db.users.count() == 2


def test_c066_one_within_ends_before_the_one_around(db: Any) -> None:
    with db.transaction("rw", "users"):
        inner = db.transaction("rw", "users")
        inner.__enter__()
        db.users.add({})

        def another() -> None:
            with db.transaction("rw", "users"):
                raise AssertionError

        # A context that was copied before the inner one began finds the outer one, whose savepoints it would mix up.
        inner.leave()
        with pytest.raises(SubTransactionError):
            another()
        inner.enter()
        inner.__exit__(None, None, None)
    assert db.users.count() == 1


# Ends


@FORMS
def test_c067_abort(db: Any, form: str) -> None:
    kept: List[Any] = []

    def go(tx: Any) -> None:
        kept.append(tx)
        kept.append(tx.users)
        db.users.add({})
        tx.abort()

    with pytest.raises(AbortError):
        begin(db, form, "rw", "users", go)
    assert db.users.count() == 0
    tx, users = kept
    assert not tx.active
    for use in (
        lambda: tx.users,
        lambda: tx.table("users"),
        tx.abort,
        lambda: users.add({}),
        users.count,
        users.to_array,
    ):
        with pytest.raises(TransactionInactiveError):
            use()
    for use in (lambda: users.get(1), lambda: list(users), lambda: users.where("age").equals(1).first()):
        with pytest.raises(TransactionInactiveError):
            use()
    with pytest.raises(TransactionInactiveError):
        tx.on_commit(lambda: None)
    with pytest.raises(TransactionInactiveError), tx:
        raise AssertionError
    assert db.users.count() == 0


@FORMS
def test_c067_an_abort_cannot_be_swallowed(db: Any, form: str) -> None:
    def go(tx: Any) -> None:
        db.users.add({})
        with pytest.raises(AbortError):
            tx.abort()
        with pytest.raises(TransactionInactiveError):
            db.users.add({})  # nor does it slip out of the transaction

    with pytest.raises(AbortError):
        begin(db, form, "rw", "users", go)
    assert db.users.count() == 0


def test_c067_an_abort_within_is_the_inner_ones(db: Any) -> None:
    with db.transaction("rw", "users"):
        db.users.add({})
        with pytest.raises(AbortError), db.transaction("rw", "users") as inner:
            db.users.add({})
            inner.abort()
        assert db.users.count() == 1
    assert db.users.count() == 1


def test_c067_a_transaction_is_another_threads_or_none(db: Any) -> None:
    results: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def use(tx: Any, in_context: bool) -> None:
        try:
            results.put(tx.users.add({}))
        except TransactionInactiveError as error:
            results.put(error)

    with db.transaction("rw", "users") as tx:
        thread = threading.Thread(target=use, args=(tx, False))
        thread.start()
        thread.join()
        assert isinstance(results.get(), TransactionInactiveError)
        # A thread that begins with a copy of this context is part of it.
        thread = threading.Thread(target=contextvars.copy_context().run, args=(use, tx, True))
        thread.start()
        thread.join()
        assert results.get() == 1
    assert db.users.count() == 1


def test_a_copied_context_outlives_the_transaction_without_harm(db: Any) -> None:
    with db.transaction("rw", "users"):
        db.users.add({})
        context = contextvars.copy_context()
    assert context.run(db.users.add, {}) == 2
    assert context.run(lambda: db.transaction("rw", "logs", lambda: db.logs.add({}))) == 1
    assert db.users.count() == 2


def test_threads_of_one_context_take_turns(db: Any) -> None:
    with db.transaction("rw", "users"):
        contexts = [contextvars.copy_context() for _ in range(8)]
        threads = [
            threading.Thread(target=context.run, args=(lambda: [db.users.add({"age": n}) for n in range(50)],))
            for context in contexts
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert db.users.count() == 400
    assert db.users.primary_keys() == list(range(1, 401))


@FORMS
def test_callbacks_are_told_how_it_ended(db: Any, form: str) -> None:
    told: List[str] = []

    def go(tx: Any) -> None:
        tx.on_commit(lambda: told.append(f"committed {db.users.count()}"))
        tx.on_rollback(lambda: told.append("undone"))
        db.users.add({})
        assert not told

    begin(db, form, "rw", "users", go)
    assert told == ["committed 1"]
    told.clear()

    def fail(tx: Any) -> None:
        go(tx)
        raise Mine

    with pytest.raises(Mine):
        begin(db, form, "rw", "users", fail)
    assert told == ["undone"]
    begin(db, form, "r", "users", lambda tx: tx.on_commit(lambda: told.append("read")))
    assert told == ["undone", "read"]


@pytest.mark.parametrize("outer_fails", [False, True])
def test_callbacks_of_inner_ones_wait_for_the_outermost(db: Any, outer_fails: bool) -> None:
    told: List[str] = []

    def go() -> None:
        with db.transaction("rw", "users") as inner:
            inner.on_commit(lambda: told.append("inner committed"))
            inner.on_rollback(lambda: told.append("inner undone"))
        with pytest.raises(Mine), db.transaction("rw", "users") as failing:
            failing.on_commit(lambda: told.append("failing committed"))
            failing.on_rollback(lambda: told.append("failing undone"))
            raise Mine
        assert told == ["failing undone"]
        if outer_fails:
            raise Mine

    if outer_fails:
        with pytest.raises(Mine):
            db.transaction("rw", "users", go)
        assert told == ["failing undone", "inner undone"]
    else:
        db.transaction("rw", "users", go)
        assert told == ["failing undone", "inner committed"]


def test_a_callback_that_fails_undoes_nothing(db: Any) -> None:
    with db.transaction("rw", "users") as tx:
        tx.on_commit(lambda: 1 // 0)
        tx.on_commit(lambda: db.logs.add({"after": "commit"}))
        with pytest.raises(InvalidArgumentError):
            tx.on_commit(5)
        db.users.add({})
    assert (db.users.count(), db.logs.count()) == (1, 1)


@pytest.mark.parametrize("write", ["add", "update", "delete", "clear"])
def test_c074_a_write_that_was_broken_off_in_its_middle_is_never_committed(
    db: Any, monkeypatch: pytest.MonkeyPatch, write: str
) -> None:
    db.logs.add({"id": 1, "tags": ["a"]})
    calls = {
        "add": lambda: db.logs.add({"tags": ["b"]}),
        "update": lambda: db.logs.update(1, {"tags": ["b"]}),
        "delete": lambda: db.logs.delete(1),
        "clear": lambda: db.logs.clear(),
    }

    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(TransactionInactiveError), db.transaction("rw", ["users", "logs"]):
        db.users.add({})
        with monkeypatch.context() as patch:
            patch.setattr(ChangeSet, "record", interrupt)
            patch.setattr(ChangeSet, "whole", interrupt)
            with pytest.raises(KeyboardInterrupt):
                calls[write]()
    assert (db.users.count(), db.logs.to_array()) == (0, [{"id": 1, "tags": ["a"]}])
    assert db.integrity_check() == []
    # In a block of its own it is undone, and what is around goes on.
    with db.transaction("rw", ["users", "logs"]):
        db.users.add({})
        with monkeypatch.context() as patch:
            patch.setattr(ChangeSet, "record", interrupt)
            patch.setattr(ChangeSet, "whole", interrupt)
            with pytest.raises(KeyboardInterrupt), db.transaction("rw", "logs"):
                calls[write]()
    assert (db.users.count(), db.logs.to_array()) == (1, [{"id": 1, "tags": ["a"]}])


# Side by side


@FORMS
def test_c068_reading_sees_one_state(db: Any, form: str, peer: Callable[[], Any]) -> None:
    db.users.add({})
    other = peer()
    other.run(
        "import pathlib\nfrom selfdb.indexie import Indexie\ndb = Indexie(pathlib.Path(path))\n"
        "db.version(1).stores(schema)\ndb.open()",
        schema=SCHEMA,
    )

    def read() -> Any:
        counts = [db.users.count()]
        other.run("db.users.bulk_add([{} for _ in range(10)])")
        counts += [db.users.count(), len(db.users.to_array()), len(list(db.users)), len(db.users.primary_keys())]
        assert db.users.get(5) is None
        return counts

    assert begin(db, form, "r", ["users", "logs"], read) == [1] * 5
    assert db.users.count() == 11
    other.run("db.close()")


def test_c068_another_threads_transaction_is_not_seen(db: Any) -> None:
    inside, seen = threading.Event(), threading.Event()

    def write() -> None:
        with db.transaction("rw", "users"):
            db.users.add({})
            inside.set()
            assert seen.wait(10)

    thread = threading.Thread(target=write)
    thread.start()
    assert inside.wait(10)
    assert db.users.count() == 0
    seen.set()
    thread.join()
    assert db.users.count() == 1


def test_c069_who_waits_for_a_writing_thread_gets_an_error(make_db: Callable[..., Any]) -> None:
    db = make_db(SCHEMA, busy_timeout=0.2).open()
    results: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def write() -> None:
        try:
            results.put(db.users.add({}))
        except IndexieTimeoutError as error:
            results.put(error)

    began = time.monotonic()
    with db.transaction("rw", "users"):
        thread = threading.Thread(target=write)
        thread.start()
        thread.join(20)
        assert isinstance(results.get(timeout=1), TimeoutError)
        db.users.add({"email": "mine"})
    assert 0.2 <= time.monotonic() - began < 5
    assert [row["email"] for row in db.users.to_array()] == ["mine"]
    assert db.users.add({}) == 2


def test_c069_of_another_process_too(make_db: Callable[..., Any], peer: Callable[[], Any]) -> None:
    db = make_db(SCHEMA).open()
    other = peer()
    with db.transaction("rw", "users"):
        db.users.add({})
        with pytest.raises(IndexieTimeoutError):
            other.run(
                "import pathlib\nfrom selfdb.indexie import Indexie\n"
                "db = Indexie(pathlib.Path(path), busy_timeout=0.2)\ndb.version(1).stores(schema)\n"
                "result = db.users.count()\ndb.users.add({})",
                schema=SCHEMA,
            )
    assert other.run("result = db.users.add({})\ndb.close()") == 2


ADDS = soak.amount("SELFDB_IX_PROCESS_ADDS", here=300, long=3000)


def test_c070_processes_that_add_at_once_share_the_keys(db: Any, peer: Callable[[], Any]) -> None:
    code = """
import pathlib
from selfdb.indexie import Indexie
db = Indexie(pathlib.Path(path), busy_timeout=100)
db.version(1).stores(schema)
result = []
for n in range(times):
    if n % 10:
        result.append(db.users.add({"age": n}))
    else:
        with db.transaction("rw", "users"):
            result.append(db.users.add({"age": n}))
db.close()
"""
    others = [peer() for _ in range(4)]
    for other in others:
        other.start(code, schema=SCHEMA, times=ADDS)
    keys = [other.finish() for other in others]
    assert sorted(key for each in keys for key in each) == list(range(1, 4 * ADDS + 1))
    assert all(each == sorted(each) for each in keys)
    assert db.users.primary_keys() == list(range(1, 4 * ADDS + 1))
    assert db.users.add({}) == 4 * ADDS + 1
