"""Answers of every shape: interim ones, empty ones, chunked and compressed ones, and those that are too large."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
from typing import Any, Callable, Dict, Optional

import pytest

from selfdb.core import exchange as exchange_module
from selfdb.core.clock import Deadline
from selfdb.core.request import Request
from selfdb.core.response import RawResponse, Response
from selfdb.core.stream import Stream
from selfdb.core.transport import Transport
from selfdb.exceptions import APIConnectionError, APITimeoutError, NotFoundError, ResponseTooLargeError, SelfDBError
from tests.core.calls import API_KEY, GET, POST, HeldClock, reveals_nothing
from tests.servers.replies import ReplyServer
from tests.servers.scripted import ScriptedServer, close, drip, read, reply, send, stall

pytestmark = pytest.mark.usefixtures("lane")

SMALL = 64 * 1024


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange_module, "MAX_ANSWER", SMALL)


def chunked(*chunks: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


INTERIM = (
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 102 Processing\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
)


def test_interim_answers_are_passed_over(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    final = reply(200, b'"second"')
    server = scripted([read(), send(b"".join(INTERIM)), reply(200, b'"first"'), read(), send(INTERIM[2]), final])
    transport = connect(server)
    assert transport.exchange(POST).json() == "first"
    assert transport.exchange(GET).json() == "second"
    assert server.connections == 1


def test_a_change_of_protocol_is_no_answer(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted([read(), send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x00")])
    with pytest.raises(SelfDBError, match="answered 101, which is no answer"):
        connect(server).exchange(GET)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 299])
def test_every_status_of_success_is_one(
    status: int, scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted([read(), reply(status, b"", {"X-Request-ID": "r-1"}), read(), reply(200, b"{}")])
    transport = connect(server)
    answer = transport.exchange(POST)
    assert (answer.status_code, answer.content, answer.request_id) == (status, b"", "r-1")
    transport.exchange(GET)
    assert server.connections == 1, "an answer without a body leaves the connection in order"


def test_head_has_no_body_whatever_it_announces(
    small_limit: None, scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted([read(), reply(200, length=10 * SMALL), read(), reply(200, b"{}")])
    transport = connect(server)
    assert transport.exchange(Request("HEAD", "/big")).headers["content-length"] == str(10 * SMALL)
    assert transport.exchange(GET).json() == {}
    assert server.connections == 1


def test_chunked_answers(scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]) -> None:
    server = scripted([read(), send(chunked(b'{"a"', b":", b"1}")), read(), send(chunked())])
    transport = connect(server)
    assert transport.exchange(GET).json() == {"a": 1}
    assert transport.exchange(GET).content == b""
    assert server.connections == 1


def test_answers_that_end_with_the_connection(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted([read(), send(b"HTTP/1.0 200 OK\r\n\r\n[1,2]"), close()])
    assert connect(server).exchange(GET).json() == [1, 2]


@pytest.mark.parametrize("headers", [{"Content-Encoding": "gzip"}, {"Content-Encoding": "x-gzip"}])
def test_compressed_answers(
    headers: Dict[str, str], scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    text = json.dumps(["x" * 1000] * 100).encode()
    server = scripted([read(), reply(200, gzip.compress(text), headers)])
    assert connect(server).exchange(GET).content == text
    assert "gzip" in (server.requests[0].header("Accept-Encoding") or "")


@pytest.mark.parametrize("length", ["2", "2 ", "2, 2", "02"])
def test_lengths_that_can_be_read_in_one_way_only(
    length: str, scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted([read(), reply(200, b"{}", {"Content-Length": length}), read(), reply(200, b"[]")])
    transport = connect(server)
    assert transport.exchange(GET).json() == {}
    assert transport.exchange(GET).json() == [], "the connection serves on, so no byte more was read"


@pytest.mark.parametrize("length", ["\xb2", "-1", "x", "", "+2", "2_0", "0x2", "2, 3", "2;2", "9" * 5000])
def test_lengths_that_are_none_are_refused(
    length: str, scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted(default=[read(), reply(200, b"{}", {"Content-Length": length}), close()])
    with pytest.raises(APIConnectionError, match="not HTTP"):
        connect(server).exchange(GET)


# Size


def test_an_answer_up_to_the_limit_is_read(
    small_limit: None, scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    body = b"x" * SMALL
    server = scripted([read(), reply(200, body), read(), send(chunked(body))])
    transport = connect(server)
    assert transport.exchange(GET).content == body
    assert transport.exchange(GET).content == body


BOMB = gzip.compress(b"0" * (20 * 1024 * 1024))


@pytest.mark.parametrize(
    "step",
    [
        reply(200, length=SMALL + 1),
        send(chunked(*[b"x" * 4096] * 17)),
        reply(200, b"x" * (3 * SMALL), {"Transfer-Encoding": "identity", "Connection": "close"}),
        reply(200, BOMB, {"Content-Encoding": "gzip"}),
        reply(404, length=SMALL + 1),
        reply(500, BOMB, {"Content-Encoding": "gzip"}),
    ],
    ids=["announced", "chunked", "to the end", "bomb", "error", "bomb in an error"],
)
@pytest.mark.parametrize("request_", [GET, POST], ids=["GET", "POST"])
def test_a_larger_one_is_refused_with_what_to_do(
    step: Any,
    request_: Request,
    small_limit: None,
    scripted: Callable[..., ScriptedServer],
    connect: Callable[..., Transport],
) -> None:
    server = scripted([read(), step, lambda peer: peer.wait_for_close()])
    transport = connect(server)
    tracemalloc.start()
    try:
        with pytest.raises(ResponseTooLargeError, match="ask for less") as caught:
            transport.exchange(request_)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(server.requests) == 1, "more of the same would be as large"
    assert caught.value.status_code in (200, 404, 500)
    assert (caught.value.method, caught.value.path) == (request_.method, "/things")
    assert peak < 12 * 1024 * 1024, "a bomb is not unpacked beyond the limit"
    reveals_nothing(caught.value)


def test_after_one_that_was_too_large_the_next_call_gets_its_own_answer(
    small_limit: None, scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted([read(), reply(200, b"x" * (SMALL + 1))], [read(), reply(200, b'"mine"')])
    transport = connect(server)
    with pytest.raises(ResponseTooLargeError):
        transport.exchange(GET)
    assert transport.exchange(GET).json() == "mine"


# Answers of 400 and above


def test_the_status_counts_even_if_its_explanation_breaks_off(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted([read(), reply(404, b'{"detail": "no su', length=100), close()])
    with pytest.raises(NotFoundError, match="HTTP 404") as caught:
        connect(server).exchange(POST)
    assert caught.value.response_body is None
    assert len(server.requests) == 1


def test_the_deadline_counts_for_the_explanation_too(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted([read(), reply(404, b"{", length=100), stall()])
    with pytest.raises(APITimeoutError, match=r"the deadline of 0\.3 s"):
        connect(server, deadline=0.3).exchange(GET)


def test_errors_say_what_the_operator_needs(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted([read(), reply(404, b'{"detail": "no such thing"}', {"X-Request-ID": "r-9"})])
    with pytest.raises(NotFoundError) as caught:
        connect(server).exchange(GET)
    error = caught.value
    assert error.message == "no such thing"
    assert str(error) == "[404] no such thing; it is not there, or you may not see it (GET /things)"
    assert (error.request_id, error.attempts, error.status_code) == ("r-9", 1, 404)
    assert error.response_body == {"detail": "no such thing"}
    assert error.__cause__ is None
    reveals_nothing(error)


def test_secrets_that_a_server_echoes_are_not_shown(
    replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    def echo(request: Any) -> Any:
        return 418, {}, {"detail": f"I got {dict(request.headers)} and {request.body.decode()}"}

    transport = connect(replies(echo))
    with pytest.raises(SelfDBError, match=r"I got .*\*\*\*") as caught:
        transport.exchange(POST)
    reveals_nothing(caught.value)
    with pytest.raises(SelfDBError) as caught:
        transport.exchange(POST._replace(keep_body=False))
    assert caught.value.response_body is None
    reveals_nothing(caught.value)


def test_a_store_that_cannot_be_read_does_not_hide_the_error_at_hand(
    replies: Callable[..., ReplyServer], connect: Callable[..., Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable() -> None:
        raise SelfDBError("the session file cannot be read")

    transport = connect(replies([(418, {}, {"detail": f"not for {API_KEY}"})]))
    monkeypatch.setattr(transport.keeper, "current", unreadable)
    with pytest.raises(SelfDBError, match=r"not for \*\*\*"):
        transport.exchange(GET._replace(bearer=False))


# Answers as objects


def test_a_response_tells_how_long_all_of_it_took(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted([read(), close()], [read(), reply(200, b"{}")])
    answer = connect(server).exchange(GET)
    assert 0.25 <= answer.elapsed < 5, "the wait between the attempts is part of it"
    assert repr(answer) == "<Response 200, 2 bytes>"


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("content", [b"<html>canary</html>", b"", b"\xff\xfe{", b"[" * 100_000])
def test_an_answer_that_is_not_json(content: bytes, private: bool) -> None:
    response = Response(200, {"X-Request-ID": "r"}, content, 0.1, "GET", "/x", private)
    with pytest.raises(SelfDBError, match="is not the JSON that was promised; is base_url") as caught:
        response.json()
    kept: Optional[str] = content[:2048].decode("utf-8", "replace") or None
    assert caught.value.response_body == (None if private else kept)
    assert (caught.value.status_code, caught.value.request_id) == (200, "r")
    assert caught.value.__cause__ is None


def test_a_raw_response_parses_like_the_call_itself() -> None:
    raw = RawResponse(Response(201, {"A": "b"}, b"[3]", 0.5, "POST", "/x", True), lambda answer: answer.json()[0])
    assert raw.parse() == 3
    assert (raw.status_code, raw.headers, raw.content, raw.elapsed) == (201, {"A": "b"}, b"[3]", 0.5)
    assert (raw.method, raw.path, raw.private, raw.request_id) == ("POST", "/x", True, None)
    assert repr(raw) == "<RawResponse 201, 3 bytes>"


# Streams


def test_a_stream_is_read_piece_by_piece(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted([read(), reply(206, b"0123456789", {"ETag": '"e"'}), read(), reply(200, b"{}")])
    transport = connect(server)
    stream = transport.open(GET)
    assert (stream.status_code, stream.headers["etag"]) == (206, '"e"')
    assert stream.read(4) == b"0123"
    assert stream.read(100) == b"456789"
    assert stream.read(1) == b""
    stream.close()
    transport.exchange(GET)
    assert server.connections == 1, "a stream that was read to its end gives its connection back"


def test_a_stream_that_is_left_early_closes_its_connection(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted([read(), reply(200, b"half", length=100), stall()], [read(), reply(200, b'"mine"')])
    transport = connect(server)
    stream = transport.open(GET)
    assert stream.read(4) == b"half"
    stream.close()
    assert transport.exchange(GET).json() == "mine"
    assert server.connections == 2


def test_a_stream_that_breaks_off_says_so(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted([read(), reply(200, b"half", length=100), close()])
    stream = connect(server).open(GET)
    with pytest.raises(APIConnectionError, match="broke off before its end") as caught:
        while stream.read(1000):
            pass
    assert caught.value.__cause__ is not None
    assert (caught.value.method, caught.value.path, caught.value.attempts) == ("GET", "/things", 1)
    reveals_nothing(caught.value)
    del caught


def test_a_stream_that_pauses_too_long_times_out(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted(default=[read(), reply(200, b"half", length=100), stall()])
    stream = connect(server, timeout=(5, 0.1)).open(GET)
    with pytest.raises(APITimeoutError):
        while stream.read(1000):
            pass


def test_a_stream_may_have_a_deadline(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted([read(), reply(200, b"half", length=4000), drip(b"x" * 4000, every=0.002)])
    clock = HeldClock()
    stream = connect(server, stream_deadline=60, clock=clock).open(GET)
    with pytest.raises(APITimeoutError):
        while stream.read(1):
            clock.advance(1)
    assert clock.monotonic() == HeldClock.now + 60


def test_a_stream_past_its_deadline_reads_no_more() -> None:
    class Answer:
        status_code, closed = 200, False
        headers: Dict[str, str] = {}
        raw = io.BytesIO(b"more")

        def close(self) -> None:
            self.closed = True

    clock, answer = HeldClock(), Answer()
    stream = Stream(answer, Deadline(5, clock), "http://h", GET)  # type: ignore[arg-type]
    clock.advance(5)
    with pytest.raises(APITimeoutError):
        stream.read(1)
    assert answer.closed


def test_a_stream_may_be_part_of_a_longer_call(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    clock = HeldClock()
    deadline = Deadline(5, clock)
    server = scripted([read(), reply(200, b"body")])
    transport = connect(server, clock=clock)
    stream = transport.open(GET, deadline)
    clock.advance(5)
    with pytest.raises(APITimeoutError):
        stream.read(1)
    with pytest.raises(APITimeoutError, match="the deadline of 5 s"):
        transport.open(GET, deadline)


def test_opening_a_stream_retries_as_every_call_does(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted(
        [read(), close()], [read(), reply(503, b"", {"Connection": "close"})], [read(), reply(200, b"body")]
    )
    assert connect(server).open(GET).read(10) == b"body"
    refusing = scripted([read(), reply(404, b'{"detail": "gone"}')])
    with pytest.raises(NotFoundError, match="gone"):
        connect(refusing).open(GET)
