"""The query builder: addresses byte for byte, checks before any I/O, and what page 2 of a base is."""

from __future__ import annotations

import pickle
from typing import Any, Callable, Dict, List, Optional, Tuple
from urllib.parse import parse_qsl, unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from selfdb import InvalidRequestError, SelfDB, SelfDBError
from selfdb.models import TableDataResponse
from selfdb.tables.query import TableDataQueryBuilder
from tests.client.conftest import Recorded
from tests.support import Http

PAGE = {"data": [], "total": 0, "page": 1, "page_size": 100}
Builder = TableDataQueryBuilder[Dict[str, Any]]
Step = Callable[[Any], Any]

URLS: List[Tuple[Step, str]] = [
    (lambda query: query, ""),
    (lambda query: query.search("hello"), "?search=hello"),
    (
        lambda query: query.sort("created_at", "desc").page(2).page_size(25),
        "?sort_by=created_at&sort_order=desc&page=2&page_size=25",
    ),
    (
        lambda query: query.search("important").sort("updated_at", "asc").page(3).page_size(100),
        "?search=important&sort_by=updated_at&sort_order=asc&page=3&page_size=100",
    ),
    (
        lambda query: query.page_size(50).page(2).sort("created_at").search("hello"),
        "?search=hello&sort_by=created_at&sort_order=desc&page=2&page_size=50",
    ),
    (lambda query: query.sort("name"), "?sort_by=name&sort_order=desc"),
    (lambda query: query.sort("name", "ASC"), "?sort_by=name&sort_order=asc"),
    (lambda query: query.page(7), "?page=7"),
    (lambda query: query.search("a b&c=d+e%/ü"), "?search=a%20b%26c%3Dd%2Be%25%2F%C3%BC"),
    (lambda query: query.search("a").search("b").page(1).page(2), "?search=b&page=2"),
    (lambda query: query.search("a").search(""), ""),
]


@pytest.mark.parametrize("build, query", URLS, ids=[query or "none" for _, query in URLS])
def test_c068_addresses_byte_for_byte(recorded: Recorded, build: Step, query: str) -> None:
    recorded.will(PAGE)
    result = build(recorded.db.tables.data.query("t")).execute()
    assert isinstance(result, TableDataResponse)
    assert recorded.lines == [f"GET /tables/t/data{query}"]


def test_c069_keys_in_the_order_of_the_specification(recorded: Recorded) -> None:
    recorded.will(PAGE, PAGE)
    recorded.db.tables.data.query("t").page(2).page_size(25).sort("created_at").execute()
    recorded.db.tables.data.fetch("t", sort_order="asc", page_size=25, page=2, sort_by="created_at")
    assert [[name for name, _ in request.query] for request in recorded.server.requests] == [
        ["sort_by", "sort_order", "page", "page_size"]
    ] * 2


def test_c070_a_base_is_not_changed_by_what_derives_from_it(recorded: Recorded) -> None:
    recorded.will(*[PAGE] * 4)
    base = recorded.db.tables.data.query("t").sort("created_at", "desc")
    first, second = base.page(1), base.page(2)
    second.execute()
    first.execute()
    base.execute()
    second.execute()
    stem = "GET /tables/t/data?sort_by=created_at&sort_order=desc"
    assert recorded.lines == [f"{stem}&page=2", f"{stem}&page=1", stem, f"{stem}&page=2"]


BAD: Dict[str, Step] = {
    "page 0": lambda query: query.page(0),
    "page -1": lambda query: query.page(-1),
    "page True": lambda query: query.page(True),
    "page '5'": lambda query: query.page("5"),
    "page 1.0": lambda query: query.page(1.0),
    "page None": lambda query: query.page(None),
    "page_size 0": lambda query: query.page_size(0),
    "page_size 1001": lambda query: query.page_size(1001),
    "page_size True": lambda query: query.page_size(True),
    "page_size '5'": lambda query: query.page_size("5"),
    "search 101": lambda query: query.search("x" * 101),
    "search NUL": lambda query: query.search("a\0"),
    "search 5": lambda query: query.search(5),
    "order up": lambda query: query.sort("a", "up"),
    "order None": lambda query: query.sort("a", None),
    "column empty": lambda query: query.sort(""),
    "column long": lambda query: query.sort("x" * 101),
    "column 5": lambda query: query.sort(5),
    "model": lambda query: query.as_model(dict),
}


@pytest.mark.parametrize("step", BAD)
def test_c071_refused_where_it_is_said(recorded: Recorded, step: str) -> None:
    query = recorded.db.tables.data.query("t")
    with pytest.raises(InvalidRequestError) as caught:
        BAD[step](query)
    assert isinstance(caught.value, ValueError)
    assert caught.value.status_code is None
    assert recorded.lines == []


@pytest.mark.parametrize(
    "query",
    [
        {"page": 0},
        {"page": True},
        {"page_size": 0},
        {"page_size": 1001},
        {"page_size": "5"},
        {"search": "x" * 101},
        {"sort_order": "up"},
        {"sort_by": ""},
    ],
)
def test_c071_fetch_checks_the_same(recorded: Recorded, query: Dict[str, Any]) -> None:
    (name,) = query
    with pytest.raises(InvalidRequestError, match=name):
        recorded.db.tables.data.fetch("t", **query)
    assert recorded.lines == []


GOOD: Dict[str, Step] = {
    "page_size=1": lambda query: query.page_size(1),
    "page_size=1000": lambda query: query.page_size(1000),
    "search=" + "x" * 100: lambda query: query.search("x" * 100),
    "page=2147483647": lambda query: query.page(2147483647),
}


@pytest.mark.parametrize("query", GOOD)
def test_c071_bounds_are_included(recorded: Recorded, query: str) -> None:
    recorded.will(PAGE)
    GOOD[query](recorded.db.tables.data.query("t")).execute()
    assert recorded.lines == [f"GET /tables/t/data?{query}"]


@pytest.mark.parametrize("table_id", ["", ".", "..", None, True, b"t"])
def test_c071_a_table_id_that_is_none(recorded: Recorded, table_id: Any) -> None:
    with pytest.raises(InvalidRequestError, match="table_id"):
        recorded.db.tables.data.query(table_id)


@pytest.mark.parametrize(
    "query",
    ["page=0", "page=-1", "page=x", "page_size=0", "page_size=1001", f"search={'x' * 101}", "sort_order=up"],
)
def test_c072_the_server_refuses_the_same(admin: SelfDB, http: Http, new_table: Any, query: str) -> None:
    table = new_table(admin, {"created_at": {"type": "timestamp"}})
    assert http.get(f"/tables/{table.id}/data?{query}", bearer=http.admin).status_code == 422


# Any chain of steps


class Wanted:
    """What a chain of steps should have come to: the last word for each key counts."""

    def __init__(self) -> None:
        self.keys: Dict[str, Optional[str]] = dict.fromkeys(("search", "sort_by", "sort_order", "page", "page_size"))


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=100)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("search"), TEXTS),
        st.tuples(st.just("sort"), TEXTS.filter(bool), st.sampled_from(["asc", "desc", "Asc", "DESC"])),
        st.tuples(st.just("page"), st.integers(1, 2**31)),
        st.tuples(st.just("page_size"), st.integers(1, 1000)),
    ),
    max_size=8,
)


@pytest.fixture(scope="module")
def offline() -> SelfDB:
    """A client that nothing is sent with."""
    return SelfDB("http://127.0.0.1:9", "key")


def _target(query: Any) -> str:
    """The query string that ``execute`` would send."""
    sent: List[str] = []

    class Stop(Exception):
        pass

    class Transport:
        def exchange(self, request: Any) -> Any:
            sent.append(request.path + request.query)
            raise Stop

    query = query._with(_transport=Transport())
    with pytest.raises(Stop):
        query.execute()
    return sent[0]


@settings(max_examples=100, deadline=None)
@given(steps=STEPS)
def test_c070_any_chain_says_what_was_said_last(offline: SelfDB, steps: List[Tuple[Any, ...]]) -> None:
    wanted = Wanted().keys
    chain = [offline.tables.data.query("t")]
    before = []
    for name, *arguments in steps:
        before.append((chain[-1], _target(chain[-1])))
        chain.append(getattr(chain[-1], name)(*arguments))
        if name == "sort":
            wanted["sort_by"], wanted["sort_order"] = arguments[0], arguments[1].lower()
        else:
            wanted[name] = str(arguments[0]) or None
    path, _, query = _target(chain[-1]).partition("?")
    assert path == "/tables/t/data"
    assert query.isascii()
    pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), encoding="utf-8", errors="strict")
    assert pairs == [(name, value) for name, value in wanted.items() if value is not None]
    for builder, target in before:
        assert _target(builder) == target


@settings(max_examples=100, deadline=None)
@given(
    segment=st.text(st.characters(exclude_categories=("Cs",), exclude_characters="/"), min_size=1).filter(
        lambda text: text not in (".", "..")
    )
)
def test_c066_any_table_id_is_one_segment(offline: SelfDB, segment: str) -> None:
    target = _target(offline.tables.data.query(segment))
    assert target.count("/") == 3
    assert "?" not in target
    assert "#" not in target
    assert unquote(target.split("/")[2]) == segment


# Other ways to end a chain


class Note(BaseModel):
    id: int
    title: str


def test_as_model(recorded: Recorded) -> None:
    recorded.will(*[{"data": [{"id": "1", "title": "a", "more": 1}], "total": 1, "page": 1, "page_size": 100}] * 3)
    query = recorded.db.tables.data.query("t").as_model(Note)
    page = query.execute()
    assert page.data == [Note(id=1, title="a")]
    assert query.first() == Note(id=1, title="a")
    assert list(query) == [Note(id=1, title="a")]


def test_as_model_keeps_the_other_steps_and_the_base(recorded: Recorded) -> None:
    recorded.will(*[{"data": [{"id": 1, "title": "a"}], "total": 1}] * 2)
    base = recorded.db.tables.data.query("t").search("a")
    assert type(base.as_model(Note).page(1).execute().data[0]) is Note
    assert type(base.execute().data[0]) is dict
    assert recorded.lines == ["GET /tables/t/data?search=a&page=1", "GET /tables/t/data?search=a"]


def test_as_model_rows_that_do_not_fit(recorded: Recorded) -> None:
    recorded.will({"data": [{"id": "x", "title": "secret value"}], "total": 1})
    with pytest.raises(SelfDBError, match=r"data\.0\.id") as caught:
        recorded.db.tables.data.query("t").as_model(Note).execute()
    assert "secret value" not in str(caught.value)


def test_first_is_the_first_row_of_the_page_and_fetches_one(recorded: Recorded) -> None:
    recorded.will({"data": [{"id": 7}], "total": 9}, {"data": [], "total": 0}, {"data": [{"id": 1}], "total": 9})
    query = recorded.db.tables.data.query("t").sort("a", "asc")
    assert query.page(3).page_size(25).first() == {"id": 7}
    assert query.first() is None
    query.page(2).first()
    stem = "GET /tables/t/data?sort_by=a&sort_order=asc"
    assert recorded.lines == [
        f"{stem}&page=51&page_size=1",
        f"{stem}&page=1&page_size=1",
        f"{stem}&page=101&page_size=1",
    ]


def test_count_is_of_all_pages(recorded: Recorded) -> None:
    recorded.will({"data": [{"id": 7}], "total": 42})
    assert recorded.db.tables.data.query("t").search("a").page(3).page_size(25).count() == 42
    assert recorded.lines == ["GET /tables/t/data?search=a&page=1&page_size=1"]


def test_a_query_shows_where_it_goes_and_no_secret(recorded: Recorded) -> None:
    shown = repr(recorded.db.tables.data.query("t").search("private words"))
    assert "/tables/t/data" in shown
    assert "private words" not in shown


def test_a_query_is_not_pickled_with_its_client(recorded: Recorded) -> None:
    with pytest.raises((TypeError, AttributeError)):  # which one says so differs from one Python to the next
        pickle.dumps(recorded.db.tables.data.query("t"))
