"""How threads wait for what a state machine decides, and take turns with it."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

from ..exceptions import APITimeoutError, SelfDBError
from .channel_machine import Settled, Waiter

__all__ = ["Attempt", "Turn", "Wait"]


class Wait(Waiter):
    """One thread that waits for one outcome."""

    def __init__(self) -> None:
        # A bare lock, which a signal handler can open while its thread is about to wait for it.
        self._unsettled = threading.Lock()
        self._unsettled.acquire()
        self._outcome: Settled | None = None

    def settle(self, outcome: Settled) -> None:
        """It has come."""
        self._outcome = outcome
        self._unsettled.release()

    def result(self, timeout: float, what: str) -> Any:
        """The response; the machine settles in time, the slack is for a machine that cannot."""
        if not self._unsettled.acquire(timeout=timeout + 1.0) or self._outcome is None:
            raise APITimeoutError(f"{what} was not answered within {timeout:g} s")
        if self._outcome.error is not None:
            raise copy.copy(self._outcome.error)  # several may wait, and an exception belongs to one thread
        return self._outcome.response


class Attempt:
    """One try to be connected, which several threads may wait for; it ends once."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self.error: SelfDBError | None = None

    def end(self, error: SelfDBError | None = None) -> None:
        """Connected, or failed with ``error``."""
        if not self._ended.is_set():
            self.error = error
            self._ended.set()

    def wait(self, timeout: float) -> bool:
        """Whether it ended within ``timeout`` seconds.

        :raises SelfDBError: if it failed.
        """
        if not self._ended.wait(timeout):
            return False
        if self.error is not None:
            raise copy.copy(self.error)
        return True


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
