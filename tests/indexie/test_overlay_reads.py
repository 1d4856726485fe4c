"""What is read and written in an overlay, and where it holds."""

from __future__ import annotations

import contextvars
import threading
from typing import Any, Callable, Dict, List

import pytest

from selfdb.indexie.errors import (
    BulkError,
    ConstraintError,
    IndexieTimeoutError,
    InvalidArgumentError,
    InvalidTableError,
    NotInScopeError,
    ReadOnlyError,
    SubTransactionError,
    TransactionInactiveError,
    WriteConflictError,
)
from selfdb.indexie.file.lease import Lease
from selfdb.indexie.keys.ranges import EVERYTHING
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


# What the merge shows


@pytest.fixture
def shown(db: Any) -> Any:
    """A database with an overlay that adds, changes, moves and deletes rows; and the same rows without an overlay."""
    rows = [
        {"name": f"n{number % 5}", "age": number, "tags": [f"t{number % 3}", f"t{number % 2}"]} for number in range(20)
    ]
    db.users.bulk_add(rows)
    tx = db.users.start_transaction(optimistic=True)
    context = contextvars.Context()
    context.run(tx.__enter__)
    context.run(change_rows, db.users)
    yield db
    context.run(tx.rollback)


def change_rows(users: Any) -> None:
    users.delete(3)
    users.update(5, {"age": 100, "tags": ["t9"]})
    users.update(6, {"name": "n0"})
    users.add({"name": "n2", "age": 7.5, "tags": ["t1", "t9"]})
    users.put({"id": 1, "age": -1})
    users.add({"id": -4, "name": "n4"})


READS: Dict[str, Callable[[Any], Any]] = {
    "all": lambda users: users.to_array(),
    "count": lambda users: users.count(),
    "index": lambda users: users.where("age").between(4, 9).to_array(),
    "reverse": lambda users: users.order_by("age").reverse().to_array(),
    "page": lambda users: users.order_by("name").offset(3).limit(7).to_array(),
    "page from the end": lambda users: users.order_by("age").reverse().offset(2).limit(3).to_array(),
    "multi-entry": lambda users: users.where("tags").any_of("t1", "t9").to_array(),
    "distinct": lambda users: users.where("tags").any_of("t1", "t9").distinct().to_array(),
    "multi-entry count": lambda users: users.where("tags").any_of("t1", "t9").count(),
    "index count": lambda users: users.where("name").starts_with("n").count(),
    "key count": lambda users: users.where("id").between(2, 7).count(),
    "first": lambda users: users.order_by("age").first(),
    "last": lambda users: users.order_by("age").last(),
    "keys": lambda users: users.order_by("name").keys(),
    "primary keys": lambda users: users.to_collection().primary_keys(),
    "or": lambda users: users.where("name").equals("n0").or_("age").above(15).to_array(),
    "bulk_get": lambda users: users.bulk_get([1, 3, 5, 6, 7, 21, -4, 99]),
    "get": lambda users: [users.get(key) for key in (1, 3, 5, 21, -4)],
    "iteration": lambda users: list(users.order_by("age")),
    "any_of many": lambda users: users.where("age").any_of(list(range(-5, 120))).primary_keys(),
    "none_of": lambda users: users.where("age").none_of([1, 2, 100]).primary_keys(),
}


@pytest.mark.parametrize("read", sorted(READS))
def test_an_overlay_reads_as_if_it_were_stored(
    shown: Any, make_db: Callable[..., Any], tmp_path: Any, read: str
) -> None:
    plain = make_db(STORES, file=tmp_path / "plain.indexie.db").open()
    plain.users.bulk_add(
        [
            {"name": f"n{number % 5}", "age": number, "tags": [f"t{number % 3}", f"t{number % 2}"]}
            for number in range(20)
        ]
    )
    change_rows(plain.users)
    assert READS[read](shown.users) == READS[read](plain.users)


def test_an_iterator_keeps_to_what_was_when_it_began(db: Any) -> None:
    db.users.bulk_add([{"name": str(number)} for number in range(10)])
    with db.users.start_transaction(optimistic=True) as tx:
        db.users.update(1, {"name": "changed"})
        rows = iter(db.users.to_collection())
        first = next(rows)
        db.users.delete(5)
        db.users.update(7, {"name": "later"})
        tx.commit()
        rest = list(rows)
    assert [row["name"] for row in [first, *rest]] == ["changed", *map(str, range(1, 10))]


# What a write finds


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "in the overlay"])
def test_a_clash_is_found_when_it_is_written(db: Any, stored: bool) -> None:
    if stored:
        db.users.add({"email": "a"})
    with db.users.start_transaction() as tx:
        if not stored:
            db.users.add({"email": "a"})
        with pytest.raises(ConstraintError) as caught:
            db.users.add({"email": "a"})
        assert (caught.value.index, caught.value.value, caught.value.table) == ("email", "a", "users")
        with pytest.raises(ConstraintError) as caught:
            db.users.add({"id": 1})
        assert (caught.value.index, caught.value.value) == (":id", 1)
        db.users.update(1, {"email": "b"})
        db.users.add({"email": "a"})
        tx.commit()
    assert sorted(user["email"] for user in db.users.to_array()) == ["a", "b"]


def test_rows_may_change_places_in_a_unique_index(db: Any) -> None:
    one, two = db.users.bulk_add([{"email": "a"}, {"email": "b"}], all_keys=True)
    with db.users.start_transaction() as tx:
        db.users.update(one, {"email": "c"})
        db.users.update(two, {"email": "a"})
        db.users.update(one, {"email": "b"})
        tx.commit()
    assert [db.users.where("email").equals(email).primary_keys() for email in "abc"] == [[two], [one], []]
    assert db.integrity_check() == []


def test_a_failing_bulk_call_leaves_its_good_rows_if_it_is_caught(db: Any) -> None:
    db.users.add({"email": "a"})
    with db.users.start_transaction() as tx:
        with pytest.raises(BulkError) as caught:
            db.users.bulk_add([{"email": "b"}, {"email": "a"}, {"email": "c"}])
        assert list(caught.value.failures_by_pos) == [1]
        tx.commit()
    assert [user["email"] for user in db.users.to_array()] == ["a", "b", "c"]


def test_a_call_that_raises_in_the_middle_leaves_the_overlay_as_it_was(db: Any) -> None:
    db.users.bulk_add([{"age": number, "email": str(number)} for number in range(5)])

    def third(user: Dict[str, Any]) -> None:
        if user["age"] == 3:
            raise ZeroDivisionError
        user["email"] += "x"

    with db.users.start_transaction() as tx:
        db.users.update(1, {"name": "kept"})
        with pytest.raises(ZeroDivisionError):
            db.users.where("age").above(0).modify(third)
        assert [user["email"] for user in db.users.to_array()] == ["0", "1", "2", "3", "4"]
        assert [each.op for each in tx.operations] == ["update"]
        db.users.add({"email": "1x"})
        tx.commit()
    assert db.users.get(1)["name"] == "kept"


def test_clear_deletes_what_there_is_and_tells_once(db: Any) -> None:
    calls = Calls()
    db.users.hook.on_delete(calls, name="push")
    db.users.bulk_add([{"email": str(number)} for number in range(700)])
    with db.users.start_transaction(optimistic=True) as tx:
        db.users.add({"email": "new"})
        assert db.users.clear() == 701
        assert db.users.count() == 0
        assert elsewhere(db.users.count) == 0
        db.users.add({"email": "5"})
        tx.commit()
    assert [user["email"] for user in db.users.to_array()] == ["5"]
    (payload,) = calls.values
    assert (payload["all"], payload["key"]) == (True, None)


def test_values_out_of_line(db: Any) -> None:
    with db.notes.start_transaction(optimistic=True) as tx:
        db.notes.add("a text", key="k")
        db.notes.put([1, 2], key=5)
        tx.commit()
    assert db.notes.get("k") == "a text"
    assert db.notes.get(5) == [1, 2]


def test_silent_writes_are_no_operations(db: Any) -> None:
    db.users.hook.on_add(refuse)
    with db.users.start_transaction(optimistic=True) as tx:
        db.users.add({"name": "Ann"}, silent=True)
        assert tx.operations == []
        tx.commit()
    assert db.users.count() == 1


def test_what_comes_to_nothing_stores_nothing(db: Any) -> None:
    with db.users.start_transaction() as tx:
        db.users.delete(db.users.add({"name": "Ann"}))
        tx.commit()
    assert db.users.count() == 0
    with db.users.start_transaction() as tx:
        tx.commit()


# Where it holds


def test_other_tables_are_written_as_ever(db: Any) -> None:
    with db.users.start_transaction():
        db.users.add({"name": "Ann"})
        db.logs.add({"what": "kept"})
        assert elsewhere(db.logs.count) == 1
    assert db.logs.count() == 1
    assert db.users.count() == 0


def test_other_contexts_are_outside(db: Any) -> None:
    with db.users.start_transaction():
        key = elsewhere(lambda: db.users.add({"name": "Bob"}))
        inherited = contextvars.copy_context()
        inherited.run(db.users.add, {"name": "with it"})
    assert [user["id"] for user in db.users.to_array()] == [key]


def test_its_own_tables_reach_it_from_anywhere(db: Any) -> None:
    with db.users.start_transaction() as tx:
        users = tx.table("users")
        key = elsewhere(lambda: users.add({"name": "Ann", "age": 5}))
        assert elsewhere(lambda: users.where("age").equals(5).to_array()) == [{"name": "Ann", "age": 5, "id": key}]
        assert elsewhere(lambda: list(users.to_collection())) == elsewhere(users.to_array)
        assert elsewhere(lambda: users.get(key))["name"] == "Ann"
        assert elsewhere(lambda: db.users.get(key)) is None
        assert db.users.get(key)["name"] == "Ann"
        with pytest.raises(NotInScopeError):
            tx.table("logs")
        tx.commit()
    assert db.users.count() == 1
    with pytest.raises(TransactionInactiveError):
        users.count()


def test_nesting_on_the_same_table_is_refused(db: Any) -> None:
    with db.users.start_transaction() as tx:
        with pytest.raises(SubTransactionError), db.start_transaction(["logs", "users"]):
            pass
        with db.logs.start_transaction() as inner:
            db.logs.add({"what": "inner"})
            db.users.add({"name": "outer"})
            inner.commit()
        tx.commit()
    assert (db.users.count(), db.logs.count()) == (1, 1)


def test_a_transaction_of_the_file_and_an_overlay_do_not_mix(db: Any) -> None:
    with db.users.start_transaction():
        with pytest.raises(SubTransactionError):
            db.transaction("rw", "users", lambda: None)
        db.transaction("rw", "logs", lambda: db.logs.add({}))
        db.users.add({"name": "Ann"})
        with db.transaction("r", "users"):
            assert db.users.count() == 1
        with db.transaction("r", ["users", "logs"]):
            assert (db.users.count(), db.logs.count()) == (1, 1)

    def inside() -> None:
        with pytest.raises(SubTransactionError), db.users.start_transaction():
            pass

    db.transaction("rw", "users", inside)


def test_it_does_not_wait_for_a_lock_that_its_own_context_holds(db: Any) -> None:
    with db.users.start_transaction() as tx:
        key = db.users.add({"name": "Ann"})
        with db.transaction("rw", "logs"):
            for call in (tx.commit, lambda: tx.table("users").add({})):
                with pytest.raises(SubTransactionError, match="lock"):
                    call()
            db.logs.add({"what": "kept"})
        tx.commit()
    assert (db.users.to_array(), db.logs.count()) == ([{"name": "Ann", "id": key}], 1)


def test_a_live_query_begins_none(db: Any) -> None:
    def function() -> None:
        with db.users.start_transaction():
            pass

    with pytest.raises(ReadOnlyError):
        use_live_query(function)


@pytest.mark.parametrize("tables", [[], "nosuch", ["users", "nosuch"]], ids=["none", "unknown", "one unknown"])
def test_its_tables_have_to_be_there(db: Any, tables: Any) -> None:
    with pytest.raises((InvalidArgumentError, InvalidTableError)):
        db.start_transaction(tables)


def test_a_write_within_a_write_is_refused(db: Any) -> None:
    key = db.users.add({"age": 1})
    with db.users.start_transaction() as tx:
        with pytest.raises(SubTransactionError):
            db.users.update(key, lambda user: db.users.add({}))
        db.users.update(key, {"age": 2})
        tx.commit()
    assert db.users.to_array() == [{"age": 2, "id": key}]


def test_hooks_of_a_commit_write_past_it(db: Any) -> None:
    @db.users.hook.on_add
    def note(payload: Dict[str, Any]) -> None:
        db.logs.add({"what": payload["item"]["name"]})

    with db.start_transaction(["users", "logs"], optimistic=True) as tx:
        db.users.add({"name": "Ann"})
        tx.commit()
    assert [each["what"] for each in db.logs.to_array()] == ["Ann"]


def test_a_commit_that_cannot_have_the_lock_leaves_everything(make_db: Callable[..., Any]) -> None:
    db = make_db(STORES, timing=QUICK, busy_timeout=0.05).open()
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        def work() -> None:
            db.users.add({"name": "other"})
            held.set()
            assert release.wait(20)

        db.transaction("rw", "users", work)

    thread = threading.Thread(target=hold)
    with db.users.start_transaction() as tx:
        db.users.put({"id": 77, "name": "Ann"})
        thread.start()
        assert held.wait(10)
        with pytest.raises(IndexieTimeoutError):
            tx.commit()
        release.set()
        thread.join()
    assert [user["name"] for user in db.users.to_array()] == ["other"]


def test_a_forked_child_has_no_overlay(db: Any) -> None:
    import os

    with db.users.start_transaction(optimistic=True) as tx:
        key = db.users.add({"name": "Ann"})
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if db.users.to_array() == [] and not tx.active else 2
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert db.users.get(key)["name"] == "Ann"
        tx.commit()
    assert db.users.count() == 1


# What once could have gone unnoticed


def test_c096_a_row_counts_from_its_first_change_on(db: Any) -> None:
    key = db.users.add({"name": "Ann"})
    with pytest.raises(WriteConflictError), db.users.start_transaction() as tx:
        db.users.update(key, {"age": 1})
        elsewhere(lambda: db.users.update(key, {"name": "Eve"}))
        db.users.update(key, {"age": 2})
        tx.commit()
    assert db.users.get(key) == {"name": "Eve", "id": key}


def test_a_call_that_was_undone_has_not_changed_its_rows_first(db: Any) -> None:
    key = db.users.add({"name": "Ann", "email": "a"})
    other = db.users.add({"name": "Bob", "email": "b"})

    def second(user: Dict[str, Any]) -> None:
        if user["id"] == other:
            raise ZeroDivisionError
        user["email"] = "c"

    with db.users.start_transaction() as tx:
        with pytest.raises(ZeroDivisionError):
            db.users.to_collection().modify(second)
        elsewhere(lambda: db.users.update(key, {"name": "Eve"}))
        db.users.update(key, {"age": 2})
        db.users.update(other, {"email": "c"})  # which nobody has
        tx.commit()
    assert db.users.get(key) == {"name": "Eve", "email": "a", "age": 2, "id": key}
    assert db.users.get(other)["email"] == "c"


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "in the overlay"])
def test_a_clash_of_a_change_is_found_when_it_is_written(db: Any, stored: bool) -> None:
    key = db.users.add({"email": "mine"})
    if stored:
        db.users.add({"email": "theirs"})
    with db.users.start_transaction():
        if not stored:
            db.users.add({"email": "theirs"})
        with pytest.raises(ConstraintError):
            db.users.update(key, {"email": "theirs"})
        assert db.users.get(key)["email"] == "mine"


def test_a_view_keeps_to_what_was_when_it_began(db: Any) -> None:
    key = db.users.add({"name": "Ann"})
    with db.users.start_transaction(optimistic=True):
        db.users.update(key, {"name": "first"})
        view = elsewhere(lambda: db._snapshot(Lease()))
        db.users.update(key, {"name": "second"})
        db.users.add({"name": "new"})
        store = db._store("users")
        assert '"first"' in view.get(store, key).text
        assert view.count(store, None, [EVERYTHING]) == 1
        view.close()
        assert elsewhere(lambda: db.users.get(key))["name"] == "second"


def test_c094_a_live_query_sees_what_another_overlay_uncovers(db: Any) -> None:
    key = db.users.add({"age": 1})
    first, second = db.users.start_transaction(optimistic=True), db.users.start_transaction(optimistic=True)
    one, two = contextvars.Context(), contextvars.Context()
    one.run(first.__enter__)
    two.run(second.__enter__)
    one.run(db.users.update, key, {"age": 50})
    with use_live_query(lambda: db.users.where("age").above(40).count()) as query:
        assert query.value == 1
        two.run(db.users.update, key, {"age": 2})
        assert query.settle(10)
        assert query.value == 0
        two.run(second.rollback)
        assert query.settle(10)
        assert query.value == 1
        one.run(first.rollback)
        assert query.settle(10)
        assert query.value == 0
