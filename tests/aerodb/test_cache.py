"""Rows that were read before, while the server cannot be reached."""

from __future__ import annotations

import sqlite3
import stat
import threading
from pathlib import Path
from typing import Any, Callable, List

import pytest

from selfdb.aerodb import AeroDBClient, OfflineCache
from selfdb.core.clock import Clock
from tests.aerodb.services import EMAIL, KEY, PASSWORD, code, data, jwt
from tests.core.kit import in_forked_child
from tests.servers.aerodb.server import AeroServer

Make = Callable[..., AeroDBClient]


class Hand(Clock):
    """A clock that a test moves, and sets."""

    def __init__(self) -> None:
        self.now, self.passed = 1_000_000.0, 0.0

    def time(self) -> float:
        return self.now

    def elapsed(self) -> float:
        return self.passed

    def go_on(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        self.passed += seconds


@pytest.fixture(params=["memory", "file"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    made = OfflineCache(tmp_path / "cache" if request.param == "file" else None)
    yield made
    made.close()


@pytest.fixture
def reader(aero: AeroServer, client_for: Make, cache: OfflineCache) -> AeroDBClient:
    return client_for(aero, cache=cache)


def read(client: AeroDBClient, table: str = "items", **equal: Any) -> Any:
    query = client.from_(table).select()
    for column, value in equal.items():
        query = query.eq(column, value)
    return query.execute()


def test_c085_what_was_read_is_there_when_the_server_is_not(aero: AeroServer, reader: AeroDBClient) -> None:
    fresh = read(reader)
    assert (fresh.data, fresh.from_cache) == (aero.rows, False)
    aero.stop()
    kept = read(reader)
    assert (kept.data, kept.error, kept.status, kept.from_cache) == (fresh.data, None, 200, True)


def test_c085_so_is_the_count(aero: AeroServer, reader: AeroDBClient) -> None:
    aero.instead = [(206, {"Content-Range": "0-0/573"}, [{"id": 1}])]
    assert reader.from_("items").select(count="exact").limit(1).execute().count == 573
    aero.stop()
    response = reader.from_("items").select(count="exact").limit(1).execute()
    assert (response.data, response.count, response.status, response.from_cache) == ([{"id": 1}], 573, 206, True)


def test_c085_a_timeout_counts_as_not_being_there(aero: AeroServer, client_for: Make, cache: OfflineCache) -> None:
    stall = threading.Event()
    kept = data(read(client_for(aero, cache=cache)))
    aero.before = lambda request: stall.wait(60)
    try:
        response = read(client_for(aero, cache=cache, timeout=0.3))
    finally:
        stall.set()
    assert (response.data, response.from_cache) == (kept, True)


@pytest.mark.parametrize("status", [400, 401, 404, 500, 502, 503])
def test_c085_a_refusal_is_not_masked(aero: AeroServer, reader: AeroDBClient, status: int) -> None:
    read(reader)
    aero.instead = [(status, {}, {"message": "no", "code": str(status)})]
    response = read(reader)
    assert (code(response), response.from_cache) == (str(status), False)


def test_c085_nor_is_an_answer_that_cannot_be_read(aero: AeroServer, reader: AeroDBClient) -> None:
    read(reader)
    aero.instead = [(200, {}, "<html>pay for the network first</html>")]
    assert code(read(reader)) == "INVALID_RESPONSE"
    aero.stop()
    assert read(reader).data == aero.rows  # and that page has not taken the place of the rows


def test_c085_what_was_not_read_is_not_there(aero: AeroServer, reader: AeroDBClient) -> None:
    read(reader, id=1)
    aero.stop()
    assert read(reader, id=1).from_cache
    assert code(read(reader, id=2)) == "NETWORK_ERROR"
    assert code(read(reader, "others", id=1)) == "NETWORK_ERROR"
    assert code(reader.from_("items").eq("id", 1).single().execute()) == "NETWORK_ERROR"


WRITES = {
    "insert": lambda client, table: client.from_(table).insert({"id": 1}),
    "upsert": lambda client, table: client.from_(table).upsert({"id": 1}),
    "update": lambda client, table: client.from_(table).eq("id", 1).update({"id": 2}),
    "delete": lambda client, table: client.from_(table).eq("id", 1).delete(),
}


@pytest.mark.parametrize("verb", WRITES)
def test_c085_a_write_drops_what_was_read_of_its_table(aero: AeroServer, reader: AeroDBClient, verb: str) -> None:
    read(reader)
    read(reader, "others")
    data(WRITES[verb](reader, "items"))
    aero.stop()
    assert code(read(reader)) == "NETWORK_ERROR"
    assert read(reader, "others").from_cache


def test_c085_a_write_that_was_refused_drops_nothing(aero: AeroServer, reader: AeroDBClient) -> None:
    read(reader)
    aero.instead = [(409, {}, {"code": "23505", "message": "taken"})]
    assert code(WRITES["insert"](reader, "items")) == "23505"
    aero.stop()
    assert read(reader).from_cache


def test_c085_one_that_may_have_been_done_does(
    scripted: Callable[..., Any], client_for: Make, cache: OfflineCache
) -> None:
    server = scripted(
        lambda peer: (
            peer.read_request(),
            peer.reply(200, b"[]", {"Content-Type": "application/json", "Connection": "close"}),
        ),
        lambda peer: (peer.read_request(), peer.reset()),
        default=lambda peer: peer.reset(),
    )
    client = client_for(server.url, cache=cache)
    assert read(client).ok
    assert code(WRITES["insert"](client, "items")) == "NETWORK_ERROR"
    assert code(read(client)) == "NETWORK_ERROR"


def test_c085_another_user_sees_nothing(aero: AeroServer, reader: AeroDBClient) -> None:
    aero.auth.add("bob@example.com", PASSWORD)
    data(reader.auth.sign_in(EMAIL, PASSWORD))
    kept = read(reader).data
    data(reader.auth.sign_in("bob@example.com", PASSWORD))
    aero.stop()
    assert code(read(reader)) == "NETWORK_ERROR"
    assert kept


@pytest.mark.parametrize("who", ["the same", "another", "nobody", "another key"])
def test_c085_a_program_that_starts_again_knows_who_asks(
    aero: AeroServer, client_for: Make, cache: OfflineCache, who: str
) -> None:
    first = client_for(aero, cache=cache)
    data(first.auth.set_session(jwt("ann", 1), "refresh"))
    kept = read(first).data
    first.close()
    aero.stop()
    second = client_for(aero, cache=cache, key="another-key" if who == "another key" else KEY)
    if who != "nobody":
        data(second.auth.set_session(jwt("bob" if who == "another" else "ann", 2), "refresh"))
    response = read(second)
    assert (response.data, response.from_cache) == ((kept, True) if who == "the same" else (None, False))


@pytest.mark.parametrize("name", ["Authorization", "apikey", "X-Role"])
def test_c085_nor_does_a_client_whose_headers_say_who_asks(
    aero: AeroServer, client_for: Make, cache: OfflineCache, name: str
) -> None:
    kept = read(client_for(aero, cache=cache, key=None, headers={name: "Bearer of-ann"})).data
    aero.stop()
    assert code(read(client_for(aero, cache=cache, key=None, headers={name: "Bearer of-bob"}))) == "NETWORK_ERROR"
    assert code(read(client_for(aero, cache=cache, key=None))) == "NETWORK_ERROR"
    assert read(client_for(aero, cache=cache, key=None, headers={name.lower(): "Bearer of-ann"})).data == kept


@pytest.mark.parametrize("opaque", [False, True, "handed over"])
def test_c085_a_renewed_session_is_the_same_user(aero: AeroServer, reader: AeroDBClient, opaque: Any) -> None:
    if opaque:
        session = data(reader.auth.sign_in(EMAIL, PASSWORD)).session
        if opaque == "handed over":  # nobody has said whose it is
            reader.auth.set_session(session.access_token, session.refresh_token)
    else:
        data(reader.auth.set_session(jwt("ann", 1), "refresh"))
        aero.auth.instead["/auth/refresh"] = [(200, {}, {"access_token": jwt("ann", 2), "refresh_token": "next"})]
    kept = read(reader).data
    for _ in range(1 if opaque is False else 3):
        data(reader.auth.refresh_session())
    aero.stop()
    response = read(reader)
    assert (response.data, response.from_cache) == (kept, True)


@pytest.mark.parametrize("then", ["nothing", "renewed", "found out", "renewed and found out"])
def test_c085_signing_out_leaves_nothing_of_a_session_that_was_handed_over(
    aero: AeroServer, reader: AeroDBClient, cache: OfflineCache, then: str
) -> None:
    session = data(reader.auth.sign_in(EMAIL, PASSWORD)).session
    data(reader.auth.set_session(session.access_token, session.refresh_token))
    read(reader, id=1)
    if "renewed" in then:
        data(reader.auth.refresh_session())
        read(reader, id=2)
    if "found out" in then:
        data(reader.auth.get_user())
        read(reader, id=3)
    data_left = "SELECT count(*) FROM entries"
    assert cache._opened().execute(data_left).fetchone()[0] == {"nothing": 1, "renewed": 2, "found out": 2}.get(then, 3)
    assert reader.auth.sign_out().ok
    assert cache._opened().execute(data_left).fetchone() == (0,)


def test_c085_who_is_found_out_later_is_known_then(aero: AeroServer, reader: AeroDBClient) -> None:
    session = data(reader.auth.sign_in(EMAIL, PASSWORD)).session
    kept = read(reader).data
    data(reader.auth.set_session(session.access_token, session.refresh_token))
    data(reader.auth.get_user())
    aero.stop()
    assert read(reader).data == kept


def test_c085_signing_out_drops_what_the_user_has_read(aero: AeroServer, reader: AeroDBClient) -> None:
    token = jwt("ann")
    read(reader)
    data(reader.auth.set_session(token, "refresh"))
    read(reader)
    aero.stop()
    assert read(reader).from_cache
    reader.auth.sign_out()
    assert read(reader).from_cache  # what nobody in particular has read
    data(reader.auth.set_session(token, "refresh"))
    assert code(read(reader)) == "NETWORK_ERROR"


def test_c085_entries_end_after_their_time(aero: AeroServer, client_for: Make) -> None:
    clock = Hand()
    client = client_for(aero, cache=OfflineCache(ttl=60, clock=clock))
    read(client)
    aero.stop()
    clock.go_on(60)
    assert read(client).from_cache
    clock.go_on(1)
    assert code(read(client)) == "NETWORK_ERROR"
    clock.now -= 100  # the entry is gone
    assert code(read(client)) == "NETWORK_ERROR"


@pytest.mark.parametrize("hours", [-30, -1, 1, 30])
@pytest.mark.parametrize("place", ["memory", "file"])
def test_c085_a_clock_that_is_set_makes_no_entry_older_or_younger(
    aero: AeroServer, client_for: Make, tmp_path: Path, hours: int, place: str
) -> None:
    clock = Hand()
    cache = OfflineCache(tmp_path / "cache" if place == "file" else None, ttl=60, clock=clock, max_entries=2)
    client = client_for(aero, cache=cache)
    for number in (1, 2, 3):
        read(client, id=number)
    aero.stop()
    clock.go_on(59)
    clock.now += hours * 3600
    assert [read(client, id=number).from_cache for number in (1, 2, 3)] == [False, True, True]
    assert len(cache._read) == 2
    clock.go_on(2)
    assert code(read(client, id=3)) == "NETWORK_ERROR"
    clock.now -= hours * 3600
    assert code(read(client, id=2)) == "NETWORK_ERROR"


def test_c085_what_another_process_has_read_has_the_age_that_the_clock_says(
    aero: AeroServer, client_for: Make, tmp_path: Path
) -> None:
    clock, later = Hand(), Hand()
    read(client_for(aero, cache=OfflineCache(tmp_path / "cache", ttl=60, clock=clock)))
    other = client_for(aero, cache=OfflineCache(tmp_path / "cache", ttl=60, clock=later))
    aero.stop()
    later.now += 60
    assert read(other).from_cache
    later.now -= 61
    assert code(read(other)) == "NETWORK_ERROR", "one of the future is as old as nobody knows"


def test_c085_those_least_recently_used_go_first(aero: AeroServer, client_for: Make) -> None:
    client = client_for(aero, cache=OfflineCache(max_entries=3))
    for number in (1, 2, 3):
        read(client, id=number)
    calls = client._calls

    def kept(number: int) -> bool:
        assert calls.cache is not None
        entry = calls.cache.entry(calls.url, "public", "items", calls.identity(), _request(calls, number))
        return calls.cache.recall(entry) is not None

    assert kept(1)  # which is a use: now 2 is the oldest
    read(client, id=4)
    assert [number for number in (1, 2, 3, 4) if kept(number)] == [1, 3, 4]


def _request(calls: Any, number: int) -> Any:
    return calls._request("GET", "/rest/v1/items", f"?select=*&id=eq.{number}", {})


# The file


def _file(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "cache"


def test_c085_the_file_survives_and_is_its_owners_alone(aero: AeroServer, client_for: Make, tmp_path: Path) -> None:
    path = _file(tmp_path)
    first = OfflineCache(path)
    kept = read(client_for(aero, cache=first)).data
    beside = sorted(path.parent.iterdir())
    assert [stat.S_IMODE(one.stat().st_mode) for one in beside] == [0o600] * len(beside)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    first.close()
    aero.stop()
    with_old = OfflineCache(str(path))
    assert read(client_for(aero, cache=with_old)).data == kept
    with_old.close()


def test_c085_one_that_others_may_read_is_closed_to_them(aero: AeroServer, client_for: Make, tmp_path: Path) -> None:
    path = _file(tmp_path)
    path.parent.mkdir()
    path.touch(0o644)
    cache = OfflineCache(path)
    read(client_for(aero, cache=cache))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    cache.close()


@pytest.mark.parametrize("harm", ["nonsense", "cut", "overwritten", "no salt"])
def test_c085_a_damaged_file_is_begun_anew(aero: AeroServer, client_for: Make, tmp_path: Path, harm: str) -> None:
    path = _file(tmp_path)
    cache = OfflineCache(path)
    read(client_for(aero, cache=cache))
    cache.close()
    if harm == "nonsense":
        path.write_bytes(b"this is no database" * 500)
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    elif harm == "overwritten":
        path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 40_000)
    else:
        with sqlite3.connect(path) as database:
            database.execute("UPDATE salt SET value = 5")
        database.close()
    again = OfflineCache(path)
    client = client_for(aero, cache=again)
    assert read(client).data == aero.rows
    kept = read(client).data
    aero.stop()
    response = read(client)
    assert (response.data, response.from_cache) == (kept, True)
    again.close()


def test_c085_a_file_that_is_damaged_while_it_is_open_costs_no_call(
    aero: AeroServer, client_for: Make, tmp_path: Path
) -> None:
    cache = OfflineCache(_file(tmp_path))
    client = client_for(aero, cache=cache)
    read(client)
    cache._opened().execute("DROP TABLE entries")
    assert read(client).data == aero.rows
    cache.close()


def test_c085_the_database_of_somebody_else_is_left_alone(
    aero: AeroServer, client_for: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "precious"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE mine (x)")
    database.close()
    before = path.read_bytes()
    cache = OfflineCache(path)
    client = client_for(aero, cache=cache)
    assert read(client).data == aero.rows
    aero.stop()
    assert code(read(client)) == "NETWORK_ERROR"
    cache.close()
    assert path.read_bytes() == before
    assert "not a file of its own" in caplog.text


def test_c085_a_file_where_a_folder_should_be_costs_none_either(
    aero: AeroServer, client_for: Make, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    assert read(client_for(aero, cache=OfflineCache(tmp_path / "file" / "cache"))).ok


def test_c085_no_secret_is_in_the_file(aero: AeroServer, client_for: Make, tmp_path: Path) -> None:
    path = _file(tmp_path)
    cache = OfflineCache(path)
    client = client_for(aero, cache=cache)
    session = data(client.auth.sign_in(EMAIL, PASSWORD)).session
    read(client)
    data(client.auth.set_session(jwt("ann-the-user"), "another-refresh"))
    read(client)
    cache.close()
    content = b"".join(one.read_bytes() for one in path.parent.iterdir())
    for secret in (
        KEY,
        session.access_token,
        session.refresh_token,
        "another-refresh",
        "ann-the-user",
        "user-1",
        EMAIL,
    ):
        assert secret.encode() not in content
    assert b"Ann" in content  # the rows are


def test_c085_threads_share_it(aero: AeroServer, client_for: Make, cache: OfflineCache) -> None:
    client = client_for(aero, cache=cache)
    failed: List[Any] = []

    def work(number: int) -> None:
        for step in range(10):
            if not read(client, id=number * 10 + step).ok:
                failed.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    aero.stop()
    assert failed == []
    assert all(read(client, id=number).from_cache for number in range(80))


def test_c085_a_forked_child_goes_on_with_the_file(aero: AeroServer, client_for: Make, tmp_path: Path) -> None:
    cache = OfflineCache(_file(tmp_path))
    client = client_for(aero, cache=cache)
    read(client)
    aero.stop()
    assert in_forked_child(lambda: str(read(client).from_cache).encode()) == b"True"
    assert read(client).from_cache
    cache.close()


def test_clear_drops_everything(aero: AeroServer, reader: AeroDBClient, cache: OfflineCache) -> None:
    read(reader)
    cache.clear()
    aero.stop()
    assert code(read(reader)) == "NETWORK_ERROR"
