"""The clock's deadline and the client's lifeline."""

from __future__ import annotations

import contextvars
import threading
import time
from typing import Any, Iterator, List

import pytest

from selfdb.core.call import Call, CallAbandoned, enter_call
from selfdb.core.clock import SYSTEM_CLOCK, Clock, Deadline
from selfdb.core.flags import Flag
from selfdb.core.lifeline import Lifeline
from selfdb.exceptions import ClientClosedError
from tests.core.calls import HeldClock
from tests.core.kit import Background, wait_until


def test_the_systems_clock_tells_the_time_and_waits() -> None:
    assert SYSTEM_CLOCK.monotonic() == pytest.approx(time.monotonic(), abs=5)
    assert SYSTEM_CLOCK.time() == pytest.approx(time.time(), abs=5)
    begun = SYSTEM_CLOCK.elapsed()
    assert 0 <= SYSTEM_CLOCK.elapsed() - begun < 5
    event = threading.Event()
    assert SYSTEM_CLOCK.wait(event, 0.001) is False
    event.set()
    assert SYSTEM_CLOCK.wait(event, 60) is True


def test_a_deadline_counts_down_to_zero_and_stays_there() -> None:
    clock = HeldClock()
    deadline = Deadline(10, clock)
    assert deadline.seconds == 10
    assert deadline.remaining() == 10
    clock.advance(9.5)
    assert deadline.remaining() == 0.5
    assert not deadline.passed
    clock.advance(0.5)
    assert deadline.passed
    clock.advance(100)
    assert deadline.remaining() == 0.0


def test_a_deadline_allows_what_ends_before_it() -> None:
    deadline = Deadline(10, HeldClock())
    assert deadline.allows(9.99)
    assert not deadline.allows(10), "what ends with the deadline leaves no time for an answer"
    assert not deadline.allows(1e9)


def test_a_deadline_limits_time_outs() -> None:
    deadline = Deadline(10, HeldClock())
    assert deadline.limit(3) == 3
    assert deadline.limit(30) == 10
    assert deadline.limit(None) == 10


def test_no_deadline_bounds_nothing() -> None:
    deadline = Deadline(None, HeldClock())
    assert deadline.remaining() is None
    assert not deadline.passed
    assert deadline.allows(1e12)
    assert deadline.limit(None) is None
    assert deadline.limit(5) == 5


def test_a_lifeline_sleeps_its_time() -> None:
    clock = HeldClock()
    lifeline = Lifeline(clock)
    lifeline.check()
    lifeline.sleep(7)
    assert clock.naps == [7]


def test_closing_from_another_thread_ends_a_sleep_at_once() -> None:
    sleeping = threading.Event()

    class Announcing(Clock):
        def wait(self, event: Flag, seconds: float) -> bool:
            sleeping.set()
            return super().wait(event, seconds)

    lifeline = Lifeline(Announcing())
    begun = time.monotonic()
    sleeper = Background(lambda: lifeline.sleep(60))
    assert sleeping.wait(60)
    lifeline.close()
    assert isinstance(sleeper.result(), ClientClosedError)
    assert time.monotonic() - begun < 10


def test_closing_is_idempotent_and_final() -> None:
    lifeline = Lifeline()
    assert not lifeline.closed
    lifeline.close()
    lifeline.close()
    assert lifeline.closed
    with pytest.raises(ClientClosedError, match="make a new one"):
        lifeline.check()
    with pytest.raises(RuntimeError):
        lifeline.sleep(60)


def test_a_parent_ends_its_children_and_not_the_other_way_round() -> None:
    parent = Lifeline()
    one, other = parent.derive(), parent.derive()
    grandchild = other.derive()
    one.close()
    assert one.closed
    assert not parent.closed
    assert not other.closed
    parent.close()
    assert other.closed
    assert grandchild.closed


def test_what_is_derived_from_a_closed_one_is_closed() -> None:
    parent = Lifeline()
    parent.close()
    assert parent.derive().closed


def test_a_parent_holds_no_forgotten_child() -> None:
    parent = Lifeline()
    for _ in range(100):
        parent.derive()
    kept = parent.derive()
    wait_until(lambda: len(parent._children) == 1)
    parent.close()
    assert kept.closed


def test_closing_goes_on_when_another_thread_derives_meanwhile() -> None:
    parent = Lifeline()
    child = parent.derive()

    class Disturbed:
        """A set that is changed under the first two looks at it, as by another thread."""

        def __init__(self, members: List[Any]) -> None:
            self.members, self.disturbances = members, 2

        def __iter__(self) -> Iterator[Any]:
            if self.disturbances:
                self.disturbances -= 1
                raise RuntimeError("Set changed size during iteration")
            return iter(self.members)

    parent._children = Disturbed([child])  # type: ignore[assignment]
    parent.close()
    assert child.closed


def test_a_call_that_is_given_up_sleeps_no_more() -> None:
    def asleep(lifeline: Lifeline, call: Call) -> str:
        def sleep() -> str:
            enter_call(call)
            try:
                lifeline.sleep(60)
            except (ClientClosedError, CallAbandoned) as error:
                return type(error).__name__
            return "woke"

        return contextvars.copy_context().run(sleep)

    lifeline, call = Lifeline(), Call()
    sleeper = Background(lambda: asleep(lifeline, call))
    wait_until(lambda: bool(call._ends))
    call.abandon()
    assert sleeper.result() == "CallAbandoned"
    sleeper = Background(lambda: asleep(lifeline, Call()))
    wait_until(lambda: len(lifeline._children) > 0)
    lifeline.close()
    assert sleeper.result() == "ClientClosedError"


def test_a_call_that_nobody_gave_up_sleeps_its_time() -> None:
    def sleep() -> None:
        enter_call(Call())
        Lifeline().sleep(0.01)

    begun = time.monotonic()
    contextvars.copy_context().run(sleep)
    assert time.monotonic() - begun >= 0.01
