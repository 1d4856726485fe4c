"""Entries of the outbox: how they end otherwise, what can be done about them, and what waits for them."""

from __future__ import annotations

import copy
import pickle
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from selfdb.exceptions import SelfDBError
from selfdb.indexie.errors import HookError, InvalidArgumentError, InvalidStateError
from selfdb.indexie.hooks import outbox_tables
from selfdb.indexie.hooks.delivery import Delivery
from selfdb.indexie.hooks.outbox import Outbox
from selfdb.indexie.timing import Timing

from .kit import SOON, Calls, Hands, wait_until

QUICK = Timing(outbox_poll=0.01, retry_first=0.01, lease=5.0, lease_renewal=1.0)


@pytest.fixture
def db(make_db: Callable[..., Any]) -> Any:
    return make_db(timing=QUICK).open()


@pytest.fixture
def again(db: Any, make_db: Callable[..., Any]) -> Callable[[], Any]:
    """Another object on the same file, as another run of the program would have it: it has no hooks."""
    return lambda: make_db(timing=QUICK).open()


class Failing:
    """A hook that raises for some operations until it is told not to."""

    def __init__(self, *keys: Any) -> None:
        self.keys = set(keys)
        self.calls: List[Any] = []
        self._changed = threading.Condition()

    def __call__(self, payload: Dict[str, Any]) -> None:
        with self._changed:
            self.calls.append((payload["op"], payload["key"]))
            self._changed.notify_all()
            if payload["key"] in self.keys:
                raise OSError("no network")

    def wait(self, true: Callable[[List[Any]], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: true(self.calls), 10), self.calls


# How an entry ends otherwise


def test_a_hook_says_when_to_try_again(db: Any) -> None:
    moments: List[float] = []
    calls = Calls()

    def push(payload: Dict[str, Any]) -> None:
        moments.append(time.monotonic())
        calls(payload["attempt"])
        if payload["attempt"] == 1:
            raise db.outbox.Retry(after=0.3)

    db.users.hook.on_add(push)
    db.users.add({})
    calls.wait(2)
    assert moments[1] - moments[0] >= 0.29
    assert db.outbox.flush(10)


@pytest.mark.parametrize("bad", [-1, float("inf"), float("nan"), 1e12, 10**400, "soon", True])
def test_a_wait_is_a_number_of_seconds(bad: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        Outbox.Retry(after=bad)


class Ends:
    """Chance that is always at one of its ends."""

    def __init__(self, highest: bool) -> None:
        self._highest = highest

    def uniform(self, low: float, high: float) -> float:
        return high if self._highest else low


def test_c087_the_pause_is_anything_up_to_a_bound_that_doubles(db: Any) -> None:
    delivery = Delivery(db.outbox._delivery._store, Timing())
    delivery._random = Ends(highest=True)  # type: ignore[assignment]
    assert [delivery._delay(attempts) for attempts in (1, 2, 3, 9, 10, 11, 10**6)] == [1, 2, 4, 256, 300, 300, 300]
    delivery._random = Ends(highest=False)  # type: ignore[assignment]
    assert [delivery._delay(attempts) for attempts in (1, 10**6)] == [0, 0]


def test_c087_a_failure_puts_the_entry_off_by_that_pause(make_db: Callable[..., Any]) -> None:
    db = make_db(timing=Timing(outbox_poll=0.01, retry_first=600.0, retry_limit=1000.0)).open()
    db.outbox._delivery._random = Ends(highest=True)
    failing = Failing(1)
    db.users.hook.on_add(failing, name="push")
    db.users.add({})
    wait_until(lambda: db.outbox.entries()[0].last_error)
    (entry,) = db.outbox.entries()
    pause = (entry.next_at - entry.created_at).total_seconds()
    assert 600 <= pause < 660
    assert (entry.attempts, entry.state, db.outbox.max_attempts) == (1, "ready", None)
    assert db.outbox.flush(0.05) is False
    assert len(failing.calls) == 1


def test_the_longest_wait_still_has_a_date(db: Any) -> None:
    def push(payload: Dict[str, Any]) -> None:
        raise db.outbox.Retry(after=1e9)

    db.users.hook.on_add(push)
    db.users.add({})
    wait_until(lambda: db.outbox.entries()[0].last_error)
    (entry,) = db.outbox.entries()
    assert 1e9 <= (entry.next_at - entry.created_at).total_seconds() < 1e9 + 60


def test_a_dropped_entry_is_dead_reported_once_and_holds_up_nothing(db: Any) -> None:
    calls, dead, after = Calls(), Calls(), Calls()

    def push(payload: Dict[str, Any]) -> None:
        calls(payload)
        if payload["op"] == "add":
            raise Outbox.Drop("not wanted")

    db.outbox.on_dead(dead)
    db.users.hook.on_add(push, name="push")
    db.users.hook.on_update(push, name="push")
    db.users.hook.on_update(after, name="after")
    db.users.add({"name": "Ann"})
    db.users.update(1, {"name": "Bob"})
    assert after.wait(1)
    (entry,) = dead.wait(1)
    assert (entry.state, entry.last_error, entry.hooks) == ("dead", "not wanted", ("push",))
    assert db.outbox.flush(10) is True
    assert db.outbox.pending() == 0
    assert [each.id for each in db.outbox.entries("dead")] == [entry.id]
    db.users.add({"name": "Eve"})
    dead.wait(2)
    assert [each.key for each in dead.values] == [1, 2]


def test_max_attempts_makes_an_entry_dead(db: Any) -> None:
    db.outbox.max_attempts = 3
    dead, failing = Calls(), Failing(1)
    db.outbox.on_dead(dead)
    db.users.hook.on_add(failing, name="push")
    db.users.add({})
    (entry,) = dead.wait(1)
    assert len(failing.calls) == entry.attempts == 3
    assert entry.last_error == "push: OSError: no network"


def test_a_dead_entry_can_be_tried_anew(db: Any) -> None:
    db.outbox.max_attempts = 1
    failing = Failing(1)
    db.users.hook.on_add(failing, name="push")
    db.users.add({})
    wait_until(lambda: db.outbox.entries("dead"))
    failing.keys.clear()
    (entry,) = db.outbox.entries("dead")
    assert db.outbox.retry(entry.id)
    assert db.outbox.flush(10)
    assert db.outbox.entries() == []
    assert len(failing.calls) == 2
    assert not db.outbox.retry(entry.id)


def test_an_entry_that_waits_can_be_tried_at_once(db: Any) -> None:
    calls = Calls()

    def push(payload: Dict[str, Any]) -> None:
        calls(payload)
        if payload["attempt"] == 1:
            raise Outbox.Retry(after=600)

    db.users.hook.on_add(push)
    db.users.add({})
    wait_until(lambda: db.outbox.entries()[0].last_error)
    assert db.outbox.flush(0.05) is False
    assert db.outbox.retry(db.outbox.entries()[0].id)
    assert db.outbox.flush(10)
    assert len(calls.values) == 2


def test_drop_ends_an_entry_for_good(db: Any) -> None:
    db.outbox.pause()
    calls = Calls()
    db.users.hook.on_add(calls, name="push")
    db.users.add({})
    db.users.add({})
    first = db.outbox.entries()[0].id
    assert db.outbox.drop(first)
    assert not db.outbox.drop(first)
    db.outbox.resume()
    assert db.outbox.flush(10)
    assert [payload["key"] for payload in calls.values] == [2]


def test_a_dead_entry_is_reported_by_the_run_that_asks_for_it(db: Any, again: Callable[[], Any]) -> None:
    db.outbox.max_attempts = 1
    failing = Failing(1)
    db.users.hook.on_add(failing, name="push")
    db.users.add({})
    wait_until(lambda: db.outbox.entries("dead"))
    db.close()
    other, dead = again(), Calls()
    off = other.outbox.on_dead(dead)
    dead.wait(1)
    off()
    assert len(dead.values) == 1


def test_retire_ends_what_nobody_delivers_any_more(db: Any, again: Callable[[], Any]) -> None:
    db.outbox.pause()
    db.users.hook.on_add(Calls(), name="gone")
    db.users.hook.on_add(Calls(), name="kept")
    db.users.add({})
    db.users.add({})
    db.close()
    other = again()
    assert other.outbox.retire("users", "gone") == 0  # both lack another one still
    kept = Calls()
    other.users.hook.on_add(kept, name="kept")
    other.users.add({})
    assert other.outbox.flush(10)
    assert [payload["key"] for payload in kept.values] == [1, 2, 3]


def test_retire_of_a_table_retires_all_its_hooks(db: Any) -> None:
    db.outbox.pause()
    calls = Calls()
    db.users.hook.on_add(calls, name="a")
    db.users.hook.on_delete(calls, name="b")
    db.users.add({})
    assert db.outbox.retire(db.users) == 1
    db.users.add({})
    db.users.delete(1)
    assert db.outbox.entries() == []
    db.users.hook.on_add(calls, name="a")  # registered again, it counts again
    db.users.add({})
    assert db.outbox.pending("users") == 1


def test_a_hook_retired_elsewhere_is_required_no_more(db: Any, again: Callable[[], Any]) -> None:
    db.outbox.pause()
    db.users.hook.on_add(Calls(), name="push")
    again().outbox.retire("users")
    db.users.add({})
    assert db.outbox.entries() == []


# Pausing, waiting, closing


def test_a_paused_outbox_keeps_its_entries(db: Any) -> None:
    calls = Calls()
    db.users.hook.on_add(calls, name="push")
    db.outbox.pause()
    db.users.add({})
    assert db.outbox.flush(10) is False
    assert calls.values == []
    assert db.outbox.pending() == db.outbox.pending("users") == 1
    db.outbox.resume()
    assert db.outbox.flush(10) is True


def test_flush_of_nothing_is_done(db: Any) -> None:
    assert db.outbox.flush() is True
    assert db.outbox.flush(0) is True


@pytest.mark.parametrize("bad", [-1, float("nan")])
def test_flush_wants_a_number_of_seconds(db: Any, bad: float) -> None:
    with pytest.raises(InvalidArgumentError):
        db.outbox.flush(bad)


def test_flush_within_a_hook_is_refused(db: Any) -> None:
    errors = Calls()

    def push(payload: Dict[str, Any]) -> None:
        try:
            db.outbox.flush()
        except InvalidStateError as error:
            errors(error)

    db.users.hook.on_add(push)
    db.users.add({})
    errors.wait(1)
    assert db.outbox.flush(10)


def test_the_outbox_is_not_changed_within_a_transaction(db: Any) -> None:
    db.outbox.pause()
    db.users.hook.on_add(Calls(), name="push")
    db.users.add({})
    with pytest.raises(InvalidStateError):
        db.transaction("rw", "users", lambda: db.outbox.drop(1))
    assert db.outbox.pending() == 1


def test_a_hook_registered_within_a_transaction_counts_from_then_on(db: Any) -> None:
    calls = Calls()

    def work() -> None:
        db.users.hook.on_add(calls, name="push")
        db.users.add({"name": "in it"})

    db.transaction("rw", "users", work)
    db.users.add({"name": "after it"})
    assert db.outbox.flush(10)
    assert {payload["item"]["name"] for payload in calls.values} >= {"after it"}
    calls.wait(1)


@pytest.mark.parametrize("bad", [0, -1, 1.5, True, "3"])
def test_max_attempts_is_a_whole_number_above_0(db: Any, bad: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        db.outbox.max_attempts = bad


def test_an_unknown_state_is_refused(db: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        db.outbox.entries("lost")


def test_a_hook_may_exit_and_the_outbox_goes_on(db: Any) -> None:
    calls = Calls()

    def push(payload: Dict[str, Any]) -> None:
        calls(payload)
        if len(calls.values) == 1:
            raise SystemExit(1)

    db.users.hook.on_add(push)
    db.users.add({})
    calls.wait(2)
    assert db.outbox.flush(10)


def test_a_file_that_is_full_at_the_wrong_moment_costs_no_second_call(db: Any) -> None:
    calls = Calls()
    db.users.hook.on_add(calls, name="push")
    delivery = db.outbox._delivery
    assert delivery is not None
    from selfdb.indexie.errors import QuotaExceededError
    from selfdb.indexie.hooks import outbox_tables

    finish, failures = outbox_tables.finish, [2]

    def full(*arguments: Any, **keywords: Any) -> bool:
        if failures[0]:
            failures[0] -= 1
            raise QuotaExceededError("full")
        return finish(*arguments, **keywords)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outbox_tables, "finish", full)
        db.users.add({})
        calls.wait(1)
        assert db.outbox.flush(10)
    assert failures == [0]
    assert len(calls.values) == 1


def test_a_child_of_a_fork_delivers_what_it_writes(db: Any, tmp_path: Path) -> None:
    import os

    told = tmp_path / "told"

    def push(payload: Dict[str, Any]) -> None:
        with told.open("a") as file:
            file.write(f"{payload['item']['name']} {os.getpid()}\n")

    db.users.hook.on_add(push)
    db.users.add({"name": "parent"})
    assert db.outbox.flush(10)
    db.outbox.pause()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            db.outbox.resume()
            db.users.add({"name": "child"})
            code = 0 if db.outbox.flush(10) else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert told.read_text().splitlines() == [f"parent {os.getpid()}", f"child {child}"]


# What once went wrong


def test_a_hook_registered_while_the_outbox_looks_for_work_is_not_overlooked(db: Any) -> None:
    looks, goes_on = threading.Event(), threading.Event()
    hooks = db._hooks
    posts = hooks.posts

    def held() -> Any:
        found = posts()
        if threading.current_thread().name == "selfdb-indexie-outbox" and not goes_on.is_set():
            looks.set()
            assert goes_on.wait(10)
        return found

    calls = Calls()
    db.users.hook.on_add(calls, name="first")
    hooks.posts = held
    db.outbox.wake()
    assert looks.wait(10)
    db.users.hook.on_update(calls, name="second")
    key = db.users.add({}, silent=True)
    db.users.update(key, {"name": "Ann"})
    goes_on.set()
    (payload,) = calls.wait(1)
    assert payload["op"] == "update"
    assert db.outbox.flush(10)


def test_a_long_line_behind_a_failure_does_not_keep_the_outbox_busy(db: Any) -> None:
    failing = Failing(1)
    for register in (db.users.hook.on_add, db.users.hook.on_update):
        register(failing, name="push")

    def retry_later(payload: Dict[str, Any]) -> None:
        if payload["key"] == 1:
            raise Outbox.Retry(after=600)

    db.users.hook.on_add(retry_later, name="later")
    failing.keys.clear()
    db.users.add({})
    wait_until(lambda: db.outbox.entries() and db.outbox.entries()[0].last_error)
    db.transaction("rw", "users", lambda: [db.users.update(1, {"age": age}) for age in range(300)])
    db.users.add({})
    failing.wait(lambda calls: ("add", 2) in calls)
    assert db.outbox.pending() >= 301
    assert db.outbox.retry(db.outbox.entries()[0].id)
    assert ("update", 1) not in failing.calls


def test_c089_a_lease_is_renewed_for_as_long_as_its_hook_runs(make_db: Callable[..., Any]) -> None:
    clock, looks = Hands(), Calls()

    def opened() -> Any:
        database = make_db(timing=Timing(outbox_poll=0.01, retry_first=0.01, lease=60.0, lease_renewal=0.05))
        database.outbox._clock = clock
        database.open()
        store = database.outbox._delivery._store
        posts = store.posts
        store.posts = lambda: (looks(1), posts())[1]
        return database

    one, other = opened(), opened()
    begun, goes_on = Calls(), threading.Event()

    def push(payload: Dict[str, Any]) -> None:
        begun(payload["attempt"])
        assert goes_on.wait(60)

    def leased() -> float:
        return float(one._connections.reader().one("SELECT leased FROM _ix_outbox")[0])

    for database in (one, other):
        database._hooks._clock = clock
        database.users.hook.on_add(push, name="push")
    one.users.add({})
    begun.wait(1)
    first = one.outbox.entries()[0]
    assert first.attempts == 1
    for _ in range(4):  # more than three leases, each renewed before it is over
        clock.now += 50.0
        wait_until(lambda: leased() == clock.now + 60.0)
        looks.wait(len(looks.values) + 5)  # the one that has no hook to wait for looks for something to do
    assert begun.values == [1]
    goes_on.set()
    assert one.outbox.flush(10)
    assert begun.values == [1]


def test_a_look_in_the_middle_of_which_the_machine_sleeps_holds_up_nothing(
    make_db: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    db, clock, told = make_db(timing=QUICK), Hands(), Calls()
    db.outbox._clock = db._hooks._clock = clock
    slept, look = threading.Event(), outbox_tables.due

    def due(*given: Any) -> Any:
        found = look(*given)
        clock.now += 3600.0
        slept.set()
        return found

    monkeypatch.setattr(outbox_tables, "due", due)
    db.open()
    db.users.hook.on_add(lambda payload: told(payload["key"]), name="push")
    assert slept.wait(SOON)
    db.users.add({})
    assert told.wait(1) == [1]


@pytest.mark.parametrize("word", [Outbox.Retry(after=5, reason="busy"), Outbox.Drop("never")], ids=["retry", "drop"])
def test_a_word_to_the_outbox_is_no_error_of_the_store(db: Any, word: Any) -> None:
    assert not isinstance(word, SelfDBError), "a hook that catches errors of its own calls would swallow it"
    for other in (pickle.loads(pickle.dumps(word)), copy.copy(word)):
        assert type(other) is type(word)
        assert (str(other), vars(other)) == (str(word), vars(word))

    def says(payload: Any) -> None:
        try:
            raise word
        except SelfDBError:
            return

    db.users.hook.on_add(says, name="says")
    with pytest.raises(HookError) as caught, db.users.start_transaction(optimistic=True) as tx:
        db.users.add({"name": "Ann"})
        tx.commit()
    assert caught.value.__cause__ is word
    assert db.users.count() == 0
    db.users.add({"name": "Ben"})
    wait_until(lambda: all(entry.last_error for entry in db.outbox.entries()))
    (entry,) = db.outbox.entries()
    assert (entry.state, entry.attempts) == ("dead" if isinstance(word, Outbox.Drop) else "ready", 1)
    assert str(word) in str(entry.last_error)
