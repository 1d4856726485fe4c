"""Walking a list page by page, lazily, without a gap that nobody is told of."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from .marks import inner
from .waits import END, Waiting, waiting, work

__all__ = ["Walk", "walk_by_offset"]

T = TypeVar("T")


class Walk(Iterator[T]):
    """Items, fetched a page at a time when the loop comes to them. Belongs to one thread.

    A page that could not be fetched is fetched by the next step anew, so that nothing is left out.

    :param fetch: ``fetch(pages, items)`` gives the page behind that many pages of that many items in all, and
        whether there may be more behind it.
    """

    def __init__(self, fetch: Callable[[int, int], tuple[Sequence[T], bool]]) -> None:
        self._fetch = fetch
        self._pages = 0
        self._taken = 0
        self._more = True
        self._items: deque[T] = deque()

    def __iter__(self) -> Walk[T]:
        return self

    @waiting
    def __next__(self) -> Waiting[T]:
        """The next item; at the end of a page the next one is fetched."""
        return self.step()

    @inner
    def step(self) -> Waiting[T]:
        """A step of the loop; ``END`` behind the last item."""
        while not self._items:
            if not self._more:
                return END  # type: ignore[no-any-return]
            items, self._more = yield from work(lambda: self._fetch(self._pages, self._taken))
            self._pages += 1
            self._taken += len(items)
            self._items.extend(items)
        return self._items.popleft()


def walk_by_offset(fetch: Callable[[int, int], Sequence[T]], limit: int) -> Walk[T]:
    """Every item, ``limit`` at a time.

    :param fetch: ``fetch(skip, limit)`` gives the items from the ``skip``-th on, at most ``limit``.

    The end is an empty page: a short one may only mean that the server gives fewer at a time than was asked for.
    """

    def page(_: int, skip: int) -> tuple[Sequence[T], bool]:
        items = fetch(skip, limit)
        return items, bool(items)

    return Walk(page)
