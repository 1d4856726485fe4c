"""Calls that are given up while threads are in them."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import sys
import threading
from typing import Any, List

import pytest

from selfdb.core.call import (
    Call,
    CallAbandoned,
    Visit,
    acting_thread,
    away,
    current_call,
    enter_call,
    enter_visit,
    interruptible,
    on_a_loop,
    serves,
    shielded,
)
from tests.core.kit import BOUND, Background, in_forked_child, wait_until


def within(function: Any) -> Any:
    """What ``function`` gives in a context of its own."""
    return contextvars.copy_context().run(function)


def test_without_a_call_nothing_is_interrupted() -> None:
    assert current_call() is None
    with interruptible(lambda: pytest.fail("nobody gave it up")):
        pass


def test_giving_up_ends_what_is_waited_for() -> None:
    call, gate = Call(), queue.SimpleQueue[None]()
    waits = threading.Event()

    def wait() -> None:
        enter_call(call)
        with interruptible(lambda: gate.put(None)):
            waits.set()
            gate.get(timeout=BOUND)

    background = Background(lambda: within(wait))
    assert waits.wait(BOUND)
    call.abandon()
    assert isinstance(background.result(), CallAbandoned)
    assert call._ends == []


def test_what_was_given_up_begins_nothing_more() -> None:
    def main() -> None:
        call = Call()
        enter_call(call)
        call.abandon()
        with pytest.raises(CallAbandoned), interruptible(lambda: pytest.fail("it never began")):
            pytest.fail("it never begins")
        assert call._ends == []

    within(main)


def test_what_is_over_is_not_ended() -> None:
    def main() -> None:
        call, ended = Call(), []
        enter_call(call)
        with interruptible(lambda: ended.append(1)):
            pass
        call.abandon()
        assert ended == []

    within(main)


def test_a_call_that_came_to_its_end_cannot_be_given_up() -> None:
    def main() -> None:
        call = Call()
        enter_call(call)
        assert current_call() is call
        call.finish()
        call.abandon()
        assert not call.abandoned
        call.check()
        assert current_call() is None

    within(main)


def test_a_thread_that_a_given_up_call_has_started_is_part_of_it() -> None:
    def main() -> None:
        call = Call()
        enter_call(call)
        call.abandon()
        call.finish()
        context = contextvars.copy_context()
        found: List[Any] = []
        thread = threading.Thread(target=lambda: found.append(context.run(current_call)))
        thread.start()
        thread.join(BOUND)
        assert found == [call]

    within(main)


def test_nothing_interrupts_what_is_shielded() -> None:
    def main() -> None:
        call = Call()
        enter_call(call)
        with shielded():
            inner = current_call()
            assert inner is not None
            with interruptible(lambda: pytest.fail("it is shielded")):
                call.abandon()
            inner.check()
        assert current_call() is call
        with pytest.raises(CallAbandoned):
            call.check()


def test_who_is_shielded_or_away_lets_others_compute() -> None:
    class Counted(Call):
        steps: List[str] = []

        def leave(self) -> None:
            self.steps.append("leave")

        def come_back(self) -> None:
            self.steps.append("back")

    def main() -> None:
        enter_call(Counted())
        with away():
            assert Counted.steps == ["leave"]
        with shielded(), interruptible(lambda: None):
            assert Counted.steps == ["leave", "back", "leave"]
        assert Counted.steps == ["leave", "back"] * 2

    within(main)


def test_a_call_that_is_given_up_is_no_error_that_one_recovers_from() -> None:
    assert not issubclass(CallAbandoned, Exception)


def test_who_acts_is_the_thread_that_waits_for_it() -> None:
    here = threading.current_thread()
    assert acting_thread() is here
    visits: List[Visit] = []
    go_on = threading.Event()

    def callback() -> Any:
        visits.append(Visit())
        go_on.wait(BOUND)

    waits = Background(callback)
    wait_until(lambda: bool(visits))

    def on_the_loop() -> None:
        enter_call(Call())
        enter_visit(visits[0])
        assert acting_thread() is visits[0].thread is not here
        assert current_call() is None  # a callback is no part of the call that it was given in
        visits[0].active = False
        assert acting_thread() is here

    within(on_the_loop)
    go_on.set()
    waits.result()


def test_whom_a_callback_serves_and_whom_those_within_it_serve() -> None:
    here = threading.current_thread()
    visits: List[Visit] = []

    def inner() -> None:
        enter_visit(visits[1])
        assert serves(visits[1].thread)
        assert serves(visits[0].thread)
        assert not serves(here)
        visits[1].active = False
        assert not serves(visits[0].thread)

    def outer() -> None:
        enter_visit(visits[0])
        assert serves(visits[0].thread)
        made = contextvars.copy_context()
        Background(lambda: made.run(lambda: visits.append(Visit()))).result()
        assert visits[1].outer is visits[0]
        within(inner)

    assert not serves(here)
    Background(lambda: visits.append(Visit())).result()
    within(outer)


def test_whether_a_loop_runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> bool:
        return on_a_loop()

    assert not on_a_loop()
    assert asyncio.run(main())
    monkeypatch.delitem(sys.modules, "asyncio")
    assert not on_a_loop()


def test_a_child_is_in_no_call() -> None:
    """The one that forks may be given up by another thread in that moment, which then holds its lock."""
    call = Call()

    def waits_in_child() -> bytes:
        with interruptible(lambda: None), away():
            return b"none" if current_call() is None else b"its parent's"

    def forks() -> bytes:
        enter_call(call)
        with call._lock:
            return in_forked_child(waits_in_child)

    assert within(forks) == b"none"
