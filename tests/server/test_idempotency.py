"""Keyed writes over raw HTTP: answered again, not done again."""

from __future__ import annotations

import sqlite3
import threading
from typing import Any, Callable, Dict, List

import pytest
import requests

from tests.servers.clock import FakeClock
from tests.support import Http, unique

HEADER = "Idempotency-Key"


def registration(**changes: Any) -> Dict[str, Any]:
    return {
        "email": f"{unique('u')}@example.com",
        "password": "password123",
        "firstName": "Ada",
        "lastName": "Byron",
        **changes,
    }


def keyed(http: Http, method: str, path: str, key: str, **options: Any) -> requests.Response:
    return http.request(method, path, headers={HEADER: key}, **options)


def test_a_keyed_write_is_acknowledged_and_answered_again(http: Http) -> None:
    body, key = registration(), unique("key")
    first = keyed(http, "POST", "/users/", key, json=body)
    assert (first.status_code, first.headers[HEADER]) == (201, key)
    assert "Idempotency-Replayed" not in first.headers
    again = keyed(http, "POST", "/users/", key, json=body)
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers[HEADER] == key
    assert again.headers["Idempotency-Replayed"] == "true"
    unkeyed = http.post("/users/", json=body)
    assert unkeyed.status_code == 409
    assert HEADER not in unkeyed.headers


def test_a_keyed_delete_is_answered_again_after_the_thing_is_gone(http: Http) -> None:
    user, _ = http.new_user()
    key, path = unique("key"), f"/users/{user['id']}"
    for _ in range(2):
        answer = keyed(http, "DELETE", path, key, bearer=http.admin)
        assert (answer.status_code, answer.content) == (204, b"")
    assert keyed(http, "DELETE", path, unique("key"), bearer=http.admin).status_code == 404


def test_the_same_key_with_another_body_is_422(http: Http) -> None:
    key = unique("key")
    assert keyed(http, "POST", "/users/", key, json=registration()).status_code == 201
    other = registration()
    refused = keyed(http, "POST", "/users/", key, json=other)
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["type"] == "idempotency_key_reused"
    assert refused.headers[HEADER] == key
    login = {"email": other["email"], "password": other["password"]}
    assert http.post("/users/token", json=login).status_code == 401, "nothing was done"


def test_a_body_that_nobody_reads_is_bounded_too(make_server: Callable[..., Any]) -> None:
    http = Http(make_server(json_limit_bytes=1000))
    user, _ = http.new_user()
    path, key = f"/users/{user['id']}", unique("key")
    large = b"x" * 400
    for body in (large * 3, iter([large] * 50)):
        answer = keyed(http, "DELETE", path, key, data=body, bearer=http.admin)
        assert (answer.status_code, answer.json()) == (413, {"detail": "The body is larger than 1000 bytes"})
    assert http.get(path, bearer=http.admin).status_code == 200, "nothing was done"
    for _ in range(2):
        assert keyed(http, "DELETE", path, key, data=iter([large] * 2), bearer=http.admin).status_code == 204
    assert keyed(http, "DELETE", path, key, data=large, bearer=http.admin).status_code == 422
    described = http.get("/openapi.json").json()["paths"]["/users/{user_id}"]["delete"]
    assert "413" in described["responses"]


def test_a_key_belongs_to_one_user_one_method_and_one_path(http: Http) -> None:
    key = unique("key")
    first, mine = http.new_user()
    second, theirs = http.new_user()
    for user, bearer in ((first, mine), (second, theirs)):
        answer = keyed(http, "PATCH", f"/users/{user['id']}", key, json={"firstName": user["id"]}, bearer=bearer)
        assert answer.json()["firstName"] == user["id"]
    body = {"name": unique("t"), "table_schema": {"n": {"type": "integer"}}}
    tables = [keyed(http, "POST", "/tables/", key, json=body, bearer=bearer) for bearer in (mine, theirs)]
    assert [table.status_code for table in tables] == [201, 409]


def test_permission_is_checked_again_before_a_replay(http: Http) -> None:
    user, bearer = http.new_user(role="ADMIN")
    other, _ = http.new_user()
    key, path = unique("key"), f"/users/{other['id']}"
    change = {"firstName": "Changed"}
    assert keyed(http, "PATCH", path, key, json=change, bearer=bearer).status_code == 200
    http.patch(f"/users/{user['id']}", json={"role": "USER"}, bearer=http.admin)
    assert keyed(http, "PATCH", path, key, json=change, bearer=bearer).status_code == 403


def test_a_refused_write_keeps_nothing(http: Http) -> None:
    body, key = registration(), unique("key")
    taken = http.post("/users/", json=body).json()
    refused = keyed(http, "POST", "/users/", key, json=body)
    assert (refused.status_code, refused.headers[HEADER]) == (409, key)
    http.delete(f"/users/{taken['id']}", bearer=http.admin)
    assert keyed(http, "POST", "/users/", key, json=body).status_code == 201


@pytest.mark.parametrize("key,status", [("k" * 255, 201), ("k" * 256, 422), ("a\x80b", 422), ("two words", 201)])
def test_keys_have_up_to_255_printable_characters(http: Http, key: str, status: int) -> None:
    answer = http.post("/users/", json=registration(), headers={HEADER: key.encode("latin-1")})
    assert answer.status_code == status, answer.text


def test_a_twin_in_flight_is_409(fresh_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    http = Http(fresh_server)
    from selfdb.server import users

    inside, leave = threading.Event(), threading.Event()
    plain = users.create

    def slow(*arguments: Any) -> Any:
        inside.set()
        assert leave.wait(30)
        return plain(*arguments)

    monkeypatch.setattr(users, "create", slow)
    body, key = registration(), unique("key")
    answers: List[requests.Response] = []
    first = threading.Thread(target=lambda: answers.append(keyed(http, "POST", "/users/", key, json=body)))
    first.start()
    try:
        assert inside.wait(30)
        twin = keyed(http, "POST", "/users/", key, json=body)
        assert twin.status_code == 409
        assert twin.headers["Retry-After"] == "1"
    finally:
        leave.set()
        first.join()
    assert answers[0].status_code == 201
    again = keyed(http, "POST", "/users/", key, json=body)
    assert again.json() == answers[0].json()


def test_a_twin_in_another_process_is_409(
    make_server: Callable[..., Any], postgres: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = postgres.create_database()
    servers = [make_server(backend="postgresql", database=database) for _ in range(2)]
    from selfdb.server import users

    inside, leave = threading.Event(), threading.Event()
    plain = users.create

    def slow(*arguments: Any) -> Any:
        inside.set()
        assert leave.wait(30)
        return plain(*arguments)

    monkeypatch.setattr(users, "create", slow)
    body, key = registration(), unique("key")
    answers: List[requests.Response] = []
    first = threading.Thread(target=lambda: answers.append(keyed(Http(servers[0]), "POST", "/users/", key, json=body)))
    first.start()
    try:
        assert inside.wait(30)
        assert keyed(Http(servers[1]), "POST", "/users/", key, json=body).status_code == 409
    finally:
        leave.set()
        first.join()
    assert answers[0].status_code == 201
    assert keyed(Http(servers[1]), "POST", "/users/", key, json=body).json() == answers[0].json()
    for server in servers:
        server.stop()
    postgres.drop_database(database)


def test_an_answer_is_kept_for_a_day(make_server: Callable[..., Any], backend: str, clock: FakeClock) -> None:
    http = Http(make_server(backend=backend, clock=clock))
    body, key = registration(), unique("key")
    first = keyed(http, "POST", "/users/", key, json=body)
    clock.advance(24 * 3600 - 1)
    assert keyed(http, "POST", "/users/", key, json=body).json() == first.json()
    clock.advance(1)
    assert keyed(http, "POST", "/users/", key, json=body).status_code == 409, "done anew"


def test_the_newest_answers_of_each_user_are_kept(
    make_server: Callable[..., Any], backend: str, clock: FakeClock
) -> None:
    http = Http(make_server(backend=backend, clock=clock, idempotency_keys_per_user=3))
    user, bearer = http.new_user()
    path = f"/users/{user['id']}"
    other = registration()
    kept = keyed(http, "POST", "/users/", "of-nobody", json=other)
    for number in range(5):
        keyed(http, "PATCH", path, f"key{number}", json={"firstName": f"v{number}"}, bearer=bearer)
        clock.advance(1)
    replayed = [
        "Idempotency-Replayed"
        in keyed(http, "PATCH", path, f"key{number}", json={"firstName": f"v{number}"}, bearer=bearer).headers
        for number in (4, 3, 2)
    ]
    assert replayed == [True, True, True]
    assert (
        "Idempotency-Replayed"
        not in keyed(http, "PATCH", path, "key0", json={"firstName": "v0"}, bearer=bearer).headers
    )
    assert keyed(http, "POST", "/users/", "of-nobody", json=other).json() == kept.json()


def test_a_crash_after_the_effect_keeps_neither(fresh_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    http = Http(fresh_server)
    from selfdb.server import idempotency

    plain = idempotency.keep

    def broken(*arguments: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(idempotency, "keep", broken)
    body, key = registration(), unique("key")
    assert keyed(http, "POST", "/users/", key, json=body).status_code == 500
    monkeypatch.setattr(idempotency, "keep", plain)
    answer = keyed(http, "POST", "/users/", key, json=body)
    assert answer.status_code == 201, "the effect was undone with the answer"
    assert "Idempotency-Replayed" not in answer.headers


def test_logins_have_no_keys(http: Http) -> None:
    login = {"email": "admin@example.com", "password": "password"}
    answers = [keyed(http, "POST", "/users/token", "key", json=login) for _ in range(2)]
    assert all(HEADER not in answer.headers for answer in answers)
    assert answers[0].json()["access_token"] != answers[1].json()["access_token"]


def test_expired_answers_are_dropped_at_the_next_start(
    make_server: Callable[..., Any], clock: FakeClock, tmp_path: Any
) -> None:
    server = make_server(path=tmp_path, clock=clock)
    http = Http(server)
    for _ in range(2):
        keyed(http, "POST", "/users/", unique("key"), json=registration())
        clock.advance(13 * 3600)
    server.stop()
    make_server(path=tmp_path, clock=clock).stop()
    with sqlite3.connect(tmp_path / "selfdb.sqlite3") as connection:
        kept = connection.execute("SELECT count(*) FROM _selfdb_idempotency").fetchone()
    connection.close()
    assert kept == (1,)
