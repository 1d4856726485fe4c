"""Deadlines of whole calls against peers that drip, stall, never read, never connect: kept, with a typed error."""

from __future__ import annotations

import contextlib
import functools
import gzip
import json
import random
import socket
import threading
import time
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional

import pytest
import requests

from selfdb import APIConnectionError, APITimeoutError, InternalServerError, RateLimitError, SelfDB, SelfDBError
from tests import soak
from tests.conftest import Tls
from tests.core.kit import Background
from tests.servers.scripted import Handler, Peer, ScriptedServer, answer, drip, read, reply, send, stall

DEADLINE = 0.5
SLACK = 2.5  # five times what is promised, for a machine that is busy

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
# Not compressible, so that it takes many drops; and many empty blocks, which give nothing however much comes.
ZIPPED = gzip.compress(json.dumps([random.Random(1).random() for _ in range(500)]).encode())
EMPTY = gzip.compress(b"")[:10] + b"\x00\x00\x00\xff\xff" * 2000


def refresh_hangs(peer: Peer) -> None:
    while True:
        request = peer.read_request()
        if "refresh" in request.target:
            peer.stall()
        peer.reply(401, b'{"detail": "expired"}')


def redirects(peer: Peer) -> None:
    while True:
        peer.read_request()
        peer.drip(answer(307, b"", {"Location": "/tables/again"}), 8, every=0.02)


def endless(first: bytes, drop: bytes, *, every: float = 0.02) -> List[Any]:
    return [read(), send(first), drip(drop * 2000, len(drop), every=every)]


class Case(NamedTuple):
    """A peer, the call that meets it, and whether the promise is the same on a session of the caller's."""

    handler: Optional[Handler]
    call: str = "read"
    theirs: bool = False
    tls: bool = False
    error: type = APITimeoutError
    last: type = APITimeoutError  # its last answer, where the wait for another one would not fit


CASES: Dict[str, Case] = {
    "silence": Case([read(), stall()], theirs=True),
    "silence to a write": Case([read(), stall()], call="write", theirs=True),
    "silence in the head": Case([read(), send(b"HTTP/1.1 200 OK\r\nX-A"), stall()], theirs=True),
    "silence in the body": Case([read(), reply(200, b"{", length=9), stall()], theirs=True),
    "silence in a chunk": Case([read(), send(CHUNKED + b"9\r\n{"), stall()], theirs=True),
    "a dripping head": Case([read(), drip(answer(200, b"{}", {"X-Pad": "x" * 4000}))]),
    "dripping headers": Case(endless(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n")),
    "a dripping body": Case([read(), reply(200, length=4000), drip(b"x" * 4000)]),
    "a dripping body to a write": Case([read(), reply(200, length=4000), drip(b"x" * 4000)], call="write"),
    "a dripping error": Case([read(), reply(500, length=4000), drip(b"x" * 4000)]),
    "dripping chunks": Case(endless(CHUNKED, b"1\r\nx\r\n")),
    "a dripping size of a chunk": Case(endless(CHUNKED, b"0")),
    "dripping trailers": Case(endless(CHUNKED + b"2\r\n{}\r\n0\r\n", b"X-A: b\r\n")),
    "dripping gzip": Case(
        [read(), reply(200, ZIPPED[:1], {"Content-Encoding": "gzip"}, length=len(ZIPPED)), drip(ZIPPED[1:])]
    ),
    "gzip of nothing": Case(
        [read(), reply(200, EMPTY[:1], {"Content-Encoding": "gzip"}, length=10**6), drip(EMPTY[1:], 5)]
    ),
    "interim answers": Case(endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n")),
    "a dripping body over TLS": Case([read(), reply(200, length=4000), drip(b"x" * 4000)], tls=True),
    "no handshake": Case([stall()], call="read over TLS"),
    "a dripping handshake": Case([drip(b"\x16\x03\x03\x40\x00" + b"x" * 4000)], call="read over TLS"),
    "it never reads": Case([stall()], call="large write"),
    "it never reads, over TLS": Case([stall()], call="large write", tls=True),
    "it never reads an upload": Case([read(body=False), stall()], call="upload"),
    "it reads an upload by drops": Case(
        [
            read(body=False),
            lambda peer: [peer.read_exactly(512) for _ in iter(lambda: peer.server.stopping.wait(0.02), True)],
        ],
        call="upload",
    ),
    "no connection": Case(None, call="full port", theirs=True),
    "a look-up that hangs": Case(None, call="look-up"),
    "429 again and again": Case(
        [read(), reply(429, b"{}", {"Retry-After": "0"})] * 100_000,
        call="many retries",
        theirs=True,
        last=RateLimitError,
    ),
    "503 again and again": Case(
        [read(), reply(503, b"{}", {"Retry-After": "0"})] * 100_000,
        call="many retries",
        theirs=True,
        last=InternalServerError,
    ),
    "a refresh that hangs": Case(refresh_hangs, call="refresh", theirs=True),
    "redirects that drip": Case(redirects),
    "a download by drops": Case([read(), reply(200, length=4000), drip(b"x" * 4000)], call="download"),
    "a download that stops": Case([read(), reply(200, b"x" * 100, length=4000), stall()], call="download", theirs=True),
}


@pytest.fixture
def full_port() -> Iterator[int]:
    """A port whose queue is full: what knocks there is dropped."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.connect(listener.getsockname())
        yield int(listener.getsockname()[1])


@pytest.fixture
def slow_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Names under ``example`` are looked up for ever, and nothing can interrupt that."""
    let_go, real, asking = threading.Event(), socket.getaddrinfo, []

    def look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        if str(host).endswith(".example"):
            asking.append(threading.current_thread())
            let_go.wait(60)
            raise socket.gaierror(socket.EAI_AGAIN, "let go")
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield
    let_go.set()
    for thread in asking:
        thread.join(15)


def make_call(db: SelfDB, call: str) -> None:
    if call == "write":
        db.tables.data.insert("t", {"a": 1})
    elif call == "large write":
        db.tables.data.insert("t", {"a": "x" * 30_000_000})
    elif call == "upload":
        db.storage.files.upload("b", "f", b"x" * 30_000_000)
    elif call == "download":
        db.storage.files.download("b", "f")
    else:
        db.tables.get("t")


def test_g03_deadlines_are_kept(
    theirs: bool, scripted: Callable[..., ScriptedServer], tls: Tls, full_port: int, slow_names: None
) -> None:
    """All of them at once, as in a process with many threads; what each took is its own."""
    over: Dict[str, float] = {}
    wrong: List[Any] = []
    hosts = [
        None if case.handler is None else scripted(default=case.handler, tls=tls.server if case.tls else None)
        for case in CASES.values()
    ]

    def meet(name: str, case: Case, server: Optional[ScriptedServer]) -> None:
        url = server.url if server is not None else f"http://127.0.0.1:{full_port}"
        if case.call == "look-up":
            url = "http://slow.example"
        elif case.call == "read over TLS":
            url = url.replace("http:", "https:")
        retries = 10**6 if case.call == "many retries" else 2
        with contextlib.ExitStack() as stack:
            session = stack.enter_context(requests.Session()) if theirs else None
            made = stack.enter_context(
                SelfDB(url, "key-of-deadlines", verify=tls.ca, session=session, max_retries=retries)
            )
            db = made.with_options(deadline=DEADLINE)
            db.access_token = "access-token"
            if case.call == "refresh":
                db.refresh_token = "refresh-token"
            db._transport.pool._session() if not theirs else None  # the CA bundle is read before the time is taken
            begun = time.monotonic()
            try:
                make_call(db, case.call)
                wrong.append((name, "it succeeded"))
            except SelfDBError as error:
                over[name] = time.monotonic() - begun - DEADLINE
                if not isinstance(error, (case.error, case.last)):
                    wrong.append((name, repr(error)))
            except BaseException as fault:
                wrong.append((name, repr(fault)))

    threads = [
        threading.Thread(target=meet, args=(name, case, server), daemon=True)
        for (name, case), server in zip(CASES.items(), hosts)
        if case.theirs or not theirs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    assert len(over) == len(threads), "some did not come to an end"
    late = {name: round(value, 2) for name, value in over.items() if value > SLACK}
    assert not late, f"seconds beyond the deadline: {late}"
    worst = max(over, key=lambda name: over[name])
    soak.figure(
        "G03",
        f"{len(over)} hostile peers at once, {'their' if theirs else 'our'} session, deadline {DEADLINE} s: "
        f"at most {over[worst]:.2f} s late ({worst})",
    )


@pytest.mark.parametrize("status", [429, 503])
def test_g03_a_wait_that_does_not_fit_is_not_begun(status: int, scripted: Callable[..., ScriptedServer]) -> None:
    server = scripted(default=[read(), reply(status, b"{}", {"Retry-After": "3600", "Connection": "close"})])
    with SelfDB(server.url, "key-of-deadlines", deadline=60) as db:
        begun = time.monotonic()
        with pytest.raises(SelfDBError) as caught:
            db.tables.get("t")
        assert time.monotonic() - begun < 5 * 0.5
    assert caught.value.status_code == status
    assert len(server.requests) == 1


def test_g03_redirects_do_not_go_round_for_ever(scripted: Callable[..., ScriptedServer]) -> None:
    server = scripted(default=[read(), reply(307, b"", {"Location": "/x"})] * 99)
    with SelfDB(server.url, "key-of-deadlines") as db, pytest.raises(APIConnectionError, match="more than 5 times"):
        db.tables.get("t")


def test_g03_a_peer_that_is_slow_but_sure_is_no_time_out(scripted: Callable[..., ScriptedServer], tls: Tls) -> None:
    """The read time-out is for one wait: a large body over a narrow link takes many of them."""

    def slow(peer: Peer) -> None:
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        request = peer.read_request(body=False)
        length = int(request.header("Content-Length") or 0)
        for _ in range(12):
            peer.read_exactly(200_000)
            peer.server.stopping.wait(0.3)
        peer.read_exactly(length - 12 * 200_000)
        peer.reply(201, b'{"a": 1}')

    def carried(context: Any, verify: Any) -> float:
        server = scripted(default=slow, tls=context)
        with SelfDB(server.url, "key-of-deadlines", timeout=(5, 2.5), verify=verify) as db:
            begun = time.monotonic()
            assert db.tables.data.insert("t", {"a": "x" * 8_000_000}) == {"a": 1}
            return time.monotonic() - begun

    both = [Background(functools.partial(carried, *way)) for way in ((None, None), (tls.server, tls.ca))]
    for took in [each.result() for each in both]:
        assert isinstance(took, float), took
        assert took > 2.5, "it took longer than one wait may"
