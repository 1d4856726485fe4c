"""Rows as pydantic models: from every call that returns rows, and what happens where they do not fit."""

from __future__ import annotations

from datetime import date, datetime, timezone
from typing import Any, List, Optional

import pytest
from pydantic import BaseModel, Field, field_validator

from tests.aerodb.kit import invalid, refused, rows, sent
from tests.servers.postgrest import PostgRest


class User(BaseModel):
    id: int
    name: str
    born: Optional[date] = None
    ts: Optional[datetime] = None
    tags: Optional[List[str]] = None
    full_name: Optional[str] = Field(None, alias="full name")


class Strict(BaseModel):
    id: int
    age: int


def test_rows_are_models(db: Any, rest: PostgRest) -> None:
    alice, albert = rows(db.from_("users", model=User).in_("id", [1, 2]).order("id").execute())
    assert type(alice) is User
    assert (alice.born, alice.ts) == (date(1990, 1, 2), datetime(2024, 1, 1, tzinfo=timezone.utc))
    assert (alice.tags, albert.full_name) == (["red", "green"], "Albert B.")
    assert sent(rest)["select"] == "*"


def test_a_single_row_is_a_model(db: Any) -> None:
    assert rows(db.from_("users", model=User).eq("id", 1).single().execute()).name == "Alice"
    assert rows(db.from_("users", User).eq("id", 1).maybe_single().execute()).name == "Alice"
    assert rows(db.table("users", model=User).eq("id", 99).maybe_single().execute()) is None


def test_what_a_write_returns_are_models(db: Any) -> None:
    (made,) = rows(db.from_("users", model=User).insert({"name": "new", "full name": "N. New"}))
    assert (type(made), made.id, made.full_name) == (User, 9, "N. New")
    (changed,) = rows(db.from_("users", model=User).eq("id", 9).update({"name": "newer"}))
    assert changed.name == "newer"
    (same,) = rows(db.from_("users", model=User).upsert(User(id=9, name="newest", **{"full name": "x"})))
    assert (same.name, same.full_name) == ("newest", "x")
    assert rows(db.from_("users", model=User).eq("id", 9).delete(returning="minimal")) == []


def test_no_rows_are_an_empty_list(db: Any) -> None:
    assert rows(db.from_("users", model=User).eq("id", 99).execute()) == []
    assert rows(db.from_("users", model=User).insert([])) == []


def test_a_row_that_does_not_fit_is_an_invalid_response(db: Any) -> None:
    response = db.from_("users", model=Strict).order("id").execute()
    error = refused(response)
    assert (error.code, error.status) == ("INVALID_RESPONSE", 200)
    assert "Strict" in error.message
    assert "age" in error.message
    assert "back" not in error.message


def test_a_single_row_that_does_not_fit(db: Any) -> None:
    assert refused(db.from_("users", model=Strict).eq("id", 6).single().execute()).code == "INVALID_RESPONSE"


@pytest.mark.parametrize("model", [dict, int, User(id=1, name="x"), "User", 5])
def test_what_is_no_model_is_refused(db: Any, rest: PostgRest, model: Any) -> None:
    assert "model" in invalid(rest, db.from_("users", model=model).execute())


@pytest.mark.parametrize(
    "content, single",
    [
        *(
            (content, False)
            for content in (b"{}", b"5", b'"x"', b"[5]", b"[null]", b'{"data":[],"count":0}', b"not json")
        ),
        *((content, True) for content in (b"[]", b"5", b"[{}]", b'"x"', b"{")),
    ],
)
@pytest.mark.parametrize("model", [None, User])
def test_what_is_no_row_is_an_invalid_response(
    db: Any, rest: PostgRest, content: bytes, single: bool, model: Any
) -> None:
    rest.instead = lambda request: (200, {"Content-Type": "application/json"}, content)
    query = db.from_("users", model=model)
    error = refused((query.single() if single else query).execute())
    assert (error.code, error.status) == ("INVALID_RESPONSE", 200)


@pytest.mark.parametrize("model", [None, User])
@pytest.mark.parametrize("single", [False, True])
def test_null_is_no_data(db: Any, rest: PostgRest, single: bool, model: Any) -> None:
    rest.instead = lambda request: (200, {}, b"null")
    query = db.from_("users", model=model)
    response = (query.single() if single else query).execute()
    assert (response.data, response.error, response.status) == (None, None, 200)


class Choosy(BaseModel):
    name: str

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        raise KeyError(name)


def test_a_model_that_raises_by_itself_does_not_deny_that_the_row_was_written(db: Any, sql: Any) -> None:
    """Whoever is told that nothing was changed sends it again."""
    error = refused(db.from_("users", model=Choosy).insert({"name": "Zoe"}))
    assert (error.code, error.status, error.may_have_been_applied) == ("INVALID_RESPONSE", 201, True)
    assert "KeyError" in error.message
    assert "Zoe" not in error.message
    assert sql("SELECT count(*) FROM users WHERE name = 'Zoe'") == [(1,)]


class Unfinished(BaseModel):
    other: Missing  # type: ignore[name-defined]  # noqa: F821


def test_a_model_that_is_not_complete_is_refused(db: Any, rest: PostgRest) -> None:
    assert "model_rebuild" in invalid(rest, db.from_("users", model=Unfinished).insert({"name": "Zoe"}))
