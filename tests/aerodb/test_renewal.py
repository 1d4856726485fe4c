"""What becomes of calls whose access token has expired."""

from __future__ import annotations

import json
import threading
from io import BytesIO
from typing import Any, Callable, Dict, List

import pytest

from selfdb.aerodb import AeroDBClient, AeroDBResponse
from tests.aerodb.services import EMAIL, PASSWORD, code, data
from tests.servers.aerodb.server import AeroServer

Make = Callable[..., AeroDBClient]

CALLS: Dict[str, Callable[[AeroDBClient], AeroDBResponse[Any]]] = {
    "select": lambda client: client.from_("items").select().execute(),
    "insert": lambda client: client.from_("items").insert({"id": 3}),
    "rpc": lambda client: client.rpc("add", {"a": 1}),
    "get_user": lambda client: client.auth.get_user(),
    "upload": lambda client: client.storage.from_("photos").upload("a.txt", b"x"),
    "upload of a file": lambda client: client.storage.from_("photos").upload("a.txt", BytesIO(b"x")),
    "list": lambda client: client.storage.from_("photos").list(),
    "invoke": lambda client: client.functions.invoke("hello", {"a": 1}),
}


@pytest.fixture
def expired(aero: AeroServer, signed_in: AeroDBClient) -> AeroDBClient:
    """A client whose access token has expired, and whose refresh token is good."""
    aero.guarded = True
    aero.functions["hello"] = (200, {}, {"ok": True})
    aero.auth.expire(signed_in.auth.get_token() or "")
    return signed_in


@pytest.mark.parametrize("name", CALLS)
def test_c023_the_session_is_refreshed_and_the_call_made_again(
    aero: AeroServer, expired: AeroDBClient, name: str
) -> None:
    old = expired.auth.get_token()
    response = CALLS[name](expired)
    assert response.ok, response.error
    if name == "select":
        assert response.data == aero.rows
    first, refresh, again = aero.requests
    assert refresh.line == "POST /auth/refresh"
    assert (first.line, first.body) == (again.line, again.body)
    assert first.header("Authorization") == f"Bearer {old}"
    assert again.header("Authorization") == f"Bearer {expired.auth.get_token()}"


def test_c023_the_session_knows_its_new_end(aero: AeroServer, expired: AeroDBClient) -> None:
    before = expired.auth.get_session()
    CALLS["select"](expired)
    after = expired.auth.get_session()
    assert before is not None
    assert after is not None
    assert after.access_token != before.access_token
    assert (after.expires_in, after.expires_at is not None) == (900, True)


def test_c024_twenty_threads_refresh_once(aero: AeroServer, expired: AeroDBClient) -> None:
    gate = threading.Barrier(20)
    came: List[Any] = []

    def call() -> None:
        gate.wait(15)
        came.append(CALLS["select"](expired))

    threads = [threading.Thread(target=call) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [response.ok for response in came] == [True] * 20
    assert aero.lines.count("POST /auth/refresh") == 1


def test_c024_a_thread_that_finds_a_new_token_only_makes_its_call_again(
    aero: AeroServer, expired: AeroDBClient
) -> None:
    def refresh_elsewhere(request: Any) -> None:
        aero.before = None
        fresh = aero.auth._tokens(EMAIL)
        expired.auth.set_session(fresh["access_token"], fresh["refresh_token"])

    aero.before = refresh_elsewhere
    assert CALLS["select"](expired).ok
    assert [line.split("?")[0] for line in aero.lines] == ["GET /rest/v1/items"] * 2


@pytest.mark.parametrize("found", [False, True], ids=["refreshed", "found"])
def test_c025_a_second_401_is_returned(aero: AeroServer, expired: AeroDBClient, found: bool) -> None:
    refused = (401, {}, {"code": "PGRST301", "message": "still no"})

    def replace(request: Any) -> None:
        aero.before = None
        expired.auth.set_session("another-token", "another-refresh")

    if found:
        aero.before = replace
        aero.instead = [refused, refused]
    else:
        tokens = aero.auth._tokens(EMAIL)
        aero.instead = [refused, (200, {}, tokens), refused]
    response = CALLS["select"](expired)
    assert code(response) == "PGRST301"
    assert (response.error.message, response.status) == ("still no", 401)  # type: ignore[union-attr]
    assert len(aero.requests) == (2 if found else 3)


@pytest.mark.parametrize("name", ["select", "insert", "rpc"])
def test_c026_a_missing_privilege_refreshes_nothing(aero: AeroServer, expired: AeroDBClient, name: str) -> None:
    aero.instead = [(401, {}, {"code": "42501", "message": "permission denied"})]
    response = CALLS[name](expired)
    assert (code(response), response.status) == ("42501", 401)
    assert len(aero.requests) == 1


@pytest.mark.parametrize("name", CALLS)
def test_c027_unless_wanted_the_401_is_returned_at_once(aero: AeroServer, client_for: Make, name: str) -> None:
    client = client_for(aero, auto_refresh=False)
    session = data(client.auth.sign_in(EMAIL, PASSWORD)).session
    aero.guarded = True
    aero.auth.expire(session.access_token)
    aero.forget()
    response = CALLS[name](client)
    assert response.error is not None
    assert response.error.status == 401
    assert len(aero.requests) == 1
    assert client.auth.get_session() == session


def test_c027_it_can_be_refreshed_by_hand_then(aero: AeroServer, client_for: Make) -> None:
    client = client_for(aero, auto_refresh=False)
    session = data(client.auth.sign_in(EMAIL, PASSWORD)).session
    assert data(client.auth.refresh_session()) != session


@pytest.mark.parametrize("status", [401, 403, 429, 503])
def test_if_the_refresh_fails_the_first_401_is_returned(aero: AeroServer, expired: AeroDBClient, status: int) -> None:
    aero.auth.instead["/auth/refresh"] = [(status, {}, {"error": "no", "code": status})]
    response = CALLS["select"](expired)
    assert (code(response), response.status) == ("PGRST301", 401)
    assert len(aero.requests) == 2
    assert (expired.auth.get_session() is None) is (status in (401, 403))


@pytest.mark.parametrize("body", [b"", "<html>", "[]", {"access_token": ""}, {"refresh_token": "alone"}], ids=str)
def test_so_it_is_if_the_refresh_is_answered_with_no_session(
    aero: AeroServer, expired: AeroDBClient, body: Any
) -> None:
    before = expired.auth.get_session()
    aero.auth.instead["/auth/refresh"] = [(200, {}, body)]
    response = CALLS["select"](expired)
    assert (code(response), response.status) == ("PGRST301", 401)
    assert expired.auth.get_session() == before is not None


def test_so_it_is_if_the_server_is_gone_by_then(scripted: Callable[..., Any], client_for: Make) -> None:
    """The refresh meets a reset, and nothing is told of it: the call itself had its answer."""
    refused = json.dumps({"code": "PGRST301", "message": "JWT expired"}).encode()
    server = scripted(
        lambda peer: (peer.read_request(), peer.reply(401, refused, {"Connection": "close"})),
        default=lambda peer: (peer.read_request(), peer.reset()),
    )
    client = client_for(server.url)
    session = data(client.auth.set_session("some-token", "some-refresh"))
    response = CALLS["select"](client)
    assert (code(response), response.status) == ("PGRST301", 401)
    assert client.auth.get_session() == session
    assert [request.target.partition("?")[0] for request in server.requests] == ["/rest/v1/items", "/auth/refresh"]


def test_a_body_that_cannot_be_rewound_is_not_sent_again(aero: AeroServer, expired: AeroDBClient) -> None:
    photos = expired.storage.from_("photos")
    response = photos.upload("a.txt", iter([b"x", b"y"]))
    assert (code(response), response.status) == ("PGRST301", 401)  # the server's own words
    assert aero.lines == ["POST /storage/v1/object/photos/a.txt", "POST /auth/refresh"]
    assert photos.upload("a.txt", iter([b"x", b"y"])).ok  # with the session that was refreshed


def test_without_a_refresh_token_the_401_is_returned(aero: AeroServer, expired: AeroDBClient) -> None:
    expired.auth.set_session("some-token")
    assert CALLS["select"](expired).status == 401
    assert len(aero.requests) == 1


def test_what_is_closed_while_it_refreshes_says_so(aero: AeroServer, expired: AeroDBClient) -> None:
    aero.before = lambda request: expired.close() if request.path == "/auth/refresh" else None
    assert code(CALLS["select"](expired)) in ("CLIENT_CLOSED", "NETWORK_ERROR")
