"""The short lane of a call: what may take it, what it hands to the ordinary way, and what its answers are like."""

from __future__ import annotations

import os
from typing import Any, Callable, Dict, Iterator, List

import pytest
import requests
from requests.adapters import HTTPAdapter
from urllib3.connectionpool import HTTPConnectionPool

from selfdb.core import lane as lane_module
from selfdb.core.lane import AT_ONCE, Headers, PlainAnswer
from selfdb.core.request import Request
from selfdb.core.transport import MAX_HEADS, Transport
from selfdb.exceptions import APIConnectionError, SelfDBError
from tests.core.calls import GET, POST
from tests.servers.scripted import Peer, ScriptedServer, answer, close, read, reply, send

Connect = Callable[..., Transport]
Scripted = Callable[..., ScriptedServer]


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> Iterator[List[str]]:
    """Which way each attempt took."""
    taken: List[str] = []
    shortly, ordinarily = lane_module.Lane.send, requests.Session.send

    def short(*args: Any, **kwargs: Any) -> Any:
        found = shortly(*args, **kwargs)
        taken.append("handed back" if found is None else "short")
        return found

    monkeypatch.setattr(lane_module.Lane, "send", short)
    real = Transport.lane

    def seen(self: Transport, more: Any = None) -> Any:
        found = real(self, more)
        if found is None:
            taken.append("ordinary")
        return found

    monkeypatch.setattr(Transport, "lane", seen)
    yield taken
    assert requests.Session.send is ordinarily


def answering(scripted: Scripted) -> ScriptedServer:
    return scripted(default=lambda peer: _serve(peer))


def _serve(peer: Peer) -> None:
    while True:
        peer.read_request()
        peer.reply(200, b'"yes"')


def test_a_plain_call_takes_it(scripted: Scripted, connect: Connect, ways: List[str]) -> None:
    transport = connect(answering(scripted))
    assert transport.exchange(GET).json() == "yes"
    assert transport.exchange(POST).json() == "yes"
    assert ways == ["short", "short"]


@pytest.mark.parametrize(
    "owner, name",
    [
        (HTTPAdapter, "send"),
        (requests.Session, "send"),
        (requests.Session, "get_adapter"),
        (HTTPConnectionPool, "urlopen"),
    ],
)
def test_who_replaces_a_part_of_the_stack_sees_every_call(
    owner: Any, name: str, scripted: Scripted, connect: Connect, ways: List[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = connect(answering(scripted))
    transport.exchange(GET)
    real, seen = getattr(owner, name), []

    def instead(*args: Any, **kwargs: Any) -> Any:
        seen.append(name)
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, instead)
        transport.exchange(GET)
        assert seen
    transport.exchange(GET)
    assert ways == ["short", "ordinary", "short"]
    assert len(seen) == 1


def test_a_session_of_the_users_never_takes_it(scripted: Scripted, connect: Connect, ways: List[str]) -> None:
    with requests.Session() as session:
        assert connect(answering(scripted), session=session).exchange(GET).json() == "yes"
    assert ways == ["ordinary"]


def test_a_proxy_that_the_environment_names_later_gets_the_next_call(
    scripted: Scripted, connect: Connect, ways: List[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, proxy = answering(scripted), answering(scripted)
    transport = connect(server)
    transport.exchange(GET)
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("no_proxy", "elsewhere.example")
    transport.exchange(GET)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    transport.exchange(GET)
    assert ways == ["short", "ordinary", "short"]
    assert [len(server.requests), len(proxy.requests)] == [2, 1]
    assert os.environ["http_proxy"] == proxy.url


@pytest.mark.parametrize("headers", [{"X-Odd": "t\xe4g"}, {"Expect": "100-continue"}, {"Cookie": "a=b"}])
def test_unusual_headers_of_a_client_go_the_ordinary_way(
    headers: Dict[str, str], scripted: Scripted, connect: Connect, ways: List[str]
) -> None:
    transport = connect(answering(scripted), headers=headers)
    assert transport.exchange(GET).json() == "yes"
    assert ways == ["ordinary"]


def test_headers_of_a_call_take_it_too_and_win(scripted: Scripted, connect: Connect, ways: List[str]) -> None:
    server = answering(scripted)
    transport = connect(server, headers={"X-Mine": "client", "X-Kept": "client"})
    for _ in range(2):
        assert transport.exchange(GET._replace(headers={"accept": "text/csv", "X-Mine": "call"})).json() == "yes"
    transport.exchange(GET)
    assert ways == ["short"] * 3
    called, again, plain = server.requests
    assert called.headers == again.headers
    assert (called.header("Accept"), called.header("X-Mine"), called.header("X-Kept")) == ("text/csv", "call", "client")
    assert (plain.header("Accept"), plain.header("X-Mine")) == ("application/json", "client")


@pytest.mark.parametrize("headers", [{"X-Odd": "t\xe4g"}, {"Cookie": "a=b"}, {"content-type": "text/csv"}])
def test_unusual_headers_of_a_call_go_the_ordinary_way(
    headers: Dict[str, str], scripted: Scripted, connect: Connect, ways: List[str]
) -> None:
    server = answering(scripted)
    assert connect(server).exchange(POST._replace(headers=headers)).json() == "yes"
    assert ways == ["ordinary"]
    name, value = next(iter(headers.items()))
    assert server.requests[0].header(name) == value or name == "Cookie"


def test_sets_of_headers_do_not_pile_up(scripted: Scripted, connect: Connect, ways: List[str]) -> None:
    server = answering(scripted)
    transport = connect(server)
    for number in range(2 * MAX_HEADS + 1):
        transport.exchange(GET._replace(headers={"X-Number": str(number)}))
    assert [request.header("X-Number") for request in server.requests] == [str(n) for n in range(2 * MAX_HEADS + 1)]
    assert len(transport._more_lines) <= MAX_HEADS


def test_an_unusual_address_is_handed_back_before_anything_is_sent(
    scripted: Scripted, connect: Connect, ways: List[str]
) -> None:
    server = answering(scripted)
    transport = connect(server)
    for path, query in (("/a/./b", ""), ("/a", "?"), ("/a b", "")):
        assert transport.exchange(Request("GET", path, query)).json() == "yes"
    assert ways == ["handed back"] * 3
    assert [request.target for request in server.requests] == ["/a/b", "/a", "/a%20b"]


@pytest.mark.parametrize("size", [0, 1, AT_ONCE, AT_ONCE + 1, 10 * AT_ONCE])
def test_bodies_of_any_size(size: int, scripted: Scripted, connect: Connect, ways: List[str]) -> None:
    server = answering(scripted)
    body = bytes(size)
    assert connect(server).exchange(POST._replace(body=body)).json() == "yes"
    assert server.requests[0].body == body
    assert ways == ["short"]


def test_a_write_without_a_body_says_that_it_has_none(scripted: Scripted, connect: Connect) -> None:
    server = answering(scripted)
    transport = connect(server)
    transport.exchange(Request("DELETE", "/things/1"))
    transport.exchange(GET)
    assert [request.header("Content-Length") for request in server.requests] == ["0", None]


def test_an_answer_that_comes_before_the_end_of_the_request_counts(scripted: Scripted, connect: Connect) -> None:
    """The server refuses and closes while most of the body is still here."""

    def refuse(peer: Peer) -> None:
        peer.read_request(body=False)
        peer.reply(413, b'{"detail":"too much"}', {"Connection": "close"})
        peer.half_close()
        peer.wait_for_close()

    transport = connect(scripted(default=refuse), max_retries=0)
    with pytest.raises(SelfDBError, match=r"too much|lost"):
        transport.exchange(POST._replace(body=bytes(30 * AT_ONCE)))


def test_an_answer_that_breaks_off_is_no_answer(scripted: Scripted, connect: Connect) -> None:
    server = scripted(default=[read(), send(answer(200, b'"half', length=300_000)), close()])
    with pytest.raises(APIConnectionError, match=r"broke off|lost"):
        connect(server, max_retries=0).exchange(GET)


def test_answers_in_many_pieces(scripted: Scripted, connect: Connect, ways: List[str]) -> None:
    whole = b'"' + b"x" * 700_000 + b'"'
    server = scripted(default=[read(), reply(200, whole), read(), reply(200, b"1")])
    transport = connect(server)
    assert transport.exchange(GET).content == whole
    assert transport.exchange(GET).json() == 1
    assert {request.connection for request in server.requests} == {0}
    assert ways == ["short", "short"]


def test_headers_of_a_plain_answer_are_a_mapping_in_any_case() -> None:
    headers = Headers({"content-type": ("Content-Type", "text/plain"), "x-a": ("X-A", "")})
    assert headers["CONTENT-TYPE"] == headers.get("content-type") == "text/plain"
    assert "x-A" in headers
    assert "x-b" not in headers
    assert headers.get("x-b") is None
    assert headers.get("x-b", "none") == "none"
    with pytest.raises(KeyError):
        headers["x-b"]
    assert (list(headers), len(headers)) == (["Content-Type", "X-A"], 2)
    assert repr(headers) == "{'Content-Type': 'text/plain', 'X-A': ''}"


def test_a_plain_answer_is_as_much_of_a_response_as_an_exchange_asks_for() -> None:
    with PlainAnswer(200, Headers({}), b"abc") as plain:
        assert list(plain.iter_content(2)) == [b"abc"]
        plain.close()
