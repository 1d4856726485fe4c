"""The client behind a link that is cut, stalled, half closed, delayed and refused at every state, and a server that
is killed: what it is told is a gapless run of the commits, and every gap is announced."""

from __future__ import annotations

import random
import signal
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest

from selfdb import SelfDB
from selfdb.exceptions import SelfDBError
from selfdb.models import RealtimePayload
from selfdb.realtime import client as client_module
from selfdb.realtime import session_machine
from tests import soak
from tests.conftest import API_KEY
from tests.realtime.delivery import LEFT, RESYNC, RETURN_SECONDS, SLACK, Changer, Listener, Writer, numbers
from tests.realtime.raw import Table, until
from tests.servers.process import ServeProcess
from tests.servers.tcpproxy import TcpProxy
from tests.support import Http

ROUNDS = soak.amount("SELFDB_CHAOS_ROUNDS", here=4, long=24)


def seeded(request: pytest.FixtureRequest) -> random.Random:
    return soak.chance(request.node.name)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dead links are noticed in a second or two instead of forty."""
    monkeypatch.setattr(session_machine, "HEARTBEAT_EVERY", 0.4)
    monkeypatch.setattr(session_machine, "HEARTBEAT_ANSWER", 1.2)
    monkeypatch.setattr(client_module, "ATTEMPT_SECONDS", 1.5)


class Chaos:
    """What can be done to a link at which state of it."""

    def __init__(self, proxy: TcpProxy, listener: Listener, dice: random.Random) -> None:
        self.proxy, self.listener, self.dice = proxy, listener, dice
        self.harms = [proxy.cut_here, proxy.half_close_here, proxy.stall_here]

    def connecting(self) -> None:
        for _ in range(self.dice.randint(1, 3)):
            self.proxy.plan("accept", self.dice.choice(self.harms))
        self.proxy.cut()

    def handshake(self) -> None:
        for _ in range(self.dice.randint(1, 2)):
            self.proxy.plan(self.dice.choice(["request", "answer"]), self.dice.choice(self.harms))
        self.proxy.cut()

    def joining(self) -> None:
        self.proxy.cut()
        for _ in range(self.dice.randint(1, 2)):
            self.proxy.plan(self.dice.choice(["frame", "reply"]), self.dice.choice(self.harms))

    def joined(self) -> None:
        fault = self.dice.choice(["cut", "half close", "stall", "delay", "in a frame", "late half close"])
        if fault == "cut":
            self.proxy.cut()
        elif fault == "half close":
            self.proxy.half_close()
        elif fault == "stall":
            self.proxy.stall()
        elif fault == "delay":
            self.proxy.delay = self.dice.uniform(0.01, 0.3)
        else:
            self.proxy.plan("reply", self.proxy.cut_here if fault == "in a frame" else self.proxy.half_close_here)

    def leaving(self) -> None:
        self.proxy.plan(self.dice.choice(["frame", "reply"]), self.dice.choice(self.harms))
        begun = time.monotonic()
        self.listener.channel.unsubscribe(timeout=1.0)
        assert time.monotonic() - begun < 1.0 + SLACK
        self.listener.log.append(LEFT)
        assert self.listener.channel.state == "closed"

    def reconnecting(self) -> None:
        self.proxy.refuse()
        self.proxy.cut()
        if self.dice.random() < 0.5:
            until(lambda: self.listener.realtime.state == "reconnecting")
            self.proxy.resume()
            self.proxy.plan("accept", self.proxy.cut_here)


STATES = ("connecting", "handshake", "joining", "joined", "leaving", "reconnecting")


@pytest.mark.parametrize("state", STATES)
def test_c112_no_gap_is_silent_whatever_happens_to_the_link(
    state: str,
    request: pytest.FixtureRequest,
    make_server: Callable[..., Any],
    signed_in: Callable[..., SelfDB],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from selfdb.server.realtime.socket import Socket

    dice = seeded(request)
    server = make_server()
    http = Http(server)
    table = Table(http, http.admin)
    joins: List[Any] = []
    joined = Socket.joined

    def counted(*given: Any) -> None:
        joins.append(given)
        joined(*given)

    monkeypatch.setattr(Socket, "joined", counted)
    with TcpProxy(int(server.url.rsplit(":", 1)[1])) as proxy:
        db = signed_in(proxy.url, http)
        listener = Listener(db, table)
        chaos = Chaos(proxy, listener, dice)
        db.realtime.connect()
        listener.channel.subscribe()
        with Writer(table) as writer:
            listener.follows(writer, time.monotonic())
            for _ in range(ROUNDS):
                getattr(chaos, state)()
                time.sleep(dice.uniform(0.0, 1.0))  # how long the fault lasts
                proxy.resume()
                returned = time.monotonic()
                listener.channel.subscribe(timeout=RETURN_SECONDS * SLACK)
                listener.follows(writer, returned)
        listener.hears_the_last(writer)
        commits = numbers(table)
        assert commits == list(range(1, writer.begun + 1))
        db.realtime.disconnect()
        listener.check(commits)
        lefts, resyncs = listener.log.count(LEFT), listener.log.count(RESYNC)
        assert resyncs <= len(joins) - 1 - lefts
        assert proxy.most_open == 1
    print(f"{state}: events again after {listener.slowest:.2f} s at most; {resyncs} resyncs in {proxy.opened} links")


def test_c112_following_a_table_ends_with_exactly_its_rows(
    request: pytest.FixtureRequest, make_server: Callable[..., Any], signed_in: Callable[..., SelfDB]
) -> None:
    dice = seeded(request)
    server = make_server()
    http = Http(server)
    table = Table(http, http.admin)
    known: Dict[str, Dict[str, Any]] = {}
    failures: List[BaseException] = []

    def follow(events: Iterator[RealtimePayload]) -> None:
        try:
            for event in events:
                if event.event == "INSERT":
                    assert event.new is not None
                    assert known.setdefault(event.new["id"], event.new) is event.new
                elif event.event == "UPDATE":
                    assert event.new is not None
                    assert known[event.new["id"]] != event.new
                    known[event.new["id"]] = event.new
                else:
                    assert event.old is not None
                    del known[event.old["id"]]
        except BaseException as failure:
            failures.append(failure)

    for number in range(30):
        table.insert(number)
    with TcpProxy(int(server.url.rsplit(":", 1)[1])) as proxy:
        db, direct = signed_in(proxy.url, http), signed_in(server.url, http)
        db.realtime.connect()
        channel = db.realtime.channel(table.topic)
        rows = direct.tables.data.query(table.id).page_size(25)
        follower = threading.Thread(target=follow, args=(channel.follow(rows),), name="follower", daemon=True)
        follower.start()
        chaos = Chaos(proxy, Listener(db, table), dice)
        with Changer(table, dice.randrange(1 << 32)):
            for _ in range(ROUNDS * 2):
                getattr(chaos, dice.choice([state for state in STATES if state != "leaving"]))()
                time.sleep(dice.uniform(0.0, 0.5))  # how long the fault lasts
                proxy.resume()
                channel.subscribe(timeout=RETURN_SECONDS * SLACK)
        last = table.insert(-1)
        until(lambda: failures != [] or last["id"] in known, RETURN_SECONDS * SLACK)
        found = {row["id"]: row for row in direct.tables.data.query(table.id).page_size(1000)}
        until(lambda: failures != [] or known == found)
        db.realtime.disconnect()
        follower.join(60)
        assert not follower.is_alive()
        assert not failures, failures
        assert proxy.most_open == 1


def test_c114_a_stalled_link_is_found_dead_by_its_heartbeat(
    make_server: Callable[..., Any], signed_in: Callable[..., SelfDB]
) -> None:
    server = make_server()
    http = Http(server)
    table = Table(http, http.admin)
    with TcpProxy(int(server.url.rsplit(":", 1)[1])) as proxy:
        db = signed_in(proxy.url, http)
        listener = Listener(db, table)
        states: List[str] = []
        db.realtime.on_state_change(states.append)
        db.realtime.connect()
        listener.channel.subscribe()
        table.insert(1)
        until(lambda: listener.last == 1)
        proxy.stall()
        stalled = time.monotonic()
        table.insert(2)
        until(lambda: RESYNC in listener.log)
        took = time.monotonic() - stalled
        # One more heartbeat, and the time for its answer; the link is never resumed.
        assert took < (0.4 + 1.2 + 1.0) * SLACK
        assert proxy.opened == 2
        table.insert(3)
        until(lambda: listener.last == 3)
        assert listener.log == [1, RESYNC, 3]
        assert proxy.most_open == 1
        until(lambda: states[-1] == "connected")
        assert states == ["connecting", "connected", "reconnecting", "connected"]
    print(f"a dead link was replaced after {took:.2f} s")


def test_c112_a_server_that_is_killed_and_comes_back(
    request: pytest.FixtureRequest, tmp_path: Path, signed_in: Callable[..., SelfDB]
) -> None:
    dice = seeded(request)
    with ServeProcess(tmp_path / "data", api_key=API_KEY) as process:
        http = Http(process)
        table = Table(http, http.admin)
        db = signed_in(process.url, http)
        listener = Listener(db, table)
        followed: Dict[int, int] = {}

        def follow(events: Iterator[RealtimePayload]) -> None:
            for event in events:
                assert event.new is not None
                followed[event.new["n"]] = followed.get(event.new["n"], 0) + 1

        db.realtime.connect()
        rows = db.tables.data.query(table.id)
        follower = threading.Thread(
            target=follow, args=(db.realtime.channel(table.topic).follow(rows),), name="follower", daemon=True
        )
        follower.start()
        with Writer(table) as writer:
            listener.follows(writer, time.monotonic())
            for _ in range(2):
                process.stop(with_signal=signal.SIGKILL)
                until(lambda: db.realtime.state == "reconnecting")
                time.sleep(dice.uniform(0.0, 1.0))  # how long it is down
                process.start()
                listener.follows(writer, time.monotonic())
        commits = numbers(table)
        until(lambda: listener.last == commits[-1] and commits[-1] in followed)
        db.realtime.disconnect()
        follower.join(60)
        assert not follower.is_alive()
        listener.check(commits)
        assert listener.log.count(RESYNC) == 2
        assert followed == dict.fromkeys(commits, 1)
    print(f"events again after {listener.slowest:.2f} s at most")


@pytest.mark.parametrize("moment", ["accept", "request", "answer", "frame", "reply"])
def test_c119_close_returns_at_once_however_silent_the_server_is(
    moment: str, make_server: Callable[..., Any], signed_in: Callable[..., SelfDB]
) -> None:
    server = make_server()
    http = Http(server)
    table = Table(http, http.admin)
    with TcpProxy(int(server.url.rsplit(":", 1)[1])) as proxy:
        db = signed_in(proxy.url, http)
        outcome: List[BaseException] = []

        def subscribe() -> None:
            try:
                db.realtime.connect()
                db.realtime.channel(table.topic).subscribe()
            except BaseException as error:
                outcome.append(error)

        proxy.plan(moment, proxy.stall_here)
        thread = threading.Thread(target=subscribe, name="subscriber")
        thread.start()
        until(lambda: proxy.planned == 0 and db.realtime.state in ("connecting", "connected"))
        begun = time.monotonic()
        db.close()
        took = time.monotonic() - begun
        # Whoever waits is told, and does not wait for a time-out.
        thread.join(2.0 * SLACK)
        assert not thread.is_alive()
        assert took < 2.0 * SLACK
        assert isinstance(outcome[0], SelfDBError), outcome
        assert db.realtime.state == "disconnected"
        until(lambda: proxy.open == 0)
    print(f"closed within {took:.3f} s")
