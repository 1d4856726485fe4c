"""Whether a client is still open; sleeping on it ends the moment it is closed."""

from __future__ import annotations

import weakref

from ..exceptions import ClientClosedError
from .call import current_call, interruptible
from .clock import SYSTEM_CLOCK, Clock
from .flags import Flag

__all__ = ["Lifeline"]


class Lifeline:
    """The open-or-closed state of a client. Closing one closes all that were derived from it, never its parent.

    May be shared by threads; ``close`` may be called from any of them and from a signal handler.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK, parent: Lifeline | None = None) -> None:
        self._clock = clock
        self._closed = Flag()
        self._children: weakref.WeakSet[Lifeline] = weakref.WeakSet()
        if parent is not None:
            parent._adopt(self)

    def _adopt(self, child: Lifeline) -> None:
        # No lock: `WeakSet.add` is one step under the interpreter's lock, and a signal handler may be
        # inside `close` of the very thread that is here. Adding first and looking then means that a
        # concurrent `close` reaches the child in one of the two ways.
        self._children.add(child)
        if self.closed:
            child.close()

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed.is_set()

    def close(self) -> None:
        """End every sleep and refuse every new call; harmless when done already."""
        self._closed.set()
        for child in self._present():
            child.close()

    def _present(self) -> list[Lifeline]:
        while True:
            try:
                return list(self._children)
            except RuntimeError:  # another thread derived one meanwhile
                continue

    def derive(self) -> Lifeline:
        """A lifeline that ends with this one or by itself."""
        return Lifeline(self._clock, self)

    def check(self) -> None:
        """Return if open.

        :raises ClientClosedError: after ``close``.
        """
        if self._closed.is_set():
            raise ClientClosedError("this client is closed; make a new one")

    def sleep(self, seconds: float) -> None:
        """Block for ``seconds``.

        :raises ClientClosedError: as soon as the client is closed.
        """
        if current_call() is None:
            if self._clock.wait(self._closed, seconds):
                self.check()
            return
        own = self.derive()
        with interruptible(own.close):
            closed = self._clock.wait(own._closed, seconds)
        if closed:
            own.check()
