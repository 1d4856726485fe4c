"""Connections that are kept between calls: closed under a write, half closed, with answers that nobody asked for."""

from __future__ import annotations

import contextlib
import gc
import json
import threading
from typing import Any, Callable, Iterator, List, Optional

import pytest
import requests

from selfdb import APIConnectionError, APITimeoutError, SelfDB, SelfDBError
from selfdb.core.retry import RetryPolicy
from tests import soak
from tests.conftest import Tls
from tests.servers.scripted import Peer, ScriptedServer, answer

Connect = Callable[..., SelfDB]


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RetryPolicy, "delay", lambda self, retry: 0.0)


@pytest.fixture
def connect(theirs: bool) -> Iterator[Connect]:
    """``connect(server, **options)``: a client of a scripted server, on a session of ours or of the caller's."""
    with contextlib.ExitStack() as stack:

        def new(server: ScriptedServer, **options: Any) -> SelfDB:
            session: Optional[requests.Session] = None
            if theirs:
                session = stack.enter_context(requests.Session())
                session.trust_env = False
            db = stack.enter_context(SelfDB(server.url, "key-of-a-kept-connection", session=session, **options))
            db.access_token = "token-of-a-kept-connection"
            return db

        yield new
    if theirs:
        gc.collect()  # what their HTTP stack raises refers to itself, and to its connection


def told(peer: Peer) -> bytes:
    """Read a request; the row that answers it."""
    request = peer.read_request()
    if request.method == "GET":
        return json.dumps({"asked": request.target}).encode()
    return request.body


def serve(peer: Peer) -> None:
    """Answer each request with what it is about, and acknowledge keys."""
    while True:
        request = peer.read_request()
        key = request.header("Idempotency-Key")
        body = request.body or json.dumps({"data": [], "total": 0, "page": 1, "page_size": 1}).encode()
        peer.reply(200, body, {"Idempotency-Key": key} if key else {})


def insert(db: SelfDB, logical: str, key: Optional[str] = None) -> None:
    row = db.tables.data.insert("t", {"logical": logical}, idempotency_key=key)
    assert row == {"logical": logical}, "the answer of another call"


ENDS = {"reset": Peer.reset, "end": Peer.close}


@pytest.mark.parametrize("end", list(ENDS))
def test_g01_a_connection_that_ends_as_a_write_goes_out(
    end: str, scripted: Callable[..., ScriptedServer], connect: Connect
) -> None:
    """The server is about to close it as idle and has not read the write; that it has not, nobody can know."""

    def idle(peer: Peer) -> None:
        serve_one(peer)
        peer.read_exactly(1)
        ENDS[end](peer)

    server = scripted(idle, idle, default=serve)
    db = connect(server)
    insert(db, "first", "key-1")
    with pytest.raises(APIConnectionError) as caught:
        insert(db, "second")
    assert caught.value.may_have_been_applied
    assert caught.value.attempts == 1
    insert(db, "third")
    insert(db, "fourth", "key-4")  # on the connection that ends again, and then on a fresh one
    insert(db, "fifth")
    bodies = [json.loads(request.body)["logical"] for request in server.requests]
    assert bodies == ["first", "third", "fourth", "fifth"]


def serve_one(peer: Peer) -> None:
    request = peer.read_request()
    key = request.header("Idempotency-Key")
    peer.reply(200, request.body, {"Idempotency-Key": key} if key else {})


def test_g01_a_server_that_closes_what_is_idle(
    theirs: bool, scripted: Callable[..., ScriptedServer], connect: Connect
) -> None:
    """A hundred calls, each of which comes when the connection of the one before it has been closed: no error."""
    closed: List[threading.Event] = [threading.Event() for _ in range(100)]

    def once(peer: Peer) -> None:
        serve_one(peer)
        peer.close()
        closed[peer.number].set()

    server = scripted(default=once)
    db = connect(server, max_retries=0)
    for number in range(100):
        insert(db, f"{number}")
        assert closed[number].wait(15)
    assert len(server.requests) == 100
    soak.figure("G01", f"100 writes after idle closes, {'their' if theirs else 'our'} session: 0 errors")


EXTRA = answer(200, b'{"logical": "of nobody"}')

#: What comes behind an answer, at once or a moment later, on a connection that is kept.
LEFT_OVER = {
    "a second answer": [EXTRA],
    "a second answer, apart": [b"", EXTRA],
    "half of one": [EXTRA[:30]],
    "half of one, and the rest": [EXTRA[:30], EXTRA[30:]],
    "an idle server's farewell": [b"", answer(408, b"", {"Connection": "close"})],
    "a line": [b"\r\n"],
    "an interim answer": [b"HTTP/1.1 100 Continue\r\n\r\n" + EXTRA],
}


@pytest.mark.parametrize("what", list(LEFT_OVER))
def test_g01_what_is_left_over_is_no_answer_to_the_next_call(
    what: str, scripted: Callable[..., ScriptedServer], connect: Connect
) -> None:
    out = threading.Event()

    def leaving(peer: Peer) -> None:
        request = peer.read_request()
        first, *rest = LEFT_OVER[what]
        peer.send(answer(200, request.body) + first)
        for more in rest:
            peer.send(more)
        out.set()
        serve(peer)

    server = scripted(leaving, default=serve)
    db = connect(server)
    insert(db, "first")
    assert out.wait(15)
    for number in range(3):
        insert(db, f"next {number}")
    assert len(server.requests) == 4, "each was sent once"


@pytest.mark.parametrize("size", [8192, 8193, 12000, 16384 - len(EXTRA)])
def test_g01_what_is_left_over_within_tls(size: int, scripted: Callable[..., ScriptedServer], tls: Tls) -> None:
    """One record with an answer and another: what of it has been decrypted does not show on the socket."""
    head = len(answer(200, b"x" * 9000)) - 9000
    whole = json.dumps({"logical": "x" * (size - head - 15)}).encode()

    def leaving(peer: Peer) -> None:
        peer.read_request()
        peer.send(answer(200, whole) + EXTRA)
        serve(peer)

    server = scripted(leaving, default=serve, tls=tls.server)
    with SelfDB(server.url, "key-of-a-kept-connection", verify=tls.ca) as db:
        db.access_token = "token-of-a-kept-connection"
        assert db.tables.data.insert("t", {"a": 1}) == json.loads(whole)
        insert(db, "next")
    assert server.connections == 2


def test_g01_the_late_answer_of_a_call_that_timed_out(
    scripted: Callable[..., ScriptedServer], connect: Connect
) -> None:
    def late(peer: Peer) -> None:
        body = told(peer)
        peer.stall()
        peer.reply(200, body)
        serve(peer)

    server = scripted(late, late, default=serve)
    db = connect(server, timeout=(5, 0.3))
    for number in range(2):
        with pytest.raises(APITimeoutError) as caught:
            insert(db, f"late {number}")
        assert caught.value.may_have_been_applied
    server.release.set()
    patient = db.with_options(timeout=30)
    for number in range(5):
        insert(patient, f"next {number}")
    server.wait_for(requests=7)
    assert len(server.requests) == 7


INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n"


@pytest.mark.parametrize("interim", [[INTERIM], [INTERIM] * 5, [HINTS], [HINTS, INTERIM]])
def test_g01_interim_answers_are_none(
    interim: List[bytes], theirs: bool, scripted: Callable[..., ScriptedServer], connect: Connect
) -> None:
    if theirs:  # the HTTP stack of others takes a 103 for the answer itself
        interim = [each for each in interim if each is not HINTS]

    def chatty(peer: Peer) -> None:
        while True:
            request = peer.read_request()
            for each in interim:
                peer.send(each)
            peer.reply(200, request.body)

    server = scripted(chatty)
    db = connect(server)
    for number in range(3):
        insert(db, f"{number}")
    assert len(server.requests) == 3
    assert server.connections == 1


def test_g01_an_end_behind_an_interim_answer(scripted: Callable[..., ScriptedServer], connect: Connect) -> None:
    def broken(peer: Peer) -> None:
        peer.read_request()
        peer.send(INTERIM)
        peer.close()

    server = scripted(broken, default=serve)
    db = connect(server)
    with pytest.raises(APIConnectionError) as caught:
        insert(db, "first")
    assert caught.value.may_have_been_applied
    insert(db, "second")
    assert len(server.requests) == 2


def test_g01_an_answer_before_the_request_is_whole(scripted: Callable[..., ScriptedServer], connect: Connect) -> None:
    """The refusal is told, and the connection carries the next call once the rest was read."""
    text = "x" * 3_000_000

    def hasty(peer: Peer) -> None:
        request = peer.read_request(body=False)
        peer.reply(413, b'{"detail": "too much"}')
        peer.read_exactly(int(request.header("Content-Length") or 0))
        serve(peer)

    server = scripted(hasty, default=serve)
    db = connect(server)
    with pytest.raises(SelfDBError, match="too much") as caught:
        db.tables.data.insert("t", {"logical": text})
    assert (caught.value.status_code, caught.value.may_have_been_applied) == (413, False)
    insert(db, "next")
    assert len(server.requests) == 2


@pytest.mark.parametrize("closes", [False, True], ids=["it half-closes", "it closes"])
def test_g01_a_refusal_in_the_middle_of_a_body(
    closes: bool, scripted: Callable[..., ScriptedServer], connect: Connect
) -> None:
    """What is said then is either the refusal or that the connection was lost: never that it was done, never a hang."""

    def hasty(peer: Peer) -> None:
        peer.read_request(body=False)
        peer.reply(413, b'{"detail": "too much"}', {"Connection": "close"})
        if closes:
            peer.close()
        else:
            peer.half_close()
            peer.wait_for_close()

    server = scripted(hasty, default=serve)
    db = connect(server)
    with pytest.raises(SelfDBError) as caught:
        db.tables.data.insert("t", {"logical": "x" * 20_000_000})
    if not closes:
        assert caught.value.status_code == 413
    assert caught.value.status_code == 413 or caught.value.may_have_been_applied
    insert(db, "next")


def test_g01_a_server_that_half_closes(scripted: Callable[..., ScriptedServer], connect: Connect) -> None:
    """It has said all it will say on this connection, and would go on listening."""
    shut = threading.Event()

    def half(peer: Peer) -> None:
        serve_one(peer)
        peer.half_close()
        shut.set()
        peer.wait_for_close()

    def deaf(peer: Peer) -> None:
        peer.read_request()
        peer.half_close()
        peer.wait_for_close()

    server = scripted(half, deaf, default=serve)
    db = connect(server)
    insert(db, "first")
    assert shut.wait(15)
    with pytest.raises(APIConnectionError) as caught:
        insert(db, "second")
    assert caught.value.may_have_been_applied
    insert(db, "third")
    assert [json.loads(request.body)["logical"] for request in server.requests] == ["first", "second", "third"]
