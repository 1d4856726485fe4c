"""Waits as generators, driven by a thread."""

from __future__ import annotations

import contextvars
import gc
import threading
import weakref
from typing import Any, List

import pytest

from selfdb.core.call import Call, CallAbandoned, enter_call
from selfdb.core.marks import mark_of
from selfdb.core.waits import END, Signal, Waiting, ask, finish, until, waiting, work
from tests.core.kit import BOUND, Background, wait_until


def test_a_ring_wakes_who_waits() -> None:
    signal, rung = Signal(), []
    moment = signal.moment
    background = Background(lambda: signal.wait(moment, BOUND))
    wait_until(lambda: bool(signal._watchers))
    signal.watch(lambda: rung.append(1))
    signal.ring()
    assert background.result() is None
    assert rung == [1]
    assert len(signal._watchers) == 1


def test_a_ring_before_the_wait_is_not_missed() -> None:
    signal = Signal()
    moment = signal.moment
    signal.ring()
    signal.wait(moment, None)


def test_a_wait_has_an_end() -> None:
    signal = Signal()
    signal.wait(signal.moment, 0.001)
    signal.wait(signal.moment, -1)
    assert signal._watchers == []


def test_a_wait_ends_when_its_call_is_given_up() -> None:
    signal, call = Signal(), Call()

    def wait() -> None:
        enter_call(call)
        signal.wait(signal.moment, None)

    background = Background(lambda: contextvars.copy_context().run(wait))
    wait_until(lambda: bool(signal._watchers))
    call.abandon()
    assert isinstance(background.result(), CallAbandoned)
    assert signal._watchers == []


def test_until_looks_again_after_each_ring_and_gives_up_in_time() -> None:
    signal, state = Signal(), []
    background = Background(lambda: finish(until(signal, lambda: len(state) == 3, None)))
    for _ in range(3):
        wait_until(lambda: bool(signal._watchers))
        state.append(1)
        signal.ring()
    assert background.result() is True
    assert finish(until(signal, lambda: False, 0.001)) is False
    assert finish(until(signal, lambda: True, 0)) is True
    assert finish(until(signal, lambda: False, 0)) is False


def test_steps_get_what_they_ask_for() -> None:
    def steps() -> Waiting[List[Any]]:
        first = yield from work(lambda: 1)
        second = yield from ask(lambda *given: given, 2, 3)
        return [first, second]

    assert finish(steps()) == [1, (2, 3)]


def test_steps_may_handle_what_their_work_raises() -> None:
    def steps(error: BaseException) -> Waiting[str]:
        def fails() -> Any:
            raise error

        try:
            yield from work(fails)
        except ValueError:
            return "handled"
        return "not raised"

    assert finish(steps(ValueError())) == "handled"
    with pytest.raises(KeyError):
        finish(steps(KeyError()))
    with pytest.raises(KeyboardInterrupt):
        finish(steps(KeyboardInterrupt()))


def test_what_was_raised_is_not_kept_by_its_own_traceback() -> None:
    class Particular(Exception):
        pass

    def fails() -> Any:
        raise Particular

    def steps() -> Waiting[None]:
        yield from work(fails)

    gc.disable()
    try:
        with pytest.raises(Particular) as caught:
            finish(steps())
        kept = weakref.ref(caught.value)
        caught.value.__traceback__ = None
        del caught
        assert kept() is None
    finally:
        gc.enable()


def test_steps_are_closed_when_the_thread_is_interrupted() -> None:
    ended: List[int] = []

    class Interrupting(Signal):
        def wait(self, moment: object, seconds: Any) -> None:
            raise KeyboardInterrupt

    def steps() -> Waiting[None]:
        try:
            yield from until(Interrupting(), lambda: False, None)
        finally:
            ended.append(1)

    with pytest.raises(KeyboardInterrupt):
        finish(steps())
    assert ended == [1]


class Counted:
    """An iterator whose steps wait."""

    def __init__(self, count: int) -> None:
        self._left = count

    def __iter__(self) -> Counted:
        return self

    @waiting
    def __next__(self) -> Waiting[int]:
        """How many are left."""
        if not self._left:
            return END  # type: ignore[no-any-return]
        self._left = yield from work(lambda: self._left - 1)
        return self._left

    @waiting(opens=True, asks=("function",))
    def opened(self, function: Any) -> Waiting[Any]:
        result = yield from ask(function)
        return result

    @waiting
    def bare(self):  # type: ignore[no-untyped-def]
        yield from work(lambda: None)


def test_a_waiting_method_is_an_ordinary_one_for_threads() -> None:
    assert list(Counted(3)) == [2, 1, 0]
    assert Counted.__next__.__doc__ == "How many are left."
    assert Counted.__next__.__annotations__["return"] == "int"
    assert Counted(0).opened(lambda: 7) == 7
    assert Counted(0).bare() is None


def test_a_waiting_method_keeps_its_steps_at_hand() -> None:
    mark = mark_of(Counted.opened)
    assert mark is not None
    assert (mark.kind, mark.opens, mark.asks) == ("waiting", True, ("function",))
    assert mark.steps is not None
    steps = mark.steps(Counted(0), threading.current_thread)
    assert next(steps).function is threading.current_thread
    steps.close()
