"""A `requests.Session` of the user's: its adapters, hooks and headers count, its errors are ours, it stays open."""

from __future__ import annotations

import gc
import time
import weakref
from typing import Any, Callable, Dict, Iterator, List

import pytest
import requests
import requests_mock as mocker_module
import responses as responses_module
from requests.adapters import HTTPAdapter

from selfdb.core.transport import Transport
from selfdb.exceptions import (
    APIConnectionError,
    APITimeoutError,
    InvalidRequestError,
    NotFoundError,
    RedirectError,
    ResponseTooLargeError,
)
from tests.core.calls import ACCESS, API_KEY, GET, POST, SkippingClock, reveals_nothing
from tests.servers.process import free_port
from tests.servers.replies import ReplyServer
from tests.servers.scripted import ScriptedServer, answer, close, drip, read, reply, reset, send, stall


@pytest.fixture
def theirs() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


def test_it_is_used_and_stays_open(
    theirs: requests.Session, replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    server = replies([(200, {}, {}), (200, {}, {})])
    theirs.headers["X-Theirs"] = "yes"
    closed: List[bool] = []
    theirs.close = lambda: closed.append(True)  # type: ignore[method-assign]
    transport = connect(server, session=theirs)
    transport.exchange(GET)
    transport.pool.close()
    assert closed == []
    assert server.requests[0].header("X-Theirs") == "yes"
    assert server.requests[0].header("X-API-Key") == API_KEY
    assert server.requests[0].header("Authorization") == f"Bearer {ACCESS}"
    assert theirs.get(server.url).status_code == 200
    del theirs.close
    assert "X-API-Key" not in theirs.headers


def test_its_adapters_are_used(
    theirs: requests.Session, replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    seen: List[Any] = []

    class Theirs(HTTPAdapter):
        def send(self, request: Any, **options: Any) -> Any:  # type: ignore[override]
            seen.append((request.method, options["timeout"], options["stream"]))
            return super().send(request, **options)

    theirs.mount("http://", Theirs())
    connect(replies([(200, {}, {})]), session=theirs, timeout=(3, 4)).exchange(GET)
    assert seen == [("GET", (3.0, 4.0), True)]


def test_its_hooks_see_each_attempt(
    theirs: requests.Session, replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    seen: List[int] = []

    def note(answer: requests.Response, *args: Any, **kwargs: Any) -> None:
        seen.append(answer.status_code)

    theirs.hooks["response"].append(note)
    connect(replies([(503, {}, {}), (200, {}, {})]), session=theirs).exchange(GET)
    assert seen == [503, 200]


def test_a_hook_that_raises_for_statuses_changes_nothing(
    theirs: requests.Session, replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    theirs.hooks["response"].append(lambda answer, *args, **kwargs: answer.raise_for_status())
    server = replies([(404, {}, {"detail": "no such thing"}), (503, {}, {}), (200, {}, {"a": 1})])
    transport = connect(server, session=theirs)
    with pytest.raises(NotFoundError, match="no such thing"):
        transport.exchange(POST)
    assert transport.exchange(GET).json() == {"a": 1}


def test_who_stands_in_between_and_keeps_an_error_keeps_no_connection(
    replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    kept: List[Any] = []

    class Instrumented(requests.Session):
        def send(self, request: Any, **options: Any) -> Any:  # type: ignore[override]
            try:
                super().send(request, **options)
            except requests.HTTPError as raised:
                error = raised  # as instrumentations do: the frame holds the error, whose traceback holds the frame
                kept.append(weakref.ref(error))
                raise error.with_traceback(error.__traceback__) from None

    server = replies([(404, {}, {"detail": "no such thing"})])
    gc.disable()
    try:
        with Instrumented() as session:
            session.hooks["response"].append(lambda answer, *args, **kwargs: answer.raise_for_status())
            with pytest.raises(NotFoundError):
                connect(server, session=session).exchange(GET)
        assert [ref() for ref in kept] == [None]
    finally:
        gc.enable()


def test_an_http_error_without_an_answer_is_a_failure(
    theirs: requests.Session, replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    def fail(answer: requests.Response, *args: Any, **kwargs: Any) -> None:
        raise requests.HTTPError("by their own judgement")

    theirs.hooks["response"].append(fail)
    server = replies([(200, {}, {})])
    with pytest.raises(APIConnectionError) as caught:
        connect(server, session=theirs).exchange(POST)
    assert caught.value.may_have_been_applied is True
    assert isinstance(caught.value.__cause__, requests.HTTPError)
    del caught


FAULTS: Dict[str, Any] = {
    "reset": [read(), reset()],
    "end": [read(), close()],
    "truncated": [read(), reply(200, b"{", length=9), close()],
    "not HTTP": [read(), send(b"SSH-2.0-x\r\n"), close()],
    "two lengths": [read(), reply(200, b"{}", {"Content-Length": "2, 3"}), close()],
    "garbage gzip": [read(), reply(200, b"no", {"Content-Encoding": "gzip", "Connection": "close"})],
    "broken chunk": [read(), send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), close()],
    "never": [read(), stall()],
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_its_failures_are_ours(
    fault: str, theirs: requests.Session, scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted(default=FAULTS[fault])
    transport = connect(server, session=theirs, timeout=(5, 0.2 if fault == "never" else 15))
    with pytest.raises(APIConnectionError) as caught:
        transport.exchange(POST)
    error = caught.value
    assert isinstance(error, APITimeoutError) is (fault == "never")
    server.wait_for(requests=1)
    assert len(server.requests) == 1, "a write is never sent twice"
    assert error.may_have_been_applied is True
    assert error.__cause__ is not None
    reveals_nothing(error)
    del caught, error
    with pytest.raises(APIConnectionError) as caught:
        transport.exchange(GET)
    assert caught.value.attempts == 3
    del caught


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}", "https://127.0.0.1:{port}"])
def test_its_refused_connections_are_tried_again(
    url: str, theirs: requests.Session, connect: Callable[..., Transport]
) -> None:
    with pytest.raises(APIConnectionError, match="refused the connection") as caught:
        connect(url.format(port=free_port()), session=theirs).exchange(POST)
    assert not isinstance(caught.value, APITimeoutError)
    assert caught.value.attempts == 3
    assert caught.value.may_have_been_applied is False
    reveals_nothing(caught.value)


def test_a_url_that_it_refuses_is_a_wrong_argument(theirs: requests.Session, connect: Callable[..., Transport]) -> None:
    with pytest.raises(InvalidRequestError, match="not valid"):
        connect("http://*.example", session=theirs).exchange(POST)
    theirs.headers["X-Theirs"] = "canary\r\nX-Evil: 1"
    with pytest.raises(InvalidRequestError, match="not valid"):
        connect("http://127.0.0.1:9", session=theirs).exchange(POST)


def test_the_deadline_is_checked_between_its_reads(
    theirs: requests.Session, scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    body = b"".join(b"10000\r\n" + b"x" * 65536 + b"\r\n" for _ in range(100))
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    server = scripted([read(), send(head), drip(body, 65545, every=0.05)])
    begun = time.monotonic()
    with pytest.raises(APITimeoutError, match="the deadline") as caught:
        connect(server, session=theirs, deadline=0.5).exchange(GET)
    assert time.monotonic() - begun < 4
    del caught


def test_the_deadline_bounds_each_of_its_waits(
    theirs: requests.Session, scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted(default=[read(), stall()])
    begun = time.monotonic()
    with pytest.raises(APITimeoutError, match=r"the deadline of 0\.3 s"):
        connect(server, session=theirs, deadline=0.3).exchange(GET)
    assert time.monotonic() - begun < 3


def test_its_answers_are_limited_too(
    theirs: requests.Session,
    replies: Callable[..., ReplyServer],
    connect: Callable[..., Transport],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("selfdb.core.exchange.MAX_ANSWER", 10)
    with pytest.raises(ResponseTooLargeError):
        connect(replies([(200, {}, "x" * 11)]), session=theirs).exchange(GET)


@pytest.mark.parametrize("location", ["http://evil.example/", "http://[", "mailto:x"])
def test_it_follows_no_redirect_for_us(
    location: str,
    theirs: requests.Session,
    replies: Callable[..., ReplyServer],
    connect: Callable[..., Transport],
) -> None:
    server = replies(lambda request: (307, {"Location": location}, ""))
    with pytest.raises(APIConnectionError) as caught:
        connect(server, session=theirs).exchange(POST)
    if location.endswith("/"):
        assert isinstance(caught.value, RedirectError)
    assert len(server.requests) == 1
    reveals_nothing(caught.value)
    del caught


def test_it_follows_within_the_origin_as_ours_does(
    theirs: requests.Session, replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    server = replies([(307, {"Location": "/new"}, ""), (200, {}, {})])
    connect(server, session=theirs).exchange(POST)
    assert server.lines == ["POST /things", "POST /new"]
    assert server.requests[0].body == server.requests[1].body


# Mocks that people test their programs with


@pytest.mark.parametrize("own", [True, False], ids=["their session", "our session"])
def test_responses_sees_each_attempt(
    own: bool, theirs: requests.Session, connect: Callable[..., Transport], skipping: SkippingClock
) -> None:
    transport = connect("http://mocked.example", session=theirs if own else None)
    with responses_module.RequestsMock() as mock:
        for status in (503, 503, 200):
            mock.add("GET", "http://mocked.example/things", json={"status": status}, status=status)
        assert transport.exchange(GET).json() == {"status": 200}
        assert len(mock.calls) == 3
        assert mock.calls[0].request.headers["X-API-Key"] == API_KEY
        mock.add("POST", "http://mocked.example/things", body=requests.ReadTimeout("too slow"))
        with pytest.raises(APITimeoutError, match="may have been applied") as caught:
            transport.exchange(POST)
        assert len(mock.calls) == 4
        mock.add("DELETE", "http://mocked.example/things", body=requests.ConnectTimeout("unreachable"))
        with pytest.raises(APITimeoutError, match=r"connecting to .* took too long"):
            transport.exchange(POST._replace(method="DELETE"))
        assert len(mock.calls) == 7
    assert len(skipping.naps) == 4
    reveals_nothing(caught.value)


@pytest.mark.parametrize("own", [True, False], ids=["their session", "our session"])
def test_requests_mock_sees_each_attempt(
    own: bool, theirs: requests.Session, connect: Callable[..., Transport]
) -> None:
    transport = connect("http://mocked.example", session=theirs if own else None)
    with mocker_module.Mocker() as mock:
        mock.get("http://mocked.example/things", [{"status_code": 503}, {"status_code": 503}, {"json": [1]}])
        assert transport.exchange(GET).json() == [1]
        assert mock.call_count == 3
        mock.post("http://mocked.example/things", exc=requests.ReadTimeout)
        with pytest.raises(APITimeoutError):
            transport.exchange(POST)
        assert mock.call_count == 4
        mock.post("http://mocked.example/things", exc=requests.ConnectionError("reset"))
        with pytest.raises(APIConnectionError) as caught:
            transport.exchange(POST)
        assert mock.call_count == 5
        assert caught.value.may_have_been_applied
        mock.post("http://mocked.example/things", [{"status_code": 429}, {"status_code": 201}])
        assert transport.exchange(POST).status_code == 201
        assert mock.last_request is not None
        assert mock.last_request.body == POST.body


def test_a_mocked_call_says_nothing_of_the_real_one_before(
    replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    """Whether something was sent is known from the connection, and a mock has none."""
    transport = connect(replies([(200, {}, {})]))
    transport.exchange(POST)
    with responses_module.RequestsMock() as mock:
        mock.add("POST", transport.base.text + "/things", body=requests.ConnectTimeout("unreachable"))
        with pytest.raises(APITimeoutError) as caught:
            transport.exchange(POST)
        assert len(mock.calls) == 3
    assert caught.value.may_have_been_applied is False


def test_answers_are_bytes_as_they_came(
    theirs: requests.Session, scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted([read(), send(answer(200, "ü".encode(), {"Content-Type": "text/plain; charset=latin-1"}))])
    assert connect(server, session=theirs).exchange(GET).content == "ü".encode()
