"""An event that a signal handler may set: `threading.Event` has a lock that its own thread may hold just then."""

from __future__ import annotations

from .waits import Signal, finish, until

__all__ = ["Flag"]


class Flag:
    """False at first, true from the first :meth:`set` on. For any thread, and for signal handlers."""

    __slots__ = ("_changed", "_set")

    def __init__(self) -> None:
        self._changed = Signal()
        self._set = False

    def is_set(self) -> bool:
        """Whether it is true."""
        return self._set

    def set(self) -> None:
        """Make it true, and let everybody go on who waits for that."""
        self._set = True
        self._changed.ring()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until it is true, for ``timeout`` seconds at most; return whether it is."""
        return finish(until(self._changed, self.is_set, timeout))
