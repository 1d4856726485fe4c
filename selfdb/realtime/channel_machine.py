"""One channel as a state machine: fed with frames and the time, it says what is to be done. No socket, no thread."""

from __future__ import annotations

import enum
import json
from collections.abc import Callable
from typing import Any, NamedTuple, Union

from ..exceptions import (
    APITimeoutError,
    NotFoundError,
    PermissionDeniedError,
    RealtimeError,
    SelfDBError,
)
from .frames import Frame

__all__ = [
    "Action",
    "Changed",
    "ChannelMachine",
    "ChannelState",
    "Deliver",
    "Drop",
    "Failed",
    "Resync",
    "Send",
    "Settled",
    "Waiter",
]

REJOIN_STEPS = (1.0, 2.0, 5.0, 10.0)
"""Seconds before each attempt to join again after the channel failed; the last goes on for ever."""

JOIN_TIMEOUT = 10.0
"""Seconds within which a join that nobody waits for has to be answered."""

LONGEST_REASON = 500
"""Characters of a refusal's reason that go into a message."""

_FORBIDDEN = frozenset({"unauthorized", "forbidden"})
_MISSING = frozenset({"unmatched topic", "not found", "table not found"})


class ChannelState(str, enum.Enum):
    """Where a channel stands."""

    CLOSED = "closed"
    JOINING = "joining"
    JOINED = "joined"
    LEAVING = "leaving"
    ERRORED = "errored"


class Waiter:
    """Someone who waits for an outcome; the machine only carries it around."""


class Send(NamedTuple):
    """Send ``frame``."""

    frame: Frame


class Deliver(NamedTuple):
    """An event for the handlers of ``topic``."""

    topic: str
    event: str
    payload: Any


class Resync(NamedTuple):
    """Events of ``topic`` may have been missed before this point."""

    topic: str


class Changed(NamedTuple):
    """The channel of ``topic`` is in another state."""

    topic: str
    state: ChannelState


class Settled(NamedTuple):
    """What ``waiter`` waits for has come: ``response``, or ``error``."""

    waiter: Waiter
    response: Any = None
    error: SelfDBError | None = None


class Failed(NamedTuple):
    """Something went wrong that nobody waits for."""

    topic: str | None
    error: SelfDBError


class Drop(NamedTuple):
    """The connection is dead; give it up."""

    reason: str


Action = Union[Send, Deliver, Resync, Changed, Settled, Failed, Drop]


class _Push(NamedTuple):
    event: str
    payload: Any
    deadline: float
    waiter: Waiter


class ChannelMachine:
    """The life of one topic. Not for sharing between threads.

    :param topic: such as ``table:orders``.
    :param next_ref: gives the connection's next ref.
    """

    def __init__(self, topic: str, next_ref: Callable[[], str]) -> None:
        self.topic = topic
        self.state = ChannelState.CLOSED
        self.join_ref: str | None = None
        self.accepts: frozenset[str] = frozenset()
        """Events that the server said, in its reply to the join, that it takes."""
        self._next_ref = next_ref
        self._online = False
        self._ever_joined = False
        self._joiners: list[tuple[Waiter, float]] = []
        self._patient = False
        self._join_due: float | None = None
        self._rejoin_at: float | None = None
        self._rejoins = 0
        self._leaver: Waiter | None = None
        self._leave_ref: str | None = None
        self._leave_due: float | None = None
        self._buffer: list[_Push] = []
        self._pushes: dict[str, _Push] = {}

    @property
    def wanted(self) -> bool:
        """Whether the channel is, or is to be, joined."""
        return self.state in (ChannelState.JOINING, ChannelState.JOINED, ChannelState.ERRORED)

    def next_due(self) -> float | None:
        """When :meth:`tick` has something to do, or ``None``."""
        times = [self._join_due, self._rejoin_at, self._leave_due]
        times += [until for _, until in self._joiners]
        times += [push.deadline for push in self._buffer]
        times += [push.deadline for push in self._pushes.values()]
        known = [time for time in times if time is not None]
        return min(known) if known else None

    # What the user wants

    def join(self, now: float, waiter: Waiter | None, timeout: float) -> list[Action]:
        """Subscribe. With a waiter its outcome is settled within ``timeout``; without one it may take its time."""
        if self.state is ChannelState.JOINED:
            return [] if waiter is None else [Settled(waiter)]
        if waiter is None:
            self._patient = True
        else:
            self._joiners.append((waiter, now + timeout))
        if self.state in (ChannelState.JOINING, ChannelState.ERRORED):
            return []
        actions = self._left() if self.state is ChannelState.LEAVING else []
        self._ever_joined = False
        self._rejoins = 0
        if not self._online:
            return [*actions, *self._to(ChannelState.JOINING)]
        return [*actions, *self._send_join(now, timeout)]

    def leave(self, now: float, waiter: Waiter | None, timeout: float) -> list[Action]:
        """Unsubscribe; settled by the server's word, or after ``timeout`` without it."""
        if self.state in (ChannelState.CLOSED, ChannelState.LEAVING):
            return [] if waiter is None else [Settled(waiter)]
        sent = self._online and self.join_ref is not None
        actions = self._give_up(RealtimeError(f"the channel {self.topic} was left"))
        if not sent:
            self.join_ref = None
            actions += self._to(ChannelState.CLOSED)
            return actions if waiter is None else [*actions, Settled(waiter)]
        self._leaver, self._leave_due = waiter, now + timeout
        self._leave_ref = self._next_ref()
        return [
            *actions,
            *self._to(ChannelState.LEAVING),
            Send(Frame(self.join_ref, self._leave_ref, self.topic, "phx_leave", {})),
        ]

    def push(self, now: float, event: str, payload: Any, waiter: Waiter, timeout: float) -> list[Action]:
        """Send an event of one's own; buffered until the channel is joined.

        :raises RealtimeError: if it was never subscribed.
        """
        if not self.wanted:
            raise RealtimeError(f"subscribe to {self.topic} before pushing to it")
        push = _Push(event, payload, now + timeout, waiter)
        if self.state is ChannelState.JOINED:
            return [self._send(push)]
        self._buffer.append(push)
        return []

    # What the connection says

    def opened(self, now: float) -> list[Action]:
        """The connection stands (again)."""
        self._online = True
        self._rejoins = 0
        return self._send_join(now, self._patience(now)) if self.wanted else []

    def lost(self, error: SelfDBError) -> list[Action]:
        """The connection is gone."""
        self._online = False
        self._join_due = self._rejoin_at = None
        actions = self._fail_sent(error)
        if self.state is ChannelState.LEAVING:
            return [*actions, *self._left()]
        if self.wanted and self.join_ref is not None:
            actions += self._to(ChannelState.ERRORED)
        self.join_ref = None
        return actions

    def unreachable(self, error: SelfDBError) -> list[Action]:
        """No connection came about: whoever waits is told; a channel that may take its time waits for the next try."""
        if not (self._patient and self.state is ChannelState.JOINING):
            return self.ended(error)
        waiting, self._joiners = self._joiners, []
        return [*(Settled(waiter, error=error) for waiter, _ in waiting), *self._fail_buffered(error)]

    def ended(self, error: SelfDBError) -> list[Action]:
        """The user disconnected: nothing is joined again by itself."""
        self._online = False
        actions = self._give_up(error)
        if self.state is ChannelState.LEAVING:
            return [*actions, *self._left()]
        self.join_ref = None
        return [*actions, *self._to(ChannelState.CLOSED)]

    def delivers(self, join_ref: str | None, event: str) -> bool:
        """Whether a frame of this topic is an event for the handlers, and nothing else has to be done about it.

        For such a one, nearly all that come, this stands for :meth:`frame`: it would give one ``Deliver``.
        """
        return (
            self.state is ChannelState.JOINED
            and (join_ref is None or join_ref == self.join_ref)
            and not event.startswith("phx_")
        )

    def frame(self, frame: Frame, now: float) -> list[Action]:
        """A frame for this topic came."""
        if frame.join_ref is not None and frame.join_ref != self.join_ref:
            return []  # of an earlier join; the one that replaced it is not concerned
        if frame.event == "phx_reply":
            return self._reply(frame, now)
        if frame.event == "phx_close":
            return self._closed_by_server()
        if frame.event == "phx_error":
            return self._errored(now)
        return [Deliver(self.topic, frame.event, frame.payload)] if self.delivers(frame.join_ref, frame.event) else []

    def unsent(self, ref: str | None, error: SelfDBError) -> list[Action]:
        """What bears ``ref`` could not be sent."""
        push = None if ref is None else self._pushes.pop(ref, None)
        return [Failed(self.topic, error) if push is None else Settled(push.waiter, error=error)]

    def awaits(self, ref: str | None) -> bool:
        """Whether the reply to ``ref`` is waited for."""
        return ref is not None and (ref == self.join_ref or ref in self._pushes)

    def tick(self, now: float) -> list[Action]:
        """Do what is due."""
        actions: list[Action] = []
        late = [waiter for waiter, until in self._joiners if until <= now]
        if late:
            self._joiners = [(waiter, until) for waiter, until in self._joiners if until > now]
            error = APITimeoutError(f"the server did not answer the join of {self.topic} in time")
            actions += [Settled(waiter, error=error) for waiter in late]
        if self.wanted and late and not (self._joiners or self._ever_joined or self._patient):
            actions += self._withdraw()
        elif self._join_due is not None and self._join_due <= now:
            actions += self._join_timed_out(now)
        elif self._rejoin_at is not None and self._rejoin_at <= now:
            actions += self._send_join(now, self._patience(now))
        if self._leave_due is not None and self._leave_due <= now:
            actions += self._left()
        return actions + self._expire_pushes(now)

    # Joining

    def _patience(self, now: float) -> float:
        return max([JOIN_TIMEOUT, *(until - now for _, until in self._joiners)])

    def _send_join(self, now: float, timeout: float) -> list[Action]:
        self.join_ref = ref = self._next_ref()
        self._join_due = now + timeout
        self._rejoin_at = None
        return [*self._to(ChannelState.JOINING), Send(Frame(ref, ref, self.topic, "phx_join", {}))]

    def _reply(self, frame: Frame, now: float) -> list[Action]:
        status = frame.payload.get("status") if isinstance(frame.payload, dict) else None
        response = frame.payload.get("response") if isinstance(frame.payload, dict) else None
        if frame.ref is None:
            return []
        if frame.ref == self.join_ref and self.state is ChannelState.JOINING:
            return self._joined(response, now) if status == "ok" else self._join_refused(response, now)
        if frame.ref == self._leave_ref:
            return self._left()
        push = self._pushes.pop(frame.ref, None)
        if push is None:
            return []
        if status == "ok":
            return [Settled(push.waiter, response)]
        return [Settled(push.waiter, error=refusal(self.topic, push.event, response))]

    def _joined(self, response: Any, now: float) -> list[Action]:
        accepts = response.get("accepts") if isinstance(response, dict) else None
        named = accepts if isinstance(accepts, list) else ()
        self.accepts = frozenset(name for name in named if isinstance(name, str))
        self._join_due = None
        self._rejoins = 0
        actions = self._to(ChannelState.JOINED)
        if self._ever_joined:
            actions.append(Resync(self.topic))
        self._ever_joined = True
        waiting, self._joiners = self._joiners, []
        actions += [Settled(waiter) for waiter, _ in waiting]
        ready, self._buffer = self._buffer, []
        for push in ready:
            if push.deadline > now:
                actions.append(self._send(push))
            else:
                actions.append(Settled(push.waiter, error=self._unanswered()))
        return actions

    def _join_refused(self, response: Any, now: float) -> list[Action]:
        error = refusal(self.topic, "phx_join", response)
        self._join_due = None
        waiting, self._joiners = self._joiners, []
        actions: list[Action] = [Settled(waiter, error=error) for waiter, _ in waiting]
        if not waiting:
            actions.append(Failed(self.topic, error))
        final = isinstance(error, (PermissionDeniedError, NotFoundError))
        if final or (waiting and not self._ever_joined):
            self.join_ref = None
            self._patient = False
            return [*actions, *self._fail_pushes(error), *self._to(ChannelState.CLOSED)]
        return [*actions, *self._errored(now)]

    def _join_timed_out(self, now: float) -> list[Action]:
        # The server may have joined us after all; it is told that this is off before we ask again.
        leave = Send(Frame(self.join_ref, self._next_ref(), self.topic, "phx_leave", {}))
        self.join_ref = None
        return [leave, *self._errored(now)]

    def _withdraw(self) -> list[Action]:
        """Nobody waits for the first join any longer: it was to be, and was not."""
        actions: list[Action] = []
        if self._online and self.join_ref is not None:
            actions.append(Send(Frame(self.join_ref, self._next_ref(), self.topic, "phx_leave", {})))
        self.join_ref = None
        self._join_due = self._rejoin_at = None
        error = APITimeoutError(f"the channel {self.topic} was not joined")
        return [*actions, *self._fail_pushes(error), *self._to(ChannelState.CLOSED)]

    def _errored(self, now: float) -> list[Action]:
        if self.state not in (ChannelState.JOINING, ChannelState.JOINED):
            return []  # when it is to be joined again already, that is not put off
        self._join_due = None
        self._rejoin_at = now + REJOIN_STEPS[min(self._rejoins, len(REJOIN_STEPS) - 1)]
        self._rejoins += 1
        error = RealtimeError(f"the channel {self.topic} failed; it is joined again")
        return [*self._fail_sent(error), *self._to(ChannelState.ERRORED)]

    def _closed_by_server(self) -> list[Action]:
        if self.state is ChannelState.LEAVING:
            return self._left()
        if self.state is ChannelState.CLOSED:
            return []
        error = RealtimeError(
            f"the server closed the channel {self.topic}: its table is gone, renamed or no longer yours to read"
        )
        told: list[Action] = [] if self._joiners else [Failed(self.topic, error)]
        actions = self._give_up(error)
        self.join_ref = None
        return [*actions, *told, *self._to(ChannelState.CLOSED)]

    # Leaving

    def _left(self) -> list[Action]:
        waiter, self._leaver = self._leaver, None
        self._leave_ref = self._leave_due = self.join_ref = None
        actions = self._to(ChannelState.CLOSED)
        return actions if waiter is None else [*actions, Settled(waiter)]

    def _give_up(self, error: SelfDBError) -> list[Action]:
        self._join_due = self._rejoin_at = None
        self._patient = False
        waiting, self._joiners = self._joiners, []
        actions: list[Action] = [Settled(waiter, error=error) for waiter, _ in waiting]
        return [*actions, *self._fail_pushes(error)]

    # Pushes

    def _send(self, push: _Push) -> Send:
        ref = self._next_ref()
        self._pushes[ref] = push
        return Send(Frame(self.join_ref, ref, self.topic, push.event, push.payload))

    def _fail_pushes(self, error: SelfDBError) -> list[Action]:
        return [*self._fail_sent(error), *self._fail_buffered(error)]

    def _fail_sent(self, error: SelfDBError) -> list[Action]:
        sent, self._pushes = self._pushes, {}
        return [Settled(push.waiter, error=error) for push in sent.values()]

    def _fail_buffered(self, error: SelfDBError) -> list[Action]:
        kept, self._buffer = self._buffer, []
        return [Settled(push.waiter, error=error) for push in kept]

    def _expire_pushes(self, now: float) -> list[Action]:
        late = [push for push in self._buffer if push.deadline <= now]
        if late:
            self._buffer = [push for push in self._buffer if push.deadline > now]
        for ref in [ref for ref, push in self._pushes.items() if push.deadline <= now]:
            late.append(self._pushes.pop(ref))
        return [Settled(push.waiter, error=self._unanswered()) for push in late]

    def _unanswered(self) -> APITimeoutError:
        return APITimeoutError(f"the server did not answer a push to {self.topic} in time")

    def _to(self, state: ChannelState) -> list[Action]:
        if self.state is state:
            return []
        self.state = state
        return [Changed(self.topic, state)]


def refusal(topic: str, event: str, response: Any) -> SelfDBError:
    """The error for a reply of status ``error``."""
    reason = response.get("reason") if isinstance(response, dict) else None
    # Anything but a text could be nested without end; and what a server says may be long, and no text at all.
    said = reason if isinstance(reason, str) else json.dumps(reason) if isinstance(reason, (int, float)) else ""
    text = said[:LONGEST_REASON].encode("utf-8", "replace").decode("utf-8") or "no reason given"
    what = f"the join of {topic}" if event == "phx_join" else f"the push {event!r} to {topic}"
    if text in _FORBIDDEN:
        return PermissionDeniedError(f"{what} was refused: {text}; sign in as a user who may read the table")
    if text in _MISSING:
        return NotFoundError(f"{what} was refused: {text}")
    return RealtimeError(f"{what} was refused: {text}", response_body=response)
