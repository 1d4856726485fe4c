"""How threads wait for what a state machine decides, and take turns with it."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

from ..core.waits import Signal, Waiting, until
from ..exceptions import APITimeoutError, SelfDBError
from .channel_machine import Settled, Waiter

__all__ = ["Attempt", "Turn", "Wait"]


class Wait(Waiter):
    """One caller who waits for one outcome. A signal handler may settle what its own thread is about to wait for."""

    def __init__(self) -> None:
        self._settled = Signal()
        self._outcome: Settled | None = None

    def settle(self, outcome: Settled) -> None:
        """It has come."""
        self._outcome = outcome
        self._settled.ring()

    def result(self, timeout: float, what: str) -> Waiting[Any]:
        """The response; the machine settles in time, the slack is for a machine that cannot."""
        yield from until(self._settled, lambda: self._outcome is not None, timeout + 1.0)
        if self._outcome is None:
            raise APITimeoutError(f"{what} was not answered within {timeout:g} s")
        if self._outcome.error is not None:
            raise copy.copy(self._outcome.error)  # several may wait, and an exception belongs to one thread
        return self._outcome.response


class Attempt:
    """One try to be connected, which several threads may wait for; it ends once."""

    def __init__(self) -> None:
        self._changed = Signal()
        self._ended = False
        self.error: SelfDBError | None = None

    def end(self, error: SelfDBError | None = None) -> None:
        """Connected, or failed with ``error``."""
        if not self._ended:
            self.error = error
            self._ended = True
            self._changed.ring()

    def wait(self, timeout: float) -> Waiting[bool]:
        """Whether it ended within ``timeout`` seconds.

        :raises SelfDBError: if it failed.
        """
        ended = yield from until(self._changed, lambda: self._ended, timeout)
        if ended and self.error is not None:
            raise copy.copy(self.error)
        return ended


class Turn:
    """A lock for what threads and signal handlers do to one machine.

    A handler may interrupt its own thread in the middle of a turn, where the machine is half done. What it wants is
    then done at the end of that turn.

    :param last: done at the end of a turn in which ``stopping`` was set.
    """

    def __init__(self, last: Callable[[], object]) -> None:
        self._lock = threading.RLock()
        self._last = last
        self.depth = 0
        self.stopping = False

    def __enter__(self) -> Turn:
        self._lock.acquire()
        self.depth += 1
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            if self.depth == 1 and self.stopping:
                self.stopping = False
                self._last()
        finally:
            self.depth -= 1
            self._lock.release()
