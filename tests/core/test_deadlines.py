"""The deadline of a whole call is kept whatever the peer, the network or the resolver does."""

from __future__ import annotations

import contextlib
import functools
import socket
import threading
import time
from typing import Any, Callable, Iterator, List

import pytest

from selfdb.core.clock import Deadline
from selfdb.core.transport import Transport
from selfdb.core.upload import Upload
from selfdb.exceptions import APIConnectionError, APITimeoutError
from tests.core.calls import GET, POST, HeldClock, reveals_nothing
from tests.core.kit import Background, wait_until
from tests.servers.scripted import ScriptedServer, answer, drip, read, reply, send, stall

pytestmark = pytest.mark.usefixtures("lane")

DEADLINE = 0.4
SLACK = 2.5  # what is promised is half a second; the machine that runs the tests may be busy


@contextlib.contextmanager
def in_time(seconds: float = DEADLINE) -> Iterator[None]:
    begun = time.monotonic()
    yield
    took = time.monotonic() - begun
    assert seconds - 0.05 <= took < seconds + SLACK, f"took {took:.2f} s"


SLOW = {
    "it never answers": [read(), stall()],
    "it drips the head": [read(), drip(answer(200, b"{}", {"X-Pad": "x" * 4000}), every=0.02)],
    "it drips the body": [read(), reply(200, length=4000), drip(b"x" * 4000, every=0.02)],
    "it drips chunks": [
        read(),
        send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        drip(b"1\r\nx\r\n" * 1000, every=0.02),
    ],
    "it drips interim answers": [read(), drip(b"HTTP/1.1 100 Continue\r\n\r\n" * 200, size=25, every=0.02)],
    "it stops in the body": [read(), reply(200, b"{", length=2), stall()],
}


def test_a_server_that_is_slow(scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]) -> None:
    """In each way, to a read and to a write: all of them at the same time."""

    def check(what: str, method: str) -> None:
        server = scripted(default=SLOW[what])
        transport = connect(server, deadline=DEADLINE)
        told = r"the deadline of 0\.4 s for the whole call passed"
        with in_time(), pytest.raises(APITimeoutError, match=told) as caught:
            transport.exchange(POST if method == "POST" else GET)
        error = caught.value
        assert isinstance(error, TimeoutError)
        server.wait_for(requests=1)
        assert len(server.requests) == 1
        assert error.may_have_been_applied is (method == "POST")
        assert ("may have been applied" in str(error)) is (method == "POST")
        assert error.__cause__ is not None
        reveals_nothing(error)

    cells = [(what, method) for what in SLOW for method in ("GET", "POST")]
    calls = {cell: Background(functools.partial(check, *cell)) for cell in cells}
    assert {cell: call.result() for cell, call in calls.items()} == dict.fromkeys(cells)


def test_the_deadline_covers_all_attempts_together(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted(default=[read(), stall()])
    transport = connect(server, deadline=1.0, timeout=(5, 0.15), max_retries=100, random=lambda: 0.0)
    with in_time(1.0), pytest.raises(APITimeoutError) as caught:
        transport.exchange(GET)
    assert 2 <= caught.value.attempts <= 7
    # The last one may have been cut off by the deadline before the server heard of it.
    server.wait_for(requests=caught.value.attempts - 1)


def test_c096_the_read_time_out_ends_one_wait(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted(default=[read(), stall()])
    transport = connect(server, timeout=(5, 0.1))
    with pytest.raises(APITimeoutError, match="did not answer in time") as caught:
        transport.exchange(GET)
    assert caught.value.attempts == 3
    server.wait_for(requests=3)
    assert not caught.value.may_have_been_applied
    with pytest.raises(APITimeoutError, match="may have been applied") as caught:
        transport.exchange(POST)
    assert caught.value.attempts == 1
    server.wait_for(requests=4)
    assert len(server.requests) == 4
    reveals_nothing(caught.value)


def test_a_time_out_that_only_pauses_is_none(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted([read(), drip(answer(200, b'{"a":1}'), size=8, every=0.02)])
    assert connect(server, timeout=(5, 3)).exchange(GET).json() == {"a": 1}


def test_a_server_that_does_not_take_the_body(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted(default=[read(body=False), stall()])
    transport = connect(server, stream_deadline=DEADLINE)
    body = Upload(b"x" * 64 * 1024 * 1024)
    with in_time(), pytest.raises(APITimeoutError) as caught:
        transport.exchange(POST._replace(body=body))
    assert caught.value.may_have_been_applied
    server.wait_for(requests=1)
    assert len(server.requests) == 1


def test_a_server_that_never_shakes_hands(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted(default=[stall()])
    url = server.url.replace("http:", "https:")
    with in_time(), pytest.raises(APITimeoutError) as caught:
        connect(url, deadline=DEADLINE).exchange(POST)
    assert caught.value.may_have_been_applied is False, "nothing of the request was sent"
    with pytest.raises(APITimeoutError, match=r"connecting to https://127.* took too long") as caught:
        connect(url, timeout=(0.1, 30)).exchange(POST)
    assert caught.value.attempts == 3
    assert caught.value.may_have_been_applied is False


def test_a_server_that_drips_its_handshake(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted(default=[drip(b"\x16\x03\x03\x40\x00" + b"x" * 4000, every=0.02)])
    with in_time(), pytest.raises(APITimeoutError):
        connect(server.url.replace("http:", "https:"), deadline=DEADLINE).exchange(GET)


def test_a_proxy_that_never_opens_its_tunnel(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = scripted(default=[read(), stall()])
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    transport = connect("https://selfdb.example", deadline=DEADLINE)
    transport.pool.websocket_route("https://selfdb.example")  # reads the CA bundle, which takes its time
    with in_time(), pytest.raises(APITimeoutError) as caught:
        transport.exchange(POST)
    assert caught.value.may_have_been_applied is False
    proxy.wait_for(requests=1)
    assert [request.line for request in proxy.requests] == ["CONNECT selfdb.example:443"]
    assert "x-api-key" not in str(proxy.requests[0].headers).lower()


@pytest.fixture
def full_port() -> Iterator[int]:
    """A port whose queue is full: the system drops what knocks there, and a connection is never made."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    waiting: List[socket.socket] = []
    for _ in range(4):
        sock = socket.socket()
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            sock.connect(listener.getsockname())
        waiting.append(sock)
    yield listener.getsockname()[1]
    for sock in [*waiting, listener]:
        sock.close()


def test_c096_a_connection_that_is_never_made(full_port: int, connect: Callable[..., Transport]) -> None:
    url = f"http://127.0.0.1:{full_port}"
    with pytest.raises(APITimeoutError, match=r"connecting to http://127.* took too long") as caught:
        connect(url, timeout=(0.1, 30)).exchange(POST)
    assert caught.value.attempts == 3, "nothing was sent"
    assert caught.value.may_have_been_applied is False
    assert caught.value.__cause__ is not None

    def check(timeout: Any, request: Any) -> None:
        with in_time(), pytest.raises(APITimeoutError, match=r"deadline of 0\.4 s"):
            connect(url, timeout=timeout, deadline=DEADLINE).exchange(request)

    calls = [Background(functools.partial(check, *given)) for given in (((60, 60), POST), (None, GET))]
    assert [call.result() for call in calls] == [None, None]


def test_an_address_that_swallows_everything_leaves_time_for_the_next(
    full_port: int,
    scripted: Callable[..., ScriptedServer],
    connect: Callable[..., Transport],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = scripted([read(), reply(200, b"{}")])
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in (full_port, server.port)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: found)
    assert connect(server, timeout=(1.0, 30), max_retries=0).exchange(POST).status_code == 200


class HangingResolver:
    """`getaddrinfo` that neither answers nor can be interrupted until it is let go."""

    def __init__(self) -> None:
        self.asked: List[str] = []
        self.let_go = threading.Event()

    def __call__(self, host: str, *args: Any, **kwargs: Any) -> Any:
        self.asked.append(host)
        self.let_go.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "let go")


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[HangingResolver]:
    hanging = HangingResolver()
    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    yield hanging
    hanging.let_go.set()
    wait_until(lambda: not any(thread.name == "selfdb-resolve" for thread in threading.enumerate()))


def test_c096_a_look_up_that_hangs(resolver: HangingResolver, connect: Callable[..., Transport]) -> None:
    with in_time(), pytest.raises(APITimeoutError, match=r"deadline of 0\.4 s") as caught:
        connect("http://slow.example", deadline=DEADLINE).exchange(POST)
    assert resolver.asked == ["slow.example"]
    assert caught.value.may_have_been_applied is False
    assert any(thread.name == "selfdb-resolve" and thread.daemon for thread in threading.enumerate()), (
        "a thread that cannot be interrupted is left behind, and must not hold the interpreter's exit"
    )
    reveals_nothing(caught.value)


def test_c096_a_look_up_counts_as_connecting(resolver: HangingResolver, connect: Callable[..., Transport]) -> None:
    with (
        in_time(0.2),
        pytest.raises(APITimeoutError, match=r"connecting to http://slow.example took too long") as caught,
    ):
        connect("http://slow.example", timeout=(0.2, 30), max_retries=0).exchange(POST)
    assert "looking up slow.example took too long" in repr(caught.value.__cause__)


def test_a_deadline_that_passed_before_the_call_sends_nothing(connect: Callable[..., Transport]) -> None:
    clock = HeldClock()
    transport = connect("http://127.0.0.1:9", clock=clock)
    deadline = Deadline(5, clock)
    clock.advance(5)
    with pytest.raises(APITimeoutError, match="the deadline of 5 s") as caught:
        transport.exchange(POST, deadline)
    assert caught.value.attempts == 0
    assert caught.value.may_have_been_applied is False


def test_a_deadline_that_passes_just_before_sending_sends_nothing(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = scripted()
    clock = HeldClock()
    real = Transport.lane

    def late(self: Transport, more: Any = None) -> Any:
        clock.advance(60)
        return real(self, more)

    monkeypatch.setattr(Transport, "lane", late)
    with pytest.raises(APITimeoutError, match="the deadline of 60 s") as caught:
        connect(server, clock=clock).exchange(POST)
    assert caught.value.may_have_been_applied is False
    assert server.connections == 0


def test_a_deadline_that_passes_while_connecting_sends_nothing(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = scripted(default=[read()])
    clock = HeldClock()
    real = socket.socket.connect

    def slow(self: socket.socket, address: Any) -> None:
        real(self, address)
        clock.advance(60)

    monkeypatch.setattr(socket.socket, "connect", slow)
    with pytest.raises(APITimeoutError) as caught:
        connect(server, clock=clock).exchange(POST)
    assert caught.value.may_have_been_applied is False
    assert server.requests == []


def test_no_time_for_the_wait_before_the_next_attempt(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport], skipping: Any
) -> None:
    server = scripted(default=[read(), lambda peer: peer.close()])
    with pytest.raises(APIConnectionError, match="lost before the answer") as caught:
        connect(server, deadline=20, random=lambda: 100.0).exchange(GET)
    assert caught.value.attempts == 1
    assert skipping.naps == [], "a wait that does not fit is not begun"


def test_uploads_and_streams_have_no_deadline_unless_given(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    clock = HeldClock()

    def pass_time(peer: Any) -> None:
        peer.read_request()
        clock.advance(3600)
        peer.reply(200, b"{}")

    def pass_time_in_the_middle(peer: Any) -> None:
        peer.read_request()
        clock.advance(3600)
        peer.reply(200, b"{", length=2)
        peer.wait_for_close()

    transport = connect(scripted([pass_time, pass_time, pass_time_in_the_middle]), clock=clock)
    assert transport.exchange(POST._replace(body=Upload(b"x"))).status_code == 200
    assert transport.open(GET).read(9) == b"{}"
    with pytest.raises(APITimeoutError):
        transport.exchange(GET)
