"""Hostile sockets: whatever bytes a server sends on a WebSocket, or instead of one, only our exceptions come of it,
within bounds of time and memory; the link goes on or is opened anew, and the next good event is heard."""

from __future__ import annotations

import contextlib
import time
import tracemalloc
from typing import Any, Callable, Union

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selfdb import RealtimeError, SelfDB, SelfDBError
from selfdb.core import websocket as websocket_module
from tests import soak
from tests.faults.realtime_kit import SLACK, Subscriber, our_log, our_threads
from tests.realtime.clients import client, phoenix
from tests.realtime.phoenix import Phoenix
from tests.servers.scripted import Peer, PeerGone, Received
from tests.servers.websockets import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, accept_for, frame

__all__ = ["client", "phoenix"]

Make = Callable[..., Any]
EXAMPLES = soak.amount("SELFDB_HOSTILE_STREAMS", here=15, long=100)
KEY, TOKEN = "canary-of-the-api-key", "canary.of-the.token"

STREAMS = {
    "a mask": frame(TEXT, b"[]", masked=True),
    "reserved bits": frame(TEXT, b"[]", reserved=0x70),
    "compressed though nobody agreed to it": frame(TEXT, b"\x8a\x06\x00", reserved=0x40),
    "an opcode that is none": frame(0x3, b"x"),
    "a control frame of 64 KiB": frame(PING, b"x" * 65_536),
    "a fragmented ping": frame(PING, b"x", final=False),
    "a continuation of nothing": frame(CONTINUATION, b"x"),
    "a message within a message": frame(TEXT, b"[", final=False) + frame(TEXT, b"]"),
    "a length of 2**63": b"\x81\x7f" + b"\xff" * 8,
    "a message above the limit": b"\x81\x7f" + (17 * 1024 * 1024).to_bytes(8, "big") + b"x" * 1000,
    "fragments above the limit": frame(TEXT, b"x" * 4_000_000, final=False)
    + frame(CONTINUATION, b"x" * 4_000_000, final=False) * 4,
    "a close without a code": frame(CLOSE),
    "a close of one byte": frame(CLOSE, b"\x03"),
    "a close with a code that is none": frame(CLOSE, b"\xff\xff"),
    "a close with 1006": frame(CLOSE, (1006).to_bytes(2, "big")),
    "a close whose reason is no text": frame(CLOSE, b"\x03\xe8\xff\xfe\xfd"),
    "a close that echoes a secret": frame(CLOSE, b"\x03\xf0" + TOKEN.encode()),
    "two closes and more": frame(CLOSE, b"\x03\xe8") * 2 + frame(TEXT, b"[]"),
    "text that is no text": frame(TEXT, b"\xff\xfe\xfd"),
    "HTTP in the middle": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "an end in a head": b"\x81\x7f\x00",
}
"""What ends the connection, or may."""

BEGUN = frame(BINARY, b"", final=False)

FLOODS = {
    "pings": frame(PING, b"x" * 125) * 5000,
    "pongs that nobody asked for": frame(PONG, b"x" * 125) * 5000,
    "empty fragments": BEGUN + frame(CONTINUATION, b"", final=False) * 100_000 + frame(CONTINUATION),
    "fragments of two bytes": BEGUN + frame(CONTINUATION, b"ab", final=False) * 50_000 + frame(CONTINUATION),
    "empty messages": frame(TEXT, b"") * 5000,
}  # fmt: skip
"""What may not end it, nor take much."""


def subscriber_of(phoenix: Make, client: Make) -> Subscriber:
    server = phoenix()
    db = client(server)
    db.access_token = TOKEN
    return Subscriber(server, db)


def is_clean(subscriber: Subscriber, log: Any) -> None:
    """Nothing failed but the server, and nothing secret was said; one thread reads."""
    assert all(isinstance(error, SelfDBError) for error in subscriber.errors), subscriber.errors
    assert log.faults == []
    shown = "".join(repr(error) + str(error) for error in subscriber.errors) + log.text
    assert KEY not in shown
    assert TOKEN not in shown
    assert our_threads() <= {"selfdb-link", "selfdb-dispatch"}


def sent(server: Phoenix, data: bytes) -> None:
    """Send ``data``; the client may be gone before the end of it."""
    with contextlib.suppress(PeerGone):
        server.live.raw(data)


def test_g17_streams_that_break_the_rules(phoenix: Make, client: Make) -> None:
    with our_log() as log:
        subscriber = subscriber_of(phoenix, client)
        for name, stream in STREAMS.items():
            print(name)
            tracemalloc.start()
            sent(subscriber.server, stream)
            if name == "an end in a head":
                subscriber.server.cut()
            subscriber.still_works()
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 2.5 * websocket_module.MAX_MESSAGE + 3 * len(stream), (name, peak)
        is_clean(subscriber, log)
        told = [error.close_code for error in subscriber.errors if isinstance(error, RealtimeError)]
        assert {1002, 1009} <= set(told)
        assert len(told) == len(subscriber.errors)


@pytest.mark.parametrize("name", FLOODS)
def test_g17_floods_of_frames_take_a_bounded_room(name: str, phoenix: Make, client: Make) -> None:
    with our_log() as log:
        subscriber = subscriber_of(phoenix, client)
        before = len(subscriber.server.sockets)
        tracemalloc.start()
        try:
            sent(subscriber.server, FLOODS[name])
            subscriber.still_works()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert len(subscriber.server.sockets) == before, "a flood is no reason to connect anew"
        assert peak < 3 * len(FLOODS[name]) + 16 * 1024 * 1024
        is_clean(subscriber, log)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(
    stream=st.lists(
        st.one_of(
            st.binary(max_size=200),
            st.builds(
                lambda opcode, payload, final, reserved, masked: frame(
                    opcode, payload, final=final, reserved=reserved << 4, masked=masked
                ),
                st.integers(0, 15),
                st.one_of(
                    st.binary(max_size=200), st.sampled_from([b'["1","1","table:orders","phx_close",{}]', b"{}"])
                ),
                st.booleans(),
                st.sampled_from([0, 0, 0, 1, 4]),
                st.sampled_from([False, False, True]),
            ),
        ),
        min_size=1,
        max_size=6,
    ).map(b"".join)
)
def test_g17_any_bytes_on_the_socket(stream: bytes) -> None:
    server = Phoenix().start()
    try:
        with SelfDB(server.url, KEY, max_retries=0) as db, our_log() as log:
            db.access_token = TOKEN
            subscriber = Subscriber(server, db)
            sent(server, stream)
            # It may have stopped in the middle of a frame, and would take what is good for the rest. With the next
            # connection it has read all that came over this one.
            server.cut()
            if subscriber.channel.state == "closed":
                subscriber.channel.subscribe()
            subscriber.still_works()
            is_clean(subscriber, log)
    finally:
        server.stop()


# Instead of a WebSocket

Answer = Union[bytes, Callable[[Received], bytes]]


def switching(request: Received, more: str = "", key: str = "") -> bytes:
    accepted = accept_for(key or request.header("Sec-WebSocket-Key") or "")
    return (
        f"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accepted}\r\n{more}\r\n"
    ).encode("latin-1")


def refusal(status: object, body: bytes = b"", length: object = None) -> bytes:
    stated = len(body) if length is None else length
    return f"HTTP/1.1 {status} No\r\nContent-Length: {stated}\r\n\r\n".encode() + body


ANSWERS = {
    "200": refusal(200, b"<html>"),
    "204": refusal(204),
    "302": b"HTTP/1.1 302 F\r\nLocation: http://127.0.0.1:1/?" + KEY.encode() + b"\r\nContent-Length: 0\r\n\r\n",
    "a 401 that echoes": lambda request: refusal(401, b'{"detail":"not ' + request.target.encode() + b'"}'),
    "a 401 whose reason echoes": lambda request: b"HTTP/1.1 401 " + request.target.encode() + b"\r\n\r\n",
    "deep JSON": refusal(403, b'{"detail":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "a number of 100 000 digits": refusal(403, b'{"detail":' + b"9" * 100_000 + b"}"),
    "a length that is none": refusal(403, b"x", "abc"),
    "a length of 10**20": refusal(403, b"x", 10**20),
    "a length below zero": refusal(403, b"x", -1),
    "a status below zero": refusal(-1),
    "a status of a million": refusal(1_000_000),
    "no status": refusal(""),
    "101 without the accept": b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    "101 with another accept": lambda request: switching(request, key="another"),
    "101 with a header that is none": lambda request: switching(request, "nothing\r\n"),
    "1xx without end": b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000,
    "headers without end": b"HTTP/1.1 101 S\r\n" + b"X-A: b\r\n" * 40_000,
    "a header without end": b"HTTP/1.1 101 S\r\nX-A: " + b"x" * 300_000,
    "a first line without end": b"x" * 300_000,
    "HTTP/2": b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x80\0\x04\0\x01\0\0\0\x05\0\xff\xff\xff",
    "a TLS alert": b"\x15\x03\x01\0\x02\x02\x28",
    "nothing": b"",
    "zeros": b"\0" * 1000,
}


@pytest.mark.parametrize("name", ANSWERS)
def test_g17_answers_that_are_no_websocket(name: str, scripted: Make) -> None:
    answer: Any = ANSWERS[name]

    def handler(peer: Peer) -> None:
        request = peer.read_request()
        peer.send(answer(request) if callable(answer) else answer)

    server = scripted(default=handler)
    with our_log() as log, SelfDB(server.url, KEY, max_retries=0) as db:
        db.access_token = TOKEN
        began = time.monotonic()
        tracemalloc.start()
        try:
            with pytest.raises(SelfDBError) as caught:
                db.realtime.connect(timeout=3)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert time.monotonic() - began < 3.0 * SLACK
        assert peak < 16 * 1024 * 1024
        shown = [str(caught.value), repr(caught.value), str(caught.value.response_body), log.text]
        assert not [text for text in shown if KEY in text or TOKEN in text]
        assert len(str(caught.value)) < 3000
        assert db.realtime.state == "disconnected"
        assert log.faults == []
