"""The short way to rows: which requests take it, and that nobody can tell from the answers which way was taken."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import pytest
import sqlalchemy as sa

from selfdb.server import Settings, create_app
from selfdb.server.database import Database
from selfdb.server.hot import HotStatement
from selfdb.server.rowlane import RowLane
from selfdb.server.schema import UtcDateTime
from tests.server.tabledata import new_table, route
from tests.support import Http, unique

KEY = "a-key-of-this-test"
TABLE = "0b9c2b1e-6a55-4c0e-8f6d-2f6f3c6f0a11"
JSON = {"content-type": "application/json"}

#: The same request, spelled as clients do and spelled so that it goes the ordinary way.
PAGES = ["?page=1&page_size=3", "?page=1&page_size=3&search="]
CONTENT_TYPES = ["application/json", "application/json; charset=utf-8"]

BODIES = [
    b'{"name": "x", "n": 1, "v": {"b": [1.5, 1e300, 12345678901234567890, null], "a": "\xc3\xa9\xe2\x80\xa8"}}',
    b"{}",
    b'{"name": "taken"}',
    b'{"other": 1}',
    b'{"n": "many"}',
    b'{"name": null}',
    b"[1]",
    b'"text"',
    b"null",
    b"{",
    b'{"name": NaN}',
    b'{"name": "a\\u0000b"}',
    b'{"name": "\\ud800"}',
    b'{"name": "\xff"}',
    b'{"v": ' + b"[" * 120 + b"]" * 120 + b"}",
]


@pytest.fixture(scope="module")
def table(http: Http) -> Dict[str, Any]:
    columns = {
        "name": {"type": "text", "nullable": False, "unique": True},
        "n": {"type": "integer"},
        "v": {"type": "jsonb"},
    }
    made = new_table(http, columns)
    for name in ("taken", "second", "third", "fourth"):
        answer = http.post(route(made, "data"), json={"name": name, "v": {"x": 1e-7}}, bearer=http.admin)
        assert answer.status_code == 201
    return made


def told(answer: Any, *unlike: str) -> Tuple[Any, ...]:
    """What a client sees of an answer, but for the names ``unlike``, which are new in each."""
    headers = {name.lower(): value for name, value in answer.headers.items()}
    headers.pop("date")
    assert headers.pop("x-request-id")
    body = json.loads(answer.content)
    for name in unlike:
        if answer.status_code < 400:
            assert body.pop(name)
    return answer.status_code, headers, body


def bearers(http: Http) -> Dict[str, Optional[str]]:
    """Callers of each kind, by what is the matter with them."""
    _, stranger = http.new_user()
    inactive, asleep = http.new_user()
    assert http.patch(f"/users/{inactive['id']}", json={"isActive": False}, bearer=http.admin).status_code == 200
    deleted, gone = http.new_user()
    assert http.delete(f"/users/{deleted['id']}", bearer=http.admin).status_code == 204
    out, _ = http.new_user()
    pair = http.login(out["email"], "password123")
    assert http.post("/users/logout", json={"refresh_token": pair.refresh}).status_code == 200
    forged = stranger[:-4] + ("AAAA" if stranger[-4:] != "AAAA" else "BBBB")
    return {
        "nobody": None,
        "admin": http.admin,
        "stranger": stranger,
        "inactive": asleep,
        "deleted": gone,
        "logged out": pair.access,
        "refresh token": http.login().refresh,
        "forged": forged,
        "empty": "",
    }


def test_both_ways_answer_every_caller_alike(http: Http) -> None:
    private = new_table(http, {"name": {"type": "text"}})
    public = new_table(http, {"name": {"type": "text"}}, public=True)
    nowhere = {"id": TABLE}
    statuses = set()
    for who, bearer in bearers(http).items():
        for place in (private, public, nowhere):
            one, other = (told(http.get(route(place, "data") + query, bearer=bearer)) for query in PAGES)
            assert one == other, who
            statuses.add(one[0])
            answers = []
            for kind in CONTENT_TYPES:
                row = b'{"name": "%s"}' % unique().encode()
                headers = {"Content-Type": kind}
                answers.append(http.post(route(place, "data"), data=row, headers=headers, bearer=bearer))
            unlike = ("id", "created_at", "updated_at", "name")
            one, other = (told(answer, *unlike) for answer in answers)
            assert one == other, who
            statuses.add(one[0])
    assert statuses == {200, 201, 400, 401, 403, 404}


@pytest.mark.parametrize("body", BODIES)
def test_both_ways_take_and_refuse_the_same_bodies(http: Http, table: Dict[str, Any], body: bytes) -> None:
    for bearer in (http.admin, None, "nonsense"):
        answers = []
        for kind in CONTENT_TYPES:
            sent = http.post(route(table, "data"), data=body, headers={"Content-Type": kind}, bearer=bearer)
            answers.append(told(sent, "id", "created_at", "updated_at"))
            if sent.status_code == 201:
                found = http.get(route(table, "data") + PAGES[0].replace("=3", "=1000"), bearer=http.admin)
                assert sent.json() in found.json()["data"]
                assert http.delete(route(table, "data", sent.json()["id"]), bearer=http.admin).status_code == 204
        assert answers[0] == answers[1]


@pytest.mark.parametrize(
    "query", ["", "?", "?page=2&page_size=2", "?page_size=1", "?page=999999999", "?page_size=1000"]
)
def test_both_ways_cut_the_same_pages(http: Http, table: Dict[str, Any], query: str) -> None:
    plain = http.get(route(table, "data") + query, bearer=http.admin)
    joined = query + ("&" if "?" in query else "?") + "sort_order=asc"
    assert told(plain) == told(http.get(route(table, "data") + joined, bearer=http.admin))
    assert plain.status_code == 200
    assert plain.json()["total"] == 4


@pytest.mark.parametrize("way", ["page", "insert"])
def test_the_first_use_of_a_new_token_is_noted(backend: str, make_server: Callable[..., Any], way: str) -> None:
    http = Http(make_server(backend=backend, rotation_grace_seconds=0))
    table = new_table(http, {"name": {"type": "text"}})
    pair = http.login()
    renewed = http.post("/users/token/refresh", json={"refresh_token": pair.refresh}).json()
    again = http.post("/users/token/refresh", json={"refresh_token": pair.refresh})
    assert again.status_code == 200  # nobody has seen the successor used
    if way == "page":
        used = http.get(route(table, "data"), bearer=renewed["access_token"])
    else:
        used = http.post(route(table, "data"), json={"other": 1}, bearer=renewed["access_token"])
    assert used.status_code == (200 if way == "page" else 400)
    assert http.post("/users/token/refresh", json={"refresh_token": pair.refresh}).status_code == 401
    refused = http.get(route(table, "data"), bearer=renewed["access_token"])
    assert refused.status_code == 401  # the copy of the token ended the session


# -- which requests take it ------------------------------------------------------------------------------


class Ordinary:
    """The application behind the lane: notes what reaches it."""

    def __init__(self) -> None:
        self.bodies: List[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message["body"]
            if not message["more_body"]:
                break
        self.bodies.append(body)


@pytest.fixture(scope="module")
def lane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tuple[RowLane, Ordinary]]:
    app = create_app(Settings(data=tmp_path_factory.mktemp("lane"), api_key=KEY, hash_time_cost=1, hash_memory_kib=8))
    behind = Ordinary()
    yield RowLane(behind, app.state.services), behind
    app.state.services.close()


def takes(
    lane: Tuple[RowLane, Ordinary],
    method: str,
    path: str = f"/tables/{TABLE}/data",
    query: str = "",
    headers: Optional[Dict[str, str]] = None,
    body: bytes = b"",
    **scope: Any,
) -> bool:
    """Whether the lane answers by itself; what it hands on must be whole."""
    way, behind = lane
    behind.bodies.clear()
    pieces = [body[:3], body[3:]]
    sent: List[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    async def send(message: Any) -> None:
        sent.append(message)

    fields = {"content-length": str(len(body)), **(headers or {})}
    asked = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in fields.items()],
        **scope,
    }
    asyncio.run(way(asked, receive, send))
    if behind.bodies:
        assert (behind.bodies, sent) == ([body], [])
        return False
    assert sent[0]["status"] == 404  # there is no such table
    return True


@pytest.mark.parametrize("query", ["", "page=1", "page_size=1000", "page=12&page_size=999"])
def test_plain_pages_take_it(lane: Tuple[RowLane, Ordinary], query: str) -> None:
    assert takes(lane, "GET", query=query)


OTHER_PAGES = (
    "page=0 page=01 page=1&page=2 page_size=1001 page_size=5&page=1 page=+1 page=%31 search=x p=1 page=1page_size=5 "
    "sort_by=id page= page=1234567890 page=1&page_size=5& page=1;page_size=5"
)


@pytest.mark.parametrize("query", OTHER_PAGES.split(" "))
def test_other_pages_do_not(lane: Tuple[RowLane, Ordinary], query: str) -> None:
    assert not takes(lane, "GET", query=query)


def test_plain_inserts_take_it(lane: Tuple[RowLane, Ordinary]) -> None:
    assert takes(lane, "POST", headers=JSON, body=b'{"a": 1}')


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain"},
        {"content-type": "application/json; charset=utf-8"},
        {**JSON, "idempotency-key": "k"},
        {**JSON, "transfer-encoding": "chunked"},
        {**JSON, "expect": "100-continue"},
        {**JSON, "content-length": "+8"},
        {**JSON, "content-length": "99999"},
    ],
)
def test_other_inserts_do_not(lane: Tuple[RowLane, Ordinary], headers: Dict[str, str]) -> None:
    assert not takes(lane, "POST", headers=headers, body=b'{"a": 1}')


@pytest.mark.parametrize("body", [b"[1, 2]", b'{"a": ', b'{"a": "\\u0000"}'])
def test_a_body_that_is_no_row_goes_on_whole(lane: Tuple[RowLane, Ordinary], body: bytes) -> None:
    assert not takes(lane, "POST", headers=JSON, body=body)


@pytest.mark.parametrize(
    "method,path,scope",
    [
        ("PUT", f"/tables/{TABLE}/data", {}),
        ("HEAD", f"/tables/{TABLE}/data", {}),
        ("GET", f"/tables/{TABLE.upper()}/data", {}),
        ("GET", f"/tables/{TABLE}/data/", {}),
        ("GET", f"/tables/{TABLE}/data\n", {}),
        ("GET", f"/tables/{TABLE}", {}),
        ("GET", f"/tables/{TABLE}/data", {"root_path": "/mounted"}),
    ],
)
def test_other_places_do_not(lane: Tuple[RowLane, Ordinary], method: str, path: str, scope: Dict[str, Any]) -> None:
    assert not takes(lane, method, path, **scope)


def test_an_insert_with_a_query_does_not(lane: Tuple[RowLane, Ordinary]) -> None:
    assert not takes(lane, "POST", query="x=1", headers=JSON, body=b'{"a": 1}')


# -- its statements --------------------------------------------------------------------------------------

_THINGS = sa.Table(
    "things",
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, unique=True),
    sa.Column("seen", UtcDateTime),
    sa.Column("more", sa.JSON(none_as_null=True)),
    sa.Column("yes", sa.Boolean),
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "things.sqlite3")
    with opened.write() as connection:
        _THINGS.create(connection)
    yield opened
    opened.close()


INSERT = HotStatement(sa.insert(_THINGS).inline(), [column for column in _THINGS.c if column.key != "id"])
SELECT = HotStatement(sa.select(_THINGS).where(_THINGS.c.name == sa.bindparam("name")))


def test_a_hot_statement_keeps_and_shows_what_sqlalchemy_does(database: Database) -> None:
    values = [
        {"name": "a", "seen": datetime(2026, 1, 2, 3, tzinfo=timezone.utc), "more": {"x": [1, None]}, "yes": True},
        {"name": "b", "seen": None, "more": None, "yes": None},
    ]
    with database.write() as connection:
        for row in values:
            assert list(INSERT.rows(connection, row)) == []
        ordinary = connection.execute(sa.select(_THINGS).order_by(_THINGS.c.id)).all()
        hot = [SELECT.first(connection, {"name": name}) for name in ("a", "b", "c")]
    assert [tuple(row) for row in ordinary] == [tuple(row) for row in hot if row is not None]
    assert hot[2] is None


def test_a_refusal_is_told_in_sqlalchemys_words_and_nothing_is_left_of_it(database: Database) -> None:
    row = {"name": "a", "seen": None, "more": None, "yes": False}
    with database.write() as connection:
        INSERT.rows(connection, row)
        with pytest.raises(sa.exc.IntegrityError, match="UNIQUE"):
            INSERT.rows(connection, row)
        INSERT.rows(connection, {**row, "name": "b"})
    with database.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(_THINGS)) == 2


def test_after_sqlite_gave_the_transaction_up_nothing_is_tried_again(database: Database) -> None:
    row = {"name": "a", "seen": None, "more": None, "yes": False}
    with database.write() as connection:
        INSERT.rows(connection, row)
    executed: List[str] = []
    with pytest.raises(sqlite3.IntegrityError), database.write() as connection:
        driver: Any = connection.connection.driver_connection
        driver.execute("ROLLBACK")  # as SQLite does by itself when the disk is full
        driver.set_trace_callback(executed.append)
        INSERT.rows(connection, row)
    assert [text.split()[0] for text in executed] == ["INSERT"]
