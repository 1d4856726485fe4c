"""Reading the file and overlays as one: rows that an overlay holds take the place of those under the same key."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Dict, List, NamedTuple, Optional, Tuple

from ..errors import DatabaseCorruptError
from ..keys.extraction import IndexKeys, extractor_of
from ..keys.ranges import Order, Range, contains, order
from ..keys.values import load
from ..ports import Entry, Row, View
from ..schema.specs import EncodedKey, IndexSpec, StoreSpec

__all__ = ["Merged", "OverlayRow", "Overlaid", "count", "many", "scan"]


class OverlayRow(NamedTuple):
    """What an overlay has under a key.

    :ivar text: the document; ``None`` when the row is deleted there.
    :ivar keys: its keys in the store's indexes; empty when it is deleted.
    """

    text: Optional[str]
    keys: IndexKeys


Overlaid = Mapping[EncodedKey, OverlayRow]
"""An overlay's rows of one store."""

_NOTHING: Overlaid = {}


def _within(ranges: Sequence[Range]) -> Callable[[EncodedKey], bool]:
    """Whether a key is in one of the ranges, without looking at each of many."""
    if len(ranges) == 1:
        return ranges[0].__contains__
    points = {each.lower for each in ranges if each.is_only}
    wide = [each for each in ranges if not each.is_only]
    return lambda key: key in points or contains(wide, key)


def _place(store: StoreSpec, source: IndexSpec) -> int:
    return next(at for at, index in enumerate(store.indexes) if index.name == source.name)


def _keys_in(keys: IndexKeys, place: int, inside: Callable[[EncodedKey], bool]) -> Iterable[EncodedKey]:
    """The keys of one document in the index at ``place`` that are inside."""
    key = keys[place] if keys else None
    if key is None:
        return ()
    return [each for each in (key if isinstance(key, tuple) else (key,)) if inside(each)]


def _entries(
    rows: Overlaid, store: StoreSpec, source: Optional[IndexSpec], inside: Callable[[EncodedKey], bool]
) -> Iterator[Tuple[EncodedKey, EncodedKey, str]]:
    if source is None:
        for key, row in rows.items():
            if row.text is not None and inside(key):
                yield key, key, row.text
        return
    place = _place(store, source)
    for key, row in rows.items():
        if row.text is not None:
            for index_key in _keys_in(row.keys, place, inside):
                yield index_key, key, row.text


def _order(entry: Entry) -> Tuple[Order, Order]:
    return order(entry[0]), order(entry[1])


def scan(
    base: View,
    rows: Overlaid,
    store: StoreSpec,
    source: Optional[IndexSpec],
    ranges: Sequence[Range],
    *,
    reverse: bool = False,
    limit: Optional[int] = None,
    offset: int = 0,
    documents: bool = True,
) -> Iterator[Entry]:
    """As :meth:`~selfdb.indexie.ports.View.scan` of ``base`` with ``rows`` in the place of its own under their keys."""
    if not rows:
        return base.scan(store, source, ranges, reverse=reverse, limit=limit, offset=offset, documents=documents)
    if not ranges:
        return iter(())
    # Each row that is covered takes at most one entry away, but in a multi-entry index, where it may have had many.
    enough = None if limit is None or (source is not None and source.multi) else limit + offset + len(rows)
    under = base.scan(store, source, ranges, reverse=reverse, limit=enough, documents=documents)
    seen = (entry for entry in under if entry[1] not in rows)
    over = sorted(_entries(rows, store, source, _within(ranges)), key=_order, reverse=reverse)
    merged = heapq.merge(seen, over, key=_order, reverse=reverse) if over else seen
    return islice(merged, offset, None if limit is None else offset + limit)


def count(base: View, rows: Overlaid, store: StoreSpec, source: Optional[IndexSpec], ranges: Sequence[Range]) -> int:
    """How many entries :func:`scan` would yield; reads no more of ``base`` than the rows that are covered."""
    total = base.count(store, source, ranges)
    if not rows or not ranges:
        return total
    inside = _within(ranges)
    covered = base.many(store, list(rows))
    if source is None:
        total -= sum(map(inside, covered))
    else:
        place = _place(store, source)
        extract = extractor_of(store).index_keys
        try:
            total -= sum(len(list(_keys_in(extract(load(row.text)), place, inside))) for row in covered.values())
        except DatabaseCorruptError:  # what it is found under is known to the index alone
            under = base.scan(store, source, ranges, documents=False)
            total = sum(1 for entry in under if entry[1] not in rows)
    return total + sum(1 for _ in _entries(rows, store, source, inside))


def many(base: View, rows: Overlaid, store: StoreSpec, keys: Sequence[EncodedKey]) -> Dict[EncodedKey, Row]:
    """The rows with these keys; those of ``rows`` have the version 0."""
    if not rows:
        return base.many(store, keys)
    found = base.many(store, [key for key in keys if key not in rows])
    for key in keys:
        row = rows.get(key)
        if row is not None and row.text is not None:
            found[key] = Row(key, 0, row.text)
    return found


class Merged:
    """A :class:`~selfdb.indexie.ports.View` of the file and overlays over it, each over those before it.

    :param base: the snapshot of the file; closed with this.
    :param layers: the overlays' rows by store, which must not change any more.
    :ivar epoch: which changes of overlays it shows: those up to this number.
    """

    def __init__(self, base: View, layers: Sequence[Mapping[str, Overlaid]], epoch: int) -> None:
        self._base = base
        self._layers = [layer for layer in layers if layer]
        self._rows: Dict[str, Overlaid] = {}
        self.epoch = epoch

    @property
    def seq(self) -> int:
        """Commit seq of the newest commit that it shows."""
        return self._base.seq

    def _over(self, store: StoreSpec) -> Overlaid:
        if not self._layers:
            return _NOTHING
        rows = self._rows.get(store.name)
        if rows is None:
            parts: List[Overlaid] = [layer[store.name] for layer in self._layers if layer.get(store.name)]
            if len(parts) > 1:
                stacked: Dict[EncodedKey, OverlayRow] = {}
                for part in parts:
                    stacked.update(part)
                parts = [stacked]
            rows = self._rows[store.name] = parts[0] if parts else _NOTHING
        return rows

    def get(self, store: StoreSpec, key: EncodedKey) -> Optional[Row]:
        """The row with this key."""
        row = self._over(store).get(key)
        if row is None:
            return self._base.get(store, key)
        return None if row.text is None else Row(key, 0, row.text)

    def many(self, store: StoreSpec, keys: Sequence[EncodedKey]) -> Dict[EncodedKey, Row]:
        """The rows with these keys that exist."""
        return many(self._base, self._over(store), store, keys)

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
        """Entries in the order of (index key, key)."""
        rows = self._over(store)
        return scan(
            self._base,
            rows,
            store,
            source,
            ranges,
            reverse=reverse,
            limit=limit,
            offset=offset,
            documents=documents,
        )

    def count(self, store: StoreSpec, source: Optional[IndexSpec], ranges: Sequence[Range]) -> int:
        """How many entries :meth:`scan` would yield."""
        return count(self._base, self._over(store), store, source, ranges)

    def close(self) -> None:
        """Give back the snapshot."""
        self._base.close()
