"""Places to compute: who gets one first, who keeps it, and what happens where nobody gives one back."""

from __future__ import annotations

import threading
from typing import Any, List

import pytest

from selfdb.core import places as module
from selfdb.core.places import MAX_THREADS, Places, Worker
from tests.core.kit import Background, wait_until

BOUND = 20.0


class Crew:
    """Places whose workers are started by hand: ``started`` has them."""

    def __init__(self, count: int = 1) -> None:
        self.started: List[Worker[str]] = []
        self.places: Places[str] = Places(count, self.started.append)
        self.refuses = False

    def refusing(self) -> None:
        def start(worker: Worker[str]) -> None:
            raise RuntimeError("can't start new thread")

        self.places._start = start

    def idle(self) -> Worker[str]:
        """A worker that has done its job and waits for another, on a thread of the test's."""
        self.places.put("first")
        worker = self.started.pop()
        self.waiter = Background(lambda: self.places.next(worker, BOUND))
        wait_until(lambda: worker in self.places._idle)
        return worker


def test_a_job_gets_a_worker_with_a_place_and_the_next_one_waits() -> None:
    crew = Crew()
    assert crew.places.put("one") is False
    assert crew.places.put("two") is True
    (worker,) = crew.started
    assert (worker.job, worker.has_place) == ("one", True)
    assert crew.places.next(worker, 0) == "two", "the place is kept, and no thread is switched"
    assert worker.has_place
    assert crew.places.next(worker, 0) is None
    assert crew.places._free == 1


@pytest.mark.parametrize("place", [True, False], ids=["with a place", "without one"])
def test_a_thread_that_is_kept_for_one_thing_holds_no_place_while_it_waits(place: bool) -> None:
    crew = Crew()
    crew.places.put("one")
    (worker,) = crew.started
    if not place:  # it gave it back, to wait for something else
        crew.places.give()
        worker.has_place = False
    crew.places.lend(worker)
    assert (worker.has_place, crew.places._free, crew.places._workers) == (False, 1, 0)
    crew.places.take_back(worker)
    assert (worker.has_place, crew.places._free, crew.places._workers) == (True, 0, 1)


def test_who_waits_for_the_network_lets_others_compute() -> None:
    crew = Crew()
    crew.places.put("one")
    crew.places.put("two")
    crew.places.give()
    assert [worker.job for worker in crew.started] == ["one", "two"]
    crew.places.give()
    assert crew.places._free == 1
    assert crew.places.take()
    assert crew.places._free == 0


def test_who_comes_back_goes_before_a_new_job() -> None:
    crew = Crew()
    crew.places.put("one")
    (worker,) = crew.started
    back = Background(crew.places.take)
    wait_until(lambda: len(crew.places._returning) == 1)
    crew.places.put("two")
    done = Background(lambda: crew.places.next(worker, BOUND))
    assert back.result() is True
    wait_until(lambda: crew.places._idle == [worker])
    crew.places.give()
    assert done.result() == "two"
    assert worker.has_place
    again = Background(crew.places.take)
    wait_until(lambda: len(crew.places._returning) == 1)
    crew.places.give()
    assert again.result() is True


def test_a_worker_without_a_place_takes_one_that_is_free() -> None:
    crew = Crew(2)
    crew.places._jobs.append("waits")
    worker: Worker[str] = Worker()
    assert crew.places.next(worker, 0) == "waits"
    assert worker.has_place
    assert crew.places._free == 1


def test_an_idle_worker_gets_the_next_job() -> None:
    crew = Crew()
    crew.idle()
    crew.places.put("second")
    assert crew.waiter.result() == "second"
    assert crew.started == []


def test_idle_workers_go_when_the_places_are_closed_and_a_later_job_has_one_of_its_own() -> None:
    crew = Crew()
    crew.idle()
    crew.places.close()
    assert crew.waiter.result() is None
    crew.places.put("later")
    (worker,) = crew.started
    assert crew.places.next(worker, BOUND) is None
    assert crew.places._workers == 0


def test_a_job_that_comes_in_the_last_moment_is_done() -> None:
    crew = Crew()

    class LateGate:
        """A lock that is opened just behind the moment up to which somebody waited for it."""

        def acquire(self, timeout: float = -1) -> bool:
            if timeout >= 0:
                crew.places.put("late")
            return timeout < 0

        def release(self) -> None: ...

    crew.places.put("first")
    (worker,) = crew.started
    worker.gate = LateGate()  # type: ignore[assignment]
    assert crew.places.next(worker, 0) == "late"


def test_without_a_thread_a_job_is_refused_or_waits_for_the_others() -> None:
    crew = Crew(2)
    real = crew.places._start
    crew.refusing()
    with pytest.raises(RuntimeError, match="new thread"):
        crew.places.put("refused")
    assert crew.places._workers == 0
    crew.places._jobs.clear()
    crew.places._start = real
    crew.places.put("one")
    crew.refusing()
    crew.places.put("two")
    assert crew.places._free == 1
    assert crew.places.next(crew.started[0], 0) == "two"


def test_what_nobody_told_us_of_holds_nobody_up() -> None:
    """Jobs that wait in ways of their own leave no place; the others are begun all the same, if no place moves."""
    crew = Crew()
    assert crew.places.watch(-1) is None
    crew.places.put("holds it")
    for number in range(MAX_THREADS + 5):
        crew.places.put(str(number))
    seen = crew.places.watch(-1)
    assert seen is not None
    assert len(crew.started) == 1, "it is the first look"
    assert crew.places.watch(seen) == seen
    assert [worker.has_place for worker in crew.started] == [True] + [False] * (MAX_THREADS - 1)
    assert len(crew.places._jobs) == 6
    assert crew.places.next(crew.started[0], 0) is not None
    assert crew.places.watch(seen) == seen + 1


def test_who_comes_back_waits_as_long_as_places_move_and_then_goes_on_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STUCK_SECONDS", 0.05)
    crew = Crew()
    crew.places.put("one")
    waits: List[float] = []

    class Gate:
        def acquire(self, timeout: float = -1) -> bool:
            if timeout >= 0:
                waits.append(timeout)
                if len(waits) < 4:
                    crew.places._changes += 1
            return False

    monkeypatch.setattr(module, "_closed_gate", Gate)
    assert crew.places.take() is False
    assert waits == [0.05] * 4
    assert not crew.places._returning


def test_a_place_that_is_given_in_the_last_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    crew = Crew()
    crew.places.put("one")

    class LateGate:
        def acquire(self, timeout: float = -1) -> bool:
            if timeout >= 0:
                changes = crew.places._changes
                crew.places.give()
                crew.places._changes = changes
            return False

        def release(self) -> None: ...

    monkeypatch.setattr(module, "_closed_gate", LateGate)
    assert crew.places.take() is True
    assert not crew.places._returning


def test_threads_in_earnest() -> None:
    """Many threads that compute and wait by turns, over one place: each job is done once, and none waits for ever."""
    done: List[Any] = []
    places: Places[int]

    def work(worker: Worker[int]) -> None:
        job = worker.job
        while job is not None:
            places.give()
            worker.has_place = places.take()
            done.append(job)
            job = places.next(worker, BOUND)

    places = Places(1, lambda worker: threading.Thread(target=work, args=(worker,), daemon=True).start())
    for number in range(3000):
        places.put(number)
    wait_until(lambda: len(done) == 3000)
    places.close()
    assert sorted(done) == list(range(3000))
    wait_until(lambda: places._workers == 0)
    assert places._free == 1
