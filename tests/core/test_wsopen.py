"""Opening a WebSocket: what a server or a proxy may answer, how long it may take, and that nothing secret is shown."""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
import threading
import time
import traceback
import types
from typing import Any, Callable, Dict, Iterator, List, Optional

import pytest
import requests
from urllib3.exceptions import InsecureRequestWarning

from selfdb.core import wsopen
from selfdb.core.pool import Pool
from selfdb.core.websocket import Address
from selfdb.core.wsopen import Opening
from selfdb.exceptions import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    InternalServerError,
    MissingAPIKeyError,
    NotFoundError,
    PermissionDeniedError,
    RedirectError,
    SelfDBError,
)
from tests.conftest import Tls
from tests.core.kit import Background, wait_until
from tests.core.links import SLACK, Proxy, address_of, quiet
from tests.servers.scripted import Peer, ScriptedServer, answer, drip, read, reply, reset, send, stall
from tests.servers.websockets import accept, accept_for

SECRET = "secret-of-the-url"


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def opened() -> Iterator[Callable[..., Any]]:
    """``opened(address, timeout=)``: a socket from `Opening.run`, closed after the test."""
    made: List[socket.socket] = []

    def run(address: Address, timeout: float = 10.0) -> socket.socket:
        made.append(Opening(address, timeout).run())
        return made[-1]

    yield run
    for sock in made:
        sock.close()


def failure(address: Address, timeout: float = 10.0) -> SelfDBError:
    with pytest.raises(SelfDBError) as caught:
        Opening(address, timeout).run()
    error = caught.value
    shown = "".join(traceback.format_exception(type(error), error, error.__traceback__)) + repr(error.response_body)
    assert SECRET not in shown
    assert error.__cause__ is None
    return error


def test_what_is_sent(scripted: Callable[..., ScriptedServer], opened: Callable[..., Any]) -> None:
    server = scripted(quiet)
    sock = opened(address_of(server, path="/a/b?x=1%202&y=%C3%A9", headers=["X-Trace: 7"]))
    assert sock.gettimeout() == 0
    request = server.requests[0]
    assert request.line == "GET /a/b?x=1%202&y=%C3%A9"
    assert request.header("Host") == f"127.0.0.1:{server.port}"
    assert request.header("X-Trace") == "7"
    assert request.header("Origin") is None
    assert request.header("Cookie") is None


def test_no_cookie_of_one_user_goes_to_the_next(
    scripted: Callable[..., ScriptedServer], opened: Callable[..., Any]
) -> None:
    def handler(peer: Peer) -> None:
        accept(peer, {"Set-Cookie": "session=of-the-first; Domain=127.0.0.1"}).wait_for_end()

    server = scripted(handler, quiet)
    for _ in range(2):
        opened(address_of(server))
    assert server.requests[1].header("Cookie") is None


def test_a_url_without_path_and_with_the_usual_port(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: List[Any] = []

    def nowhere(host: str, port: int, timeout: float, answer: Any) -> List[Any]:
        asked.append((host, port))
        return []

    monkeypatch.setattr(wsopen, "_resolve", nowhere)
    for url, expected in [("ws://host", ("host", 80)), ("wss://host", ("host", 443)), ("ws://[::1]", ("::1", 80))]:
        error = failure(Address(url, "http://host"))
        assert type(error) is APIConnectionError
        assert asked[-1] == expected


@pytest.mark.parametrize(
    "status, kind",
    [
        (401, AuthenticationError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (406, MissingAPIKeyError),
        (500, InternalServerError),
        (503, InternalServerError),
    ],
)
def test_c102_a_refused_handshake_is_the_error_of_its_status(
    scripted: Callable[..., ScriptedServer], status: int, kind: type
) -> None:
    error = failure(address_of(scripted([read(), reply(status)])))
    assert type(error) is kind
    assert error.status_code == status
    assert "handshake" in str(error)


def test_c102_what_the_server_says_is_kept_without_secrets(scripted: Callable[..., ScriptedServer]) -> None:
    body = b'{"detail":"no such key: %s, /socket?key=%s"}' % (SECRET.encode(), SECRET.encode())
    error = failure(address_of(scripted([read(), reply(401, body)])))
    assert error.message == "no such key: ***, /socket?key=***"
    quoted = failure(
        address_of(scripted([read(), reply(403, b"GET /?key=a%2Fb%20cd is not for you")]), secrets=("a/b cd",))
    )
    assert quoted.message == "GET /?key=*** is not for you"


@pytest.mark.parametrize("status", [100, 200, 204, 399])
def test_an_answer_that_is_neither_a_websocket_nor_an_error_says_what_to_look_at(
    scripted: Callable[..., ScriptedServer], status: int
) -> None:
    error = failure(address_of(scripted([read(), reply(status, b"")])))
    assert type(error) is SelfDBError
    assert error.status_code == status
    assert f"HTTP {status}; is base_url right" in str(error)


@pytest.mark.parametrize("status", [b"-1", b"0", b"99", b"600", b"99999999"])
def test_a_status_that_is_none_is_no_http(scripted: Callable[..., ScriptedServer], status: bytes) -> None:
    error = failure(address_of(scripted([read(), send(b"HTTP/1.1 " + status + b" No\r\nContent-Length: 0\r\n\r\n")])))
    assert type(error) is APIConnectionError
    assert "not HTTP" in str(error)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(scripted: Callable[..., ScriptedServer], status: int) -> None:
    server = scripted([read(), reply(status, headers={"Location": "ws://127.0.0.1:1/secret-of-the-redirect"})])
    error = failure(address_of(server))
    assert type(error) is RedirectError
    assert "secret-of-the-redirect" not in str(error)
    assert server.connections == 1


def test_a_library_that_takes_a_redirect_for_a_success(
    scripted: Callable[..., ScriptedServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Lenient:
        handshake_response = types.SimpleNamespace(status=302)

        def __init__(self, **options: Any) -> None:
            pass

        def connect(self, url: str, **options: Any) -> None:
            options["socket"].close()

    monkeypatch.setattr("websocket.WebSocket", Lenient)
    assert type(failure(address_of(scripted(lambda peer: peer.wait_for_close())))) is RedirectError


def wrong_key(peer: Peer) -> None:
    peer.read_request()
    fields = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": accept_for("x")}
    peer.reply(101, b"", fields)


@pytest.mark.parametrize(
    "script, words",
    [
        (wrong_key, "no WebSocket"),
        ([read(), reply(200, b"hello")], "HTTP 200|hello"),
        ([read(), send(b"SSH-2.0-OpenSSH\r\n\r\n")], "no WebSocket|could not connect"),
        ([read()], "closed the connection"),
        ([read(), send(b"HTTP/1.1 101 Switch")], "closed the connection"),
        ([read(), reset()], "could not connect|lost|closed"),
        ([read(), reply(404, b"x", length=50)], "closed the connection"),
    ],
)
def test_answers_that_are_none(scripted: Callable[..., ScriptedServer], script: Any, words: str) -> None:
    error = failure(address_of(scripted(script)))
    assert any(word in str(error) for word in words.split("|")), str(error)


def test_an_answer_without_end_is_cut_off(scripted: Callable[..., ScriptedServer]) -> None:
    head = answer(500, b"", length=10**9)
    error = failure(address_of(scripted([read(), send(head + b"x" * (2 * wsopen.MAX_HEAD))])))
    assert "does not end" in str(error)


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    error = failure(Address(f"ws://127.0.0.1:{port}/", f"http://127.0.0.1:{port}"))
    assert type(error) is APIConnectionError
    assert "refused the connection" in str(error)


def test_a_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*arguments: Any, **options: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert "resolved" in str(failure(Address("ws://nowhere.invalid/", "http://nowhere.invalid")))


def test_the_next_address_is_tried(
    scripted: Callable[..., ScriptedServer], opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = scripted(quiet)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dead = listener.getsockname()
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", where) for where in (dead, server.address)]
    monkeypatch.setattr(wsopen, "_resolve", lambda *arguments: found)
    opened(Address("ws://two.invalid/", "http://two.invalid"))
    assert server.requests[0].header("Host") == "two.invalid"


def test_c109_a_handshake_has_one_time_limit(scripted: Callable[..., ScriptedServer]) -> None:
    scripts: Dict[str, Any] = {
        "mute before the request": stall(),
        "mute after it": [read(), stall()],
        "dripping": [read(), drip(b"HTTP/1.1 101 Switching Protocols\r\n" + b"X: y\r\n" * 200)],
    }
    began = time.monotonic()
    # They wait at the same time.
    waits = {
        name: Background(lambda address=address_of(scripted(script)): (failure(address, timeout=1.0), time.monotonic()))
        for name, script in scripts.items()
    }
    for name, waiting in waits.items():
        error, ended = waiting.result()
        assert type(error) is APITimeoutError, name
        assert ended - began < 1.0 * SLACK, name


def test_no_time_at_all(scripted: Callable[..., ScriptedServer]) -> None:
    assert type(failure(address_of(scripted()), timeout=0.0)) is APITimeoutError


@pytest.mark.parametrize("secure", [False, True])
def test_giving_up_from_another_thread(scripted: Callable[..., ScriptedServer], tls: Tls, secure: bool) -> None:
    server = scripted(lambda peer: peer.wait_for_close())
    url = server.url.replace("http", "wss" if secure else "ws", 1)
    opening = Opening(Address(url, server.url, context=ssl.create_default_context(cafile=tls.ca)), 60.0)
    running = Background(opening.run)
    server.wait_for(connections=1)
    wait_until(lambda: opening._sock is not None)
    began = time.monotonic()
    opening.abort()
    error = running.result()
    assert type(error) is APIConnectionError
    assert "given up" in str(error)
    assert time.monotonic() - began < SLACK
    opening.abort()


def test_given_up_before_it_began() -> None:
    opening = Opening(Address("ws://127.0.0.1:1/", "http://127.0.0.1:1"), 10.0)
    opening.abort()
    with pytest.raises(APIConnectionError, match="given up"):
        opening.run()


# TLS


def test_tls_with_a_trusted_certificate(
    scripted: Callable[..., ScriptedServer], tls: Tls, opened: Callable[..., Any]
) -> None:
    server = scripted(quiet, tls=tls.server)
    sock = opened(address_of(server, context=ssl.create_default_context(cafile=tls.ca)))
    assert isinstance(sock, ssl.SSLSocket)
    assert server.requests[0].header("Host") == f"127.0.0.1:{server.port}"


def test_tls_is_verified_by_default(scripted: Callable[..., ScriptedServer], tls: Tls) -> None:
    server = scripted(default=quiet, tls=tls.server)
    assert "certificate" in str(failure(address_of(server)))


def test_tls_without_verification_leaves_the_shared_context_alone(
    scripted: Callable[..., ScriptedServer], tls: Tls, opened: Callable[..., Any]
) -> None:
    with pytest.warns(InsecureRequestWarning, match="nobody knows who answers"):
        pool = Pool(verify=False)
    _, context = pool.websocket_route("https://127.0.0.1")
    assert context is not None
    opened(address_of(scripted(quiet, tls=tls.server), context=context))
    assert context.verify_mode is ssl.CERT_NONE
    assert context.check_hostname is False
    pool.close()


@pytest.mark.parametrize(
    "of_session, of_client, verified",
    [(True, None, True), (False, None, False), (False, True, True), (True, False, False)],
)
def test_tls_as_a_session_of_ones_own_says(
    of_session: bool, of_client: Optional[bool], verified: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # which `requests` prefers to the session's own
        monkeypatch.delenv(variable, raising=False)
    with requests.Session() as session:
        session.verify = of_session
        with contextlib.nullcontext() if verified else pytest.warns(InsecureRequestWarning, match="nobody knows"):
            pool = Pool(session, of_client)
        _, context = pool.websocket_route("https://127.0.0.1")
        pool.close()
    assert context is not None
    assert context.verify_mode is (ssl.CERT_REQUIRED if verified else ssl.CERT_NONE)


def test_a_server_that_speaks_no_tls(scripted: Callable[..., ScriptedServer]) -> None:
    server = scripted(lambda peer: peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    error = failure(Address(server.url.replace("http", "wss", 1), server.url))
    assert "does not speak TLS" in str(error)


# Proxies


def routed(server: ScriptedServer, tls: Optional[Tls] = None) -> Address:
    """The address as a client of ``server`` makes it, with what the environment says."""
    pool = Pool(verify=tls.ca if tls else None)
    proxy, context = pool.websocket_route(server.url + "/socket")
    pool.close()
    return address_of(server, proxy=proxy, context=context)


@pytest.mark.parametrize("secure", [False, True])
def test_a_proxy_of_the_environment_with_credentials(
    scripted: Callable[..., ScriptedServer],
    tls: Tls,
    opened: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    secure: bool,
) -> None:
    server = scripted(quiet, tls=tls.server if secure else None)
    proxy = Proxy(server, "user:p@ss/word")
    front = scripted(proxy)
    variable = "HTTPS_PROXY" if secure else "http_proxy"
    monkeypatch.setenv(variable, f"http://user:p%40ss%2Fword@127.0.0.1:{front.port}")
    opened(routed(server, tls))
    assert proxy.targets == [f"127.0.0.1:{server.port}"]
    assert front.requests[0].header("Host") == f"127.0.0.1:{server.port}"
    assert server.requests[0].line == "GET /socket?key=secret-of-the-url"


def test_no_proxy_is_respected(
    scripted: Callable[..., ScriptedServer], opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, front = scripted(quiet), scripted()
    monkeypatch.setenv("HTTP_PROXY", front.url)
    monkeypatch.setenv("http_proxy", front.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    opened(routed(server))
    assert front.connections == 0


@pytest.mark.parametrize(
    "script, words",
    [
        ([read(body=False), reply(407, b"who?")], "407"),
        ([read(body=False)], "closed"),
        ([read(body=False), send(b"\r\n\r\n")], "HTTP"),
    ],
)
def test_a_proxy_that_refuses(scripted: Callable[..., ScriptedServer], script: Any, words: str) -> None:
    server, front = scripted(), scripted(script)
    proxy = f"http://user:{SECRET}@127.0.0.1:{front.port}"
    error = failure(address_of(server, proxy=proxy))
    assert type(error) is APIConnectionError
    assert words in str(error)
    assert "proxy" in str(error)


def test_a_proxy_without_scheme_and_password_and_a_server_of_ipv6(scripted: Callable[..., ScriptedServer]) -> None:
    front = scripted([read(body=False), reply(502)])
    failure(Address("ws://[::1]:81/", "http://[::1]:81", proxy=f"user@127.0.0.1:{front.port}"))
    assert front.requests[0].line == "CONNECT [::1]:81"
    assert front.requests[0].header("Proxy-Authorization") == "Basic dXNlcjo="


def test_a_proxy_that_is_spoken_to_over_tls(
    scripted: Callable[..., ScriptedServer], tls: Tls, monkeypatch: pytest.MonkeyPatch, opened: Callable[..., Any]
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", tls.ca)
    server = scripted(quiet)
    front = scripted(Proxy(server), tls=tls.server)
    opened(address_of(server, proxy=f"https://127.0.0.1:{front.port}"))
    assert "give it as http" in str(failure(address_of(scripted(tls=tls.server), proxy=front.url)))


def test_the_usual_port_of_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: List[Any] = []
    monkeypatch.setattr(wsopen, "_resolve", lambda host, port, *others: asked.append((host, port)) or [])
    for proxy in ("http://front", "https://front"):
        failure(Address("ws://host/", "http://host", proxy=proxy))
    assert asked == [("front", 80), ("front", 443)]


def test_socks_needs_a_package_and_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "socks", None)
    assert "requests[socks]" in str(failure(Address("ws://host/", "http://host", proxy="socks5://front")))


@pytest.mark.parametrize(
    "proxy, expected",
    [
        ("socks5://127.0.0.1", {"proxy_port": 1080, "proxy_rdns": False, "proxy_type": 2, "proxy_username": None}),
        (
            "socks5h://u%20v:p%2Fq@127.0.0.1:7",
            {"proxy_port": 7, "proxy_rdns": True, "proxy_username": "u v", "proxy_password": "p/q"},
        ),
        ("socks4a://127.0.0.1:7", {"proxy_type": 1, "proxy_rdns": True, "proxy_password": None}),
    ],
)
def test_socks(
    scripted: Callable[..., ScriptedServer],
    opened: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    proxy: str,
    expected: Dict[str, Any],
) -> None:
    server = scripted(quiet)
    asked: Dict[str, Any] = {}

    def create_connection(target: Any, **options: Any) -> socket.socket:
        asked.update(options, target=target)
        return socket.create_connection(server.address)

    module: Any = types.ModuleType("socks")
    module.SOCKS4, module.SOCKS5, module.create_connection = 1, 2, create_connection
    monkeypatch.setitem(sys.modules, "socks", module)
    opened(Address("ws://inside:81/", "http://inside:81", proxy=proxy))
    assert {**asked, **expected} == asked
    assert asked["target"] == ("inside", 81)
    assert "not known" in str(failure(Address("ws://host/", "http://host", proxy="gopher://front")))


def test_it_leaves_nothing_behind(scripted: Callable[..., ScriptedServer]) -> None:
    before = set(threading.enumerate())
    server = scripted(default=[read(), reply(403)])
    for _ in range(10):
        failure(address_of(server))
    server.stop()
    wait_until(lambda: set(threading.enumerate()) <= before)
