"""What hangs on a channel: callbacks by event, called in their order on the dispatch thread."""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Callable
from typing import Any

from ..types import RealtimePayload

__all__ = ["ALL", "RESYNC", "Callback", "Delivery", "Handlers"]

Callback = Callable[[RealtimePayload], Any]

ALL = "*"
RESYNC = "RESYNC"

log = logging.getLogger("selfdb.aerodb")


class Handlers:
    """The callbacks of one channel. May be shared by threads."""

    def __init__(self, channel: str) -> None:
        self._channel = channel
        self._lock = threading.RLock()
        self._callbacks: dict[str, list[Callback]] = {}
        self.life = 0
        """Counts how often what was on its way was given up."""
        self._loss_told = True

    def renew_in_child(self) -> None:
        """Go on in a forked child, where no other thread is."""
        self._lock = threading.RLock()
        self.forget()

    def add(self, event: str, callback: Callback) -> None:
        """Call ``callback`` for ``event`` from now on, once however often it is added."""
        with self._lock:
            known = self._callbacks.get(event, [])
            if callback not in known:
                self._callbacks[event] = [*known, callback]

    def remove(self, event: str, callback: Callback | None) -> None:
        """Call ``callback``, or any, for ``event`` no more; harmless if it was not there."""
        with self._lock:
            known = self._callbacks.pop(event, [])
            left = [] if callback is None else [other for other in known if other != callback]
            if left:
                self._callbacks[event] = left

    def clear(self) -> None:
        """Call nobody any more, not even for what is on its way."""
        with self._lock:
            self._callbacks = {}

    def forget(self) -> None:
        """Pass over what is on its way."""
        self.life += 1
        self._loss_told = True

    def lose(self) -> bool:
        """An event was dropped; returns whether that is still to be told."""
        with self._lock:
            told, self._loss_told = self._loss_told, False
        return told

    def tell_loss(self) -> None:
        """Say that events were dropped; on the dispatch thread."""
        with self._lock:
            told, self._loss_told = self._loss_told, True
        if not told:
            log.warning("events of channel %r were dropped: its callbacks are slower than the server", self._channel)
            self.resync()

    def resync(self) -> None:
        """Say that events may have been missed; on the dispatch thread."""
        self.deliver(RealtimePayload(RESYNC.lower()))

    def deliver(self, payload: RealtimePayload) -> None:
        """Call those for the payload's event, then those for all; on the dispatch thread."""
        name = payload.type.upper()
        self._call(name, payload)
        if name not in (ALL, RESYNC):
            self._call(ALL, payload)

    def _call(self, name: str, payload: RealtimePayload) -> None:
        asked = self._callbacks.get(name, ())
        for callback in asked:
            if callback not in self._callbacks.get(name, ()):
                continue  # the one before took it away, or another thread did meanwhile
            try:
                result = callback(payload)
                if inspect.isawaitable(result):
                    _complete(result)
            except BaseException:  # sys.exit() too: the others have a right to the event
                log.exception("a callback for %s on channel %r failed", name, self._channel)


def _complete(result: Any) -> None:
    """Run an awaitable to its end, on a loop of its own."""
    import asyncio  # here, for few callbacks need it

    async def complete() -> None:
        await result

    asyncio.run(complete())


class Delivery:
    """One event on its way to its handlers: a job for the dispatcher."""

    __slots__ = ("_handlers", "_life", "_lost", "_payload", "size")

    droppable = True

    def __init__(
        self, handlers: Handlers, payload: RealtimePayload, size: int, lost: Callable[[Handlers], object]
    ) -> None:
        self._handlers = handlers
        self._life = handlers.life
        self._payload = payload
        self._lost = lost
        self.size = size

    def run(self) -> None:
        """Hand the event out."""
        if self._life == self._handlers.life:
            self._handlers.deliver(self._payload)

    def dropped(self) -> None:
        """Have it announced that the event is not handed out."""
        self._lost(self._handlers)
