"""How often and how fast a client of AeroDB tries again, as its users say it; the kernel's policy does it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, FrozenSet, Optional

from ..core import retry as core
from ..exceptions import InvalidRequestError, SelfDBError
from .envelope import AeroDBError

__all__ = ["RetryPolicy"]

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
_LONGEST = 3600.0


@dataclass(frozen=True)
class RetryPolicy:
    """Given to a client, has it try again what failed. The last error is in the envelope as ever.

    What could not connect is tried again whatever it is; what may have been processed only for ``methods``. All waits
    have to fit into the client's ``timeout``.

    :param max_attempts: in all, the first one included.
    :param initial_delay: seconds before the second attempt.
    :param max_delay: seconds that no wait exceeds, but for its jitter.
    :param multiplier: how many times as long each wait is as the one before.
    :param jitter: by which part of itself a wait may be shorter or longer, 0 to 1.
    :param statuses: answers that are tried again.
    :param methods: that may be sent again although they may have been processed.
    :param on_retry: called as ``on_retry(attempt, error, delay)`` before each wait: attempts so far, the
        :class:`AeroDBError` of the last one, seconds to wait.
    :raises InvalidRequestError: (a ``ValueError``) for a value out of range.
    """

    max_attempts: int = 3
    initial_delay: float = 1.0
    max_delay: float = 30.0
    multiplier: float = 2.0
    jitter: float = 0.5
    statuses: FrozenSet[int] = frozenset({408, 429, 500, 502, 503, 504})
    methods: FrozenSet[str] = frozenset({"GET", "HEAD"})
    on_retry: Optional[Callable[[int, AeroDBError, float], object]] = None

    def __post_init__(self) -> None:
        if isinstance(self.max_attempts, bool) or not isinstance(self.max_attempts, int) or self.max_attempts < 1:
            raise InvalidRequestError("max_attempts must be a whole number of 1 or more")
        for name, low, high in (
            ("initial_delay", 0.0, _LONGEST),
            ("max_delay", 0.0, _LONGEST),
            ("multiplier", 1.0, 100.0),
            ("jitter", 0.0, 1.0),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
                raise InvalidRequestError(f"{name} must be a number from {low:g} to {high:g}")
        for name in ("statuses", "methods"):
            if isinstance(getattr(self, name), str) or not isinstance(getattr(self, name), Iterable):
                raise InvalidRequestError(f"{name} must be a set, not {type(getattr(self, name)).__name__}")
        statuses = frozenset(self.statuses)
        if not all(isinstance(status, int) and 400 <= status <= 599 for status in statuses):
            raise InvalidRequestError("statuses must be of 400 to 599")
        methods = frozenset(str(method).upper() for method in self.methods)
        if not methods <= _METHODS:
            raise InvalidRequestError(f"methods must be of {', '.join(sorted(_METHODS))}")
        if self.on_retry is not None and not callable(self.on_retry):
            raise InvalidRequestError("on_retry must be callable")
        object.__setattr__(self, "statuses", statuses)
        object.__setattr__(self, "methods", methods)

    def for_kernel(self, error_of: Callable[[Exception], AeroDBError]) -> core.RetryPolicy:
        """The kernel's policy that does this.

        :param error_of: what an exception is called in an envelope.
        """
        tell: Any = None
        on_retry = self.on_retry
        if on_retry is not None:

            def tell(attempt: int, error: SelfDBError, delay: float) -> None:
                on_retry(attempt, error_of(error), delay)

        return core.RetryPolicy(
            max_retries=self.max_attempts - 1,
            base=float(self.initial_delay),
            cap=float(self.max_delay),
            growth=float(self.multiplier),
            spread=(1.0 - self.jitter, 1.0 + self.jitter),
            unprocessed=frozenset(),
            statuses=self.statuses,
            methods=self.methods,
            patience=float(self.max_delay),
            on_retry=tell,
        )
