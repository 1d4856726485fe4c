"""What hangs on a channel: callbacks by event, streams, and the count of what was lost on the way to them."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from typing import Any

from ..core.dispatch import Job
from ..exceptions import InvalidRequestError, RealtimeError, SelfDBError
from ..models import RealtimePayload
from .events import EventStream
from .payloads import RESYNC, resync_mark
from .presence import Presence

__all__ = ["ALL", "Callback", "Delivery", "Handlers"]

Callback = Callable[[RealtimePayload], Any]

ALL = "*"

log = logging.getLogger("selfdb.realtime")


class _Loss:
    """A run of events that were dropped, as long as it has not been announced."""

    def __init__(self, number: int) -> None:
        self.last = number


class Delivery:
    """One event on its way to the handlers of its channel: a job for the dispatcher.

    Not made of functions, as other jobs are: two of them for each event would cost more than all that they do.
    """

    __slots__ = ("_handlers", "_number", "_payload", "_put", "size")

    droppable = True

    def __init__(self, handlers: Handlers, payload: RealtimePayload, size: int, put: Callable[[Job], object]) -> None:
        self._handlers = handlers
        self._number = handlers.queued = handlers.queued + 1
        self._payload = payload
        self._put = put
        self.size = size

    def run(self) -> None:
        """Hand the event out."""
        self._handlers.deliver(self._number, self._payload)

    def dropped(self) -> None:
        """Have it announced that the event is not handed out."""
        announce = self._handlers.dropped(self._number)
        if announce is not None:
            self._put(Job(announce, droppable=False))


class Handlers:
    """The callbacks and streams of one topic. May be shared by threads; callbacks run on the dispatcher's.

    :param report: given what a callback raised, and word of events that were lost.
    """

    def __init__(self, topic: str, report: Callable[[BaseException], object]) -> None:
        self.topic = topic
        self.presence = Presence()
        self._report = report
        self._mark = resync_mark(topic)
        self._lock = threading.RLock()  # a signal handler may disconnect where its own thread adds a callback
        self._callbacks: dict[str, list[Callback]] = {}
        # Weakly: a loop that was left without a word takes its stream along.
        self._held: list[weakref.ref[EventStream]] = []
        self.queued = 0
        """The number of the event that was queued last; a gap in them tells of events that were dropped."""
        self._handled = 0
        self._loss: _Loss | None = None

    def renew_in_child(self) -> None:
        """Go on in a forked child, where no other thread is."""
        self._lock = threading.RLock()
        for stream in self._streams():
            stream.renew_in_child()
        self._held = []
        self.presence = Presence()
        self.forget()

    def on(self, event: str, callback: Callback) -> None:
        """Call ``callback`` for ``event`` from now on, once however often it is added."""
        if not callable(callback):
            raise InvalidRequestError("callback must be callable")
        with self._lock:
            known = self._callbacks.get(_name(event), [])
            if callback not in known:
                self._callbacks[_name(event)] = [*known, callback]

    def off(self, event: str, callback: Callback | None) -> None:
        """Call ``callback``, or any, for ``event`` no more; harmless if it was not there."""
        with self._lock:
            if callback is None:
                self._callbacks.pop(_name(event), None)
                return
            left = [other for other in self._callbacks.get(_name(event), []) if other != callback]
            if left:
                self._callbacks[_name(event)] = left
            else:
                self._callbacks.pop(_name(event), None)

    def add_stream(self, stream: EventStream) -> None:
        """Feed ``stream`` from now on."""
        with self._lock:
            self._held = [*(held for held in self._held if held() is not None), weakref.ref(stream)]

    def remove_stream(self, stream: EventStream) -> None:
        """Feed ``stream`` no more."""
        with self._lock:
            self._held = [held for held in self._held if held() not in (stream, None)]

    def _streams(self) -> list[EventStream]:
        return [stream for stream in (held() for held in self._held) if stream is not None]

    def end_streams(self, error: SelfDBError | None) -> None:
        """No more will come."""
        with self._lock:
            streams, self._held = self._streams(), []
        for stream in streams:
            stream.end(error)

    def farewell(self, error: SelfDBError | None) -> Callable[[], object]:
        """What ends the streams that there are now; to be queued, so that they get what was queued before."""
        streams = self._streams()

        def end() -> None:
            for stream in streams:
                self.remove_stream(stream)
                stream.end(error)

        return end

    def forget(self) -> None:
        """What was queued is gone, or to be passed over, and that is as it should be."""
        with self._lock:
            self._handled, self._loss = self.queued, None

    def dropped(self, number: int) -> Callable[[], object] | None:
        """Event ``number`` was dropped: what has to be queued to announce it, if that is not to come already."""
        with self._lock:
            if self._loss is not None and self._loss.last == number - 1:
                self._loss.last = number
                return None
            self._loss = loss = _Loss(number)
        return lambda: self._announce(loss)

    def _announce(self, loss: _Loss) -> None:
        with self._lock:
            if self._loss is loss:
                self._loss = None
        self.catch_up(loss.last)

    def deliver(self, number: int, payload: RealtimePayload) -> None:
        """Hand event ``number`` out, unless it is to be forgotten; on the dispatcher's thread."""
        if number <= self._handled:
            return
        if number > self._handled + 1:
            self.catch_up(number - 1)
        if number > self._handled:  # it may be forgotten meanwhile
            self._handled = number
        name = payload.event
        self._call(name, payload)
        if name != ALL and ALL in self._callbacks:
            self._call(ALL, payload)
        if self._held:
            self._feed(payload)

    def catch_up(self, number: int) -> None:
        """Announce the loss of what was queued up to ``number`` and never came; on the dispatcher's thread."""
        lost = number - self._handled
        if lost <= 0:
            return
        self._handled = number
        events = "1 event" if lost == 1 else f"{lost} events"
        self._report(RealtimeError(f"{events} of {self.topic} dropped: the callbacks are slower than the server"))
        self.resync()

    def resync(self) -> None:
        """Tell that events may have been missed; on the dispatcher's thread."""
        self._call(RESYNC.upper(), self._mark)
        self._feed(self._mark)

    def _call(self, name: str, payload: RealtimePayload) -> None:
        asked = self._callbacks.get(name)
        if asked is None:
            return
        for callback in asked:
            if self._callbacks.get(name) is not asked and callback not in self._callbacks.get(name, ()):
                continue  # the one before took it away, or another thread did meanwhile
            try:
                callback(payload)
            except BaseException as error:  # sys.exit() too: the others have a right to the event
                log.exception("a callback for %r on %s failed", payload.event, self.topic)
                self._report(error)

    def _feed(self, payload: RealtimePayload) -> None:
        for stream in self._streams():
            stream.put(payload, self._mark)

    def wants(self, event: str, payload: Any, size: int) -> bool:
        """Whether somebody is to be told of an event; one about presence is taken in here, and told to nobody."""
        if event.startswith("presence_") and self.presence.take(event, payload, size):
            return False
        return bool(self._callbacks) or not self.idle

    @property
    def idle(self) -> bool:
        """Whether nobody would take an event."""
        return not self._callbacks and not self._streams()


def _name(event: str) -> str:
    if not isinstance(event, str) or not event:
        raise InvalidRequestError("event must be a str that is not empty")
    return event.upper()
