"""Random interleavings of everything that can happen to a client, against a simple model of what may come of it."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Set

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from selfdb.exceptions import APIConnectionError, RealtimeError
from selfdb.realtime.channel_machine import Action, Changed, Deliver, Drop, Resync, Send, Settled, Waiter
from selfdb.realtime.frames import Frame
from selfdb.realtime.session_machine import SessionMachine

TOPICS = ("table:a", "table:b")
SLACK = 0.001


class Due(Waiter):
    """A waiter that knows by when it has to be settled."""

    def __init__(self, until: float) -> None:
        self.until = until


class World(RuleBasedStateMachine):
    """The machine under test, the server's view of it, and what the user may expect."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = SessionMachine()
        self.now = 100.0
        self.online = False
        self.last_ref = 0
        self.waiting: Set[Due] = set()
        self.wanted: Dict[str, bool] = dict.fromkeys(TOPICS, False)
        """Whether the user's last word was to subscribe, and nothing final has come since."""
        # What is on the wire, by topic
        self.joins: Dict[str, List[str]] = {topic: [] for topic in TOPICS}
        """Joins of this connection that have not been answered."""
        self.old_joins: List[tuple[str, str]] = []
        self.leaves: Dict[str, List[tuple[str, str]]] = {topic: [] for topic in TOPICS}
        self.pushes: Dict[str, List[tuple[str, Any]]] = {topic: [] for topic in TOPICS}
        self.joined_ref: Dict[str, Optional[str]] = dict.fromkeys(TOPICS)
        self.beats: List[str] = []
        self.ever_joined: Dict[str, bool] = dict.fromkeys(TOPICS, False)
        self.gap: Dict[str, bool] = dict.fromkeys(TOPICS, False)
        self.push_deadlines: Dict[int, float] = {}
        self.sent_pushes: List[int] = []
        self.number = 0
        self.may_deliver: Optional[str] = None

    # What the machine says

    def do(self, actions: List[Action]) -> None:
        delivered = 0
        for action in actions:
            if isinstance(action, Send):
                self.sent(action.frame)
            elif isinstance(action, Settled):
                waiter = action.waiter
                assert isinstance(waiter, Due)
                assert waiter in self.waiting, "settled twice, or never waited"
                self.waiting.remove(waiter)
            elif isinstance(action, Deliver):
                delivered += 1
                assert self.may_deliver == action.topic
                assert self.state(action.topic) == "joined", "delivered outside joined"
                assert not self.gap[action.topic], "delivered behind a gap without a mark"
            elif isinstance(action, Resync):
                assert self.gap[action.topic], "a mark without a gap"
                self.gap[action.topic] = False
            elif isinstance(action, Changed):
                if action.state.value == "closed":
                    self.ever_joined[action.topic] = False
                    self.gap[action.topic] = False
                elif action.state.value == "errored" and self.ever_joined[action.topic]:
                    self.gap[action.topic] = True
            elif isinstance(action, Drop):
                self.beats.clear()
        assert delivered == (1 if self.may_deliver else 0)

    def sent(self, frame: Frame) -> None:
        assert self.online, "sent without a connection"
        assert frame.ref is not None
        assert int(frame.ref) > self.last_ref, "a ref was used twice"
        self.last_ref = int(frame.ref)
        topic = frame.topic
        if frame.event == "phx_join":
            assert frame.join_ref == frame.ref
            assert self.wanted[topic], "joined what nobody wants"
            assert self.joins[topic] == [], "two joins in flight"
            self.joins[topic].append(frame.ref)
        elif frame.event == "phx_leave":
            # The server takes frames in order: a join before it is off.
            for ref in self.joins[topic]:
                self.old_joins.append((topic, ref))
            self.joins[topic].clear()
            self.leaves[topic].append((frame.join_ref or "", frame.ref))
        elif frame.event == "heartbeat":
            self.beats.append(frame.ref)
        elif frame.event == "shout":
            assert self.state(topic) == "joined", "pushed outside joined"
            assert frame.join_ref == self.machine.channel(topic).join_ref
            assert self.push_deadlines[frame.payload] > self.now, "sent an expired push"
            self.sent_pushes.append(frame.payload)
            self.pushes[topic].append((frame.ref, frame.join_ref))
        else:
            assert frame.event == "access_token"

    def state(self, topic: str) -> str:
        return self.machine.channel(topic).state.value

    def waiter(self, timeout: float) -> Due:
        made = Due(self.now + timeout)
        self.waiting.add(made)
        return made

    def frame(self, *parts: Any) -> None:
        self.do(self.machine.frame(Frame(*parts), self.now))

    # The user

    @rule(topic=st.sampled_from(TOPICS), timeout=st.sampled_from([1.0, 10.0, 30.0]), patient=st.booleans())
    def subscribe(self, topic: str, timeout: float, patient: bool) -> None:
        self.wanted[topic] = True
        self.do(self.machine.join(topic, self.now, None if patient else self.waiter(timeout), timeout))
        self.note()

    @rule(topic=st.sampled_from(TOPICS), timeout=st.sampled_from([1.0, 10.0]), chance=st.integers(0, 2))
    def unsubscribe(self, topic: str, timeout: float, chance: int) -> None:
        if chance:
            return
        self.wanted[topic] = False
        self.do(self.machine.leave(topic, self.now, self.waiter(timeout), timeout))
        assert self.state(topic) in ("leaving", "closed")

    @rule(topic=st.sampled_from(TOPICS), timeout=st.sampled_from([0.5, 10.0]))
    def push(self, topic: str, timeout: float) -> None:
        self.number += 1
        self.push_deadlines[self.number] = self.now + timeout
        waiter = self.waiter(timeout)
        try:
            self.do(self.machine.push(topic, self.now, "shout", self.number, waiter, timeout))
        except RealtimeError:
            assert self.state(topic) in ("closed", "leaving")
            self.waiting.remove(waiter)

    @rule()
    def new_token(self) -> None:
        self.do(self.machine.push_token("fresh"))

    @rule(chance=st.integers(0, 5))
    def maybe_disconnect(self, chance: int) -> None:
        if chance == 0:  # rarely, for the sake of long lives
            self.disconnect()

    def disconnect(self) -> None:
        self.online = False
        self.wanted = dict.fromkeys(TOPICS, False)
        self.cut()
        self.do(self.machine.ended(RealtimeError("the client disconnected")))
        assert not self.waiting, "somebody waits for ever"
        assert {self.state(topic) for topic in TOPICS} == {"closed"}

    # The connection

    @precondition(lambda self: not self.online)
    @rule()
    def open(self) -> None:
        self.online = True
        self.do(self.machine.opened(self.now))
        for topic in TOPICS:
            assert (self.state(topic) == "joining") is self.wanted[topic]
            assert bool(self.joins[topic]) is self.wanted[topic], "a binding was lost"

    @precondition(lambda self: self.online)
    @rule()
    def lose(self) -> None:
        self.online = False
        self.cut()
        self.do(self.machine.lost(APIConnectionError("lost")))

    def cut(self) -> None:
        for topic in TOPICS:
            self.old_joins += [(topic, ref) for ref in self.joins[topic]]
            self.joins[topic].clear()
            self.leaves[topic].clear()
            self.pushes[topic].clear()
            self.joined_ref[topic] = None
        self.beats.clear()

    @rule(seconds=st.sampled_from([0.0, 0.3, 1.0, 4.0, 10.0, 29.0]))
    def time_passes(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            due = self.machine.next_due()
            if due is None or due > end:
                break
            self.now = max(self.now, due)
            self.tick()
        self.now = end
        self.tick()

    def tick(self) -> None:
        self.do(self.machine.tick(self.now, self.now))
        self.note()

    @rule()
    def clock_jumps(self) -> None:
        self.do(self.machine.tick(self.now, self.now + 3600.0))
        self.do(self.machine.tick(self.now, self.now))

    # The server

    @precondition(lambda self: any(self.joins.values()))
    @rule(
        data=st.data(),
        answer=st.sampled_from(["ok", "ok", "ok", "unauthorized", "unmatched topic", "join crashed"]),
        bare=st.booleans(),
        late=st.sampled_from([0.0, 0.5]),
    )
    def answer_join(self, data: st.DataObject, answer: str, bare: bool, late: float) -> None:
        topic = data.draw(st.sampled_from([topic for topic in TOPICS if self.joins[topic]]))
        ref = self.joins[topic].pop(0)
        if answer == "ok":
            self.joined_ref[topic] = ref
            body: Dict[str, Any] = {"status": "ok", "response": {"accepts": ["access_token"]}}
        else:
            body = {"status": "error", "response": {"reason": answer}}
        current = ref == self.machine.channel(topic).join_ref and self.state(topic) == "joining"
        self.now += late  # it came before anybody looked at the clock
        self.frame(None if bare else ref, ref, topic, "phx_reply", body)
        if answer == "ok" and current:
            assert self.state(topic) == "joined"
            assert not self.gap[topic]
            self.ever_joined[topic] = True
        self.note()
        self.tick()

    @precondition(lambda self: any(self.leaves.values()))
    @rule(data=st.data(), close_first=st.booleans())
    def answer_leave(self, data: st.DataObject, close_first: bool) -> None:
        topic = data.draw(st.sampled_from([topic for topic in TOPICS if self.leaves[topic]]))
        join_ref, ref = self.leaves[topic].pop(0)
        if self.joined_ref[topic] == join_ref:
            self.joined_ref[topic] = None
        frames = [
            (join_ref or None, ref, topic, "phx_reply", {"status": "ok", "response": {}}),
            (join_ref, join_ref, topic, "phx_close", {}),
        ]
        for parts in reversed(frames) if close_first else frames:
            self.frame(*parts)
        self.note()

    @precondition(lambda self: any(self.pushes.values()))
    @rule(data=st.data(), ok=st.booleans())
    def answer_push(self, data: st.DataObject, ok: bool) -> None:
        topic = data.draw(st.sampled_from([topic for topic in TOPICS if self.pushes[topic]]))
        ref, join_ref = self.pushes[topic].pop(0)
        self.frame(join_ref, ref, topic, "phx_reply", {"status": "ok" if ok else "error", "response": {}})

    @precondition(lambda self: self.beats)
    @rule()
    def answer_heartbeat(self) -> None:
        self.frame(None, self.beats.pop(), "phoenix", "phx_reply", {"status": "ok", "response": {}})

    @precondition(lambda self: self.old_joins)
    @rule(data=st.data(), name=st.sampled_from(["ok", "error", "phx_close", "phx_error"]))
    def something_late(self, data: st.DataObject, name: str) -> None:
        topic, ref = data.draw(st.sampled_from(self.old_joins))
        before = self.state(topic)
        if ref == self.machine.channel(topic).join_ref:
            return  # it is being left: that is not late
        if name in ("ok", "error"):
            self.frame(ref, ref, topic, "phx_reply", {"status": name, "response": {}})
        else:
            self.frame(ref, ref, topic, name, {})
        assert self.state(topic) == before, "an earlier join had its way"

    @precondition(lambda self: any(self.joined_ref.values()))
    @rule(data=st.data(), name=st.sampled_from(["phx_close", "phx_error"]))
    def server_ends_channel(self, data: st.DataObject, name: str) -> None:
        topic = data.draw(st.sampled_from([topic for topic in TOPICS if self.joined_ref[topic]]))
        ref, self.joined_ref[topic] = self.joined_ref[topic], None
        current = self.machine.channel(topic).join_ref == ref
        self.frame(ref, ref, topic, name, {})
        if name == "phx_close" and current:
            assert self.state(topic) == "closed"
        self.note()

    @rule(topic=st.sampled_from(TOPICS), direct=st.booleans())
    def server_sends_event(self, topic: str, direct: bool) -> None:
        ref = self.machine.channel(topic).join_ref if direct else None
        self.may_deliver = topic if self.state(topic) == "joined" else None
        self.frame(ref, None, topic, "INSERT", {"new": {}})
        self.may_deliver = None

    # What holds always

    def note(self) -> None:
        """The server, or time, may have ended what the user wanted; a channel that is closed stays it."""
        for topic in TOPICS:
            if self.state(topic) == "closed":
                self.wanted[topic] = False

    @initialize()
    def begin(self) -> None:
        self.tick()

    @invariant()
    def who_waits_is_served_in_time(self) -> None:
        due = self.machine.next_due()
        for waiter in self.waiting:
            assert due is not None, "somebody waits and nothing is due"
            assert waiter.until >= self.now - SLACK, "somebody waited too long"
            assert due <= waiter.until + SLACK

    @invariant()
    def what_is_wanted_is_under_way(self) -> None:
        for topic in TOPICS:
            if self.wanted[topic]:
                assert self.state(topic) in ("joining", "joined", "errored")
                if self.online and self.state(topic) != "joined":
                    assert self.machine.channel(topic).next_due() is not None, "nothing leads on"
            else:
                assert self.state(topic) in ("leaving", "closed")

    def teardown(self) -> None:
        self.disconnect()


World.TestCase.settings = settings(
    max_examples=1000,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestInterleavings = World.TestCase
