"""Overlay transactions: what is seen before the commit, by whom; what the commit checks; what is left when it fails."""

from __future__ import annotations

import contextvars
import threading
from typing import Any, Callable, Dict, List

import pytest

from selfdb.indexie.errors import (
    ConstraintError,
    DatabaseClosedError,
    HookError,
    InvalidArgumentError,
    TransactionInactiveError,
    WriteConflictError,
)
from selfdb.indexie.hooks.strategy import Strategy
from selfdb.indexie.live.live import use_live_query
from selfdb.indexie.timing import Timing

from .conftest import SCHEMA
from .kit import Calls

QUICK = Timing(outbox_poll=0.01, retry_first=0.01)
STORES = {**SCHEMA, "logs": "++id, what", "notes": "", "bare": "id, &code"}


@pytest.fixture
def db(make_db: Callable[..., Any]) -> Any:
    return make_db(STORES, timing=QUICK).open()


def elsewhere(work: Callable[[], Any]) -> Any:
    """What ``work`` gives on a thread with a context of its own."""
    found: List[Any] = []
    failed: List[BaseException] = []

    def run() -> None:
        try:
            found.append(work())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=contextvars.Context().run, args=(run,))
    thread.start()
    thread.join()
    if failed:
        raise failed.pop()
    return found.pop()


def refuse(payload: Dict[str, Any]) -> None:
    raise OSError("no network")


# Case 94: optimistic, before the commit


def test_c094_a_live_query_of_another_thread_sees_it_and_another_process_does_not(
    db: Any, peer: Callable[[], Any]
) -> None:
    other = peer()
    other.run("import pathlib\nfrom selfdb.indexie import Indexie\ndb = Indexie(pathlib.Path(path)).open()")
    with use_live_query(lambda: db.users.to_array()) as query:
        seen = Calls()
        query.subscribe(seen)
        with db.users.start_transaction(optimistic=True) as tx:
            key = db.users.add({"name": "Ann"})
            assert seen.wait(2) == [[], [{"name": "Ann", "id": key}]]
            assert elsewhere(lambda: db.users.get(key)) == {"name": "Ann", "id": key}
            assert other.run("result = db.users.to_array()") == []
            tx.commit()
        assert other.run("result = db.users.count()") == 1
    other.run("db.close()")


def test_c094_a_hook_that_fails_at_the_commit_takes_the_row_away(db: Any) -> None:
    db.users.hook.on_add(refuse)
    with use_live_query(lambda: db.users.to_array()) as query:
        seen = Calls()
        query.subscribe(seen)
        with pytest.raises(HookError) as caught, db.users.start_transaction(optimistic=True) as tx:
            db.users.add({"name": "Ann"})
            seen.wait(2)
            tx.commit()
        assert isinstance(caught.value.__cause__, OSError)
        assert seen.wait(3) == [[], [{"name": "Ann", "id": 1}], []]
    assert db.users.to_array() == []
    assert db.outbox.entries() == []


def test_c094_hooks_run_inline_in_the_order_of_the_operations(db: Any) -> None:
    calls = Calls()
    for register in (db.users.hook.on_add, db.users.hook.on_update, db.users.hook.on_delete):
        register(calls, name="push")
    with db.users.start_transaction(optimistic=True) as tx:
        first = db.users.add({"name": "Ann"})
        second = db.users.add({"name": "Bob"})
        db.users.update(first, {"name": "Eve"})
        db.users.delete(second)
        assert calls.values == []
        told = [(each.op, each.key) for each in tx.operations]
        ids = [each.id for each in tx.operations]
        tx.commit()
    assert told == [("add", first), ("add", second), ("update", first), ("delete", second)]
    assert [(payload["op"], payload["key"]) for payload in calls.values] == told
    assert [payload["operation_id"] for payload in calls.values] == ids
    assert all(payload["optimistic"] for payload in calls.values)
    assert set(calls.threads) == {threading.current_thread()}
    assert db.users.to_array() == [{"name": "Eve", "id": first}]
    assert db.outbox.entries() == []  # who was told inline is not told again


def test_c094_the_error_tells_which_hooks_have_succeeded(db: Any) -> None:
    done: List[str] = []

    @db.users.hook.on_add
    def push(payload: Dict[str, Any]) -> None:
        if payload["item"]["name"] == "Eve":
            raise OSError("no network")
        done.append(payload["operation_id"])

    with pytest.raises(HookError) as caught, db.users.start_transaction(optimistic=True) as tx:
        db.users.bulk_add([{"name": "Ann"}, {"name": "Bob"}, {"name": "Eve"}])
        tx.commit()
    assert caught.value.completed == done
    assert len(done) == 2
    assert (caught.value.table, caught.value.op, caught.value.key) == ("users", "add", 3)


def test_c094_a_hook_of_another_process_gets_an_entry(db: Any, peer: Callable[[], Any]) -> None:
    other = peer()
    other.run(
        "import pathlib\nfrom selfdb.indexie import Indexie\ndb = Indexie(pathlib.Path(path)).open()\n"
        "db.outbox.pause()\ndb.users.hook.on_add(print, name='theirs')"
    )
    calls = Calls()
    db.users.hook.on_add(calls, name="mine")
    with db.users.start_transaction(optimistic=True) as tx:
        db.users.add({"name": "Ann"})
        tx.commit()
    (entry,) = db.outbox.entries()
    assert entry.hooks == ("theirs",)
    assert entry.optimistic
    assert entry.operation_id == calls.values[0]["operation_id"]
    other.run("db.close()")


def test_c094_what_a_hook_changes_in_an_item_holds_for_the_row(db: Any) -> None:
    @db.users.hook.on_add
    def number(payload: Dict[str, Any]) -> None:
        payload["item"]["srv"] = 7
        payload["item"]["name"] = "by the hook"

    with use_live_query(lambda: db.users.where("name").equals("Ann").to_array()) as query:
        with db.users.start_transaction(optimistic=True) as tx:
            key = db.users.add({"name": "Ann", "age": 1})
            db.users.update(key, {"age": 2})
            assert query.settle(10)
            assert len(query.value) == 1
            tx.commit()
        assert db.users.get(key) == {"name": "by the hook", "age": 2, "id": key, "srv": 7}
        assert query.settle(10)
        assert query.value == []


def test_c094_several_overlays_lie_in_the_order_of_their_beginning(db: Any) -> None:
    key = db.users.add({"name": "stored"})
    first = db.users.start_transaction(optimistic=True)
    second = db.users.start_transaction(optimistic=True)

    def begin(tx: Any) -> contextvars.Context:
        context = contextvars.Context()
        context.run(tx.__enter__)
        return context

    one, two = begin(first), begin(second)
    two.run(db.users.update, key, {"name": "second"})
    one.run(db.users.update, key, {"name": "first"})
    assert db.users.get(key)["name"] == "second"
    assert one.run(db.users.get, key)["name"] == "first"  # its own writes first of all
    assert two.run(db.users.get, key)["name"] == "second"
    two.run(second.rollback)
    assert db.users.get(key)["name"] == "first"
    one.run(first.rollback)
    assert db.users.get(key)["name"] == "stored"


# Case 95: standard, before the commit


def test_c095_the_second_update_sees_the_first_and_nobody_else_does(db: Any) -> None:
    key = db.users.add({"name": "Ann", "age": 1})
    with use_live_query(lambda: db.users.to_array()) as query:
        seen = Calls()
        query.subscribe(seen)
        seen.wait(1)
        with db.users.start_transaction(optimistic=False) as tx:
            db.users.update(key, lambda user: user.update(age=user["age"] + 1))
            db.users.update(key, lambda user: user.update(age=user["age"] * 10))
            assert db.users.get(key)["age"] == 20
            assert db.users.where("age").equals(20).count() == 1
            assert elsewhere(lambda: db.users.get(key)["age"]) == 1
            assert query.settle(10)
            assert len(seen.values) == 1
            tx.commit()
        assert seen.wait(2)[1] == [{"name": "Ann", "age": 20, "id": key}]
        assert query.settle(10)
        assert len(seen.values) == 2


def test_c095_hooks_are_told_through_the_outbox(db: Any) -> None:
    calls, background = Calls(), Calls()
    db.users.hook.on_add(calls, name="push")
    db.users.hook.on_add(background, durable=False)
    with db.users.start_transaction() as tx:
        db.users.add({"name": "Ann"})
        ids = [each.id for each in tx.operations]
        tx.commit()
    background.wait(1)
    assert db.outbox.flush(10)
    assert [payload["operation_id"] for payload in calls.values + background.values] == ids * 2


def test_c095_hooks_come_first_where_the_strategy_says_so(db: Any) -> None:
    db.users.strategy = Strategy.NETWORK_FIRST
    db.users.hook.on_add(refuse)
    told = Calls()
    db.logs.hook.on_add(told, name="push")
    with pytest.raises(HookError), db.start_transaction(["users", "logs"]) as tx:
        db.logs.add({"what": "one"})
        db.users.add({"name": "Ann"})
        tx.commit()
    assert db.users.count() == db.logs.count() == 0
    assert told.values == []
    db.users.hook.off(refuse)
    with db.start_transaction([db.users, "logs"]) as tx:
        db.logs.add({"what": "one"})
        db.users.add({"name": "Ann"})
        tx.commit()
    assert db.outbox.flush(10) is False  # the entry that lacks `refuse`, which this process has no more
    assert len(told.values) == 1


# Case 96: somebody else was faster


def change(db: Any, key: int) -> None:
    db.users.update(key, {"name": "Eve"})


def delete(db: Any, key: int) -> None:
    db.users.delete(key)


def replace(db: Any, key: int) -> None:
    db.users.delete(key)
    db.users.add({"id": key, "name": "Ann"})


@pytest.mark.parametrize("other", [change, delete, replace])
@pytest.mark.parametrize("mine", ["update", "delete"])
def test_c096_a_row_changed_elsewhere_is_a_conflict(db: Any, other: Callable[..., None], mine: str) -> None:
    key = db.users.add({"name": "Ann"})
    free = db.users.add({"name": "free"})
    with pytest.raises(WriteConflictError) as caught, db.users.start_transaction() as tx:
        db.users.update(free, {"name": "mine"})
        if mine == "update":
            db.users.update(key, {"age": 5})
        else:
            db.users.delete(key)
        elsewhere(lambda: other(db, key))
        expected = elsewhere(lambda: db.users.to_array())
        tx.commit()
    assert (caught.value.table, caught.value.keys) == ("users", [key])
    assert not caught.value.hooks_succeeded
    assert db.users.to_array() == expected
    assert db.users.get(free)["name"] == "free"


def test_c096_a_key_that_was_added_elsewhere_is_a_conflict(db: Any) -> None:
    with pytest.raises(WriteConflictError), db.bare.start_transaction() as tx:
        db.bare.add({"id": "a", "n": 1})
        elsewhere(lambda: db.bare.add({"id": "a", "n": 2}))
        tx.commit()
    assert db.bare.to_array() == [{"id": "a", "n": 2}]


def test_c096_a_change_by_another_process_is_one_too(db: Any, peer: Callable[[], Any]) -> None:
    key = db.users.add({"name": "Ann"})
    with pytest.raises(WriteConflictError), db.users.start_transaction(optimistic=True) as tx:
        db.users.update(key, {"age": 5})
        peer().run(
            "import pathlib\nfrom selfdb.indexie import Indexie\ndb = Indexie(pathlib.Path(path)).open()\n"
            "db.users.update(key, {'name': 'Eve'}); db.close()",
            key=key,
        )
        tx.commit()
    assert db.users.get(key) == {"name": "Eve", "id": key}


def test_c096_one_that_comes_while_the_hooks_run_says_so(db: Any) -> None:
    key = db.users.add({"name": "Ann"})

    @db.users.hook.on_update
    def slow(payload: Dict[str, Any]) -> None:
        elsewhere(lambda: db.users.update(key, {"name": "Eve"}, silent=True))

    with pytest.raises(WriteConflictError) as caught, db.users.start_transaction(optimistic=True) as tx:
        db.users.update(key, {"age": 5})
        tx.commit()
    assert caught.value.hooks_succeeded
    assert db.users.get(key) == {"name": "Eve", "id": key}


def test_c096_a_unique_key_taken_while_the_hooks_run_says_so(db: Any) -> None:
    @db.users.hook.on_add
    def slow(payload: Dict[str, Any]) -> None:
        elsewhere(lambda: db.users.add({"email": "a"}, silent=True))

    with pytest.raises(ConstraintError) as caught, db.users.start_transaction(optimistic=True) as tx:
        db.users.add({"email": "a"})
        tx.commit()
    assert caught.value.hooks_succeeded
    assert db.users.count() == 1


@pytest.mark.parametrize("other", [change, delete, replace])
@pytest.mark.parametrize("mine", ["update", "delete"])
def test_c096_overwrite_does_not_mind(db: Any, other: Callable[..., None], mine: str) -> None:
    key = db.users.add({"name": "Ann"})
    with db.users.start_transaction(conflict="overwrite") as tx:
        if mine == "update":
            db.users.update(key, {"age": 5})
        else:
            db.users.delete(key)
        elsewhere(lambda: other(db, key))
        tx.commit()
    assert db.users.get(key) == ({"name": "Ann", "id": key, "age": 5} if mine == "update" else None)


def test_c096_no_other_way_to_meet_a_conflict(db: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="overwrite"):
        db.users.start_transaction(conflict="rebase")


# Case 97: left without a commit


@pytest.mark.parametrize("optimistic", [True, False], ids=["optimistic", "standard"])
@pytest.mark.parametrize("how", ["end", "exception", "rollback", "interrupt"])
def test_c097_everything_is_as_before(db: Any, optimistic: bool, how: str) -> None:
    db.users.bulk_add([{"name": "a", "email": "a"}, {"name": "b", "email": "b"}])
    before = db.users.to_array()
    with use_live_query(lambda: db.users.to_array()) as query:
        seen = Calls()
        query.subscribe(seen)
        seen.wait(1)
        try:
            with db.users.start_transaction(optimistic=optimistic) as tx:
                db.users.add({"name": "c"})
                db.users.update(1, {"name": "A", "email": "b2"})
                db.users.delete(2)
                if optimistic:
                    seen.wait(2)
                if how == "rollback":
                    tx.rollback()
                    tx.rollback()
                elif how == "exception":
                    raise KeyError("mine")
                elif how == "interrupt":
                    raise KeyboardInterrupt
        except (KeyError, KeyboardInterrupt):
            assert how in ("exception", "interrupt")
        assert not tx.active
        assert db.users.to_array() == before
        assert query.settle(10)
        assert query.value == before
        if not optimistic:
            assert len(seen.values) == 1
    assert db._publisher.layers == ()
    db.users.add({"name": "d", "email": "b2"})


def test_c097_rollback_after_a_failed_commit_is_harmless(db: Any) -> None:
    db.users.hook.on_add(refuse)
    with db.users.start_transaction(optimistic=True) as tx:
        db.users.add({"name": "Ann"})
        with pytest.raises(HookError):
            tx.commit()
        tx.rollback()
    assert db.users.count() == 0


def test_c097_closing_the_database_rolls_back(db: Any, make_db: Callable[..., Any]) -> None:
    with db.users.start_transaction(optimistic=True) as tx:
        db.users.add({"name": "Ann"})
        db.close()
        assert not tx.active
        with pytest.raises((TransactionInactiveError, DatabaseClosedError)):
            tx.commit()
    assert make_db(STORES).open().users.count() == 0


# Case 98: keys, and the end


def test_c098_the_key_returned_is_the_key_stored(db: Any) -> None:
    with db.users.start_transaction(optimistic=True) as tx:
        key = db.users.add({"name": "Ann"})
        other = elsewhere(lambda: db.users.add({"name": "Bob"}))
        keys = db.users.bulk_add([{"name": str(number)} for number in range(20)], all_keys=True)
        assert len({key, other, *keys}) == 22
        tx.commit()
    assert db.users.get(key)["name"] == "Ann"
    assert [db.users.get(each)["name"] for each in keys] == [str(number) for number in range(20)]
    assert db.users.add({}) > max(keys)


def test_c098_explicit_keys_move_the_generator(db: Any) -> None:
    with db.users.start_transaction() as tx:
        db.users.add({"id": 100})
        assert db.users.add({}) == 101
        db.users.add({"id": 150.5})
        assert db.users.add({}) == 151
        tx.commit()
    assert db.users.add({}) > 151


def test_c098_the_last_key_of_an_undone_overlay_costs_nobody_anything(db: Any) -> None:
    with db.users.start_transaction():
        db.users.add({"id": 2**53})
        with pytest.raises(ConstraintError):
            db.users.add({})
    assert db.users.add({}) < 100


def test_c098_committing_twice(db: Any) -> None:
    with db.users.start_transaction() as tx:
        db.users.add({})
        tx.commit()
        with pytest.raises(TransactionInactiveError):
            tx.commit()
        with pytest.raises(TransactionInactiveError):
            tx.rollback()
        with pytest.raises(TransactionInactiveError):
            tx.table("users").add({})
    with pytest.raises(TransactionInactiveError), tx:
        pass
    assert db.users.count() == 1
