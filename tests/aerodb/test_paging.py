"""``pages()`` and ``stream()`` against PostgREST, plain and with a cap on rows: nothing missed, nothing twice."""

from __future__ import annotations

import json
from typing import Any, Callable, List, Optional

import pytest
from pydantic import BaseModel

from selfdb.aerodb.envelope import AeroDBRequestError
from tests.aerodb.kit import parameters, refused, rows, sent
from tests.servers.postgrest import PostgRest, Reply, Seen

Sql = Callable[..., Any]
ALL = list(range(1, 2501))


class Number(BaseModel):
    id: int
    label: str


def ids(found: Any) -> List[int]:
    return [row["id"] for row in found]


def failing(number: int, rest: PostgRest) -> None:
    """Let request ``number``, counted from 1, fail."""

    def instead(request: Seen) -> Optional[Reply]:
        return (
            (500, {"Content-Type": "application/json"}, b'{"message":"no"}') if len(rest.requests) == number else None
        )

    rest.instead = instead


@pytest.mark.parametrize("key", [None, "id"])
def test_c082_a_stream_of_2500_rows(db: Any, rest: PostgRest, key: Optional[str]) -> None:
    query = db.from_("numbers").select("id")
    assert ids((query if key else query.order("id")).stream(size=1000, key=key)) == ALL
    assert len(rest.requests) == 3


def test_c082_without_a_key_rows_are_counted_off(db: Any, rest: PostgRest) -> None:
    assert len(list(db.from_("numbers").select("id").order("id").stream(size=1000))) == 2500
    assert rest.lines == [
        "GET /rest/v1/numbers?select=id&order=id.asc&limit=1000",
        "GET /rest/v1/numbers?select=id&order=id.asc&limit=1000&offset=1000",
        "GET /rest/v1/numbers?select=id&order=id.asc&limit=1000&offset=2000",
    ]


def test_c082_with_a_key_each_page_begins_behind_the_last(db: Any, rest: PostgRest) -> None:
    assert len(list(db.from_("numbers").select("id").lte("id", 2100).stream(size=1000, key="id"))) == 2100
    assert rest.lines == [
        "GET /rest/v1/numbers?select=id&id=lte.2100&order=id.asc&limit=1000",
        "GET /rest/v1/numbers?select=id&id=lte.2100&id=gt.1000&order=id.asc&limit=1000",
        "GET /rest/v1/numbers?select=id&id=lte.2100&id=gt.2000&order=id.asc&limit=1000",
    ]


@pytest.mark.parametrize("key", [None, "id"])
@pytest.mark.parametrize("failed", [1, 2, 3])
def test_c082_a_failure_ends_it_behind_the_last_good_row(
    db: Any, rest: PostgRest, key: Optional[str], failed: int
) -> None:
    failing(failed, rest)
    query = db.from_("numbers").select("id")
    stream = (query if key else query.order("id")).stream(size=1000, key=key)
    got: List[int] = []
    with pytest.raises(AeroDBRequestError) as caught:
        keep(got, stream)
    assert got == ALL[: 1000 * (failed - 1)]
    assert (caught.value.status_code, stream.error.status, stream.error.message) == (500, 500, "no")
    assert stream.error == caught.value.error
    assert list(stream) == []
    assert len(rest.requests) == failed


def keep(got: List[int], stream: Any) -> None:
    """Take what there is one by one, so that nothing is lost where the stream breaks off."""
    for row in stream:
        got.append(row["id"])


@pytest.mark.parametrize("key", [None, "id"])
@pytest.mark.parametrize("failed", [1, 2, 3])
def test_c082_pages_yield_the_error_and_end(db: Any, rest: PostgRest, key: Optional[str], failed: int) -> None:
    failing(failed, rest)
    query = db.from_("numbers").select("id")
    pages = list((query if key else query.order("id")).pages(size=1000, key=key))
    assert [len(page.data or ()) for page in pages] == [1000, 1000, 0][3 - failed :]
    assert refused(pages[-1]).status == 500
    assert len(rest.requests) == failed


@pytest.mark.parametrize("key", [None, "id"])
@pytest.mark.parametrize(
    "size, there, requests", [(1000, 2500, 10), (300, 2500, 9), (299, 2500, 9), (100_000, 2500, 10), (1, 20, 21)]
)
def test_a2_a_server_that_caps_rows_leaves_none_out(
    capped: PostgRest, client_of: Callable[..., Any], key: Optional[str], size: int, there: int, requests: int
) -> None:
    """2500 rows come in 8 pages of 300 and one of 100. Where one had all that was asked for, that is the end."""
    query = client_of(capped.url).from_("numbers").select("id").lte("id", there)
    assert ids((query if key else query.order("id")).stream(size=size, key=key)) == ALL[:there]
    assert len(capped.requests) == requests


@pytest.mark.parametrize("key", [None, "id"])
@pytest.mark.parametrize("there, requests", [(0, 1), (1, 2), (299, 2), (300, 2), (301, 3), (600, 3)])
def test_a2_few_rows_of_a_capped_server(
    capped: PostgRest, client_of: Callable[..., Any], key: Optional[str], there: int, requests: int
) -> None:
    query = client_of(capped.url).from_("numbers").select("id").lte("id", there)
    assert ids((query if key else query.order("id")).stream(key=key)) == ALL[:there]
    assert len(capped.requests) == requests


@pytest.mark.parametrize("key", [None, "id"])
@pytest.mark.parametrize("limit, requests", [(0, 0), (1, 1), (1000, 1), (1001, 2), (2000, 2), (2500, 3), (9999, 3)])
def test_a2_a_limit_bounds_them_all(db: Any, rest: PostgRest, key: Optional[str], limit: int, requests: int) -> None:
    query = db.from_("numbers").select("id").limit(limit)
    assert ids((query if key else query.order("id")).stream(key=key)) == ALL[:limit]
    assert len(rest.requests) == requests


def test_a2_a_limit_of_a_capped_server(capped: PostgRest, client_of: Callable[..., Any]) -> None:
    query = client_of(capped.url).from_("numbers").select("id").order("id").range(10, 709)
    assert ids(query.stream()) == ALL[10:710]
    assert [(sent(capped, n).get("limit"), sent(capped, n).get("offset")) for n in range(3)] == [
        ("700", "10"),
        ("400", "310"),
        ("100", "610"),
    ]


def test_a2_no_confirmation_goes_on_for_ever(db: Any, rest: PostgRest) -> None:
    """A server that caps rows, and whose table grows as fast as it is read, is left behind one short page."""
    pages = [30, 30, 10, 5, 5, 5, 5]
    given: List[int] = []

    def instead(request: Seen) -> Optional[Reply]:
        size = pages[len(rest.requests) - 1]
        found = [{"id": len(given) + number} for number in range(size)]
        given.extend(range(size))
        return 200, {"Content-Type": "application/json"}, json.dumps(found).encode()

    rest.instead = instead
    assert [len(page.data) for page in db.from_("numbers").pages(key="id")] == [30, 30, 10, 5]


@pytest.mark.parametrize("key", [None, "id"])
def test_a2_the_same_page_again_and_again_is_an_error(db: Any, rest: PostgRest, key: Optional[str]) -> None:
    rest.instead = lambda request: (200, {}, b'[{"id":1},{"id":2}]')
    stream = db.from_("numbers").stream(size=2, key=key)
    with pytest.raises(AeroDBRequestError):
        list(stream)
    assert stream.error is not None
    assert len(rest.requests) < 20


def test_a2_pages_that_are_alike_are_no_error(db: Any, rest: PostgRest) -> None:
    """Nothing tells rows apart whose id is the same for all of them, or that have none."""
    for page in (b'[{"id":1},{"id":1}]', b'[{"role":"user"},{"role":"user"}]'):
        rest.clear()
        rest.instead = lambda request, page=page: (200, {}, page if len(rest.requests) <= 12 else b"[]")
        assert len(list(db.from_("numbers").stream(size=2))) == 24


def test_a2_a_key_that_is_not_unique_is_an_error(db: Any) -> None:
    stream = db.from_("users").neq("role", None).stream(size=3, key="role")
    with pytest.raises(AeroDBRequestError, match="unique"):
        list(stream)


def test_c083_rows_put_in_meanwhile_are_not_doubled(db: Any, rest: PostgRest, sql: Sql) -> None:
    sql("INSERT INTO growing SELECT 2 * n FROM generate_series(1, 1000) n")
    seen = []
    for row in db.from_("growing").stream(size=100, key="id"):
        seen.append(row["id"])
        if len(seen) % 150 == 0:  # in the middle of a page: some behind, some ahead
            sql("INSERT INTO growing VALUES (%s), (%s)", row["id"] - 1, row["id"] + 301)
    assert seen == sorted(set(seen))
    assert set(range(2, 2001, 2)) <= set(seen)


def test_c083_without_a_key_they_would_be(db: Any, sql: Sql) -> None:
    sql("INSERT INTO growing SELECT 2 * n FROM generate_series(1, 200) n")
    stream = db.from_("growing").order("id").stream(size=100)
    seen = [next(stream)["id"]]
    sql("INSERT INTO growing VALUES (1)")
    seen += ids(stream)
    assert len(seen) == len(set(seen)) + 1


def test_c083_rows_taken_out_meanwhile_are_no_error(db: Any, rest: PostgRest, sql: Sql) -> None:
    sql("INSERT INTO growing SELECT n FROM generate_series(1, 30) n")
    stream = db.from_("growing").select("id", count="exact").order("id").stream(size=10)
    seen = [next(stream)["id"]]
    sql("DELETE FROM growing WHERE id > 5")
    seen += ids(stream)
    assert seen == list(range(1, 11))
    assert len(rest.requests) == 2


def test_c083_a_walk_that_begins_behind_the_end_is_one(db: Any) -> None:
    (page,) = db.from_("users").select("id", count="exact").offset(9).pages()
    assert (refused(page).code, page.count) == ("PGRST103", 8)


@pytest.mark.parametrize("key", [None, "id"])
@pytest.mark.parametrize("how", ["close", "break", "with"])
def test_c083_closed_early_it_sends_nothing_more(db: Any, rest: PostgRest, key: Optional[str], how: str) -> None:
    stream = db.from_("numbers").stream(size=10, key=key)
    assert rest.requests == []
    if how == "with":
        with stream:
            assert next(stream)["id"] == 1
    else:
        for row in stream:
            if row["id"] == 10:
                break
        if how == "close":
            stream.close()
    assert len(rest.requests) == 1
    if how != "break":
        assert list(stream) == []
        assert len(rest.requests) == 1


def test_c083_closed_pages_send_nothing_more(db: Any, rest: PostgRest) -> None:
    pages = db.from_("numbers").pages(size=10)
    assert len(rows(next(pages))) == 10
    pages.close()
    assert list(pages) == []
    assert len(rest.requests) == 1


@pytest.mark.parametrize("columns", ["*", "id", "label, id", "id::text, label", "label, posts:label, id"])
def test_a2_the_key_is_among_the_columns(db: Any, columns: str) -> None:
    assert len(list(db.from_("numbers").select(columns).lte("id", 25).stream(size=10, key="id"))) == 25


@pytest.mark.parametrize(
    "make",
    [
        lambda query: query.select("label").stream(key="id"),
        lambda query: query.select("nr:id, label").stream(key="id"),
        lambda query: query.select("label, posts(id)").stream(key="id"),
        lambda query: query.select('"id,", label').stream(key="id"),
        lambda query: query.order("label").stream(key="id"),
        lambda query: query.order("id").stream(key="id"),
        lambda query: query.offset(5).stream(key="id"),
        lambda query: query.range(5, 9).stream(key="id"),
        lambda query: query.stream(key=""),
        lambda query: query.stream(key=5),
        lambda query: query.stream(key="posts.id"),
        lambda query: query.stream(key="meta->>id"),
        lambda query: query.stream(size=0),
        lambda query: query.stream(size="10"),
        lambda query: query.stream(size=True),
        lambda query: query.single().stream(),
        lambda query: query.maybe_single().stream(),
        lambda query: query.select("id", count="exact", head=True).stream(),
        lambda query: query.limit(-1).stream(),
    ],
)
def test_a2_what_cannot_be_walked_is_refused(db: Any, rest: PostgRest, make: Callable[[Any], Any]) -> None:
    stream = make(db.from_("numbers"))
    with pytest.raises(AeroDBRequestError):
        next(stream)
    assert stream.error.code == "VALIDATION_ERROR"
    assert rest.requests == []
    assert list(stream) == []


def test_a2_a_key_that_is_null_is_an_error(db: Any, rest: PostgRest) -> None:
    stream = db.from_("nullable").stream(key="id")
    with pytest.raises(AeroDBRequestError, match="NOT NULL"):
        list(stream)


def test_a2_a_key_of_text(db: Any, sql: Sql) -> None:
    odd = ["a,b", 'quo"te', "back\\slash", "per%cent", "plus+", "ü", " blank", "(", "a&b=c"]
    sql("INSERT INTO notes (text) SELECT unnest(%s::text[])", odd)
    assert sorted(row["text"] for row in db.from_("notes").stream(size=1, key="text")) == sorted(odd)


def test_a2_a_key_of_many_digits_loses_none(db: Any, rest: PostgRest) -> None:
    found = list(db.from_("numbers").select("id, exact").lte("id", 50).stream(size=7, key="exact"))
    assert ids(found) == ALL[:50]
    assert sent(rest, 1)["exact"] == "gt.7.12345678901234567890"


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_a2_keys_that_differ_in_a_late_digit_are_each_another(db: Any, size: int) -> None:
    assert len(list(db.from_("decimals").stream(size=size, key="value"))) == 10


@pytest.mark.parametrize("key", [None, "id"])
def test_rows_come_as_models(db: Any, key: Optional[str]) -> None:
    query = db.from_("numbers", model=Number).lte("id", 25)
    found = list((query if key else query.order("id")).stream(size=10, key=key))
    assert [row.id for row in found] == ALL[:25]
    assert all(isinstance(row, Number) for row in found)


def test_pages_bear_what_a_response_does(db: Any, rest: PostgRest) -> None:
    pages = list(db.from_("numbers").select("id", count="exact").pages(size=1000, key="id"))
    assert [(len(rows(page)), page.count, page.status) for page in pages] == [
        (1000, 2500, 206),
        (1000, 1500, 206),
        (500, 500, 200),
    ]
    assert [dict(parameters(rest, n)).get("id") for n in range(3)] == [None, "gt.1000", "gt.2000"]


def test_a_query_may_be_walked_again(db: Any, rest: PostgRest) -> None:
    query = db.from_("numbers").select("id").lte("id", 5)
    assert ids(query.stream(key="id")) == ids(query.stream(key="id")) == rows_of(query) == ALL[:5]


def rows_of(query: Any) -> List[int]:
    return ids(rows(query.execute()))
