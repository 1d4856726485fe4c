"""What is done most often costs no more than it did: counted, and compared with what was noted."""

from __future__ import annotations

import sys
from typing import Any, Callable, Dict

import pytest

from selfdb import SelfDB
from tests.servers.scripted import Peer
from tests.work import Work, about, work_of

CALLS: Dict[str, Work] = {"3.11": Work(1930, 165)}
"""A typed GET over a kept connection, by version of Python."""

ME = b'{"id":"7f0e2f5c","email":"ada@example.com","role":"USER","firstName":"Ada","lastName":"Byron","isActive":true}'


def known(figures: Dict[str, Work]) -> Work:
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if version not in figures:
        pytest.skip(f"nothing was noted for Python {version}")
    return figures[version]


def test_a_typed_call(scripted: Callable[..., Any]) -> None:
    def answer(peer: Peer) -> None:
        while True:
            peer.read_request()
            peer.reply(200, ME, {"Content-Type": "application/json"})

    with SelfDB(scripted(default=answer).url, "key") as db:
        db.access_token = "token"
        about(work_of(db.auth.me), known(CALLS))
