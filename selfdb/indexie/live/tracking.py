"""What a run of a live query reads: the scope that it runs in, the view that takes note, and the notes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Dict, Optional, Set, TypeVar

from ..errors import InvalidStateError, ReadOnlyError
from ..file.lease import Lease
from ..file.log import EVERYTHING as EVERY_STORE
from ..file.log import KEY, Changes
from ..keys.ranges import EVERYTHING, Range
from ..ports import Entry, Row, Sink, View
from ..schema.specs import EncodedKey, IndexSpec, StoreSpec
from ..scope import Scope

__all__ = ["LiveRun", "Part", "Reads", "TrackingView"]

T = TypeVar("T")


class Part:
    """What was read of one index of one store.

    :ivar all: whether all of it; nothing else is noted then.
    :ivar keys: single keys.
    :ivar ranges: ranges of more than one.
    """

    __slots__ = ("all", "keys", "ranges")

    def __init__(self) -> None:
        self.all = False
        self.keys: Set[EncodedKey] = set()
        self.ranges: Set[Range] = set()

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Part)
            and self.all == other.all
            and self.keys == other.keys
            and self.ranges == other.ranges
        )

    __hash__ = None  # type: ignore[assignment]

    def add(self, each: Range) -> None:
        """This range was read."""
        if self.all or each.empty:
            return
        if each == EVERYTHING:
            self.all = True
            self.keys, self.ranges = set(), set()
        elif each.is_only:
            self.keys.add(each.lower)  # type: ignore[arg-type]
        else:
            self.ranges.add(each)

    def merge(self, other: Part) -> None:
        """All of another part was read too."""
        if other.all:
            self.add(EVERYTHING)
        elif not self.all:
            self.keys |= other.keys
            self.ranges |= other.ranges

    def touches(self, keys: Collection[EncodedKey]) -> bool:
        """Whether one of the keys lies in what was read."""
        if self.all:
            return bool(keys)
        if self.keys and not self.keys.isdisjoint(keys):
            return True
        return any(key in each for each in self.ranges for key in keys)


class Reads:
    """All that one run has read, by store and index (``KEY`` is the primary key)."""

    __slots__ = ("stores",)

    def __init__(self) -> None:
        self.stores: Dict[str, Dict[str, Part]] = {}

    def __bool__(self) -> bool:
        return bool(self.stores)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reads) and self.stores == other.stores

    __hash__ = None  # type: ignore[assignment]

    def part(self, store: str, index: str) -> Part:
        """The notes of one index, to be added to."""
        parts = self.stores.setdefault(store, {})
        part = parts.get(index)
        if part is None:
            part = parts[index] = Part()
        return part

    def merge(self, other: Reads) -> None:
        """All of another run's reads too."""
        for store, parts in other.stores.items():
            for index, part in parts.items():
                self.part(store, index).merge(part)

    def touched_by(self, changes: Changes) -> bool:
        """Whether something of it was changed."""
        if EVERY_STORE in changes:
            return True
        for store, indexes in changes.items():
            parts = self.stores.get(store)
            if parts is None:
                continue
            if indexes is None:
                return True
            if any(index in indexes and part.touches(indexes[index]) for index, part in parts.items()):
                return True
        return False


class TrackingView(View):
    """A view that notes what is read through it.

    :param reads: where.
    """

    def __init__(self, view: View, reads: Reads) -> None:
        self._view = view
        self._reads = reads

    @property
    def seq(self) -> int:
        """Of the view itself."""
        return self._view.seq

    @property
    def epoch(self) -> int:
        """The newest change of an overlay that it shows."""
        return int(getattr(self._view, "epoch", 0))

    def get(self, store: StoreSpec, key: EncodedKey) -> Optional[Row]:
        self._reads.part(store.name, KEY).add(Range.only(key))
        return self._view.get(store, key)

    def many(self, store: StoreSpec, keys: Sequence[EncodedKey]) -> Dict[EncodedKey, Row]:
        part = self._reads.part(store.name, KEY)
        if not part.all:
            part.keys.update(keys)
        return self._view.many(store, keys)

    def _note(self, store: StoreSpec, source: Optional[IndexSpec], ranges: Sequence[Range]) -> None:
        part = self._reads.part(store.name, KEY if source is None else source.name)
        for each in ranges:
            part.add(each)

    def scan(
        self,
        store: StoreSpec,
        source: Optional[IndexSpec],
        ranges: Sequence[Range],
        *,
        reverse: bool = False,
        limit: Optional[int] = None,
        offset: int = 0,
        documents: bool = True,
    ) -> Iterator[Entry]:
        self._note(store, source, ranges)
        return self._view.scan(store, source, ranges, reverse=reverse, limit=limit, offset=offset, documents=documents)

    def count(self, store: StoreSpec, source: Optional[IndexSpec], ranges: Sequence[Range]) -> int:
        self._note(store, source, ranges)
        return self._view.count(store, source, ranges)

    def close(self) -> None:
        """Nothing: the run ends its view itself, after all of its reads."""


class LiveRun(Scope):
    """The scope of one run. Everything read in it is read from one snapshot, which the first read takes.

    :param database: what it reads; ``None`` for the first one that is read.
    :param begin: called with the database right before that snapshot is taken, so that no change can fall between.
    :ivar reads: what was read.
    :ivar seq: commit seq of the snapshot; -1 when nothing was read.
    :ivar epoch: the newest change of an overlay that it shows.
    """

    kind = "live"

    def __init__(self, database: Any, begin: Callable[[Any], object]) -> None:
        super().__init__(database)
        self._begin = begin
        self._view: Optional[TrackingView] = None
        self._lease = Lease()
        self.reads = Reads()
        self.seq = -1
        self.epoch = 0

    def joins(self, database: Any) -> bool:
        with self.lock:
            if self.database is None:
                self.database = database
        if self.database is not database:
            raise InvalidStateError("the function of a live query reads one database; this is another one")
        return True

    def write(self, stores: Sequence[StoreSpec], work: Callable[[Sink], T], silent: bool) -> T:
        raise ReadOnlyError("the function of a live query must not write")

    def view(self, stores: Sequence[StoreSpec], lease: Lease) -> View:
        with self.lock:
            if self._view is None:
                if not self.active:
                    raise InvalidStateError("this run of a live query is over; what it reads has to be read in it")
                self._begin(self.database)
                view = self.database._snapshot(self._lease)
                self._view = TrackingView(view, self.reads)
                self.seq, self.epoch = self._view.seq, self._view.epoch
            return self._view

    def finish(self) -> None:
        """Give the snapshot back. What was read stays."""
        self.leave()
        with self.lock:
            self._view = None
            self._lease.end()
