"""All channels of one connection, with its refs and its heartbeat, as a state machine. No socket, no thread."""

from __future__ import annotations

from typing import Any

from ..exceptions import SelfDBError
from .channel_machine import Action, ChannelMachine, ChannelState, Drop, Failed, Send, Waiter
from .frames import Frame

__all__ = ["HEARTBEAT_ANSWER", "HEARTBEAT_EVERY", "SessionMachine"]

HEARTBEAT_EVERY = 30.0
"""Seconds between the answer to one heartbeat and the next."""

HEARTBEAT_ANSWER = 10.0
"""Seconds within which a heartbeat has to be answered, counted from the last frame while others stand before the
answer; but never more than ``HEARTBEAT_EVERY`` in all."""

CLOCK_JUMP = 30.0
"""Seconds that wall clock and monotonic clock may drift apart before the machine is taken to have slept."""


class SessionMachine:
    """Fed with what happens and the time; says what is to be done. Not for sharing between threads."""

    def __init__(self) -> None:
        self.channels: dict[str, ChannelMachine] = {}
        self.online = False
        self._ref = 0
        self._beat_at: float | None = None
        self._beat_ref: str | None = None
        self._beat_due: float | None = None
        self._beat_last = 0.0
        self._drift: float | None = None

    def _next_ref(self) -> str:
        self._ref += 1
        return str(self._ref)

    def channel(self, topic: str) -> ChannelMachine:
        """The machine of ``topic``: one for good."""
        machine = self.channels.get(topic)
        if machine is None:
            machine = self.channels[topic] = ChannelMachine(topic, self._next_ref)
            if self.online:
                machine.opened(0.0)  # closed as it is, it only learns that there is a connection
        return machine

    def opened(self, now: float) -> list[Action]:
        """The connection stands (again)."""
        self.online = True
        self._beat_at = now + HEARTBEAT_EVERY
        self._beat_ref = self._beat_due = None
        return [action for machine in self.channels.values() for action in machine.opened(now)]

    def lost(self, error: SelfDBError) -> list[Action]:
        """The connection is gone; another will be tried."""
        self._offline()
        return [action for machine in self.channels.values() for action in machine.lost(error)]

    def unreachable(self, error: SelfDBError) -> list[Action]:
        """No connection came about; none is tried any more."""
        return [action for machine in self.channels.values() for action in machine.unreachable(error)]

    def hold_beat(self, now: float) -> None:
        """Nothing is read at the moment: an answer cannot be missed."""
        if self._beat_due is not None:
            self._beat_due = max(self._beat_due, now + HEARTBEAT_ANSWER)

    def ended(self, error: SelfDBError) -> list[Action]:
        """The user disconnected."""
        self._offline()
        return [action for machine in self.channels.values() for action in machine.ended(error)]

    def _offline(self) -> None:
        self.online = False
        # A heartbeat belongs to its connection: its fate must not touch the next one.
        self._beat_at = self._beat_ref = self._beat_due = None

    def heard(self, now: float) -> None:
        """The server is there, for something came of it."""
        if self._beat_due is not None:
            # A link that brings so much that it takes us seconds to read is not dead.
            self._beat_due = max(self._beat_due, min(now + HEARTBEAT_ANSWER, self._beat_last))

    def frame(self, frame: Frame, now: float) -> list[Action]:
        """A frame came."""
        if frame.event == "phx_reply" and frame.ref is not None and frame.ref == self._beat_ref:
            self._beat_ref = self._beat_due = None
            self._beat_at = now + HEARTBEAT_EVERY
            return []
        self.heard(now)
        machine = self.channels.get(frame.topic)
        return [] if machine is None else machine.frame(frame, now)

    def unsent(self, frame: Frame, error: SelfDBError) -> list[Action]:
        """``frame`` could not be sent: whoever waits for its reply is told at once."""
        machine = self.channels.get(frame.topic)
        return [Failed(frame.topic, error)] if machine is None else machine.unsent(frame.ref, error)

    def awaits(self, frame: Frame) -> bool:
        """Whether somebody is told what this reply says."""
        machine = self.channels.get(frame.topic)
        return machine is not None and machine.awaits(frame.ref)

    def tick(self, now: float, wall: float) -> list[Action]:
        """Do what is due.

        :param now: seconds of the monotonic clock, which may stand still while the machine sleeps.
        :param wall: seconds since the epoch.
        """
        drift = wall - now
        if self._drift is None or abs(drift - self._drift) > CLOCK_JUMP:
            slept = self._drift is not None
            self._drift = drift
            if slept and self._beat_at is not None and self._beat_ref is None:
                self._beat_at = now
        if self._beat_due is not None and self._beat_due <= now:
            self._beat_due = self._beat_at = None
            return [Drop(f"the server did not answer a heartbeat within {HEARTBEAT_ANSWER:g} s")]
        actions: list[Action] = []
        if self._beat_at is not None and self._beat_at <= now:
            self._beat_ref = self._next_ref()
            self._beat_at, self._beat_due = None, now + HEARTBEAT_ANSWER
            self._beat_last = now + HEARTBEAT_EVERY
            actions.append(Send(Frame(None, self._beat_ref, "phoenix", "heartbeat", {})))
        for machine in self.channels.values():
            actions += machine.tick(now)
        return actions

    def next_due(self) -> float | None:
        """When :meth:`tick` has something to do, on the monotonic clock."""
        times = [self._beat_at, self._beat_due, *(machine.next_due() for machine in self.channels.values())]
        known = [time for time in times if time is not None]
        return min(known) if known else None

    def push_token(self, token: str) -> list[Action]:
        """Tell the channels whose server takes it that the access token is another one now."""
        return [
            Send(Frame(machine.join_ref, self._next_ref(), topic, "access_token", {"access_token": token}))
            for topic, machine in self.channels.items()
            if machine.state is ChannelState.JOINED and "access_token" in machine.accepts
        ]

    def takes_token(self) -> bool:
        """Whether there are joined channels, and each would take a new access token."""
        joined = [machine for machine in self.channels.values() if machine.state is ChannelState.JOINED]
        return bool(joined) and all("access_token" in machine.accepts for machine in joined)

    def join(self, topic: str, now: float, waiter: Waiter | None, timeout: float) -> list[Action]:
        """See :meth:`ChannelMachine.join`."""
        return self.channel(topic).join(now, waiter, timeout)

    def leave(self, topic: str, now: float, waiter: Waiter | None, timeout: float) -> list[Action]:
        """See :meth:`ChannelMachine.leave`."""
        return self.channel(topic).leave(now, waiter, timeout)

    def push(self, topic: str, now: float, event: str, payload: Any, waiter: Waiter, timeout: float) -> list[Action]:
        """See :meth:`ChannelMachine.push`."""
        return self.channel(topic).push(now, event, payload, waiter, timeout)
