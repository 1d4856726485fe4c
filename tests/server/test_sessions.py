"""Sessions over raw HTTP: bearers, rotation of refresh tokens, logout, what ends them."""

from __future__ import annotations

import base64
import json
import threading
from typing import Any, Callable, Dict, List

import jwt
import pytest

from tests.servers.clock import FakeClock
from tests.support import Http, Pair

REFUSED = {"detail": "Invalid or expired refresh token"}


@pytest.fixture
def timed(backend: str, make_server: Callable[..., Any], clock: FakeClock) -> Http:
    """A server of one's own whose time stands still."""
    return Http(make_server(backend=backend, clock=clock))


def refresh(http: Http, token: str) -> Pair:
    answer = http.post("/users/token/refresh", json={"refresh_token": token})
    assert answer.status_code == 200, answer.text
    return Pair(answer.json()["access_token"], answer.json()["refresh_token"])


def refused(http: Http, token: str) -> bool:
    answer = http.post("/users/token/refresh", json={"refresh_token": token})
    if answer.status_code == 200:
        return False
    assert (answer.status_code, answer.json()) == (401, REFUSED)
    return True


def works(http: Http, access: str) -> bool:
    status = http.get("/users/me", bearer=access).status_code
    assert status in (200, 401)
    return status == 200


def unsigned(claims: Dict[str, Any]) -> str:
    parts = [{"alg": "none", "typ": "JWT"}, claims]
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


def test_c008_garbage_foreign_unsigned_and_refresh_tokens_are_no_bearers(http: Http) -> None:
    pair = http.login()
    claims = jwt.decode(pair.access, options={"verify_signature": False})
    assert set(claims) == {"sub", "role", "sid", "token_type", "iat", "exp", "jti", "iss"}
    assert (claims["iss"], claims["token_type"], claims["exp"] - claims["iat"]) == ("selfdb", "access", 1800)
    bad = [
        "garbage",
        "a.b.c",
        "",
        unsigned(claims),
        jwt.encode(claims, "another secret, long enough to be one", algorithm="HS256"),
        pair.refresh,
        pair.access[:-3] + "abc",
    ]
    for token in bad:
        for path in ("/users/me", "/tables/"):
            answer = http.get(path, bearer=token)
            assert answer.status_code == 401, (token, path)
            assert answer.json() == {"detail": "Could not validate credentials"}
            assert answer.headers["WWW-Authenticate"] == "Bearer"
    basic = {"Authorization": "Basic YWRtaW46cGFzc3dvcmQ="}
    assert http.get("/users/me", headers=basic).status_code == 401


def test_c008_an_access_token_expires(timed: Http, clock: FakeClock) -> None:
    pair = timed.login()
    clock.advance(1799)
    assert works(timed, pair.access)
    clock.advance(1)
    assert not works(timed, pair.access)


def test_the_role_in_a_token_is_not_trusted(timed: Http) -> None:
    user, bearer = timed.new_user(role="ADMIN")
    assert timed.get("/users/count", bearer=bearer).json() == {"count": 2}
    timed.patch(f"/users/{user['id']}", json={"role": "USER"}, bearer=timed.admin)
    assert timed.get("/users/count", bearer=bearer).json() == {"count": 1}


def test_c009_a_stale_bearer_does_not_break_what_begins_a_session(http: Http) -> None:
    login = {"email": "admin@example.com", "password": "password"}
    answer = http.post("/users/token", json=login, bearer="stale")
    assert answer.status_code == 200
    token = answer.json()["refresh_token"]
    renewed = http.post("/users/token/refresh", json={"refresh_token": token}, bearer="stale")
    assert renewed.status_code == 200


def test_c010_refresh_gives_a_new_pair_and_the_old_token_ends(timed: Http, clock: FakeClock) -> None:
    first = timed.login()
    clock.advance(5)
    second = refresh(timed, first.refresh)
    assert second.access != first.access
    assert second.refresh != first.refresh
    assert works(timed, second.access)
    clock.advance(31)
    assert refused(timed, first.refresh)


def test_a_lost_reply_is_no_sign_out(timed: Http, clock: FakeClock) -> None:
    first = timed.login()
    second = refresh(timed, first.refresh)
    clock.advance(29)
    assert refresh(timed, first.refresh).refresh == second.refresh, "within 30 s, the same successor"
    clock.advance(3600)
    again = refresh(timed, first.refresh)
    assert again.refresh == second.refresh, "later too, while the successor was never used"
    assert works(timed, again.access)
    assert refused(timed, first.refresh), "used by its access token, and the 30 s are over"


def test_within_thirty_seconds_use_of_the_successor_does_not_matter(timed: Http, clock: FakeClock) -> None:
    first = timed.login()
    second = refresh(timed, first.refresh)
    assert works(timed, second.access)
    clock.advance(29.9)
    assert refresh(timed, first.refresh).refresh == second.refresh
    clock.advance(0.2)
    assert refused(timed, first.refresh)


@pytest.mark.parametrize("used_by", ["refresh", "access"])
def test_later_reuse_revokes_the_whole_session(timed: Http, clock: FakeClock, used_by: str) -> None:
    first = timed.login()
    bystander = timed.login()
    second = refresh(timed, first.refresh)
    if used_by == "refresh":
        newest = refresh(timed, second.refresh)
    else:
        assert works(timed, second.access)
        newest = second
    clock.advance(31)
    assert works(timed, newest.access)
    assert refused(timed, first.refresh)
    assert not works(timed, newest.access)
    assert not works(timed, first.access)
    assert refused(timed, newest.refresh)
    assert works(timed, bystander.access)
    assert refresh(timed, bystander.refresh)


def test_threads_that_refresh_at_once_get_one_successor(http: Http) -> None:
    pair = http.login()
    start = threading.Barrier(8)
    successors: List[str] = []

    def go() -> None:
        start.wait()
        successors.append(refresh(http, pair.refresh).refresh)

    threads = [threading.Thread(target=go) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(successors) == 8
    assert len(set(successors)) == 1


def test_a_session_lives_as_long_as_it_is_refreshed_in_time(timed: Http, clock: FakeClock) -> None:
    pair = timed.login()
    for _ in range(3):
        clock.advance(6 * 24 * 3600)
        pair = refresh(timed, pair.refresh)
        assert works(timed, pair.access)
    timed.login()  # drops what has expired, and only that
    assert works(timed, pair.access)
    clock.advance(7 * 24 * 3600)
    assert refused(timed, pair.refresh)


@pytest.mark.parametrize("token", ["", "garbage", "a.b.c"])
def test_c011_nothing_but_a_refresh_token_refreshes(http: Http, token: str) -> None:
    assert refused(http, token)


def test_c011_an_access_token_does_not_refresh(http: Http) -> None:
    pair = http.login()
    assert refused(http, pair.access)
    assert refresh(http, pair.refresh)
    assert http.post("/users/token/refresh", json={}).status_code == 422


@pytest.mark.parametrize("bearer", ["none", "stale", "own"])
def test_c012_logout_by_refresh_token_ends_that_session_only(http: Http, bearer: str) -> None:
    mine, other = http.login(), http.login()
    who = {"none": None, "stale": "stale", "own": mine.access}[bearer]
    answer = http.post("/users/logout", json={"refresh_token": mine.refresh}, bearer=who)
    assert answer.status_code == 200
    assert set(answer.json()) == {"message"}
    assert refused(http, mine.refresh)
    assert not works(http, mine.access)
    assert works(http, other.access)
    assert http.post("/users/logout", json={"refresh_token": mine.refresh}).status_code == 200, "idempotent"


def test_c012_logout_with_an_expired_bearer(timed: Http, clock: FakeClock) -> None:
    pair = timed.login()
    clock.advance(1801)
    assert timed.post("/users/logout", json={}, bearer=pair.access).status_code == 401
    body = {"refresh_token": pair.refresh}
    assert timed.post("/users/logout", json=body, bearer=pair.access).status_code == 200
    assert refused(timed, pair.refresh)


@pytest.mark.parametrize("body", [{}, {"refresh_token": None}, None])
def test_logout_without_a_token_ends_the_session_of_the_bearer(http: Http, body: Any) -> None:
    mine, other = http.login(), http.login()
    assert http.post("/users/logout", json=body).status_code == 401
    assert http.post("/users/logout", json=body, bearer=mine.access).status_code == 200
    assert not works(http, mine.access)
    assert refused(http, mine.refresh)
    assert works(http, other.access)


def test_logout_of_another_user_is_refused(http: Http) -> None:
    _, bearer = http.new_user()
    pair = http.login()
    body = {"refresh_token": pair.refresh}
    assert http.post("/users/logout", json=body, bearer=bearer).status_code == 401
    assert http.post("/users/logout", json={"refresh_token": pair.access}).status_code == 401
    assert works(http, pair.access)
    assert refresh(http, pair.refresh)
    assert http.post("/users/logout", json={"refresh_token": "unknown"}).status_code == 200


def test_c013_logout_all_ends_every_session_of_the_user(http: Http) -> None:
    user, first = http.new_user()
    second = http.login(user["email"], "password123")
    bystander = http.login()
    assert http.post("/users/logout/all").status_code == 401
    answer = http.post("/users/logout/all", bearer=first)
    assert (answer.status_code, set(answer.json())) == (200, {"message"})
    assert refused(http, second.refresh)
    assert not works(http, first)
    assert not works(http, second.access)
    assert works(http, bystander.access)


def test_a_new_password_ends_all_other_sessions(http: Http) -> None:
    user, mine = http.new_user()
    other = http.login(user["email"], "password123")
    mine_path = f"/users/{user['id']}"
    assert http.patch(mine_path, json={"password": "another-one"}, bearer=mine).status_code == 200
    assert works(http, mine), "the one that changed it goes on"
    assert not works(http, other.access)
    assert refused(http, other.refresh)
    assert http.patch(mine_path, json={"password": "a-third-one"}, bearer=http.admin).status_code == 200
    assert not works(http, mine), "changed by another, all of his end"


def test_c122_users_tokens_and_passwords_survive_a_restart(
    backend: str, make_server: Callable[..., Any], tmp_path: Any, request: pytest.FixtureRequest
) -> None:
    settings: Dict[str, Any] = {"backend": backend, "path": tmp_path, "api_key": None}
    postgres = request.getfixturevalue("postgres") if backend == "postgresql" else None
    if postgres is not None:
        settings["database"] = postgres.create_database()
    server = make_server(**settings)
    http = Http(server)
    me = http.get("/users/me", bearer=http.admin).json()
    http.patch(f"/users/{me['id']}", json={"password": "changed-one"}, bearer=http.admin)
    user, bearer = http.new_user()
    pair = http.login(user["email"], "password123")
    key = server.api_key
    server.stop()

    server = make_server(**settings)
    assert server.api_key == key
    http = Http(server)
    assert http.get("/users/me", bearer=bearer).json() == user
    assert refresh(http, pair.refresh)
    assert http.get("/system/status").json()["initialized"] is True
    seeded = http.post("/users/token", json={"email": "admin@example.com", "password": "password"})
    assert seeded.status_code == 401, "a changed password is not set back"
    bearer = http.login("admin@example.com", "changed-one").access
    assert http.get("/users/count", bearer=bearer).json() == {"count": 2}
    server.stop()
    if postgres is not None:
        postgres.drop_database(settings["database"])
