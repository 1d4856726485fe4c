"""Opening a socket of the embedded server: addresses, versions, credentials, refusals, and what is not logged."""

from __future__ import annotations

import json
import logging
from typing import Any, Callable, Dict, Optional

import pytest
import websocket

from tests.realtime.raw import FULL, SHORT, Raw, Table, address
from tests.support import Http

Connect = Callable[..., Raw]


def refusal(url: str, **options: Any) -> websocket.WebSocketBadStatusException:
    with pytest.raises(websocket.WebSocketBadStatusException) as caught:
        websocket.create_connection(url, timeout=10, redirect_limit=0, **options)
    return caught.value


def detail(error: websocket.WebSocketBadStatusException) -> Any:
    return json.loads(error.resp_body)["detail"]


@pytest.mark.parametrize("path", [FULL, SHORT])
@pytest.mark.parametrize("vsn", ["2.0.0", "2.1"])
def test_c101_both_addresses_open(server: Any, http: Http, connect: Connect, path: str, vsn: str) -> None:
    table = Table(http, http.admin)
    raw = connect(server, http.admin, path=path, vsn=vsn).joined(table.topic)
    row = table.insert(1)
    assert raw.receive() == table.event("INSERT", row, None)


@pytest.mark.parametrize("vsn", [None, "1.0.0"])
def test_c101_without_a_version_it_is_the_first(server: Any, http: Http, connect: Connect, vsn: Optional[str]) -> None:
    table = Table(http, http.admin)
    raw = connect(server, http.admin, vsn=vsn)
    raw.text(json.dumps({"topic": table.topic, "event": "phx_join", "payload": {}, "ref": "7"}))
    assert raw.receive() == {
        "topic": table.topic,
        "event": "phx_reply",
        "payload": {"status": "ok", "response": {"accepts": ["access_token"]}},
        "ref": "7",
    }
    row = table.insert(1)
    payload = table.event("INSERT", row, None)[4]
    assert raw.receive() == {"topic": table.topic, "event": "INSERT", "payload": payload, "ref": None}
    raw.text(json.dumps({"topic": table.topic, "event": "phx_leave", "payload": {}, "ref": "8"}))
    assert raw.receive()["ref"] == "8"
    assert raw.receive() == {"topic": table.topic, "event": "phx_close", "payload": {}, "ref": "7"}


@pytest.mark.parametrize("vsn", ["3.0.0", "1.1.0", "", "2.0.0.0"])
@pytest.mark.parametrize("path", [FULL, SHORT])
def test_c101_other_versions_are_refused(server: Any, http: Http, path: str, vsn: str) -> None:
    error = refusal(address(server, path, vsn=vsn, api_key=server.api_key, token=http.admin))
    assert error.status_code == 403
    assert "vsn" in detail(error)


def test_c101_the_short_address_answers_in_the_shape_it_heard_last(server: Any, http: Http, connect: Connect) -> None:
    table = Table(http, http.admin)
    raw = connect(server, http.admin, path=SHORT, vsn=None).joined(table.topic)
    row = table.insert(1)
    assert raw.receive() == table.event("INSERT", row, None)
    raw.text(json.dumps({"topic": "phoenix", "event": "heartbeat", "payload": {}, "ref": "2"}))
    assert raw.receive()["payload"] == {"status": "ok", "response": {}}
    row = table.insert(2)
    assert raw.receive()["payload"]["new"] == row
    raw.beat()
    row = table.insert(3)
    assert raw.receive() == table.event("INSERT", row, None)


@pytest.mark.parametrize("path", [FULL, SHORT])
@pytest.mark.parametrize(
    "query, status, text",
    [
        ({}, 406, "Missing required header: X-API-Key"),
        ({"api_key": ""}, 406, "Missing required header: X-API-Key"),
        ({"api_key": "wrong", "token": "x"}, 401, "Invalid API key"),
        ({"api_key": "right"}, 401, "Not authenticated"),
        ({"api_key": "right", "token": ""}, 401, "Not authenticated"),
        ({"api_key": "right", "token": "x.y.z"}, 401, "Could not validate credentials"),
        ({"api_key": "right", "token": "\ud7ff\0"}, 401, "Could not validate credentials"),
    ],
)
def test_c102_bad_credentials_are_refused_before_anything_opens(
    server: Any, path: str, query: Dict[str, str], status: int, text: str
) -> None:
    if query.get("api_key") == "right":
        query = {**query, "api_key": server.api_key}
    error = refusal(address(server, path, vsn="2.0.0", **query))
    assert (error.status_code, detail(error)) == (status, text)
    assert error.resp_headers is not None
    assert error.resp_headers["content-type"] == "application/json"


def test_c102_an_unknown_address_needs_the_key_too(server: Any, http: Http) -> None:
    assert refusal(address(server, "/realtime/other")).status_code == 406
    assert refusal(address(server, "/realtime/other", api_key=server.api_key)).status_code == 403


def test_c102_ended_sessions_and_refresh_tokens_open_nothing(server: Any, http: Http) -> None:
    user, token = http.new_user()
    pair = http.login(user["email"], "password123")
    refused = refusal(address(server, vsn="2.0.0", api_key=server.api_key, token=pair.refresh))
    assert refused.status_code == 401
    assert http.post("/users/logout", json={}, bearer=token).status_code == 200
    assert refusal(address(server, vsn="2.0.0", api_key=server.api_key, token=token)).status_code == 401
    http.patch(f"/users/{user['id']}", json={"isActive": False}, bearer=http.admin)
    assert refusal(address(server, vsn="2.0.0", api_key=server.api_key, token=pair.access)).status_code == 401


def test_the_key_may_come_as_a_header_and_any_origin_is_served(server: Any, http: Http) -> None:
    url = address(server, vsn="2.0.0", token=http.admin)
    ws = websocket.create_connection(
        url, timeout=10, header={"X-API-Key": server.api_key}, origin="https://elsewhere.example"
    )
    ws.send('[null,"1","phoenix","heartbeat",{}]')
    assert json.loads(ws.recv())[4] == {"status": "ok", "response": {}}
    ws.shutdown()


def test_http_is_as_it_was(server: Any, http: Http) -> None:
    assert http.get(FULL).status_code == 404
    assert http.get(SHORT, key=None).status_code == 406


def test_c019_neither_key_nor_token_is_logged(
    make_server: Callable[..., Any], connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(5, "uvicorn.error")
    server = make_server(api_key="key-that-nobody-may-see", access_log=True)
    http = Http(server)
    token = http.admin
    table = Table(http, token)
    raw = connect(server, token).joined(table.topic)
    assert raw.ask("1", "2", table.topic, "access_token", {"access_token": token})[4]["status"] == "ok"
    raw.text("not json, with " + token)
    raw.beat()
    refusal(address(server, vsn="2.0.0", api_key="wrong-key-of-somebody", token=token))
    raw.stop()
    server.stop()
    logged = "\n".join(record.getMessage() for record in caplog.records if not record.name.startswith("websocket"))
    assert "WEBSOCKET /realtime/socket/websocket 101" in logged
    assert "WEBSOCKET /realtime/socket/websocket 401" in logged
    for secret in ("key-that-nobody-may-see", "wrong-key-of-somebody", token):
        assert secret not in logged
