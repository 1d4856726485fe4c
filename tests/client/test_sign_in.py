"""API key, sessions and whom a request goes out as."""

from __future__ import annotations

import base64
import json
import logging
import threading
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import pytest

from selfdb import (
    APIConnectionError,
    AuthenticationError,
    BadRequestError,
    InvalidRequestError,
    MissingAPIKeyError,
    NotSignedInError,
    RateLimitError,
    RedirectError,
    SelfDB,
    SelfDBError,
    UnprocessableEntityError,
)
from selfdb.models import UserRole
from tests.client.conftest import ACCESS, REFRESH, Recorded, pair
from tests.servers import scripted as steps
from tests.support import Http, unique

Connect = Callable[..., SelfDB]

# The API key


def test_c001_a_missing_key_is_an_error_of_its_own(recorded: Recorded) -> None:
    recorded.will((406, {}, {"detail": "Missing required header: X-API-Key"}))
    with pytest.raises(MissingAPIKeyError) as caught:
        recorded.db.auth.me()
    assert isinstance(caught.value, (AuthenticationError, SelfDBError))
    assert caught.value.status_code == 406
    assert "X-API-Key" in caught.value.message


def test_c001_a_proxy_that_drops_the_key_is_named_by_the_server(server: Any, http: Http, connect: Connect) -> None:
    """The server's own answer, as it comes when a proxy has taken the header away, through the client."""
    bare = http.get("/system/status", key=None)
    assert bare.status_code == 406
    assert bare.json() == {"detail": "Missing required header: X-API-Key"}


@pytest.mark.parametrize("call", ["status", "login", "me", "tables", "bucket"])
def test_c002_a_wrong_key(server: Any, connect: Connect, call: str) -> None:
    stranger = SelfDB(server.url, "not-the-key-of-this-server", max_retries=0)
    calls: Dict[str, Callable[[], Any]] = {
        "status": stranger.status,
        "login": lambda: stranger.auth.login("admin@example.com", "password"),
        "me": stranger.auth.me,
        "tables": stranger.tables.list,
        "bucket": lambda: stranger.storage.buckets.get("no-such-bucket"),
    }
    with stranger, pytest.raises(AuthenticationError, match="Invalid API key") as caught:
        calls[call]()
    assert type(caught.value) is AuthenticationError
    assert caught.value.status_code == 401


def test_c003_the_description_needs_no_key(http: Http) -> None:
    assert http.get("/openapi.json", key=None).status_code == 200
    preflight = {"Origin": "http://app.example", "Access-Control-Request-Method": "GET"}
    assert http.options("/tables/", key=None, headers=preflight).status_code != 406


# Login


def test_c004_the_seeded_administrator(fresh_server: Any, connect: Connect) -> None:
    db = connect(fresh_server)
    pair = db.auth.login("admin@example.com", "password")
    assert pair.token_type == "bearer"
    assert (pair.access_token, pair.refresh_token) == (db.access_token, db.refresh_token)
    me = db.auth.me()
    assert me.role is UserRole.ADMIN
    assert me.email == "admin@example.com"


def test_c005_a_wrong_password_and_an_unknown_address_sound_alike(anonymous: SelfDB, http: Http) -> None:
    user, _ = http.new_user()
    heard = []
    for email, password in ((user["email"], "password124"), (f"{unique('u')}@example.com", "password123")):
        with pytest.raises(AuthenticationError) as caught:
            anonymous.auth.login(email, password)
        heard.append((caught.value.message, caught.value.status_code))
        assert anonymous.access_token is None
        assert anonymous.refresh_token is None
    assert heard == [("Incorrect email or password", 401)] * 2


def test_c005_a_refused_login_leaves_the_session_that_is_there(user: SelfDB) -> None:
    before = (user.access_token, user.refresh_token)
    with pytest.raises(AuthenticationError):
        user.auth.login(f"{unique('u')}@example.com", "password123")
    assert (user.access_token, user.refresh_token) == before
    assert user.auth.me().role is UserRole.USER


@pytest.mark.parametrize("email", ["", "nobody", "a b@example.com"])
def test_c006_what_is_no_address(anonymous: SelfDB, email: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        anonymous.auth.login(email, "password123")
    assert type(caught.value) is UnprocessableEntityError
    assert caught.value.status_code == 422


@pytest.mark.parametrize("password", ["", None, 12345678])
def test_c006_no_password_is_refused_before_it_is_sent(recorded: Recorded, password: Any) -> None:
    with pytest.raises(InvalidRequestError, match="password"):
        recorded.db.auth.login("user@example.com", password)
    assert recorded.lines == []


def test_c006_an_empty_body(http: Http) -> None:
    assert http.post("/users/token", json={}).status_code == 422


# The bearer


BEARER_ONLY: Dict[str, Callable[[SelfDB], Any]] = {
    "me": lambda db: db.auth.me(),
    "count": lambda db: db.auth.count(),
    "users.list": lambda db: db.auth.users.list(),
    "tables.create": lambda db: db.tables.create({"name": unique("t"), "table_schema": {"a": {"type": "text"}}}),
    "buckets.create": lambda db: db.storage.buckets.create({"name": unique("b")}),
    "logout_all": lambda db: db.auth.logout_all(),
}


@pytest.mark.parametrize("call", BEARER_ONLY)
def test_c007_nobody_signed_in(anonymous: SelfDB, call: str) -> None:
    with pytest.raises(AuthenticationError, match="Not authenticated") as caught:
        BEARER_ONLY[call](anonymous)
    assert caught.value.status_code == 401
    assert caught.value.attempts == 1


def _without_signature(http: Http) -> str:
    payload = http.admin.split(".")[1]
    head = base64.urlsafe_b64encode(json.dumps({"alg": "none", "typ": "JWT"}).encode()).rstrip(b"=").decode()
    return f"{head}.{payload}."


@pytest.mark.parametrize("kind", ["garbage", "alg=none", "refresh"])
def test_c008_a_bearer_that_is_none(server: Any, http: Http, connect: Connect, kind: str) -> None:
    bearer = {
        "garbage": lambda: "garbage",
        "alg=none": lambda: _without_signature(http),
        "refresh": lambda: http.login().refresh,
    }[kind]()
    db = connect(server)
    db.access_token = bearer
    with pytest.raises(AuthenticationError, match="Could not validate credentials") as caught:
        db.auth.me()
    assert caught.value.status_code == 401


def test_c008_an_expired_bearer(make_server: Callable[..., Any], clock: Any, connect: Connect) -> None:
    server = make_server(clock=clock, access_token_seconds=60)
    db = connect(server, auto_refresh=False)
    db.auth.login("admin@example.com", "password")
    clock.advance(61)
    with pytest.raises(AuthenticationError, match="Could not validate credentials"):
        db.auth.me()


def test_c008_an_expired_bearer_is_renewed(make_server: Callable[..., Any], clock: Any, connect: Connect) -> None:
    server = make_server(clock=clock, access_token_seconds=60)
    db = connect(server)
    first = db.auth.login("admin@example.com", "password")
    clock.advance(61)
    assert db.auth.me().role is UserRole.ADMIN
    assert db.access_token != first.access_token
    assert db.refresh_token != first.refresh_token


def test_c009_a_stale_token_does_not_break_a_login(server: Any, http: Http, connect: Connect) -> None:
    user, _ = http.new_user()
    db = connect(server)
    db.access_token = "stale"
    db.auth.login(user["email"], "password123")
    assert db.auth.me().id == user["id"]


def test_c009_no_bearer_goes_with_a_login(recorded: Recorded) -> None:
    recorded.will(pair("new"))
    recorded.db.auth.login("user@example.com", "password123")
    assert recorded.last.header("Authorization") is None
    assert recorded.db.access_token == "new"


# Refresh


def test_c010_both_tokens_change_and_the_old_one_is_used_up(
    make_server: Callable[..., Any], backend: str, clock: Any, connect: Connect
) -> None:
    server = make_server(backend=backend, clock=clock)
    db = connect(server)
    old = db.auth.login("admin@example.com", "password")
    fresh = db.auth.refresh()
    assert (fresh.access_token, fresh.refresh_token) == (db.access_token, db.refresh_token)
    assert fresh.access_token != old.access_token
    assert fresh.refresh_token != old.refresh_token
    db.auth.me()  # the successor is in use, and a reply that was lost would have been asked for again by now
    db.auth.refresh()
    clock.advance(31)
    with pytest.raises(AuthenticationError, match="Invalid or expired refresh token") as caught:
        connect(server).auth.refresh(old.refresh_token)
    assert caught.value.status_code == 401


def test_c010_a_lost_reply_is_no_sign_out(user: SelfDB, anonymous: SelfDB) -> None:
    """Asked again with the token that is used up, the server names the same successor for a while."""
    old = user.refresh_token
    fresh = user.auth.refresh()
    assert anonymous.auth.refresh(old).refresh_token == fresh.refresh_token


def test_c010_a_given_token_signs_in(user: SelfDB, anonymous: SelfDB) -> None:
    assert user.refresh_token is not None
    anonymous.auth.refresh(user.refresh_token)
    assert anonymous.auth.me().id == user.auth.me().id


def test_c011_an_access_token_refreshes_nothing(user: SelfDB, anonymous: SelfDB) -> None:
    assert user.access_token is not None
    with pytest.raises(AuthenticationError) as caught:
        anonymous.auth.refresh(user.access_token)
    assert caught.value.status_code == 401
    assert anonymous.access_token is None


def test_c011_without_a_token_nothing_is_sent(replies: Callable[..., Any], connect: Connect) -> None:
    server = replies(())
    db = connect(server)
    with pytest.raises(NotSignedInError) as caught:
        db.auth.refresh()
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, AuthenticationError)
    assert server.lines == []


def test_c011_a_refused_refresh_ends_the_session(recorded: Recorded) -> None:
    recorded.will((401, {}, {"detail": "Invalid or expired refresh token"}))
    with pytest.raises(AuthenticationError, match="Invalid or expired") as caught:
        recorded.db.auth.refresh()
    assert recorded.db.access_token is None
    assert recorded.db.refresh_token is None
    assert caught.value.response_body is None


# Logout


def test_c012_logout_ends_this_session_alone(user: SelfDB, anonymous: SelfDB, http: Http) -> None:
    email = user.auth.me().email
    anonymous.auth.login(email, "password123")
    old = user.refresh_token
    assert user.auth.logout().message == "Logged out"
    assert user.access_token is None
    assert user.refresh_token is None
    assert http.post("/users/token/refresh", json={"refresh_token": old}).status_code == 401
    assert anonymous.auth.me().email == email


def test_c012_logout_with_an_expired_access_token(
    make_server: Callable[..., Any], clock: Any, connect: Connect
) -> None:
    server = make_server(clock=clock, access_token_seconds=60)
    db = connect(server)
    db.auth.login("admin@example.com", "password")
    token = db.refresh_token
    clock.advance(61)
    db.auth.logout()
    assert db.access_token is None
    assert Http(server).post("/users/token/refresh", json={"refresh_token": token}).status_code == 401


def test_c013_logout_all_ends_both_sessions(user: SelfDB, anonymous: SelfDB, http: Http) -> None:
    anonymous.auth.login(user.auth.me().email, "password123")
    tokens = [user.refresh_token, anonymous.refresh_token]
    user.auth.logout_all()
    assert user.access_token is None
    for token in tokens:
        assert http.post("/users/token/refresh", json={"refresh_token": token}).status_code == 401
    with pytest.raises(AuthenticationError):
        anonymous.auth.me()


@pytest.mark.parametrize("status", [404, 405])
@pytest.mark.parametrize("call", ["logout", "logout_all"])
def test_c014_a_server_without_logout_routes(recorded: Recorded, call: str, status: int) -> None:
    recorded.will((status, {}, {"detail": "Not Found"}))
    said = getattr(recorded.db.auth, call)()
    assert said.message == "Logged out locally"
    assert recorded.db.access_token is None
    assert recorded.db.refresh_token is None
    assert len(recorded.lines) == 1


@pytest.mark.parametrize("call", ["logout", "logout_all"])
def test_c015_a_logout_that_does_not_arrive(scripted: Callable[..., Any], connect: Connect, call: str) -> None:
    server = scripted([steps.read(), steps.reset()])
    db = connect(server)
    db.access_token, db.refresh_token = ACCESS, REFRESH
    with pytest.raises(APIConnectionError):
        getattr(db.auth, call)()
    assert (db.access_token, db.refresh_token) == (ACCESS, REFRESH)


@pytest.mark.parametrize("call", ["logout", "logout_all"])
def test_c015_a_server_that_fails_at_logout(recorded: Recorded, call: str) -> None:
    recorded.will((500, {}, {"detail": "no"}))
    with pytest.raises(SelfDBError):
        getattr(recorded.db.auth, call)()
    assert recorded.db.access_token == ACCESS


def test_c015_a_refused_logout_signs_out(recorded: Recorded) -> None:
    recorded.will((401, {}, {"detail": "Could not validate credentials"}))
    with pytest.raises(AuthenticationError):
        recorded.db.auth.logout()
    assert recorded.db.access_token is None
    assert recorded.lines == ["POST /users/logout"]


def test_c016_a_login_without_a_refresh_token(recorded: Recorded) -> None:
    recorded.will({"access_token": "only", "token_type": "bearer"}, {"count": 2}, {"message": "bye"})
    assert recorded.db.auth.login("user@example.com", "password123").refresh_token is None
    assert recorded.db.refresh_token is None
    assert recorded.db.tables.count() == 2
    assert recorded.last.header("Authorization") == "Bearer only"
    recorded.db.auth.logout()
    assert recorded.last.json == {}


def test_c016_without_a_refresh_token_a_401_stands(recorded: Recorded) -> None:
    recorded.db.refresh_token = None
    recorded.will((401, {}, {"detail": "Could not validate credentials"}))
    with pytest.raises(AuthenticationError, match="Could not validate"):
        recorded.db.auth.me()
    assert recorded.lines == ["GET /users/me"]


# What leaves for whom


def test_c017_another_host_gets_nothing(replies: Callable[..., Any], connect: Connect) -> None:
    elsewhere = replies(())
    server = replies([(307, {"Location": f"{elsewhere.url}/users/me?code=one-time"}, b"")])
    db = connect(server)
    db.access_token = ACCESS
    with pytest.raises(RedirectError) as caught:
        db.auth.me()
    assert elsewhere.connections == 0
    assert f"set base_url to {elsewhere.url}" in str(caught.value)
    assert "one-time" not in str(caught.value)


def test_c017_the_same_origin_is_followed(recorded: Recorded) -> None:
    recorded.will((307, {"Location": "/tables/count/"}, b""), {"count": 1})
    assert recorded.db.tables.count() == 1
    assert recorded.lines == ["GET /tables/count", "GET /tables/count/"]
    assert recorded.last.header("Authorization") == f"Bearer {ACCESS}"


@pytest.mark.parametrize("signed_in", [True, False])
def test_c018_netrc_is_not_looked_at(
    recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signed_in: bool
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    recorded.will({"count": 1})
    if not signed_in:
        recorded.db.access_token = None
    recorded.db.tables.count()
    assert recorded.last.header("Authorization") == (f"Bearer {ACCESS}" if signed_in else None)


SECRET_KEY = "replies-key"
SECRET_PASSWORD = "a-password-nobody-may-see"


def _shown(error: BaseException) -> str:
    parts = []
    current: Any = error
    while current is not None:
        parts += [str(current), repr(current), repr(vars(current))]
        current = current.__cause__ or current.__context__
    return "\n".join(parts)


def _echo(secrets: Tuple[str, ...]) -> Dict[str, Any]:
    return {"detail": [{"loc": ["body"], "msg": f"got {' '.join(secrets)}", "type": "x", "input": list(secrets)}]}


@pytest.mark.parametrize("status", [400, 401, 409, 422, 500])
def test_c019_a_server_that_echoes_secrets(recorded: Recorded, caplog: pytest.LogCaptureFixture, status: int) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = (SECRET_KEY, ACCESS, REFRESH, SECRET_PASSWORD)
    recorded.db.refresh_token = None if status == 401 else REFRESH
    recorded.will((status, {}, _echo(secrets)))
    with pytest.raises(SelfDBError) as caught:
        recorded.db.auth.users.create(
            {"email": "a@example.com", "password": SECRET_PASSWORD, "firstName": "A", "lastName": "B"}
        )
    shown = _shown(caught.value) + caplog.text
    held = [secret for secret in secrets if recorded.db.refresh_token or secret != REFRESH]
    assert [secret for secret in held if secret in shown] == []


def test_c019_a_failed_login_shows_nothing(recorded: Recorded, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    recorded.will((422, {}, _echo((SECRET_PASSWORD,))), (401, {}, _echo(("given-refresh-token",))))
    with pytest.raises(SelfDBError) as login:
        recorded.db.auth.login("a@example.com", SECRET_PASSWORD)
    with pytest.raises(SelfDBError) as refresh:
        recorded.db.auth.refresh("given-refresh-token")
    shown = _shown(login.value) + _shown(refresh.value) + caplog.text
    assert SECRET_PASSWORD not in shown
    assert "given-refresh-token" not in shown
    assert login.value.response_body is None


def test_c019_representations(recorded: Recorded) -> None:
    recorded.will(pair("shown-nowhere-1", "shown-nowhere-2"))
    tokens = recorded.db.auth.login("user@example.com", SECRET_PASSWORD)
    db = recorded.db
    objects = [
        db,
        db.auth,
        db.auth.users,
        db.tables,
        db.tables.data,
        db.tables.data.query("t"),
        db.storage.files,
        db.with_raw_response,
        db.as_user("shown-nowhere-1"),
        db.with_options(timeout=1),
        tokens,
    ]
    shown = "".join(f"{thing!r}{thing!s}" for thing in objects)
    assert [secret for secret in (SECRET_KEY, "shown-nowhere", SECRET_PASSWORD) if secret in shown] == []


def test_c019_a_broken_connection_shows_nothing(
    scripted: Callable[..., Any], connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = scripted([steps.read(), steps.reset()])
    db = connect(server)
    db.access_token = ACCESS
    with pytest.raises(APIConnectionError) as caught:
        db.auth.users.create({"email": "a@b.c", "password": SECRET_PASSWORD, "firstName": "A", "lastName": "B"})
    shown = _shown(caught.value) + caplog.text
    assert [secret for secret in ("scripted-key", ACCESS, SECRET_PASSWORD) if secret in shown] == []


# One refresh for all


def test_c020_eight_threads_make_one_refresh(replies: Callable[..., Any], connect: Connect) -> None:
    """All eight have been refused with the old token before any of them gets a new one."""
    refused = threading.Barrier(8)
    refreshes: List[Any] = []

    def script(request: Any) -> Tuple[int, Dict[str, str], Any]:
        if request.path == "/users/token/refresh":
            refreshes.append(request.json)
            return pair("second-access", "second-refresh")
        if request.header("Authorization") == "Bearer first-access":
            refused.wait(30)
            return 401, {}, {"detail": "Could not validate credentials"}
        assert request.header("Authorization") == "Bearer second-access"
        return 200, {}, {"count": 7}

    server = replies(script)
    db = connect(server)
    db.access_token, db.refresh_token = "first-access", "first-refresh"
    counts: List[int] = []
    threads = [threading.Thread(target=lambda: counts.append(db.tables.count())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert counts == [7] * 8
    assert refreshes == [{"refresh_token": "first-refresh"}]
    assert (db.access_token, db.refresh_token) == ("second-access", "second-refresh")
    assert len(server.lines) == 8 + 1 + 8


def test_c020_on_the_embedded_server(
    make_server: Callable[..., Any], backend: str, clock: Any, connect: Connect
) -> None:
    server = make_server(backend=backend, clock=clock, access_token_seconds=60)
    db = connect(server)
    db.auth.login("admin@example.com", "password")
    clock.advance(61)
    start = threading.Barrier(8)
    roles: List[UserRole] = []

    def ask() -> None:
        start.wait(30)
        roles.append(db.auth.me().role)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert roles == [UserRole.ADMIN] * 8


def test_c020_without_auto_refresh_there_is_none(replies: Callable[..., Any], connect: Connect) -> None:
    server = replies([(401, {}, {"detail": "Could not validate credentials"})])
    db = connect(server, auto_refresh=False)
    db.access_token, db.refresh_token = ACCESS, REFRESH
    with pytest.raises(AuthenticationError):
        db.auth.me()
    assert server.lines == ["GET /users/me"]
    assert db.access_token == ACCESS


def test_c020_a_refused_refresh_raises_the_first_401(recorded: Recorded) -> None:
    recorded.will(
        (401, {}, {"detail": "Could not validate credentials"}),
        (401, {}, {"detail": "Invalid or expired refresh token"}),
    )
    with pytest.raises(AuthenticationError, match="Could not validate credentials"):
        recorded.db.auth.me()
    assert recorded.db.access_token is None
    assert recorded.lines == ["GET /users/me", "POST /users/token/refresh"]


def test_a_429_of_a_login_raises_at_once(recorded: Recorded) -> None:
    recorded.will((429, {"Retry-After": "1"}, {"detail": "Too many failed logins"}))
    db = recorded.db.with_options(max_retries=2)
    with pytest.raises(RateLimitError) as caught:
        db.auth.login("user@example.com", "password123")
    assert caught.value.retry_after == 1.0
    assert len(recorded.lines) == 1


def test_too_many_failed_logins(anonymous: SelfDB, http: Http) -> None:
    user, _ = http.new_user()
    for _ in range(10):
        with pytest.raises(AuthenticationError):
            anonymous.auth.login(user["email"], "not-the-password")
    with pytest.raises(RateLimitError) as caught:
        anonymous.auth.login(user["email"], "password123")
    assert caught.value.retry_after is not None
    assert 0 < caught.value.retry_after <= 60
