"""Loops over pages end, whatever the server makes of the page that it is asked for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, List

import pytest

from selfdb.core.paging import walk_by_offset
from selfdb.exceptions import SelfDBError


@pytest.mark.parametrize("circle", [1, 2, 3, 7, 64, 100])
@pytest.mark.parametrize("before", [0, 1, 30])
def test_pages_that_come_round(circle: int, before: int) -> None:
    asked: List[int] = []

    def fetch(skip: int, limit: int) -> List[Any]:
        asked.append(skip)
        number = len(asked) - 1
        where = number if number < before else before + (number - before) % circle
        return [{"id": where, "n": item} for item in range(limit)]

    with pytest.raises(SelfDBError, match="the same page again and again"):
        for _ in walk_by_offset(fetch, 2):
            pass
    assert len(asked) < 10 * (before + circle) + 10


def test_pages_that_are_shifted_are_no_circle() -> None:
    """Something is put in front of all before each page: each page is the one before it, moved by one."""
    rows = [SimpleNamespace(id=number) for number in range(40)]
    seen = []
    asked: List[int] = []

    def fetch(skip: int, limit: int) -> List[Any]:
        asked.append(skip)
        if len(asked) % 3 == 0:
            rows.insert(0, SimpleNamespace(id=-len(asked)))
        return rows[skip : skip + limit]

    for row in walk_by_offset(fetch, 1):
        seen.append(row.id)
    assert set(range(40)) <= set(seen)


@pytest.mark.parametrize("item", [{"n": 1}, {"id": None}, 7, SimpleNamespace()])
def test_what_has_no_id_is_not_told_apart(item: Any) -> None:
    pages = iter([[item]] * 50)
    assert len(list(walk_by_offset(lambda skip, limit: next(pages, []), 1))) == 50
