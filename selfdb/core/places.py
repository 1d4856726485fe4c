"""How many threads compute at a time: the others wait for the network, or for their turn."""

from __future__ import annotations

import threading
from collections import deque

__all__ = ["Places"]

STUCK_SECONDS = 0.05
"""When no place has changed hands for so long, those who hold them wait for something that nobody told us of."""


class Places:
    """Places to compute. Threads that come back from a wait go before those that begin something new.

    Python computes on one thread at a time. More that want to only make everybody else wait for the interpreter, the
    event loop first of all. With places a fast server is kept busy by a few threads, and a slow one gets as many
    calls at a time as there are threads, without a word about which it is.

    May be shared by threads.

    :param count: how many there are.
    """

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._free = count
        self._given = 0
        self._returning: deque[threading.Lock] = deque()
        self._beginning: deque[threading.Lock] = deque()

    def take(self, *, begins: bool) -> bool:
        """Wait for a place; false where one has to go on without, lest all wait for each other.

        :param begins: whether something new is begun with it.
        """
        with self._lock:
            if self._free:
                self._free -= 1
                return True
            queue = self._beginning if begins else self._returning
            gate = threading.Lock()
            gate.acquire()
            queue.append(gate)
        while True:
            given = self._given
            if gate.acquire(timeout=STUCK_SECONDS):
                return True
            with self._lock:
                if given != self._given:
                    continue
                if gate not in queue:
                    return True  # it came in the last moment
                queue.remove(gate)
                return False

    def give(self) -> None:
        """Let another thread have the place."""
        with self._lock:
            self._given += 1
            queue = self._returning or self._beginning
            if not queue:
                self._free += 1
                return
            gate = queue.popleft()
        gate.release()
