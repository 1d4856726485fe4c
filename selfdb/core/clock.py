"""The clock that everything in the kernel asks, so that a test can hold it still."""

from __future__ import annotations

import time
from functools import partial

from .flags import Flag

__all__ = ["SYSTEM_CLOCK", "Clock", "Deadline"]


_BOOT = getattr(time, "CLOCK_BOOTTIME", None)
"""Linux's; elsewhere the monotonic clock does not stop, or nothing better is to be had."""

_elapsed = time.monotonic if _BOOT is None else partial(time.clock_gettime, _BOOT)


class Clock:
    """Time as the kernel sees it; subclass it to test without waiting. May be shared by threads."""

    def monotonic(self) -> float:
        """Seconds that never run backwards; only differences mean something."""
        return time.monotonic()

    def time(self) -> float:
        """Seconds since the epoch, for comparison with dates that others state."""
        return time.time()

    def elapsed(self) -> float:
        """As :meth:`monotonic`, and it goes on while the machine sleeps: for the age of what is kept for long."""
        return _elapsed()

    def wait(self, event: Flag, seconds: float) -> bool:
        """Block for ``seconds`` or until ``event`` is set; return whether it is set."""
        return event.wait(seconds)


SYSTEM_CLOCK = Clock()


class Deadline:
    """A moment by which a whole call has to be over.

    :param seconds: time from now; ``None`` means that there is no such moment.
    """

    __slots__ = ("_clock", "_end", "seconds")

    def __init__(self, seconds: float | None, clock: Clock = SYSTEM_CLOCK) -> None:
        self.seconds = seconds
        self._clock = clock
        self._end = None if seconds is None else clock.monotonic() + seconds

    def remaining(self) -> float | None:
        """Seconds left, never below zero; ``None`` without a deadline."""
        return None if self._end is None else max(0.0, self._end - self._clock.monotonic())

    @property
    def passed(self) -> bool:
        """Whether the moment has come."""
        return self._end is not None and self._clock.monotonic() >= self._end

    def allows(self, seconds: float) -> bool:
        """Whether something that takes ``seconds`` would still end in time."""
        return self._end is None or self._clock.monotonic() + seconds < self._end

    def limit(self, timeout: float | None) -> float | None:
        """The shorter of ``timeout`` and what is left; ``None`` when neither bounds anything."""
        left = self.remaining()
        if left is None:
            return timeout
        return left if timeout is None else min(timeout, left)
