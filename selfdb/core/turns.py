"""A lock that belongs to no thread, given to those who wait for it in the order in which they came."""

from __future__ import annotations

import threading
from collections import deque

from .waits import Signal, Waiting, finish, until

__all__ = ["Turns"]


_SOMEBODY = object()


class _Turn:
    """One who waits.

    :ivar came: whether it is his turn.
    :ivar dismissed: whether it will not be, whatever happens.
    :ivar owner: for whom.
    """

    __slots__ = ("came", "dismissed", "owner", "signal")

    def __init__(self, owner: object) -> None:
        self.signal = Signal()
        self.owner = owner
        self.came = False
        self.dismissed = False


class Turns:
    """Who acquires it may do so on one thread and release it on another: a transaction of somebody on an event loop
    does. May be shared by threads; it is not reentrant.

    Who may be interrupted at any moment, and then would not know whether it was his, says an object of his own as its
    ``owner``, and calls :meth:`give_back` when he is interrupted.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler may come to it on the thread that has it
        self._owner: object = None
        self._waiting: deque[_Turn] = deque()

    @property
    def taken(self) -> bool:
        """Whether somebody has it."""
        return self._owner is not None

    def try_acquire(self, owner: object = _SOMEBODY) -> bool:
        """Acquire it if nobody has it; returns whether that was so."""
        with self._lock:
            if self._owner is not None:
                return False
            self._owner = owner
            return True

    def acquire(self, seconds: float | None = None, owner: object = _SOMEBODY) -> bool:
        """Acquire it, after a wait of ``seconds`` at most (``None``: however long); returns whether it came to that."""
        return self.try_acquire(owner) or finish(self.acquire_steps(seconds, owner))

    def acquire_steps(self, seconds: float | None = None, owner: object = _SOMEBODY) -> Waiting[bool]:
        """As :meth:`acquire`, step by step: to wait on an event loop takes no thread."""
        with self._lock:
            if self._owner is None:
                self._owner = owner
                return True
            turn = _Turn(owner)
            self._waiting.append(turn)
        try:
            yield from until(turn.signal, lambda: turn.came or turn.dismissed, seconds)
        except BaseException:
            if not self._left(turn) and self._owner is owner:
                self.release()  # it came in the last moment, to somebody who is gone
            raise
        return not self._left(turn)

    def _left(self, turn: _Turn) -> bool:
        """Take ``turn`` out of the row; false if it came meanwhile."""
        with self._lock:
            if turn.came:
                return False
            if turn in self._waiting:
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
            if self._owner is None:
                raise RuntimeError("it is not anybody's turn")
            turn = self._waiting.popleft() if self._waiting else None
            if turn is None:
                self._owner = None
            else:
                self._owner = turn.owner
                turn.came = True
        if turn is not None:
            turn.signal.ring()

    def belongs_to(self, owner: object) -> bool:
        """Whether ``owner`` has it."""
        return self._owner is owner

    def give_back(self, owner: object) -> None:
        """Release it if ``owner`` has it, and let him wait for it no more. Harmless when neither is so."""
        with self._lock:
            for turn in [each for each in self._waiting if each.owner is owner]:
                self._waiting.remove(turn)
            if self._owner is owner:
                self.release()
