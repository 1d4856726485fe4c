"""Pages of rows over raw HTTP, on both databases: bounds, searching, sorting, counting."""

from __future__ import annotations

from typing import Any, Dict, List

import pytest

from tests.server.tabledata import NOTES, insert, new_table, page, route, rows
from tests.support import Http


def filled(http: Http, type_: str, values: List[Any]) -> Dict[str, Any]:
    """A table whose rows hold ``values`` in the column ``v`` and their position in ``n``."""
    table = new_table(http, {"v": {"type": type_}, "n": {"type": "integer"}})
    for number, value in enumerate(values):
        insert(http, table, {"v": value, "n": number})
    return table


def order(http: Http, table: Dict[str, Any], **query: Any) -> List[int]:
    return [row["n"] for row in rows(http, table, **query)]


@pytest.mark.parametrize(
    "query",
    [
        {"page": 0},
        {"page": -1},
        {"page": "x"},
        {"page": "1.5"},
        {"page": 10**30},
        {"page_size": 0},
        {"page_size": 1001},
        {"page_size": "True"},
        {"search": "x" * 101},
        {"search": "a\0b"},
        {"sort_order": "up"},
        {"sort_order": "ASC"},
    ],
)
def test_c072_values_out_of_bounds_are_refused(http: Http, query: Dict[str, Any]) -> None:
    table = new_table(http)
    answer = http.get(route(table, "data"), params=query, bearer=http.admin)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["query", next(iter(query))]


@pytest.mark.parametrize(
    "query", [{"page": 2147483647, "page_size": 1000}, {"page_size": 1}, {"search": "x" * 100}, {"search": "😀" * 100}]
)
def test_c072_values_at_their_bounds_pass(http: Http, query: Dict[str, Any]) -> None:
    table = new_table(http)
    insert(http, table, {"title": "x"})
    answer = http.get(route(table, "data"), params=query, bearer=http.admin)
    assert answer.status_code == 200
    assert answer.json()["page_size"] == query.get("page_size", 100)


@pytest.mark.parametrize("name", ["nope", "Title", "id; drop table x", "$seq", "c1", "", "😀", "x" * 3000])
def test_c073_an_unknown_sort_column_is_named(http: Http, name: str) -> None:
    table = new_table(http)
    insert(http, table, {"title": "x"})
    answer = http.get(route(table, "data"), params={"sort_by": name}, bearer=http.admin)
    assert answer.status_code == 400
    detail = answer.json()["detail"]
    if name.isascii():
        assert name[:63] in detail
    assert "id, title, amount, created_at, updated_at" in detail
    assert len(detail) < 500
    assert page(http, table)["total"] == 1


def test_c074_search_is_literal_and_ignores_case(http: Http) -> None:
    texts = ["50% off", "500 off", "a_b", "axb", "back\\slash", "Straße ÄÖÜ", None, "ΟΔΟΣ", "İx", "it's"]
    table = new_table(http, {"v": {"type": "text"}, "w": {"type": "varchar(20)"}, "n": {"type": "integer"}})
    for number, text in enumerate(texts):
        insert(http, table, {"v": text, "n": number})
    insert(http, table, {"w": "in W only 50%", "n": 10})
    for search, found in (
        ("50%", [0, 10]),
        ("a_b", [2]),
        ("A_B", [2]),
        ("%", [0, 10]),
        ("_", [2]),
        ("\\", [4]),
        ("straße äö", [5]),
        ("ÄÖÜ", [5]),
        ("οδο", [7]),
        ("İX", [8]),
        ("IT'S", [9]),
        ("10", []),
        ("null", []),
        (" OFF", [0, 1]),
    ):
        reply = page(http, table, search=search)
        assert ([row["n"] for row in reply["data"]], reply["total"]) == (found, len(found)), search


def test_c074_search_without_text_columns_finds_everything(http: Http) -> None:
    table = new_table(http, {"n": {"type": "integer"}, "j": {"type": "jsonb"}})
    insert(http, table, {"n": 1, "j": "x"})
    insert(http, table, {"n": 2})
    assert page(http, table, search="zzz")["total"] == 2
    texts = new_table(http)
    insert(http, texts, {"title": "x"})
    assert page(http, texts, search="")["total"] == 1


def test_c075_a_page_beyond_the_end_is_empty_with_the_true_total(http: Http) -> None:
    table = new_table(http)
    for number in range(5):
        insert(http, table, {"title": "even" if number % 2 == 0 else "odd", "amount": number})
    assert page(http, table, page=3, page_size=2)["data"][0]["amount"] == 4
    assert page(http, table, page=4, page_size=2) == {"data": [], "total": 5, "page": 4, "page_size": 2}
    assert page(http, table, page=2, page_size=2, search="EVEN")["total"] == 3
    assert page(http, table, page=9, search="odd") == {"data": [], "total": 2, "page": 9, "page_size": 100}


def test_c075_pages_cover_everything_once(http: Http) -> None:
    table = new_table(http)
    for number in range(11):
        insert(http, table, {"title": f"t{number % 3}", "amount": number})
    plain = [row["amount"] for number in (1, 2, 3) for row in rows(http, table, page=number, page_size=4)]
    assert plain == list(range(11))
    for direction in ("asc", "desc"):
        query = {"sort_by": "title", "sort_order": direction, "page_size": 2}
        tied = [row["amount"] for number in range(1, 7) for row in rows(http, table, page=number, **query)]
        groups = [[n for n in range(11) if n % 3 == rest] for rest in (0, 1, 2)]
        expected = [number for group in (groups if direction == "asc" else groups[::-1]) for number in group]
        assert tied == expected
    # Without a column there is nothing that a direction could turn around.
    assert [row["amount"] for row in rows(http, table, sort_order="asc")] == list(range(11))


@pytest.mark.parametrize(
    "type_, ascending",
    [
        ("text", ["", " ", "10", "9", "A", "Z", "_", "a", "b", "z", "ß", "ä", "\uffee", "😀"]),
        ("varchar", ["B", "a", "é"]),
        ("integer", [-5, 0, 9, 10]),
        ("bigint", [-(2**63), 0, 2**63 - 1]),
        ("boolean", [False, True]),
        ("timestamp", ["0001-01-01", "1999-12-31T23:59:59.999999Z", "2000-01-01", "9999-12-31"]),
        ("uuid", ["00000000-0000-4000-8000-00000000000a", "0000000a-0000-4000-8000-000000000000", "f" * 32]),
        ("decimal", [-10.5, -0.01, 0, 2, 10]),
        ("float", [-1e300, -0.5, 1e-300, 2, 10]),
        ("date", ["0001-01-01", "2000-01-01", "9999-12-31"]),
        ("jsonb", ["a", 1, 10, 2, 1e-7 + 3, [1], [True], False, True, {"a": 1}]),
    ],
)
def test_c076_values_sort_alike_and_nulls_at_the_far_end(http: Http, type_: str, ascending: List[Any]) -> None:
    # Inserted from the middle outwards, so that neither direction is the order of insertion.
    values = [*ascending[1::2], None, *ascending[0::2][::-1], None]
    table = filled(http, type_, values)
    # By identity: 1 and True are equal.
    places = [next((place for place, one in enumerate(ascending) if one is value), len(ascending)) for value in values]
    up = sorted(range(len(values)), key=lambda number: (places[number], number))
    down = sorted(range(len(values)), key=lambda number: (-places[number], number))
    assert order(http, table, sort_by="v", sort_order="asc") == up
    assert order(http, table, sort_by="v", sort_order="desc") == order(http, table, sort_by="v") == down


def test_c076_a_table_is_sorted_by_any_column(http: Http) -> None:
    table = new_table(http, NOTES)
    first, second = insert(http, table, {"title": "b"}), insert(http, table, {"title": "a"})
    for name in ("id", "title", "amount", "created_at", "updated_at"):
        found = rows(http, table, sort_by=name, sort_order="asc")
        assert found == sorted([first, second], key=lambda row: (row[name] is not None, row[name] or 0))
