"""A clock that only moves when a test moves it."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta, timezone
from typing import Optional


class FakeClock:
    """Wall time and monotonic time, advanced by hand; safe to share between threads.

    It starts at the present, so that tokens made by it also look valid to a client with a real clock.
    """

    def __init__(self, start: Optional[datetime] = None) -> None:
        self._lock = threading.Lock()
        self._start = start or datetime.now(timezone.utc)
        self._elapsed = 0.0
        self._jump = timedelta(0)

    def now(self) -> datetime:
        """The wall time, aware, in UTC."""
        with self._lock:
            return self._start + self._jump + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        """Seconds since an arbitrary point; never moved by `jump`."""
        with self._lock:
            return 1000.0 + self._elapsed

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` (not negative) pass on both clocks."""
        if seconds < 0:
            raise ValueError("time only goes forward; use jump() to set the wall clock")
        with self._lock:
            self._elapsed += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back by ``seconds``, as an operator or NTP does."""
        with self._lock:
            self._jump += timedelta(seconds=seconds)
