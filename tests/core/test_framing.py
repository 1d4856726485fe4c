"""Where an answer ends: heads, lengths and chunks that two readers could read in two ways are refused."""

from __future__ import annotations

import gzip
import ssl
import tracemalloc
import zlib
from typing import Any, Callable, Dict, List, Tuple

import pytest
import requests
import urllib3
from requests.adapters import HTTPAdapter

from selfdb.core import framing as framing_module
from selfdb.core.download import Download, read_all
from selfdb.core.messages import connection_error
from selfdb.core.request import Request
from selfdb.core.retry import Failure
from selfdb.core.transport import Transport
from selfdb.exceptions import APIConnectionError, NotFoundError
from tests.core.calls import GET, POST, reveals_nothing
from tests.servers.scripted import Peer, ScriptedServer, close, read, send

pytestmark = pytest.mark.usefixtures("lane")

Connect = Callable[..., Transport]
Scripted = Callable[..., ScriptedServer]

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
TWO = b"Content-Length: 2\r\n\r\n{}"

REFUSED: Dict[str, bytes] = {
    "no colon": OK + b"garbage\r\n" + TWO,
    "blank before the colon": OK + b"X-A : 1\r\n" + TWO,
    "no name": OK + b": 1\r\n" + TWO,
    "from a mailbox": OK + b"From nobody\r\n" + TWO,
    "NUL": OK + b"X-A: a\0b\r\n" + TWO,
    "a bare CR": OK + b"X-A: a\rContent-Length: 7\r\n" + TWO,
    "8 bit in a name": OK + b"X-\xc3\xa9: 1\r\n" + TWO,
    "goes on before it began": OK + b" folded\r\n" + TWO,
    "goes on before it began, behind an interim answer": b"HTTP/1.1 103 E\r\nA: 1\r\n\r\n" + OK + b" x\r\n" + TWO,
    "two lengths": OK + b"Content-Length: 3\r\n" + TWO,
    "a folded length": OK + b"Content-Length: 1\r\n 0\r\n\r\n{}",
    "a coding": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "a coding twice": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "a coding of another name": OK + b"Transfer-Encoding: xchunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "a negative chunk": CHUNKED + b"-2\r\n{}\r\n0\r\n\r\n",
    "a chunk as Python writes it": CHUNKED + b"0x2\r\n{}\r\n0\r\n\r\n",
    "a chunk with a sign": CHUNKED + b"+2\r\n{}\r\n0\r\n\r\n",
    "a chunk of no size": CHUNKED + b"\r\n{}\r\n0\r\n\r\n",
    "a chunk of another size": CHUNKED + b"1\r\n{}\r\n0\r\n\r\n",
    "a chunk without bound": CHUNKED + b"f" * 20 + b"\r\n{}\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("how", ["whole", "stream"])
@pytest.mark.parametrize("what", list(REFUSED))
def test_what_can_be_read_in_two_ways(what: str, how: str, scripted: Scripted, connect: Connect) -> None:
    server = scripted(default=[read(), send(REFUSED[what]), close()])
    transport = connect(server, max_retries=0)
    with pytest.raises(APIConnectionError, match="not HTTP") as caught:
        _fetch(transport, how)
    reveals_nothing(caught.value)


def _fetch(transport: Transport, how: str) -> bytes:
    return transport.exchange(POST).content if how == "whole" else read_all(Download(transport, GET))


TAKEN: Dict[str, Tuple[bytes, bytes]] = {
    "a folded header": (OK + b"X-A: a\r\n\t b\r\n" + TWO, b"{}"),
    "a folded coding": (OK + b"Transfer-Encoding:\r\n chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", b"{}"),
    "blanks and capitals": (OK + b"Transfer-Encoding: \tCHUNKED \r\n\r\n2 ;a=b\r\n{}\r\n0\r\n\r\n", b"{}"),
    "trailers": (CHUNKED + b"02\r\n{}\r\n000\r\nX-Sum: 1\r\n\r\n", b"{}"),
    "the same length twice": (OK + b"Content-Length: 2\r\n" + TWO, b"{}"),
    "8 bit in a value": (OK + b"X-A: \xc3\xa9\xff\r\n" + TWO, b"{}"),
    "lines of LF": (b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}", b"{}"),
}


@pytest.mark.parametrize("how", ["whole", "stream"])
@pytest.mark.parametrize("what", list(TAKEN))
def test_what_can_be_read_in_one_way_only(what: str, how: str, scripted: Scripted, connect: Connect) -> None:
    sent, content = TAKEN[what]
    server = scripted([read(), send(sent), read(), send(sent)])
    transport = connect(server)
    assert [_fetch(transport, how) for _ in range(2)] == [content] * 2
    assert server.connections == 1


def test_a_folded_header_is_one_line(scripted: Scripted, connect: Connect) -> None:
    server = scripted([read(), send(OK + b"X-Request-ID: a\r\n\t b\r\n \t\r\n c\r\n" + TWO)])
    assert connect(server).exchange(GET).request_id == "a b c"


def test_chunks_beside_a_length_end_the_connection(scripted: Scripted, connect: Connect) -> None:
    both = [read(), send(OK + b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n")]
    server = scripted(default=[*both, Peer.wait_for_close])
    transport = connect(server)
    assert [transport.exchange(GET).content for _ in range(2)] == [b"{}"] * 2
    assert server.connections == 2


@pytest.mark.parametrize("status", [b"204 No Content", b"204 No Content\r\nContent-Length: 2"])
def test_no_content_has_none_whatever_it_says(status: bytes, scripted: Scripted, connect: Connect) -> None:
    said = b"HTTP/1.1 " + status + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
    server = scripted(default=[read(), send(said), Peer.wait_for_close])
    transport = connect(server, timeout=5)
    assert [transport.exchange(GET).content for _ in range(2)] == [b""] * 2
    assert server.connections == 2, "what might still come must not be taken for the next answer"


def test_the_head_of_no_body(scripted: Scripted, connect: Connect) -> None:
    server = scripted([read(), send(CHUNKED), read(), send(OK + b"Content-Length: 7\r\n\r\n")])
    transport = connect(server)
    assert [transport.exchange(Request("HEAD", "/things")).content for _ in range(2)] == [b""] * 2


ENDLESS: Dict[str, Tuple[bytes, bytes]] = {
    "interim answers": (b"", b"HTTP/1.1 103 Early\r\nX-A: 1\r\n\r\n"),
    "a header": (OK + b"X-A: ", b"a"),
    "headers": (OK, b"X-A: 1\r\n"),
    "the size of a chunk": (CHUNKED, b"0"),
    "an extension": (CHUNKED + b"2;", b"a"),
    "trailers": (CHUNKED + b"0\r\n", b"X-A: 1\r\n"),
    "a trailer": (CHUNKED + b"0\r\n", b"a"),
}


# A connection that is not ours takes the first interim answer for the answer.
@pytest.mark.parametrize(
    "what, session",
    [
        (what, session)
        for what in ENDLESS
        for session in ("ours", "theirs")
        if (what, session) != ("interim answers", "theirs")
    ],
)
def test_what_does_not_end_is_cut_off(what: str, session: str, scripted: Scripted, connect: Connect) -> None:
    begin, again = ENDLESS[what]

    def flood(peer: Peer) -> None:
        peer.read_request()
        peer.send(begin)
        while True:
            peer.send(again * (65536 // len(again)))

    with requests.Session() as theirs:
        transport = connect(
            scripted(default=flood), max_retries=0, session=theirs if session == "theirs" else None, deadline=60
        )
        tracemalloc.start()
        try:
            with pytest.raises(APIConnectionError, match="not HTTP") as caught:
                transport.exchange(GET)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 8 * 2**20
        del caught


@pytest.mark.parametrize("what", ["a coding", "a coding of another name", "a negative chunk", "a chunk without bound"])
def test_on_a_session_of_theirs_as_well(what: str, scripted: Scripted, connect: Connect) -> None:
    server = scripted(default=[read(), send(REFUSED[what]), close()])
    with requests.Session() as theirs:
        transport = connect(server, session=theirs, max_retries=0)
        for how in ("whole", "stream"):
            with pytest.raises(APIConnectionError, match="not HTTP"):
                _fetch(transport, how)


@pytest.mark.parametrize(
    "head, connections", [(b"", 2), (b"Content-Length: 2\r\n", 1), (b"Transfer-Encoding: chunked\r\n", 1)]
)
def test_a_connection_is_not_kept_behind_a_head_that_says_no_length(
    head: bytes, connections: int, scripted: Scripted, connect: Connect
) -> None:
    def serve(peer: Peer) -> None:
        while True:
            method = peer.read_request().method
            peer.send(OK + (head + b"\r\n" if method == "HEAD" else TWO))

    server = scripted(default=serve)
    transport = connect(server, max_retries=0)
    assert transport.exchange(Request("HEAD", "/")).content == b""
    assert transport.exchange(GET).content == b"{}"
    assert server.connections == connections


@pytest.mark.parametrize("cut", range(len(CHUNKED), len(CHUNKED) + 6))
def test_a_size_that_is_cut_off_is_no_size(cut: int, scripted: Scripted, connect: Connect) -> None:
    sent = CHUNKED + b"02\r\n{}\r\n0\r\n\r\n"
    server = scripted(default=[read(), send(sent[:cut]), close()])
    with requests.Session() as theirs:
        for session in (None, theirs):
            with pytest.raises(APIConnectionError):
                connect(server, session=session, max_retries=0).exchange(GET)


def test_the_bounds_are_generous() -> None:
    assert framing_module.MAX_LINE * 16 <= framing_module.MAX_HEAD


def test_a_file_of_chunks_is_a_file(scripted: Scripted, connect: Connect) -> None:
    class File:
        size = 7

        def flush(self) -> Any:
            return "flushed"

        close = flush

    head = framing_module.Head(File())
    head.flush()
    head.close()
    assert framing_module.Chunks(File()).size == 7


# On a session of theirs


def test_theirs_reads_no_body_of_a_redirect(scripted: Scripted, connect: Connect) -> None:
    server = scripted(
        [
            read(),
            send(b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 99999999999\r\n\r\nx"),
            Peer.wait_for_close,
        ],
        [read(), send(OK + TWO)],
    )
    seen: List[Any] = []
    with requests.Session() as theirs:
        theirs.hooks["response"].append(lambda answer, *args, **kwargs: seen.append(answer.headers.get("Location")))
        assert connect(server, session=theirs, timeout=5).exchange(GET).json() == {}
    assert [request.target for request in server.requests] == ["/things?search=canary-of-the-query", "/x"]
    assert seen == ["/x", None], "their hooks see all of it"


def test_theirs_keeps_no_cookie(scripted: Scripted, connect: Connect) -> None:
    server = scripted([read(), send(OK + b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n" + TWO)])
    with requests.Session() as theirs:
        theirs.cookies.set("own", "kept")
        answer = connect(server, session=theirs).exchange(GET)
        assert theirs.cookies.get_dict() == {"own": "kept"}
    assert "a=1" in answer.headers["Set-Cookie"]
    assert server.requests[0].header("Cookie") is None


def test_theirs_may_read_ahead(scripted: Scripted, connect: Connect) -> None:
    class Ahead(HTTPAdapter):
        def send(self, request: Any, **options: Any) -> Any:  # type: ignore[override]
            answer = super().send(request, **options)
            assert answer.content == b"{}"
            return answer

    server = scripted([read(), send(CHUNKED + b"2\r\n{}\r\n0\r\n\r\n")])
    with requests.Session() as theirs:
        theirs.mount("http://", Ahead())
        assert connect(server, session=theirs).exchange(GET).json() == {}


def test_theirs_and_heads(scripted: Scripted, connect: Connect) -> None:
    server = scripted([read(), send(CHUNKED)])
    with requests.Session() as theirs:
        assert connect(server, session=theirs).exchange(Request("HEAD", "/things")).content == b""


# Compressed


@pytest.mark.parametrize(
    "coding", ["br", "zstd", "gzip, gzip", ", ".join(["gzip"] * 10), "gzip ", "x", "gzip, identity"]
)
@pytest.mark.parametrize("how", ["whole", "stream"])
def test_codings_that_nobody_asked_for(
    coding: str, how: str, scripted: Scripted, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(urllib3.HTTPResponse, "CONTENT_DECODERS", ["gzip", "x-gzip", "deflate"])
    server = scripted(default=[read(), send(OK + f"Content-Encoding: {coding}\r\n".encode() + TWO)])
    transport = connect(server, max_retries=0)
    with pytest.raises(APIConnectionError, match="compressed in a way that cannot be undone"):
        _fetch(transport, how)


@pytest.mark.parametrize("coding", ["identity", "GZIP", "x-gzip", "deflate", ""])
def test_codings_that_are_known(coding: str, scripted: Scripted, connect: Connect) -> None:
    body = {"identity": b"{}", "": b"{}", "deflate": zlib.compress(b"{}")}.get(coding, gzip.compress(b"{}"))
    head = OK + f"Content-Encoding: {coding}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    assert connect(scripted([read(), send(head + body)])).exchange(GET).content == b"{}"


def test_the_status_of_an_error_counts_whatever_its_coding(scripted: Scripted, connect: Connect) -> None:
    server = scripted([read(), send(b"HTTP/1.1 404 Not Found\r\nContent-Encoding: br\r\n" + TWO)])
    with pytest.raises(NotFoundError):
        connect(server).exchange(GET)


@pytest.mark.parametrize("how", ["whole", "stream"])
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_compressed_and_cut_off(coding: str, how: str, scripted: Scripted, connect: Connect) -> None:
    body = gzip.compress(b"{}" * 99) if coding == "gzip" else zlib.compress(b"{}" * 99)
    head = OK + f"Content-Encoding: {coding}\r\n".encode()
    server = scripted(default=[read(), send(head + b"\r\n" + body[:-9]), close()])
    with pytest.raises(APIConnectionError, match="broke off"):
        _fetch(connect(server, max_retries=0), how)
    for sound in (body, body + gzip.compress(b"") * (coding == "gzip"), body + b"\0rest" * (coding == "gzip"), b""):
        server = scripted([read(), send(head + b"Content-Length: %d\r\n\r\n" % len(sound) + sound)])
        assert _fetch(connect(server), how) == (b"{}" * 99 if sound else b"")


def test_chunks_that_a_session_of_theirs_does_not_understand(scripted: Scripted, connect: Connect) -> None:
    sent = OK + b"Transfer-Encoding: chunked \r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    with requests.Session() as theirs:
        transport = connect(scripted(default=[read(), send(sent), close()]), session=theirs, max_retries=0)
        with pytest.raises(APIConnectionError, match="not HTTP"):
            transport.exchange(GET)


@pytest.mark.parametrize("reason", ["UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION"])
def test_a_protocol_that_is_too_old_was_told_before_anything_was_sent(reason: str) -> None:
    error = ssl.SSLError(1, "x")
    error.reason = reason
    failure, raised = connection_error(error, "https://h", None)
    assert failure is Failure.FINAL
    assert "no secure connection" in str(raised)
