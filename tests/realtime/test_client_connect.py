"""Connecting: the address, the older path, what refusals raise, and what connecting again does."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, List

import pytest

from selfdb import SelfDB
from selfdb.exceptions import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    ClientClosedError,
    InternalServerError,
    InvalidRequestError,
    MissingAPIKeyError,
    NotFoundError,
    PermissionDeniedError,
    RealtimeError,
)
from tests.core.kit import in_forked_child, in_threads, wait_until
from tests.realtime.clients import KEY, TOPIC, Watched, client, phoenix, watched
from tests.realtime.phoenix import Phoenix
from tests.servers.scripted import ScriptedServer, stall

__all__ = ["client", "phoenix", "watched"]

LONG, SHORT = "/realtime/socket/websocket", "/realtime/socket"
QUERY = "?vsn=2.0.0&X-API-Key=key%2Fwith%2Bodd%20characters"


def test_c101_the_documented_address(watched: Watched) -> None:
    watched.db.access_token = "a.b/c+d"
    watched.realtime.connect()
    assert watched.server.targets == [f"{LONG}{QUERY}&token=a.b%2Fc%2Bd"]
    request = watched.server.server.requests[0]
    assert request.header("Origin") is None
    assert request.header("X-API-Key") is None
    assert watched.realtime.connected
    assert watched.realtime.is_connected
    assert watched.realtime.get_state() == "connected"


def test_c101_without_a_session_there_is_no_token(watched: Watched) -> None:
    watched.realtime.connect()
    assert watched.server.targets == [LONG + QUERY]


def test_a_path_prefix_and_own_headers_are_kept(phoenix: Callable[..., Phoenix], client: Callable[..., SelfDB]) -> None:
    server = phoenix()
    db = SelfDB(server.url + "/prefix/", KEY, headers={"X-Trace": "7"})
    db.realtime.connect()
    assert server.targets == [f"/prefix{LONG}{QUERY}"]
    assert server.server.requests[0].header("X-Trace") == "7"
    db.close()


@pytest.mark.parametrize("status", [403, 404])
def test_c101_the_short_path_is_tried_once_and_remembered(watched: Watched, status: int) -> None:
    watched.server.refuse = [status]
    watched.realtime.connect()
    assert watched.server.targets == [LONG + QUERY, SHORT + QUERY]
    watched.server.cut()
    assert watched.server.targets[2:] == [SHORT + QUERY]
    watched.realtime.disconnect()
    watched.realtime.connect()
    assert watched.server.targets[3:] == [SHORT + QUERY]
    wait_until(lambda: watched.states[:2] == ["connecting", "connected"])


@pytest.mark.parametrize(
    "statuses, kind, attempts",
    [
        ([401], AuthenticationError, 1),
        ([406], MissingAPIKeyError, 1),
        ([500], InternalServerError, 1),
        ([403, 404], PermissionDeniedError, 2),
        ([404, 404], NotFoundError, 2),
        ([404, 401], AuthenticationError, 2),
        ([403, 403], PermissionDeniedError, 2),
    ],
)
def test_c102_a_refused_handshake_is_raised(watched: Watched, statuses: List[int], kind: type, attempts: int) -> None:
    watched.server.refuse = list(statuses)
    with pytest.raises(kind) as caught:
        watched.realtime.connect()
    assert type(caught.value) is kind
    assert len(watched.server.targets) == attempts
    assert watched.realtime.state == "disconnected"
    assert watched.errors == []
    watched.realtime.connect()  # nothing of it stays
    assert watched.realtime.connected


def test_nobody_listens_and_that_is_said_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with SelfDB(f"http://127.0.0.1:{port}", KEY) as db:
        for _ in range(2):
            with pytest.raises(APIConnectionError, match="refused the connection"):
                db.realtime.connect()
        assert db.realtime.state == "disconnected"


def test_c109_a_mute_server_is_a_time_out(scripted: Callable[..., ScriptedServer]) -> None:
    server = scripted(stall())
    with SelfDB(server.url, KEY) as db:
        began = time.monotonic()
        with pytest.raises(APITimeoutError, match=r"0\.2 s"):
            db.realtime.connect(timeout=0.2)
        assert time.monotonic() - began < 5
        assert db.realtime.state == "disconnected"


def test_connecting_twice_is_harmless(watched: Watched) -> None:
    watched.realtime.connect()
    watched.realtime.connect()
    in_threads(4, watched.realtime.connect)
    assert len(watched.server.targets) == 1


def test_threads_that_connect_at_once_share_one_connection(watched: Watched) -> None:
    assert in_threads(8, watched.realtime.connect) == [None] * 8
    assert len(watched.server.targets) == 1


def test_threads_that_fail_at_once_have_an_error_each(watched: Watched) -> None:
    watched.server.refuse = [401] * 8
    outcomes = in_threads(4, watched.realtime.connect)
    failed = [error for error in outcomes if error is not None]
    assert {type(error) for error in failed} == {AuthenticationError}
    assert len({id(error) for error in failed}) == len(failed)


def test_connect_while_reconnecting_waits_for_the_link(watched: Watched) -> None:
    watched.realtime.connect()
    watched.server.refuse = [503] * 3
    watched.server.break_off()
    wait_until(lambda: "reconnecting" in watched.states)
    watched.realtime.connect()
    assert watched.realtime.connected


def test_connect_while_reconnecting_gives_up_only_the_waiting(watched: Watched) -> None:
    watched.realtime.connect()
    watched.server.refuse = [503] * 1000
    watched.server.break_off()
    wait_until(lambda: watched.realtime.state == "reconnecting")
    with pytest.raises(APITimeoutError):
        watched.realtime.connect(timeout=0.01)
    wait_until(lambda: len(watched.server.targets) >= 3)
    assert watched.realtime.state == "reconnecting"
    watched.server.refuse = []
    wait_until(lambda: watched.realtime.connected)


def test_disconnect_ends_a_connect_in_another_thread(scripted: Callable[..., ScriptedServer]) -> None:
    server = scripted(stall())
    with SelfDB(server.url, KEY) as db:
        outcomes: List[Any] = []

        def connect() -> None:
            try:
                db.realtime.connect(timeout=60)
            except RealtimeError as error:
                outcomes.append(error)

        thread = threading.Thread(target=connect)
        thread.start()
        server.wait_for(connections=1)
        db.realtime.disconnect()
        thread.join(60)
        assert [str(error) for error in outcomes] == ["the client disconnected"]


@pytest.mark.parametrize("options", [{"overflow": "wait"}, {"max_items": 0}, {"block_seconds": 100}])
def test_wrong_options_are_refused_before_anything_is_sent(watched: Watched, options: Any) -> None:
    with pytest.raises(InvalidRequestError):
        watched.realtime.connect(**options)
    assert watched.server.targets == []


def test_c113_a_close_1000_is_reconnected_and_disconnect_is_final(watched: Watched) -> None:
    watched.realtime.connect()
    watched.server.live.say_close(1000)
    watched.server.wait(lambda: len(watched.server.sockets) == 2)
    wait_until(lambda: watched.realtime.connected)
    watched.realtime.disconnect()
    assert watched.realtime.state == "disconnected"
    watched.server.wait(lambda: watched.server.live.closed_with == 1000)
    wait_until(lambda: watched.states[-1:] == ["disconnected"])
    assert watched.states == [
        "connecting",
        "connected",
        "reconnecting",
        "connected",
        "closing",
        "disconnected",
    ]
    assert len(watched.server.sockets) == 2


def test_disconnect_is_harmless_when_never_connected(watched: Watched) -> None:
    watched.realtime.disconnect()
    watched.realtime.disconnect()
    assert watched.realtime.state == "disconnected"
    assert watched.realtime.last_message_at is None


def test_r03_a_hundred_drops_are_a_hundred_connections(watched: Watched) -> None:
    got: List[Any] = []
    channel = watched.realtime.channel(TOPIC).on("INSERT", lambda payload: got.append(payload.new["id"]))
    watched.realtime.connect()
    channel.subscribe()
    for number in range(100):
        watched.server.break_off()
        watched.server.wait(lambda number=number: len(watched.server.seen("phx_join")) == number + 2)
    watched.server.insert(TOPIC, "last")
    wait_until(lambda: got == ["last"])
    assert len(watched.server.targets) == 101


def test_close_of_the_client_ends_it(watched: Watched) -> None:
    watched.realtime.connect()
    watched.db.close()
    assert watched.realtime.state == "disconnected"
    with pytest.raises(ClientClosedError):
        watched.realtime.connect()
    with pytest.raises(ClientClosedError):
        watched.realtime.channel(TOPIC).subscribe()
    assert len(watched.server.targets) == 1


def test_as_user_has_a_realtime_of_its_own_that_ends_with_its_parent(watched: Watched) -> None:
    watched.db.access_token = "token-of-the-program"
    watched.realtime.connect()
    user = watched.db.as_user("token-of-a-user")
    assert user.realtime is not watched.realtime
    assert user.realtime is user.realtime
    user.realtime.connect()
    assert [target.rpartition("=")[2] for target in watched.server.targets] == [
        "token-of-the-program",
        "token-of-a-user",
    ]
    watched.db.close()
    wait_until(lambda: user.realtime.state == "disconnected")


def test_nothing_secret_is_shown(watched: Watched) -> None:
    watched.db.access_token = "secret-token"
    watched.realtime.connect()
    shown = repr(watched.realtime) + repr(watched.realtime.channel(TOPIC))
    assert "secret-token" not in shown
    assert KEY not in shown
    assert TOPIC in shown


def test_c119_neither_importing_nor_making_a_client_starts_anything() -> None:
    script = """
import sys, threading
from selfdb import SelfDB
db = SelfDB("http://127.0.0.1:9", "key")
assert "websocket" not in sys.modules
channel = db.realtime.channel("table:orders").on("INSERT", print)
assert threading.active_count() == 1
db.close()
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], cwd=root, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_c119_an_open_connection_does_not_hold_up_the_exit(phoenix: Callable[..., Phoenix]) -> None:
    server = phoenix()
    script = f"""
from selfdb import SelfDB
db = SelfDB({server.url!r}, "key")
db.realtime.channel("table:orders").on("*", print)
db.realtime.connect()
db.realtime.channel("table:orders").subscribe()
print("open", flush=True)
"""
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"open\n"
        began = time.monotonic()
        assert process.wait(30) == 0
        assert time.monotonic() - began < 5.0
        assert process.stderr.read() == b""


def test_r65_a_forked_child_starts_disconnected_and_may_connect_anew(watched: Watched) -> None:
    got: List[Any] = []
    channel = watched.realtime.channel(TOPIC).on("INSERT", lambda payload: got.append(payload.new["id"]))
    watched.realtime.connect()
    channel.subscribe()

    def child() -> bytes:
        state = f"{watched.realtime.state} {channel.state}"
        watched.realtime.connect()
        channel.subscribe()
        watched.realtime.disconnect()
        return state.encode()

    assert in_forked_child(child) == b"disconnected closed"
    assert len(watched.server.sockets) == 2
    assert watched.realtime.connected
    watched.server.sockets[0].send_json([None, None, TOPIC, "INSERT", {"new": {"id": 5}}])
    wait_until(lambda: got == [5])
