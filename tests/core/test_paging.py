"""Walking lists: lazily, to the end, with whatever page size the server is willing to give."""

from __future__ import annotations

from typing import List, Sequence, Tuple

import pytest

from selfdb.core.paging import walk_by_offset


class Pages:
    """A list on a server that gives at most ``most`` at a time."""

    def __init__(self, count: int, most: int = 1000) -> None:
        self.items = list(range(count))
        self.most = most
        self.asked: List[Tuple[int, int]] = []

    def __call__(self, skip: int, limit: int) -> Sequence[int]:
        self.asked.append((skip, limit))
        return self.items[skip : skip + min(limit, self.most)]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7])
@pytest.mark.parametrize("limit", [1, 3, 100])
@pytest.mark.parametrize("most", [1, 2, 1000])
def test_every_item_comes_once_and_in_order(count: int, limit: int, most: int) -> None:
    pages = Pages(count, most)
    assert list(walk_by_offset(pages, limit)) == list(range(count))
    assert all(asked == limit for _, asked in pages.asked)
    assert pages.asked[-1][0] == count, "an empty page is the end"


def test_nothing_is_fetched_before_it_is_wanted() -> None:
    pages = Pages(7)
    walk = walk_by_offset(pages, 3)
    assert pages.asked == []
    assert [next(walk) for _ in range(3)] == [0, 1, 2]
    assert pages.asked == [(0, 3)]
    assert next(walk) == 3
    assert pages.asked == [(0, 3), (3, 3)]


def test_what_a_page_raises_is_raised_behind_the_items_before_it() -> None:
    pages = Pages(3)

    def breaking(skip: int, limit: int) -> Sequence[int]:
        if skip:
            raise ZeroDivisionError
        return pages(skip, limit)

    walk = walk_by_offset(breaking, 2)
    assert [next(walk), next(walk)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(walk)
