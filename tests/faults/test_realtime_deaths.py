"""A real server that is killed at every state of its client and comes back on the same port: the client is joined again
soon, hears everything once, keeps its callbacks, and never has two sockets."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import Callable, List, NamedTuple, Optional

import pytest
import requests

from selfdb import SelfDB, SelfDBError
from selfdb.realtime import session_machine
from tests import soak
from tests.conftest import API_KEY
from tests.core.kit import Background
from tests.faults.realtime_kit import BOUND, SLACK, our_log, until
from tests.realtime.conftest import signed_in
from tests.realtime.delivery import RETURN_SECONDS, Listener
from tests.realtime.raw import Table
from tests.servers.process import ServeProcess
from tests.servers.tcpproxy import Connection, TcpProxy
from tests.support import Http

__all__ = ["signed_in"]

DEATHS = soak.amount("SELFDB_SERVER_DEATHS", here=2, long=11)


class World:
    """The server, the way to it and the client behind that; ``die`` is what kills the server, at any moment."""

    def __init__(self, process: ServeProcess, proxy: TcpProxy, db: SelfDB, table: Table, how: str) -> None:
        self.process, self.proxy, self.db, self.table, self.how = process, proxy, db, table, how
        self.realtime = db.realtime
        self.listener = Listener(db, table)
        self.dead = threading.Event()
        self.number = 0

    def die(self, connection: Optional[Connection] = None) -> None:
        process = self.process.process
        assert process is not None
        process.send_signal(signal.SIGTERM if self.how == "SIGTERM" else signal.SIGKILL)
        if self.how == "RST" and connection is not None:
            self.proxy.cut_here(connection)
        self.dead.set()

    def back(self) -> float:
        """Wait for its end, start it anew, and return when that was."""
        assert self.dead.wait(BOUND)
        assert self.process.process is not None
        self.process.process.wait(BOUND)
        if self.how == "RST":
            self.proxy.cut()
        self.process.start()
        return time.monotonic()

    def hears(self) -> None:
        """A new row is heard of."""
        self.number += 1
        while True:
            try:
                self.table.insert(self.number)
            except requests.ConnectionError:
                continue  # a connection of the pool to the server before
            break
        until(lambda: self.listener.last == self.number, RETURN_SECONDS * SLACK)


# What brings the client into a state and kills the server there


def connecting(world: World) -> None:
    world.proxy.plan("accept", world.die)
    world.proxy.cut()


def handshake_asked(world: World) -> None:
    world.proxy.plan("request", world.die)
    world.proxy.cut()


def handshake_half_answered(world: World) -> None:
    world.proxy.plan("answer", world.die)
    world.proxy.cut()


def join_sent(world: World) -> None:
    world.proxy.plan("frame", world.die)
    world.proxy.cut()


def join_half_answered(world: World) -> None:
    world.proxy.plan("reply", world.die)
    world.proxy.cut()


def joined(world: World) -> None:
    world.die()


def leaving(world: World) -> None:
    world.proxy.plan("frame", world.die)
    began = time.monotonic()
    world.listener.channel.unsubscribe(timeout=2.0)
    assert time.monotonic() - began < 2.0 * SLACK
    assert world.listener.channel.state == "closed"


def pushing_a_token(world: World) -> None:
    world.proxy.plan("frame", world.die)
    world.db.access_token = world.table.http.login().access


def beating(world: World) -> None:
    session_machine.HEARTBEAT_EVERY = 0.2
    world.realtime.disconnect()
    world.realtime.connect()
    world.listener.channel.subscribe()
    world.proxy.plan("frame", world.die)
    assert world.dead.wait(BOUND)
    session_machine.HEARTBEAT_EVERY = 30.0


def pushing(world: World) -> None:
    world.proxy.plan("frame", world.die)
    outcome = Background(lambda: world.listener.channel.push("shout", {}, timeout=10.0)).result()
    assert isinstance(outcome, SelfDBError)


def waiting_to_reconnect(world: World) -> None:
    world.die()
    assert world.process.process is not None
    world.process.process.wait(BOUND)
    until(lambda: world.realtime.state == "reconnecting")
    opened = world.proxy.opened
    until(lambda: world.proxy.opened > opened + 3)  # several attempts have failed


class Death(NamedTuple):
    at: Callable[[World], None]
    how: str


STATES = (
    connecting,
    handshake_asked,
    handshake_half_answered,
    join_sent,
    join_half_answered,
    joined,
    leaving,
    pushing_a_token,
    beating,
    pushing,
    waiting_to_reconnect,
)
HOW = ("SIGKILL", "RST", "SIGTERM")


def deaths() -> List[Death]:
    """Each state in turn, each time with another way to die; in the suite a few of them by chance."""
    dice = soak.chance("the deaths of a server")
    first = dice.randrange(len(STATES) * len(HOW))
    # Eleven states and three ways have no common divisor: each meets each.
    return [Death(STATES[n * 4 % len(STATES)], HOW[n % len(HOW)]) for n in range(first, first + DEATHS)]


@pytest.mark.timeout(3600 if soak.LONG else 300)
def test_g06_a_server_that_dies_at_any_state_is_joined_again(
    tmp_path: Path, signed_in: Callable[..., SelfDB], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_machine, "HEARTBEAT_EVERY", session_machine.HEARTBEAT_EVERY)  # to be put back
    slowest, told, total = 0.0, "", 0
    with ServeProcess(tmp_path / "data", api_key=API_KEY) as process, TcpProxy(process.port) as proxy, our_log() as log:
        http = Http(process)
        table = Table(http, http.admin)
        world = World(process, proxy, signed_in(proxy.url, http), table, "")
        world.realtime.connect()
        world.listener.channel.subscribe()
        world.hears()
        for death in deaths():
            world.how = death.how
            world.dead.clear()
            death.at(world)
            returned = world.back()
            if world.listener.channel.state == "closed":  # it was left: it stays so until it is wanted again
                until(lambda: world.realtime.connected, RETURN_SECONDS * SLACK)
                assert world.listener.channel.state == "closed"
                world.listener.channel.subscribe(timeout=RETURN_SECONDS * SLACK)
            until(lambda: world.listener.channel.state == "joined", RETURN_SECONDS * SLACK)
            took = time.monotonic() - returned
            if took > slowest:
                slowest, told = took, f"{death.at.__name__} by {death.how}"
            total += 1
            print(f"{death.at.__name__} by {death.how}: joined {took:.2f} s after the return")
            world.hears()
            assert proxy.planned == 0
            assert proxy.open == 1
        world.realtime.disconnect()
        heard = [entry for entry in world.listener.log if isinstance(entry, int)]
        assert heard == list(range(1, world.number + 1)), "something came twice, or not at all"
        assert proxy.most_open == 1
        assert log.faults == []
    soak.figure(
        "G06", f"{total} deaths at {len(STATES)} states: joined {slowest:.2f} s after the return at most ({told})"
    )
