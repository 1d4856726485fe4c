"""Who is asking is said by us alone: no ``.netrc``, no cookies. Proxies are the environment's."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any, Callable, Iterator, Optional

import pytest
import requests

from selfdb.core.transport import Transport
from selfdb.exceptions import APIConnectionError, InvalidRequestError
from tests.conftest import Tls
from tests.core.calls import ACCESS, API_KEY, GET, POST, reveals_nothing, sent_headers
from tests.servers.process import free_port
from tests.servers.replies import ReplyServer
from tests.servers.scripted import Peer, ScriptedServer, read, reply


@pytest.fixture
def session(theirs: bool) -> Iterator[Optional[requests.Session]]:
    with requests.Session() as made:
        yield made if theirs else None


@pytest.fixture(params=["HOME", "NETRC"])
def netrc(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "machine 127.0.0.1 login eve password evil\ndefault login eve password evil\n"
    path = tmp_path / (".netrc" if request.param == "HOME" else "elsewhere")
    path.write_text(text)
    path.chmod(0o600)
    monkeypatch.setenv(request.param, str(tmp_path if request.param == "HOME" else path))


def test_c018_netrc_never_replaces_the_token(
    netrc: None,
    session: Optional[requests.Session],
    replies: Callable[..., ReplyServer],
    connect: Callable[..., Transport],
) -> None:
    server = replies([(200, {}, {}), (200, {}, {}), (200, {}, {})])
    transport = connect(server, session=session)
    transport.exchange(GET)
    transport.exchange(GET._replace(bearer=False))
    connect(server, session=session, tokens=None).exchange(GET)
    assert [request.header("Authorization") for request in server.requests] == [f"Bearer {ACCESS}", None, None]
    with requests.Session() as plain:  # that the trap would have worked
        prepared = plain.prepare_request(requests.Request("GET", server.url))
        assert prepared.headers["Authorization"].startswith("Basic ")


def test_the_auth_of_their_session_is_not_ours(
    replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    server = replies([(200, {}, {})])
    with requests.Session() as theirs:
        theirs.auth = ("eve", "evil")
        connect(server, session=theirs).exchange(GET)
    assert server.requests[0].header("Authorization") == f"Bearer {ACCESS}"


def test_cookies_are_not_sent_back(
    session: Optional[requests.Session], replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    cookie = {"Set-Cookie": "session=someone; Path=/"}
    server = replies([(200, cookie, {}), (401, cookie, {}), (307, {**cookie, "Location": "/x"}, ""), (200, {}, {})])
    if session is not None:
        session.cookies.set("theirs", "kept")
        session.headers["Cookie"] = "theirs=too"
    transport = connect(server, session=session)
    transport.exchange(GET)
    with pytest.raises(Exception, match="401"):
        transport.exchange(GET)
    transport.exchange(GET)
    assert [request.header("Cookie") for request in server.requests] == [None] * 4


def test_our_session_keeps_no_cookie(replies: Callable[..., ReplyServer], connect: Callable[..., Transport]) -> None:
    server = replies([(200, {"Set-Cookie": "session=someone; Path=/"}, {})])
    transport = connect(server)
    transport.exchange(GET)
    ours = transport.pool._session()
    ours.cookies.set("a", "b")
    assert list(ours.cookies) == []


# Proxies


@pytest.fixture
def proxy(replies: Callable[..., ReplyServer]) -> ReplyServer:
    return replies(lambda request: (200, {}, {"proxied": True}))


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_the_proxy_of_the_environment_is_used(
    name: str,
    session: Optional[requests.Session],
    proxy: ReplyServer,
    connect: Callable[..., Transport],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(name, proxy.url)
    answer = connect("http://selfdb.example", session=session).exchange(GET)
    assert answer.json() == {"proxied": True}
    assert proxy.lines == ["GET http://selfdb.example/things?search=canary-of-the-query"]
    assert proxy.requests[0].header("Host") == "selfdb.example"


def test_no_proxy_is_honoured(
    session: Optional[requests.Session],
    proxy: ReplyServer,
    replies: Callable[..., ReplyServer],
    connect: Callable[..., Transport],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = replies([(200, {}, {"direct": True})])
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert connect(server, session=session).exchange(GET).json() == {"direct": True}
    assert proxy.requests == []


def test_their_session_may_look_away_from_the_environment(
    proxy: ReplyServer,
    replies: Callable[..., ReplyServer],
    connect: Callable[..., Transport],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = replies([(200, {}, {})])
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    with requests.Session() as theirs:
        theirs.trust_env = False
        connect(server, session=theirs).exchange(GET)
        assert proxy.requests == []
        theirs.proxies = {"http": proxy.url}
        connect("http://selfdb.example", session=theirs).exchange(GET)
    assert len(proxy.requests) == 1


def test_a_proxy_may_ask_for_a_password_that_is_never_shown(
    proxy: ReplyServer, connect: Callable[..., Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("://", "://ada:canary-of-the-proxy@"))
    connect("http://selfdb.example").exchange(GET)
    sent = proxy.requests[0].header("Proxy-Authorization") or ""
    assert base64.b64decode(sent.split()[1]) == b"ada:canary-of-the-proxy"
    monkeypatch.setenv("HTTP_PROXY", f"http://ada:canary-of-the-proxy@127.0.0.1:{free_port()}")
    with pytest.raises(APIConnectionError, match="check HTTP_PROXY") as caught:
        connect("http://selfdb.example").exchange(POST)
    assert caught.value.attempts == 3, "nothing was sent to the server"
    assert caught.value.may_have_been_applied is False
    reveals_nothing(caught.value, "canary-of-the-proxy")


def tunnel(server: ReplyServer) -> Callable[[Peer], None]:
    """A handler that opens a tunnel to ``server`` and carries bytes both ways."""
    import socket
    import threading

    def carry(source: Any, target: Any) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass  # one end left
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # left already

    def handle(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with socket.create_connection(("127.0.0.1", server.port)) as onward:
            back = threading.Thread(target=carry, args=(onward, peer.sock), daemon=True)
            back.start()
            carry(peer.sock, onward)
            back.join(60)

    return handle


def test_a_tunnel_shows_the_proxy_nothing(
    session: Optional[requests.Session],
    tls: Tls,
    scripted: Callable[..., ScriptedServer],
    replies: Callable[..., ReplyServer],
    connect: Callable[..., Transport],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = replies([(200, {}, {"end": "to end"}), (200, {}, {})], tls=tls.server)
    proxy = scripted(tunnel(server))
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    transport = connect(server, session=session, verify=tls.ca)
    assert transport.exchange(GET).json() == {"end": "to end"}
    transport.exchange(POST)
    assert [request.line for request in proxy.requests] == [f"CONNECT 127.0.0.1:{server.port}"]
    shown = str(proxy.requests)
    assert API_KEY not in shown
    assert ACCESS not in shown
    assert sent_headers(server.requests[0].headers)["x-api-key"] == API_KEY


def test_a_proxy_that_refuses_its_tunnel(
    tls: Tls,
    scripted: Callable[..., ScriptedServer],
    connect: Callable[..., Transport],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy = scripted(default=[read(), reply(403, b"no", {"Connection": "close"})])
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    with pytest.raises(APIConnectionError, match=r"the proxy for https://selfdb.example refused or failed") as caught:
        connect("https://selfdb.example").exchange(POST)
    assert caught.value.may_have_been_applied is False
    assert "Proxy-Authorization" not in str(proxy.requests)
    reveals_nothing(caught.value)


def test_a_proxy_for_the_look_of_it(connect: Callable[..., Transport], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://")
    with pytest.raises(InvalidRequestError, match="check HTTP_PROXY"):
        connect("http://selfdb.example").exchange(POST)
