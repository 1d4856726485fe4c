"""A link that is dead though nobody says so: it is found within two heartbeats, told, and replaced; on the defaults by
a clock that moves by hand, over real sockets with shorter ones."""

from __future__ import annotations

import time
from typing import Any, Callable, List

import pytest

from selfdb import SelfDB
from selfdb.core.tokens import Tokens
from selfdb.realtime import client as client_module
from selfdb.realtime import session_machine
from selfdb.realtime.client import Realtime
from tests import soak
from tests.core.calls import transport_to
from tests.faults.realtime_kit import BOUND, SLACK, TOPIC, HandClock, until
from tests.realtime.clients import client, phoenix
from tests.servers.scripted import Peer
from tests.servers.tcpproxy import TcpProxy
from tests.servers.websockets import WebSocket, accept

__all__ = ["client", "phoenix"]

Make = Callable[..., Any]
BEAT, ANSWER = 0.5, 0.4


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_machine, "HEARTBEAT_EVERY", BEAT)
    monkeypatch.setattr(session_machine, "HEARTBEAT_ANSWER", ANSWER)
    monkeypatch.setattr(client_module, "ATTEMPT_SECONDS", 1.0)


class Deaf:
    """A server that lets one way of its first connection die, and is well on the next.

    :ivar beats: heartbeats of each connection that were read.
    """

    def __init__(self, way: str) -> None:
        self.way = way
        self.beats: List[int] = []
        self.died = 0.0

    def __call__(self, peer: Peer) -> None:
        ws = accept(peer)
        number = len(self.beats)
        self.beats.append(0)
        while True:
            frame = ws.receive_json()
            if frame[3] == "heartbeat":
                self.beats[number] += 1
            ws.send_json([frame[0], frame[1], frame[2], "phx_reply", {"status": "ok", "response": {}}])
            if number == 0 and frame[3] == "phx_join":
                self.died = time.monotonic()
                self.die(ws)

    def die(self, ws: WebSocket) -> None:
        if self.way == "to the server":  # what it says still comes, and nothing that it is told arrives
            while True:
                ws.send_json([None, None, TOPIC, "INSERT", {"event": "INSERT", "new": {"id": 1}, "old": None}])
                if ws.peer.server.stopping.wait(0.02):
                    return
        if self.way == "to the client":  # it reads on, and nothing that it says arrives
            ws.wait_for_end()
        else:
            ws.peer.stall()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("way", ["to the server", "to the client", "both ways"])
def test_g07_a_half_open_link_is_found_within_two_heartbeats(
    way: str, scripted: Make, client: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf = Deaf(way)
    server = scripted(default=deaf)
    db = client(server)
    states: List[str] = []
    marks: List[Any] = []
    db.realtime.on_state_change(states.append)
    db.realtime.connect()
    db.realtime.channel(TOPIC).on("resync", marks.append).subscribe()
    assert db.realtime.connected
    until(lambda: deaf.died)
    until(lambda: "reconnecting" in states)
    took = time.monotonic() - deaf.died
    monkeypatch.setattr(session_machine, "HEARTBEAT_ANSWER", BOUND)  # the next one lives, however busy the machine is
    assert took < 2 * BEAT * SLACK
    until(lambda: len(marks) == 1)  # and what may have been missed is told
    assert db.realtime.is_connected
    assert db.realtime.channel(TOPIC).alive
    until(lambda: deaf.beats[-1] > 2)  # the next connection has heartbeats of its own
    assert server.connections == 2
    assert states == ["connecting", "connected", "reconnecting", "connected"]
    soak.figure("G07", f"{way} silent: found after {took:.2f} s of {2 * BEAT:.1f} s that two heartbeats have")


@pytest.mark.usefixtures("impatient")
def test_g07_while_a_dead_link_is_replaced_the_state_says_so(phoenix: Make) -> None:
    """The way to the server stays dead: the client is not connected, and says so, until it lives again."""
    server = phoenix()
    with TcpProxy(server.server.port) as proxy, SelfDB(proxy.url, "key", max_retries=0) as db:
        db.realtime.connect(timeout=2.0)  # so that later attempts, which nobody answers, take no longer
        db.realtime.channel(TOPIC).subscribe()
        proxy.stall(new=True)
        until(lambda: db.realtime.state == "reconnecting", 2 * BEAT * SLACK)
        assert not db.realtime.is_connected
        until(lambda: db.realtime.channel(TOPIC).state == "errored")
        assert db.realtime.channel(TOPIC).alive
        until(lambda: proxy.opened >= 3)  # attempts that nobody answers end too
        assert not db.realtime.connected
        proxy.resume()
        until(lambda: db.realtime.channel(TOPIC).state == "joined")
        assert proxy.most_open == 1


class Long:
    """A client on a clock that moves by hand, with the heartbeat of its users."""

    def __init__(self, server: Any) -> None:
        self.clock = HandClock()
        self.server = server
        self.transport = transport_to(server, clock=self.clock, tokens=Tokens("token", None))
        self.realtime = Realtime(self.transport)
        self.states: List[str] = []
        self.realtime.on_state_change(self.states.append)
        self.realtime.connect()
        self.realtime.channel(TOPIC).subscribe()

    def pass_time(self, seconds: float, until_: Callable[[], Any] = lambda: False) -> float:
        """Let time pass in small steps, each of which the client takes notice of."""
        passed = 0.0
        while passed < seconds and not until_():
            self.clock.advance(0.5)
            passed += 0.5
            looks = self.clock.looks
            self.realtime._link.wake()
            begun = time.monotonic()
            # However late the thread is; but while it opens a connection it does not look.
            while time.monotonic() < begun + (0.01 if self.clock.looks > looks else 1.0) and not until_():
                time.sleep(0.001)
        return passed

    def end(self) -> None:
        self.realtime.disconnect()
        self.transport.pool.close()


def test_g07_on_the_defaults_by_the_clock(phoenix: Make) -> None:
    server = phoenix()
    with TcpProxy(server.server.port) as proxy:
        long = Long(proxy)
        try:
            for beats in (1, 2):
                long.pass_time(31)
                until(lambda: len(server.seen("heartbeat")) == beats)
                until(lambda: long.realtime._machine._beat_ref is None)
            proxy.stall()
            took = long.pass_time(120, lambda: "reconnecting" in long.states)
            assert took <= 60.0 + 1.0
            until(lambda: len(server.sockets) == 2 or bool(long.pass_time(1)))
            until(lambda: long.realtime.channel(TOPIC).state == "joined")
            assert proxy.most_open == 1
            soak.figure("G07", f"on the defaults, by the clock: found after {took:.1f} s of 60")
        finally:
            long.end()


@pytest.mark.parametrize("jump", [8 * 3600.0, -3600.0])
def test_g07_a_suspended_laptop_asks_at_once(phoenix: Make, jump: float) -> None:
    """The wall clock has gone on (or was set back), the monotonic one has not: the link is asked, and found dead."""
    server = phoenix()
    with TcpProxy(server.server.port) as proxy:
        long = Long(proxy)
        try:
            proxy.stall()
            long.clock.jumped = jump
            long.realtime._link.wake()
            until(lambda: long.realtime._machine._beat_ref is not None)
            took = long.pass_time(60, lambda: "reconnecting" in long.states)
            # 10 s for the answer, and what the clock goes on while the thread takes notice; else it would be 40 s.
            assert took <= 25.0
            until(lambda: len(server.sockets) == 2 or bool(long.pass_time(1)))
            soak.figure("G07", f"wall clock {jump:+.0f} s: found after {took:.1f} s")
        finally:
            long.end()


def test_g06_a_server_that_is_away_for_a_minute_is_found_again(phoenix: Make) -> None:
    server = phoenix()
    with TcpProxy(server.server.port) as proxy:
        long = Long(proxy)
        try:
            opened, begun = proxy.opened, len(server.sockets)
            proxy.refuse()
            proxy.cut()
            until(lambda: long.realtime.state == "reconnecting")
            long.pass_time(60)
            assert long.realtime.state == "reconnecting"
            assert proxy.opened == opened
            proxy.resume()
            took = long.pass_time(30, lambda: proxy.opened > opened)
            assert took <= 6.0 + 1.0  # the last step, and a fifth more by chance
            until(lambda: long.realtime.channel(TOPIC).state == "joined")
            assert len(server.sockets) == begun + 1
            soak.figure("G06", f"away for 60 s by the clock: reached {took:.1f} s after the return")
        finally:
            long.end()
