"""Fixtures of the client's tests: clients that are closed again, signed in or not."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import pytest

from selfdb import SelfDB
from tests.servers.replies import Reply, ReplyServer
from tests.support import Http, unique

ACCESS = "access-token-of-the-tests"
REFRESH = "refresh-token-of-the-tests"


@pytest.fixture
def connect() -> Iterator[Callable[..., SelfDB]]:
    """``connect(server, **options)``: a client of ``server``, closed after the test.

    Retries are off unless asked for: a test that expects one says so.
    """
    clients: List[SelfDB] = []

    def new(server: Any, **options: Any) -> SelfDB:
        key = getattr(server, "api_key", "scripted-key")
        clients.append(SelfDB(server.url, key, **{"max_retries": 0, **options}))
        return clients[-1]

    yield new
    for client in clients:
        client.close()


@pytest.fixture
def anonymous(server: Any, connect: Callable[..., SelfDB]) -> SelfDB:
    """A client of the shared server that nobody has signed in on."""
    return connect(server)


@pytest.fixture
def admin(server: Any, http: Http, connect: Callable[..., SelfDB]) -> SelfDB:
    """A client of the shared server with the administrator's access token."""
    client = connect(server)
    client.access_token = http.admin
    return client


@pytest.fixture
def someone(server: Any, http: Http, connect: Callable[..., SelfDB]) -> Callable[..., SelfDB]:
    """``someone()``: a client of the shared server, signed in as a new user of no rights."""

    def new() -> SelfDB:
        user, _ = http.new_user()
        client = connect(server)
        client.auth.login(email=user["email"], password="password123")
        return client

    return new


@pytest.fixture
def user(someone: Callable[..., SelfDB]) -> SelfDB:
    return someone()


@pytest.fixture
def fresh(fresh_server: Any, connect: Callable[..., SelfDB]) -> SelfDB:
    """The administrator's client of a new, empty server."""
    client = connect(fresh_server)
    client.auth.login(email="admin@example.com", password="password")
    return client


class Recorded:
    """A client and the recording server that it talks to; signed in with made-up tokens."""

    def __init__(self, server: ReplyServer, db: SelfDB) -> None:
        self.server = server
        self.db = db

    def will(self, *answers: Any) -> None:
        """The next answers: JSON for a 200, or a whole ``(status, headers, body)``."""
        for answer in answers:
            whole = isinstance(answer, tuple) and len(answer) == 3 and isinstance(answer[0], int)
            self.server.replies.append(answer if whole else (200, {}, answer))

    @property
    def lines(self) -> List[str]:
        return self.server.lines

    @property
    def last(self) -> Any:
        return self.server.requests[-1]


@pytest.fixture
def recorded(replies: Callable[..., ReplyServer], connect: Callable[..., SelfDB]) -> Recorded:
    """A recording server without replies yet, and a client of it that holds tokens."""
    server = replies(())
    db = connect(server)
    db.access_token = ACCESS
    db.refresh_token = REFRESH
    return Recorded(server, db)


# What many tests make


Schema = Mapping[str, Mapping[str, Any]]
NOTES: Schema = {"title": {"type": "text"}, "amount": {"type": "integer"}}


@pytest.fixture
def new_table() -> Callable[..., Any]:
    """``new_table(db, schema=NOTES, rows=(), **fields)``: a table with rows in it."""

    def new(db: SelfDB, schema: Schema = NOTES, rows: Sequence[Dict[str, Any]] = (), **fields: Any) -> Any:
        table = db.tables.create({"name": unique("t"), "table_schema": schema, **fields})
        for row in rows:
            db.tables.data.insert(table.id, row)
        return table

    return new


@pytest.fixture
def new_bucket() -> Callable[..., Any]:
    """``new_bucket(db, **fields)``."""
    return lambda db, **fields: db.storage.buckets.create({"name": unique("b"), **fields})


def pair(access: str = ACCESS, refresh: Optional[str] = REFRESH) -> Reply:
    """What a login answers."""
    return 200, {}, {"access_token": access, "refresh_token": refresh, "token_type": "bearer"}


Script = Tuple[int, Mapping[str, str], Any]
