"""A blocking call on behalf of somebody elsewhere: a task that may give it up, a thread whose callback it serves."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from contextvars import Context, ContextVar
from typing import Any, TypeVar

from .forks import renew_after_fork

__all__ = [
    "Call",
    "CallAbandoned",
    "Visit",
    "acting_thread",
    "away",
    "carry",
    "carry_into",
    "current_call",
    "enter_call",
    "enter_visit",
    "interruptible",
    "on_a_loop",
    "serves",
    "shielded",
]


T = TypeVar("T")


class CallAbandoned(BaseException):
    """Nobody waits for this call any more. Like `GeneratorExit` it is no error, and nothing may recover from it."""


class Call:
    """One call that may be given up while a thread is in it. ``abandon`` may be called from any thread.

    :ivar abandoned: whether it was given up.
    :ivar finished: whether it came to its end; what it left running has a life of its own then.
    """

    __slots__ = ("_ends", "_lock", "abandoned", "finished")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: list[Callable[[], object]] = []
        self.abandoned = False
        self.finished = False

    def abandon(self) -> None:
        """Give it up: what its threads wait for ends at once, and what they begin then does not begin."""
        with self._lock:
            if self.finished:
                return
            # With the lock held, for what is ended here must still be the call's: a socket may be another's the
            # moment its wait is over. Ending a wait takes no time and calls nobody.
            self.abandoned = True
            for end in self._ends:
                end()

    def check(self) -> None:
        """Return if somebody still waits for it.

        :raises CallAbandoned: if not.
        """
        if self.abandoned:
            raise CallAbandoned

    def finish(self) -> None:
        """It came to its end; from now on it cannot be given up."""
        with self._lock:
            self.finished = True

    def begin(self, end: Callable[[], object]) -> None:
        """Enter a wait that ``end`` ends from outside.

        :raises CallAbandoned: if nobody waits for the call any more.
        """
        with self._lock:
            self.check()
            self._ends.append(end)
        self.leave()

    def over(self, end: Callable[[], object]) -> None:
        """Leave the wait; ``end`` is not called any more."""
        with self._lock:
            self._ends.remove(end)
        self.come_back()

    def leave(self) -> None:
        """The calling thread goes to wait for something; leaves may be nested."""

    def come_back(self) -> None:
        """It goes on."""


class _Shield(Call):
    """Stands for a call in a part of it that nothing may interrupt."""

    __slots__ = ("_inner",)

    def __init__(self, inner: Call) -> None:
        super().__init__()
        self._inner = inner

    def leave(self) -> None:
        self._inner.leave()

    def come_back(self) -> None:
        self._inner.come_back()


_call: ContextVar[Call | None] = ContextVar("selfdb_call", default=None)


def current_call() -> Call | None:
    """The call that this code is part of, if it can be given up."""
    call = _call.get()
    # One that was given up remains so for the threads that it started, though itself it has ended.
    return None if call is None or (call.finished and not call.abandoned) else call


class _Present:
    """The call of a thread that forks."""

    def _renew_in_child(self) -> None:
        # Who waits for it, and may just have been giving it up, is in the parent.
        _call.set(None)


_present = _Present()
renew_after_fork(_present)


def enter_call(call: Call) -> None:
    """Say that what runs in the present context from now on is part of ``call``."""
    _call.set(call)


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """Let nobody interrupt what happens inside: others wait for its outcome too."""
    call = current_call()
    token = _call.set(None if call is None else _Shield(call))
    try:
        yield
    finally:
        _call.reset(token)


@contextlib.contextmanager
def away() -> Iterator[None]:
    """Wait inside for something that cannot be ended from outside."""
    call = current_call()
    if call is None:
        yield
        return
    call.leave()
    try:
        yield
    finally:
        call.come_back()


@contextlib.contextmanager
def interruptible(end: Callable[[], object]) -> Iterator[None]:
    """Wait inside for something that ``end`` ends from another thread if the current call is given up.

    :raises CallAbandoned: if it is, or was before.
    """
    call = current_call()
    if call is None:
        yield
        return
    call.begin(end)
    try:
        yield
    finally:
        call.over(end)
        call.check()


class Visit:
    """A callback that a thread has sent to an event loop, and waits for.

    :ivar thread: the one that waits.
    :ivar active: whether it still does.
    :ivar outer: the visit that this thread itself serves, if it does.
    """

    __slots__ = ("active", "outer", "thread")

    def __init__(self) -> None:
        self.thread = threading.current_thread()
        self.active = True
        self.outer = _visit.get()


_visit: ContextVar[Visit | None] = ContextVar("selfdb_visit", default=None)


def enter_visit(visit: Visit) -> None:
    """Say that what runs in the present context from now on serves ``visit``, and is part of no call."""
    _visit.set(visit)
    _call.set(None)


def acting_thread() -> threading.Thread:
    """The thread that cannot go on before this code has: the current one, or the one whose callback this serves."""
    visit = _visit.get()
    return visit.thread if visit is not None and visit.active else threading.current_thread()


def serves(thread: threading.Thread) -> bool:
    """Whether ``thread`` cannot go on before this code has: it waits for a callback of which this is part."""
    visit = _visit.get()
    while visit is not None and visit.active:
        if visit.thread is thread:
            return True
        visit = visit.outer
    return False


def on_a_loop() -> bool:
    """Whether an event loop runs on this thread, which must not wait then."""
    asyncio = sys.modules.get("asyncio")  # without which there is none, and which takes long to import
    if asyncio is None:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


_carried: list[ContextVar[Any]] = []


def carry(variable: ContextVar[T]) -> ContextVar[T]:
    """Have a callback on a loop see the value of ``variable`` that the calling thread has, not the one of the moment
    at which the callback was given. It must have a default."""
    _carried.append(variable)
    return variable


def carry_into(context: Context) -> None:
    """Set in ``context`` what is carried, as it is here."""
    for variable in _carried:
        context.run(variable.set, variable.get())
