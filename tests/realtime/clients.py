"""Fixtures of the client's tests: scripted channel servers, and clients that leave nothing behind."""

from __future__ import annotations

from typing import Any, Callable, Iterator, List

import pytest

from selfdb import SelfDB
from tests.realtime.phoenix import Phoenix

KEY = "key/with+odd characters"
TOPIC = "table:orders"


@pytest.fixture
def phoenix() -> Iterator[Callable[..., Phoenix]]:
    """``phoenix(**options)``: a running `Phoenix`."""
    made: List[Phoenix] = []

    def start(**options: Any) -> Phoenix:
        made.append(Phoenix(**options).start())
        return made[-1]

    yield start
    for server in made:
        server.stop()


@pytest.fixture
def client(phoenix: Callable[..., Phoenix]) -> Iterator[Callable[..., SelfDB]]:
    """``client(server, **options)``: a client, closed before its server is. Depends on ``phoenix`` for that order."""
    made: List[SelfDB] = []

    def new(server: Any, **options: Any) -> SelfDB:
        made.append(SelfDB(server.url, KEY, **{"max_retries": 0, **options}))
        return made[-1]

    yield new
    for db in made:
        db.close()


class Watched:
    """A connected client with everything that it reported."""

    def __init__(self, server: Phoenix, db: SelfDB) -> None:
        self.server = server
        self.db = db
        self.realtime = db.realtime
        self.errors: List[BaseException] = []
        self.states: List[str] = []
        self.realtime.on_error(self.errors.append)
        self.realtime.on_state_change(self.states.append)


@pytest.fixture
def watched(phoenix: Callable[..., Phoenix], client: Callable[..., SelfDB]) -> Watched:
    """A client of a server of its own, not connected yet."""
    server = phoenix()
    return Watched(server, client(server))
