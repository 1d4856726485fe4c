"""Signing up, in and out, and what is kept of a session."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict

import pytest

from selfdb.aerodb import AeroDBClient, Session
from tests.aerodb.services import EMAIL, PASSWORD, code, data, jwt
from tests.servers.aerodb.auth import LIFETIME
from tests.servers.aerodb.server import AeroServer

Make = Callable[..., AeroDBClient]
NEW = ("bob@example.com", "long enough")


def test_c015_signing_up_gives_user_and_session(aero: AeroServer, client: AeroDBClient) -> None:
    before = int(time.time())
    response = client.auth.sign_up(*NEW)
    given = data(response)
    assert response.status == 201
    assert (given.user.id, given.user.email, given.user.created_at) == ("user-2", NEW[0], "2026-01-02T03:04:05Z")
    assert (given.user.email_verified, given.user.updated_at, given.user.metadata) == (False, None, None)
    assert given.session == client.auth.get_session()
    assert given.session.access_token == client.auth.get_token()
    assert given.session.expires_in == LIFETIME
    assert before <= given.session.expires_at - LIFETIME <= time.time()
    assert aero.lines == ["POST /auth/signup"]
    assert aero.last.json == {"email": NEW[0], "password": NEW[1]}
    assert aero.last.header("Content-Type") == "application/json"


@pytest.mark.parametrize(("metadata", "sent"), [({"plan": "pro"}, {"metadata": {"plan": "pro"}}), ({}, {}), (None, {})])
def test_c015_metadata_go_along_unless_they_are_empty(
    aero: AeroServer, client: AeroDBClient, metadata: Any, sent: Dict[str, Any]
) -> None:
    user = data(client.auth.sign_up(*NEW, metadata=metadata)).user
    assert aero.last.json == {"email": NEW[0], "password": NEW[1], **sent}
    assert user.metadata == sent.get("metadata")


def test_c015_what_the_server_says_of_the_end_counts(aero: AeroServer, client: AeroDBClient) -> None:
    tokens = {
        "access_token": "access-token",
        "refresh_token": "refresh-token",
        "expires_at": 123,
        "token_type": "bearer",
    }
    aero.auth.instead["/auth/login"] = [(200, {}, {"user": {"id": 7, "email": EMAIL, "odd": 1}, **tokens})]
    given = data(client.auth.sign_in(EMAIL, PASSWORD))
    assert given.user.id == "7"
    assert given.session == Session("access-token", "refresh-token", 123, None, "bearer")


@pytest.mark.parametrize("status", [200, 201])
def test_c015_either_status_is_a_success(aero: AeroServer, client: AeroDBClient, status: int) -> None:
    tokens = {"access_token": "access-token", "refresh_token": "refresh-token", "expires_in": 60}
    aero.auth.instead["/auth/signup"] = [(status, {}, {"user": {"id": "7", "email": NEW[0]}, **tokens})]
    response = client.auth.sign_up(*NEW)
    assert (data(response).session, response.status) == (client.auth.get_session(), status)
    assert client.auth.get_token() == "access-token"


REFUSALS = [
    (409, "email already registered"), (400, "weak password"), (401, "wrong"), (403, "unverified"),
    (404, "unknown user"), (429, "slow down"), (503, "not ready"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "message"), REFUSALS)
@pytest.mark.parametrize("call", ["sign_up", "sign_in"])
def test_c016_a_refusal_leaves_the_session_as_it_was(
    aero: AeroServer, signed_in: AeroDBClient, call: str, status: int, message: str
) -> None:
    before = signed_in.auth.get_session()
    path = {"sign_up": "/auth/signup", "sign_in": "/auth/login"}[call]
    aero.auth.instead[path] = [(status, {}, {"error": message, "code": status})]
    response = getattr(signed_in.auth, call)(*NEW)
    assert code(response) == str(status)
    assert (response.error.status, response.error.message) == (status, message)
    assert signed_in.auth.get_session() == before is not None
    assert len(aero.requests) == 1


def test_c016_a_second_account_of_an_address_is_a_conflict(aero: AeroServer, signed_in: AeroDBClient) -> None:
    before = signed_in.auth.get_session()
    response = signed_in.auth.sign_up(EMAIL, "long enough")
    assert (code(response), response.status) == ("409", 409)
    assert signed_in.auth.get_session() == before


def test_c017_where_it_has_to_be_confirmed_there_is_no_session(aero: AeroServer, client: AeroDBClient) -> None:
    aero.auth.pending = True
    given = data(client.auth.sign_up(*NEW))
    assert (given.user.email, given.session) == (NEW[0], None)
    assert client.auth.get_session() is None


def test_c018_a_wrong_password_is_a_401_and_refreshes_nothing(aero: AeroServer, signed_in: AeroDBClient) -> None:
    before = signed_in.auth.get_session()
    response = signed_in.auth.sign_in(EMAIL, "wrong")
    assert (code(response), response.status) == ("401", 401)
    assert aero.lines == ["POST /auth/login"]
    assert signed_in.auth.get_session() == before


@pytest.mark.parametrize("credentials", [("", "x"), ("a@b", ""), (None, "x"), ("a@b", None), (5, "x")], ids=str)
@pytest.mark.parametrize("call", ["sign_up", "sign_in"])
def test_c019_empty_credentials_are_not_sent(
    aero: AeroServer, client: AeroDBClient, call: str, credentials: Any
) -> None:
    response = getattr(client.auth, call)(*credentials)
    assert code(response) == "VALIDATION_ERROR"
    assert response.error.status is None
    assert aero.requests == []


@pytest.mark.parametrize("metadata", [5, "x", [1], {"at": float("nan")}, {1: object}], ids=str)
def test_c019_nor_are_metadata_that_are_none(aero: AeroServer, client: AeroDBClient, metadata: Any) -> None:
    assert code(client.auth.sign_up(*NEW, metadata=metadata)) == "VALIDATION_ERROR"
    assert aero.requests == []


def test_c020_without_a_token_nobody_is_asked(aero: AeroServer, client: AeroDBClient) -> None:
    assert code(client.auth.get_user()) == "NOT_AUTHENTICATED"
    assert code(client.auth.refresh_session()) == "NO_REFRESH_TOKEN"
    assert (client.auth.get_session(), client.auth.get_token()) == (None, None)
    assert aero.requests == []


def test_c020_without_a_refresh_token_neither(aero: AeroServer, client: AeroDBClient) -> None:
    data(client.auth.set_session("access-token"))
    assert code(client.auth.refresh_session()) == "NO_REFRESH_TOKEN"
    assert aero.requests == []


def test_c020_who_is_signed_in_is_asked_with_the_bearer(aero: AeroServer, signed_in: AeroDBClient) -> None:
    user = data(signed_in.auth.get_user())
    assert (user.id, user.email) == ("user-1", EMAIL)
    assert aero.lines == ["GET /auth/user"]


@pytest.mark.parametrize("body", [{"id": 1}, {"email": "x"}, [], "text", {"id": True, "email": "x"}], ids=str)
def test_c020_an_answer_without_a_user_is_invalid(aero: AeroServer, signed_in: AeroDBClient, body: Any) -> None:
    aero.auth.instead["/auth/user"] = [(200, {}, body)]
    response = signed_in.auth.get_user()
    assert (code(response), response.status) == ("INVALID_RESPONSE", 200)


@pytest.mark.parametrize("member", ["access_token", "user"])
def test_an_answer_without_a_session_is_invalid(aero: AeroServer, signed_in: AeroDBClient, member: str) -> None:
    before = signed_in.auth.get_session()
    body = {"user": {"id": "1", "email": EMAIL}, "access_token": "a", "refresh_token": "r"}
    del body[member]
    aero.auth.instead["/auth/login"] = [(200, {}, body)]
    assert code(signed_in.auth.sign_in(EMAIL, PASSWORD)) == "INVALID_RESPONSE"
    assert signed_in.auth.get_session() == before


@pytest.mark.parametrize("token", ["", "a b", "a\nb", "é", 5])
def test_a_token_that_could_not_stand_in_a_header_is_invalid(
    aero: AeroServer, client: AeroDBClient, token: Any
) -> None:
    user = {"id": "1", "email": EMAIL}
    aero.auth.instead["/auth/login"] = [(200, {}, {"user": user, "access_token": token, "refresh_token": "r"})]
    assert code(client.auth.sign_in(EMAIL, PASSWORD)) == "INVALID_RESPONSE"
    assert client.auth.get_session() is None


@pytest.mark.parametrize("status", [500, 401, 404, 429])
def test_c021_signing_out_ends_the_session_whatever_the_server_says(
    aero: AeroServer, signed_in: AeroDBClient, status: int
) -> None:
    refresh = signed_in.auth.get_session().refresh_token  # type: ignore[union-attr]
    aero.auth.instead["/auth/logout"] = [(status, {}, {"error": "x"})]
    response = signed_in.auth.sign_out()
    assert (response.data, response.error, response.status) == (None, None, status)
    assert signed_in.auth.get_session() is None
    assert [(request.line, request.json) for request in aero.requests] == [
        ("POST /auth/logout", {"refresh_token": refresh})
    ]


def test_c021_with_the_server_down_it_is_told_and_ended_all_the_same(aero: AeroServer, signed_in: AeroDBClient) -> None:
    aero.stop()
    assert code(signed_in.auth.sign_out()) == "NETWORK_ERROR"
    assert signed_in.auth.get_session() is None


@pytest.mark.parametrize("held", [None, "access-token"])
def test_c021_without_a_refresh_token_the_server_is_not_asked(
    aero: AeroServer, client: AeroDBClient, held: Any
) -> None:
    if held is not None:
        data(client.auth.set_session(held))
    response = client.auth.sign_out()
    assert (response.data, response.error) == (None, None)
    assert client.auth.get_session() is None
    assert aero.requests == []


@pytest.mark.parametrize("status", [400, 401, 403])
def test_c022_a_refusal_to_refresh_clears_both_tokens(aero: AeroServer, signed_in: AeroDBClient, status: int) -> None:
    aero.auth.instead["/auth/refresh"] = [(status, {}, {"error": "reused", "code": status})]
    response = signed_in.auth.refresh_session()
    assert (code(response), response.status) == (str(status), status)
    assert (signed_in.auth.get_session(), signed_in.auth.get_token()) == (None, None)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_c022_any_other_failure_keeps_them(aero: AeroServer, signed_in: AeroDBClient, status: int) -> None:
    before = signed_in.auth.get_session()
    aero.auth.instead["/auth/refresh"] = [(status, {}, {"error": "later", "code": status})]
    assert code(signed_in.auth.refresh_session()) == str(status)
    assert signed_in.auth.get_session() == before is not None


def test_c022_so_does_a_server_that_is_down(aero: AeroServer, signed_in: AeroDBClient) -> None:
    before = signed_in.auth.get_session()
    aero.stop()
    assert code(signed_in.auth.refresh_session()) == "NETWORK_ERROR"
    assert signed_in.auth.get_session() == before is not None


def test_c022_a_refresh_gives_the_new_session(aero: AeroServer, signed_in: AeroDBClient) -> None:
    before = signed_in.auth.get_session()
    session = data(signed_in.auth.refresh_session())
    assert session == signed_in.auth.get_session() != before
    assert aero.last.json == {"refresh_token": before.refresh_token}  # type: ignore[union-attr]
    assert aero.last.header("Authorization") is None


def test_c022_one_that_is_not_rotated_is_kept(aero: AeroServer, signed_in: AeroDBClient) -> None:
    before = signed_in.auth.get_session()
    aero.auth.instead["/auth/refresh"] = [(200, {}, {"access_token": "newer-access", "expires_in": 5})]
    session = data(signed_in.auth.refresh_session())
    assert (session.access_token, session.refresh_token) == ("newer-access", before.refresh_token)  # type: ignore[union-attr]


def test_a_session_of_elsewhere_is_gone_on_with(aero: AeroServer, client: AeroDBClient) -> None:
    token = jwt("ann", 2_000_000_000)
    session = data(client.auth.set_session(token, "refresh-token"))
    assert session == Session(token, "refresh-token", 2_000_000_000) == client.auth.get_session()
    assert aero.requests == []


@pytest.mark.parametrize(
    "tokens", [("", "r"), ("a b", "r"), (None, "r"), ("a", ""), ("a", "x\r\ny"), ("a", 5)], ids=str
)
def test_a_session_that_is_none_is_refused(client: AeroDBClient, tokens: Any) -> None:
    assert code(client.auth.set_session(*tokens)) == "VALIDATION_ERROR"
    assert client.auth.get_session() is None
