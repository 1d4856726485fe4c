"""A lock that belongs to no thread, given to those who wait for it in the order in which they came."""

from __future__ import annotations

import threading
from collections import deque

from .waits import Signal, Waiting, finish, until

__all__ = ["Turns"]


class _Turn:
    """One who waits.

    :ivar came: whether it is his turn.
    :ivar dismissed: whether it will not be, whatever happens.
    """

    __slots__ = ("came", "dismissed", "signal")

    def __init__(self) -> None:
        self.signal = Signal()
        self.came = False
        self.dismissed = False


class Turns:
    """Who acquires it may do so on one thread and release it on another: a transaction of somebody on an event loop
    does. May be shared by threads; it is not reentrant.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = False
        self._waiting: deque[_Turn] = deque()

    @property
    def taken(self) -> bool:
        """Whether somebody has it."""
        return self._taken

    def try_acquire(self) -> bool:
        """Acquire it if nobody has it; returns whether that was so."""
        with self._lock:
            taken, self._taken = self._taken, True
        return not taken

    def acquire(self, seconds: float | None = None) -> bool:
        """Acquire it, after a wait of ``seconds`` at most (``None``: however long); returns whether it came to that."""
        return self.try_acquire() or finish(self.acquire_steps(seconds))

    def acquire_steps(self, seconds: float | None = None) -> Waiting[bool]:
        """As :meth:`acquire`, step by step: to wait on an event loop takes no thread."""
        with self._lock:
            if not self._taken:
                self._taken = True
                return True
            turn = _Turn()
            self._waiting.append(turn)
        try:
            yield from until(turn.signal, lambda: turn.came or turn.dismissed, seconds)
        except BaseException:
            if not self._left(turn):
                self.release()  # it came in the last moment, to somebody who is gone
            raise
        return not self._left(turn)

    def _left(self, turn: _Turn) -> bool:
        """Take ``turn`` out of the row; false if it came meanwhile."""
        with self._lock:
            if turn.came:
                return False
            self._waiting.remove(turn)
            return True

    def dismiss(self) -> None:
        """Have all who wait go away without it, as if their time was over."""
        with self._lock:
            waiting = list(self._waiting)
        for turn in waiting:
            turn.dismissed = True
            turn.signal.ring()

    def release(self) -> None:
        """Give it to who waits longest. From any thread.

        :raises RuntimeError: if nobody has it.
        """
        with self._lock:
            if not self._taken:
                raise RuntimeError("it is not anybody's turn")
            turn = self._waiting.popleft() if self._waiting else None
            if turn is None:
                self._taken = False
            else:
                turn.came = True
        if turn is not None:
            turn.signal.ring()
