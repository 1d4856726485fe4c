"""What tests of live queries have at hand: callbacks that can be waited for, and functions that count their runs."""

from __future__ import annotations

import threading
import time
from typing import Any, Callable, Generic, List, TypeVar

from selfdb.core.clock import Clock

T = TypeVar("T")

SOON = 30.0
"""Seconds that anything which is to happen at once may take on a machine that is busy with other things."""


def wait_until(true: Callable[[], object], seconds: float = SOON) -> None:
    """Return when it is; fail if it is not in time."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to be in time"
        time.sleep(0.002)


class Calls:
    """A callback that keeps what it was called with."""

    def __init__(self, then: Callable[[Any], object] = lambda value: None) -> None:
        self.values: List[Any] = []
        self.threads: List[threading.Thread] = []
        self._then = then
        self._changed = threading.Condition()

    def __call__(self, value: Any) -> None:
        with self._changed:
            self.values.append(value)
            self.threads.append(threading.current_thread())
            self._changed.notify_all()
        self._then(value)

    def wait(self, count: int, seconds: float = SOON) -> List[Any]:
        """The values, as soon as there are that many."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.values) >= count, seconds), self.values
        return self.values


class Counted(Generic[T]):
    """A function for a live query that counts how often it ran."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self.runs = 0

    def __call__(self) -> T:
        self.runs += 1
        return self._function()


class Hands(Clock):
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


class Ahead(Clock):
    """Goes as ever, and is moved ahead by hand."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


def feeding() -> bool:
    """Whether a database of this process has a thread for live queries."""
    return any(thread.name == "selfdb-indexie-live" for thread in threading.enumerate())


def names(rows: List[Any]) -> List[Any]:
    return [row.get("name") for row in rows]


def settled(query: Any) -> int:
    """The version of a live query that shows all that was committed."""
    assert query.settle(SOON)
    return int(query.version)


def elsewhere(do: Callable[[], Any]) -> None:
    """Do it on another thread, and wait for its end."""
    thread = threading.Thread(target=do)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
