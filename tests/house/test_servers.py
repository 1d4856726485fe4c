"""The fakes and fixtures themselves: they do what a test tells them to, and tell when it went wrong."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable

import pytest
import requests

from tests.conftest import NetworkBlocked, Tls
from tests.servers.clock import FakeClock
from tests.servers.postgres import PREFIX, PostgresCluster, sweep
from tests.servers.replies import ReplyServer
from tests.servers.scripted import (
    PeerGone,
    ScriptedServer,
    Tick,
    answer,
    drip,
    read,
    reply,
    reset,
    send,
    stall,
    wait_for_close,
)


def exchange(url: str, **options: Any) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.request(options.pop("method", "GET"), url, timeout=(5, 10), **options)


def test_a_script_answers_and_records(scripted: Callable[..., ScriptedServer]) -> None:
    server = scripted([read(), reply(201, b'{"a": 1}', {"X-Request-ID": "r1"})])
    answered = exchange(server.url + "/users/?limit=25", method="POST", data=b"abc", headers={"X-One": "1"})
    assert (answered.status_code, answered.json(), answered.headers["X-Request-ID"]) == (201, {"a": 1}, "r1")
    (request,) = server.requests
    assert (request.line, request.body, request.header("x-one")) == ("POST /users/?limit=25", b"abc", "1")
    assert server.connections == 1


def test_a_script_reads_a_chunked_body(scripted: Callable[..., ScriptedServer]) -> None:
    server = scripted([read(), reply(200)])
    exchange(server.url, method="POST", data=iter([b"one", b"two"]))
    assert server.requests[0].body == b"onetwo"


def test_a_reset_is_a_reset(scripted: Callable[..., ScriptedServer]) -> None:
    server = scripted([read(), reset()])
    with socket.create_connection(server.address, 5) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            sock.recv(1)


def test_a_stall_lasts_until_released(scripted: Callable[..., ScriptedServer]) -> None:
    server = scripted([read(), stall(), reply(204)])
    with socket.create_connection(server.address, 5) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        server.wait_for(requests=1)
        sock.settimeout(0.1)
        with pytest.raises(socket.timeout):
            sock.recv(1)
        sock.settimeout(10)
        server.release.set()
        assert sock.recv(12) == b"HTTP/1.1 204"


def test_a_stalled_script_ends_with_the_server() -> None:
    before = time.monotonic()
    with ScriptedServer([read(), stall()]) as server, socket.create_connection(server.address, 5) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        server.wait_for(requests=1)
    assert time.monotonic() - before < 10


def test_a_drip_follows_its_ticks(scripted: Callable[..., ScriptedServer]) -> None:
    tick = Tick()
    server = scripted([drip(b"abcd", 2, tick=tick)])
    with socket.create_connection(server.address, 5) as sock:
        tick()
        assert sock.recv(10) == b"ab"
        sock.settimeout(0.1)
        with pytest.raises(socket.timeout):
            sock.recv(10)
        sock.settimeout(10)
        tick()
        assert sock.recv(10) == b"cd"


def test_a_length_may_lie(scripted: Callable[..., ScriptedServer]) -> None:
    server = scripted([read(), reply(200, b"abc", length=5)])
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        exchange(server.url)


def test_a_broken_handler_fails_the_test() -> None:
    def broken(peer: Any) -> None:
        raise LookupError("oops")

    with pytest.raises(AssertionError, match="oops"), ScriptedServer(broken) as server:  # noqa: SIM117
        with socket.create_connection(server.address, 5) as sock:
            assert sock.recv(1) == b""


def test_a_connection_without_a_script_fails_the_test() -> None:
    with pytest.raises(AssertionError, match="no script"), ScriptedServer() as server:  # noqa: SIM117
        with socket.create_connection(server.address, 5) as sock:
            assert sock.recv(1) == b""


def test_a_client_that_leaves_is_no_failure(scripted: Callable[..., ScriptedServer]) -> None:
    seen = []

    def watch(peer: Any) -> None:
        try:
            peer.read_request()
        except PeerGone as gone:
            seen.append(gone)
            raise

    server = scripted(watch, [wait_for_close()])
    for _ in range(2):
        socket.create_connection(server.address, 5).close()
    server.wait_for(connections=2)
    server.stop()
    assert len(seen) == 1


def test_scripted_tls(scripted: Callable[..., ScriptedServer], tls: Tls) -> None:
    server = scripted([read(), reply(200, b"{}")], [read()], tls=tls.server)
    assert exchange(server.url, verify=tls.ca).json() == {}
    with pytest.raises(requests.exceptions.SSLError):
        exchange(server.url)


def test_bytes_are_sent_as_given(scripted: Callable[..., ScriptedServer]) -> None:
    server = scripted([send(b"\x00\xffraw")])
    with socket.create_connection(server.address, 5) as sock:
        assert sock.recv(5, socket.MSG_WAITALL) == b"\x00\xffraw"


def test_an_answer_without_content_has_no_length() -> None:
    assert answer(204) == b"HTTP/1.1 204 Scripted\r\n\r\n"


def test_replies_in_order_on_one_connection(replies: Callable[..., ReplyServer]) -> None:
    server = replies([(200, {}, {"n": 1}), (404, {"X-A": "b"}, "text"), (204, {}, b"")])
    with requests.Session() as session:
        session.trust_env = False
        first = session.get(server.url + "/a%2Fb/?q=%20+x&q=2", timeout=5)
        second = session.post(server.url + "/", json={"k": [1]}, timeout=5)
        third = session.delete(server.url + "/z", timeout=5)
    assert (first.json(), second.text, second.headers["X-A"], third.status_code) == (
        {"n": 1},
        "text",
        "b",
        204,
    )
    assert server.lines == ["GET /a%2Fb/?q=%20+x&q=2", "POST /", "DELETE /z"]
    assert server.requests[0].query == [("q", "  x"), ("q", "2")]
    assert server.requests[1].json == {"k": [1]}
    assert server.connections == 1


def test_replies_by_function_over_tls(replies: Callable[..., ReplyServer], tls: Tls) -> None:
    server = replies(lambda request: (200, {}, {"path": request.path}), tls=tls.server)
    assert exchange(server.url + "/there", verify=tls.ca).json() == {"path": "/there"}
    assert exchange(server.url + "/head", method="HEAD", verify=tls.ca).content == b""
    with pytest.raises(requests.exceptions.SSLError):
        exchange(server.url)


def test_an_unscripted_request_fails_the_test() -> None:
    with pytest.raises(AssertionError, match="GET /more"), ReplyServer([]) as server:
        assert exchange(server.url + "/more").status_code == 500


def test_the_clock_moves_by_hand_only(clock: FakeClock) -> None:
    wall, ticks = clock.now(), clock.monotonic()
    assert (clock.now(), clock.monotonic()) == (wall, ticks)
    assert wall.tzinfo is not None
    clock.advance(90.5)
    assert (clock.now() - wall).total_seconds() == 90.5
    assert clock.monotonic() - ticks == 90.5
    clock.jump(-3600)
    assert (clock.now() - wall).total_seconds() == 90.5 - 3600
    assert clock.monotonic() - ticks == 90.5
    with pytest.raises(ValueError):
        clock.advance(-1)


def test_unique_names_are_valid_everywhere(unique: Callable[..., str]) -> None:
    names = {unique("t") for _ in range(1000)}
    assert len(names) == 1000
    assert all(name.isalnum() and name.islower() and name.isascii() and len(name) == 12 for name in names)


@pytest.mark.parametrize("method", ["connect", "connect_ex"])
def test_the_network_is_out_of_reach(method: str) -> None:
    with socket.socket() as sock, pytest.raises(NetworkBlocked):
        getattr(sock, method)(("192.0.2.1", 80))


def test_leaks_are_found(pytester: pytest.Pytester) -> None:
    source = pytester.path / "conftest.py"
    source.write_text("from tests import conftest as ours\nours.LEAK_SECONDS = 0.2\n_no_leaks = ours._no_leaks\n")
    pytester.makepyfile(
        """
        import socket, threading
        kept = []
        ended = threading.Event()

        def test_thread_of_ours():
            threading.Thread(target=ended.wait, args=(60,), daemon=True, name="selfdb-x").start()

        def test_socket():
            kept.extend(socket.socket() for _ in range(20))

        def test_clean():
            socket.socket().close()

        def test_end():
            ended.set()
            while kept:
                kept.pop().close()
        """
    )
    outcome = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:timeout")
    outcome.assert_outcomes(passed=4, errors=2)
    outcome.stdout.fnmatch_lines(["*left threads behind: *selfdb-x*", "*left * sockets open*"])


def test_databases_are_fresh_and_dropped(postgres: PostgresCluster) -> None:
    import psycopg

    with postgres.database() as url:
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE users (a int)")
            assert connection.execute("SELECT lower('Ü')").fetchone() == ("ü",)
        with postgres.database() as other, psycopg.connect(other) as connection:
            assert connection.execute("SELECT to_regclass('users')").fetchone() == (None,)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(url)


def test_what_killed_processes_left_is_swept(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(30)
    for name in (f"{PREFIX}{ended.pid}-a", f"{PREFIX}{os.getpid()}-b", f"{PREFIX}other", "unrelated-1-a"):
        (tmp_path / name / "data").mkdir(parents=True)
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [f"{PREFIX}{os.getpid()}-b", f"{PREFIX}other", "unrelated-1-a"]
    )


def test_threads_may_share_a_script(scripted: Callable[..., ScriptedServer]) -> None:
    server = scripted(default=[read(), reply(200, b"{}", {"Connection": "close"})])
    threads = [threading.Thread(target=exchange, args=(server.url,)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (len(server.requests), server.connections) == (20, 20)
