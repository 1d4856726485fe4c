"""The realtime calls of the specification: the frames they send, and that the embedded server takes them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Callable, List

import pytest

from selfdb import SelfDB
from selfdb.models import RealtimePayload, TableUpdate
from selfdb.realtime import Channel
from tests.client.conftest import connect
from tests.client.seed_case import SeedCall
from tests.realtime.clients import Watched, client, phoenix, watched
from tests.realtime.seed_run import CASES, before, check, check_frames
from tests.support import Http

__all__ = ["client", "connect", "phoenix", "watched"]

each_call = pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])


def test_there_are_eight_of_them() -> None:
    assert len(CASES) == 8


@each_call
def test_on_the_wire(case: SeedCall, watched: Watched) -> None:
    db, server = watched.db, watched.server
    db.access_token = "a-token"
    for call in before(case):
        call(db)
    result = case.call(db, SimpleNamespace())
    check(case, db, result, Channel)
    check_frames(case, server)


@each_call
def test_on_the_embedded_server(case: SeedCall, fresh_server: Any, connect: Callable[..., SelfDB]) -> None:
    http = Http(fresh_server)
    user, _ = http.new_user()
    db = connect(fresh_server)
    db.auth.login(email=user["email"], password="password123")
    for name in ("users", "orders"):
        table = db.tables.create({"name": name, "table_schema": {"name": {"type": "text"}}})
        db.tables.update(table.id, TableUpdate(realtime_enabled=True))
    for call in before(case):
        call(db)
    check(case, db, case.call(db, SimpleNamespace()), Channel)


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
