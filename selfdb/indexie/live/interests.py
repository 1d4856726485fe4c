"""Who has read what: finds those whom a change concerns without asking each of them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable
from typing import Any, Dict, Generic, List, Optional, Set, Tuple, TypeVar

from ..file.log import EVERYTHING, Changes
from ..keys.ranges import Range
from ..schema.specs import EncodedKey
from .tracking import Part, Reads

__all__ = ["Interests", "Intervals"]

L = TypeVar("L")

# A place on the line of all keys. A key stands between two places that are its own, so that a bound may lie before it
# or behind it: (numbers, then bytes; the key; 0 before, 1 at, 2 behind).
_Place = Tuple[int, Any, int]
_FIRST: _Place = (0, 0, 0)
_LAST: _Place = (3, 0, 0)


def _place(key: EncodedKey, side: int) -> _Place:
    return (2 if type(key) is bytes else 1, key, side)


class _Entry(Generic[L]):
    __slots__ = ("end", "owner", "start")

    def __init__(self, owner: L, each: Range) -> None:
        self.owner: Optional[L] = owner
        self.start = _FIRST if each.lower is None else _place(each.lower, 2 if each.lower_open else 0)
        self.end = _LAST if each.upper is None else _place(each.upper, 0 if each.upper_open else 2)


class Intervals(Generic[L]):
    """Ranges with an owner each, and which of them a key lies in.

    They stand sorted by where they begin, under a tree that knows how far those of each half reach. What is added waits
    beside it in a short list; the tree is made anew when that, or what was taken out, has grown to a part of the whole.
    """

    def __init__(self) -> None:
        self._entries: Dict[Tuple[L, Range], _Entry[L]] = {}
        self._fresh: List[_Entry[L]] = []
        self._sorted: List[_Entry[L]] = []
        self._starts: List[_Place] = []
        self._reach: List[_Place] = []
        self._width = 0
        self._gone = 0

    def __bool__(self) -> bool:
        return bool(self._entries)

    def add(self, owner: L, each: Range) -> None:
        """This range is one of its owner's."""
        if (owner, each) not in self._entries:
            entry = self._entries[(owner, each)] = _Entry(owner, each)
            self._fresh.append(entry)

    def discard(self, owner: L, each: Range) -> None:
        """It is no more."""
        entry = self._entries.pop((owner, each), None)
        if entry is not None:
            entry.owner = None
            self._gone += 1

    def find(self, key: EncodedKey, found: Set[L]) -> None:
        """Add the owners of all ranges that ``key`` lies in to ``found``."""
        if len(self._fresh) + self._gone > 16 + len(self._sorted) // 8:
            self._build()
        at = _place(key, 1)
        for entry in self._fresh:
            if entry.start < at < entry.end and entry.owner is not None:
                found.add(entry.owner)
        # Those that begin before the key; of these, those that end behind it.
        count = bisect_right(self._starts, at)
        if count:
            self._search(count, at, found)

    def _search(self, count: int, at: _Place, found: Set[L]) -> None:
        """Among the first ``count`` ones, from the tree's root down to where none reaches as far."""
        reach, entries = self._reach, self._sorted
        todo = [(1, 0, self._width)]
        while todo:
            node, low, width = todo.pop()
            if reach[node] < at:
                continue
            if width == 1:
                owner = entries[low].owner
                if owner is not None:
                    found.add(owner)
                continue
            width >>= 1
            node += node
            if low + width < count:
                todo.append((node + 1, low + width, width))
            todo.append((node, low, width))

    def _build(self) -> None:
        self._sorted = sorted(self._entries.values(), key=lambda entry: entry.start)
        self._fresh, self._gone = [], 0
        self._starts = [entry.start for entry in self._sorted]
        count = len(self._sorted)
        width = self._width = 1 << max(0, count - 1).bit_length()
        reach = [_FIRST] * width + [entry.end for entry in self._sorted] + [_FIRST] * (width - count)
        for node in range(width - 1, 0, -1):
            reach[node] = max(reach[node + node], reach[node + node + 1])
        self._reach = reach


class _Source(Generic[L]):
    """Those who have read something of one index."""

    __slots__ = ("all", "keys", "ranges")

    def __init__(self) -> None:
        self.all: Set[L] = set()
        self.keys: Dict[EncodedKey, Set[L]] = {}
        self.ranges: Intervals[L] = Intervals()

    def add(self, listener: L, part: Part) -> None:
        if part.all:
            self.all.add(listener)
        for key in part.keys:
            self.keys.setdefault(key, set()).add(listener)
        for each in part.ranges:
            self.ranges.add(listener, each)

    def discard(self, listener: L, part: Part) -> None:
        self.all.discard(listener)
        for key in part.keys:
            listeners = self.keys.get(key)
            if listeners is not None:
                listeners.discard(listener)
                if not listeners:
                    del self.keys[key]
        for each in part.ranges:
            self.ranges.discard(listener, each)

    def find(self, keys: Collection[EncodedKey], found: Set[L]) -> None:
        if self.all and keys:
            found |= self.all
        if self.keys:
            for key in keys:
                listeners = self.keys.get(key)
                if listeners:
                    found |= listeners
        if self.ranges:
            for key in keys:
                self.ranges.find(key, found)


class Interests(Generic[L]):
    """What each listener has read, by store and index. Its owner takes care that one thread uses it at a time."""

    def __init__(self) -> None:
        self._reads: Dict[L, Reads] = {}
        self._stores: Dict[str, Set[L]] = {}
        self._sources: Dict[str, Dict[str, _Source[L]]] = {}

    def __contains__(self, listener: L) -> bool:
        return listener in self._reads

    def put(self, listener: L, reads: Reads) -> None:
        """These, and no others, are what it depends on. They must not be added to afterwards."""
        known = self._reads.get(listener)
        if known is not None:
            if known == reads:
                return  # as after most runs
            self.discard(listener)
        self._reads[listener] = reads
        for store, parts in reads.stores.items():
            self._stores.setdefault(store, set()).add(listener)
            sources = self._sources.setdefault(store, {})
            for index, part in parts.items():
                source = sources.get(index)
                if source is None:
                    source = sources[index] = _Source()
                source.add(listener, part)

    def discard(self, listener: L) -> None:
        """It depends on nothing any more. Harmless when it never did."""
        reads = self._reads.pop(listener, None)
        if reads is None:
            return
        for store, parts in reads.stores.items():
            self._stores[store].discard(listener)
            for index, part in parts.items():
                self._sources[store][index].discard(listener, part)

    def concerned(self, changes: Changes) -> Iterable[L]:
        """Those who have read something of what was changed."""
        if EVERYTHING in changes:
            return list(self._reads)
        found: Set[L] = set()
        for store, indexes in changes.items():
            if indexes is None:
                found |= self._stores.get(store, set())
                continue
            sources = self._sources.get(store)
            if not sources:
                continue
            for index, keys in indexes.items():
                source = sources.get(index)
                if source is not None:
                    source.find(keys, found)
        return found
