"""Peers that break off, lie and talk nonsense: what is raised, how often was it tried, may it have been applied."""

from __future__ import annotations

import gc
import gzip
import socket
import weakref
from typing import Any, Callable, Dict, List

import pytest

from selfdb.core.request import Request
from selfdb.core.retry import RetryBudget
from selfdb.core.transport import Transport
from selfdb.exceptions import APIConnectionError, APITimeoutError, InvalidRequestError, SelfDBError
from tests.core.calls import ACCESS, API_KEY, GET, POST, SkippingClock, reveals_nothing, sent_headers
from tests.servers.process import free_port
from tests.servers.scripted import ScriptedServer, close, read, reply, reset, send

pytestmark = pytest.mark.usefixtures("lane")

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

GZIP = {"Content-Encoding": "gzip", "Connection": "close"}

# What the peer does with a request, and what the message says of it.
FAULTS: Dict[str, Any] = {
    "reset before the answer": ([read(), reset()], "lost before the answer"),
    "end before the answer": ([read(), close()], "lost before the answer"),
    "reset in the status line": ([read(), send(b"HTTP/1.1 2"), reset()], "lost|broke off"),
    "end in the status line": ([read(), send(b"HTTP/1.1 2"), close()], "broke off before its end"),
    "end in the head": ([read(), send(b"HTTP/1.1 200 OK\r\nContent-Le"), close()], "broke off before its end"),
    "end between headers": ([read(), send(b"HTTP/1.1 200 OK\r\nX-A: 1\r\n"), close()], "broke off before its end"),
    "end in the body": ([read(), reply(200, b'{"a":', length=100), close()], "broke off before its end"),
    "reset in the body": ([read(), reply(200, b'{"a":', length=100), reset()], "lost|broke off"),
    "end in a chunk": ([read(), send(CHUNKED + b"9\r\n{"), close()], "broke off before its end"),
    "end between chunks": ([read(), send(CHUNKED + b"2\r\n{}\r\n"), close()], "broke off before its end"),
    "broken chunk": ([read(), send(CHUNKED + b"zz\r\n{}\r\n"), close()], "not HTTP"),
    "another protocol": ([read(), send(b"SSH-2.0-OpenSSH_9.6\r\n"), close()], "not HTTP"),
    "no numbers": ([read(), send(b"HTTP/1.1 OK 200\r\n\r\n"), close()], "not HTTP"),
    "an endless line": ([read(), send(b"HTTP/1.1 200 " + b"x" * 70_000 + b"\r\n\r\n"), close()], "not HTTP"),
    "endless headers": ([read(), send(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n"), close()], "not HTTP"),
    "two lengths": ([read(), reply(200, b"{}", {"Content-Length": "2, 3"}), close()], "not HTTP"),
    "no gzip": (
        [read(), reply(200, b"not compressed", GZIP)],
        "cannot be undone",
    ),
    "spoilt gzip": (
        [
            read(),
            reply(200, gzip.compress(b"{}")[:10] + b"\xff" * 20, GZIP),
        ],
        "cannot be undone",
    ),
}


@pytest.fixture(params=list(FAULTS))
def fault(request: pytest.FixtureRequest) -> Any:
    return FAULTS[request.param]


def test_c096_a_broken_answer_to_a_read_is_asked_for_again(
    fault: Any, scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport], skipping: SkippingClock
) -> None:
    handler, message = fault
    server = scripted(default=handler)
    with pytest.raises(APIConnectionError, match=message) as caught:
        connect(server).exchange(GET)
    error = caught.value
    assert [request.line for request in server.requests] == ["GET /things?search=canary-of-the-query"] * 3
    assert error.attempts == 3
    assert error.status_code is None
    assert (error.method, error.path) == ("GET", "/things")
    assert error.may_have_been_applied is False
    assert error.__cause__ is not None
    assert skipping.naps == [0.25, 0.5]
    reveals_nothing(error)
    del caught, error  # its traceback holds the answer


def test_c096_a_broken_answer_to_a_write_is_left_to_the_caller(
    fault: Any, scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport], skipping: SkippingClock
) -> None:
    handler, message = fault
    server = scripted(default=handler)
    with pytest.raises(APIConnectionError, match=message) as caught:
        connect(server).exchange(POST)
    error = caught.value
    assert [request.line for request in server.requests] == ["POST /things"]
    assert error.attempts == 1
    assert error.may_have_been_applied is True
    assert "may have been applied" in str(error)
    assert error.__cause__ is not None
    assert skipping.naps == []
    reveals_nothing(error)
    del caught, error  # its traceback holds the answer


@pytest.mark.parametrize("handler", [[read(), close()], [read(), reply(500)]], ids=["broken", "refused"])
def test_an_error_goes_when_it_is_let_go_of(
    handler: Any, scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    transport = connect(scripted(default=handler))
    gc.collect()
    gc.disable()
    try:
        for request in (GET, POST):
            kept: Any = None
            try:
                transport.exchange(request)
            except SelfDBError as error:
                kept = weakref.ref(error)
            assert kept is not None
            assert kept() is None, "it waits for the garbage collector, and what it holds with it"
    finally:
        gc.enable()


@pytest.mark.parametrize("request_", [GET, POST], ids=["GET", "POST"])
def test_a_broken_answer_is_followed_by_a_good_one(
    request_: Request, scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted([read(), close()], default=[read(), reply(200, b"[1]")])
    transport = connect(server)
    if request_.writes:
        with pytest.raises(APIConnectionError):
            transport.exchange(request_)
    assert transport.exchange(request_).json() == [1]
    assert server.connections == 2


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PATCH", "DELETE"])
def test_c096_a_refused_connection_is_tried_again_whatever_the_method(
    method: str, connect: Callable[..., Transport], skipping: SkippingClock
) -> None:
    port = free_port()
    with pytest.raises(APIConnectionError, match="refused the connection; is the server running") as caught:
        connect(f"http://127.0.0.1:{port}").exchange(POST._replace(method=method))
    error = caught.value
    assert not isinstance(error, APITimeoutError)
    assert f"http://127.0.0.1:{port}" in str(error)
    assert error.attempts == 3
    assert error.may_have_been_applied is False
    assert error.__cause__ is not None
    assert len(skipping.naps) == 2
    reveals_nothing(error)


def test_a_write_that_could_not_connect_succeeds_once_it_can(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = scripted([read(), reply(201, b"{}")])
    real, refusals = socket.socket.connect, [ConnectionRefusedError("refused")]

    def flaky(self: socket.socket, address: Any) -> None:
        if refusals:
            raise refusals.pop()
        real(self, address)

    monkeypatch.setattr(socket.socket, "connect", flaky)
    assert connect(server).exchange(POST).status_code == 201
    assert len(server.requests) == 1


def test_c096_a_name_that_nobody_knows(
    connect: Callable[..., Transport], monkeypatch: pytest.MonkeyPatch, skipping: SkippingClock
) -> None:
    asked: List[str] = []

    def unknown(host: str, *args: Any, **kwargs: Any) -> Any:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(APIConnectionError, match="could not be resolved; check base_url") as caught:
        connect("http://nowhere.example").exchange(POST)
    assert asked == ["nowhere.example"] * 3, "nothing was sent, so that a write may be tried again"
    assert caught.value.may_have_been_applied is False
    assert caught.value.__cause__ is not None
    reveals_nothing(caught.value)


def test_a_name_that_cannot_be_one(connect: Callable[..., Transport]) -> None:
    for host in ("a" * 64 + ".example", "*.example"):
        transport = connect(f"http://{host}")
        for _ in range(2):  # what the thread did before must not matter
            with pytest.raises((APIConnectionError, InvalidRequestError)) as caught:
                transport.exchange(POST)
            assert getattr(caught.value, "may_have_been_applied", False) is False


def test_without_time_outs_names_are_looked_up_in_place(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted([read(), reply(200, b"{}")])
    assert connect(server, timeout=None, deadline=None).exchange(GET).status_code == 200


def _addresses(*ports: int) -> Callable[..., List[Any]]:
    def look_up(*args: Any, **kwargs: Any) -> List[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]

    return look_up


def test_a_refusing_address_gives_way_to_the_next(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = scripted([read(), reply(200, b"{}")])
    monkeypatch.setattr(socket, "getaddrinfo", _addresses(free_port(), server.port))
    assert connect(server).exchange(POST).status_code == 200


def test_a_family_that_the_system_lacks_gives_way_to_the_next(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = scripted([read(), reply(200, b"{}")])
    lacking = (9999, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: [lacking, *_addresses(server.port)()])
    assert connect(server).exchange(POST).status_code == 200


def test_a_name_without_an_address(connect: Callable[..., Transport], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", _addresses())
    with pytest.raises(APIConnectionError, match=r"could not connect to http://empty.example") as caught:
        connect("http://empty.example", max_retries=0).exchange(POST)
    assert caught.value.may_have_been_applied is False


def test_an_interrupt_while_connecting_closes_the_socket(
    connect: Callable[..., Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: List[socket.socket] = []

    def interrupted(self: socket.socket, address: Any) -> None:
        opened.append(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(socket.socket, "connect", interrupted)
    with pytest.raises(KeyboardInterrupt):
        connect("http://127.0.0.1:9").exchange(GET)
    assert [sock.fileno() for sock in opened] == [-1]

    def no_socket(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(socket, "socket", no_socket)
    with pytest.raises(KeyboardInterrupt):
        connect("http://127.0.0.1:9").exchange(GET)


def test_connections_leave_from_the_address_that_an_adapter_was_told(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted([read(), reply(200, b"{}")])
    transport = connect(server)
    adapter: Any = transport.pool._session().get_adapter(server.url)
    adapter.poolmanager.connection_pool_kw["source_address"] = ("127.0.0.2", 0)
    adapter.poolmanager.connection_pool_kw["socket_options"] = None
    peers: List[Any] = []
    server._handlers[0].insert(0, lambda peer: peers.append(peer.sock.getpeername()[0]))  # type: ignore[union-attr]
    assert transport.exchange(GET).status_code == 200
    assert peers == ["127.0.0.2"]


# Retries are bounded by a budget of the client


def test_a_dead_server_gets_one_attempt_a_call_once_the_budget_is_spent(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted(default=[read(), close()])
    transport = connect(server)
    transport.pool.budget = RetryBudget(4 * RetryBudget.COST)
    attempts = []
    for _ in range(5):
        with pytest.raises(APIConnectionError) as caught:
            transport.exchange(GET)
        attempts.append(caught.value.attempts)
    assert attempts == [3, 3, 1, 1, 1]
    assert len(server.requests) == sum(attempts)
    assert transport.pool.budget.left == 0


def test_success_refills_the_budget(scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]) -> None:
    good = [read(), reply(200, b"{}", {"Connection": "close"})]
    server = scripted([read(), close()], default=good)
    transport = connect(server)
    assert transport.pool.budget.take(400)
    left = transport.pool.budget.left
    assert transport.exchange(GET).status_code == 200
    assert transport.pool.budget.left == left + 1, "what the retry cost came back, and one for the success"
    for _ in range(3):
        transport.exchange(GET)
    assert transport.pool.budget.left == left + 4


def test_a_time_out_costs_the_budget_more(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted(default=[read(), lambda peer: peer.stall()])
    transport = connect(server, timeout=(5, 0.05), max_retries=1)
    before = transport.pool.budget.left
    with pytest.raises(APITimeoutError):
        transport.exchange(GET)
    assert before - transport.pool.budget.left == RetryBudget.COST_OF_TIMEOUT


def test_clones_share_the_budget_of_the_pool(connect: Callable[..., Transport]) -> None:
    one = connect(f"http://127.0.0.1:{free_port()}")
    other = Transport(one.pool, one.base, one.identity, one.keeper, one.options, lifeline=one.lifeline.derive())
    one.pool.budget = RetryBudget(0)
    with pytest.raises(APIConnectionError) as caught:
        other.exchange(GET)
    assert caught.value.attempts == 1


def test_no_retries_means_one_attempt(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted(default=[read(), close()])
    with pytest.raises(APIConnectionError):
        connect(server, max_retries=0).exchange(GET)
    assert len(server.requests) == 1


# Keep-alive


def test_a_connection_that_the_server_closed_while_it_was_idle_is_not_used(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted([read(), reply(200, b"{}"), close()], [read(), reply(201, b"{}")])
    transport = connect(server)
    transport.exchange(GET)
    server.wait_for(requests=1)
    server._threads[-1].join(60)  # the first connection's script has ended, so that its FIN is on the way
    assert transport.exchange(POST).status_code == 201
    assert [request.connection for request in server.requests] == [0, 1]


def test_connections_are_kept(scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]) -> None:
    server = scripted([step for _ in range(3) for step in (read(), reply(200, b"{}"))])
    transport = connect(server)
    for _ in range(3):
        transport.exchange(GET)
    assert server.connections == 1


def test_what_identifies_the_caller_goes_with_every_attempt(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted([read(), close()], [read(), reply(200, b"{}")])
    connect(server, headers={"X-Trace": "7"}).exchange(GET._replace(headers={"Range": "bytes=0-1"}))
    for request in server.requests:
        headers = sent_headers(request.headers)
        assert headers["x-api-key"] == API_KEY
        assert headers["authorization"] == f"Bearer {ACCESS}"
        assert headers["accept"] == "application/json"
        assert headers["x-trace"] == "7"
        assert headers["range"] == "bytes=0-1"
        assert headers["user-agent"].startswith("selfdb/")
        assert "cookie" not in headers


def test_who_is_asked_not_to_send_the_token_does_not(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted([read(), reply(200, b"{}"), read(), reply(200, b"{}")])
    connect(server).exchange(GET._replace(bearer=False))
    connect(server, tokens=None)
    assert "authorization" not in sent_headers(server.requests[0].headers)
