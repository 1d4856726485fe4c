"""Fixtures of the awaitable face's tests: the client's own ones a second time, on SQLite, and a loop to await on."""

from __future__ import annotations

from typing import Any, Dict, Iterator

import pytest

from tests.aio.again import load, plain
from tests.support import Http

_client = load("tests.client.conftest")
connect = _client.connect
anonymous = _client.anonymous
admin = _client.admin
someone = _client.someone
user = _client.user
fresh = _client.fresh
recorded = _client.recorded
new_table = _client.new_table
new_bucket = _client.new_bucket


@pytest.fixture(scope="session")
def backend() -> str:
    """What the server does on either database is proven with the blocking client; here one is enough."""
    return "sqlite"


# Not the outer ones, which pytest keeps from one folder to the next, on the database they were last asked for with.


@pytest.fixture(scope="session")
def server(backend: str, _shared_servers: Dict[str, Any]) -> Any:
    """The shared server of this process, on SQLite: use unique names in it."""
    if backend not in _shared_servers:
        _shared_servers[backend] = _shared_servers["start"](backend=backend)
    return _shared_servers[backend]


@pytest.fixture(scope="session")
def http(server: Any) -> Http:
    """Raw HTTP to the shared server."""
    return Http(server)


@pytest.fixture(scope="session")
def the_loop() -> Iterator[plain.Loop]:
    """The loop that tests of the blocking client are run on again."""
    plain.running = plain.Loop().start()
    yield plain.running
    plain.running.stop()
    plain.running = None


@pytest.fixture(scope="session", autouse=True)
def _loop_before_the_guards(the_loop: plain.Loop) -> None:
    """Its sockets are there before any test is, so that none is taken for one that left them behind."""
