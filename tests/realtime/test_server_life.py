"""How sockets of the embedded server end: expiry, revocation, silence, slowness, and the server's own end."""

from __future__ import annotations

import json
import socket
import time
from typing import Any, Callable, List

import pytest
import websocket

from tests.realtime.raw import Raw, Table, until
from tests.servers.clock import FakeClock
from tests.support import Http

Connect = Callable[..., Raw]

#: Revocation reaches sockets within a second; tests on a busy machine allow five times that.
SLACK = 5.0


def hub(server: Any) -> Any:
    return server._running().config.app.state.hub


def test_c120_a_socket_ends_with_its_token(make_server: Callable[..., Any], connect: Connect, clock: FakeClock) -> None:
    server = make_server(clock=clock, access_token_seconds=40)
    http = Http(server)
    first, raw = connect(server, http.admin), connect(server, http.admin)
    clock.advance(30)
    first.beat()
    raw.beat()
    clock.advance(9)
    first.beat()
    clock.advance(1)
    assert first.ended() == (1008, "token expired")
    assert raw.ended() == (1008, "token expired")


def test_c120_a_fresh_token_prolongs_the_socket(
    make_server: Callable[..., Any], connect: Connect, clock: FakeClock
) -> None:
    server = make_server(clock=clock, access_token_seconds=40)
    http = Http(server)
    user, token = http.new_user()
    _, others = http.new_user()
    table = Table(http, http.admin)
    raw = connect(server, token).joined(table.topic)

    def push(payload: Any) -> Any:
        return raw.ask("1", "2", table.topic, "access_token", payload)[4]

    clock.advance(30)
    fresh = http.login(user["email"], "password123")
    refused = {"status": "error", "response": {"reason": "unauthorized"}}
    for bad in (others, fresh.refresh, "x", "", None, 7, "\ud800"):
        assert push({"access_token": bad}) == refused
    for bad in ({}, [], "x"):
        assert push(bad) == refused
    assert push({"access_token": fresh.access}) == {"status": "ok", "response": {}}
    clock.advance(30)
    table.bearer = http.login().access
    row = table.insert(1)
    assert raw.receive() == table.event("INSERT", row, None)
    # It now stands and falls with the session of the fresh token.
    assert http.post("/users/logout", json={"refresh_token": fresh.refresh}).status_code == 200
    assert raw.ended() == (1008, "token expired")


def test_c120_an_ended_session_prolongs_nothing(server: Any, http: Http, connect: Connect) -> None:
    user, token = http.new_user()
    table = Table(http, http.admin)
    raw = connect(server, token).joined(table.topic)
    other = http.login(user["email"], "password123")
    http.post("/users/logout", json={}, bearer=other.access)
    reply = raw.ask("1", "2", table.topic, "access_token", {"access_token": other.access})
    assert reply[4] == {"status": "error", "response": {"reason": "unauthorized"}}
    raw.beat()


def logout(http: Http, user: Any, token: str) -> Any:
    return http.post("/users/logout", json={}, bearer=token)


def logout_all(http: Http, user: Any, token: str) -> Any:
    return http.post("/users/logout/all", bearer=http.login(user["email"], "password123").access)


def new_password(http: Http, user: Any, token: str) -> Any:
    return http.patch(f"/users/{user['id']}", json={"password": "password456"}, bearer=http.admin)


def deactivate(http: Http, user: Any, token: str) -> Any:
    return http.patch(f"/users/{user['id']}", json={"isActive": False}, bearer=http.admin)


def delete(http: Http, user: Any, token: str) -> Any:
    return http.delete(f"/users/{user['id']}", bearer=http.admin)


@pytest.mark.parametrize("end", [logout, logout_all, new_password, deactivate, delete], ids=lambda end: end.__name__)
def test_c120_sockets_end_with_their_session(
    server: Any, http: Http, connect: Connect, end: Callable[[Http, Any, str], Any]
) -> None:
    user, token = http.new_user()
    raw, bystander = connect(server, token), connect(server, http.admin)
    assert end(http, user, token).status_code in (200, 204)
    began = time.monotonic()
    assert raw.ended() == (1008, "token expired")
    assert time.monotonic() - began < SLACK
    bystander.beat()


def test_c120_ones_own_new_password_spares_ones_own_session(server: Any, http: Http, connect: Connect) -> None:
    user, token = http.new_user()
    own = connect(server, token)
    other = connect(server, http.login(user["email"], "password123").access)
    assert http.patch(f"/users/{user['id']}", json={"password": "password456"}, bearer=token).status_code == 200
    assert other.ended() == (1008, "token expired")
    own.beat()


def test_c114_a_silent_socket_is_closed_after_a_minute(
    make_server: Callable[..., Any], connect: Connect, clock: FakeClock
) -> None:
    server = make_server(clock=clock)
    http = Http(server)
    raw, silent = connect(server, http.admin), connect(server, http.admin)
    clock.advance(59)
    raw.beat()
    clock.advance(1)
    assert silent.ended() == (1001, "idle")
    raw.beat()


def test_a_socket_that_does_not_read_is_put_out_and_delays_nobody(
    make_server: Callable[..., Any], connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selfdb.server.realtime.socket.MAX_QUEUED_CHARACTERS", 4_000_000)
    server = make_server()
    http = Http(server)
    table = Table(http, http.admin)
    slow = connect(server, http.admin, sockopt=((socket.SOL_SOCKET, socket.SO_RCVBUF, 4096),)).joined(table.topic)
    raw = connect(server, http.admin).joined(table.topic)
    text = "x" * 1_500_000
    for number in range(10):
        row = table.insert(number, text)
        assert raw.receive() == table.event("INSERT", row, None)
    until(lambda: len(hub(server)._sockets) == 1)
    raw.beat()
    try:
        code, _ = slow.ended()
    except (OSError, websocket.WebSocketException):
        return  # the line was cut before it had read so far
    assert code == 1013


def test_a_client_that_asks_much_and_reads_nothing_is_put_out(
    make_server: Callable[..., Any], connect: Connect
) -> None:
    server = make_server()
    http = Http(server)
    slow = connect(server, http.admin, sockopt=((socket.SOL_SOCKET, socket.SO_RCVBUF, 4096),))
    question = json.dumps([None, "1", "x" * 200_000, "event", {}])
    try:
        for _ in range(400):
            slow.text(question)
    except OSError:
        pass
    until(lambda: not hub(server)._sockets)
    assert http.get("/system/status").status_code == 200


def test_the_server_ends_promptly_with_sockets_open(
    make_server: Callable[..., Any], connect: Connect, backend: str
) -> None:
    server = make_server(backend=backend)
    http = Http(server)
    table = Table(http, http.admin)
    sockets: List[Raw] = [connect(server, http.admin).joined(table.topic) for _ in range(2)]
    stuck = connect(server, http.admin, sockopt=((socket.SOL_SOCKET, socket.SO_RCVBUF, 4096),)).joined(table.topic)
    table.insert(1, "x" * 8_000_000)
    for raw in sockets:
        raw.receive()
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 5
    for raw in sockets:
        assert raw.ended()[0] in (1001, 1012)
    stuck.stop()


def test_a_server_ends_when_it_is_told_to_not_when_it_next_looks(
    make_server: Callable[..., Any], backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selfdb.server.listener._DATE_SECONDS", 3600.0)
    server = make_server(backend=backend)
    assert Http(server).get("/system/status").status_code == 200
    began = time.monotonic()
    server.stop()
    # It takes a fiftieth of that; a listener for notices that heard nothing would be given up after five seconds.
    assert time.monotonic() - began < 4


def test_a_join_that_cannot_be_decided_is_answered(
    make_server: Callable[..., Any], connect: Connect, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = make_server()
    http = Http(server)
    table = Table(http, http.admin)
    raw = connect(server, http.admin)

    def fail(*arguments: Any) -> Any:
        raise OSError("the disk is on fire")

    with monkeypatch.context() as patch:
        patch.setattr(hub(server)._journal, "read", fail)
        assert raw.join(table.topic) == {"status": "error", "response": {"reason": "join crashed"}}
        assert raw.join(table.topic) == {"status": "error", "response": {"reason": "join crashed"}}
    raw.joined(table.topic)
    row = table.insert(1)
    assert raw.receive() == table.event("INSERT", row, None)
    assert [record.getMessage()[:30] for record in caplog.records if record.name == "selfdb.server.realtime"] == [
        "the events could not be read; "
    ]


def test_a_server_that_may_have_missed_events_has_its_clients_begin_anew(
    make_server: Callable[..., Any], connect: Connect
) -> None:
    server = make_server(backend="postgresql")
    raw = connect(server, Http(server).admin)
    mine = hub(server)

    def asleep() -> bool:
        mine._read_at = time.time() - 3600
        return not mine._sockets

    until(asleep)
    assert raw.ended() == (1012, "restart")


def test_a_restarted_server_tells_only_what_is_new(
    make_server: Callable[..., Any], connect: Connect, tmp_path: Any
) -> None:
    server = make_server(path=tmp_path / "data")
    http = Http(server)
    table = Table(http, http.admin)
    connect(server, http.admin).joined(table.topic)
    table.insert(1)
    server.stop()
    server.start()
    table.http = Http(server)
    raw = connect(server, http.admin).joined(table.topic)
    row = table.insert(2)
    assert raw.receive() == table.event("INSERT", row, None)
