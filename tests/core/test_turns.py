"""The lock that belongs to no thread: who gets it next, and who does not any more."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Any, List

import pytest

from selfdb.core import turns as turns_module
from selfdb.core.asynchronous import Bridge
from selfdb.core.call import Call, CallAbandoned, enter_call
from selfdb.core.turns import Turns
from tests.core.kit import BOUND, Background, in_threads, wait_until

LONG = 60.0
"""Seconds that a thousand turns may take."""


def test_one_at_a_time_and_any_thread_gives_it_back() -> None:
    turns = Turns()
    assert not turns.taken
    assert turns.acquire()
    assert turns.taken
    assert not turns.try_acquire()
    assert turns.acquire(0.01) is False
    assert not turns._waiting
    assert Background(turns.release).result() is None
    assert turns.try_acquire()
    turns.release()
    with pytest.raises(RuntimeError, match="not anybody's turn"):
        turns.release()


def test_steps_need_no_wait_where_it_is_free() -> None:
    turns = Turns()
    with pytest.raises(StopIteration) as end:
        next(turns.acquire_steps())
    assert end.value.value is True
    assert turns.taken


def test_who_came_first_goes_first() -> None:
    turns, order = Turns(), []

    def wait(number: int) -> None:
        assert turns.acquire(BOUND)
        order.append(number)
        turns.release()

    assert turns.acquire()
    threads = []
    for number in range(5):
        threads.append(Background(lambda number=number: wait(number)))
        wait_until(lambda number=number: len(turns._waiting) == number + 1)
    turns.release()
    for thread in threads:
        assert thread.result() is None
    assert order == list(range(5))


def test_nobody_is_lost_among_many() -> None:
    turns = Turns()
    inside: List[int] = []

    def work() -> int:
        for _ in range(200):
            assert turns.acquire(BOUND)
            inside.append(1)
            assert len(inside) == 1
            inside.pop()
            turns.release()
        return 200

    assert in_threads(4, work) == [200] * 4
    assert not turns.taken


def test_who_is_given_up_leaves_the_row() -> None:
    turns, call = Turns(), Call()
    assert turns.acquire()

    def wait() -> None:
        enter_call(call)
        turns.acquire(BOUND)

    background = Background(lambda: contextvars.copy_context().run(wait))
    wait_until(lambda: len(turns._waiting) == 1 and call._ends != [])
    call.abandon()
    assert isinstance(background.result(), CallAbandoned)
    assert not turns._waiting
    turns.release()
    assert not turns.taken


@pytest.mark.parametrize("came", [False, True])
def test_who_is_gone_when_it_comes_hands_it_on(came: bool) -> None:
    turns = Turns()
    assert turns.acquire()
    steps = turns.acquire_steps(None)
    next(steps)
    if came:
        turns.release()
        assert turns.taken
    steps.close()
    assert not turns._waiting
    assert turns.taken is not came


def test_one_that_came_in_the_last_moment_is_taken() -> None:
    turns = Turns()
    assert turns.acquire()
    steps = turns.acquire_steps(1.0)
    next(steps)
    turns.release()
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert end.value.value is True


def test_the_turn_that_comes_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns()
    assert turns.acquire()

    def in_vain(signal: Any, ready: Any, seconds: Any) -> Any:
        yield
        return ready()

    monkeypatch.setattr(turns_module, "until", in_vain)
    steps = turns.acquire_steps(1.0)
    next(steps)
    left = turns._left

    def late(turn: Any) -> bool:
        turns.release()
        return left(turn)

    monkeypatch.setattr(turns, "_left", late)
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert end.value.value is True
    assert turns.taken


def test_a_thousand_tasks_wait_without_a_thread() -> None:
    turns, order = Turns(), []

    async def one(bridge: Bridge, number: int) -> None:
        assert await bridge.steps(turns.acquire_steps(LONG))
        order.append(number)
        await asyncio.sleep(0)
        turns.release()

    async def main() -> Any:
        bridge, threads = Bridge(), set(threading.enumerate())
        assert turns.acquire()
        tasks = [asyncio.ensure_future(one(bridge, number)) for number in range(1000)]
        await asyncio.sleep(0)
        given_up = asyncio.ensure_future(one(bridge, -1))
        await asyncio.sleep(0)
        given_up.cancel()
        turns.release()
        await asyncio.gather(*tasks)
        assert set(threading.enumerate()) <= threads
        bridge.close()

    asyncio.run(asyncio.wait_for(main(), LONG))
    assert order == list(range(1000))
    assert not turns.taken


def test_who_was_interrupted_gives_back_what_may_be_his() -> None:
    turns, mine, other = Turns(), object(), object()
    turns.give_back(mine)  # never asked for
    assert turns.acquire(owner=other)
    assert (turns.belongs_to(mine), turns.belongs_to(other)) == (False, True)
    turns.give_back(mine)  # another has it
    assert turns.taken
    turns.give_back(other)
    turns.give_back(other)
    assert not turns.taken


def test_who_was_interrupted_before_he_waited_is_passed_over() -> None:
    turns, mine, other = Turns(), object(), object()
    assert turns.acquire()
    gone, next_one = turns.acquire_steps(None, mine), turns.acquire_steps(None, other)
    pauses = [next(gone), next(next_one)]
    assert len(pauses) == 2
    turns.give_back(mine)
    turns.release()
    assert turns.belongs_to(other)
    with pytest.raises(StopIteration) as end:
        next_one.send(None)
    assert end.value.value is True
    gone.close()
    assert turns.belongs_to(other)


def test_a_signal_handler_that_comes_to_a_lock_of_its_own_thread_does_not_wait_for_itself() -> None:
    turns = Turns()
    with turns._lock:
        assert turns.try_acquire()
        turns.release()
    assert not turns.taken


def test_who_gave_it_back_does_not_release_it_once_more() -> None:
    turns, mine = Turns(), object()
    assert turns.acquire()
    steps = turns.acquire_steps(None, mine)
    next(steps)
    turns.release()  # now it is his
    turns.give_back(mine)
    assert turns.acquire(owner=turns)
    steps.close()
    assert turns.belongs_to(turns)


def test_who_is_dismissed_goes_away_at_once_and_the_lock_stays_with_who_has_it() -> None:
    turns = Turns()
    assert turns.acquire()
    waiting = [Background(lambda: turns.acquire(BOUND)) for _ in range(3)]
    wait_until(lambda: len(turns._waiting) == 3)
    turns.dismiss()
    assert [each.result() for each in waiting] == [False, False, False]
    assert turns.taken
    turns.release()
    turns.dismiss()
    assert turns.acquire(), "who comes later is not meant"
