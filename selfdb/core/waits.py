"""Waits, written once: a generator says what it waits for, and a thread or an event loop does the waiting."""

from __future__ import annotations

import functools
import queue
import threading
import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, Union, overload

from .call import interruptible
from .marks import set_steps

if TYPE_CHECKING:
    from typing_extensions import ParamSpec

    P = ParamSpec("P")

__all__ = ["END", "Ask", "Pause", "Signal", "Step", "Waiting", "Work", "ask", "finish", "until", "waiting", "work"]

T = TypeVar("T")

END: Any = object()
"""What a waiting ``__next__`` returns at its end: a generator cannot raise ``StopIteration``."""


class Signal:
    """Tells those who wait that something may have changed.

    May be rung from any thread, and from a signal handler that interrupted a thread about to wait: it has no lock.
    To miss nothing, change the state before ringing, and take :attr:`moment` before looking at the state.

    :ivar moment: another object after each ring.
    """

    __slots__ = ("_watchers", "moment")

    def __init__(self) -> None:
        self.moment = object()
        self._watchers: list[Callable[[], object]] = []

    def ring(self) -> None:
        """Wake everybody who waits."""
        self.moment = object()
        for wake in tuple(self._watchers):
            wake()

    def watch(self, wake: Callable[[], object]) -> None:
        """Call ``wake`` at each ring, on the thread that rings; it must not wait."""
        self._watchers.append(wake)

    def unwatch(self, wake: Callable[[], object]) -> None:
        """Call it no more."""
        self._watchers.remove(wake)

    def wait(self, moment: object, seconds: float | None) -> None:
        """Block until rung after ``moment``, or for ``seconds``."""
        gate: queue.SimpleQueue[None] = queue.SimpleQueue()

        def wake() -> None:
            gate.put(None)

        self.watch(wake)
        try:
            if self.moment is moment:
                with interruptible(wake):
                    gate.get(timeout=None if seconds is None else min(max(0.0, seconds), threading.TIMEOUT_MAX))
        except queue.Empty:
            return
        finally:
            self.unwatch(wake)


class Pause(NamedTuple):
    """Wait until ``signal`` is rung after ``moment``, for ``seconds`` at most."""

    signal: Signal
    moment: object
    seconds: float | None


class Work(NamedTuple):
    """Call ``do``, which may block, and go on with what it returns or raises.

    :ivar shield: whether it goes on when nobody waits for it any more.
    """

    do: Callable[[], Any]
    shield: bool = False


class Ask(NamedTuple):
    """Call ``function``, which is the user's, with ``arguments``, and go on with what it returns or raises."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]


Step = Union[Pause, Work, Ask]

Waiting = Generator[Step, Any, T]
"""A wait under way. Between its steps it must not block, for it may run on an event loop. There a step that is
cancelled raises that into the generator, which may wait once more to clean up."""


def until(signal: Signal, ready: Callable[[], bool], seconds: float | None) -> Waiting[bool]:
    """Wait until ``ready()``; false if it was not within ``seconds``."""
    end = None if seconds is None else time.monotonic() + seconds
    while True:
        moment = signal.moment
        if ready():
            return True
        left = None if end is None else end - time.monotonic()
        if left is not None and left <= 0:
            return False
        yield Pause(signal, moment, left)


def work(do: Callable[[], T], *, shield: bool = False) -> Waiting[T]:
    """What ``do()`` gives, which may block; if ``shield``, it goes on when nobody waits for it any more."""
    result: T = yield Work(do, shield)
    return result


def ask(function: Callable[..., Any], *arguments: Any) -> Waiting[Any]:
    """What ``function(*arguments)`` gives, which is the user's."""
    result = yield Ask(function, arguments)
    return result


def finish(steps: Waiting[T]) -> T:
    """Do all that ``steps`` asks for on the calling thread, and return what they come to."""
    answer: Any = None
    error: BaseException | None = None
    try:
        while True:
            step = steps.send(answer) if error is None else steps.throw(error)
            answer = error = None
            if isinstance(step, Pause):
                step.signal.wait(step.moment, step.seconds)
                continue
            try:
                answer = step.do() if isinstance(step, Work) else step.function(*step.arguments)
            except BaseException as raised:  # noqa: BLE001 - the generator's to handle
                error = raised
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        error = None  # it must not lead back to itself through this frame
        steps.close()


@overload
def waiting(function: Callable[P, Waiting[T]]) -> Callable[P, T]: ...


@overload
def waiting(
    *, opens: bool = ..., asks: tuple[str, ...] = ...
) -> Callable[[Callable[P, Waiting[T]]], Callable[P, T]]: ...


def waiting(function: Any = None, *, opens: bool = False, asks: tuple[str, ...] = ()) -> Any:
    """A blocking function out of a generator function, which stays at hand for an event loop.

    Arguments as in :class:`~selfdb.core.marks.Mark`.
    """
    if function is None:
        return functools.partial(_finishing, opens=opens, asks=asks)
    return _finishing(function, opens=False, asks=())


def _finishing(function: Callable[..., Waiting[Any]], *, opens: bool, asks: tuple[str, ...]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        result = finish(function(*args, **kwargs))
        if result is END:
            raise StopIteration
        return result

    set_steps(call, function, opens, asks)
    returned = str(function.__annotations__.get("return", ""))
    if returned.startswith("Waiting["):  # what it returns to its caller
        call.__annotations__ = {**function.__annotations__, "return": returned[len("Waiting[") : -1]}
    return call
