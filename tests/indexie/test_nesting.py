"""Transactions within transactions, and writes within writes: what several threads or functions of one context do."""

from __future__ import annotations

import contextvars
import threading
from typing import Any, Callable, Dict, List

import pytest

from selfdb.indexie import SubTransactionError, TransactionInactiveError

BOUND = 60.0
SCHEMA = {"users": "++id, &name, age, *tags", "logs": "++id, action"}


@pytest.fixture
def db(make_db: Callable[..., Any]) -> Any:
    return make_db(SCHEMA, busy_timeout=5.0).open()


class Within:
    """A transaction within the caller's, of a thread that has a copy of its context. It lasts until :meth:`go_on`."""

    def __init__(self, db: Any, mode: str, then: Callable[[], Any] = lambda: None, fails: bool = False) -> None:
        self.error: Any = None
        self._inside, self._go_on = threading.Event(), threading.Event()

        def body() -> None:
            try:
                with db.transaction(mode, ["users"]):
                    if mode == "rw":
                        db.users.add({"name": "within"})
                    self._inside.set()
                    assert self._go_on.wait(BOUND)
                    then()
                    if fails:
                        raise ZeroDivisionError
            except Exception as error:
                self.error = error

        self._thread = threading.Thread(target=contextvars.copy_context().run, args=(body,), daemon=True)
        self._thread.start()
        assert self._inside.wait(BOUND)

    def go_on(self) -> Any:
        """Let it end; what it raised."""
        self._go_on.set()
        self._thread.join(BOUND)
        assert not self._thread.is_alive()
        return self.error


@pytest.mark.parametrize("fails", [True, False], ids=["undone", "kept"])
def test_c066_nobody_writes_beside_the_one_within(db: Any, fails: bool) -> None:
    with db.transaction("rw", ["users", "logs"]):
        within = Within(db, "rw", fails=fails)
        # Kept, it would be undone with the one within, though it was no part of that.
        for table, row in ((db.users, {"name": "beside"}), (db.logs, {"action": "beside"})):
            with pytest.raises(SubTransactionError, match="another task or thread"):
                table.add(row)
        assert isinstance(within.go_on(), ZeroDivisionError) is fails
        db.users.add({"name": "after"})
    assert [row["name"] for row in db.users.to_array()] == ["after"] if fails else ["within", "after"]
    assert db.logs.count() == 0


@pytest.mark.parametrize("how", ["commit", "raised", "twice within"])
def test_c066_who_ends_before_the_one_within_takes_it_along(db: Any, how: str) -> None:
    undone: List[str] = []
    within: Any = None

    def outer() -> None:
        nonlocal within
        with db.transaction("rw", ["users"]) as tx:
            tx.on_rollback(lambda: undone.append("outer"))
            db.users.add({"name": "outer"})
            if how == "twice within":
                with db.transaction("rw", ["users"]):
                    within = Within(db, "rw", lambda: db.users.add({"name": "late"}))
            within = within or Within(db, "rw", lambda: db.users.add({"name": "late"}))
            if how == "raised":
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError if how == "raised" else SubTransactionError):
        outer()
    assert undone == ["outer"]
    # The file's lock is free, and what is written under it now is nobody else's.
    with db.transaction("rw", ["users"]):
        db.users.add({"name": "another"})
        assert isinstance(within.go_on(), TransactionInactiveError)
        assert db.users.count() == 1
    assert [row["name"] for row in db.users.to_array()] == ["another"]
    assert db.integrity_check() == []


@pytest.mark.parametrize("mode", ["rw", "r"])
def test_c068_one_that_reads_within_sees_nothing_of_another_transaction(db: Any, mode: str) -> None:
    seen: List[int] = []
    with db.transaction(mode, ["users"]):
        within = Within(db, "r", lambda: seen.append(db.users.count()))
    with db.transaction("rw", ["users"]):
        db.users.add({"name": "not committed"})
        assert isinstance(within.go_on(), TransactionInactiveError)
    assert seen == []


@pytest.mark.parametrize("form", ["commit", "rollback"])
def test_c066_its_end_behind_the_outer_ones_touches_nothing(db: Any, form: str) -> None:
    with pytest.raises(SubTransactionError), db.transaction("rw", ["users"]):
        within = Within(db, "rw", fails=form == "rollback")
    with db.transaction("rw", ["users"]):
        with db.transaction("rw", ["users"]):  # a savepoint, of the same name
            db.users.add({"name": "another"})
            error = within.go_on()
        db.users.add({"name": "and one more"})
    assert isinstance(error, ZeroDivisionError if form == "rollback" else TransactionInactiveError)
    assert db.users.count() == 2


# Writes within writes

WRITES: Dict[str, Callable[[Any], Any]] = {
    "update": lambda db: db.users.update(2, {"age": 50, "tags": ["z"]}),
    "own row": lambda db: db.users.delete(1),
    "another table": lambda db: db.logs.add({"action": "seen"}),
    "a transaction within": lambda db: db.transaction("rw", ["users"], lambda: db.users.delete(2)),
}


@pytest.mark.parametrize("call", ["update", "modify", "bulk_update", "filter", "schema"])
@pytest.mark.parametrize("write", sorted(WRITES))
def test_c060_a_function_given_to_a_write_does_not_write(db: Any, call: str, write: str) -> None:
    rows = [{"name": "a", "age": 1, "tags": ["x"]}, {"name": "b", "age": 2, "tags": ["y"]}]
    db.users.bulk_add(rows)

    def function(row: Any) -> Any:
        WRITES[write](db)
        row["age"] = 7
        return True

    calls: Dict[str, Callable[[], Any]] = {
        "update": lambda: db.users.update(1, function),
        "modify": lambda: db.users.to_collection().modify(function),
        "bulk_update": lambda: db.users.bulk_update([(1, function), (2, function)]),
        "filter": lambda: db.users.filter(function).modify({"age": 8}),
        "schema": lambda: db.users.update(1, {"age": 9}),
    }
    if call == "schema":
        db.users.attach_schema(function)
    with db.transaction("rw", ["users", "logs"]):
        with pytest.raises(Exception, match="must not write itself"):
            calls[call]()
        db.users.attach_schema(None)
        assert db.users.update(1, lambda row: row.update(seen=db.users.count())), "it may read, and others may write"
    assert db.users.to_array() == [{**rows[0], "id": 1, "seen": 2}, {**rows[1], "id": 2}]
    assert db.logs.count() == 0
    assert db.integrity_check() == []


def test_c060_nor_in_an_upgrade(make_db: Callable[..., Any]) -> None:
    errors: List[Exception] = []
    with make_db(SCHEMA) as db:
        db.users.bulk_add([{"name": "a"}, {"name": "b"}])
    later = make_db(SCHEMA)

    def upgrade() -> None:
        for write in ("update", "a transaction within"):
            with pytest.raises(SubTransactionError) as caught:
                later.users.to_collection().modify(lambda row: WRITES[write](later))
            errors.append(caught.value)

    later.version(2).stores({}).upgrade(upgrade)
    later.open()
    assert len(errors) == 2
    assert later.users.to_array() == [{"name": "a", "id": 1}, {"name": "b", "id": 2}]
    assert later.integrity_check() == []


# Functions whose result nobody would await


async def _coroutine(*_: Any) -> bool:
    return False


PLAIN: Dict[str, Callable[[Any], Any]] = {
    "update": lambda db: db.users.update(1, _coroutine),
    "update, returned": lambda db: db.users.update(1, lambda row: _coroutine(row)),
    "modify": lambda db: db.users.to_collection().modify(_coroutine),
    "bulk_update": lambda db: db.users.bulk_update([(1, _coroutine)]),
    "filter": lambda db: db.users.filter(_coroutine).to_array(),
    "and_": lambda db: db.users.to_collection().and_(_coroutine).to_array(),
    "until": lambda db: db.users.to_collection().until(_coroutine).to_array(),
    "each": lambda db: db.users.each(_coroutine),
    "attach_schema": lambda db: db.users.attach_schema(_coroutine),
    "on_commit": lambda db: db.transaction("rw", "users", lambda tx: tx.on_commit(_coroutine)),
    "on_rollback": lambda db: db.transaction("rw", "users", lambda tx: tx.on_rollback(_coroutine)),
    "on_ready": lambda db: db.on_ready(_coroutine),
    "on_populate": lambda db: db.on_populate(_coroutine),
    "on_versionchange": lambda db: db.on_versionchange(_coroutine),
    "on_dead": lambda db: db.outbox.on_dead(_coroutine),
    "subscribe": lambda db: use(db).subscribe(_coroutine),
    "on_error": lambda db: use(db).subscribe(print, on_error=_coroutine, immediate=False),
    "use_live_query": lambda db: use_function(_coroutine),
    "use_live_query, returned": lambda db: use_function(lambda: (db.users.count(), _coroutine())[1]),
    "wait_until": lambda db: use(db).wait_until(_coroutine, 5),
}


def use_function(function: Callable[[], Any]) -> Any:
    from selfdb.indexie import use_live_query

    return use_live_query(function)


def use(db: Any) -> Any:
    return use_function(lambda: db.users.count())


@pytest.mark.parametrize("call", sorted(PLAIN))
def test_c042_a_coroutine_function_that_nobody_would_await_is_refused(db: Any, call: str) -> None:
    db.users.add({"name": "a"})
    # As an error of the row, bulk_update() and modify() tell it in their own.
    with pytest.raises(Exception, match="takes a plain function here"):
        PLAIN[call](db)
    assert db.users.add({"name": "b"}) == 2
