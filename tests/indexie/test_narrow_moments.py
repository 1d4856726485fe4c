"""Moments between two lines at which another thread, a signal, a fork or a close comes, each brought about."""

from __future__ import annotations

import contextvars
import os
import signal
import threading
from pathlib import Path
from typing import Any, Callable, List

import pytest

from selfdb.indexie import Indexie
from selfdb.indexie.errors import (
    DatabaseClosedError,
    StorageError,
    TransactionInactiveError,
    VersionChangeError,
)
from selfdb.indexie.file import connections as connections_module
from selfdb.indexie.file.connections import Connections
from selfdb.indexie.file.log import ChangeSet
from selfdb.indexie.file.writer import Writer
from selfdb.indexie.live.live import LiveQuery, use_live_query
from selfdb.indexie.timing import Timing

from .kit import SOON, Calls, wait_until

Make = Callable[..., Any]


def upgrade(make_db: Make) -> Any:
    """A handle of a program that has brought the file to version 2."""
    newer = make_db()
    newer.version(2).stores({"more": "id"})
    return newer.open()


def begun(work: Callable[[], Any]) -> threading.Thread:
    """Do it on another thread."""
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def entered(tx: Any) -> contextvars.Context:
    """A context that is in the transaction."""
    context = contextvars.Context()
    context.run(tx.__enter__)
    return context


class Door:
    """In the place of a lock: the first who comes to it from another thread than the maker's is heard of."""

    def __init__(self, lock: Any) -> None:
        self._lock = lock
        self._maker = threading.current_thread()
        self.reached = threading.Event()

    def __enter__(self) -> Any:
        if threading.current_thread() is not self._maker:
            self.reached.set()
        return self._lock.__enter__()

    def __exit__(self, *exception: Any) -> Any:
        return self._lock.__exit__(*exception)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lock, name)


# Another process's upgrade


@pytest.fixture
def upgraded(make_db: Make) -> Any:
    """Open, with no version declared, at a file that another handle has upgraded since."""
    make_db().open().close()
    db = make_db(None).open()
    upgrade(make_db).close()
    return db


def test_c011_who_opens_again_at_once_is_not_closed_by_what_closes_the_former_handle(
    upgraded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that gives way comes when the database is open anew."""
    waits, gone, told = threading.Event(), threading.Event(), Calls()
    give_way = upgraded._give_way
    former = upgraded._connections

    def later(*given: Any) -> None:
        waits.wait(SOON)
        give_way(*given)
        gone.set()

    monkeypatch.setattr(upgraded, "_give_way", later)
    upgraded.on_versionchange(told)
    with pytest.raises(VersionChangeError):
        upgraded.users.add({})
    upgraded.open()
    assert former.closed
    waits.set()
    assert gone.wait(SOON)
    assert upgraded.users.add({}) == 1
    assert upgraded.more.count() == 0
    assert told.wait(1) == [upgraded]


def test_c011_a_late_word_of_the_former_handle_does_not_close_the_new_one(upgraded: Any) -> None:
    former = upgraded._connections
    with pytest.raises(VersionChangeError):
        upgraded.users.add({})
    upgraded.open()
    former._stale()
    assert upgraded.is_open
    assert upgraded.users.add({}) == 1


def test_c011_two_threads_that_find_out_at_once_tell_of_it_once(upgraded: Any) -> None:
    told = Calls()
    upgraded.on_versionchange(told)
    stale = upgraded._connections._stale
    with upgraded._changing:
        threads = [begun(stale), begun(stale)]
    for thread in threads:
        thread.join(SOON)
    told.wait(1)
    wait_until(lambda: not any(each.name.endswith("versionchange") for each in threading.enumerate()))
    assert told.values == [upgraded]


def test_c011_the_outbox_delivers_nothing_of_a_file_that_was_upgraded(make_db: Make) -> None:
    told, changed = Calls(), Calls()
    db = make_db(timing=Timing(outbox_poll=0.01)).open()
    db.users.hook.on_add(told, name="push")
    db.on_versionchange(changed)
    upgrade(make_db).users.add({"name": "of version 2"})
    changed.wait(1)
    assert told.values == []
    assert db.is_open is False
    with pytest.raises(VersionChangeError):
        db.users.count()


def test_c011_a_close_beside_the_end_of_an_open_leaves_no_outbox(
    make_db: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes between the file's opening and the first look at the outbox."""
    db = make_db()
    opened = db._outbox.opened

    def closed_meanwhile() -> None:
        thread = begun(db.close)
        thread.join(SOON)
        opened()

    monkeypatch.setattr(db._outbox, "opened", closed_meanwhile)
    db.open()
    assert db._outbox._delivery is None
    assert db.users.hook.on_add(Calls(), name="push") is not None


# Forks and signals


def in_a_child(work: Callable[[], Any]) -> bool:
    """Whether a forked child comes to the end of ``work``."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)  # it must not wait for ever
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return bool(os.waitpid(child, 0)[1] == 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_c072_a_fork_while_another_thread_looks_up_the_hooks(db: Any) -> None:
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with db._hooks._lock:
            held.set()
            release.wait(SOON)

    thread = begun(hold)
    assert held.wait(SOON)
    try:
        assert in_a_child(lambda: (db.users.hook.on_add(print), db.users.add({"name": "child"})))
    finally:
        release.set()
        thread.join(SOON)
    assert [row["name"] for row in db.users.to_array()] == ["child"]


def test_c072_who_waits_for_a_fork_to_open_the_file_holds_up_no_commit(
    db: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fork waits for the transaction that runs: with its reader in the way that would never end in time."""
    assert all(each.put_away_if_idle() for each in db._connections._known)
    door = Door(connections_module._gate)
    monkeypatch.setattr(connections_module, "_gate", door)
    with db.transaction("rw", "users"), door:
        reader = begun(lambda: db.users.each(print))
        assert door.reached.wait(SOON)
        free = db._publisher.mutex.acquire(timeout=SOON)
        if free:
            db._publisher.mutex.release()
    reader.join(SOON)
    assert free


def test_c074_a_signal_handler_may_read_where_its_own_thread_begins_to(db: Any) -> None:
    counts: List[int] = []
    begin = db._base

    def interrupted(*given: Any) -> Any:
        del db._base
        counts.append(db.users.to_collection().filter(bool).count())  # as a handler would, on this thread
        return begin(*given)

    db._base = interrupted
    lock = db._publisher.mutex
    assert lock.acquire(blocking=False)
    assert lock.acquire(blocking=False), "this thread would wait for itself for ever"
    lock.release()
    lock.release()
    assert db.users.to_collection().filter(bool).count() == 0
    assert counts == [0]


# A write that is broken off


def test_c074_what_was_torn_stays_torn_when_an_inner_transaction_is_undone(
    db: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    with pytest.raises(TransactionInactiveError), db.transaction("rw", "users"):
        monkeypatch.setattr(ChangeSet, "record", interrupted)
        with pytest.raises(KeyboardInterrupt):
            db.users.add({"name": "torn"})
        with pytest.raises(LookupError), db.transaction("rw", "users"):
            raise LookupError
    assert db.users.to_array() == []


def test_c074_a_savepoint_that_cannot_be_undone_is_not_kept(db: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer(db, db._schema).begin()
    execute = writer.connection.execute

    def broken(sql: str, *arguments: Any) -> Any:
        if sql.startswith("ROLLBACK TO"):
            raise StorageError("the disk is gone")
        return execute(sql, *arguments)

    monkeypatch.setattr(writer.connection, "execute", broken)
    with pytest.raises(StorageError), writer.savepoint():
        raise LookupError
    with pytest.raises(TransactionInactiveError):
        writer.commit()
    monkeypatch.undo()
    assert db.users.add({}) == 1


def test_c074_an_interrupt_right_before_the_commit_gives_the_lock_back(
    db: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: Any) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    undone = Calls()
    with pytest.raises(KeyboardInterrupt), db.transaction("rw", "users") as tx:
        db.users.add({})
        tx.on_rollback(lambda: undone(1))
        monkeypatch.setattr(Writer, "commit", interrupted)
    assert undone.values == [1]
    assert not db._connections._turns.taken
    assert db.users.add({}) == 1


# Overlays


def test_c098_a_rollback_beside_a_commit_is_before_it_or_refused(db: Any) -> None:
    tx = db.start_transaction("users", optimistic=True)
    context = entered(tx)
    context.run(db.users.add, {"name": "Ann"})
    refused: List[BaseException] = []
    tx.lock = door = Door(tx.lock)

    def undo() -> None:
        try:
            tx.rollback()
        except TransactionInactiveError as error:
            refused.append(error)

    with door:
        thread = begun(undo)
        assert door.reached.wait(SOON)
        context.run(tx.commit)
    thread.join(SOON)
    assert len(refused) == 1
    assert "committed" in repr(tx)
    assert [row["name"] for row in db.users.to_array()] == ["Ann"]


def test_c098_the_end_of_the_block_beside_a_commit_undoes_nothing(db: Any) -> None:
    tx = db.start_transaction("users", optimistic=True)
    context = entered(tx)
    context.run(db.users.add, {"name": "Ann"})
    tx.lock = door = Door(tx.lock)
    with door:
        thread = begun(lambda: context.copy().run(tx.__exit__, None, None, None))
        assert door.reached.wait(SOON)
        tx.commit()
    thread.join(SOON)
    assert "committed" in repr(tx)


def test_c097_what_was_closed_during_its_commit_is_not_stored_in_what_was_opened_since(db: Any) -> None:
    db.users.hook.on_add(lambda payload: (db.close(), db.open()), name="push", durable=False)
    with db.start_transaction("users", optimistic=True) as tx:
        db.users.add({"name": "Ann"})
        with pytest.raises(DatabaseClosedError) as caught:
            tx.commit()
    assert caught.value.hooks_succeeded
    assert "rolled back" in repr(tx)
    assert db.users.to_array() == []


def test_c097_an_interrupt_while_what_was_covered_is_read_leaves_no_live_query_behind(db: Any) -> None:
    db.users.add({"name": "Ann"})
    names = use_live_query(lambda: [row["name"] for row in db.users.to_array()])
    tx = db.start_transaction("users", optimistic=True)
    context = entered(tx)
    context.run(db.users.update, 1, {"name": "Bea"})
    assert names.wait_until(lambda value: value == ["Bea"], SOON)
    base = db._base

    def interrupted(*given: Any) -> Any:
        db._base = base
        raise KeyboardInterrupt

    db._base = interrupted
    with pytest.raises(KeyboardInterrupt):
        tx.rollback()
    assert names.wait_until(lambda value: value == ["Ann"], SOON)


def test_i3_a_read_of_one_statement_shows_no_state_that_never_was(db: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It shows a commit, and so an overlay that was there before that, though it came when the read had begun."""
    tx = db.start_transaction("users", optimistic=True)
    fast = db._fast

    def overtaken() -> Any:
        monkeypatch.undo()
        found = fast()

        def others() -> None:
            entered(tx).run(db.users.add, {"id": 1, "name": "shown"})
            db.users.add({"id": 2, "name": "stored"})

        begun(others).join(SOON)
        return found

    monkeypatch.setattr(db, "_fast", overtaken)
    assert [row["id"] for row in db.users.to_array()] == [1, 2]


def test_c094_changes_of_overlays_that_are_told_in_another_order_are_all_taken_in(db: Any) -> None:
    """Who waits for the second one is not told before the first one, which was told later, is there too."""

    class Counting(Door):
        """Counts how often it was let go."""

        released = 0

        def __exit__(self, *exception: Any) -> Any:
            self.released += 1
            return super().__exit__(*exception)

    feed = db._feed
    names = use_live_query(lambda: [row["name"] for row in db.users.to_array()])
    assert names.settle(SOON)
    seen: List[int] = []
    lock = feed._lock = Counting(feed._lock)
    take_in = feed._take_in

    def looked(event: Any) -> None:
        seen.append(lock.released)
        take_in(event)

    feed._take_in = looked
    users = db._store("users")
    changes = ChangeSet()
    changes.record(users, 99, None, (None,) * len(users.indexes))
    with lock:
        feed.overlay_changed(changes, 2)
        feed.overlay_changed(changes, 1)
    assert names.settle(SOON)
    assert len(seen) == 2
    assert seen[0] == seen[1]
    assert feed._epoch == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("begin", ["transaction", "overlay"])
def test_c072_a_fork_while_another_thread_of_a_transaction_is_in_a_call(db: Any, begin: str) -> None:
    """The child has its context. It cannot use the transaction, and has no overlay; it must not wait for either."""
    held, release = threading.Event(), threading.Event()

    def in_child() -> None:
        if begin == "overlay":
            db.users.add({"name": "child"})
            return
        with pytest.raises(DatabaseClosedError):
            db.users.add({"name": "child"})

    def hold(scope: Any) -> None:
        with scope.lock:
            held.set()
            release.wait(SOON)

    with db.transaction("rw", "users") if begin == "transaction" else db.users.start_transaction() as tx:
        thread = begun(lambda: hold(tx))
        assert held.wait(SOON)
        try:
            assert in_a_child(in_child)
        finally:
            release.set()
            thread.join(SOON)
        db.users.add({"name": "parent"})
        if begin == "overlay":
            tx.commit()
    there = [row["name"] for row in db.users.to_array()]
    assert there == (["parent"] if begin == "transaction" else ["child", "parent"]), "a child has no overlay"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_c072_a_fork_within_a_function_that_is_called_for_each_row(db: Any) -> None:
    """The thread that forks is in the middle of a read, with the transaction's lock: in the child it goes on."""
    db.users.add({"name": "Ann"})
    ended: List[bool] = []

    def forks(row: Any) -> bool:
        if not ended:
            ended.append(in_a_child(lambda: db.users.start_transaction().rollback()))
        return True

    with db.transaction("rw", "users") as tx:
        with tx.lock:
            assert db.users.filter(forks).count() == 1
        assert db.users.count() == 1
    assert ended == [True]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_c072_a_fork_while_rows_are_read_ahead_for_an_event_loop(db: Any) -> None:
    rows = iter(db.users.to_collection())
    with rows._reading:
        assert in_a_child(rows._read_ahead)


@pytest.mark.skipif(os.name == "nt", reason="an open file cannot be deleted there")
@pytest.mark.parametrize("moment", ["when the file goes", "when it is gone"])
def test_a_database_that_is_made_where_one_is_just_deleted_stays(
    make_db: Make, path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    made: List[Any] = []

    def make_another() -> None:
        monkeypatch.undo()
        made.append(make_db())
        made[0].users.add({"name": "Ann"})

    unlink, close = Path.unlink, Connections.close

    def unlink_and_make(self: Path, missing_ok: bool = False) -> None:
        unlink(self, missing_ok)
        if self == path:
            make_another()

    def close_and_make(self: Connections) -> None:
        close(self)
        make_another()

    make_db().open().close()
    if moment == "when the file goes":
        monkeypatch.setattr(Path, "unlink", unlink_and_make)
    else:
        monkeypatch.setattr(Connections, "close", close_and_make)
    assert Indexie.delete_database(path)
    assert [row["name"] for row in made[0].users.to_array()] == ["Ann"]
    assert [row["name"] for row in make_db().users.to_array()] == ["Ann"]
    assert made[0].integrity_check() == []


def test_c072_a_fork_while_another_thread_makes_a_connection(db: Any) -> None:
    """What it takes down is not changed under it, which would leave the file open in the child."""
    connections = db._connections
    db.users.add({})
    with connections._lock:
        forking = begun(lambda: (connections._prepare_fork(), connections._after_fork()))
        forking.join(0.1)
        assert forking.is_alive()
    forking.join(SOON)
    assert db.users.count() == 1


def test_c085_a_close_that_comes_before_the_feed_knows_of_the_query_leaves_nothing_behind(db: Any) -> None:
    query: LiveQuery[Any] = LiveQuery(lambda: db.users.count())
    watch = query._watch
    begin = watch._begin

    def begin_too_late(database: Any) -> None:
        query.close()
        begin(database)

    watch._begin = begin_too_late  # type: ignore[method-assign]
    with pytest.raises(DatabaseClosedError):
        query.ready()
    assert not db._feed.listening
