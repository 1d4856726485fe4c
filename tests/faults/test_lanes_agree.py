"""The short lane and the ordinary way of `requests` tell the same of any answer, and send the same for any call."""

from __future__ import annotations

import json
import logging
import queue
import socket
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selfdb.core.request import Request
from selfdb.core.retry import RetryBudget
from selfdb.core.transport import Transport
from selfdb.exceptions import APITimeoutError, SelfDBError
from tests import soak
from tests.core.calls import SkippingClock, transport_to
from tests.servers.scripted import Peer, Received, ScriptedServer

READ = 1.0  # seconds; only answers that both ways wait for in vain take as long
PATIENT = 15.0

JSON = b'{"id":"7","name":"a thing","tags":["a","b"]}'
STATUS_LINES = (
    *[b"HTTP/1.1 200 OK"] * 8,
    b"HTTP/1.1 201 Created",
    b"HTTP/1.1 202 ",
    b"HTTP/1.1 203",
    b"HTTP/1.1 204 No Content",
    b"HTTP/1.1 205 Reset Content",
    b"HTTP/1.1 206 Partial Content",
    b"HTTP/1.1 304 Not Modified",
    b"HTTP/1.1 400 Bad Request",
    b"HTTP/1.1 404 Not Found",
    b"HTTP/1.1 409 Conflict",
    b"HTTP/1.1 422 Unprocessable Entity",
    b"HTTP/1.1 429 Too Many Requests",
    b"HTTP/1.1 500 Internal Server Error",
    b"HTTP/1.1 503 Service Unavailable",
    b"HTTP/1.1 200 \xe4hnlich",
    b"HTTP/1.1  200 OK",
    b"HTTP/1.0 200 OK",
    b"HTTP/2 200 OK",
    b"http/1.1 200 OK",
    b"HTTP/1.1 2000 OK",
    b"HTTP/1.1 199 What",
    b"HTTP/1.1 600 What",
    b"ICY 200 OK",
)
LINES = (
    b"Content-Type: application/json",
    b"content-type:application/json; charset=utf-8",
    b"Server: one",
    b"Server: two",
    b"Date: Sat, 21 Nov 2026 10:00:00 GMT",
    b"X-Request-ID: request-1",
    b"X-Empty:",
    b"X-Spaces:   inside  and behind \t ",
    b"X-Latin: \xfc",
    b'X-Quoted: "a, b"; c=d',
    b"Set-Cookie: session=of-another; Path=/",
    b"Connection: keep-alive",
    b"Connection: Keep-Alive",
    b"Connection: close",
    b"Connection: keep-alive, x-other",
    b"Keep-Alive: timeout=5",
    b"Content-Encoding: identity",
    b"Content-Encoding: gzip",
    b"Transfer-Encoding: identity",
    b"Upgrade: h2c",
    b"Trailer: X-Late",
    b"Retry-After: 0",
    b"Retry-After: nonsense",
    b"Idempotency-Key: key-of-a-call",
    b"Location: /elsewhere",
    b" folded",
    b"no colon",
    b"Bad Name: x",
    b": no name",
    b"X-Bare: a\rb",
    b"X-Null: a\0b",
)
HEADERS = (
    {},
    {"Prefer": "return=minimal", "Accept-Profile": "api"},
    {"accept": "text/csv"},
    {"X-Odd": "t\xe4g"},
    {"X-Empty": "", "Range": "bytes=0-9"},
    {"content-type": "text/plain", "User-Agent": "other"},
    {"connection": "close"},
    {"Authorization": "Basic eA=="},
)
"""What a kind of call may want to say beside what all say."""

CORK = getattr(socket, "TCP_CORK", getattr(socket, "TCP_NOPUSH", 0))
INTERIM = (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
KEPT = ("exact", "exact, twice", "chunked", "shorter than it is")
"""How an answer may say where it ends if its connection goes on."""

pytestmark = pytest.mark.timeout(3600 if soak.LONG else 300)


class Wire(NamedTuple):
    """What the server sends, in pieces, and whether it then closes."""

    pieces: Tuple[bytes, ...]
    closes: bool


class Told(NamedTuple):
    """All that a call and what it sent can be told apart by."""

    result: Any
    sent: Any
    next_on_the_same_connection: bool


@st.composite
def wires(draw: Any) -> Wire:
    """An answer of whatever kind; what would be waited for without end is closed instead."""
    framing = draw(
        st.sampled_from([*["exact"] * 6, *KEPT[1:], "longer than it is", "none", "no number", "broken chunk"])
    )
    body = draw(st.sampled_from([JSON] * 4 + [b"", b"x", JSON * 40, b"[" + b"1," * 40_000 + b"1]"]))
    lines = draw(st.lists(st.sampled_from(LINES), max_size=draw(st.sampled_from([0, 2, 4]))))
    length = b"Content-Length: %d" % {"shorter than it is": len(body) // 2, "longer than it is": len(body) + 9}.get(
        framing, len(body)
    )
    if "chunk" in framing:
        sizes = b"%x\r\n%s\r\n" % (len(body), body) if body else b""
        body = sizes + (b"0\r\n\r\n" if framing == "chunked" else b"zz\r\n")
        lines.append(b"Transfer-Encoding: chunked")
    elif framing == "no number":
        lines.append(b"Content-Length: " + draw(st.sampled_from([b"-1", b"+1", b"1_0", b"", b"0x1", b"2, 2", b"\xb2"])))
    elif framing != "none":
        at = draw(st.integers(0, len(lines)))
        lines[at:at] = [length] * (2 if framing == "exact, twice" else 1)
    end = draw(st.sampled_from([b"\r\n"] * 9 + [b"\n"]))
    status = draw(st.sampled_from(STATUS_LINES))
    head = end.join([status, *lines, b"", b""])
    whole = draw(st.sampled_from([b""] * 12 + list(INTERIM))) + head + body
    extra = draw(st.sampled_from([b""] * 12 + [b"\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"]))
    if draw(st.integers(0, 9)) == 0:
        whole, extra, framing = whole[: draw(st.integers(0, len(whole)))], b"", "cut"
    cuts = sorted(draw(st.lists(st.integers(1, max(1, len(whole) - 1)), max_size=3)))
    pieces = [whole[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(whole)])]
    pieces[-1] += extra
    ends = framing in KEPT and b" 1" not in status  # an interim answer is waited behind
    return Wire(tuple(pieces), not ends or draw(st.integers(0, 5)) == 0)


@st.composite
def requests_made(draw: Any) -> Request:
    """A call of any kind that the client makes whole."""
    method = draw(st.sampled_from(["GET", "GET", "POST", "POST", "PUT", "PATCH", "DELETE", "HEAD"]))
    path = draw(
        st.sampled_from(["/things", "/things/a%20b", "/things/%C3%BC", "/a/./b", "/a/..%2f", "/users/me", "/x:y@z"])
    )
    query = draw(st.sampled_from(["", "?limit=25", "?search=%7B%22a%22%3A1%7D&page=2", "?q=a+b", "?"]))
    writes = method in ("POST", "PUT", "PATCH")
    body = draw(st.sampled_from([None, b"", b"{}", JSON, b"x" * 70_000, b"\0\xff"])) if writes else None
    return Request(
        method,
        path,
        query,
        body,
        None if body is None else "application/json",
        draw(st.sampled_from([None] * 4 + list(HEADERS))),
        idempotency_key=draw(st.sampled_from([None, None, "key-of-a-call"])) if method == "POST" else None,
    )


class Bench:
    """A server that answers as planned, and a transport for each way to it."""

    def __init__(self, scripted: Callable[..., ScriptedServer]) -> None:
        self._plan = Wire((b"",), True)
        self._done: queue.SimpleQueue[None] = queue.SimpleQueue()
        """One for each answer that has left as a whole, or as far as somebody took it."""
        self._server = scripted(default=self._serve)
        # Without retries of what a reset of the connection met: only the statuses that ask for one are repeated.
        self._ways = [transport_to(self._server, clock=SkippingClock(), max_retries=1, timeout=READ) for _ in range(2)]
        self._ways[1].pool.lane = lambda base: None  # type: ignore[method-assign]

    def close(self) -> None:
        for transport in self._ways:
            transport.pool.close()

    def _serve(self, peer: Peer) -> None:
        while True:
            request = peer.read_request()
            if request.target == "/next":
                peer.reply(200, b'"next"')
                continue
            plan = self._plan
            if plan.closes:  # the end leaves with the last bytes: whether it has come is no question of time
                peer.sock.setsockopt(socket.IPPROTO_TCP, CORK, 1)
            try:
                for piece in plan.pieces:
                    peer.send(piece)
            finally:
                self._done.put(None)
            if plan.closes:
                return

    def compare(self, request: Request, plan: Wire) -> Any:
        """Let both ways make ``request``; returns what they agree on."""
        self._plan = plan
        short, ordinary = self._both(request, READ)
        if short != ordinary and APITimeoutError in (short.result[0], ordinary.result[0]):
            short, ordinary = self._both(request, PATIENT)  # one of them may have met a moment of a busy machine
        assert short == ordinary
        return short.result

    def _both(self, request: Request, seconds: float) -> List[Told]:
        for transport in self._ways:
            transport.options = transport.options.changed(timeout=seconds)
        return [self._tell(transport, request) for transport in self._ways]

    def _tell(self, transport: Transport, request: Request) -> Told:
        transport.pool.budget = RetryBudget()
        transport.pool.acknowledges_keys = False
        before = len(self._server.requests)
        try:
            answer = transport.exchange(request)
            result: Any = answer.status_code, named(answer.headers.items()), answer.content
        except SelfDBError as error:
            result = type(error), str(error), {name: repr(value) for name, value in vars(error).items()}
        sent = self._server.requests[before:]
        for _ in sent:  # else what comes behind an answer might reach one way before its next call, and the other after
            self._done.get(timeout=PATIENT)
        assert transport.exchange(Request("GET", "/next")).json() == "next", "the answer of another call"
        after = self._server.requests[len(sent) + before]
        kept = bool(sent) and sent[-1].connection == after.connection
        return Told(result, [seen(each) for each in sent], kept)


def named(headers: Any) -> Dict[str, str]:
    return {name.lower(): value for name, value in headers}


def seen(request: Received) -> Any:
    return request.line, request.version, sorted((name.lower(), value) for name, value in request.headers), request.body


def test_c017_both_ways_tell_the_same(scripted: Callable[..., ScriptedServer]) -> None:
    bench = Bench(scripted)
    outcomes: Dict[Optional[str], int] = {}
    count = soak.amount("SELFDB_EXCHANGES", here=300, long=10_000)

    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(requests_made(), wires())
    def run(request: Request, plan: Wire) -> None:
        result = bench.compare(request, plan)
        kind = result[0].__name__ if isinstance(result[0], type) else "answered"
        outcomes[kind] = outcomes.get(kind, 0) + 1

    logging.disable(logging.CRITICAL)
    try:
        run()
    finally:
        logging.disable(logging.NOTSET)
        bench.close()
    assert len(outcomes) > 3
    soak.figure("lanes", f"{sum(outcomes.values())} generated exchanges are equal on both ways: {json.dumps(outcomes)}")


def test_an_ordinary_call_takes_the_lane(scripted: Callable[..., ScriptedServer], monkeypatch: Any) -> None:
    """Else the comparison above compares nothing."""
    bench = Bench(scripted)
    used: List[str] = []
    for transport, name in zip(bench._ways, ("short", "ordinary")):
        real = transport.pool.send
        monkeypatch.setattr(
            transport.pool, "send", lambda *args, real=real, name=name, **kw: (used.append(name), real(*args, **kw))[1]
        )
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(JSON)
    bench.compare(Request("GET", "/things"), Wire((head + JSON,), False))
    bench.close()
    assert set(used) == {"ordinary"}
