"""The dispatcher: order, bounds, each policy to the letter, and a thread that never dies of what it calls."""

from __future__ import annotations

import logging
import threading
from typing import Any, Callable, Iterator, List, Optional

import pytest

from selfdb.core import dispatch
from selfdb.core.dispatch import Dispatcher, Full, Job
from selfdb.exceptions import InvalidRequestError
from tests.core.kit import BOUND, in_forked_child, in_threads, wait_until


class Held:
    """A dispatcher whose thread stands in a job until ``release``; jobs are numbers, in ``done`` when they ran."""

    def __init__(self, full: Optional[Full] = None, **options: Any) -> None:
        self.dispatcher = Dispatcher(full, **options)
        self.done: List[Any] = []
        self.dropped: List[Any] = []
        self.gate = threading.Event()
        entered = threading.Event()

        def stand() -> None:
            entered.set()
            assert self.gate.wait(BOUND)

        self.dispatcher.put(Job(stand, droppable=False))
        assert entered.wait(BOUND)

    def job(self, number: Any, size: int = 0, *, droppable: bool = True) -> Job:
        return Job(lambda: self.done.append(number), size, droppable, lambda: self.dropped.append(number))

    def put(self, number: Any, size: int = 0, *, droppable: bool = True, force: bool = False) -> bool:
        return self.dispatcher.put(self.job(number, size, droppable=droppable), force=force)

    def release(self) -> List[Any]:
        """What ran after all that was queued has run."""
        over = threading.Event()
        self.dispatcher.put(Job(over.set, droppable=False))
        self.gate.set()
        assert over.wait(BOUND)
        return self.done


@pytest.fixture
def hold() -> Iterator[Callable[..., Held]]:
    made: List[Held] = []

    def make(policy: str = "drop_oldest", max_items: int = 3, max_bytes: int = 1000, **options: Any) -> Held:
        made.append(Held(Full(policy, max_items, max_bytes), **options))
        return made[-1]

    yield make
    for held in made:
        held.gate.set()
        held.dispatcher.close()


def test_jobs_run_in_order_on_one_daemon_thread(hold: Callable[..., Held]) -> None:
    held = hold(max_items=1000)
    threads = set()
    for number in range(500):
        held.put(number)
    held.dispatcher.put(Job(lambda: threads.add((threading.current_thread().name, threading.current_thread().daemon))))
    held.dispatcher.put(Job(lambda: threads.add(held.dispatcher.runs_here())))
    assert held.release() == list(range(500))
    assert threads == {("selfdb-dispatch", True), True}
    assert not held.dispatcher.runs_here()


def test_the_order_of_each_thread_is_kept(hold: Callable[..., Held]) -> None:
    held = hold(max_items=1000)
    names = iter("abcdefgh")
    lock = threading.Lock()

    def work() -> None:
        with lock:
            name = next(names)
        for number in range(50):
            held.put((name, number))

    in_threads(8, work)
    done = held.release()
    assert len(done) == 400
    for name in "abcdefgh":
        assert [number for whose, number in done if whose == name] == list(range(50))


def test_drop_oldest_by_items(hold: Callable[..., Held]) -> None:
    held = hold("drop_oldest")
    assert [held.put(number) for number in range(5)] == [True] * 5
    assert held.dropped == [0, 1]
    assert held.release() == [2, 3, 4]


def test_drop_oldest_by_bytes_makes_just_as_much_room_as_is_needed(hold: Callable[..., Held]) -> None:
    held = hold("drop_oldest", max_items=100, max_bytes=100)
    for number in range(5):
        held.put(number, 20)
    assert held.dropped == []
    held.put("big", 41)
    assert held.dropped == [0, 1, 2]
    assert held.release() == [3, 4, "big"]


def test_what_is_larger_than_the_queue_goes_through_an_empty_one(hold: Callable[..., Held]) -> None:
    held = hold("drop_newest", max_bytes=100)
    assert held.put("huge", 1000)
    assert held.put("small", 1)
    assert held.dropped == ["small"]
    assert held.release() == ["huge"]


def test_drop_newest(hold: Callable[..., Held]) -> None:
    held = hold("drop_newest")
    assert [held.put(number) for number in range(5)] == [True] * 5
    assert held.dropped == [3, 4]
    assert held.release() == [0, 1, 2]


@pytest.mark.parametrize("policy", ["block", "disconnect"])
def test_the_others_say_that_there_is_no_room(hold: Callable[..., Held], policy: str) -> None:
    held = hold(policy)
    assert [held.put(number) for number in range(5)] == [True, True, True, False, False]
    assert held.dropped == []
    assert not held.dispatcher.has_room()
    assert held.put(5, force=True)
    assert held.dropped == [0]
    assert held.release() == [1, 2, 5]


def test_marks_are_never_dropped_and_keep_their_place(hold: Callable[..., Held]) -> None:
    held = hold("drop_oldest")
    held.put("first mark", droppable=False)
    for number in range(3):
        held.put(number)
    held.put("second mark", droppable=False)
    for number in range(3, 6):
        held.put(number)
    assert held.dropped == [0, 1, 2]
    assert held.release() == ["first mark", "second mark", 3, 4, 5]


def test_a_queue_of_marks_only_has_room(hold: Callable[..., Held]) -> None:
    held = hold("block", max_items=1)
    for number in range(10):
        assert held.put(number, droppable=False)
    assert held.put("event")
    assert held.release() == [*range(10), "event"]


def test_a_job_without_a_word_for_its_end_may_be_dropped() -> None:
    held = Held(Full("drop_newest", 1))
    try:
        held.put(1)
        assert held.dispatcher.put(Job(lambda: None))
        assert held.release() == [1]
    finally:
        held.gate.set()
        held.dispatcher.close()


BATCHES = {"drop_oldest": [2, 3, 4], "drop_newest": [0, 1, 2], "block": [0, 1, 2], "disconnect": [0, 1, 2]}


@pytest.mark.parametrize("policy", BATCHES)
def test_a_batch_is_what_its_jobs_would_be_one_by_one(hold: Callable[..., Held], policy: str) -> None:
    held = hold(policy)
    taken = held.dispatcher.put_all([held.job("mark", droppable=False), *(held.job(number) for number in range(5))])
    assert taken == (4 if policy in ("block", "disconnect") else 6)
    assert held.dropped == ([number for number in range(5) if number not in BATCHES[policy]] if taken == 6 else [])
    assert held.release() == ["mark", *BATCHES[policy]]


def test_a_batch_is_bound_by_its_bytes(hold: Callable[..., Held]) -> None:
    held = hold("block", max_items=100, max_bytes=100)
    jobs = [held.job(number, 40) for number in range(4)]
    assert held.dispatcher.put_all(jobs) == 2
    assert held.dispatcher.put_all(jobs[2:], force=True) == 2
    assert held.dropped == [0, 1]
    assert held.dispatcher.put_all([held.job("mark", 1000, droppable=False)]) == 1
    assert held.dispatcher.put_all([held.job("late", 1)]) == 0
    assert held.release() == [2, 3, "mark"]
    assert held.dispatcher.put_all([held.job(number, 50) for number in range(2)]) == 2


@pytest.mark.parametrize("policy", ["drop_newest", "block", "disconnect"])
def test_what_has_to_be_queued_takes_the_place_of_the_oldest(hold: Callable[..., Held], policy: str) -> None:
    held = hold(policy)
    for number in range(3):
        held.put(number)
    assert held.dispatcher.put_all([held.job(3), held.job(4)], force=True) == 2
    assert held.dropped == [0, 1]
    assert held.release() == [2, 3, 4]


def test_of_a_batch_after_the_end_only_the_reports_are_kept(hold: Callable[..., Held]) -> None:
    held = hold("block", max_items=1)
    held.dispatcher.close()
    batch = [held.job(1), held.job("report", droppable=False), held.job(2)]
    assert held.dispatcher.put_all(batch) == 3
    assert held.dropped == []
    assert held.release() == ["report"]


def test_nothing_is_no_batch() -> None:
    dispatcher = Dispatcher()
    before = set(threading.enumerate())
    assert dispatcher.put_all([]) == 0
    assert set(threading.enumerate()) <= before
    dispatcher.close()
    dispatcher.put_all([Job(lambda: None)])
    assert set(threading.enumerate()) <= before


def test_a_sleeping_thread_is_woken_once_a_batch_and_never_when_it_is_awake(hold: Callable[..., Held]) -> None:
    held = hold(max_items=1000)
    held.dispatcher.put_all([held.job(number) for number in range(500)])
    assert held.dispatcher._gate.empty()  # its thread stands in a job
    assert held.release() == list(range(500))
    wait_until(lambda: held.dispatcher._asleep)
    assert held.dispatcher._gate.empty()
    held.dispatcher.put_all([held.job(number) for number in range(500)])
    assert held.release() == [*range(500), *range(500)]


def test_a_call_too_many_wakes_for_nothing(hold: Callable[..., Held]) -> None:
    held = hold()
    held.release()
    for _ in range(3):
        held.dispatcher._gate.put(None)
    wait_until(lambda: held.dispatcher._gate.empty() and held.dispatcher._asleep)
    held.put("after")
    assert held.release() == ["after"]


def test_dropped_may_put(hold: Callable[..., Held]) -> None:
    held = hold("drop_oldest", max_items=1)

    def dropped() -> None:
        held.put("report", droppable=False)

    held.dispatcher.put(Job(lambda: None, dropped=dropped))
    held.put("event")
    assert held.release() == ["event", "report"]


def test_has_room_after_the_thread_took_some(hold: Callable[..., Held]) -> None:
    held = hold("block", max_items=2, max_bytes=10)
    held.put(1, 5)
    held.put(2, 5)
    assert not held.dispatcher.has_room(1)
    held.release()
    assert held.dispatcher.has_room(10)


@pytest.mark.parametrize("error", [ValueError("of a callback"), SystemExit(3), KeyboardInterrupt()])
def test_what_a_job_raises_is_logged_and_reported_and_stops_nothing(
    hold: Callable[..., Held], caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    seen: List[BaseException] = []
    held = hold(on_error=seen.append)

    def fail() -> None:
        raise error

    held.dispatcher.put(Job(fail))
    held.put("after")
    assert held.release() == ["after"]
    assert seen == [error]
    assert [record.name for record in caplog.records if record.levelno == logging.ERROR] == ["selfdb.dispatch"]


@pytest.mark.parametrize("kind", [RuntimeError, SystemExit])
def test_an_error_callback_that_fails_stops_nothing_either(
    hold: Callable[..., Held], caplog: pytest.LogCaptureFixture, kind: type
) -> None:
    def complain(error: BaseException) -> None:
        raise kind("of the error callback")

    for held in (hold(on_error=complain), hold()):
        held.dispatcher.put(Job(lambda: 1 / 0))
        held.put("after")
        assert held.release() == ["after"]
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert messages == ["a callback failed", "the error callback failed", "a callback failed"]


def test_close_forgets_events_and_keeps_reports(hold: Callable[..., Held]) -> None:
    held = hold("block")
    for number in range(3):
        held.put(number)
    held.put("report", droppable=False)
    held.dispatcher.close()
    assert held.put("late")
    assert held.put("late report", droppable=False)
    assert held.release() == ["report", "late report"]
    assert held.dropped == []


def test_reopened_it_takes_events_again(hold: Callable[..., Held]) -> None:
    held = hold("drop_oldest")
    held.put("old")
    held.dispatcher.close()
    held.dispatcher.reopen()
    held.put("new")
    assert held.release() == ["new"]


def test_close_in_a_job_is_no_deadlock(hold: Callable[..., Held]) -> None:
    held = hold()
    held.dispatcher.put(Job(held.dispatcher.close))
    held.put("forgotten")
    assert held.release() == []


def test_the_thread_ends_after_close() -> None:
    dispatcher = Dispatcher(name="selfdb-dispatch-of-one-test")
    ran = threading.Event()
    dispatcher.put(Job(ran.set))
    assert ran.wait(BOUND)
    dispatcher.close()
    wait_until(lambda: "selfdb-dispatch-of-one-test" not in [thread.name for thread in threading.enumerate()])


def test_an_idle_thread_ends_and_the_next_job_has_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Dispatcher, "IDLE_SECONDS", 0.01)
    dispatcher = Dispatcher()
    threads: List[threading.Thread] = []
    for count in (1, 2):
        dispatcher.put(Job(lambda: threads.append(threading.current_thread())))
        wait_until(lambda count=count: len(threads) == count)  # type: ignore[misc]
        wait_until(lambda: not threads[-1].is_alive())
    assert threads[0] is not threads[1]


def test_nothing_starts_before_the_first_job() -> None:
    before = set(threading.enumerate())
    Dispatcher()
    assert set(threading.enumerate()) <= before


def test_without_a_thread_the_next_job_tries_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dispatcher = Dispatcher()
    done: List[int] = []
    with monkeypatch.context() as patch:

        def refuse(self: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        patch.setattr(threading.Thread, "start", refuse)
        dispatcher.put(Job(lambda: done.append(1)))
    assert "no thread" in caplog.text
    dispatcher.put(Job(lambda: done.append(2)))
    wait_until(lambda: done == [1, 2])
    dispatcher.close()


def test_a_forked_child_begins_empty_and_the_parent_goes_on(hold: Callable[..., Held]) -> None:
    held = hold("drop_oldest")
    held.put("of the parent")

    def child() -> bytes:
        seen: List[bytes] = []
        held.dispatcher.put(Job(lambda: seen.append(b"of the child")))
        wait_until(lambda: bool(seen))
        return b" and ".join([*seen, *(str(job).encode() for job in held.done)])

    assert in_forked_child(child) == b"of the child"
    assert held.release() == ["of the parent"]


@pytest.mark.parametrize(
    "full, word",
    [
        (Full("wait"), "policy"),
        (Full(max_items=0), "max_items"),
        (Full(max_items=True), "max_items"),
        (Full(max_bytes=-1), "max_bytes"),
        (Full(block_seconds=0), "block_seconds"),
        (Full(block_seconds=8.1), "block_seconds"),
        (Full(block_seconds=float("nan")), "block_seconds"),
    ],
)
def test_values_out_of_range(full: Full, word: str) -> None:
    with pytest.raises(InvalidRequestError, match=word):
        Dispatcher(full)


def test_the_defaults() -> None:
    assert Full().checked() == Full("drop_oldest", 10_000, 64 * 1024 * 1024, 5.0)
    assert (dispatch.MAX_ITEMS, dispatch.MAX_BYTES) == (10_000, 67_108_864)
    assert Full(block_seconds=8).checked().block_seconds == 8
