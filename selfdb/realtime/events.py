"""Events for a loop instead of a callback: a bounded buffer between the dispatcher and whoever iterates."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator

from ..core.marks import inner
from ..core.waits import END, Signal, Waiting, until, waiting
from ..exceptions import RealtimeError, SelfDBError
from ..models import RealtimePayload

__all__ = ["EventStream"]


class EventStream(Iterator[RealtimePayload]):
    """The events of a channel from the moment of its making on. For one thread to iterate; any may close it.

    The loop ends when the channel is left or the client disconnects, and when ``timeout`` seconds pass without an
    event.

    :ivar resyncs: how often events may have been missed so far, because the connection was lost or this buffer
        was full.
    :ivar timeout: seconds to wait for one event.
    :ivar taken: events so far, whether they were given already, wait or had to go.
    """

    def __init__(
        self,
        timeout: float | None,
        maxsize: int,
        *,
        marks: bool,
        forget: Callable[[EventStream], object],
        forbidden_here: Callable[[], bool],
    ) -> None:
        self.resyncs = 0
        self.timeout = timeout
        self.taken = 0
        self._maxsize = maxsize
        self._marks = marks
        self._forget = forget
        self._forbidden_here = forbidden_here
        self._lock = threading.RLock()  # a signal handler may end what its own thread takes an event from
        self._changed = Signal()
        self._events: deque[RealtimePayload] = deque()
        self._overflowed = False
        self._ended = False
        self._error: SelfDBError | None = None

    @inner
    def renew_in_child(self) -> None:
        """End in a forked child, where the thread is not that may have held the lock."""
        self._lock = threading.RLock()
        self.end()

    @inner
    def put(self, event: RealtimePayload, mark: RealtimePayload) -> None:
        """Take an event; the oldest goes where there is no room, and ``mark`` takes its place."""
        with self._lock:
            if self._ended:
                return
            self.taken += 1
            if event.event == mark.event:
                self.resyncs += 1
                if not self._marks:
                    return
            while len(self._events) >= self._maxsize:
                self._events.popleft()
                if not self._overflowed:
                    self._overflowed = True
                    self.resyncs += 1
            self._events.append(event)
            self._mark = mark
        self._changed.ring()

    @inner
    def end(self, error: SelfDBError | None = None) -> None:
        """No more will come; the loop ends behind what is buffered, with ``error`` if there is one."""
        with self._lock:
            if not self._ended:
                self._ended, self._error = True, error
        self._changed.ring()

    @inner
    def pause(self, seconds: float) -> Waiting[bool]:
        """Wait without taking anything; ends at once, and false, when no more will come."""
        ended = yield from until(self._changed, lambda: self._ended, seconds)
        return not ended

    def __iter__(self) -> EventStream:
        return self

    @waiting
    def __next__(self) -> Waiting[RealtimePayload]:
        event = yield from self.next_event()
        return END if event is None else event

    @inner
    def next_event(self) -> Waiting[RealtimePayload | None]:
        """A step of the loop; ``None`` at its end."""
        event = yield from self._next()
        if event is None:
            self.close()
        return event

    @waiting
    def get(self) -> Waiting[RealtimePayload | None]:
        """The next event; ``None`` if none came within ``timeout`` seconds, or none is to come any more.

        Unlike the loop, which a silence ends, it may be asked again and again and misses nothing in between.

        :raises RealtimeError: once, if the server closed the channel; and in a callback.
        """
        return self._next()

    def _next(self) -> Waiting[RealtimePayload | None]:
        if self._forbidden_here():
            raise RealtimeError("a callback cannot wait for events: it runs on the thread that brings them")
        yield from until(self._changed, lambda: bool(self._events) or self._ended, self.timeout)
        with self._lock:
            if self._events:
                if self._overflowed:
                    self._overflowed = False
                    if self._marks:
                        return self._mark
                return self._events.popleft()
            error = self._error
            self._error = None
        if error is not None:
            self.close()
            raise error
        return None

    @property
    def ended(self) -> bool:
        """Whether all has been given that there was, an error too, and nothing will come any more."""
        with self._lock:
            return self._ended and not self._events and self._error is None

    def __enter__(self) -> EventStream:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """End the loop and take no more events. Idempotent."""
        self.end()
        self._forget(self)
