"""The realtime calls of the specification: the frames they send, and that the embedded server takes them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Callable, List

import pytest

from selfdb import SelfDB
from selfdb.models import RealtimePayload, TableUpdate
from selfdb.realtime import Channel
from tests.client.conftest import connect
from tests.client.seed_calls import REALTIME
from tests.client.seed_case import SeedCall
from tests.realtime.clients import Watched, client, phoenix, watched
from tests.support import Http

__all__ = ["client", "connect", "phoenix", "watched"]

CASES = [case for case in REALTIME if case.realtime]
each_call = pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])


def before(case: SeedCall, db: SelfDB) -> None:
    """What comes before the call in the specification."""
    if "phx" in case.wire or case.wire == "close":
        db.realtime.connect()
    if case.wire.startswith("phx_leave"):
        db.realtime.channel(case.wire.split()[1]).subscribe()


def check(case: SeedCall, db: SelfDB, result: Any) -> None:
    if case.wire == "open":
        assert result is None
        assert db.realtime.connected
    elif case.wire == "close":
        assert result is None
        assert db.realtime.get_state() == "disconnected"
    elif case.wire.startswith("phx_join"):
        assert isinstance(result, Channel)
        assert result.state == "joined"
    else:
        assert result is None
        assert db.realtime.channel(case.wire.split()[1]).state == "closed"


def test_there_are_eight_of_them() -> None:
    assert len(CASES) == 8


@each_call
def test_on_the_wire(case: SeedCall, watched: Watched) -> None:
    db, server = watched.db, watched.server
    db.access_token = "a-token"
    before(case, db)
    result = case.call(db, SimpleNamespace())
    check(case, db, result)
    if case.wire == "open":
        assert server.targets[0].startswith("/realtime/socket/websocket?vsn=2.0.0&X-API-Key=")
        assert server.targets[0].endswith("&token=a-token")
    elif case.wire == "close":
        server.wait(lambda: server.sockets[0].closed_with == 1000)
    else:
        event, topic = case.wire.split()
        (frame,) = server.seen(event, topic)
        join_ref = server.join_ref(topic)
        assert frame == [join_ref, join_ref if event == "phx_join" else frame[1], topic, event, {}]


@each_call
def test_on_the_embedded_server(case: SeedCall, fresh_server: Any, connect: Callable[..., SelfDB]) -> None:
    http = Http(fresh_server)
    user, _ = http.new_user()
    db = connect(fresh_server)
    db.auth.login(email=user["email"], password="password123")
    for name in ("users", "orders"):
        table = db.tables.create({"name": name, "table_schema": {"name": {"type": "text"}}})
        db.tables.update(table.id, TableUpdate(realtime_enabled=True))
    before(case, db)
    check(case, db, case.call(db, SimpleNamespace()))


def test_the_example_as_a_whole(fresh_server: Any, connect: Callable[..., SelfDB]) -> None:
    """Log in, connect, subscribe, work, unsubscribe, disconnect."""
    db = connect(fresh_server)
    db.auth.login(email="admin@example.com", password="password")
    table = db.tables.create({"name": "orders", "table_schema": {"item": {"type": "text"}}})
    db.tables.update(table.id, TableUpdate(realtime_enabled=True))
    got: List[Any] = []

    def keep(payload: RealtimePayload) -> None:
        got.append(payload.new)

    db.realtime.connect()
    channel = db.realtime.channel("table:orders").on("INSERT", keep)
    channel.subscribe()
    with channel.events(timeout=10) as events:
        db.tables.data.insert(table.id, {"item": "tea"})
        event = next(events)
    assert event.new == db.tables.data.query(table.id).first()
    assert got == [event.new], "callbacks come before loops"
    channel.unsubscribe()
    db.realtime.disconnect()
    assert not db.realtime.connected
