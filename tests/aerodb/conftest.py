"""PostgREST over a PostgreSQL of our own, twice, and clients of it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Callable, Dict, Iterator

import pytest

from selfdb.aerodb import AeroDBClient
from tests.aerodb.realtime_kit import events, live, quick_steps  # noqa: F401 - fixtures
from tests.aerodb.services import aero, client_for, client_of_aero, signed_in  # noqa: F401 - fixtures
from tests.servers import postgrest
from tests.servers.postgres import PostgresCluster
from tests.servers.postgrest import PostgRest

SCHEMA = Path(__file__).with_name("schema.sql")
CAP = 300
"""Rows that the second server gives at a time."""


@pytest.fixture(scope="session")
def _database(postgres: PostgresCluster) -> Iterator[str]:
    with postgrest.database(postgres, SCHEMA.read_text(encoding="utf-8")) as url:
        yield url


@pytest.fixture(scope="session")
def _connection(_database: str) -> Iterator[Any]:
    import psycopg

    with psycopg.connect(_database, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def _servers(postgrest_program: Path, _database: str) -> Iterator[Dict[str, PostgRest]]:
    shared: Dict[str, Any] = {"schemas": ["public", "api2"], "role": "web_anon"}
    with (
        PostgRest(postgrest_program, _database, **shared) as plain,
        PostgRest(postgrest_program, _database, max_rows=CAP, **shared) as capped,
    ):
        yield {"plain": plain, "capped": capped}


@pytest.fixture
def sql(_connection: Any) -> Callable[..., Any]:
    """``sql(statement, *values)``: the rows that the statement gives, past PostgREST."""

    def execute(statement: str, *values: Any) -> Any:
        cursor = _connection.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else None

    return execute


def _fresh(server: PostgRest, sql: Callable[..., Any]) -> PostgRest:
    sql("SELECT reset()")
    server.clear()
    return server


@pytest.fixture
def rest(_servers: Dict[str, PostgRest], sql: Callable[..., Any]) -> Iterator[PostgRest]:
    """PostgREST with the rows of ``schema.sql``, and the requests that it gets."""
    server = _fresh(_servers["plain"], sql)
    yield server
    server.instead = postgrest.nothing


@pytest.fixture
def capped(_servers: Dict[str, PostgRest], sql: Callable[..., Any]) -> PostgRest:
    """The same, which gives no more than `CAP` rows at a time."""
    return _fresh(_servers["capped"], sql)


@pytest.fixture
def db(rest: PostgRest) -> Iterator[Any]:
    """A client of it."""
    with AeroDBClient(rest.url) as client:
        yield client


@pytest.fixture
def client_of() -> Iterator[Callable[..., Any]]:
    """``client_of(url, **options)``: a further client, closed behind the test."""
    with contextlib.ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(AeroDBClient(*arguments, **options))
