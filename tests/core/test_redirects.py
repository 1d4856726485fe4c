"""Redirects: followed within the origin where nothing changes, refused with what to do everywhere else."""

from __future__ import annotations

from typing import Any, Callable, Dict, Tuple

import pytest

from selfdb.core.exchange import MAX_REDIRECTS
from selfdb.core.request import Request
from selfdb.core.transport import Transport
from selfdb.core.upload import Upload
from selfdb.exceptions import APIConnectionError, APITimeoutError, RedirectError, SelfDBError
from tests.conftest import Tls
from tests.core.calls import GET, POST, reveals_nothing, sent_headers
from tests.servers.replies import ReplyServer
from tests.servers.scripted import ScriptedServer, read, stall

pytestmark = pytest.mark.usefixtures("lane")

STATUSES = (301, 302, 303, 307, 308)
HEAD = GET._replace(method="HEAD")
KEEPING = (307, 308)


def follows(status: int, request: Request) -> bool:
    return status in KEEPING or request.method in ("GET", "HEAD")


@pytest.mark.parametrize("request_", [GET, HEAD, POST], ids=["GET", "HEAD", "POST"])
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("absolute", [True, False], ids=["absolute", "relative"])
def test_c017_within_the_origin(
    absolute: bool,
    status: int,
    request_: Request,
    replies: Callable[..., ReplyServer],
    connect: Callable[..., Transport],
) -> None:
    server = replies([])
    target = (server.url if absolute else "") + "/moved/things/?page=2"
    server.replies += [(status, {"Location": target}, "moved"), (200, {}, {"found": True})]
    transport = connect(server)
    if follows(status, request_):
        transport.exchange(request_)
        assert server.lines[1] == f"{request_.method} /moved/things/?page=2"
        first, second = server.requests
        assert first.body == second.body, "it is the same request"
        assert sent_headers(first.headers) == sent_headers(second.headers)
    else:
        with pytest.raises(RedirectError, match=f"answered a POST with a {status} redirect; check base_url") as caught:
            transport.exchange(request_)
        assert caught.value.may_have_been_applied is (status in (302, 303)), "see there what came of it"
        assert (caught.value.attempts, caught.value.status_code) == (1, status)
        reveals_nothing(caught.value)
        server.replies.clear()
        assert len(server.requests) == 1


def other_origins(tls: Tls, replies: Callable[..., ReplyServer]) -> Dict[str, Tuple[ReplyServer, str]]:
    other = replies(lambda request: (200, {}, {}))
    secure = replies(lambda request: (200, {}, {}), tls=tls.server)
    return {
        "other port": (other, other.url),
        "other host": (other, other.url.replace("127.0.0.1", "localhost")),
        "other scheme": (secure, secure.url),
    }


@pytest.mark.parametrize("request_", [GET, HEAD, POST], ids=["GET", "HEAD", "POST"])
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("where", ["other port", "other host", "other scheme"])
def test_c017_another_origin_sees_nothing_of_ours(
    where: str,
    status: int,
    request_: Request,
    tls: Tls,
    replies: Callable[..., ReplyServer],
    connect: Callable[..., Transport],
) -> None:
    other, url = other_origins(tls, replies)[where]
    server = replies([(status, {"Location": f"{url}/secret-path?one-time=canary"}, "")])
    transport = connect(server, prefix="/api")
    with pytest.raises(RedirectError) as caught:
        transport.exchange(request_)
    error = caught.value
    assert isinstance(error, APIConnectionError)
    assert f"set base_url to {url}/api" in str(error), "it says what to do"
    assert "no key or token is sent there" in str(error)
    assert error.may_have_been_applied is (request_ is POST and status in (302, 303)), "see there what came of it"
    assert (error.method, error.path, error.attempts) == (request_.method, "/things", 1)
    reveals_nothing(error, "secret-path", "one-time")
    assert other.requests == []
    assert other.connections == 0


@pytest.mark.parametrize("status", STATUSES)
def test_c017_from_tls_to_plain_is_refused(
    status: int, tls: Tls, replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    plain = replies(lambda request: (200, {}, {}))
    server = replies([(status, {"Location": plain.url + "/"}, "")], tls=tls.server)
    with pytest.raises(RedirectError, match="no key or token"):
        connect(server, verify=tls.ca).exchange(GET)
    assert plain.connections == 0


def test_the_same_port_over_the_other_scheme_is_another_origin(
    tls: Tls, replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    server = replies([], tls=tls.server)
    server.replies.append((307, {"Location": server.url.replace("https", "http")}, ""))
    with pytest.raises(RedirectError, match="set base_url to http://"):
        connect(server, verify=tls.ca).exchange(GET)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", STATUSES)
def test_a_redirect_without_a_target_is_no_answer(
    status: int, replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    with pytest.raises(SelfDBError, match=f"answered {status}, which is no answer to this call") as caught:
        connect(replies([(status, {}, "")])).exchange(GET)
    assert caught.value.status_code == status


@pytest.mark.parametrize("status", [300, 304, 305, 306, 399])
@pytest.mark.parametrize("headers", [{}, {"Location": "/x"}])
def test_other_statuses_below_400_are_no_answer(
    status: int, headers: Dict[str, str], replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    server = replies([(status, headers, "")])
    with pytest.raises(SelfDBError, match="no answer to this call"):
        connect(server).exchange(GET)
    assert len(server.requests) == 1


@pytest.mark.parametrize("location", ["http://[", "mailto:x@y.example", "javascript:alert(1)", "http://h:port/", "//"])
def test_garbage_is_no_target(
    location: str, replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    server = replies(lambda request: (307, {"Location": location}, ""))
    with pytest.raises(RedirectError) as caught:
        connect(server).exchange(GET)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("user", ["ada@", "ada:canary@", "evil.example\\@", "@"])
def test_a_target_with_a_user_is_refused(
    user: str, replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    server = replies([])
    server.replies.append((307, {"Location": f"http://{user}127.0.0.1:{server.port}/"}, ""))
    with pytest.raises(RedirectError, match="user name in it") as caught:
        connect(server).exchange(GET)
    reveals_nothing(caught.value, "canary", "evil")
    assert len(server.requests) == 1


def test_a_loop_ends(replies: Callable[..., ReplyServer], connect: Callable[..., Transport]) -> None:
    server = replies(lambda request: (308, {"Location": "/things"}, ""))
    with pytest.raises(RedirectError, match="more than 5 times") as caught:
        connect(server).exchange(POST)
    assert len(server.requests) == MAX_REDIRECTS + 1 == caught.value.attempts


def test_as_many_as_are_allowed_are_followed(
    replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    server = replies([*[(307, {"Location": "next"}, "")] * MAX_REDIRECTS, (200, {}, [])])
    assert connect(server).exchange(GET).json() == []


def test_a_retry_goes_where_the_redirect_led(
    replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    server = replies([(307, {"Location": "/new"}, ""), (503, {}, ""), (200, {}, {})])
    connect(server).exchange(GET)
    assert server.lines == ["GET /things?search=canary-of-the-query", "GET /new", "GET /new"]


def test_redirects_are_within_the_deadline(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    def away(peer: Any) -> None:
        peer.read_request()
        peer.reply(307, b"", {"Location": "/slow", "Connection": "close"})

    server = scripted(away, [read(), stall()])
    with pytest.raises(APITimeoutError, match="the deadline"):
        connect(server, deadline=0.3).exchange(GET)


@pytest.mark.parametrize("status", STATUSES)
def test_a_body_that_cannot_be_sent_again_is_not_redirected(
    status: int, replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    server = replies([(status, {"Location": "/elsewhere"}, "")])
    with pytest.raises(RedirectError) as caught:
        connect(server).exchange(POST._replace(body=Upload(iter([b"once"]))))
    if status in KEEPING:
        assert "pass bytes, a path or a seekable file" in str(caught.value)
    assert len(server.requests) == 1


def test_a_body_that_can_is(replies: Callable[..., ReplyServer], connect: Callable[..., Transport]) -> None:
    server = replies([(307, {"Location": "/elsewhere"}, ""), (201, {}, {})])
    connect(server).exchange(POST._replace(body=Upload(b"twice")))
    assert [(request.line, request.body) for request in server.requests] == [
        ("POST /things", b"twice"),
        ("POST /elsewhere", b"twice"),
    ]
