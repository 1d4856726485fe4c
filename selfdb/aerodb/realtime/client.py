"""The realtime client: channels over one supervised connection, and one dispatcher."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from ...core.dispatch import Dispatcher, Job
from ...core.encoding import encode_text
from ...core.forks import renew_after_fork
from ...core.marks import blocking, inner
from ...core.urls import BaseURL
from ...core.websocket import Address, After, Link, LinkState
from ...core.wsframes import TEXT, Message
from ...exceptions import InvalidRequestError, SelfDBError
from ..calls import Calls
from ..envelope import AeroDBError
from . import frames
from .channel import CLOSED, CONNECTING, ERRORED, JOINED, RECONNECTING, RealtimeChannel
from .handlers import Delivery, Handlers

__all__ = ["RealtimeClient"]

log = logging.getLogger("selfdb.aerodb")

STEPS = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds before each attempt to reconnect; the last goes on for ever."""

JITTER = 0.5

PING_SECONDS = 30.0
SILENT_SECONDS = 60.0
"""After which a connection that brought nothing, not even the answer to a ping, is given up."""

RESYNC_SECONDS = 1.0
"""For which a server may take to say that a subscription stands again, before it is taken to stand."""

LONGEST_NAME = 1024
"""Characters; it goes into every frame of its channel."""

_ENDINGS = ("/realtime", "/websocket", "/ws")
_REFUSED = (401, 403)


class RealtimeClient:
    """Events of the server, on background threads. May be shared by threads; callbacks may call anything here.

    One daemon thread reads and keeps the connection alive, another runs the callbacks. A forked child starts
    disconnected, with its channels and their callbacks.

    :param calls: of the client.
    :param target: where the server of events is, if it was named; ``/realtime`` is added unless its path says as much.
    :param dispatcher: calls the callbacks.
    """

    def __init__(self, calls: Calls, target: BaseURL | None, dispatcher: Dispatcher) -> None:
        self._calls = calls
        self._target = calls.transport.base if target is None else target
        self._path = "" if target is not None and target.prefix.endswith(_ENDINGS) else "/realtime"
        self._dispatcher = dispatcher
        self._channels: dict[str, RealtimeChannel] = {}
        renew_after_fork(self)
        self._renew_in_child()

    def _renew_in_child(self) -> None:
        self._lock = threading.RLock()
        self._connection: _Connection | None = None
        self._leaving: Link | None = None
        for channel in self._channels.values():
            channel._handlers.renew_in_child()
            channel._subscribed = channel._acknowledged = False
            channel._state, channel._resync_at = CLOSED, None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.connection_state} of {self._target.origin}>"

    # What the user calls

    def channel(self, name: str) -> RealtimeChannel:
        """The channel ``name``; the same object until it is unsubscribed. Asks nobody.

        A wrong name shows in the channel's ``last_error``.
        """
        try:
            _check_name(name)
        except InvalidRequestError as error:
            return RealtimeChannel(self, str(name)[:LONGEST_NAME], error)
        with self._lock:
            channel = self._channels.get(name)
            if channel is None:
                channel = self._channels[name] = RealtimeChannel(self, name)
            return channel

    @property
    def connection_state(self) -> str:
        """``disconnected``, ``connecting``, ``connected``, ``reconnecting`` or ``closing``."""
        connection = self._connection
        return "disconnected" if connection is None else connection.link.state.value

    @blocking(closes=True)
    def disconnect(self) -> None:
        """Close the connection; nothing is subscribed again by itself. Channels keep their callbacks.

        Returns within 2 s, whatever the server does; from any thread, from callbacks too.
        """
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                self._leaving = connection.link
            for channel in self._channels.values():
                self._end(channel)
        if connection is not None:
            connection.link.close()

    def _end(self, channel: RealtimeChannel) -> None:
        channel._subscribed = channel._acknowledged = False
        channel._ever_joined, channel._resync_at = False, None
        channel._handlers.forget()
        channel._enter(CLOSED)

    # What channels ask

    def _subscribe(self, channel: RealtimeChannel) -> None:
        with self._lock:
            try:
                self._calls.transport.lifeline.check()
                if self._channels.setdefault(channel.name, channel) is not channel:
                    raise InvalidRequestError("this channel was unsubscribed; use client.channel() again")
            except SelfDBError as error:
                channel._note(error)
                channel._enter(ERRORED)
                return
            if channel._subscribed and channel.state != ERRORED:
                return
            channel._subscribed, channel._last_error = True, None
            channel._enter(CONNECTING)
            connection = self._connection
            if connection is None or connection.link.state is LinkState.DISCONNECTED:
                self._connect(channel)
            elif connection.open:
                self._join(connection, channel)

    def _connect(self, channel: RealtimeChannel) -> None:
        self._connection = _Connection(self)
        try:
            self._connection.link.start()
        except RuntimeError as error:  # there are too many threads, or the interpreter is about to end
            self._connection = None
            channel._note(error)
            channel._enter(ERRORED)

    def _unsubscribe(self, channel: RealtimeChannel) -> None:
        closing: _Connection | None = None
        with self._lock:
            channel._handlers.clear()
            connection = self._connection
            mine = self._channels.get(channel.name) is channel
            if mine:
                del self._channels[channel.name]
                if connection is not None and connection.open and channel._subscribed:
                    self._send(connection, channel, frames.unsubscribe(channel.name))
                if not any(other._subscribed for other in self._channels.values()):
                    closing, self._connection = connection, None
                    if closing is not None:
                        self._leaving = closing.link
            channel._last_error = None
            self._end(channel)
        if closing is not None:
            closing.link.close()

    def _join(self, connection: _Connection, channel: RealtimeChannel) -> None:
        channel._acknowledged = False
        if not self._send(connection, channel, frames.subscribe(channel.name)):
            return
        if channel._ever_joined:
            channel._resync_at = self._calls.transport.pool.clock.monotonic() + RESYNC_SECONDS
        channel._ever_joined = True
        channel._enter(JOINED)

    def _send(self, connection: _Connection, channel: RealtimeChannel, frame: str) -> bool:
        try:
            connection.link.send(frame)
        except SelfDBError as error:
            channel._note(error)
            channel._enter(ERRORED)
            return False
        return True

    # What the connection asks, on its thread, with the lock held

    def _address(self, connection: _Connection) -> Address:
        transport = self._calls.transport
        with self._lock:
            leaving, self._leaving = self._leaving, None
        if leaving is not None:
            leaving.close()  # one client never has two connections
        tokens = transport.keeper.current()
        connection.token = None if tokens is None else tokens.access
        pairs = list(transport.identity.items())
        if connection.token is not None:
            pairs.append(("token", connection.token))
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in pairs)
        url = self._target.text + self._path
        proxy, context = transport.pool.websocket_route(url)
        return Address(
            url.replace("http", "ws", 1) + (f"?{query}" if query else ""),
            str(self._target.origin),
            [f"{name}: {value}" for name, value in transport.options.headers.items()],
            proxy,
            context,
            transport.secrets(),
        )

    def _opened(self, connection: _Connection) -> None:
        for channel in self._channels.values():
            if channel._subscribed:
                channel._last_error = None
                self._join(connection, channel)

    def _lost(self, error: SelfDBError) -> None:
        for channel in self._channels.values():
            if channel._subscribed:
                channel._acknowledged, channel._resync_at = False, None
                channel._note(error)
                channel._enter(RECONNECTING)

    def _refused(self, error: SelfDBError) -> None:
        for channel in self._channels.values():
            if channel._subscribed:
                if error.status_code is None:
                    channel._note(error)
                else:  # the server's own word, and not one that a call would get
                    channel._last_error = AeroDBError(error.message, error.status_code)
                    channel._enter(ERRORED)

    def _take(self, frame: frames.Frame, size: int) -> bool:
        """Whether what is due may have changed."""
        channel = None if frame.channel is None else self._channels.get(frame.channel)
        if isinstance(frame, frames.Refused):
            self._take_refusal(frame, channel)
            return False
        if channel is None or not channel._subscribed:
            return False
        resync = channel._resync_at is not None
        if resync:
            self._resync(channel)
        if isinstance(frame, frames.Event):
            self._dispatcher.put(Delivery(channel._handlers, frame.payload, size, self._dropped))
            return resync
        channel._acknowledged, channel._last_error = True, None
        channel._enter(JOINED)
        return resync

    def _take_refusal(self, frame: frames.Refused, channel: RealtimeChannel | None) -> None:
        if channel is None and frame.channel is not None:
            return  # of one that was left meanwhile
        about = [channel] if channel is not None else [one for one in self._channels.values() if not one._acknowledged]
        code = None if frame.code is None else self._calls.redacted(frame.code)
        error = AeroDBError(self._calls.redacted(frame.message), None, code)
        for refused in about:
            if refused._subscribed:
                refused._acknowledged, refused._last_error = False, error
                refused._enter(ERRORED)
        log.warning("the realtime server says: %s", error.message)

    def _resync(self, channel: RealtimeChannel) -> None:
        channel._resync_at = None
        self._dispatcher.put(Job(channel._handlers.resync, droppable=False))

    def _dropped(self, handlers: Handlers) -> None:
        if handlers.lose():
            self._dispatcher.put(Job(handlers.tell_loss, droppable=False))

    def _resync_late(self, now: float) -> float | None:
        """Say it to those that have waited for long enough; returns when the next one will have."""
        due = [channel for channel in self._channels.values() if channel._resync_at is not None]
        for channel in due:
            if channel._resync_at is not None and channel._resync_at <= now:
                self._resync(channel)
        return min((channel._resync_at for channel in due if channel._resync_at is not None), default=None)

    @inner
    def user_changed(self) -> None:
        """Somebody else is signed in: what the server knows of the connection is no longer true."""
        connection = self._connection
        if connection is not None:
            connection.link.drop("somebody else is signed in; connecting anew")


class _Connection:
    """What one link asks. When the client has let go of it, it has no say any more."""

    def __init__(self, client: RealtimeClient) -> None:
        self._client = client
        self._calls = client._calls
        self._clock = client._calls.transport.pool.clock
        self.open = False
        self.token: str | None = None
        """The access token of the last attempt. Secret."""
        self._renewed = False
        self._ping_at = 0.0
        self.link = Link(self, steps=STEPS, jitter=JITTER, trusting=True, clock=self._clock)

    @property
    def _asked(self) -> bool:
        return self._client._connection is self

    def address(self) -> Address:
        """Where to connect, with the token of this moment."""
        return self._client._address(self)

    def opened(self) -> None:
        """The connection stands."""
        with self._client._lock:
            if self._asked:
                self.open, self._renewed = True, False
                self._ping_at = self._clock.monotonic() + PING_SECONDS
                self._client._opened(self)

    def received(self, messages: Sequence[Message]) -> bool:
        """Messages came."""
        came = [(frames.decode(data), len(data)) for opcode, data in messages if opcode == TEXT]
        due = False
        with self._client._lock:
            if self._asked:
                for frame, size in came:
                    if frame is not None:
                        due = self._client._take(frame, size) or due
        return due

    def ready_to_read(self) -> bool:
        """Always: the dispatcher drops rather than wait."""
        return True

    def tick(self) -> float | None:
        """Pings, and what has to be said by now."""
        with self._client._lock:
            if not self._asked:
                return None
            if self._calls.closed:
                self.link.stop()
                return None
            now = self._clock.monotonic()
            late = self._client._resync_late(now)
            if not self.open:
                return None
            if self.link.silence >= SILENT_SECONDS:
                self.link.drop("nothing was heard of the server for too long")
            if now >= self._ping_at:
                self.link.ping()
                self._ping_at = now + PING_SECONDS
            return max(0.0, min(self._ping_at, self._ping_at if late is None else late) - now)

    def lost(self, error: SelfDBError) -> None:
        """The connection is gone."""
        with self._client._lock:
            self.open = False
            if self._asked:
                self.link.discard_unsent()  # what was meant for that connection means nothing to the next
                self._client._lost(error)

    def refused(self, error: SelfDBError) -> After:
        """An attempt failed; another is made as long as the client lives."""
        with self._client._lock:
            if not self._asked or self._calls.closed:
                return After.STOP
            self._client._refused(error)
            token, again = self.token, self._renewed
        if error.status_code not in _REFUSED or token is None or again:
            return After.LATER
        try:
            fresh = self._calls.transport.renew(token)
        except SelfDBError as failure:
            log.debug("the session could not be refreshed: %s", failure)
            return After.LATER
        self._renewed = True
        return After.LATER if fresh is None or fresh.access == token else After.AT_ONCE


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not name:
        raise InvalidRequestError("a channel's name must be a str that is not empty")
    if len(name) > LONGEST_NAME:
        raise InvalidRequestError(f"a channel's name must have at most {LONGEST_NAME} characters, not {len(name)}")
    if name in (".", "..") or any(ord(character) < 32 or ord(character) == 127 for character in name):
        raise InvalidRequestError("a channel's name must not be '.' or '..', nor contain control characters")
    encode_text(name, "a channel's name")
