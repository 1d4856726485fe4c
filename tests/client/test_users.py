"""Users, as the client sees them."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, Dict, List, Type

import pytest

from selfdb import (
    AuthenticationError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    SelfDB,
    UnprocessableEntityError,
)
from selfdb.models import UserCreate, UserRead, UserRole, UserUpdate
from tests.client.conftest import Recorded
from tests.support import Http, unique

NOBODY = uuid.UUID("0b5f7a52-0000-4000-8000-0000000000ff")
ADA = {"firstName": "Ada", "lastName": "Byron", "password": "password123"}


def new(db: SelfDB, **fields: Any) -> UserRead:
    return db.auth.users.create({**ADA, "email": f"{unique('u')}@example.com", **fields})


def test_c021_a_new_user(anonymous: SelfDB) -> None:
    email = f"{unique('u')}@example.com"
    payload = UserCreate(email=email, password="password123", firstName="Ada", lastName="Byron")
    answer = anonymous.with_raw_response.auth.users.create(payload)
    assert answer.status_code == 201
    assert b"password" not in answer.content
    assert b'"firstName"' in answer.content
    user = answer.parse()
    assert (user.email, user.firstName, user.lastName, user.role) == (email, "Ada", "Byron", UserRole.USER)
    assert user.isActive
    assert user.created_at is not None
    assert abs(datetime.now(timezone.utc) - user.created_at) < timedelta(minutes=5)


@pytest.mark.parametrize(
    "payload",
    [
        {"email": "a@example.com", "password": "password123", "firstName": "Ada"},
        {**ADA, "email": "a@example.com", "first_name": "Ada"},
        {"email": "a@example.com", "password": "password123", "first_name": "Ada", "last_name": "Byron"},
        {},
        "a@example.com",
        None,
    ],
)
def test_c022_a_payload_that_does_not_fit(recorded: Recorded, payload: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        recorded.db.auth.users.create(payload)
    assert isinstance(caught.value, ValueError)
    assert "password123" not in str(caught.value)
    assert recorded.lines == []


@pytest.mark.parametrize("again", [str, str.upper])
def test_c023_an_address_that_is_taken(anonymous: SelfDB, again: Callable[[str], str]) -> None:
    user = new(anonymous)
    with pytest.raises(ConflictError, match="Email already taken") as caught:
        new(anonymous, email=again(user.email))
    assert caught.value.status_code == 409


@pytest.mark.parametrize("length", [7, 73])
def test_c024_a_password_of_a_wrong_length(anonymous: SelfDB, length: int) -> None:
    with pytest.raises(UnprocessableEntityError) as caught:
        new(anonymous, password="p" * length)
    assert caught.value.errors
    assert "p" * length not in repr(vars(caught.value))


@pytest.mark.parametrize("length", [8, 72])
def test_c024_a_password_that_just_fits(anonymous: SelfDB, length: int) -> None:
    user = new(anonymous, password="p" * length)
    anonymous.auth.login(user.email, "p" * length)
    assert anonymous.auth.me().id == user.id


def test_c025_nobody_makes_himself_an_administrator(admin: SelfDB, anonymous: SelfDB) -> None:
    email = f"{unique('u')}@example.com"
    with pytest.raises(PermissionDeniedError):
        new(anonymous, email=email, role="ADMIN")
    assert admin.auth.count(search=email) == 0


def test_c025_an_administrator_makes_another(admin: SelfDB) -> None:
    assert new(admin, role="admin").role is UserRole.ADMIN


def test_c026_the_request_of_a_list(recorded: Recorded) -> None:
    recorded.will([])
    assert recorded.db.auth.users.list(limit=25) == []
    assert recorded.lines == ["GET /users/?limit=25"]


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0},
        {"limit": -1},
        {"limit": True},
        {"limit": "5"},
        {"limit": 1.0},
        {"skip": -1},
        {"skip": False},
        {"search": "x" * 101},
        {"search": "a\0b"},
        {"search": 5},
        {"sort_order": "up"},
        {"sort_by": ""},
    ],
)
def test_c027_arguments_out_of_range(recorded: Recorded, query: Dict[str, Any]) -> None:
    (name,) = query
    namespaces = [recorded.db.auth.users, recorded.db.tables, recorded.db.storage.buckets]
    for namespace in namespaces:
        with pytest.raises(InvalidRequestError, match=name):
            namespace.list(**query)
    assert recorded.lines == []


def test_c027_the_server_says_422(http: Http) -> None:
    for query in ("limit=0", "skip=-1"):
        assert http.get(f"/users/?{query}", bearer=http.admin).status_code == 422


def test_c028_sorting_by_a_secret(admin: SelfDB) -> None:
    with pytest.raises(UnprocessableEntityError):
        admin.auth.users.list(sort_by="password")


def test_c028_an_unknown_query_key(http: Http) -> None:
    assert http.get("/users/?colour=red", bearer=http.admin).status_code == 400


def test_c029_list_and_count_agree(admin: SelfDB) -> None:
    mark = unique("x")
    ids = {new(admin, lastName=f"Mc{mark.capitalize()}son").id for _ in range(3)}
    new(admin)
    assert {user.id for user in admin.auth.users.list(search=mark.upper())} == ids
    assert admin.auth.count(search=mark.upper()) == 3
    assert admin.auth.count() >= 4


COUNTS: Dict[str, Callable[[SelfDB], Any]] = {
    "users": lambda db: db.auth.count(),
    "tables": lambda db: db.tables.count(),
    "buckets": lambda db: db.storage.buckets.count(),
    "files": lambda db: db.storage.files.count(),
    "all files": lambda db: db.storage.files.total_count(),
}


@pytest.mark.parametrize("what", COUNTS)
@pytest.mark.parametrize("reply", [3, {"count": 3}, {"total": 3}])
def test_c030_counts_of_every_server(recorded: Recorded, what: str, reply: Any) -> None:
    recorded.will(reply)
    count = COUNTS[what](recorded.db)
    assert count == 3
    assert type(count) is int


@pytest.mark.parametrize("user_id", ["not-a-uuid", str(NOBODY), NOBODY, 7])
def test_c031_no_such_user(admin: SelfDB, user_id: Any) -> None:
    with pytest.raises(NotFoundError) as caught:
        admin.auth.users.get(user_id)
    assert caught.value.status_code == 404
    assert caught.value.path == f"/users/{user_id}"


def test_c032_oneself(user: SelfDB) -> None:
    me = user.auth.me()
    changed = user.auth.users.update(me.id, UserUpdate(firstName="Augusta"))
    assert (changed.id, changed.firstName, changed.lastName) == (me.id, "Augusta", me.lastName)
    assert user.auth.users.update(me.id, {}) == changed


def test_c032_another(user: SelfDB, someone: Callable[[], SelfDB]) -> None:
    other = someone().auth.me()
    with pytest.raises(PermissionDeniedError):
        user.auth.users.update(other.id, {"firstName": "Eve"})


@pytest.mark.parametrize("change", [{"role": "ADMIN"}, {"isActive": False}])
def test_c032_what_only_an_administrator_changes(user: SelfDB, admin: SelfDB, change: Dict[str, Any]) -> None:
    me = user.auth.me()
    with pytest.raises(PermissionDeniedError):
        user.auth.users.update(me.id, change)
    assert admin.auth.users.get(me.id).role is UserRole.USER
    changed = admin.auth.users.update(me.id, change)
    assert (changed.role is UserRole.ADMIN) == ("role" in change)


def test_c032_only_what_is_set_is_sent(recorded: Recorded) -> None:
    recorded.will(*[{"id": "u", "email": "a@b.c"}] * 2)
    recorded.db.auth.users.update("u", UserUpdate(firstName="A"))
    assert recorded.last.json == {"firstName": "A"}
    recorded.db.auth.users.update("u", UserUpdate(lastName=None))
    assert recorded.last.json == {"lastName": None}


def test_c033_a_new_password(user: SelfDB, anonymous: SelfDB) -> None:
    me = user.auth.me()
    user.auth.users.update(me.id, UserUpdate(password="password124"))
    with pytest.raises(AuthenticationError):
        anonymous.auth.login(me.email, "password123")
    anonymous.auth.login(me.email, "password124")
    assert anonymous.auth.me().id == me.id


def test_c034_a_user_is_deleted(user: SelfDB, admin: SelfDB) -> None:
    me = user.auth.me()
    answer = admin.with_raw_response.auth.users.delete(me.id)
    assert answer.status_code == 204
    assert answer.parse().deleted_id == me.id
    assert answer.parse().user_id == me.id
    with pytest.raises(AuthenticationError):
        user.auth.me()
    with pytest.raises(NotFoundError):
        admin.auth.users.get(me.id)


@pytest.mark.parametrize(
    "said",
    [
        (204, {}, b""),
        (200, {}, b""),
        (200, {}, {"message": "User deleted", "user_id": "u"}),
        (200, {}, {"message": "User deleted", "deleted_id": "u"}),
        (200, {}, {"message": "User deleted"}),
    ],
)
def test_c034_every_way_to_say_deleted(recorded: Recorded, said: Any) -> None:
    recorded.will(said)
    gone = recorded.db.auth.users.delete("u")
    assert (gone.deleted_id, gone.message) == ("u", "User deleted")


CAMEL = {
    "id": "u",
    "email": "a@example.com",
    "role": "ADMIN",
    "firstName": "Ada",
    "lastName": "Byron",
    "isActive": False,
    "createdAt": "2026-01-02T03:04:05.123456Z",
    "updatedAt": "2026-01-02T05:04:05+02:00",
}
SNAKE = {
    "id": "u",
    "email": "a@example.com",
    "role": "admin",
    "first_name": "Ada",
    "last_name": "Byron",
    "is_active": False,
    "created_at": "2026-01-02T03:04:05.123456",
    "updated_at": "2026-01-02T03:04:05",
    "last_login_at": None,
}


def test_c035_both_spellings(recorded: Recorded) -> None:
    recorded.will(CAMEL, SNAKE, {"user": SNAKE})
    seen = [recorded.db.auth.me() for _ in range(3)]
    assert seen[0] == seen[1] == seen[2]
    assert seen[0].created_at == datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=timezone.utc)
    assert seen[0].role is UserRole.ADMIN


@pytest.mark.parametrize("wrapped", [list, lambda users: {"data": users}, lambda users: {"users": users}])
def test_c035_lists_in_every_wrapping(recorded: Recorded, wrapped: Callable[[List[Any]], Any]) -> None:
    recorded.will(wrapped([SNAKE, CAMEL]))
    assert [user.firstName for user in recorded.db.auth.users.list()] == ["Ada", "Ada"]


def test_iter_gives_each_user_once(fresh: SelfDB) -> None:
    wanted = {new(fresh).id for _ in range(7)} | {fresh.auth.me().id}
    for page_size in (1, 3, 8, 100):
        seen = [user.id for user in fresh.auth.users.iter(page_size=page_size)]
        assert len(seen) == 8
        assert set(seen) == wanted


@pytest.mark.parametrize("kind", [str, uuid.UUID])
def test_ids_of_every_kind(user: SelfDB, kind: Type[Any]) -> None:
    me = user.auth.me()
    assert user.auth.users.get(kind(me.id)) == me
