"""What an error says of the call: whether it may have been applied; what tells a whole answer from a part of one."""

from __future__ import annotations

import contextlib
import gc
import socket
import ssl
from http.client import IncompleteRead
from typing import Any, Callable, Dict

import pytest
import requests

from selfdb.core.http import _AnswerFile
from selfdb.core.request import Request
from selfdb.core.response import Response
from selfdb.core.tokens import Tokens
from selfdb.core.transport import Transport
from selfdb.exceptions import APIConnectionError, SelfDBError
from tests.conftest import Tls
from tests.core.calls import GET, POST
from tests.servers.scripted import Peer, ScriptedServer, answer, close, read, reply, send

KEYED = POST._replace(idempotency_key="order-4711")
LAST = {"Connection": "close"}


@pytest.mark.parametrize(
    ("status", "headers"),
    [(400, {}), (401, {}), (403, {}), (404, {}), (409, {}), (409, {"Retry-After": "99"}), (429, {"Retry-After": "99"})],
)
def test_what_ends_a_call_takes_no_doubt_back(
    status: int, headers: Dict[str, str], scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    """The first attempt was lost, and may have been applied; that the second is refused says nothing about it."""
    server = scripted([read(), close()], [read(), reply(status, b"{}", {**headers, **LAST})])
    transport = connect(server)
    transport.pool.acknowledges_keys = True
    with pytest.raises(SelfDBError) as caught:
        transport.exchange(KEYED)
    assert (caught.value.status_code, caught.value.attempts) == (status, 2)
    assert caught.value.may_have_been_applied is True
    with pytest.raises(SelfDBError) as caught:
        connect(scripted([read(), reply(status, b"{}", {**headers, **LAST})])).exchange(KEYED)
    assert caught.value.may_have_been_applied is False


@pytest.mark.parametrize("status", [500, 501, 502, 503, 504])
@pytest.mark.parametrize("request_", [GET, POST], ids=["GET", "POST"])
def test_a_server_that_fails_may_have_done_it(
    status: int, request_: Request, scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted(default=[read(), reply(status, b"{}", LAST)])
    with pytest.raises(SelfDBError) as caught:
        connect(server).exchange(request_)
    assert caught.value.may_have_been_applied is (request_ is POST)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_answer_of_success_that_cannot_be_used(method: str) -> None:
    response = Response(201, {}, b"<html>", method=method)
    with pytest.raises(SelfDBError) as caught:
        response.json()
    assert caught.value.may_have_been_applied is (method == "POST")


def test_the_doubt_of_a_renewal_is_not_the_calls(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    """The call was refused for its token and did nothing; that the renewal was lost is another matter."""

    def lost(*args: Any) -> Tokens:
        error = APIConnectionError("lost on the way")
        error.may_have_been_applied = True
        raise error

    server = scripted(default=[read(), reply(401, b"{}", LAST)])
    with pytest.raises(APIConnectionError, match="lost on the way") as caught:
        connect(server, renewer=lost).exchange(POST)
    assert caught.value.may_have_been_applied is False

    def refused(*args: Any) -> Tokens:
        raise APIConnectionError("could not connect")

    server = scripted([read(), close()], default=[read(), reply(401, b"{}", LAST)])
    transport = connect(server, renewer=refused)
    transport.pool.acknowledges_keys = True
    with pytest.raises(APIConnectionError, match="could not connect") as caught:
        transport.exchange(KEYED)
    assert caught.value.may_have_been_applied is True, "but an attempt before that was lost"


# Answers that break off


CUT_HEADS = [
    b"HTTP/1.1 200 OK",
    b"HTTP/1.1 200 OK\r\n",
    b'HTTP/1.1 200 OK\r\nETag: "x"\r\n',
    b"HTTP/1.1 200 OK\r\nContent-Length: 1",
    b"HTTP/1.1 200 OK\r\nContent-Length:",
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("head", CUT_HEADS)
def test_a_head_that_breaks_off_is_no_empty_answer(
    head: bytes, theirs: bool, scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted(default=[read(), send(head), close()])
    with requests.Session() as session:
        transport = connect(server, session=session if theirs else None, max_retries=0)
        with pytest.raises(APIConnectionError):
            transport.exchange(GET)
        with pytest.raises(APIConnectionError):
            transport.open(GET).read(10)


def test_an_empty_answer_on_their_session_is_one_where_that_is_said(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    whole = [
        answer(200, b""),
        answer(204),
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ]
    for each in whole:
        server = scripted(default=[read(), send(each), close()])
        with requests.Session() as session:
            transport = connect(server, session=session)
            assert transport.exchange(GET).content == b""
            with contextlib.closing(transport.open(GET)) as stream:
                assert stream.read(10) == b""
    server = scripted(default=[read(), send(b"HTTP/1.1 200 OK\r\n\r\nto the end"), close()])
    with requests.Session() as session, contextlib.closing(connect(server, session=session).open(GET)) as stream:
        assert [stream.read(100), stream.read(100)] == [b"to the end", b""]
    gc.collect()  # an instrumentation of theirs may keep what refers to itself


def test_a_size_of_a_chunk_that_breaks_off_is_no_end(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    cut = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0002\r\n{}\r\n00"
    server = scripted(default=[read(), send(cut), close()])
    with pytest.raises(APIConnectionError, match="broke off"):
        connect(server, max_retries=0).exchange(GET)


# What is left over


def test_what_is_left_over_ends_the_connection(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted(
        [read(), send(answer(200, b"1") + answer(200, b"2")[:9]), read()], default=[read(), reply(200, b"3")]
    )
    transport = connect(server)
    assert [transport.exchange(GET).json() for _ in range(2)] == [1, 3]


def test_what_is_left_over_within_tls_ends_the_connection(
    tls: Tls, scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    head = len(answer(200, b"x" * 8000)) - 8000

    def leave(peer: Peer) -> None:
        peer.read_request()
        peer.send(answer(200, b"1" * (8192 - head)) + answer(200, b"2"))
        assert isinstance(peer.sock, ssl.SSLSocket)
        peer.wait_for_close()

    server = scripted(leave, default=[read(), reply(200, b"3")], tls=tls.server)
    transport = connect(server, verify=tls.ca)
    assert len(transport.exchange(GET).content) == 8192 - head
    assert transport.exchange(GET).json() == 3


def test_lines_of_an_answer() -> None:
    ours, peers = socket.socketpair()
    with ours, peers:
        peers.sendall(b"one\ntwo, which is long\nthree")
        peers.shutdown(socket.SHUT_WR)
        file = _AnswerFile(ours, b"")
        assert file.readline() == b"one\n"
        assert file.readline(4) == b"two,", "as much as was asked for is no broken line"
        assert file.readline(None) == b" which is long\n"
        with pytest.raises(IncompleteRead):
            file.readline()
        assert file.readline() == b""
        file.close()
        file.close()
