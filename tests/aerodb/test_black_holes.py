"""A network that swallows what is sent, and refuses nothing: calls keep their time and say so, events come back."""

from __future__ import annotations

import contextlib
import pickle
import socket
import sys
import time
from typing import Any, Callable, Dict, Iterator, List

import pytest

from selfdb.aerodb import AeroDBClient, AeroDBRequestError, OfflineCache, RetryPolicy
from selfdb.aerodb.realtime import client as realtime_client
from tests.aerodb.realtime_kit import Heard, Make, eventually, joined
from tests.aerodb.services import EMAIL, PASSWORD, code
from tests.core.kit import in_threads
from tests.servers.aerodb.realtime import AeroRealtime
from tests.servers.aerodb.server import AeroServer
from tests.servers.tcpproxy import TcpProxy

TIMEOUT = 0.4
SLACK = 2.5
"""Five times what is promised beyond the time for a call; the machine may be busy."""


@pytest.fixture
def nobody_accepts() -> Iterator[str]:
    """The address of a listener whose backlog is full: the kernel drops further SYNs without a word."""
    if not sys.platform.startswith("linux"):
        pytest.skip("a full backlog answers otherwise on this system")
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting: List[socket.socket] = []
        for _ in range(8):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.connect(listener.getsockname())
            waiting.append(sock)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def nobody_answers(aero: AeroServer) -> Iterator[str]:
    """The address of somebody who accepts, and forwards nothing."""
    with TcpProxy(int(aero.url.rpartition(":")[2])) as proxy:
        proxy.stall(new=True)
        yield proxy.url


CALLS: Dict[str, Callable[[AeroDBClient], Any]] = {
    "a read": lambda client: client.from_("items").select().execute(),
    "a write": lambda client: client.from_("items").insert({"name": "Ann"}),
    "rpc": lambda client: client.rpc("add", {"a": 1}),
    "a login": lambda client: client.auth.sign_in(EMAIL, PASSWORD),
    "an upload": lambda client: client.storage.from_("files").upload("a.txt", b"x"),
    "a download": lambda client: client.storage.from_("files").download("a.txt"),
    "a function": lambda client: client.functions.invoke("work", {"a": 1}),
    "a check": lambda client: client.health.check(),
}


@contextlib.contextmanager
def in_time(seconds: float = TIMEOUT) -> Iterator[None]:
    begun = time.monotonic()
    yield
    took = time.monotonic() - begun
    assert seconds - 0.05 <= took < seconds + SLACK, f"took {took:.2f} s"


@pytest.mark.parametrize("hole", ["nobody_accepts", "nobody_answers"])
def test_every_call_keeps_its_time(hole: str, request: pytest.FixtureRequest, client_for: Make) -> None:
    client = client_for(request.getfixturevalue(hole), timeout=TIMEOUT)
    calls = iter(CALLS.items())

    def one_of_them() -> Any:
        name, call = next(calls)
        with in_time():
            answer = call(client)
        return name, answer

    answers = dict(in_threads(len(CALLS), one_of_them))
    assert {name: code(answer) for name, answer in answers.items()} == dict.fromkeys(CALLS, "TIMEOUT")
    assert in_threads(8, lambda: code(CALLS["a read"](client))) == ["TIMEOUT"] * 8
    with pytest.raises(AeroDBRequestError) as caught:
        answers["a write"].unwrap()
    assert caught.value.may_have_been_applied is (hole == "nobody_answers")
    assert pickle.loads(pickle.dumps(caught.value)).code == "TIMEOUT"


@pytest.mark.parametrize("hole", ["nobody_accepts", "nobody_answers"])
def test_attempts_fit_into_the_time_of_the_call(hole: str, request: pytest.FixtureRequest, client_for: Make) -> None:
    policy = RetryPolicy(max_attempts=50, initial_delay=0.01)
    client = client_for(request.getfixturevalue(hole), timeout=TIMEOUT, retry=policy)
    begun = time.monotonic()
    assert code(CALLS["a read"](client)) in ("TIMEOUT", "NETWORK_ERROR")
    assert time.monotonic() - begun < TIMEOUT + SLACK


def test_a_network_that_is_swallowed_in_the_middle_and_comes_back(aero: AeroServer, client_for: Make) -> None:
    with TcpProxy(int(aero.url.rpartition(":")[2])) as proxy:
        client = client_for(proxy.url, timeout=TIMEOUT, cache=OfflineCache())
        eventually(lambda: CALLS["a read"](client).error is None)
        proxy.stall(new=True)  # the connection that is kept, and every other
        with in_time():
            answer = CALLS["a read"](client)
        assert (answer.from_cache, answer.error) == (True, None)
        with in_time():
            assert code(CALLS["a write"](client)) == "TIMEOUT"
        proxy.resume()
        proxy.cut()
        eventually(lambda: CALLS["a write"](client).error is None)


def test_events_that_are_swallowed_are_noticed_and_come_back(
    events: AeroRealtime, client_for: Make, quick_steps: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(realtime_client, "PING_SECONDS", 0.1)
    heard = Heard()
    with TcpProxy(int(events.url.rpartition(":")[2])) as proxy:
        client = client_for(proxy.url)
        channel = joined(client.channel("posts").on("*", heard).on("resync", heard))
        proxy.stall(new=True)
        monkeypatch.setattr(realtime_client, "SILENT_SECONDS", 0.2)
        events.event("posts", new={"id": 1})  # it goes into the hole
        eventually(lambda: channel.state == "reconnecting")
        assert channel.last_error is not None
        assert channel.last_error.code == "NETWORK_ERROR"
        eventually(lambda: proxy.opened >= 2)  # and that handshake is swallowed too
        assert heard.payloads == []
        monkeypatch.setattr(realtime_client, "SILENT_SECONDS", 60.0)
        proxy.resume()
        proxy.cut()
        events.subscribed(2)
        assert heard.wait()[0].type == "resync"
        eventually(lambda: channel.state == "joined")
        events.event("posts", new={"id": 2})
        assert [payload.new for payload in heard.wait(2)][1] == {"id": 2}


def test_a_handshake_that_is_swallowed_is_no_attempt_for_ever(
    nobody_accepts: str, events: AeroRealtime, client_for: Make, quick_steps: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = realtime_client.Link

    def impatient(*given: Any, **options: Any) -> Any:
        return make(*given, connect_timeout=0.2, **options)

    monkeypatch.setattr(realtime_client, "Link", impatient)
    for address in (nobody_accepts, events.url):
        client = client_for(address)
        channel = client.channel("posts")
        begun = time.monotonic()
        channel.subscribe(timeout=0.5)
        assert time.monotonic() - begun < 0.5 + SLACK
        assert channel.state == ("connecting" if address is nobody_accepts else "joined")
        if address is nobody_accepts:
            eventually(lambda channel=channel: channel.last_error is not None)  # type: ignore[misc]
            assert channel.last_error is not None
            assert channel.last_error.code in ("NETWORK_ERROR", "TIMEOUT")
        begun = time.monotonic()
        client.close()
        assert time.monotonic() - begun < 2 + SLACK
