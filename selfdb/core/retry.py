"""When to try again, how long to wait before, and how often in all. Values and arithmetic only."""

from __future__ import annotations

import enum
import math
import random
import threading
from collections.abc import Callable
from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import NamedTuple, Optional

from ..exceptions import SelfDBError
from .forks import renew_after_fork

__all__ = ["SAFE_METHODS", "Failure", "RetryBudget", "RetryPolicy", "may_repeat", "parse_retry_after"]

SAFE_METHODS = frozenset({"GET", "HEAD"})
"""Methods that change nothing, so that sending one twice does no harm."""


class Failure(enum.Enum):
    """What an attempt tells about the request: the question is always whether it may have been processed."""

    NOT_SENT = "could not connect; no byte of the request left"
    AMBIGUOUS = "sent, and the connection was lost, timed out or cut short"
    RATE_LIMITED = "429: refused unprocessed"
    UNAVAILABLE = "502, 503 or 504: a gateway may have passed it on"
    FINAL = "trying again would not change the outcome"


def may_repeat(
    failure: Failure, method: str, key_acknowledged: bool = False, methods: frozenset[str] = SAFE_METHODS
) -> bool:
    """Whether a request may be sent again after ``failure``.

    :param method: the HTTP method.
    :param key_acknowledged: the request carries an idempotency key and this server is known to honour them.
    :param methods: those that may be sent again although they may have been processed.
    """
    if failure in (Failure.NOT_SENT, Failure.RATE_LIMITED):
        return True
    if failure in (Failure.AMBIGUOUS, Failure.UNAVAILABLE):
        return method in methods or key_acknowledged
    return False


class RetryPolicy(NamedTuple):
    """How often and how fast. Immutable, so that threads may share it.

    :param max_retries: attempts after the first; 0 means none.
    :param base: seconds; the ceiling of the first wait.
    :param cap: seconds; no ceiling grows above it.
    :param random: a source of floats in [0, 1); the wait is uniform below its ceiling ("full jitter"),
        because a crowd of clients that waits in step comes back in step.
    :param growth: how many times as high the ceiling of a wait is as that of the one before.
    :param spread: from and up to which part of its ceiling a wait is drawn.
    :param unprocessed: statuses that say that nothing was done, so that any request may be sent again.
    :param statuses: other statuses after which a request is sent again if that is safe.
    :param methods: for which it is.
    :param patience: seconds up to which a server's wish to wait is followed, where it is longer than the own wait;
        ``None`` follows it as it stands, or not at all if it does not fit into the deadline.
    :param on_retry: called before each wait with the number of attempts so far, the error and the seconds.
    """

    max_retries: int = 2
    base: float = 0.25
    cap: float = 8.0
    random: Callable[[], float] = random.random
    growth: float = 2.0
    spread: tuple[float, float] = (0.0, 1.0)
    unprocessed: frozenset[int] = frozenset({429})
    statuses: frozenset[int] = frozenset({502, 503, 504})
    methods: frozenset[str] = SAFE_METHODS
    patience: Optional[float] = None
    on_retry: Optional[Callable[[int, SelfDBError, float], object]] = None

    def delay(self, retry: int) -> float:
        """Seconds to wait before retry number ``retry``, counted from 0."""
        low, high = self.spread
        return (low + (high - low) * self.random()) * min(self.cap, self.base * self.growth ** min(retry, 32))

    def wait(self, retry: int, asked: float | None) -> float:
        """As ``delay``, for a server that asked for a wait of ``asked`` seconds, or for none."""
        if asked is None:
            return self.delay(retry)
        return asked if self.patience is None else max(self.delay(retry), min(asked, self.patience))


class RetryBudget:
    """Retries that a whole client may still make: a dead server is not to be hit three times as hard.

    Every retry takes from it, every success gives a little back. May be shared by threads.

    :param capacity: where it starts and what it never exceeds.
    """

    COST = 5
    COST_OF_TIMEOUT = 10
    """A time-out has already cost the server, and us, the most."""

    def __init__(self, capacity: int = 500) -> None:
        self._capacity = capacity
        self._left = capacity
        self._lock = threading.RLock()  # a signal handler may make a call where its own thread counts
        renew_after_fork(self)

    def _renew_in_child(self) -> None:
        self._lock = threading.RLock()

    @property
    def left(self) -> int:
        """What is left of the capacity."""
        return self._left

    def take(self, amount: int) -> bool:
        """Take ``amount`` if there is as much; return whether there was."""
        with self._lock:
            if self._left < amount:
                return False
            self._left -= amount
            return True

    def give(self, amount: int = 1) -> None:
        """Put ``amount`` back, up to the capacity."""
        if self._left < self._capacity:  # the common case, a full budget, takes no lock
            with self._lock:
                self._left = min(self._capacity, self._left + amount)


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Seconds that a ``Retry-After`` header asks for, or ``None`` if it says nothing usable.

    :param value: the header: seconds or an HTTP date.
    :param now: seconds since the epoch, to which a date is compared; a date in the past is 0.
    """
    if value is None:
        return None
    text = value.strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            when = parsedate_to_datetime(text)
            if when.tzinfo is None:  # HTTP dates are in UTC whether they say so or not
                when = when.replace(tzinfo=timezone.utc)
            seconds = max(0.0, when.timestamp() - now)
        except (TypeError, ValueError, OverflowError, IndexError):
            return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
