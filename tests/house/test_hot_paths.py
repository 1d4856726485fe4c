"""What is done most often costs no more than it did: counted, and compared with what was noted."""

from __future__ import annotations

import json
import sys
import threading
from typing import Any, Callable, Dict

import pytest

from selfdb import SelfDB
from selfdb.core.wsframes import TEXT, FrameDecoder
from tests.faults.realtime_kit import TOPIC, Fed
from tests.servers.scripted import Peer
from tests.servers.websockets import frame
from tests.work import Work, about, work_of

CALLS: Dict[str, Work] = {"3.11": Work(1930, 165)}
"""A typed GET over a kept connection, by version of Python."""

EVENTS: Dict[str, Work] = {"3.11": Work(731, 61)}
"""From the bytes of an event to the queue of the callbacks' thread."""

CALLBACKS: Dict[str, Work] = {"3.11": Work(19, 3)}
"""From that queue to the callback."""

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


def test_an_event() -> None:
    entered, release = threading.Event(), threading.Event()
    row = {"id": 7, "title": "x" * 60, "done": False, "created_at": "2026-01-02T03:04:05.123456Z"}
    event = {"event": "INSERT", "table": "orders", "new": row, "old": None}
    wire = frame(TEXT, json.dumps([None, None, TOPIC, "INSERT", event]).encode())
    with SelfDB("http://127.0.0.1:9", "key") as db:
        fed = Fed(db.realtime)
        fed.join()
        channel = db.realtime.channel(TOPIC)
        channel.on("BLOCK", lambda payload: (entered.set(), release.wait(20)))
        channel.on("INSERT", lambda payload: None)
        fed.feed([None, None, TOPIC, "BLOCK", {**event, "event": "BLOCK"}])
        try:
            assert entered.wait(20)  # the thread of the callbacks neither sleeps nor takes anything
            decoder = FrameDecoder(10**6)
            about(work_of(lambda: db.realtime.received(decoder.feed(wire))), known(EVENTS))
            about(work_of(db.realtime._dispatcher._jobs[-1].run), known(CALLBACKS))
        finally:
            release.set()
