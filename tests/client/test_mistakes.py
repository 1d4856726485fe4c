"""Mistakes that people make, and what the message says to do."""

from __future__ import annotations

import io
from datetime import datetime
from typing import Any, Callable, Dict, Tuple

import pytest

from selfdb import InvalidRequestError, SelfDB, SelfDBError
from tests.client.conftest import Recorded

USER = {"email": "a@example.com", "password": "pass-word-123", "lastName": "B"}

# What is done, and words that the message must have: the thing, and the way out where there is one.
MISTAKES: Dict[str, Tuple[Callable[[SelfDB], Any], Tuple[str, ...]]] = {
    "snake case": (
        lambda db: db.auth.users.create({**USER, "first_name": "A"}),
        ("UserCreate", "firstName: Field required", "first_name"),
    ),
    "a payload of another model": (
        lambda db: db.tables.create("notes"),  # type: ignore[arg-type]
        ("TableCreate", "dict", "not str"),
    ),
    "a role that is none": (lambda db: db.auth.users.update("u", {"role": "root"}), ("role", "USER or ADMIN")),
    "realtime": (lambda db: db.tables.update("t", {"realtime": True}), ("TableUpdate", "realtime")),
    "JSON Schema": (
        lambda db: db.tables.create({"name": "t", "table_schema": {"type": "object", "properties": {}}}),
        ("table_schema", "JSON Schema", '"integer"'),
    ),
    "a list of columns": (
        lambda db: db.tables.create({"name": "t", "table_schema": [{"name": "a", "type": "text"}]}),
        ("table_schema",),
    ),
    "None for an id": (lambda db: db.tables.get(None), ("table_id", "NoneType")),  # type: ignore[arg-type]
    "an empty id": (lambda db: db.tables.delete(""), ("table_id", "empty")),
    "a whole object for an id": (lambda db: db.tables.get({"id": 1}), ("table_id", "dict")),  # type: ignore[arg-type]
    "a naive datetime": (
        lambda db: db.tables.data.insert("t", {"at": datetime(2026, 1, 2)}),
        ("time zone", "timezone.utc"),
    ),
    "bytes in a row": (lambda db: db.tables.data.insert("t", {"a": b"x"}), ("bytes", "base64")),
    "a number as a row": (lambda db: db.tables.data.insert("t", 5), ("row", "int")),
    "a text file": (lambda db: db.storage.files.upload("b", "a", io.StringIO("x")), ("binary", '"rb"')),  # type: ignore[arg-type]
    "a path as text that leads out": (lambda db: db.storage.files.download("b", "../a"), ("path", "'..'")),
    "page 0": (lambda db: db.tables.data.fetch("t", page=0), ("page", "1 or more", "0")),
    "a page as text": (lambda db: db.tables.data.query("t").page("1"), ("page", "int", "str")),  # type: ignore[arg-type]
    "too many rows a page": (lambda db: db.tables.data.query("t").page_size(5000), ("page_size", "1 to 1000", "5000")),
    "an order that is none": (lambda db: db.tables.list(sort_order="up"), ("sort_order", "asc, desc")),
    "a timeout of 0": (lambda db: db.with_options(timeout=0), ("timeout", "None for no limit")),
    "our own header": (lambda db: db.with_options(headers={"Authorization": "x"}), ("Authorization", "itself")),
    "no password": (lambda db: db.auth.login("a@example.com", ""), ("password",)),
    "a model that is none": (lambda db: db.tables.data.query("t").as_model(dict), ("pydantic.BaseModel",)),  # type: ignore[type-var]
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_is_said_before_anything_is_sent(recorded: Recorded, mistake: str) -> None:
    make, words = MISTAKES[mistake]
    with pytest.raises(InvalidRequestError) as caught:
        make(recorded.db)
    said = str(caught.value)
    assert [word for word in words if word not in said] == []
    assert "pass-word-123" not in said
    assert caught.value.status_code is None
    assert recorded.lines == []


def test_arguments_of_the_specification_are_known_by_name(recorded: Recorded) -> None:
    recorded.will(*[{"id": "x", "name": "n", "email": "e"}] * 5)
    db = recorded.db
    db.auth.users.update(user_id="u", payload={"firstName": "A"})
    db.tables.update(table_id="t", payload={"public": True})
    db.tables.columns.update(table_id="t", column_name="a", updates={"nullable": True})
    db.tables.data.update_row(table_id="t", row_id=1, updates={"a": 1}, id_column="id")
    db.storage.files.update_metadata(file_id="f", metadata={})
    assert len(recorded.lines) == 5


def test_the_address_of_a_web_page_instead_of_the_api(recorded: Recorded) -> None:
    recorded.will((200, {"Content-Type": "text/html"}, b"<html>Welcome</html>"))
    with pytest.raises(SelfDBError, match="is base_url the address of the API itself") as caught:
        recorded.db.auth.me()
    assert caught.value.path == "/users/me"
