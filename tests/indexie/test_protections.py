"""What protects the file and its readers, each brought to the one moment at which nothing else would."""

from __future__ import annotations

import contextvars
import threading
import time
from typing import Any, Callable, Dict, List

import pytest

from selfdb.indexie.errors import BulkError, ConstraintError, IndexieTimeoutError, TransactionInactiveError
from selfdb.indexie.file.connections import Connections, _after_in_parent, _before_fork
from selfdb.indexie.file.lease import Lease
from selfdb.indexie.file.log import ChangeSet
from selfdb.indexie.hooks.outbox_tables import claim
from selfdb.indexie.keys.keys import decode, encode
from selfdb.indexie.live.live import use_live_query
from selfdb.indexie.timing import Timing

from .conftest import SCHEMA
from .kit import SOON, Calls, Counted

Make = Callable[..., Any]

OPEN = f"""
from selfdb.indexie import Indexie
db = Indexie(path, busy_timeout=0.2)
db.version(1).stores({SCHEMA!r})
db.open()
"""


def elsewhere(work: Callable[[], Any]) -> None:
    """Do it on a thread that is in nobody's transaction, and wait for its end."""
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(SOON)
    assert not thread.is_alive()


def entered(tx: Any) -> contextvars.Context:
    """A context that is in the transaction."""
    context = contextvars.Context()
    context.run(tx.__enter__)
    return context


# A write is there whole or not at all, and stays


def test_c044_rows_put_one_by_one_after_a_clash_meet_what_came_in_between(make_db: Make, monkeypatch: Any) -> None:
    db, other = make_db().open(), make_db().open()
    other.users.add({"id": 9, "email": "taken"})
    writer = db._connections._writer
    rollback = writer.rollback

    def and_another_commits() -> None:
        rollback()
        monkeypatch.undo()
        other.users.add({"id": 1, "name": "theirs"})

    monkeypatch.setattr(writer, "rollback", and_another_commits)
    with pytest.raises(BulkError) as caught:
        db.users.bulk_put([{"id": 1, "name": "ours"}, {"id": 2, "email": "taken"}], partial=True)
    assert list(caught.value.failures_by_pos) == [1]
    assert db.users.bulk_get([1, 2]) == [{"id": 1, "name": "ours"}, None]


def test_c069_the_lock_is_there_before_the_first_write(db: Any, peer: Callable[[], Any]) -> None:
    other = peer()
    other.run(OPEN)
    with db.transaction("rw", "users"):
        count = db.users.count()
        with pytest.raises(IndexieTimeoutError):
            other.run("db.users.add({})")
        db.users.add({"age": count})
    assert db.users.to_array() == [{"age": 0, "id": 1}]


@pytest.mark.parametrize(("durability", "level"), [("strict", 2), ("relaxed", 1)])
def test_i1_strict_commits_wait_for_the_disk(make_db: Make, durability: str, level: int) -> None:
    db = make_db(durability=durability).open()
    writer = db._connections._writer
    assert writer.one("PRAGMA synchronous") == (level,)
    assert writer.put_away_if_idle()  # as before a fork
    db.users.add({})
    assert writer.one("PRAGMA synchronous") == (level,)


def test_c074_what_was_torn_is_not_committed(db: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt that comes when a row is in its table and not yet in the log, and that somebody swallows."""

    def interrupted(*arguments: Any) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    with pytest.raises(TransactionInactiveError), db.transaction("rw", "users"):
        db.users.add({"name": "whole"})
        monkeypatch.setattr(ChangeSet, "record", interrupted)
        with pytest.raises(KeyboardInterrupt):
            db.users.add({"name": "torn"})
    assert db.users.to_array() == []
    assert db.users.add({}) == 1


def test_c010_an_upgrade_that_another_has_just_made_is_not_made_again(
    make_db: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_db({"users": "++id"}).open().close()
    upgraded: List[str] = []

    def newer(name: str) -> Any:
        database = make_db(None)
        database.version(2).stores({"users": "++id, age", "more": "id"}).upgrade(lambda tx: upgraded.append(name))
        return database

    first, second = newer("first"), newer("second")
    use_wal = Connections.use_wal

    def overtaken(self: Connections) -> None:
        """It has seen the old version, and has not begun to upgrade."""
        monkeypatch.undo()
        first.open()
        use_wal(self)

    monkeypatch.setattr(Connections, "use_wal", overtaken)
    second.open()
    assert upgraded == ["first"]
    assert second.verno == 2
    second.more.add({"id": 1})
    assert first.more.count() == 1


# No live query misses a change of its range


def test_c080_a_commit_right_after_the_first_snapshot(db: Any) -> None:
    """The feed has gone past it before the query has read anything."""
    other = use_live_query(lambda: db.users.get(99))
    take = db._snapshot

    def snapshot(*given: Any) -> Any:
        view = take(*given)
        del db._snapshot
        elsewhere(lambda: db.users.add({"name": "Ann"}))
        assert other.settle(SOON)
        return view

    db._snapshot = snapshot
    function = Counted(lambda: db.users.count())
    count = use_live_query(function)
    assert count.settle(SOON)
    assert (count.value, function.runs) == (1, 2)


def test_c080_a_commit_before_another_query_begins_the_feed(db: Any) -> None:
    """The feed begins with what the other one has read, which is newer than what this one has."""
    others: List[Any] = []

    def function() -> int:
        count = int(db.users.count())
        if not others:
            elsewhere(lambda: db.users.add({}))
            elsewhere(lambda: others.append(use_live_query(lambda: db.users.get(99))))
        return count

    query = use_live_query(function)
    assert query.settle(SOON)
    assert query.value == 1


def test_c080_a_commit_during_a_run_needs_no_poll(make_db: Make) -> None:
    db = make_db(timing=Timing(poll_interval=60.0)).open()
    held, go_on = threading.Event(), threading.Event()
    slow = False

    def function() -> int:
        count = db.users.count()
        if slow:
            held.set()
            assert go_on.wait(SOON)
        return int(count)

    query = use_live_query(function)
    slow = True
    db.users.add({})
    assert held.wait(SOON)
    db.users.add({})
    go_on.set()
    assert query.wait_until(lambda count: count == 2, SOON)


def test_c081_a_commit_while_a_fork_has_closed_the_connections(db: Any, peer: Callable[[], Any]) -> None:
    other = peer()
    other.run(OPEN)
    query = use_live_query(lambda: db.users.count())
    for count in range(1, 4):
        assert query.settle(SOON)
        _before_fork()
        try:
            other.run("db.users.add({})")
        finally:
            _after_in_parent()
        assert query.wait_until(count.__eq__, SOON)


def test_i2_a_row_that_an_overlay_moves_out_of_a_range_and_back(db: Any) -> None:
    db.users.add({"age": 60})
    query = use_live_query(lambda: db.users.where("age").above(50).count())
    with db.users.start_transaction(optimistic=True):
        db.users.update(1, {"age": 10})
        assert query.settle(SOON)
        assert query.value == 0
    assert query.settle(SOON)
    assert query.value == 1


def test_c076_more_rows_than_a_commit_tells_one_by_one(db: Any) -> None:
    query = use_live_query(lambda: db.users.get(300))
    with db.transaction("rw", "users"):
        for number in range(1, 301):
            db.users.put({"id": number})
    assert query.settle(SOON)
    assert query.value == {"id": 300}


def test_i2_a_row_of_two_overlays(db: Any) -> None:
    """What the lower one shows is seen again when the upper one goes."""
    db.users.add({"age": 5})
    lower = db.users.start_transaction(optimistic=True)
    upper = db.users.start_transaction(optimistic=True)
    below, above = entered(lower), entered(upper)
    below.run(db.users.update, 1, {"age": 60})
    above.run(db.users.update, 1, {"age": 10})
    query = use_live_query(lambda: db.users.where("age").above(50).count())
    assert query.value == 0
    above.run(upper.rollback)
    assert query.settle(SOON)
    assert query.value == 1
    below.run(lower.rollback)
    assert query.settle(SOON)
    assert query.value == 0


# A reader sees each row once


@pytest.fixture
def rows(make_db: Make) -> Any:
    db = make_db({"rows": "id, age"}).open()
    db.rows.bulk_add([{"id": number, "age": number} for number in range(6)])
    return db


@pytest.mark.parametrize("moment", ["commit", "removal"])
def test_i3_an_overlay_is_in_sight_until_its_rows_are_real(rows: Any, moment: str) -> None:
    """A read right before the commit, or right before the overlay goes, waits for both, or needs neither."""
    seen: List[Any] = []
    reader = threading.Thread(target=lambda: seen.append([row["id"] for row in rows.rows.to_array()]))

    def before(thing: Any, name: str) -> None:
        do = getattr(thing, name)

        def looked_at(*arguments: Any) -> Any:
            delattr(thing, name)
            reader.start()
            reader.join(0.3)
            return do(*arguments)

        setattr(thing, name, looked_at)

    with rows.rows.start_transaction(optimistic=True) as tx:
        rows.rows.add({"id": 6, "age": 6})
        if moment == "commit":
            before(rows._connections._writer, "commit")
        else:
            before(rows._publisher, "remove")
        tx.commit()
    reader.join(SOON)
    assert seen == [list(range(7))]


def test_i3_a_commit_in_the_middle_of_a_read_waits_for_it(rows: Any) -> None:
    """Between the snapshot of the file and the look at the overlays nothing becomes real."""
    tx = rows.rows.start_transaction(optimistic=True)
    context = entered(tx)
    context.run(rows.rows.add, {"id": 6, "age": 6})
    committing = threading.Thread(target=lambda: context.run(tx.commit))
    take = rows._base

    def base(*given: Any) -> Any:
        snapshot = take(*given)
        del rows._base
        committing.start()
        committing.join(0.3)  # it waits for this read, or it does not
        return snapshot

    rows._base = base
    assert rows.rows.to_collection().primary_keys() == list(range(7))
    committing.join(SOON)
    assert rows.rows.to_collection().primary_keys() == list(range(7))
    assert rows._publisher.layers == ()


def test_i3_a_read_that_an_overlay_overtakes_shows_it(rows: Any) -> None:
    """What it shows of the file is newer than the overlay; so it shows the overlay too."""
    connection = rows._connections.reader()
    lock = connection.lock
    tx = rows.rows.start_transaction(optimistic=True)

    class Door:
        """In the place of the lock that a reading statement takes."""

        def __enter__(self) -> None:
            connection.lock = lock
            context = entered(tx)
            context.run(rows.rows.add, {"id": 6, "age": 6})
            elsewhere(lambda: rows.rows.add({"id": 7, "age": 7}))
            lock.acquire()

        def __exit__(self, *error: Any) -> None:
            lock.release()

    connection.lock = Door()
    assert [row["id"] for row in rows.rows.to_array()] == list(range(8))


def test_i3_a_view_keeps_what_it_saw_of_an_overlay(rows: Any) -> None:
    tx = rows.rows.start_transaction(optimistic=True)
    context = entered(tx)
    context.run(rows.rows.add, {"id": 6, "age": 6})
    walk = iter(rows.rows.order_by("age"))
    seen = [next(walk)["id"]]
    view = rows._snapshot(Lease())
    context.run(rows.rows.add, {"id": 7, "age": 7})
    context.run(rows.rows.delete, 6)
    store = rows._store("rows")
    assert [view.get(store, key) is not None for key in (5, 6, 7)] == [True, True, False]
    view.close()
    seen += [row["id"] for row in walk]
    assert seen == list(range(7))
    context.run(tx.rollback)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "backward"])
def test_i3_a_cut_result_has_no_gap_where_an_overlay_lies(rows: Any, reverse: bool) -> None:
    tx = rows.rows.start_transaction(optimistic=True)
    context = entered(tx)
    for key in (0, 5):
        context.run(rows.rows.delete, key)
    for key, age in ((1, 1.5), (4, 3.5)):
        context.run(rows.rows.update, key, {"age": age})
    expected = [3.5, 3, 2, 1.5] if reverse else [1.5, 2, 3, 3.5]
    for limit in range(1, 5):
        query = rows.rows.order_by("age")
        found = (query.reverse() if reverse else query).limit(limit).to_array()
        assert [row["age"] for row in found] == expected[:limit]
    context.run(tx.rollback)


# No outbox entry ends before every hook that it requires has succeeded


def test_c089_who_comes_second_finds_nothing_to_take(db: Any) -> None:
    """Two that have seen the same entry to be due, one right after the other."""
    db.outbox.pause()
    db.users.hook.on_add(Calls(), name="push")
    db.users.add({})
    posts, now = db._hooks.posts(), time.time() + 1

    def taken(token: str, now: float) -> Any:
        with db.outbox._transaction() as connection:
            return claim(connection, posts, token, now, now + 60)

    stored, names = taken("first", now)
    assert (stored.attempts, names) == (1, ("push",))
    assert taken("second", now + 59) is None
    stored, names = taken("second", now + 61)
    assert (stored.attempts, stored.token, names) == (2, "second", ("push",))


def test_i4_retiring_one_hook_ends_nothing_that_others_require(db: Any) -> None:
    db.outbox.pause()
    kept = Calls()
    db.users.hook.on_add(Calls(), name="gone")
    db.users.hook.on_add(kept, name="kept")
    db.users.add({})
    assert db.outbox.retire("users", "gone") == 0
    (entry,) = db.outbox.entries()
    assert entry.hooks == ("kept",)
    db.outbox.resume()
    kept.wait(1)
    assert db.outbox.flush(SOON)


def test_c087_who_has_succeeded_is_not_told_again_when_a_later_one_fails(db: Any) -> None:
    db.outbox.pause()  # so that the first attempt is made with all of them
    told: List[str] = []

    def failing(payload: Dict[str, Any]) -> None:
        told.append("second")
        if payload["attempt"] < 3:
            raise db.outbox.Retry(after=0.0)

    db.users.hook.on_add(lambda payload: told.append("first"), name="first")
    db.users.hook.on_add(failing, name="second")
    db.users.hook.on_add(lambda payload: told.append("third"), name="third")
    db.users.add({})
    db.outbox.resume()
    assert db.outbox.flush(SOON)
    assert told == ["first", "second", "second", "second", "third"]


def test_i4_a_hook_of_another_process_is_required_from_then_on(db: Any, peer: Callable[[], Any]) -> None:
    db.outbox.pause()
    db.users.hook.on_add(Calls(), name="mine")
    db.users.add({})
    other = peer()
    other.run(OPEN + "db.outbox.pause(); db.users.hook.on_add(print, name='theirs')")
    db.users.add({})
    assert [entry.hooks for entry in db.outbox.entries()] == [("mine",), ("mine", "theirs")]
    other.run("db.close()")


def test_c088_a_hook_that_is_added_in_the_middle_of_a_look(db: Any, make_db: Make) -> None:
    """The outbox has taken down which hooks there are, and has not looked yet for what they have to do."""
    former = make_db().open()
    former.outbox.pause()
    former.users.hook.on_add(Calls(), name="push")
    former.users.add({"name": "Ann"})
    calls = Calls()
    store = db.outbox._delivery._store
    posts = store.posts

    def taken_down() -> Any:
        found = posts()
        store.posts = posts
        db.users.hook.on_add(calls, name="push")
        return found

    store.posts = taken_down
    db.users.hook.on_update(Calls(), name="push")  # with it the outbox begins to look
    (payload,) = calls.wait(1)
    assert payload["item"]["name"] == "Ann"
    assert db.outbox.flush(SOON)


def test_c088_a_pause_in_the_middle_of_a_look(db: Any) -> None:
    """The outbox has seen that it is not paused, and takes no entry any more all the same."""
    calls, looked = Calls(), Calls()
    delivery = db.outbox._delivery
    claim = delivery._claim

    def paused_first() -> None:
        db.outbox.pause()
        looked(claim())

    delivery._claim = paused_first
    db.users.hook.on_add(calls, name="push")
    db.users.add({"name": "Ann"})
    assert looked.wait(1) == [None]
    assert db.outbox.pending() == 1
    delivery._claim = claim
    db.outbox.resume()
    assert db.outbox.flush(SOON)
    assert len(calls.values) == 1


# What fails leaves everything as it was


@pytest.mark.parametrize("optimistic", [True, False], ids=["optimistic", "standard"])
@pytest.mark.parametrize("how", ["caught in a row", "raised"])
def test_i5_a_call_that_fails_leaves_an_overlay_as_it_was(db: Any, optimistic: bool, how: str) -> None:
    db.users.bulk_add([{"age": number, "email": str(number)} for number in range(4)])

    def change(user: Dict[str, Any]) -> None:
        if user["age"] == 2:
            raise ZeroDivisionError
        user["email"] += "x"

    with db.users.start_transaction(optimistic=optimistic) as tx:
        db.users.update(1, {"name": "kept"})
        before = db.users.to_array()
        with pytest.raises((ZeroDivisionError, ConstraintError)):
            if how == "raised":
                db.users.to_collection().modify(change)
            else:
                db.users.add({"age": 9, "email": "3"})
        assert db.users.to_array() == before
        assert [each.op for each in tx.operations] == ["update"]
        assert db.users.where("email").starts_with("").keys() == ["0", "1", "2", "3"]
        db.users.add({"email": "0x"})  # which nobody has
        tx.commit()
    assert [user.get("email") for user in db.users.to_array()] == ["0", "1", "2", "3", "0x"]
    assert db.users.get(1)["name"] == "kept"
    assert db.integrity_check() == []


def test_i5_hooks_are_not_told_of_what_was_undone(db: Any) -> None:
    db.outbox.pause()
    db.users.hook.on_add(Calls(), name="push")
    with db.transaction("rw", "users"):
        db.users.add({"name": "before"})
        with pytest.raises(LookupError), db.transaction("rw", "users"):
            db.users.add({"name": "undone"})
            raise LookupError
        db.users.add({"name": "after"})
    assert [entry.item["name"] for entry in db.outbox.entries()] == ["before", "after"]


# Keys and documents


def test_c020_large_integers_in_arrays_are_exact() -> None:
    keys = [[2**53 - 1], [2**53], [2**53 + 1], [2**53 + 2], [2**62 - 1], [2**62], [2**62 + 1], [2**63 - 1]]
    for sign in (1, -1):
        signed = [[sign * key] for (key,) in keys]
        encoded = [encode(key) for key in signed]
        assert encoded == sorted(encoded, reverse=sign < 0)
        assert len(set(encoded)) == len(keys)
        assert [decode(key) for key in encoded] == signed


def test_c030_a_generated_key_that_an_index_has_is_not_put_into_the_callers_dict(make_db: Make) -> None:
    db = make_db({"users": "++id, [name+id]"}).open()
    given = {"name": "Ann"}
    assert db.users.add(given) == 1
    assert given == {"name": "Ann"}
    assert db.users.where("[name+id]").equals(["Ann", 1]).primary_keys() == [1]


def test_c019_arrays_of_strings_with_zeros() -> None:
    keys = [["a"], ["a", "b"], ["a\0"], ["a\0", "b"], ["a\0b"], ["a\x01"], ["b"]]
    encoded = [encode(key) for key in keys]
    assert encoded == sorted(encoded)
    assert [decode(key) for key in encoded] == keys
