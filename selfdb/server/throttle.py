"""How often a login may fail before further ones have to wait."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict, deque
from contextlib import contextmanager
from typing import Deque, Iterator, Tuple

from .clock import Clock
from .errors import ApiError

__all__ = ["LoginThrottle"]

_MOST_KEYS = 100_000
_Key = Tuple[str, str]


class _Record:
    def __init__(self) -> None:
        self.failures: Deque[float] = deque()
        self.running = 0


class LoginThrottle:
    """Counts failed logins by e-mail and client address in a sliding window. Thread-safe, in memory.

    Attempts under way count as possible failures: with parallel guesses nobody gets more than ``failures``
    of them in a window, while parallel logins with the right password merely wait for one another.
    """

    def __init__(self, clock: Clock, failures: int, window_seconds: int) -> None:
        self._clock = clock
        self._limit = failures
        self._window = window_seconds
        self._records: OrderedDict[_Key, _Record] = OrderedDict()
        self._changed = threading.Condition()

    def __len__(self) -> int:
        """For how many pairs of e-mail and address something is remembered."""
        with self._changed:
            return len(self._records)

    @contextmanager
    def attempt(self, email: str, address: str) -> Iterator[None]:
        """Surround one check of a password; an exception that leaves the block counts as a failure.

        :raises ApiError: 429 with ``Retry-After`` while there were too many failures.
        """
        key = (email.lower(), address)
        with self._changed:
            while True:
                record = self._record(key)
                self._forget_old(record)
                if len(record.failures) >= self._limit:
                    wait = record.failures[0] + self._window - self._clock.monotonic()
                    raise ApiError(
                        429,
                        "Too many failed logins; try again later",
                        {"Retry-After": str(max(1, math.ceil(wait)))},
                    )
                if len(record.failures) + record.running < self._limit:
                    break
                self._changed.wait()
            record.running += 1
        failed = True
        try:
            yield
            failed = False
        finally:
            with self._changed:
                record.running -= 1
                if failed:
                    record.failures.append(self._clock.monotonic())
                elif not record.failures and not record.running:
                    self._records.pop(key, None)
                self._changed.notify_all()

    def _record(self, key: _Key) -> _Record:
        record = self._records.pop(key, None) or _Record()
        self._records[key] = record
        if len(self._records) > _MOST_KEYS:
            for stale, other in list(self._records.items())[: _MOST_KEYS // 10]:
                if not other.running:
                    del self._records[stale]
        return record

    def _forget_old(self, record: _Record) -> None:
        horizon = self._clock.monotonic() - self._window
        while record.failures and record.failures[0] <= horizon:
            record.failures.popleft()
