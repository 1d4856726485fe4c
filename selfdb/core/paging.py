"""Walking a list page by page, lazily, without a gap that nobody is told of."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from ..exceptions import SelfDBError
from .marks import inner
from .waits import END, Waiting, waiting, work

__all__ = ["Repetition", "Walk", "walk_by_offset"]

T = TypeVar("T")

TOO_OFTEN = 3
"""Times that a page is met again before the loop over it ends."""


class Repetition:
    """Notices that pages come round again, in a circle of any length, and keeps two pages' ids for it.

    A page may come twice rightly: where rows are put in before it on the way, the next one is it once more.
    """

    def __init__(self) -> None:
        self._mark: tuple[str, ...] = ()
        self._until = 1
        self._since = self._met = 0

    def check(self, items: Sequence[Any]) -> None:
        """Return if the page of ``items`` may be a further one. Those without an ``id`` are not told apart.

        :raises SelfDBError: if it came too often.
        """
        ids = [item.get("id") if isinstance(item, dict) else getattr(item, "id", None) for item in items]
        if not ids or None in ids:
            return
        page = tuple(map(repr, ids))
        self._since += 1
        if page == self._mark:
            self._met += 1
            if self._met == TOO_OFTEN:
                raise SelfDBError("the server gives the same page again and again; does it know about pages?")
        elif self._since >= self._until:  # a mark that stands longer each time is met again in any circle
            self._mark, self._until = page, self._until * 2
            self._since = self._met = 0


class Walk(Iterator[T]):
    """Items, fetched a page at a time when the loop comes to them. Belongs to one thread.

    A page that could not be fetched is fetched by the next step anew, so that nothing is left out.

    :param fetch: ``fetch(pages, items)`` gives the page behind that many pages of that many items in all, and
        whether there may be more behind it.
    :param told_by: what of a page tells it from others; its items by default.
    """

    def __init__(
        self,
        fetch: Callable[[int, int], tuple[Sequence[T], bool]],
        told_by: Callable[[Sequence[T]], Sequence[Any]] = tuple,
    ) -> None:
        self._fetch = fetch
        self._told_by = told_by
        self._pages = 0
        self._taken = 0
        self._more = True
        self._repetition = Repetition()
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
            items, more = yield from work(lambda: self._fetch(self._pages, self._taken))
            self._repetition.check(self._told_by(items))
            self._more = more
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
