"""What tests of realtime share: raw sockets and clients that are closed at the end of the test."""

from __future__ import annotations

from typing import Any, Callable, Iterator, List

import pytest

from selfdb import SelfDB
from tests.realtime.raw import Raw
from tests.support import Http


@pytest.fixture
def connect() -> Iterator[Callable[..., Raw]]:
    """``connect(server, token, path=, vsn=)``: a `Raw` socket."""
    opened: List[Raw] = []

    def start(*arguments: Any, **options: Any) -> Raw:
        opened.append(Raw(*arguments, **options))
        return opened[-1]

    yield start
    for each in opened:
        each.stop()


@pytest.fixture
def signed_in() -> Iterator[Callable[..., SelfDB]]:
    """``signed_in(url, http)``: a client of ``url`` with the administrator's session of ``http``."""
    made: List[SelfDB] = []

    def make(url: str, http: Http) -> SelfDB:
        db = SelfDB(url, http.api_key)
        made.append(db)
        db.access_token = http.admin
        return db

    yield make
    for db in made:
        db.close()
