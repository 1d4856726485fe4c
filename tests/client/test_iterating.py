"""Walking the rows of a query: lazily, each once, and honest about what changed on the way."""

from __future__ import annotations

import logging
from typing import Any, Callable, Dict, List, Optional

import pytest

from selfdb import BadRequestError, NotFoundError, SelfDB, SelfDBError
from tests.client.conftest import Recorded

NewTable = Callable[..., Any]


def page(ids: List[int], total: int, number: int = 1, page_size: Optional[int] = 2) -> Dict[str, Any]:
    size = {} if page_size is None else {"page_size": page_size}
    return {"data": [{"id": id} for id in ids], "total": total, "page": number, **size}


def test_pages_are_fetched_when_the_loop_comes_to_them(recorded: Recorded) -> None:
    recorded.will(page([1, 2], 5), page([3, 4], 5, 2), page([5], 5, 3))
    rows = iter(recorded.db.tables.data.query("t").page_size(2))
    assert recorded.lines == []
    asked = []
    for row in rows:
        asked.append((row["id"], len(recorded.lines)))
    assert asked == [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)]
    stem = "GET /tables/t/data?sort_by=id&sort_order=asc"
    assert recorded.lines == [f"{stem}&page={number}&page_size=2" for number in (1, 2, 3)]


def test_a_loop_that_is_left_asks_no_more(recorded: Recorded) -> None:
    recorded.will(page([1, 2], 5))
    assert next(iter(recorded.db.tables.data.query("t").page_size(2))) == {"id": 1}
    assert len(recorded.lines) == 1


def test_an_order_of_ones_own_is_kept(recorded: Recorded) -> None:
    recorded.will(page([1], 1), page([1], 1))
    query = recorded.db.tables.data.query("t")
    assert iter(query).ordered_by_id
    sorted_rows = iter(query.sort("title", "desc"))
    assert not sorted_rows.ordered_by_id
    assert list(sorted_rows) == [{"id": 1}]
    assert recorded.lines == ["GET /tables/t/data?sort_by=title&sort_order=desc&page=1"]


def test_it_begins_at_the_page_that_is_set(recorded: Recorded) -> None:
    recorded.will(page([3, 4], 5, 2), page([5], 5, 3))
    assert [row["id"] for row in recorded.db.tables.data.query("t").page_size(2).page(2)] == [3, 4, 5]
    assert [request.query[-2:] for request in recorded.server.requests] == [
        [("page", "2"), ("page_size", "2")],
        [("page", "3"), ("page_size", "2")],
    ]


def test_each_loop_begins_anew(recorded: Recorded) -> None:
    recorded.will(page([1], 1), page([1], 1))
    query = recorded.db.tables.data.query("t")
    assert list(query) == list(query) == [{"id": 1}]


def test_pages_one_by_one(recorded: Recorded) -> None:
    recorded.will(page([1, 2], 3), page([3], 3, 2))
    pages = recorded.db.tables.data.query("t").page_size(2).pages()
    assert recorded.lines == []
    first = next(pages)
    assert (len(first.data), first.total, len(recorded.lines)) == (2, 3, 1)
    assert [row["id"] for later in pages for row in later.data] == [3]


@pytest.mark.parametrize("page_size", [2, 100, None])
def test_a_server_that_gives_fewer_rows_than_asked_for(recorded: Recorded, page_size: Optional[int]) -> None:
    """Whether it says so, does not, or claims the size that was asked for: no row is left out."""
    recorded.will(page([1, 2], 5, 1, page_size), page([3, 4], 5, 2, page_size), page([5], 5, 3, page_size))
    assert [row["id"] for row in recorded.db.tables.data.query("t").page_size(100)] == [1, 2, 3, 4, 5]


def test_a_total_that_changes_is_reported(recorded: Recorded, caplog: pytest.LogCaptureFixture) -> None:
    recorded.will(page([1, 2], 6), page([3, 4], 5, 2), page([5], 5, 3))
    rows = iter(recorded.db.tables.data.query("t").page_size(2))
    assert (rows.total, rows.total_changed) == (None, False)
    next(rows)
    assert (rows.total, rows.total_changed) == (6, False)
    with caplog.at_level(logging.WARNING, "selfdb"):
        assert len(list(rows)) == 4
    assert (rows.total, rows.total_changed) == (5, True)
    assert len(caplog.records) == 1
    assert "/tables/t/data" in caplog.text


def test_an_empty_page_is_the_end_whatever_the_total(recorded: Recorded) -> None:
    recorded.will(page([1, 2], 9), page([], 9, 2))
    assert len(list(recorded.db.tables.data.query("t").page_size(2))) == 2


def test_an_error_in_the_middle_comes_out(recorded: Recorded) -> None:
    recorded.will(page([1, 2], 5), (500, {}, {"detail": "no"}))
    seen = []
    with pytest.raises(SelfDBError):
        for row in recorded.db.tables.data.query("t").page_size(2):
            seen.append(row["id"])
    assert seen == [1, 2]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 6, 7])
def test_every_row_once(admin: SelfDB, new_table: NewTable, count: int) -> None:
    table = new_table(admin, rows=[{"title": f"t{number % 2}", "amount": number} for number in range(count)])
    query = admin.tables.data.query(table.id)
    for page_size in (1, 3, 1000):
        rows = iter(query.page_size(page_size))
        assert sorted(row["amount"] for row in rows) == list(range(count))
        assert (rows.total, rows.total_changed) == (count, False)
    by_title = [(row["title"], row["amount"]) for row in query.sort("title", "asc").page_size(2)]
    assert by_title == sorted(by_title)
    assert len(by_title) == count
    assert query.count() == count
    assert (query.first() is None) == (count == 0)


def test_exactly_full_pages_ask_no_more(recorded: Recorded) -> None:
    recorded.will(page([1, 2], 4), page([3, 4], 4, 2))
    assert len(list(recorded.db.tables.data.query("t").page_size(2))) == 4
    assert len(recorded.lines) == 2


def test_rows_that_vanish_between_two_pages(admin: SelfDB, new_table: NewTable) -> None:
    table = new_table(admin, rows=[{"amount": number} for number in range(6)])
    rows = iter(admin.tables.data.query(table.id).sort("amount", "asc").page_size(2))
    seen = [next(rows)["amount"], next(rows)["amount"]]
    admin.tables.data.delete_row(table.id, 5, id_column="amount")
    seen += [row["amount"] for row in rows]
    assert seen == [0, 1, 2, 3, 4]
    assert rows.total_changed
    assert rows.total == 5


def test_all_rows_vanish(admin: SelfDB, new_table: NewTable) -> None:
    table = new_table(admin, rows=[{"amount": number} for number in range(4)])
    rows = iter(admin.tables.data.query(table.id).page_size(2))
    next(rows)
    admin.tables.data.delete_many(table.id, range(4), id_column="amount").raise_for_failures()
    assert len(list(rows)) == 1  # what is left of the page that came
    assert rows.total_changed


def test_search_and_iteration(admin: SelfDB, new_table: NewTable) -> None:
    table = new_table(admin, rows=[{"title": "even" if number % 2 == 0 else "odd"} for number in range(6)])
    query = admin.tables.data.query(table.id).search("EVE").page_size(2)
    assert [row["title"] for row in query] == ["even"] * 3
    assert query.count() == 3
    assert query.first()["title"] == "even"


def test_errors_of_a_query(admin: SelfDB, new_table: NewTable) -> None:
    with pytest.raises(BadRequestError):
        list(admin.tables.data.query(new_table(admin).id).sort("colour"))
    with pytest.raises(NotFoundError):
        list(admin.tables.data.query("no-such-table"))


def test_list_twins_walk_to_an_empty_page(recorded: Recorded) -> None:
    """A short page may only mean a server that gives fewer at a time; the end is an empty one."""
    tables = [{"id": str(number), "name": "n"} for number in range(3)]
    recorded.will(tables[:2], tables[2:], [])
    assert [table.id for table in recorded.db.tables.iter(page_size=50, search="n")] == ["0", "1", "2"]
    assert recorded.lines == [
        f"GET /tables/?skip={skip}&limit=50&search=n&sort_by=created_at&sort_order=asc" for skip in (0, 2, 3)
    ]


@pytest.mark.parametrize("what", ["auth.users", "tables", "storage.buckets", "storage.files"])
def test_list_twins_check_when_they_are_called(recorded: Recorded, what: str) -> None:
    namespace: Any = recorded.db
    for name in what.split("."):
        namespace = getattr(namespace, name)
    for wrong in ({"page_size": 0}, {"search": "x" * 101}, {"sort_order": "up"}, {"sort_by": ""}):
        with pytest.raises(ValueError):
            namespace.iter(**wrong)
    assert recorded.lines == []
