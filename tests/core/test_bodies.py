"""Bodies that are read while they are sent: sent once, sent again where that is possible, or a typed error."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Callable, Iterator, List

import pytest
import urllib3

from selfdb.core.refusals import Refusals
from selfdb.core.tokens import Tokens
from selfdb.core.transport import Transport
from selfdb.core.upload import Upload
from selfdb.exceptions import (
    APIConnectionError,
    AuthenticationError,
    InternalServerError,
    InvalidRequestError,
    RateLimitError,
    RedirectError,
    SelfDBError,
)
from tests.core.calls import ACCESS, POST, REFRESH, HeldClock, reveals_nothing, sent_headers
from tests.servers.process import free_port
from tests.servers.replies import ReplyServer
from tests.servers.scripted import ScriptedServer, close, read, reply

FRESH = Tokens("fresh-access-token", "fresh-refresh-token")


def sending(data: Any, progress: Any = None) -> Any:
    return POST._replace(body=Upload(data, progress), content_type="application/octet-stream")


def once(*blocks: bytes) -> Iterator[bytes]:
    yield from blocks


class Renewer:
    """Gives a fresh pair and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked: List[Any] = []

    def __call__(self, transport: Transport, refresh: str, deadline: Any) -> Tokens:
        self.asked.append((refresh, deadline.seconds))
        return FRESH


@pytest.mark.parametrize(
    ("data", "announced"),
    [
        (b"some bytes", "10"),
        ("some bytes", "10"),
        (b"", "0"),
        (io.BytesIO(b"some bytes"), "10"),
        (io.BytesIO(b""), "0"),
        (once(b"some ", b"bytes"), None),
        (once(), None),
    ],
)
def test_bodies_arrive_whole(
    data: Any, announced: Any, replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    server = replies([(201, {}, {})])
    connect(server).exchange(sending(data))
    (request,) = server.requests
    assert request.body in (b"some bytes", b"")
    assert request.header("Content-Length") == announced
    assert request.header("Transfer-Encoding") == (None if announced else "chunked")
    assert request.header("Content-Type") == "application/octet-stream"
    assert len(request.body) == int(announced or len(request.body))


def test_a_write_without_a_body_says_so(replies: Callable[..., ReplyServer], connect: Callable[..., Transport]) -> None:
    server = replies([(204, {}, ""), (204, {}, "")])
    transport = connect(server)
    transport.exchange(POST._replace(body=None))
    transport.exchange(POST._replace(body=b"{}", content_type="application/json"))
    assert [sent_headers(request.headers)["content-length"] for request in server.requests] == ["0", "2"]


@pytest.mark.parametrize("status", [429, 502])
def test_a_body_that_can_be_read_again_is_sent_again(
    status: int, tmp_path: Path, replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    for data in (b"content", path, io.BytesIO(b"content")):
        server = replies([(status, {}, ""), (200, {"Idempotency-Key": "k"}, {}), (201, {}, {})])
        transport = connect(server)
        transport.pool.acknowledges_keys = True
        transport.exchange(sending(data)._replace(idempotency_key="k"))
        assert [request.body for request in server.requests] == [b"content", b"content"]


def test_a_body_that_cannot_is_sent_once(
    replies: Callable[..., ReplyServer], scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    busy = replies(lambda request: (429, {"Retry-After": "0"}, {}))
    with pytest.raises(RateLimitError) as caught:
        connect(busy).exchange(sending(once(b"x")))
    assert caught.value.attempts == 1 == len(busy.requests)
    gateway = replies(lambda request: (502, {}, {}))
    transport = connect(gateway)
    transport.pool.acknowledges_keys = True
    with pytest.raises(InternalServerError):
        transport.exchange(sending(once(b"x"))._replace(idempotency_key="k"))
    assert len(gateway.requests) == 1
    dead = scripted(default=[read(), close()])
    transport = connect(dead)
    transport.pool.acknowledges_keys = True
    with pytest.raises(APIConnectionError, match="may have been applied"):
        transport.exchange(sending(once(b"x"))._replace(idempotency_key="k"))
    assert len(dead.requests) == 1


def test_a_body_that_was_not_touched_may_still_be_sent(
    connect: Callable[..., Transport],
) -> None:
    data = once(b"x")
    with pytest.raises(APIConnectionError, match="refused the connection") as caught:
        connect(f"http://127.0.0.1:{free_port()}").exchange(sending(data))
    assert caught.value.attempts == 3
    assert list(data) == [b"x"]


# A session that ends


def test_a_401_in_the_middle_says_what_to_do(
    replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    server = replies([(401, {}, {"detail": "Could not validate credentials"})])
    renewer = Renewer()
    with pytest.raises(AuthenticationError, match="in the middle of a body that cannot be sent again") as caught:
        connect(server, renewer=renewer).exchange(sending(once(b"x")))
    assert caught.value.status_code == 401
    assert (caught.value.method, caught.value.attempts) == ("POST", 1)
    assert renewer.asked == []
    assert len(server.requests) == 1
    reveals_nothing(caught.value)


@pytest.mark.parametrize("fails", [False, True])
def test_a_401_in_the_middle_is_the_backends_own_where_it_says_so(
    replies: Callable[..., ReplyServer], connect: Callable[..., Transport], fails: bool
) -> None:
    class Own(Refusals):
        hides_failed_renewal = True

    def refuse(*_: Any) -> Tokens:
        raise InternalServerError("later", 503)

    server = replies([(401, {}, {"detail": "no more"})])
    renewer = Renewer()
    transport = connect(server, renewer=refuse if fails else renewer)
    transport.refusals = Own()
    with pytest.raises(AuthenticationError, match="no more") as caught:
        transport.exchange(sending(once(b"x")))
    assert caught.value.attempts == 1
    assert len(server.requests) == 1
    assert (len(renewer.asked), transport.keeper.current() == FRESH) == ((0, False) if fails else (1, True))


def test_a_401_of_a_body_that_can_be_sent_again_is_renewed(
    replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    server = replies([(401, {}, {}), (201, {}, {})])
    renewer = Renewer()
    assert connect(server, renewer=renewer).exchange(sending(b"x")).status_code == 201
    assert renewer.asked == [(REFRESH, 60.0)], "a body has no deadline, the renewal has"
    assert [request.header("Authorization") for request in server.requests] == [
        f"Bearer {ACCESS}",
        f"Bearer {FRESH.access}",
    ]
    assert [request.body for request in server.requests] == [b"x", b"x"]


def _jwt(expires: float) -> str:
    import base64
    import json

    claims = base64.urlsafe_b64encode(json.dumps({"exp": expires}).encode()).rstrip(b"=").decode()
    return f"e30.{claims}.c2ln"


@pytest.mark.parametrize(("left", "renewed"), [(-100, True), (0, True), (29, True), (31, False), (3600, False)])
def test_a_token_that_is_about_to_end_is_renewed_before_such_a_body(
    left: float,
    renewed: bool,
    replies: Callable[..., ReplyServer],
    connect: Callable[..., Transport],
) -> None:
    clock = HeldClock()
    access = _jwt(clock.time() + left)
    server = replies([(201, {}, {}), (201, {}, {})])
    renewer = Renewer()
    transport = connect(server, renewer=renewer, tokens=Tokens(access, REFRESH), clock=clock)
    transport.exchange(sending(b"again"))
    assert renewer.asked == [], "a body that can be sent again needs no such care"
    transport.exchange(sending(once(b"x")))
    assert len(renewer.asked) == int(renewed)
    used = server.requests[1].header("Authorization")
    assert used == f"Bearer {FRESH.access if renewed else access}"


@pytest.mark.parametrize("tokens", [None, Tokens(_jwt(0))])
def test_without_a_way_to_renew_none_is_tried(
    tokens: Any, replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    server = replies([(201, {}, {}), (201, {}, {})])
    renewer = Renewer()
    connect(server, renewer=renewer, tokens=tokens).exchange(sending(once(b"x")))
    connect(server, tokens=Tokens(_jwt(0), REFRESH)).exchange(sending(once(b"x"))._replace(renewable=False))
    assert renewer.asked == []


# A 401 of any other call


def test_a_401_is_answered_by_one_renewal_and_one_replay(
    replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    server = replies([(401, {}, {}), (200, {}, {}), (401, {}, {"detail": "still not"})])
    renewer = Renewer()
    transport = connect(server, renewer=renewer, deadline=7)
    assert transport.exchange(POST).status_code == 200
    assert len(renewer.asked) == 1
    seconds = renewer.asked[0][1]
    assert seconds == 7, "the renewal is part of the call"
    transport.renewer = None
    with pytest.raises(AuthenticationError, match="still not"):
        transport.exchange(POST)


def test_a_second_401_is_the_answer(replies: Callable[..., ReplyServer], connect: Callable[..., Transport]) -> None:
    server = replies(lambda request: (401, {}, {"detail": "never"}))
    renewer = Renewer()
    with pytest.raises(AuthenticationError, match="never") as caught:
        connect(server, renewer=renewer).exchange(POST)
    assert caught.value.attempts == 2 == len(server.requests)
    assert len(renewer.asked) == 1


@pytest.mark.parametrize("change", [{"renewable": False}, {"bearer": False}])
def test_some_calls_are_never_renewed(
    change: Any, replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    server = replies([(401, {}, {})])
    renewer = Renewer()
    with pytest.raises(AuthenticationError):
        connect(server, renewer=renewer).exchange(POST._replace(**change))
    assert renewer.asked == []


def test_a_renewal_that_gives_nothing_new_is_no_reason_to_ask_again(
    replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    server = replies([(401, {}, {"detail": "no"}), (401, {}, {"detail": "no"})])
    same = connect(server, renewer=lambda *arguments: Tokens(ACCESS, REFRESH))
    with pytest.raises(AuthenticationError):
        same.exchange(POST)

    def refuse(*arguments: Any) -> Tokens:
        raise AuthenticationError("revoked", 401)

    refused = connect(server, renewer=refuse)
    with pytest.raises(AuthenticationError, match="no"):
        refused.exchange(POST)
    assert refused.keeper.current() is None
    assert len(server.requests) == 2


# What the source or the caller raises


class Theirs(Exception):
    """Of the program that uses us."""


@pytest.mark.parametrize("kind", [Theirs, OSError, BrokenPipeError, ConnectionResetError, TimeoutError, ValueError])
def test_what_the_source_raises_comes_out_unchanged(
    kind: Any, scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    reason, earlier = KeyError("why"), RuntimeError("earlier")

    def source() -> Iterator[bytes]:
        yield b"x" * 1000
        try:
            raise earlier
        except RuntimeError:
            raise kind("theirs") from reason

    server = scripted(default=[read()])
    with pytest.raises(kind, match="theirs") as caught:
        connect(server).exchange(sending(source()))
    assert not isinstance(caught.value, SelfDBError)
    assert caught.value.__cause__ is reason
    assert caught.value.__context__ is earlier, "the way through the HTTP stack does not show"
    assert server.connections <= 1


@pytest.mark.parametrize("kind", [Theirs, OSError, BrokenPipeError])
def test_what_progress_raises_comes_out_unchanged(
    kind: Any, scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    def progress(done: int, total: Any) -> None:
        raise kind("enough")

    server = scripted(default=[read()])
    with pytest.raises(kind, match="enough"):
        connect(server).exchange(sending(b"x" * 10, progress))


def test_an_answer_to_half_a_body_is_not_an_answer(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    """A source that fails with what looks like the peer's going, while the peer has answered already."""

    def source() -> Iterator[bytes]:
        yield b"x" * 10
        server.wait_for(requests=1)
        raise BrokenPipeError("the pipe that it reads from")

    server = scripted(default=[read(body=False), reply(201, b"{}"), lambda peer: peer.wait_for_close()])
    with pytest.raises(BrokenPipeError, match="that it reads from"):
        connect(server).exchange(sending(source()))


def test_a_source_that_is_interrupted_interrupts(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    def source() -> Iterator[bytes]:
        yield b"x"
        raise KeyboardInterrupt

    server = scripted([read()], [read(), reply(200, b'"mine"')])
    transport = connect(server)
    with pytest.raises(KeyboardInterrupt):
        transport.exchange(sending(source()))
    assert transport.exchange(POST).json() == "mine"


def test_a_file_that_is_gone_is_the_callers_error(
    tmp_path: Path, scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    request = sending(path)
    path.unlink()
    server = scripted()
    with pytest.raises(FileNotFoundError):
        connect(server).exchange(request)
    assert server.connections == 0


def test_a_file_that_shrinks_is_said(
    tmp_path: Path, scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    request = sending(path)
    path.write_bytes(b"con")
    with pytest.raises(InvalidRequestError, match="ended after 3 of 7 bytes"):
        connect(scripted(default=[read()])).exchange(request)


# Early answers


@pytest.mark.parametrize("status", [413, 403, 401])
def test_an_early_answer_is_the_answer(
    status: int, scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    """The server refuses at the head and stops reading: its answer counts, not the broken pipe."""

    def refuse(peer: Any) -> None:
        peer.read_request(body=False)
        peer.reply(status, b'{"detail": "too much"}', {"Connection": "close"})
        peer.half_close()
        peer.wait_for_close()  # reads on, as a good server does, so that the answer is not lost to a reset

    server = scripted(default=refuse)
    with pytest.raises(SelfDBError, match="too much") as caught:
        connect(server).exchange(sending(b"x" * 8 * 1024 * 1024))
    assert caught.value.status_code == status
    assert caught.value.attempts == 1


def test_an_early_answer_before_a_broken_pipe_is_the_answer(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = scripted(default=[read(body=False), reply(413, b'{"detail": "too much"}'), lambda p: p.wait_for_close()])
    real = urllib3.connection.HTTPConnection.send
    sent: List[int] = []

    def broken(self: Any, data: Any) -> None:
        sent.append(len(data))
        if len(sent) > 2:
            raise BrokenPipeError("gone")
        real(self, data)

    monkeypatch.setattr(urllib3.connection.HTTPConnection, "send", broken)
    with pytest.raises(SelfDBError, match="too much") as caught:
        connect(server).exchange(sending(b"x" * 1024 * 1024))
    assert caught.value.status_code == 413


def test_a_redirect_in_the_middle_is_typed(
    replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    server = replies([(307, {"Location": "/elsewhere"}, "")])
    with pytest.raises(RedirectError, match="in the middle of a body"):
        connect(server).exchange(sending(once(b"x")))


def test_a_session_is_not_renewed_where_nobody_can(connect: Callable[..., Transport]) -> None:
    transport = connect("http://127.0.0.1:9")
    transport.keeper.set(Tokens("access", "refresh"))
    transport.renewer = None
    assert transport.renew("access") is None
    assert transport.keeper.current() == Tokens("access", "refresh")
