"""Lists of ``in_`` that no request line could hold: sent in parts where that comes to the same, refused elsewhere."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Callable, List

import pytest

from selfdb.aerodb import filters
from tests.aerodb.kit import invalid, refused, rows
from tests.servers.postgrest import PostgRest

LONG = list(range(1, 6001))  # of which 2500 are there
LARGEST = 16 * 1024


def ids(response: Any) -> List[int]:
    return sorted(row["id"] for row in rows(response))


def test_a3_a_long_list_is_sent_in_parts(db: Any, rest: PostgRest) -> None:
    response = db.from_("numbers").select("id").in_("id", LONG).execute()
    assert ids(response) == list(range(1, 2501))
    assert (response.status, response.count, len(rest.requests)) == (200, None, 2)
    assert all(len(f"{request.line} HTTP/1.1\r\n") <= LARGEST for request in rest.requests)


def test_a3_the_longest_line_is_sent_whole(db: Any, rest: PostgRest) -> None:
    line = len("HEAD /rest/v1/notes?select=*&text=eq. HTTP/1.1\r\n")
    query = db.from_("notes").select("*")
    assert rows(query.eq("text", "x" * (LARGEST - line)).execute()) == []
    assert len(f"{rest.requests[0].line} HTTP/1.1\r\n") == LARGEST - 1
    rest.clear()
    message = invalid(rest, query.eq("text", "x" * (LARGEST - line + 1)).execute())
    assert "rpc()" in message


def test_a3_two_long_lists(db: Any, rest: PostgRest) -> None:
    labels = [f"number {number}" for number in range(1500, 2700)]
    response = db.from_("numbers").select("id").in_("id", LONG).in_("label", labels).execute()
    assert ids(response) == list(range(1500, 2501))


def test_a3_null_is_looked_for_once(db: Any, rest: PostgRest) -> None:
    response = db.from_("nullable").select("label").in_("id", [*LONG, None]).execute()
    assert sorted(row["label"] for row in rows(response)) == ["a", "b", "c"]
    assert ["is.null" in request.query for request in rest.requests] == [True, False]


def test_a3_values_that_are_equal_find_a_row_once(db: Any) -> None:
    twice = [*LONG, *(Decimal(number) for number in LONG), *LONG]
    assert (
        ids(
            db.from_("numbers")
            .select("id")
            .in_("exact", [n + Decimal("0.12345678901234567890") for n in LONG[:700]] * 2)
            .execute()
        )
        == LONG[:700]
    )
    assert ids(db.from_("numbers").select("id").in_("id", twice).execute()) == list(range(1, 2501))


def test_a3_a_count_is_the_sum(db: Any, rest: PostgRest) -> None:
    response = db.from_("numbers").select("id", count="exact").in_("id", LONG).execute()
    assert (len(rows(response)), response.count) == (2500, 2500)


def test_a3_a_count_alone_is_the_sum_too(db: Any, rest: PostgRest) -> None:
    response = db.from_("numbers").select("id", count="exact", head=True).in_("id", LONG).execute()
    assert (response.data, response.error, response.count) == (None, None, 2500)
    assert [request.method for request in rest.requests] == ["HEAD", "HEAD"]


@pytest.mark.parametrize("limit, requests", [(0, 1), (10, 1), (2400, 1), (2500, 1), (2600, 2)])
def test_a3_a_limit_bounds_all_parts(db: Any, rest: PostgRest, limit: int, requests: int) -> None:
    response = db.from_("numbers").select("id").in_("id", LONG).limit(limit).execute()
    assert len(rows(response)) == min(limit, 2500)
    assert len(rest.requests) == requests


def test_a3_a_limit_with_a_count_asks_every_part(db: Any, rest: PostgRest) -> None:
    response = db.from_("numbers").select("id", count="exact").in_("id", list(reversed(LONG))).limit(10).execute()
    assert (len(rows(response)), response.count, len(rest.requests)) == (10, 2500, 2)


def test_a3_a_part_that_fails_is_the_error(db: Any, rest: PostgRest) -> None:
    rest.instead = lambda request: (500, {}, b'{"message":"no"}') if len(rest.requests) == 2 else None
    assert refused(db.from_("numbers").select("id").in_("id", LONG).execute()).status == 500


@pytest.mark.parametrize(
    "step",
    [
        lambda query: query.order("id"),
        lambda query: query.offset(1),
        lambda query: query.range(0, 1),
        lambda query: query.single(),
        lambda query: query.maybe_single(),
        lambda query: query.select("id.sum()"),
        lambda query: query.select("count()"),
        lambda query: query.select("count"),
        lambda query: query.select("label, n:count::text"),
    ],
)
def test_a3_where_parts_would_not_come_to_the_same(db: Any, rest: PostgRest, step: Callable[[Any], Any]) -> None:
    assert "in_()" in invalid(rest, step(db.from_("numbers").select("id").in_("id", LONG)).execute())


@pytest.mark.parametrize(
    "step",
    [
        lambda query: query.not_("id", "in", LONG),
        lambda query: query.or_(filters.in_("id", LONG)),
        lambda query: query.in_("posts.id", LONG),
        lambda query: query.eq("label", "x" * LARGEST),
        lambda query: query.in_("label", ["x" * LARGEST, "y"]),
        lambda query: query.in_("label", ["y", "x" * LARGEST]),
    ],
)
def test_a3_what_has_no_parts_is_refused(db: Any, rest: PostgRest, step: Callable[[Any], Any]) -> None:
    assert "16384" in invalid(rest, step(db.from_("numbers").select("id")).execute())


@pytest.mark.parametrize("verb", ["update", "delete"])
def test_a3_a_write_is_one_or_none(db: Any, rest: PostgRest, verb: str) -> None:
    query = db.from_("users").in_("id", LONG)
    invalid(rest, query.delete() if verb == "delete" else query.update({"age": 1}))


def test_a3_pages_are_not_made_of_parts(db: Any, rest: PostgRest) -> None:
    (page,) = db.from_("numbers").select("id").in_("id", LONG).pages(key="id")
    invalid(rest, page)
