"""Ranges of encoded keys: what a query asks for, and what a live query depends on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import List, NamedTuple, Optional, Tuple

from ..schema.specs import EncodedKey

__all__ = ["EMPTY", "EVERYTHING", "Order", "Range", "complement", "contains", "intersection", "order", "union"]

Order = Tuple[bool, EncodedKey]


def order(key: EncodedKey) -> Order:
    """What sorts encoded keys in Python as SQLite does: numbers by value, then bytes."""
    return (type(key) is bytes, key)


class Range(NamedTuple):
    """All keys between two bounds; ``None`` is no bound, an open one is left out itself."""

    lower: Optional[EncodedKey] = None
    upper: Optional[EncodedKey] = None
    lower_open: bool = False
    upper_open: bool = False

    @classmethod
    def only(cls, key: EncodedKey) -> Range:
        """Just this key."""
        return cls(key, key)

    @property
    def is_only(self) -> bool:
        """Whether it is one key and no more."""
        return self.lower is not None and self.lower == self.upper and not self.lower_open and not self.upper_open

    @property
    def empty(self) -> bool:
        """Whether no key can be in it."""
        if self.lower is None or self.upper is None:
            return False
        low, high = order(self.lower), order(self.upper)
        return low > high or (low == high and (self.lower_open or self.upper_open))

    def __contains__(self, key: object) -> bool:
        # Bytes and numbers have no order in Python; in a file numbers stand first.
        lower, upper = self.lower, self.upper
        is_bytes = type(key) is bytes
        if lower is not None:
            if (type(lower) is bytes) is not is_bytes:
                if not is_bytes:
                    return False
            elif key < lower or (self.lower_open and key == lower):  # type: ignore[operator]
                return False
        if upper is not None:
            if (type(upper) is bytes) is not is_bytes:
                if is_bytes:
                    return False
            elif key > upper or (self.upper_open and key == upper):  # type: ignore[operator]
                return False
        return True


EVERYTHING = Range()
EMPTY = Range(0, 0, True, True)


def contains(ranges: Iterable[Range], key: EncodedKey) -> bool:
    """Whether the key is in one of them."""
    return any(key in each for each in ranges)


# A bound as a point of a line: a number is before or after the key that it stands at, so that two points can be
# compared and an end of one range be the beginning of another.
_Point = Tuple[int, Order, int]
_FIRST: _Point = (0, (False, 0), 0)
_LAST: _Point = (2, (False, 0), 0)


def _start(each: Range) -> _Point:
    return _FIRST if each.lower is None else (1, order(each.lower), 1 if each.lower_open else 0)


def _end(each: Range) -> _Point:
    return _LAST if each.upper is None else (1, order(each.upper), 0 if each.upper_open else 1)


def _between(start: _Point, end: _Point) -> Range:
    return Range(
        None if start == _FIRST else start[1][1],
        None if end == _LAST else end[1][1],
        start != _FIRST and start[2] == 1,
        end != _LAST and end[2] == 0,
    )


def union(ranges: Iterable[Range]) -> List[Range]:
    """The same keys as sorted ranges of which no two touch, and none is empty."""
    points = sorted((_start(each), _end(each)) for each in ranges if not each.empty)
    merged: List[Tuple[_Point, _Point]] = []
    for start, end in points:
        if merged and start <= merged[-1][1]:
            if end > merged[-1][1]:
                merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return [_between(start, end) for start, end in merged]


def complement(ranges: Iterable[Range]) -> List[Range]:
    """All other keys, as sorted ranges."""
    rest: List[Range] = []
    at = _FIRST
    for each in union(ranges):
        if at < _start(each):
            rest.append(_between(at, _start(each)))
        at = _end(each)
    if at != _LAST:
        rest.append(_between(at, _LAST))
    return rest


def intersection(ranges: Iterable[Range], bounds: Range) -> List[Range]:
    """What of the ranges lies in ``bounds``, as sorted ranges."""
    low, high = _start(bounds), _end(bounds)
    cut = (_between(max(_start(each), low), min(_end(each), high)) for each in union(ranges) if _start(each) < high)
    return [each for each in cut if not each.empty]
