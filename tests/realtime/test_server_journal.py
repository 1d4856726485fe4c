"""The events as the embedded server keeps them: written with the change, removed by age, there in old folders too."""

from __future__ import annotations

import json
import sqlite3
import threading
from pathlib import Path
from typing import Any, Callable, List

import pytest
import sqlalchemy as sa

from selfdb.realtime.frames import Frame, encode, encode_v1
from selfdb.server.realtime.journal import Journal
from selfdb.server.realtime.wire import V1, V2, Broadcast
from selfdb.server.schema import events
from tests.realtime.raw import Raw, Table, until
from tests.servers.clock import FakeClock
from tests.support import Http


def ids(server: Any) -> List[int]:
    with server._running().services.database.read() as connection:
        return list(connection.scalars(sa.select(events.c.id).order_by(events.c.id)))


def test_an_event_is_rendered_as_the_frames_are() -> None:
    payload = {"event": "INSERT", "table": "t", "new": {"a": 'ü"\n', "b": [1.5, None]}, "old": None}
    text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
    frame = Frame(None, None, "table:t", "INSERT", payload)
    broadcast = Broadcast("table:t", "INSERT", text)
    assert broadcast.text(V2) == encode(frame)
    assert broadcast.text(V1) == encode_v1(frame)
    assert broadcast.text(V2) is broadcast.text(V2), "rendered once for all sockets"


def test_c105_events_are_kept_of_tables_with_realtime_only(fresh_server: Any) -> None:
    http = Http(fresh_server)
    quiet, loud = Table(http, http.admin, realtime=False), Table(http, http.admin)
    before = ids(fresh_server)
    row = quiet.insert(1)
    quiet.delete(row["id"])
    assert ids(fresh_server) == before
    loud.insert(1)
    assert len(ids(fresh_server)) == len(before) + 1


def test_events_are_removed_by_age_and_their_numbers_not_given_again(
    backend: str, make_server: Callable[..., Any], clock: FakeClock
) -> None:
    server = make_server(backend=backend, clock=clock)
    http = Http(server)
    table = Table(http, http.admin)
    journal = Journal(server._running().services.database)
    for number in range(3):
        table.insert(number)
    clock.advance(300)
    table.insert(3)
    clock.advance(301)
    all_of_them = ids(server)
    journal.prune(clock.now(), below=all_of_them[1])
    assert ids(server) == all_of_them[2:]
    journal.prune(clock.now())
    assert ids(server) == all_of_them[3:]
    clock.advance(700)
    journal.prune(clock.now())
    assert ids(server) == []
    raw = Raw(server, http.login().access)
    try:
        raw.joined(table.topic)
        table.bearer = http.login().access
        row = table.insert(4)
        assert raw.receive() == table.event("INSERT", row, None)
        assert ids(server)[-1] > all_of_them[-1]
    finally:
        raw.stop()


def test_the_server_removes_old_events_by_itself(
    make_server: Callable[..., Any], clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selfdb.server.realtime.hub._PRUNE_SECONDS", 0.05)
    server = make_server(clock=clock)
    http = Http(server)
    table = Table(http, http.admin)
    table.insert(1)
    assert ids(server)
    clock.advance(601)
    until(lambda: not ids(server))


def test_on_postgresql_numbers_follow_the_order_of_the_commits(make_server: Callable[..., Any]) -> None:
    """A transaction that has its number holds back all others that want one, until it has committed."""
    from selfdb.server.realtime import outbox

    server = make_server(backend="postgresql")
    services = server._running().services
    entered, leave = threading.Event(), threading.Event()

    def first() -> None:
        with services.database.write() as connection:
            outbox.sessions_ended(connection, services, ["first"])
            with_number(connection)

    def with_number(connection: Any) -> None:
        # Do its last act now, and commit later.
        connection.info["selfdb_before_commit"].pop("events")()
        entered.set()
        assert leave.wait(60)

    def second() -> None:
        assert entered.wait(60)
        with services.database.write() as connection:
            outbox.sessions_ended(connection, services, ["second"])

    threads = [threading.Thread(target=run) for run in (first, second)]
    for thread in threads:
        thread.start()
    assert entered.wait(60)
    threads[1].join(0.3)
    assert threads[1].is_alive(), "the second waits for the first"
    leave.set()
    for thread in threads:
        thread.join(60)
    with services.database.read() as connection:
        payloads = list(connection.scalars(sa.select(events.c.payload).order_by(events.c.id)))
    assert payloads == ['["first"]', '["second"]']


def test_a_folder_of_the_first_version_gets_events(make_server: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "data"
    server = make_server(path=path)
    http = Http(server)
    table = Table(http, http.admin, realtime=False)
    table.insert(1)
    server.stop()
    with sqlite3.connect(path / "selfdb.sqlite3") as old:
        old.execute("DROP TABLE _selfdb_events")
        old.execute("DELETE FROM _selfdb_schema_version WHERE version > 1")
    old.close()
    server.start()
    table.http = http = Http(server)
    table.bearer = http.admin
    table.change(realtime_enabled=True)
    raw = Raw(server, http.admin)
    try:
        raw.joined(table.topic)
        row = table.insert(2)
        assert raw.receive() == table.event("INSERT", row, None)
    finally:
        raw.stop()
    assert http.get(f"/tables/{table.id}/data").json()["total"] == 2
