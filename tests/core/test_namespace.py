"""What every namespace stands on: requests as they are described, and rows of any kind as mappings."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Optional

import pytest
from pydantic import BaseModel, Field

from selfdb.core.namespace import (
    Caller,
    Namespace,
    RawCaller,
    mapping_of,
    raw,
    reading,
    search_term,
    sort_direction,
    window,
    writing,
)
from selfdb.core.response import RawResponse, Response
from selfdb.exceptions import InvalidRequestError
from tests.core.kit import transport_to
from tests.servers.replies import ReplyServer


def test_reading_sends_only_what_is_set() -> None:
    request = reading("/users/", ("skip", 0), ("limit", None), ("search", "a&b c"), ("flag", False))
    assert (request.method, request.path, request.query) == ("GET", "/users/", "?skip=0&search=a%26b%20c&flag=false")
    assert request.body is None
    assert not request.writes
    assert reading("/users/me").query == ""


def test_writing_sends_json_or_nothing() -> None:
    request = writing("POST", "/x", {"a": None}, query=(("id_column", "id"),), key="key-1", secrets=("s",))
    assert (request.body, request.content_type) == (b'{"a":null}', "application/json")
    assert (request.query, request.idempotency_key, request.secrets) == ("?id_column=id", "key-1", ("s",))
    assert request.writes
    empty = writing("POST", "/x")
    assert (empty.body, empty.content_type, empty.idempotency_key) == (None, None, None)
    assert writing("POST", "/x", {}).body == b"{}", "an empty object is a body"


@pytest.mark.parametrize("key", ["", "x" * 256, "with blank", "\u00e9", 5])
def test_a_wrong_idempotency_key_is_refused(key: Any) -> None:
    with pytest.raises(InvalidRequestError, match="idempotency_key"):
        writing("POST", "/x", {}, key=key)


def test_search_terms_and_directions() -> None:
    assert [search_term(term) for term in (None, "", "x", "x" * 100)] == [None, None, "x", "x" * 100]
    assert [sort_direction(order) for order in (None, "ASC", "desc")] == [None, "asc", "desc"]
    for wrong in ("x" * 101, "a\0", 5):
        with pytest.raises(InvalidRequestError, match="search"):
            search_term(wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError, match="sort_order"):
        sort_direction("up")


def test_a_window_holds_its_keys_in_order_and_checked() -> None:
    assert window(None, None, None, None, None) == tuple(
        (name, None) for name in ("skip", "limit", "search", "sort_by", "sort_order")
    )
    assert window(0, 1, "", "name", "Desc") == (
        ("skip", 0), ("limit", 1), ("search", None), ("sort_by", "name"), ("sort_order", "desc")
    )  # fmt: skip


@pytest.mark.parametrize(
    "arguments, what",
    [
        ((-1, None, None, None, None), "skip"),
        ((None, 0, None, None, None), "limit"),
        ((None, True, None, None, None), "limit"),
        ((None, None, "x" * 101, None, None), "search"),
        ((None, None, None, "", None), "sort_by"),
        ((None, None, None, "x" * 101, None), "sort_by"),
        ((None, None, None, None, "up"), "sort_order"),
    ],
)
def test_c027_a_window_out_of_range_is_refused(arguments: Any, what: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"^{what} must"):
        window(*arguments)


# Rows


@dataclasses.dataclass
class Order:
    amount: int
    note: Optional[str] = None
    table: ClassVar[str] = "orders"
    factor: dataclasses.InitVar[int] = 1

    def __post_init__(self, factor: int) -> None:
        self.amount *= factor


@dataclasses.dataclass
class Nothing:
    pass


class Model(BaseModel):
    first_name: str = Field(default="Ada", serialization_alias="firstName")
    note: Optional[str] = None


class Empty(BaseModel):
    pass


@pytest.mark.parametrize(
    "row, mapping",
    [
        ({"a": 1}, {"a": 1}),
        ({}, {}),
        (Order(2, factor=3), {"amount": 6, "note": None}),
        (Nothing(), {}),
        (Model(), {"firstName": "Ada", "note": None}),
        (Empty(), {}),
    ],
    ids=repr,
)
def test_a_row_of_any_kind_is_a_mapping_by_column(row: Any, mapping: Any) -> None:
    assert mapping_of(row, "row") == mapping


@pytest.mark.parametrize("row", [None, 5, "text", [("a", 1)], Order, Model, object()], ids=lambda row: repr(row)[:12])
def test_what_is_no_row(row: Any) -> None:
    with pytest.raises(InvalidRequestError, match=f"^updates must be a mapping, .* not {type(row).__name__}$"):
        mapping_of(row, "updates")


def test_a_column_name_must_be_a_text() -> None:
    with pytest.raises(InvalidRequestError, match=r"^row: a column name must be a str, not int$") as caught:
        mapping_of({"fine": 1, 5: "hunter2"}, "row")
    assert "hunter2" not in str(caught.value)


# Calls


def length_of(response: Response) -> int:
    return len(response.content)


class Things(Namespace):
    def size(self) -> int:
        return self._call(reading("/things"), length_of)


def test_a_call_gives_what_is_parsed_and_a_raw_one_the_answer(replies: Any) -> None:
    server: ReplyServer = replies([(200, {"X-Request-ID": "r-1"}, b"[1]")] * 2)
    with transport_to(server.url) as transport:
        things = Things(transport)
        assert repr(things) == f"<Things of {server.url}>"
        assert "kit-key" not in repr(things)
        assert things.size() == 3
        wrapped = Things(transport, RawCaller(transport))
        answer = raw(wrapped.size)()
        assert isinstance(answer, RawResponse)
        assert (answer.status_code, answer.request_id, answer.content) == (200, "r-1", b"[1]")
        assert answer.parse() == 3
        assert Caller(transport).result(answer, length_of) == 3
    assert server.lines == ["GET /things"] * 2
