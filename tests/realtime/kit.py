"""What tests of the machines share: shorthand for frames and actions, and a channel or session with a clock."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from selfdb.exceptions import APIConnectionError, SelfDBError
from selfdb.realtime.channel_machine import (
    Action,
    Changed,
    ChannelMachine,
    Deliver,
    Drop,
    Failed,
    Resync,
    Send,
    Settled,
    Waiter,
)
from selfdb.realtime.frames import Frame
from selfdb.realtime.session_machine import SessionMachine

TOPIC = "table:orders"
GONE = APIConnectionError("the server closed the connection")


class W(Waiter):
    """A waiter with a name."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"W({self.name})"


def reply(ref: Any, status: str = "ok", response: Any = None, *, join_ref: Any = None, topic: str = TOPIC) -> Frame:
    body: Dict[str, Any] = {"status": status, "response": {} if response is None else response}
    return Frame(join_ref, ref, topic, "phx_reply", body)


def refused(ref: Any, reason: str) -> Frame:
    return reply(ref, "error", {"reason": reason}, join_ref=ref)


class Session:
    """A `SessionMachine` with the time in ``now`` and everything that it said in ``log``."""

    def __init__(self) -> None:
        self.machine = SessionMachine()
        self.now = 1000.0
        self.asleep = 0.0
        self.log: List[Action] = []

    def _said(self, actions: List[Action]) -> List[Action]:
        self.log += actions
        return actions

    @property
    def channel(self) -> ChannelMachine:
        return self.machine.channel(TOPIC)

    @property
    def state(self) -> str:
        return self.channel.state.value

    def open(self) -> List[Action]:
        return self._said(self.machine.opened(self.now))

    def lose(self, error: SelfDBError = GONE) -> List[Action]:
        return self._said(self.machine.lost(error))

    def end(self, error: SelfDBError = GONE) -> List[Action]:
        return self._said(self.machine.ended(error))

    def join(self, waiter: Optional[Waiter] = None, timeout: float = 10.0, topic: str = TOPIC) -> List[Action]:
        return self._said(self.machine.join(topic, self.now, waiter, timeout))

    def leave(self, waiter: Optional[Waiter] = None, timeout: float = 10.0) -> List[Action]:
        return self._said(self.machine.leave(TOPIC, self.now, waiter, timeout))

    def push(self, waiter: Waiter, event: str = "shout", payload: Any = None, timeout: float = 10.0) -> List[Action]:
        return self._said(self.machine.push(TOPIC, self.now, event, payload, waiter, timeout))

    def get(self, frame: Frame) -> List[Action]:
        machine = self.machine.channels.get(frame.topic)
        delivers = machine is not None and machine.delivers(frame.join_ref, frame.event)
        said = self._said(self.machine.frame(frame, self.now))
        assert delivers == (said == [Deliver(frame.topic, frame.event, frame.payload)])
        return said

    def wait(self, seconds: float) -> List[Action]:
        """Let time pass, as the thread would: whatever is due is done when it is due."""
        end = self.now + seconds
        said: List[Action] = []
        while True:
            due = self.machine.next_due()
            if due is None or due > end:
                break
            self.now = max(self.now, due)
            said += self.machine.tick(self.now, self.now + self.asleep)
        self.now = end
        said += self.machine.tick(self.now, self.now + self.asleep)
        return self._said(said)

    # Shorthand for the way there

    def joined(self) -> Session:
        """Connected and joined."""
        self.open()
        self.join()
        self.get(reply(self.channel.join_ref, join_ref=self.channel.join_ref))
        assert self.state == "joined"
        return self


def sent(actions: List[Action]) -> List[List[Any]]:
    return [list(action.frame) for action in actions if isinstance(action, Send)]


def events(actions: List[Action]) -> List[str]:
    return [action.frame.event for action in actions if isinstance(action, Send)]


def settled(actions: List[Action]) -> Dict[Waiter, Settled]:
    found = [action for action in actions if isinstance(action, Settled)]
    assert len({action.waiter for action in found}) == len(found), "settled twice"
    return {action.waiter: action for action in found}


def delivered(actions: List[Action]) -> List[Any]:
    return [action.payload for action in actions if isinstance(action, Deliver)]


def states(actions: List[Action]) -> List[str]:
    return [action.state.value for action in actions if isinstance(action, Changed)]


def failures(actions: List[Action]) -> List[SelfDBError]:
    return [action.error for action in actions if isinstance(action, Failed)]


def resyncs(actions: List[Action]) -> int:
    return sum(isinstance(action, Resync) for action in actions)


def drops(actions: List[Action]) -> List[str]:
    return [action.reason for action in actions if isinstance(action, Drop)]


def event(number: Any, join_ref: Optional[str] = None, name: str = "INSERT") -> Frame:
    return Frame(join_ref, None, TOPIC, name, number)
