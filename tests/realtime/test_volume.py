"""A hundred thousand events for a callback that cannot keep up: bounded memory, a punctual heartbeat, exact reports."""

from __future__ import annotations

import json
import re
import threading
import time
import tracemalloc
from typing import Any, Iterator, List

import pytest

from selfdb import SelfDB
from selfdb.core.dispatch import Full
from selfdb.core.websocket import LinkState
from selfdb.core.wsframes import Message
from selfdb.models import RealtimePayload
from selfdb.realtime import session_machine
from selfdb.realtime.channel_machine import Drop, Send
from selfdb.realtime.client import Realtime
from selfdb.realtime.frames import Frame
from tests.realtime.raw import until
from tests.servers.scripted import Peer, PeerGone, ScriptedServer
from tests.servers.websockets import TEXT, accept, frame

EVENTS = 100_000
WAITING = 1000
TOPIC = "table:orders"


def event(number: int, filling: str = "") -> bytes:
    return (
        f'[null,null,"{TOPIC}","INSERT",{{"event":"INSERT","table":"orders",'
        f'"new":{{"id":{number},"note":"{filling}"}},"old":null}}]'
    ).encode()


class Slow:
    """A callback that stands still until it is let go, and all reports about it."""

    def __init__(self, db: SelfDB) -> None:
        self.go = threading.Event()
        self.entered = threading.Event()
        self.got: List[int] = []
        self.log: List[Any] = []
        self.errors: List[BaseException] = []
        db.realtime.on_error(self.errors.append)
        self.channel = db.realtime.channel(TOPIC).on("INSERT", self._inserted).on("resync", self._resync)

    def _inserted(self, payload: RealtimePayload) -> None:
        self.entered.set()
        assert self.go.wait(60)
        assert payload.new is not None
        self.got.append(payload.new["id"])
        self.log.append(payload.new["id"])

    def _resync(self, payload: RealtimePayload) -> None:
        self.log.append("resync")

    @property
    def dropped(self) -> int:
        """How many events the reports speak of."""
        counts = [re.match(r"(\d+) events? of table:orders dropped", str(error)) for error in self.errors]
        return sum(int(count.group(1)) for count in counts if count is not None)

    def check(self) -> None:
        """In order, once, and a mark wherever something is missing; a report for every mark, which comes before it."""
        until(lambda: self.log.count("resync") >= len(self.errors))
        last, marked = 0, False
        for entry in self.log:
            if entry == "resync":
                marked = True
            else:
                assert entry == last + 1 or (marked and entry > last), (last, entry)
                last, marked = entry, False
        assert self.log.count("resync") == len(self.errors)


class Fed:
    """Stands where the link is: the test's own thread is the link's, and feeds the client."""

    def __init__(self, db: SelfDB, **full: Any) -> None:
        self.state = LinkState.CONNECTED
        self.last_message_at = None
        self.slow = Slow(db)
        self._realtime = db.realtime
        self._realtime._dispatcher.full = Full(**{"max_items": WAITING, **full}).checked()
        self._realtime._link = self  # type: ignore[assignment]
        self._realtime.opened()
        self._realtime._perform(self._realtime._machine.join(TOPIC, time.monotonic(), None, 10.0))
        self._bring(f'["1","1","{TOPIC}","phx_reply",{{"status":"ok","response":{{}}}}]'.encode())
        assert self.slow.channel.state == "joined"

    def feed(self, events: int = EVENTS, filling: str = "") -> int:
        """Feed events, as far as the client wants them; returns how many it took."""
        for number in range(1, events + 1):
            if self.state is LinkState.DISCONNECTED:
                return number - 1
            while not self._realtime.ready_to_read():
                time.sleep(0.001)  # what the link does while there is no room
            self._bring(event(number, filling))
            if number == 1:
                assert self.slow.entered.wait(60)  # what the callback is at takes no room of those that wait
        return events

    def _bring(self, message: bytes) -> None:
        self._realtime.received([(TEXT, message)])

    def runs_here(self) -> bool:
        return True

    def send(self, data: Any) -> None:
        assert json.loads(data)[3] in ("phx_join", "phx_leave")

    def wake(self) -> None:
        pass

    def stop(self) -> None:
        self.state = LinkState.DISCONNECTED

    def close(self) -> None:
        self.stop()


@pytest.fixture
def db() -> Iterator[SelfDB]:
    with SelfDB("http://127.0.0.1:9", "key") as client:
        yield client


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest", "block"])
def test_what_is_dropped_and_what_is_delivered_add_up(db: SelfDB, policy: str) -> None:
    fed = Fed(db, policy=policy, block_seconds=0.2)
    slow = fed.slow
    begun = time.monotonic()
    assert fed.feed() == EVENTS
    slow.go.set()
    until(lambda: len(slow.got) + slow.dropped >= EVENTS)
    assert len(slow.got) + slow.dropped == EVENTS
    slow.check()
    assert slow.errors
    if policy == "drop_newest":
        assert slow.got == list(range(1, WAITING + 2))
    else:
        # What the callback was at, and the newest.
        assert slow.got == [1, *range(EVENTS - WAITING + 1, EVENTS + 1)]
    print(f"{policy}: {EVENTS / (time.monotonic() - begun):.0f} events a second")


def test_a_callback_that_only_now_and_then_falls_behind_is_told_of_each_gap(db: SelfDB) -> None:
    few = 20_000
    fed = Fed(db, max_items=50)
    slow = fed.slow
    slow.go.set()
    stop = threading.Event()

    def hold_up() -> None:
        while not stop.wait(0.02):
            slow.go.clear()
            stop.wait(0.05)
            slow.go.set()

    holder = threading.Thread(target=hold_up)
    holder.start()
    try:
        assert fed.feed(few) == few
    finally:
        stop.set()
        holder.join()
        slow.go.set()
    until(lambda: len(slow.got) + slow.dropped >= few)
    assert len(slow.got) + slow.dropped == few
    slow.check()
    assert len(slow.errors) > 1
    assert slow.got[-1] == few


def test_disconnect_gives_what_it_took_and_ends(db: SelfDB) -> None:
    fed = Fed(db, policy="disconnect")
    slow = fed.slow
    taken = fed.feed()
    assert taken == WAITING + 2  # one with the callback, those that wait, and the one for which there was no room
    assert db.realtime.state == "disconnected"
    slow.go.set()
    until(lambda: len(slow.got) == WAITING + 1)
    assert slow.got == list(range(1, WAITING + 2))
    until(lambda: len(slow.errors) == 1)
    assert "the queue is full" in str(slow.errors[0])
    assert slow.channel.state == "closed"


def test_the_memory_that_waits_is_bounded(db: SelfDB) -> None:
    few, limit = 12_000, 256 * 1024
    fed = Fed(db, max_bytes=limit)
    slow = fed.slow
    tracemalloc.start()
    try:
        fed.feed(few, "x" * 1000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    slow.go.set()
    until(lambda: len(slow.got) + slow.dropped >= few)
    assert len(slow.got) + slow.dropped == few
    assert limit / 1200 - 2 < len(slow.got) < limit / 1000
    # All of them would be twelve megabytes; a payload is a few times as large as its text.
    assert peak < 8 * limit, peak
    slow.check()


def test_c114_an_answer_may_stand_behind_a_flood_but_not_for_ever() -> None:
    machine = session_machine.SessionMachine()
    machine.opened(0.0)
    other = Frame(None, None, TOPIC, "INSERT", {})
    (beat,) = machine.tick(30.0, 30.0)
    assert isinstance(beat, Send)
    for second in range(31, 60):
        assert machine.frame(other, float(second)) == []
        assert machine.tick(second + 0.9, second + 0.9) == []
    assert isinstance(machine.tick(60.0, 60.0)[0], Drop)
    machine.opened(100.0)
    machine.tick(130.0, 130.0)
    machine.frame(other, 135.0)
    assert machine.tick(144.9, 144.9) == []
    assert isinstance(machine.tick(145.0, 145.0)[0], Drop)


def test_heartbeats_are_on_time_in_the_flood(scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread looks around often in the flood, and each time sends what is due."""
    late: List[float] = []
    looks: List[float] = []
    tick, ready_to_read = session_machine.SessionMachine.tick, Realtime.ready_to_read

    def looked(realtime: Realtime) -> bool:
        looks.append(time.monotonic())
        return ready_to_read(realtime)

    def timed(machine: session_machine.SessionMachine, now: float, wall: float) -> Any:
        if machine._beat_at is not None and machine._beat_at <= now:
            late.append(now - machine._beat_at)
        return tick(machine, now, wall)

    monkeypatch.setattr(session_machine, "HEARTBEAT_EVERY", 0.05)
    monkeypatch.setattr(session_machine.SessionMachine, "tick", timed)
    monkeypatch.setattr(Realtime, "ready_to_read", looked)
    flood = threading.Event()
    states: List[str] = []

    def serve(peer: Peer) -> None:
        ws = accept(peer)

        def send() -> None:
            flood.wait(60)
            try:
                for start in range(1, EVENTS + 1, 500):
                    ws.raw(b"".join(frame(TEXT, event(number)) for number in range(start, start + 500)))
            except PeerGone:
                pass  # the test has failed, and says so itself

        sender = threading.Thread(target=send, name="flood")
        sender.start()
        try:
            while True:
                join_ref, ref, topic, _, _ = ws.receive_json()
                ws.send_json([join_ref, ref, topic, "phx_reply", {"status": "ok", "response": {}}])
        finally:
            flood.set()
            sender.join(30)

    server: ScriptedServer = scripted(serve)
    with SelfDB(server.url, "key") as db:
        slow = Slow(db)
        db.realtime.on_state_change(states.append)
        db.realtime.connect(max_items=WAITING)
        slow.channel.subscribe()
        until(lambda: len(late) > 3)
        late.clear()
        del looks[:-2]
        flood.set()
        until(lambda: db.realtime._channels[TOPIC]._handlers.queued == EVENTS, 60)
        flooded = len(looks)
        until(lambda: len(late) > 3)
        longest = max(after - before for before, after in zip(looks, looks[1:]))
        assert slow.got == []  # the callback has stood still all the while
        slow.go.set()
        until(lambda: len(slow.got) + slow.dropped >= EVENTS)
        slow.check()
        assert states == ["connecting", "connected"]
        assert server.connections == 1
    assert flooded > EVENTS / 1000
    assert max(late) < 2 * longest + 0.1, late  # how long this machine lets a thread stand, is another matter
    print(f"{len(late)} heartbeats, {max(late):.3f} s late at most; {flooded} looks, {longest:.3f} s apart at most")


def batch(*frames: Any) -> List[Message]:
    return [(TEXT, json.dumps(frame).encode()) for frame in frames]


def test_what_ends_the_channel_within_a_batch_ends_it_there(db: SelfDB) -> None:
    fed = Fed(db)
    fed.slow.go.set()
    told = [[None, None, TOPIC, "INSERT", {"new": {"id": number}}] for number in range(1, 6)]
    ref = db.realtime._machine.channel(TOPIC).join_ref
    closed = [ref, None, TOPIC, "phx_close", {}]
    assert db.realtime.received(batch(*told[:2], closed, *told[2:])) is True
    until(lambda: db.realtime._dispatcher._asleep)
    assert fed.slow.got == [1, 2]
    assert fed.slow.channel.state == "closed"


def test_only_what_is_no_event_may_change_what_is_due(db: SelfDB) -> None:
    fed = Fed(db)
    fed.slow.go.set()
    told = [None, None, TOPIC, "INSERT", {"new": {"id": 1}}]
    received = db.realtime.received
    assert received(batch(told, told)) is False
    assert received([]) is False
    assert received(batch(5)) is False
    assert received(batch(told, [None, None, "table:nobody", "INSERT", {}], told)) is True
    until(lambda: fed.slow.got == [1] * 4)


@pytest.mark.parametrize("policy", ["disconnect", "block"])
def test_a_batch_that_is_too_much(db: SelfDB, policy: str) -> None:
    fed = Fed(db, policy=policy, max_items=10, block_seconds=8)
    fed.feed(1)
    told = [[None, None, TOPIC, "INSERT", {"new": {"id": number}}] for number in range(2, 31)]
    db.realtime.received(batch(*told[:15], [None, None, "table:nobody", "INSERT", {}], *told[15:]))
    assert (fed.state is LinkState.DISCONNECTED) == (policy == "disconnect")
    assert len(db.realtime._held) == (0 if policy == "disconnect" else 19)
    fed.slow.go.set()
    if policy == "block":
        until(db.realtime.ready_to_read)
    until(lambda: len(fed.slow.got) >= (11 if policy == "disconnect" else 30))
    until(lambda: db.realtime._dispatcher._asleep)
    assert fed.slow.got == list(range(1, (12 if policy == "disconnect" else 31)))
