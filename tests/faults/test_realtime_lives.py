"""Random lives of a whole client: several threads do what they like with it while the server does its worst; whatever
the order, it has one socket, joins once at a time, and works in the end."""

from __future__ import annotations

import contextlib
import random
import threading
from typing import Any, List

import pytest

from selfdb import SelfDB, SelfDBError
from tests import soak
from tests.core.kit import Background
from tests.faults.realtime_kit import TOPIC, our_log, our_threads, until
from tests.realtime.phoenix import Phoenix
from tests.servers.scripted import PeerGone
from tests.servers.tcpproxy import TcpProxy

LIVES = soak.amount("SELFDB_CLIENT_LIVES", here=40, long=1000)
STEPS = 12
ELSEWHERE = "table:elsewhere"


class Life:
    """One client, its server, and the way between them."""

    def __init__(self, server: Phoenix, proxy: TcpProxy, db: SelfDB) -> None:
        self.server, self.proxy, self.db = server, proxy, db
        self.got: List[Any] = []
        self.errors: List[BaseException] = []
        db.realtime.on_error(self.errors.append)

    def heard(self, payload: Any) -> None:
        self.got.append(payload.new)

    def user(self, seed: int) -> None:
        """What one thread does."""
        dice, realtime = random.Random(seed), self.db.realtime
        for _ in range(STEPS):
            channel = realtime.channel(dice.choice([TOPIC, TOPIC, ELSEWHERE]))
            step = dice.choice(
                [
                    lambda: realtime.connect(timeout=5.0),
                    lambda: realtime.connect(timeout=5.0),
                    lambda: channel.subscribe(timeout=1.0),
                    lambda: channel.subscribe(timeout=1.0),
                    lambda: channel.unsubscribe(timeout=1.0),
                    lambda: channel.push("shout", {}, timeout=0.05),
                    lambda: channel.on("INSERT", self.heard),
                    lambda: channel.off("INSERT", self.heard),
                    lambda: setattr(self.db, "access_token", f"a.token.{dice.random()}"),
                    realtime.disconnect if dice.random() < 0.3 else lambda: realtime.state,
                ]
            )
            with contextlib.suppress(SelfDBError):
                step()

    def world(self, dice: random.Random) -> None:
        """What the server does, and the way to it."""
        joins = self.server.seen("phx_join", TOPIC)
        ref = dice.choice(joins)[1] if joins else "1"
        frames: List[Any] = [
            [ref, ref, TOPIC, "phx_reply", {"status": "ok", "response": {}}],
            [ref, ref, TOPIC, "phx_reply", {"status": "error", "response": {"reason": "join crashed"}}],
            ["foreign", ref, TOPIC, "phx_reply", {"status": "ok", "response": {}}],
            [ref, ref, TOPIC, "phx_close", {}],
            ["foreign", None, TOPIC, "phx_close", {}],
            [ref, ref, TOPIC, "phx_error", {}],
            [None, None, TOPIC, "INSERT", {"event": "INSERT", "new": {"id": 0}, "old": None}],
        ]
        if dice.random() < 0.25:
            self.proxy.cut()
        elif self.server.sockets:
            with contextlib.suppress(PeerGone, OSError):
                self.server.sockets[-1].send_json(dice.choice(frames))

    def say(self, event: str, number: int) -> None:
        body = {"event": event, "table": "orders", "new": {"id": number}, "old": None}
        self.server.sockets[-1].send_json([None, None, TOPIC, event, body])

    def ends_well(self) -> None:
        """Nothing is stuck: one connection, one join, every event once; and what was taken away is not called."""
        realtime = self.db.realtime
        realtime.connect(timeout=30)
        channel = realtime.channel(TOPIC).off("INSERT").on("INSERT", self.heard)
        channel.unsubscribe()
        assert channel.state == "closed"
        channel.subscribe(timeout=30)
        self.got.clear()
        self.say("INSERT", 1)
        until(lambda: {"id": 1} in self.got)
        channel.off("INSERT", self.heard)
        done: List[Any] = []
        channel.on("UPDATE", done.append)
        self.say("INSERT", 2)
        self.say("UPDATE", 3)
        until(lambda: bool(done))
        assert self.got == [{"id": 1}]


@pytest.mark.timeout(3600 if soak.LONG else 300)
def test_g06_whatever_the_order_a_client_works_in_the_end() -> None:
    dice = soak.chance("the lives of clients")
    opened = 0
    assert not our_threads()
    for _ in range(LIVES):
        server = Phoenix().start()
        server.pushes["shout"] = {"status": "ok", "response": {}}
        try:
            with TcpProxy(server.server.port) as proxy, our_log() as log:
                with SelfDB(proxy.url, "key", max_retries=0) as db:
                    life = Life(server, proxy, db)
                    db.realtime.connect()
                    seeds = [dice.randrange(1 << 32) for _ in range(3)]
                    users = [Background(lambda seed=seed: life.user(seed)) for seed in seeds]  # type: ignore[misc]
                    pause = threading.Event()
                    while not all(user.ended for user in users):
                        life.world(dice)
                        pause.wait(dice.random() * 0.03)
                    assert [user.result() for user in users] == [None] * 3
                    life.ends_well()
                    assert proxy.open == 1
                    assert proxy.most_open == 1, "two sockets of one client"
                    opened += proxy.opened
                refs = [frame[1] for frame in server.frames if frame[3] in ("phx_join", "phx_leave", "shout")]
                assert len(refs) == len(set(refs)), "a ref was used twice"
                assert all(isinstance(error, SelfDBError) for error in life.errors), life.errors
                assert log.faults == []
        finally:
            server.stop()
    until(lambda: not our_threads())
    soak.figure(
        "G06", f"{LIVES} random lives of three threads each over {opened} connections: one socket, no stuck channel"
    )
