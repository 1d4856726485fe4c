"""Walking a list page by page, lazily, without a gap that nobody is told of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

__all__ = ["walk_by_offset"]

T = TypeVar("T")


def walk_by_offset(fetch: Callable[[int, int], Sequence[T]], limit: int) -> Iterator[T]:
    """Every item, ``limit`` at a time.

    :param fetch: ``fetch(skip, limit)`` gives the items from the ``skip``-th on, at most ``limit``.

    The end is an empty page: a short one may only mean that the server gives fewer at a time than was asked for.
    """
    skip = 0
    while True:
        page = fetch(skip, limit)
        if not page:
            return
        yield from page
        skip += len(page)
