"""What a joined channel of the embedded server is told: a gapless run of the commits after its join, once, in order."""

from __future__ import annotations

import json
import resource
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest
import sqlalchemy as sa

from selfdb.server.realtime import hub
from tests import soak
from tests.realtime.raw import Raw, Table, together, until
from tests.servers.process import ServeProcess
from tests.support import Http

Connect = Callable[..., Raw]

WRITERS = 4
ROWS_EACH = 40
MOST_EACH = 900
"""They go on beyond the one until those who listen have joined twice, up to the other."""


def events_of(server: Any, table: Table) -> List[str]:
    """The payloads of the table's events, in the order of the commits."""
    from selfdb.server.schema import events

    with server._running().services.database.read() as connection:
        mine = sa.select(events.c.payload).where(events.c.table_id == table.id, events.c.topic.is_not(None))
        return list(connection.scalars(mine.order_by(events.c.id)))


def numbers(payloads: List[Any]) -> List[int]:
    return [payload["new"]["n"] for payload in payloads]


def test_c104_a_channel_gets_every_commit_after_its_join_once_and_in_order(server: Any, http: Http) -> None:
    table = Table(http, http.admin)
    heard: Dict[int, List[Any]] = {}
    rounds = [0] * 3
    written: List[int] = []
    done = threading.Event()

    def write(first: int) -> None:
        number = first
        while number < first + ROWS_EACH or (min(rounds) < 2 and number < first + MOST_EACH):
            table.insert(number)
            number += 1
        written.append(number - first)

    def listen(name: int) -> None:
        # Joins at any moment, again and again; the last one hears the rest.
        runs: List[List[Any]] = []
        while True:
            raw = Raw(server, http.admin)
            try:
                rounds[name] += 1
                last = done.is_set() or rounds[name] > 12
                earlier = len(events_of(server, table))
                raw.joined(table.topic)
                before = len(events_of(server, table))
                run: List[Any] = []
                wanted = 4 + name
                while last or len(run) < wanted:
                    payload = raw.receive()[4]
                    if payload["event"] == "UPDATE":
                        break  # the writers' last word
                    run.append(payload["new"]["n"])
                runs.append([earlier, before, run])
                if last or payload["event"] == "UPDATE":
                    heard[name] = runs
                    return
            finally:
                raw.stop()

    mark = table.insert(-1)

    def all_writers() -> None:
        together(*(lambda first=index * 1000: write(first) for index in range(WRITERS)))
        done.set()
        # Whoever joins last is there by then or hears of one of these.
        end = time.monotonic() + 30
        while len(heard) < 3 and time.monotonic() < end:
            table.update(mark["id"], n=-2)
            time.sleep(0.05)

    together(all_writers, *(lambda name=name: listen(name) for name in range(3)))
    order = numbers([json.loads(text) for text in events_of(server, table) if '"event":"INSERT"' in text[:30]])
    assert len(order) == sum(written) + 1
    for index in range(WRITERS):
        own = [number for number in order if index * 1000 <= number < (index + 1) * 1000]
        assert own == sorted(own)
    assert sum(len(runs) for runs in heard.values()) >= 6
    for runs in heard.values():
        for earlier, before, run in runs:
            if run:
                start = order.index(run[0])
                assert start >= earlier, "a commit of before the join was told"
                assert run == order[start : start + len(run)], "a gap, a repetition or another order"
                assert start <= before, "the first commits after the join are missing"


def test_two_events_of_one_transaction_and_many_transactions_at_once(server: Any, http: Http) -> None:
    """More than one portion of events is read and told in order."""
    from selfdb.server import rows
    from selfdb.server.access import Principal

    services = server._running().services
    table = Table(http, http.admin)
    caller = Principal(http.get("/users/me", bearer=http.admin).json()["id"], "ADMIN", "")
    raw = Raw(server, http.admin)
    try:
        raw.joined(table.topic)
        with services.database.write() as connection:
            for number in range(700):
                rows.insert(connection, services, caller, table.id, {"n": number})
        table.insert(700)
        assert [raw.receive()[4]["new"]["n"] for _ in range(701)] == list(range(701))
        raw.beat()
    finally:
        raw.stop()


def test_events_of_ten_megabytes_are_whole(server: Any, http: Http) -> None:
    table = Table(http, http.admin)
    raw = Raw(server, http.admin)
    try:
        raw.joined(table.topic)
        row = table.insert(1, "x" * 9_000_000)
        changed = table.update(row["id"], a="y" * 9_000_000)
        table.insert(2)
        assert raw.receive() == table.event("INSERT", row, None)
        assert raw.receive() == table.event("UPDATE", changed, row)
        assert raw.receive()[4]["new"]["n"] == 2
    finally:
        raw.stop()


# -- several servers of one database ---------------------------------------------------------------------


@pytest.fixture
def pair(make_server: Callable[..., Any], tmp_path: Path) -> Any:
    """A server here, and ``selfdb serve`` in a process of its own, on one PostgreSQL database."""
    here = make_server(backend="postgresql")
    database = here._running().services.settings.database
    with ServeProcess(tmp_path / "other", api_key=here.api_key, database=database) as other:
        yield here, other
    here.stop()


def test_two_servers_tell_each_others_changes(pair: Any, connect: Connect) -> None:
    here, other = pair
    http, http_other = Http(here), Http(other)
    table = Table(http, http.admin)
    afar = Table.__new__(Table)
    afar.http, afar.bearer, afar.name, afar.id = http_other, http.admin, table.name, table.id
    near_raw, far_raw = connect(here, http.admin).joined(table.topic), connect(other, http.admin).joined(table.topic)

    # A row of a megabyte, changed and gone at once, is seen whole.
    text = "ü" * 500_000
    row = afar.insert(1, text)
    changed = table.update(row["id"], a=text + "!")
    afar.delete(row["id"])
    for raw in (near_raw, far_raw):
        assert raw.receive() == table.event("INSERT", row, None)
        assert raw.receive() == table.event("UPDATE", changed, row)
        assert raw.receive() == table.event("DELETE", None, changed)

    # Both write at once; both tell one order.
    together(
        lambda: [table.insert(number) for number in range(30)],
        lambda: [afar.insert(number) for number in range(100, 130)],
    )
    heard = [[raw.receive()[4]["new"]["n"] for _ in range(60)] for raw in (near_raw, far_raw)]
    assert heard[0] == heard[1]
    assert sorted(heard[0]) == [*range(30), *range(100, 130)]

    # What ends a channel or a socket is told as well.
    _, token = http.new_user()
    stranger = connect(other, token).joined(table.topic)
    assert http.patch(f"/tables/{table.id}", json={"public": False}, bearer=http.admin).status_code == 200
    assert stranger.receive() == ["1", "1", table.topic, "phx_close", {}]
    began = time.monotonic()
    assert http.post("/users/logout", json={}, bearer=token).status_code == 200
    assert stranger.ended() == (1008, "token expired")
    assert time.monotonic() - began < 5
    far_raw.beat()


def test_a_lost_connection_for_notices_loses_no_event(make_server: Callable[..., Any], connect: Connect) -> None:
    here = make_server(backend="postgresql")
    http = Http(here)
    table = Table(http, http.admin)
    raw = connect(here, http.admin).joined(table.topic)
    database = here._running().services.database
    listening = sa.text("SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()")

    def listener() -> Any:
        with database.read() as connection:
            return connection.scalar(listening)

    until(lambda: listener() is not None)
    first = listener()
    with database.write() as connection:
        connection.execute(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": first})
    row = table.insert(1)
    assert raw.receive() == table.event("INSERT", row, None)
    until(lambda: listener() not in (None, first))
    row = table.insert(2)
    assert raw.receive() == table.event("INSERT", row, None)


# -- many ------------------------------------------------------------------------------------------------

#: Both ends of each socket are in this process; where it may not open as many files, SELFDB_SOCKETS or 300.
FILES = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
MANY = soak.amount("SELFDB_SOCKETS", here=2000, long=10_000) if FILES >= 5000 else 300


@pytest.mark.timeout(3600 if soak.LONG else 300)
def test_one_insert_reaches_every_socket(
    make_server: Callable[..., Any],
    connect: Connect,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The first ones are silent for as long as the last ones take to open.
    monkeypatch.setattr(hub, "IDLE_SECONDS", 3600.0)
    server = make_server()
    http = Http(server)
    table, token = Table(http, http.admin), http.admin
    began = time.monotonic()
    sockets = [connect(server, token) for _ in range(MANY)]
    opened = time.monotonic() - began
    began = time.monotonic()
    for raw in sockets:
        raw.send("1", "1", table.topic, "phx_join")
    for raw in sockets:
        assert raw.receive()[4]["status"] == "ok"
    joined = time.monotonic() - began
    began = time.monotonic()
    row = table.insert(1)
    inserted = time.monotonic() - began
    for raw in sockets:
        assert raw.receive() == table.event("INSERT", row, None)
    told = time.monotonic() - began
    # Nobody gets it twice.
    sockets[0].beat()
    sockets[-1].beat()
    with capsys.disabled():
        print(f"\n{MANY} sockets: opened in {opened:.2f} s, joined in {joined:.2f} s,", end=" ")
        print(f"insert answered after {inserted:.3f} s, all told after {told:.3f} s")
    soak.figure("fan-out", f"{MANY} sockets told of an insert {told:.1f} s after it, which took {inserted:.3f} s")
