"""The outbox: delivered in order, by one at a time, until every hook has succeeded; whatever ends meanwhile."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from selfdb.indexie.timing import Timing

from .conftest import SCHEMA
from .kit import Ahead, Calls, wait_until

QUICK = Timing(outbox_poll=0.01, retry_first=0.01, lease=5.0, lease_renewal=1.0)

OPEN = f"""
import json, os, pathlib, time
from selfdb.indexie import Indexie
from selfdb.indexie.timing import Timing
db = Indexie(pathlib.Path(path), timing=Timing(outbox_poll=0.01, retry_first=0.01))
db.version(1).stores({SCHEMA!r})
"""
# Leases are long, for one that ends while the machine stands still makes a second delivery. Where one has to end:
SHORT = OPEN.replace("retry_first=0.01", "retry_first=0.01, lease=0.3, lease_renewal=0.1")
RENEWED = OPEN.replace("retry_first=0.01", "retry_first=0.01, lease=60.0, lease_renewal=0.1")


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


# Case 87: it is tried until it succeeds


def test_c087_three_attempts_with_one_operation_id(db: Any) -> None:
    calls = Calls()
    rows: List[int] = []

    @db.users.hook.on_add
    def push(payload: Dict[str, Any]) -> None:
        rows.append(db.users.count())
        calls((payload["attempt"], payload["operation_id"]))
        if payload["attempt"] < 3:
            raise OSError("no network")

    assert db.users.add({"name": "Ann"}) == 1
    assert db.users.count() == 1
    calls.wait(3)
    assert db.outbox.flush(60)
    assert [attempt for attempt, _ in calls.values] == [1, 2, 3]
    assert len({operation for _, operation in calls.values}) == 1
    assert rows == [1, 1, 1]
    assert db.outbox.entries() == []


def test_c087_the_entry_tells_of_its_failure(db: Any) -> None:
    db.outbox.max_attempts = None
    failing = Failing(1)
    db.users.hook.on_add(failing, name="push")
    db.users.add({"name": "Ann"})
    failing.wait(lambda calls: len(calls) >= 3)
    (entry,) = db.outbox.entries("ready")
    assert (entry.table, entry.op, entry.key, entry.item) == ("users", "add", 1, {"name": "Ann", "id": 1})
    assert entry.attempts >= 2
    assert entry.last_error == "push: OSError: no network"
    assert entry.hooks == ("push",)
    assert entry.created_at <= entry.next_at
    failing.keys.clear()
    assert db.outbox.flush(60)


def test_c087_only_the_hooks_that_have_not_succeeded_run_again(db: Any) -> None:
    first, third, second = Calls(), Calls(), Failing(1)
    db.users.hook.on_add(first, name="first")
    db.users.hook.on_add(second, name="second")
    db.users.hook.on_add(third, name="third")
    db.users.add({})
    second.wait(lambda calls: len(calls) >= 3)
    assert third.values == []
    second.keys.clear()
    assert db.outbox.flush(60)
    assert len(first.values) == len(third.values) == 1


# Case 88: what is left is delivered by the next run


def test_c088_a_process_that_dies_before_its_hook_leaves_the_entry(db: Any, peer: Callable[[], Any]) -> None:
    other = peer()
    other.run(
        SHORT
        + """
db.users.hook.on_add(lambda payload: time.sleep(600), name="push")
result = db.users.add({"name": "Ann"})
"""
    )
    other.kill()
    assert db.users.get(1)["name"] == "Ann"
    (entry,) = db.outbox.entries()
    calls = Calls()
    db.users.hook.on_add(calls, name="push")
    assert db.outbox.flush(20)
    (payload,) = calls.values
    assert payload["operation_id"] == entry.operation_id
    assert payload["item"] == {"name": "Ann", "id": 1}
    assert db.outbox.entries() == []


def test_c088_what_close_leaves_the_next_open_delivers(db: Any, again: Callable[[], Any]) -> None:
    db.outbox.pause()
    db.users.hook.on_add(Calls(), name="push")
    db.users.add({"name": "Ann"})
    db.close()
    other = again()
    assert other.outbox.pending() == 1
    calls = Calls()
    other.users.hook.on_add(calls, name="push")
    assert other.outbox.flush(60)
    assert len(calls.values) == 1


def test_c088_close_waits_for_it_when_told_to(db: Any, again: Callable[[], Any]) -> None:
    db.users.hook.on_add(Calls(lambda _: time.sleep(0.05)), name="push")
    db.users.bulk_add([{"name": str(number)} for number in range(5)])
    db.close(flush_timeout=20)
    assert again().outbox.pending() == 0


# Case 89: one process at a time


def test_c089_each_entry_is_handled_by_one_process_at_a_time(db: Any, peer: Callable[[], Any], tmp_path: Path) -> None:
    told = tmp_path / "told"
    others = [peer(), peer()]
    for other in others:
        other.run(
            OPEN
            + """
import fcntl
def push(payload):
    lock = os.open(where + str(payload["key"]), os.O_CREAT | os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises where another process is at it
    with open(where, "a") as file:
        file.write(json.dumps([payload["key"], os.getpid()]) + chr(10))
    time.sleep(0.001)
    os.close(lock)
db.users.hook.on_add(push, name="push")
db.open()
""",
            where=str(told),
        )
    count = 60
    for number in range(count):
        db.users.add({"name": str(number)})
    wait_until(lambda: db.outbox.pending() == 0, 30)
    lines = [json.loads(line) for line in told.read_text().splitlines()]
    assert sorted(key for key, _ in lines) == list(range(1, count + 1))
    for other in others:
        other.run("db.close()")


def test_c089_another_takes_over_when_the_lease_of_a_dead_one_is_over(db: Any, peer: Callable[[], Any]) -> None:
    other = peer()
    other.run(
        RENEWED
        + """
import threading
begun = threading.Event()
def push(payload):
    begun.set()
    time.sleep(600)
db.users.hook.on_add(push, name="push")
db.users.add({"name": "Ann"})
assert begun.wait(10)
"""
    )

    def leased() -> float:
        return float(db._connections.reader().one("SELECT leased FROM _ix_outbox")[0])

    calls = Calls()
    clock = db.outbox._delivery._clock = Ahead()
    db.users.hook.on_add(calls, name="push")
    first = leased()
    wait_until(lambda: leased() > first)  # it is renewed
    assert calls.values == []
    other.kill()
    clock.ahead = 60.0
    (payload,) = calls.wait(1)
    assert payload["attempt"] == 2
    assert db.outbox.flush(60)


def test_c089_who_was_too_slow_ends_nothing(db: Any, make_db: Callable[..., Any]) -> None:
    # A lease that nobody renews: as in a process that the system has stopped for a while.
    slow = make_db(timing=Timing(outbox_poll=0.01, retry_first=0.01, lease=0.1, lease_renewal=600.0)).open()
    begun, goes_on = threading.Event(), threading.Event()

    def stopped(payload: Dict[str, Any]) -> None:
        begun.set()
        assert goes_on.wait(20)

    slow.users.hook.on_add(stopped, name="push")
    slow.users.add({"name": "Ann"})
    assert begun.wait(10)
    failing = Failing(1)
    db.users.hook.on_add(failing, name="push")
    failing.wait(lambda calls: len(calls) >= 2)
    goes_on.set()  # it succeeds, and holds no lease any more
    slow.close()
    (entry,) = db.outbox.entries()
    assert entry.hooks == ("push",)
    failing.keys.clear()
    assert db.outbox.flush(60)


def test_c089_a_process_delivers_only_what_it_has_registered(db: Any, peer: Callable[[], Any]) -> None:
    other = peer()
    other.run(OPEN + "db.open(); db.outbox.pause(); db.users.hook.on_add(lambda payload: None, name='theirs')")
    mine = Calls()
    db.users.hook.on_add(mine, name="mine")
    db.users.add({})
    mine.wait(1)
    assert db.outbox.flush(60) is False  # and it does not wait for what it cannot do
    (entry,) = db.outbox.entries()
    assert entry.hooks == ("theirs",)
    other.run("db.outbox.resume(); result = db.outbox.flush(20)")
    assert db.outbox.entries() == []
    assert len(mine.values) == 1
    other.run("db.close()")


def test_c089_a_process_without_the_hook_makes_entries_too(db: Any, peer: Callable[[], Any]) -> None:
    calls = Calls()
    db.users.hook.on_add(calls, name="push")
    other = peer()
    other.run(OPEN + "db.users.add({'name': 'Ann'}); db.close()")
    (payload,) = calls.wait(1)
    assert payload["item"]["name"] == "Ann"
    assert db.outbox.flush(60)


# Case 90: the line of a key


def test_c090_the_operations_of_a_key_come_in_their_order(db: Any) -> None:
    calls = Calls()
    for register in (db.users.hook.on_add, db.users.hook.on_update, db.users.hook.on_delete):
        register(calls, name="push")
    db.outbox.pause()
    key = db.users.add({"name": "Ann"})
    db.users.update(key, {"name": "Bob"})
    db.users.delete(key)
    db.outbox.resume()
    assert db.outbox.flush(60)
    assert [payload["op"] for payload in calls.values] == ["add", "update", "delete"]
    assert [payload["item"] and payload["item"]["name"] for payload in calls.values] == ["Ann", "Bob", None]


def test_c090_a_failing_one_holds_up_those_behind_it_and_no_other_key(db: Any) -> None:
    failing = Failing(1)
    for register in (db.users.hook.on_add, db.users.hook.on_update):
        register(failing, name="push")
    db.users.add({"name": "one"})
    db.users.update(1, {"name": "uno"})
    for _ in range(5):
        db.users.add({})
    failing.wait(lambda calls: {key for _, key in calls} >= {1, 2, 3, 4, 5, 6})
    failing.wait(lambda calls: calls.count(("add", 1)) >= 3)
    assert ("update", 1) not in failing.calls
    failing.keys.clear()
    assert db.outbox.flush(60)
    assert failing.calls.count(("update", 1)) == 1


def test_c090_clearing_a_table_waits_for_all_before_and_holds_up_all_after(db: Any) -> None:
    failing = Failing(1)
    for register in (db.users.hook.on_add, db.users.hook.on_delete):
        register(failing, name="push")
    db.outbox.pause()
    db.users.bulk_add([{}, {}])
    db.users.clear()
    db.users.bulk_add([{}, {}])
    db.outbox.resume()
    failing.wait(lambda calls: calls.count(("add", 1)) >= 3)
    assert set(failing.calls) == {("add", 1), ("add", 2)}
    failing.keys.clear()
    assert db.outbox.flush(60)
    assert failing.calls[-3:] == [("delete", None), ("add", 3), ("add", 4)]


def test_c090_the_order_holds_over_two_processes(db: Any, peer: Callable[[], Any], tmp_path: Path) -> None:
    told = tmp_path / "told"
    others = [peer(), peer()]
    for other in others:
        other.run(
            OPEN
            + """
def push(payload):
    with open(where, "a") as file:
        file.write(json.dumps([payload["key"], payload["item"]["age"]]) + chr(10))
db.users.hook.on_update(push, name="push")
db.open()
""",
            where=str(told),
        )
    for _ in range(3):
        db.users.add({"age": 0})
    for age in range(1, 16):
        for key in (1, 2, 3):
            db.users.update(key, {"age": age})
    wait_until(lambda: db.outbox.pending() == 0, 30)
    lines = [json.loads(line) for line in told.read_text().splitlines()]
    for key in (1, 2, 3):
        assert [age for which, age in lines if which == key] == list(range(1, 16))
    for other in others:
        other.run("db.close()")
