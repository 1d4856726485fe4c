"""Users over raw HTTP: accounts, lists, rights, and what goes with a deleted user."""

from __future__ import annotations

import threading
import uuid
from typing import Any, Callable, Dict, List

import pytest

from tests.support import Http, unique


def fields(**changes: Any) -> Dict[str, Any]:
    body = {
        "email": f"{unique('u')}@example.com",
        "password": "password123",
        "firstName": "Ada",
        "lastName": "Byron",
        **changes,
    }
    return {name: value for name, value in body.items() if value is not ...}


def test_c004_the_seeded_admin_signs_in(fresh_server: Any) -> None:
    http = Http(fresh_server)
    answer = http.post("/users/token", json={"email": "admin@example.com", "password": "password"})
    assert answer.status_code == 200
    assert answer.json()["token_type"] == "bearer"
    assert answer.json()["expires_in"] == 1800
    me = http.get("/users/me", bearer=answer.json()["access_token"]).json()
    assert (me["role"], me["firstName"], me["lastName"], me["isActive"]) == ("ADMIN", "Admin", "User", True)


def test_c005_unknown_email_and_wrong_password_are_told_alike(http: Http) -> None:
    user, _ = http.new_user()
    answers = [
        http.post("/users/token", json={"email": user["email"], "password": "wrong-password"}),
        http.post("/users/token", json={"email": f"{unique()}@example.com", "password": "wrong-password"}),
    ]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert answers[0].json() == answers[1].json() == {"detail": "Incorrect email or password"}


def test_an_unknown_email_costs_a_comparison_too(
    make_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    http = Http(make_server())
    compared: List[str] = []
    from selfdb.server.passwords import Passwords

    plain = Passwords.matches

    def counted(self: Passwords, stored: str, password: str) -> bool:
        compared.append(stored)
        return plain(self, stored, password)

    monkeypatch.setattr(Passwords, "matches", counted)
    http.post("/users/token", json={"email": "nobody@example.com", "password": "wrong"})
    http.post("/users/token", json={"email": "admin@example.com", "password": "wrong"})
    assert len(compared) == 2
    parameters = [stored.rsplit("$", 2)[0] for stored in compared]
    assert parameters[0] == parameters[1], "the same work"


@pytest.mark.parametrize(
    "body", [{}, {"email": "admin@example.com"}, {"email": "no-address", "password": "x"}, {"email": 1, "password": 2}]
)
def test_c006_a_malformed_login_is_422(http: Http, body: Any) -> None:
    assert http.post("/users/token", json=body).status_code == 422


def test_c021_registration_answers_201_in_camel_case_without_password(http: Http) -> None:
    body = fields()
    answer = http.post("/users/", json=body)
    assert answer.status_code == 201
    user = answer.json()
    assert set(user) == {"id", "email", "firstName", "lastName", "role", "isActive", "created_at", "updated_at"}
    assert (user["email"], user["firstName"], user["lastName"]) == (body["email"], "Ada", "Byron")
    assert (user["role"], user["isActive"]) == ("USER", True)
    assert user["created_at"].endswith("+00:00")
    assert str(uuid.UUID(user["id"])) == user["id"]


@pytest.mark.parametrize(
    "changes",
    [
        {"lastName": ...},
        {"first_name": "Ada"},
        {"email": "no-address"},
        {"email": "a@b"},
        {"email": "a b@example.com"},
        {"email": "a" * 65 + "@example.com"},
        {"email": "a@" + "b" * 250 + ".com"},
        {"email": "a..b@example.com"},
        {"firstName": ""},
        {"firstName": "x" * 101},
        {"firstName": "a\nb"},
        {"firstName": "a\x7fb"},
        {"lastName": None},
        {"role": "OWNER"},
        {"password": "contraseña"},
        {"password": "tab\there"},
    ],
)
def test_c022_a_malformed_registration_is_422(http: Http, changes: Dict[str, Any]) -> None:
    assert http.post("/users/", json=fields(**changes)).status_code == 422


def test_names_may_be_written_in_any_script(http: Http) -> None:
    body = fields(firstName="Żaneta", lastName="Ødegård-村上")
    user = http.post("/users/", json=body).json()
    assert (user["firstName"], user["lastName"]) == (body["firstName"], body["lastName"])


def test_c023_an_email_is_taken_in_any_case(http: Http) -> None:
    body = fields()
    assert http.post("/users/", json=body).status_code == 201
    for email in (body["email"], body["email"].upper()):
        again = http.post("/users/", json=fields(email=email))
        assert (again.status_code, again.json()) == (409, {"detail": "Email already taken"})
    assert http.login(body["email"].upper(), "password123").access


def test_c023_of_ten_at_once_one_gets_the_email(http: Http) -> None:
    body = fields()
    statuses: List[int] = []
    start = threading.Barrier(10)

    def register() -> None:
        start.wait()
        statuses.append(http.post("/users/", json=body).status_code)

    threads = [threading.Thread(target=register) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [201] + [409] * 9


@pytest.mark.parametrize("length,status", [(7, 422), (8, 201), (72, 201), (73, 422)])
def test_c024_passwords_have_8_to_72_characters(http: Http, length: int, status: int) -> None:
    body = fields(password="p" * length)
    assert http.post("/users/", json=body).status_code == status
    if status == 201:
        assert http.login(body["email"], body["password"]).access


def test_strict_passwords_keep_to_the_small_alphabet(make_server: Callable[..., Any]) -> None:
    http = Http(make_server(strict_passwords=True))
    refused = http.post("/users/", json=fields(password="with blank"))
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["loc"] == ["body", "password"]
    assert http.post("/users/", json=fields(password="abc@$!%*?&1")).status_code == 201


def test_c025_a_role_is_given_by_admins_only(http: Http) -> None:
    _, bearer = http.new_user()
    before = http.get("/users/count", bearer=http.admin).json()
    for who in (None, bearer, "stale-bearer"):
        body = fields(role="ADMIN")
        answer = http.post("/users/", json=body, bearer=who)
        assert (answer.status_code, answer.json()) == (403, {"detail": "Not authorized"})
        login = http.post("/users/token", json={"email": body["email"], "password": body["password"]})
        assert login.status_code == 401
    assert http.get("/users/count", bearer=http.admin).json() == before
    assert http.post("/users/", json=fields(role="ADMIN"), bearer=http.admin).json()["role"] == "ADMIN"
    assert http.post("/users/", json=fields(role="USER")).json()["role"] == "USER"


def test_registration_by_admins_only(make_server: Callable[..., Any]) -> None:
    http = Http(make_server(registration="admin"))
    assert http.post("/users/", json=fields()).status_code == 401
    _, bearer = http.new_user()
    assert http.post("/users/", json=fields(), bearer=bearer).status_code == 403
    assert http.post("/users/", json=fields(), bearer=http.admin).status_code == 201


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "skip=-1", "skip=2147483648", "search=" + "x" * 101, "search=a%00b"]
)
def test_c027_values_out_of_range_are_422(http: Http, query: str) -> None:
    assert http.get(f"/users/?{query}", bearer=http.admin).status_code == 422


def test_c028_sorting_by_anything_else_is_422(http: Http) -> None:
    assert http.get("/users/?sort_by=password", bearer=http.admin).status_code == 422
    assert http.get("/users/?sort_order=up", bearer=http.admin).status_code == 422


def test_c029_search_finds_part_of_a_name_in_any_case(http: Http) -> None:
    name = unique("Ñoño")
    user, _ = http.new_user(lastName=f"Van {name.upper()} Dyk")
    for term in (name, name.upper(), name.lower(), name[1:]):
        found = http.get("/users/", params={"search": term}, bearer=http.admin).json()
        assert [one["id"] for one in found] == [user["id"]]
        assert http.get("/users/count", params={"search": term}, bearer=http.admin).json() == {"count": 1}
    for term in (f"{name}%", f"{name[:4]}_{name[5:]}", "\\"):
        assert http.get("/users/count", params={"search": term}, bearer=http.admin).json() == {"count": 0}


def test_lists_are_sorted_and_paged_without_overlap(http: Http) -> None:
    mark = unique("page")
    names = ["b", "B", "a", "Z", "é"]
    for name in names:
        http.new_user(firstName=name, lastName=mark)
    asked = {"search": mark, "sort_by": "first_name", "sort_order": "asc"}
    whole = http.get("/users/", params=asked, bearer=http.admin).json()
    assert [user["firstName"] for user in whole] == sorted(names), "by code point on both databases"
    pages = [
        user
        for skip in range(0, 6, 2)
        for user in http.get("/users/", params={**asked, "skip": skip, "limit": 2}, bearer=http.admin).json()
    ]
    assert pages == whole
    newest = http.get("/users/", params={"search": mark}, bearer=http.admin).json()
    assert [user["firstName"] for user in newest] == list(reversed(names)), "newest first by default"


def test_users_see_themselves_and_admins_see_all(http: Http) -> None:
    user, bearer = http.new_user()
    other, _ = http.new_user()
    assert [one["id"] for one in http.get("/users/", bearer=bearer).json()] == [user["id"]]
    assert http.get("/users/count", bearer=bearer).json() == {"count": 1}
    assert http.get(f"/users/{user['id']}", bearer=bearer).json() == user
    refused = http.get(f"/users/{other['id']}", bearer=bearer)
    assert (refused.status_code, refused.json()) == (403, {"detail": "Not authorized"})
    assert http.get(f"/users/{other['id']}", bearer=http.admin).json() == other


def test_with_list_users_everybody_sees_all(make_server: Callable[..., Any]) -> None:
    http = Http(make_server(list_users=True))
    user, _ = http.new_user()
    _, bearer = http.new_user()
    assert http.get("/users/count", bearer=bearer).json() == {"count": 3}
    assert len(http.get("/users/", bearer=bearer).json()) == 3
    assert http.get(f"/users/{user['id']}", bearer=bearer).json() == user


@pytest.mark.parametrize(
    "user_id", ["6f1c0f6e-6c5a-4f65-9a53-0d5f9a3f8b11", "not-a-uuid", "%00", "a%2Fb", "%F0%9F%A6%84"]
)
def test_c031_an_unknown_or_malformed_id_is_404(http: Http, user_id: str) -> None:
    _, bearer = http.new_user()
    for who in (http.admin, bearer):
        for method in ("GET", "DELETE"):
            answer = http.request(method, f"/users/{user_id}", bearer=who)
            assert answer.status_code == 404, (method, answer.text)
        assert http.patch(f"/users/{user_id}", json={}, bearer=who).status_code == 404
    assert http.get(f"/users/{uuid.uuid4()}", bearer=bearer).json() == {"detail": "User not found"}


def test_c032_users_change_themselves_but_not_others_nor_their_role(http: Http) -> None:
    user, bearer = http.new_user()
    other, _ = http.new_user()
    mine = f"/users/{user['id']}"
    changed = http.patch(mine, json={"firstName": "Augusta"}, bearer=bearer)
    assert changed.status_code == 200
    assert changed.json()["firstName"] == "Augusta"
    assert changed.json()["updated_at"] > user["updated_at"]
    assert http.patch(f"/users/{other['id']}", json={"firstName": "X"}, bearer=bearer).status_code == 403
    for forbidden in ({"role": "ADMIN"}, {"isActive": False}, {"role": "USER"}):
        assert http.patch(mine, json=forbidden, bearer=bearer).status_code == 403
    promoted = http.patch(mine, json={"role": "ADMIN"}, bearer=http.admin)
    assert promoted.json()["role"] == "ADMIN"
    assert http.get(f"/users/{other['id']}", bearer=bearer).status_code == 200, "the role is read anew"


def test_patching_sends_exactly_what_changes(http: Http) -> None:
    user, bearer = http.new_user()
    mine = f"/users/{user['id']}"
    assert http.patch(mine, json={}, bearer=bearer).json() == user
    assert http.patch(mine, json={"lastName": None}, bearer=bearer).json()["lastName"] is None
    for refused in ({"email": None}, {"password": None}, {"isActive": "yes"}, {"name": "x"}):
        assert http.patch(mine, json=refused, bearer=bearer).status_code == 422
    email = f"{unique('new')}@example.com"
    assert http.patch(mine, json={"email": email}, bearer=bearer).json()["email"] == email
    assert http.patch(mine, json={"email": email.upper()}, bearer=bearer).status_code == 200, "his own"
    other, _ = http.new_user()
    assert http.patch(mine, json={"email": other["email"].upper()}, bearer=bearer).status_code == 409
    assert http.get("/users/me", bearer=bearer).json()["email"] == email.upper()


def test_c033_after_a_new_password_the_old_one_is_refused(http: Http) -> None:
    user, bearer = http.new_user()
    assert http.patch(f"/users/{user['id']}", json={"password": "another-one"}, bearer=bearer).status_code == 200
    login = {"email": user["email"], "password": "password123"}
    assert http.post("/users/token", json=login).status_code == 401
    assert http.login(user["email"], "another-one").access


def test_c034_a_deleted_user_is_gone_with_his_bearer_and_his_things(http: Http) -> None:
    user, bearer = http.new_user()
    body = {"name": unique("t"), "table_schema": {"n": {"type": "integer"}}, "public": True}
    table = http.post("/tables/", json=body, bearer=bearer).json()
    bucket = http.post("/storage/buckets/", json={"name": unique("b"), "public": True}, bearer=bearer).json()
    upload = http.post(f"/storage/buckets/{bucket['id']}/files?filename=a.txt", data=b"hello", bearer=bearer).json()
    deleted = http.delete(f"/users/{user['id']}", bearer=http.admin)
    assert (deleted.status_code, deleted.content) == (204, b"")
    refused = http.get("/users/me", bearer=bearer)
    assert (refused.status_code, refused.json()) == (401, {"detail": "Could not validate credentials"})
    assert http.delete(f"/users/{user['id']}", bearer=http.admin).status_code == 404
    assert http.get(f"/tables/{table['id']}", bearer=http.admin).status_code == 404
    assert http.get(f"/storage/buckets/{bucket['id']}", bearer=http.admin).status_code == 404
    assert http.get(f"/storage/files/{upload['file_id']}", bearer=http.admin).status_code == 404
    assert http.post("/tables/", json=body, bearer=http.admin).status_code == 201, "the name is free"


def test_users_may_delete_themselves_but_not_others(http: Http) -> None:
    user, bearer = http.new_user()
    other, _ = http.new_user()
    assert http.delete(f"/users/{other['id']}", bearer=bearer).status_code == 403
    assert http.delete(f"/users/{user['id']}", bearer=bearer).status_code == 204
    assert http.get(f"/users/{other['id']}", bearer=http.admin).status_code == 200


def test_the_last_active_admin_stays(fresh_server: Any) -> None:
    http = Http(fresh_server)
    me = http.get("/users/me", bearer=http.admin).json()
    mine = f"/users/{me['id']}"
    inactive, _ = http.new_user(role="ADMIN")
    http.patch(f"/users/{inactive['id']}", json={"isActive": False}, bearer=http.admin)
    assert http.delete(mine, bearer=http.admin).status_code == 409
    assert http.patch(mine, json={"role": "USER"}, bearer=http.admin).status_code == 409
    assert http.patch(mine, json={"isActive": False}, bearer=http.admin).status_code == 409
    http.new_user(role="ADMIN")
    assert http.patch(mine, json={"role": "USER"}, bearer=http.admin).status_code == 200


def test_two_admins_who_delete_each_other_leave_one(fresh_server: Any) -> None:
    http = Http(fresh_server)
    for _ in range(5):
        first = http.get("/users/me", bearer=http.admin).json()
        second, bearer = http.new_user(role="ADMIN")
        start = threading.Barrier(2)
        statuses: List[int] = []

        def delete(who: str, whom: str, start: Any = start, statuses: Any = statuses) -> None:
            start.wait()
            statuses.append(http.delete(f"/users/{whom}", bearer=who).status_code)

        threads = [
            threading.Thread(target=delete, args=(http.admin, second["id"])),
            threading.Thread(target=delete, args=(bearer, first["id"])),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(statuses) in ([204, 401], [204, 409])
        if http.get("/users/me", bearer=bearer).status_code == 200:
            break  # the seeded one is gone; his successor has proven enough


def test_a_deactivated_user_is_told_so_and_his_sessions_end(http: Http) -> None:
    user, bearer = http.new_user()
    pair = http.login(user["email"], "password123")
    mine = f"/users/{user['id']}"
    assert http.patch(mine, json={"isActive": False}, bearer=http.admin).json()["isActive"] is False
    for answer in (
        http.get("/users/me", bearer=bearer),
        http.get("/tables/", bearer=bearer),
        http.post("/users/token", json={"email": user["email"], "password": "password123"}),
    ):
        assert (answer.status_code, answer.json()) == (400, {"detail": "Inactive user"})
    assert http.post("/users/token/refresh", json={"refresh_token": pair.refresh}).status_code == 401
    http.patch(mine, json={"isActive": True}, bearer=http.admin)
    assert http.get("/users/me", bearer=bearer).status_code == 401, "sessions stay ended"
    assert http.login(user["email"], "password123").access
