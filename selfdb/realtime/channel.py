"""One channel as its user sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..core.marks import passing
from ..core.waits import Waiting, ask, waiting
from ..exceptions import APITimeoutError, InvalidRequestError, RealtimeError
from ..models import RealtimePayload
from .events import EventStream
from .follow import Followable, Follower
from .handlers import Callback, Handlers
from .payloads import RESYNC, table_of

if TYPE_CHECKING:
    from .client import Realtime

__all__ = ["Channel"]


class Channel:
    """One topic. Made by :meth:`Realtime.channel`; lives as long as the client. May be shared by threads."""

    def __init__(self, realtime: Realtime, topic: str) -> None:
        self._realtime = realtime
        self._handlers = Handlers(topic, realtime._report)
        self.topic = topic

    def __repr__(self) -> str:
        return f"<Channel {self.topic} {self.state}>"

    @property
    def state(self) -> str:
        """``closed``, ``joining``, ``joined``, ``leaving`` or ``errored``."""
        return self._realtime._channel_state(self.topic)

    @property
    def alive(self) -> bool:
        """Whether events come, or will come again by themselves."""
        return self.state in ("joining", "joined", "errored") and self._realtime.state != "disconnected"

    @property
    def presence(self) -> dict[str, dict[str, Any]]:
        """Who is there, by key, as far as the server tells; a copy."""
        with self._realtime._turn:
            return self._handlers.presence.snapshot()

    @passing(callbacks=("callback",))
    def on(self, event: str, callback: Callback) -> Channel:
        """Call ``callback(payload)`` for each ``event``. Returns the channel.

        :param event: ``INSERT``, ``UPDATE``, ``DELETE``, another one that the server sends, ``*`` for all of these,
            or ``resync`` where events may have been missed.
        """
        self._handlers.on(event, callback)
        return self

    @passing(callbacks=("callback",))
    def off(self, event: str, callback: Callback | None = None) -> Channel:
        """Take one callback of ``event`` away, or all of them. Returns the channel."""
        self._handlers.off(event, callback)
        return self

    @waiting
    def subscribe(self, timeout: float = 10.0) -> Waiting[Channel]:
        """Join, and stay joined across reconnects. Returns the channel when the server has said yes.

        Before the first ``connect()`` it only takes note, and joins with the connection. Harmless while joined.

        :raises PermissionDeniedError: if the table is not yours to read.
        :raises NotFoundError: if there is no such topic.
        :raises APITimeoutError: if no answer came within ``timeout`` seconds; the channel is closed then.
        :raises RealtimeError: for another refusal, and after ``disconnect()``.
        """
        yield from self._realtime._join(self.topic, timeout)
        return self

    @waiting
    def unsubscribe(self, timeout: float = 10.0) -> Waiting[None]:
        """Leave. Callbacks stay for the next ``subscribe()``. Harmless while closed."""
        yield from self._left(timeout)

    def _left(self, timeout: float) -> Waiting[None]:
        yield from self._realtime._leave(self.topic, timeout)
        self._handlers.end_streams(None)

    @waiting
    def push(self, event: str, payload: Any, timeout: float = 10.0) -> Waiting[Any]:
        """Send an event of your own and return the server's response. ``bytes`` go as a binary frame.

        :raises RealtimeError: if the server refuses it, or the channel was never subscribed.
        :raises APITimeoutError: without an answer within ``timeout`` seconds; an event that still waits for the join
            then is never sent.
        """
        response = yield from self._realtime._push(self.topic, event, payload, timeout)
        return response

    def events(self, timeout: float | None = None, *, maxsize: int = 10_000, resync: bool = False) -> EventStream:
        """The events from now on, for a loop: ``for event in channel.events(): ...``.

        :param timeout: seconds without an event after which the loop ends; ``None`` for no end.
        :param maxsize: events that may wait for the loop; then the oldest goes, and ``resyncs`` counts.
        :param resync: whether the loop gets a payload with the event ``resync`` where events may have been missed.
        :raises RealtimeError: in the loop, when the server closes the channel.
        """
        if isinstance(maxsize, bool) or not isinstance(maxsize, int) or maxsize < 1:
            raise InvalidRequestError("maxsize must be a whole number of 1 or more")
        stream = EventStream(
            timeout,
            maxsize,
            marks=resync,
            forget=self._handlers.remove_stream,
            forbidden_here=self._realtime._dispatcher.runs_here,
        )
        self._handlers.add_stream(stream)
        return stream

    @waiting(asks=("predicate",))
    def wait_for(
        self,
        event: str,
        predicate: Callable[[RealtimePayload], bool] | None = None,
        timeout: float = 10.0,
    ) -> Waiting[RealtimePayload]:
        """The next ``event`` (or ``*``) for which ``predicate`` is true.

        :raises APITimeoutError: if none came within ``timeout`` seconds.
        :raises RealtimeError: if the channel is left or closed before.
        """
        wanted = RESYNC if event.lower() == RESYNC else event.upper()
        clock = self._realtime._clock
        end = clock.monotonic() + timeout
        with self.events(resync=wanted == RESYNC) as stream:
            while True:
                stream.timeout = max(0.0, end - clock.monotonic())
                payload = yield from stream.next_event()
                if payload is None and clock.monotonic() < end:
                    raise RealtimeError(f"{self.topic} was left, or the client disconnected, before {event} came")
                if payload is None:
                    raise APITimeoutError(f"no {event} came on {self.topic} within {timeout:g} s")
                if event != "*" and payload.event != wanted:
                    continue
                if predicate is None or (yield from ask(predicate, payload)):
                    return payload

    @waiting(opens=True)
    def follow(self, query: Followable, *, key: str = "id") -> Waiting[Follower]:
        """The rows of ``query`` as they are, each as an ``INSERT``, then every change; after a gap the difference.

        Joins first, so that nothing falls between rows and changes.

        :param query: ``db.tables.data.query(table_id)`` of this channel's table, without search and page.
        :param key: the column that tells rows apart.
        :raises InvalidRequestError: for a query with a search or a page; nothing is sent.
        """
        if not query.whole:
            raise InvalidRequestError("follow() takes a query without search and page: changes carry neither")
        stream = self.events(resync=True)
        try:
            yield from self._realtime._join(self.topic, 10.0)
        except BaseException:
            stream.close()
            raise
        return Follower(stream, query, key, table_of(self.topic))
