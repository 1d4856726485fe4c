"""The realtime client: channels for threads, over one link, one session machine and one dispatcher."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from urllib.parse import quote

from ..core.dispatch import MAX_BYTES, MAX_ITEMS, Dispatcher, Full, Job, Runnable
from ..core.encoding import encode_text
from ..core.forks import renew_after_fork
from ..core.marks import blocking, inner, passing
from ..core.transport import Transport
from ..core.waits import Waiting, waiting, work
from ..core.websocket import Address, After, Link, LinkState
from ..core.wsframes import BROKEN, TEXT, TOO_BIG, Message
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
from .channel_machine import Action, Changed, ChannelState, Deliver, Drop, Failed, Resync, Send, Settled
from .credentials import Credentials
from .frames import Frame
from .handlers import Callback, Delivery, Handlers
from .payloads import normalised, sendable, without_secrets
from .session_machine import SessionMachine
from .waiting import Attempt, Turn, Wait

__all__ = ["Channel", "Realtime"]

log = logging.getLogger("selfdb.realtime")

PATHS = ("/realtime/socket/websocket", "/realtime/socket")
"""Where servers listen: the documented path, and the short one of older ones."""

ATTEMPT_SECONDS = 10.0
"""Seconds that one attempt to connect may take, unless ``connect`` allows more."""

LONGEST_TOPIC = 1024
"""Characters; it goes into every frame of its channel, and servers bound these."""

_TOLD = (BROKEN, TOO_BIG)
"""Codes of losses that say more than that the connection was lost."""

_OFF = (LinkState.DISCONNECTED, LinkState.CLOSING)


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
        self._dispatcher = Dispatcher(on_error=self._report)
        self._link = Link(self, clock=self._clock)
        self._leaving: Link | None = None
        self._path: str | None = None
        renew_after_fork(self)
        self._renew_in_child()

    def _renew_in_child(self) -> None:
        self._turn = Turn(self._stop)
        self._machine = SessionMachine()
        self._credentials = Credentials(self._transport)
        self._attempt = Attempt()
        self._held: deque[Runnable] = deque()
        self._held_since: float | None = None
        self._told_of_junk = False
        self._ever_connected = False
        self._opened = False
        self._first_refusal: SelfDBError | None = None
        for channel in self._channels.values():
            channel._handlers.renew_in_child()

    # What the user calls

    @waiting
    def connect(
        self,
        timeout: float = 10.0,
        *,
        overflow: str = "drop_oldest",
        max_items: int = MAX_ITEMS,
        max_bytes: int = MAX_BYTES,
        block_seconds: float = 5.0,
    ) -> Waiting[None]:
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
        with self._turn:
            begins = self._link.state in _OFF
            if begins:
                self._attempt = Attempt()
                self._opened, self._first_refusal = False, None
                self._dispatcher.full = full
                self._dispatcher.reopen()
                self._leaving = self._link
                self._link = self._new_link(max(timeout, ATTEMPT_SECONDS))
                self._link.start()
            attempt, link = self._attempt, self._link
        try:
            if (yield from attempt.wait(timeout)):
                return
        except SelfDBError:
            yield from work(link.close)
            raise
        except BaseException:  # Ctrl-C, or the end of a task: nobody wants it any more
            with self._turn:
                if begins and self._link is link and not self._opened:
                    self._give_up(RealtimeError("connecting was interrupted"))
            raise
        late = APITimeoutError(f"{self._transport.base.origin} was not connected within {timeout:g} s")
        if begins:
            with self._turn:
                if self._link is link and self._opened:
                    return  # in the last moment
                if self._link is link:
                    self._give_up(late)
            yield from work(link.close)
        raise late

    def _new_link(self, seconds: float) -> Link:
        link: Link = Link(
            self,
            on_state=lambda state: self._state_changed(link, state),
            clock=self._clock,
            connect_timeout=seconds,
        )
        return link

    @blocking(closes=True)
    def disconnect(self) -> None:
        """Close the connection; nothing is joined again by itself. Channels keep their callbacks.

        Returns within 2 s, whatever the server does; from any thread, from callbacks and signal handlers too.
        """
        with self._turn as turn:
            turn.stopping = True
            link = self._link
            if turn.depth > 1:
                # In a signal handler that interrupted its own thread here, which goes on afterwards and does it.
                link.stop()
                return
        link.close()

    def _stop(self) -> None:
        error = RealtimeError("the client disconnected")
        self._perform(self._machine.ended(error))
        self._held.clear()
        self._link.stop()
        self._dispatcher.close()
        for channel in self._channels.values():
            channel._handlers.end_streams(None)
            channel._handlers.forget()
        self._attempt.end(error)

    def channel(self, topic: str) -> Channel:
        """The channel of ``topic``, such as ``table:orders``; the same object for every call.

        :raises InvalidRequestError: if ``topic`` is empty, longer than 1024 characters or no text.
        """
        if not isinstance(topic, str) or not topic:
            raise InvalidRequestError("topic must be a str that is not empty, such as table:orders")
        if len(topic) > LONGEST_TOPIC:
            raise InvalidRequestError(f"topic must have at most {LONGEST_TOPIC} characters, not {len(topic)}")
        encode_text(topic, "topic")
        with self._turn:
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

    @passing(callbacks=("callback",))
    def on_state_change(self, callback: Callable[[str], Any]) -> None:
        """Call ``callback(state)`` whenever :attr:`state` changes."""
        self._on_state = [*self._on_state, callback]

    @passing(callbacks=("callback",))
    def on_error(self, callback: Callable[[BaseException], Any]) -> None:
        """Call ``callback(error)`` for what nobody waits for: lost sessions, refused joins, dropped events, messages
        that are too large or none, callbacks that raise."""
        self._on_error = [*self._on_error, callback]

    @waiting
    def subscribe(self, topic: str) -> Waiting[Channel]:
        """The same as ``channel(topic).subscribe()``."""
        channel = self.channel(topic)
        yield from self._join(topic, 10.0)
        return channel

    @waiting
    def unsubscribe(self, topic: str) -> Waiting[None]:
        """The same as ``channel(topic).unsubscribe()``."""
        yield from self.channel(topic)._left(10.0)

    @passing(callbacks=("callback",))
    def on(self, topic: str, event: str, callback: Callback) -> Channel:
        """The same as ``channel(topic).on(event, callback)``."""
        return self.channel(topic).on(event, callback)

    @passing(callbacks=("callback",))
    def off(self, topic: str, event: str, callback: Callback | None = None) -> Channel:
        """The same as ``channel(topic).off(event, callback)``."""
        return self.channel(topic).off(event, callback)

    def __repr__(self) -> str:
        return f"<Realtime {self.state} of {self._transport.base.origin}>"

    # What channels ask

    def _join(self, topic: str, timeout: float) -> Waiting[None]:
        self._transport.lifeline.check()
        wait = Wait()
        with self._turn:
            off = self._link.state in _OFF
            if off and self._ever_connected:
                raise RealtimeError("not connected; call realtime.connect() first")
            now = self._clock.monotonic()
            self._perform(self._machine.join(topic, now, None if off else wait, timeout))
        if not off:
            self._link.wake()
            yield from wait.result(timeout, f"the join of {topic}")

    def _leave(self, topic: str, timeout: float) -> Waiting[None]:
        wait = Wait()
        with self._turn:
            self._perform(self._machine.leave(topic, self._clock.monotonic(), wait, timeout))
            self._handlers(topic).forget()  # what was left is not heard of again, though it came before
        self._link.wake()
        yield from wait.result(timeout, f"leaving {topic}")

    def _push(self, topic: str, event: str, payload: Any, timeout: float) -> Waiting[Any]:
        wait = Wait()
        payload = sendable(topic, event, payload)
        with self._turn:
            self._perform(self._machine.push(topic, self._clock.monotonic(), event, payload, wait, timeout))
        self._link.wake()
        response = yield from wait.result(timeout, f"the push {event!r} to {topic}")
        return response

    def _channel_state(self, topic: str) -> str:
        with self._turn:
            return self._machine.channel(topic).state.value

    # What the link asks, on its thread. One that was replaced, and is on its way out, has no say.

    def _asked(self) -> bool:
        return self._link.runs_here() and self._link.state not in _OFF

    @inner
    def address(self) -> Address:
        """Where to connect, with the tokens of this moment."""
        transport = self._transport
        leaving, self._leaving = self._leaving, None
        if leaving is not None:
            leaving.close()  # one client never has two sockets
        token = self._credentials.current()
        with self._turn:
            if self._asked():
                self._credentials.take(token)
            path = self._path or PATHS[0 if self._first_refusal is None else 1]
        base = transport.base.text.replace("http", "ws", 1)
        query = ["vsn=2.0.0"] + [f"{name}={quote(value, safe='')}" for name, value in transport.identity.items()]
        if token is not None:
            query.append(f"token={quote(token, safe='')}")
        proxy, context = transport.pool.websocket_route(transport.base.text + path)
        return Address(
            f"{base}{path}?{'&'.join(query)}",
            str(transport.base.origin),
            [f"{name}: {value}" for name, value in transport.options.headers.items()],
            proxy,
            context,
            transport.secrets(),
        )

    @inner
    def opened(self) -> None:
        """The connection stands."""
        with self._turn:
            if not self._asked():
                return
            if self._path is None:
                self._path = PATHS[0 if self._first_refusal is None else 1]
            self._told_of_junk = False
            self._ever_connected = self._opened = True
            self._first_refusal = None
            self._credentials.accepted()
            self._perform(self._machine.opened(self._clock.monotonic()))
            self._attempt.end()

    @inner
    def received(self, messages: Sequence[Message]) -> bool:
        """Messages came."""
        came = []
        for opcode, data in messages:
            try:
                frame = frames.decode_text(data) if opcode == TEXT else frames.decode(data, binary=True)
            except ValueError as error:
                # The error itself holds the frame; and a server that sends one such may send a hundred thousand.
                log.log(logging.DEBUG if self._told_of_junk else logging.WARNING, "no frame, ignored: %s", str(error))
                self._told_of_junk = True
            else:
                came.append((frame, len(data)))
        with self._turn:
            return self._take(came)

    def _take(self, came: list[tuple[Frame, int]]) -> bool:
        """Take frames in, with their sizes; returns whether times of the machine may have changed.

        Events of joined topics, nearly all there are, change nothing in the machine: they go to the dispatcher in one
        piece. Any other frame may change everything, so what came before it goes first.
        """
        if not came or not self._asked():
            return False
        changed = False
        machines, delivery = self._machine.channels, self._delivery
        now = self._clock.monotonic()
        self._machine.heard(now)
        events: list[Runnable] = []
        for frame, size in came:
            join_ref, _, topic, event, payload = frame
            machine = machines.get(topic)
            if machine is not None and machine.delivers(join_ref, event):
                told = delivery(topic, event, payload, size)
                if told is not None:
                    events.append(told)
                continue
            changed = True
            self._queue(events)
            events = []
            if not self._asked():  # that was too much for the dispatcher, or the frame before it the last
                return changed
            if frames.refuses(frame) and self._machine.awaits(frame):
                frame = frame._replace(payload=without_secrets(frame.payload, self._transport.secrets()))
            self._perform(self._machine.frame(frame, now), size)
        self._queue(events)
        return changed

    @inner
    def ready_to_read(self) -> bool:
        """Whether the dispatcher takes more."""
        if not self._held:
            return True
        with self._turn:
            self._put_held()
            return not self._held

    @inner
    def tick(self) -> float | None:
        """Heartbeats, time-outs, tokens."""
        with self._turn as turn:
            if not self._asked():
                return None
            if self._transport.lifeline.closed:
                turn.stopping = True
                return 0.0
            now = self._clock.monotonic()
            if self._held:
                self._machine.hold_beat(now)
            self._perform(self._machine.tick(now, self._clock.time()))
            if self._machine.online:
                self._watch_token()
            due = self._machine.next_due()
            times = [0.05 if self._held else None, None if due is None else due - now, self._credentials.next_due()]
            return max(0.0, min((time for time in times if time is not None), default=1.0))

    def _watch_token(self) -> None:
        """Tell the server of a new token; have one fetched before the old one ends."""
        credentials = self._credentials
        newer = credentials.newer()
        if newer is None:
            credentials.renew_in_time()
        elif self._machine.takes_token():
            credentials.take(newer)
            self._perform(self._machine.push_token(newer))
        elif credentials.ends_soon():
            self._link.drop("the access token is about to end; connecting with the new one")

    @inner
    def lost(self, error: SelfDBError) -> None:
        """The connection is gone."""
        with self._turn:
            if self._asked():
                self._link.discard_unsent()  # what was meant for that connection means nothing to the next
                self._attempt = Attempt()
                if isinstance(error, RealtimeError) and error.close_code in _TOLD:
                    self._fail(error)  # it would come again, and nobody would know why
                self._perform(self._machine.lost(error))

    @inner
    def refused(self, error: SelfDBError) -> After:
        """An attempt failed; whether another makes sense."""
        with self._turn:
            if not self._asked():
                return After.STOP
            if self._path is None and self._first_refusal is None and error.status_code in (403, 404):
                self._first_refusal = error
                return After.AT_ONCE
            first, self._first_refusal = self._first_refusal, None
            if first is not None and not isinstance(first, NotFoundError):
                error = first
        again = self._after_refusal(error)
        with self._turn:
            if not self._asked():
                return After.STOP
            if again is After.STOP:
                self._give_up(error)
        return again

    def _after_refusal(self, error: SelfDBError) -> After:
        later = After.LATER if self._opened else After.STOP
        if isinstance(error, InvalidRequestError):
            return After.STOP
        if not isinstance(error, (AuthenticationError, PermissionDeniedError)):
            return later
        try:
            return After.AT_ONCE if self._credentials.renew_refused() else After.STOP
        except SelfDBError as failure:
            log.debug("the session could not be refreshed: %s", failure)
            return later

    def _give_up(self, error: SelfDBError) -> None:
        """End for good, with a turn taken."""
        if self._opened:
            self._fail(error)
            for channel in self._channels.values():
                self._queue((Job(channel._handlers.farewell(error), droppable=False),))
            self._perform(self._machine.ended(error))
        else:
            self._perform(self._machine.unreachable(error))
        self._link.stop()
        self._attempt.end(error)

    # Actions

    def _perform(self, actions: list[Action], size: int = 0) -> None:
        """Do what the machine says; with the lock held, so that the order of two threads stays that of the machine."""
        for action in actions:
            if isinstance(action, Deliver):
                told = self._delivery(action.topic, action.event, action.payload, size)
                if told is not None:
                    self._queue((told,))
            elif isinstance(action, Send):
                self._send(action)
            elif isinstance(action, Settled):
                if isinstance(action.waiter, Wait):
                    action.waiter.settle(action)
            elif isinstance(action, Changed):
                self._changed(action)
            elif isinstance(action, Resync):
                self._queue((Job(self._handlers(action.topic).resync, droppable=False),))
            elif isinstance(action, Failed):
                self._fail(action.error)
                if action.topic is not None and not self._machine.channel(action.topic).wanted:
                    self._queue((Job(self._handlers(action.topic).farewell(action.error), droppable=False),))
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
            failure = error if isinstance(error, RealtimeError) else RealtimeError(f"a frame cannot be sent: {error}")
            self._perform(self._machine.unsent(frame, failure))

    def _handlers(self, topic: str) -> Handlers:
        channel = self._channels.get(topic)
        return (channel or self.channel(topic))._handlers

    def _delivery(self, topic: str, event: str, payload: Any, size: int) -> Delivery | None:
        """The job of telling of an event; ``None`` where there is nobody, or nothing, to be told."""
        channel = self._channels.get(topic)
        handlers = self._handlers(topic) if channel is None else channel._handlers
        if not handlers.wants(event, payload, size):
            return None
        told = normalised(topic, event, payload)
        if told is None:
            log.warning("a broadcast on %s that cannot be read was ignored", topic)
            return None
        return Delivery(handlers, told, size, self._dispatcher.put)

    def _changed(self, action: Changed) -> None:
        if action.state is ChannelState.CLOSED:
            self._queue((Job(self._handlers(action.topic).farewell(None), droppable=False),))
        elif action.state is ChannelState.JOINED:
            self._handlers(action.topic).presence.rejoined()

    def _queue(self, jobs: Sequence[Runnable]) -> None:
        if self._held or not jobs:
            self._held.extend(jobs)
            return
        taken = self._dispatcher.put_all(jobs)
        if taken:
            self._held_since = None
        if taken == len(jobs):
            return
        if self._dispatcher.full.policy == "disconnect":
            self._overflowed()
        else:
            self._held.extend(jobs[taken:])
            self._put_held()

    def _put_held(self) -> None:
        """Queue what waits for room, without regard to that once it has waited for long enough."""
        now = self._clock.monotonic()
        if self._held_since is None:
            self._held_since = now
        force = now - self._held_since >= self._dispatcher.full.block_seconds
        while self._held and self._dispatcher.put(self._held[0], force=force):
            self._held.popleft()
        if not (self._held or force):
            self._held_since = None

    def _overflowed(self) -> None:
        self._give_up(RealtimeError("disconnected: the callbacks are slower than the server, and the queue is full"))

    def _fail(self, error: BaseException) -> None:
        self._dispatcher.put(Job(lambda: self._report(error), droppable=False))

    def _report(self, error: BaseException) -> None:
        if not self._on_error:
            log.warning("realtime: %s", error)
        for callback in self._on_error:
            try:
                callback(error)
            except BaseException:  # sys.exit() too: the others are told all the same
                log.exception("an error callback failed")

    def _state_changed(self, link: Link, state: LinkState) -> None:
        if link is self._link:
            for callback in self._on_state:
                self._dispatcher.put(Job(partial(callback, state.value), droppable=False))
