"""The realtime client: channels for threads, over one link, one session machine and one dispatcher."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import quote

from ..core.dispatch import MAX_BYTES, MAX_ITEMS, Dispatcher, Full, Job
from ..core.forks import renew_after_fork
from ..core.tokens import expiry_of
from ..core.transport import Transport
from ..core.websocket import Address, Link, LinkState
from ..core.wsframes import BINARY
from ..exceptions import (
    APITimeoutError,
    AuthenticationError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    RealtimeError,
    SelfDBError,
)
from . import frames
from .channel import Channel
from .channel_machine import Action, Changed, ChannelState, Deliver, Drop, Failed, Resync, Send, Settled, Waiter
from .handlers import Callback, Handlers
from .payloads import normalised
from .session_machine import SessionMachine

__all__ = ["Channel", "Realtime"]

log = logging.getLogger("selfdb.realtime")

PATHS = ("/realtime/socket/websocket", "/realtime/socket")
"""Where servers listen: the documented path, and the short one of older ones."""

RENEW_BEFORE = 60.0
"""Seconds before its end that an access token is renewed while events flow."""

REOPEN_BEFORE = 2.0
"""Seconds before its end that a connection is opened anew with the next token, on servers that take it no other way."""


class _Wait(Waiter):
    """A thread that waits for an outcome."""

    def __init__(self) -> None:
        self._settled = threading.Event()
        self._outcome: Settled | None = None

    def settle(self, outcome: Settled) -> None:
        self._outcome = outcome
        self._settled.set()

    def result(self, timeout: float, what: str) -> Any:
        """The response; the machine settles in time, the slack is for a machine that cannot."""
        if not self._settled.wait(timeout + 1.0) or self._outcome is None:
            raise APITimeoutError(f"{what} was not answered within {timeout:g} s")
        if self._outcome.error is not None:
            raise self._outcome.error
        return self._outcome.response


class Realtime:
    """Events of the server, on background threads. May be shared by threads; callbacks may call anything here.

    One daemon thread reads and keeps the connection alive, another runs the callbacks, in the order of arrival. A
    forked child starts disconnected, with its channels and their callbacks, and may connect anew.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._clock = transport.pool.clock
        self._channels: dict[str, Channel] = {}
        self._on_state: list[Callable[[str], Any]] = []
        self._on_error: list[Callable[[BaseException], Any]] = []
        self._dispatcher = Dispatcher(on_error=self._report, clock=self._clock)
        self._link = Link(self, on_state=self._state_changed, clock=self._clock)
        self._path: str | None = None
        renew_after_fork(self)
        self._renew_in_child()

    def _renew_in_child(self) -> None:
        self._lock = threading.RLock()
        self._machine = SessionMachine()
        self._held: deque[Job] = deque()
        self._held_since: float | None = None
        self._ever_connected = False
        self._standing = threading.Event()
        self._first_error: SelfDBError | None = None
        self._tried_path: str | None = None
        self._token: str | None = None
        self._token_end: float | None = None
        self._renewing: str | None = None
        self._refused_token: str | None = None
        for channel in self._channels.values():
            channel._handlers.renew_in_child()

    # What the user calls

    def connect(
        self,
        timeout: float = 10.0,
        *,
        overflow: str = "drop_oldest",
        max_items: int = MAX_ITEMS,
        max_bytes: int = MAX_BYTES,
        block_seconds: float = 5.0,
    ) -> None:
        """Connect, and stay connected until :meth:`disconnect`. Harmless while connected.

        :param timeout: seconds for the first connection; later ones are tried for ever.
        :param overflow: what happens to events while ``max_items`` of them, or ``max_bytes``, wait for slow callbacks:
            ``drop_oldest``, ``drop_newest``, ``block`` (reading pauses for up to ``block_seconds``, then the oldest
            go) or ``disconnect``. It is always reported: to ``on_error``, and by a ``resync`` of the channel.
        :raises AuthenticationError: if the server wants a session and has none of ours, or refuses the API key.
        :raises APIConnectionError: if it cannot be reached; APITimeoutError, not in time.
        """
        full = Full(overflow, max_items, max_bytes, block_seconds).checked()
        self._transport.lifeline.check()
        with self._lock:
            if self._link.state is not LinkState.CONNECTED:
                if self._link.state is LinkState.DISCONNECTED:
                    self._standing.clear()
                    self._first_error = self._tried_path = self._refused_token = None
                    self._dispatcher.full = full
                    self._dispatcher.reopen()
                    self._link = Link(
                        self, on_state=self._state_changed, clock=self._clock, connect_timeout=max(0.1, timeout)
                    )
                self._link.start()
        if not self._standing.wait(timeout):
            self.disconnect()
            raise APITimeoutError(f"{self._transport.base.origin} was not connected within {timeout:g} s")
        error = self._first_error
        if error is not None:
            self._link.close()
            raise error

    def disconnect(self) -> None:
        """Close the connection; nothing is joined again by itself. Channels keep their callbacks.

        Returns within 2 s, whatever the server does; from any thread, from callbacks and signal handlers too.
        """
        with self._lock:
            self._perform(self._machine.ended(RealtimeError("the client disconnected")))
            self._held.clear()
        self._link.close()
        self._dispatcher.close()
        for channel in list(self._channels.values()):
            channel._handlers.end_streams(None)

    def channel(self, topic: str) -> Channel:
        """The channel of ``topic``, such as ``table:orders``; the same object for every call.

        :raises InvalidRequestError: if ``topic`` is empty.
        """
        if not isinstance(topic, str) or not topic:
            raise InvalidRequestError("topic must be a str that is not empty, such as table:orders")
        with self._lock:
            channel = self._channels.get(topic)
            if channel is None:
                channel = self._channels[topic] = Channel(self, topic)
            return channel

    @property
    def state(self) -> str:
        """``disconnected``, ``connecting``, ``connected``, ``reconnecting`` or ``closing``."""
        return self._link.state.value

    def get_state(self) -> str:
        """The same as :attr:`state`."""
        return self.state

    @property
    def connected(self) -> bool:
        """Whether the connection stands."""
        return self._link.state is LinkState.CONNECTED

    @property
    def is_connected(self) -> bool:
        """The same as :attr:`connected`."""
        return self.connected

    @property
    def last_message_at(self) -> float | None:
        """When the server was heard of last, in seconds since the epoch; ``None`` if never."""
        return self._link.last_message_at

    def on_state_change(self, callback: Callable[[str], Any]) -> None:
        """Call ``callback(state)`` whenever :attr:`state` changes."""
        self._on_state = [*self._on_state, callback]

    def on_error(self, callback: Callable[[BaseException], Any]) -> None:
        """Call ``callback(error)`` for what nobody waits for: lost sessions, refused joins, dropped events, callbacks
        that raise."""
        self._on_error = [*self._on_error, callback]

    def subscribe(self, topic: str) -> Channel:
        """The same as ``channel(topic).subscribe()``."""
        return self.channel(topic).subscribe()

    def unsubscribe(self, topic: str) -> None:
        """The same as ``channel(topic).unsubscribe()``."""
        self.channel(topic).unsubscribe()

    def on(self, topic: str, event: str, callback: Callback) -> Channel:
        """The same as ``channel(topic).on(event, callback)``."""
        return self.channel(topic).on(event, callback)

    def off(self, topic: str, event: str, callback: Callback | None = None) -> Channel:
        """The same as ``channel(topic).off(event, callback)``."""
        return self.channel(topic).off(event, callback)

    def __repr__(self) -> str:
        return f"<Realtime {self.state} of {self._transport.base.origin}>"

    # What channels ask

    def _join(self, topic: str, timeout: float) -> None:
        wait = _Wait()
        with self._lock:
            queue_only = not self._ever_connected and self._link.state is LinkState.DISCONNECTED
            if not queue_only and self._link.state in (LinkState.DISCONNECTED, LinkState.CLOSING):
                raise RealtimeError("not connected; call realtime.connect() first")
            now = self._clock.monotonic()
            self._perform(self._machine.join(topic, now, None if queue_only else wait, timeout))
        if not queue_only:
            self._link.wake()
            wait.result(timeout, f"the join of {topic}")

    def _leave(self, topic: str, timeout: float) -> None:
        wait = _Wait()
        with self._lock:
            self._perform(self._machine.leave(topic, self._clock.monotonic(), wait, timeout))
        self._link.wake()
        wait.result(timeout, f"leaving {topic}")

    def _push(self, topic: str, event: str, payload: Any, timeout: float) -> Any:
        wait = _Wait()
        with self._lock:
            self._perform(self._machine.push(topic, self._clock.monotonic(), event, payload, wait, timeout))
        self._link.wake()
        return wait.result(timeout, f"the push {event!r} to {topic}")

    def _channel_state(self, topic: str) -> str:
        with self._lock:
            return self._machine.channel(topic).state.value

    # What the link asks (on its thread)

    def address(self) -> Address:
        """Where to connect, with the tokens of this moment."""
        transport = self._transport
        if self._ever_connected:
            self._renew_if_ending()
        tokens = transport.keeper.current()
        self._take(None if tokens is None else tokens.access)
        path = self._path or self._tried_path or PATHS[0]
        base = transport.base.text.replace("http", "ws", 1)
        query = ["vsn=2.0.0"] + [f"{name}={quote(value, safe='')}" for name, value in transport.identity.items()]
        if self._token is not None:
            query.append(f"token={quote(self._token, safe='')}")
        proxy, context = transport.pool.websocket_route(transport.base.text + path)
        return Address(
            f"{base}{path}?{'&'.join(query)}",
            str(transport.base.origin),
            [f"{name}: {value}" for name, value in transport.options.headers.items()],
            proxy,
            context,
        )

    def opened(self) -> None:
        """The connection stands."""
        with self._lock:
            if self._path is None:
                self._path = self._tried_path or PATHS[0]
            self._ever_connected = True
            self._refused_token = self._first_error = None
            self._perform(self._machine.opened(self._clock.monotonic()))
        self._standing.set()

    def received(self, opcode: int, data: bytes) -> None:
        """A message came."""
        try:
            frame = frames.decode(data, binary=opcode == BINARY)
        except ValueError as error:
            log.warning("a frame that is none was ignored: %s", error)
            return
        with self._lock:
            self._perform(self._machine.frame(frame, self._clock.monotonic()), len(data))

    def ready_to_read(self) -> bool:
        """Whether the dispatcher takes more."""
        if not self._held:
            return True
        with self._lock:
            self._put_held()
        return not self._held

    def tick(self) -> float | None:
        """Heartbeats, time-outs, tokens."""
        with self._lock:
            now = self._clock.monotonic()
            self._perform(self._machine.tick(now, self._clock.time()))
            due = self._machine.next_due()
            self._watch_token()
        if self._held:
            return 0.05
        return None if due is None else max(0.0, due - now)

    def lost(self, error: SelfDBError) -> None:
        """The connection is gone."""
        with self._lock:
            self._perform(self._machine.lost(error))

    def refused(self, error: SelfDBError) -> bool:
        """An attempt failed; whether another makes sense."""
        if self._path is None and self._tried_path is None and error.status_code in (403, 404):
            self._tried_path = PATHS[1]
            self._first_error = error
            return True
        if self._tried_path is not None and self._path is None and self._first_error is not None:
            first = self._first_error
            error = error if isinstance(first, NotFoundError) else first
        if isinstance(error, (AuthenticationError, PermissionDeniedError)):
            if self._renew_refused():
                self._tried_path = None if self._path is None else self._tried_path
                return True
        elif self._ever_connected and not isinstance(error, InvalidRequestError):
            return True
        self._give_up(error)
        return False

    def _give_up(self, error: SelfDBError) -> None:
        with self._lock:
            first = not self._ever_connected or not self._standing.is_set()
            self._first_error = error
            if not first:
                self._perform([Failed(None, error)])
            self._perform(self._machine.ended(error))
        for channel in list(self._channels.values()):
            channel._handlers.end_streams(error)
        self._standing.set()

    # Tokens

    def _renew_refused(self) -> bool:
        """Whether a refused token gave way to a fresh one; asked once for each."""
        token = self._token
        if token is None or token == self._refused_token:
            return False
        self._refused_token = token
        return self._renew(token)

    def _renew_if_ending(self) -> None:
        token = self._transport.keeper.current()
        if token is not None and self._transport.keeper.expires_within(REOPEN_BEFORE):
            self._renew(token.access)

    def _renew(self, token: str) -> bool:
        try:
            fresh = self._transport.renew(token)
        except SelfDBError as error:
            log.debug("the session could not be refreshed: %s", error)
            return False
        return fresh is not None and fresh.access != token

    def _watch_token(self) -> None:
        """Tell the server of a new token; have one fetched before the old one ends."""
        keeper = self._transport.keeper
        tokens = keeper.current()
        if not self._machine.online or tokens is None or self._token is None:
            return
        if tokens.access != self._token:
            if self._machine.takes_token():
                self._take(tokens.access)
                self._perform(self._machine.push_token(tokens.access))
            elif self._token_end is not None and self._token_end - self._clock.time() < REOPEN_BEFORE:
                self._link.drop("the access token is about to end; connecting with the new one")
        elif self._token_end is not None and tokens.refresh is not None and self._renewing != tokens.access:
            if self._token_end - self._clock.time() >= RENEW_BEFORE:
                return
            self._renewing = tokens.access
            # Not here: the answer may take its time, and the heartbeat must not wait for it.
            threading.Thread(
                target=self._renew, args=(tokens.access,), name="selfdb-realtime-renew", daemon=True
            ).start()

    def _take(self, token: str | None) -> None:
        """``token`` is what the server knows us by now."""
        self._token = token
        self._token_end = None if token is None else expiry_of(token)

    # Actions

    def _perform(self, actions: list[Action], size: int = 0) -> None:
        """Do what the machine says; with the lock held, so that the order of two threads stays that of the machine."""
        for action in actions:
            if isinstance(action, Deliver):
                self._deliver(action, size)
            elif isinstance(action, Send):
                self._send(action)
            elif isinstance(action, Settled):
                if isinstance(action.waiter, _Wait):
                    action.waiter.settle(action)
            elif isinstance(action, Changed):
                self._changed(action)
            elif isinstance(action, Resync):
                handlers = self._handlers(action.topic)
                handlers.presence.rejoined()
                self._queue(Job(handlers.resync, droppable=False))
            elif isinstance(action, Failed):
                self._fail(action.error)
                if action.topic is not None and not self._machine.channel(action.topic).wanted:
                    self._handlers(action.topic).end_streams(action.error)
            elif isinstance(action, Drop):
                self._link.drop(action.reason)

    def _send(self, action: Send) -> None:
        frame = action.frame
        try:
            if isinstance(frame.payload, (bytes, bytearray)):
                self._link.send(frames.encode_binary(frame))
            else:
                self._link.send(frames.encode(frame))
        except (RealtimeError, ValueError) as error:
            self._fail(error)

    def _handlers(self, topic: str) -> Handlers:
        return self.channel(topic)._handlers

    def _deliver(self, action: Deliver, size: int) -> None:
        handlers = self._handlers(action.topic)
        if handlers.presence.take(action.event, action.payload):
            return
        if handlers.idle:
            return
        payload = normalised(action.topic, action.event, action.payload)
        if payload is None:
            log.warning("a broadcast on %s that cannot be read was ignored", action.topic)
            return
        number = handlers.number()

        def dropped() -> None:
            self._dispatcher.put(Job(lambda: handlers.catch_up(number), droppable=False))

        self._queue(Job(lambda: handlers.deliver(number, payload), size, dropped=dropped))

    def _changed(self, action: Changed) -> None:
        if action.state is ChannelState.CLOSED:
            handlers = self._channels.get(action.topic)
            if handlers is not None:
                self._queue(Job(handlers._handlers.end_quietly, droppable=False))

    def _queue(self, job: Job) -> None:
        if self._held:
            self._held.append(job)
        elif not self._dispatcher.put(job):
            if self._dispatcher.full.policy == "disconnect":
                self._overflowed()
                return
            self._held.append(job)
            self._held_since = self._clock.monotonic()

    def _put_held(self) -> None:
        since = self._held_since or 0.0
        force = self._clock.monotonic() - since >= self._dispatcher.full.block_seconds
        while self._held and self._dispatcher.put(self._held[0], force=force):
            self._held.popleft()

    def _overflowed(self) -> None:
        error = RealtimeError("disconnected: the callbacks are slower than the server, and the queue is full")
        self._fail(error)
        self._perform(self._machine.ended(error))
        # Not on this thread, which the link's own may be: it would close itself in the middle of a read.
        threading.Thread(target=self._link.close, name="selfdb-realtime-close", daemon=True).start()

    def _fail(self, error: BaseException) -> None:
        self._dispatcher.put(Job(lambda: self._report(error), droppable=False))

    def _report(self, error: BaseException) -> None:
        if not self._on_error:
            log.warning("realtime: %s", error)
        for callback in self._on_error:
            try:
                callback(error)
            except Exception:
                log.exception("an error callback failed")

    def _state_changed(self, state: LinkState) -> None:
        for callback in self._on_state:
            self._dispatcher.put(Job(partial(callback, state.value), droppable=False))
