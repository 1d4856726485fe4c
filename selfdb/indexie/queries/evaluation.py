"""Carrying out a query on one view: union, filters, order, and what of that is left after offset and limit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, List, NamedTuple, Set, Tuple

from ..keys.extraction import index_key_of
from ..keys.ranges import Order, order
from ..keys.stored import document_of
from ..ports import Entry, View
from ..schema.specs import EncodedKey, IndexSpec, StoreSpec
from .plan import Query

__all__ = ["Item", "count", "found"]

_AT_ONCE = 256
"""Documents of a union that are fetched at a time."""


class Item(NamedTuple):
    """One row of a result.

    :ivar index_key: under which it was found; the key itself where several ranges were united.
    :ivar document: ``None`` where documents were not asked for.
    """

    index_key: EncodedKey
    key: EncodedKey
    document: Any
    text: str


def found(view: View, store: StoreSpec, query: Query, documents: bool = True) -> Iterator[Item]:
    """The rows of the query, in its order.

    :param documents: whether they are to be had; without them an index is enough for most queries.
    """
    if query.plain:
        ((source, ranges),) = query.branches
        entries = view.scan(
            store,
            source.spec,
            ranges,
            reverse=query.reverse,
            limit=query.limit,
            offset=query.offset,
            documents=documents,
        )
        return _items(store, entries, documents)
    needed = documents or bool(query.filters) or bool(query.until) or _sorted_in_memory(query)
    items = _one(view, store, query, needed) if len(query.branches) == 1 else _union(view, store, query, needed)
    for accept in query.filters:
        items = _filtered(items, accept)
    if query.distinct and len(query.branches) == 1:
        items = _distinct(items)
    if _sorted_in_memory(query):
        assert query.order is not None
        items = iter(_ordered(items, query.order, query.reverse))
    for stop, included in query.until:
        items = _until(items, stop, included)
    if query.offset or query.limit is not None:
        items = islice(items, query.offset, None if query.limit is None else query.offset + query.limit)
    return items


def count(view: View, store: StoreSpec, query: Query) -> int:
    """How many rows :func:`found` would give."""
    if query._replace(order=None).plain:
        ((source, ranges),) = query.branches
        total = max(0, view.count(store, source.spec, ranges) - query.offset)
        return total if query.limit is None else min(total, query.limit)
    return sum(1 for _ in found(view, store, query, documents=False))


def _sorted_in_memory(query: Query) -> bool:
    """Whether the order asked for is another one than the ranges come in."""
    if query.order is None:
        return False
    if len(query.branches) > 1:
        return True
    source = query.branches[0].source
    if source.leading or source.path != query.order:
        return True
    return source.spec is not None and source.spec.multi


def _one(view: View, store: StoreSpec, query: Query, documents: bool) -> Iterator[Item]:
    ((source, ranges),) = query.branches
    reverse = query.reverse and not _sorted_in_memory(query)
    entries = view.scan(store, source.spec, ranges, reverse=reverse, documents=documents)
    return _items(store, entries, documents)


def _items(store: StoreSpec, entries: Iterable[Entry], documents: bool) -> Iterator[Item]:
    return (Item(x, key, document_of(store, key, text) if documents else None, text) for x, key, text in entries)


def _union(view: View, store: StoreSpec, query: Query, documents: bool) -> Iterator[Item]:
    """Each row of the branches once, in the order of the keys."""
    keys: Set[EncodedKey] = set()
    for source, ranges in query.branches:
        keys.update(entry[1] for entry in view.scan(store, source.spec, ranges, documents=False))
    in_order = sorted(keys, key=order, reverse=query.reverse)
    if not documents:
        return (Item(key, key, None, "") for key in in_order)
    return _fetched(view, store, in_order)


def _fetched(view: View, store: StoreSpec, keys: List[EncodedKey]) -> Iterator[Item]:
    for start in range(0, len(keys), _AT_ONCE):
        some = keys[start : start + _AT_ONCE]
        rows = view.many(store, some)
        for key in some:
            row = rows[key]
            yield Item(row.key, row.key, document_of(store, row.key, row.text), row.text)


def _filtered(items: Iterable[Item], accept: Any) -> Iterator[Item]:
    return (item for item in items if accept(item.document))


def _distinct(items: Iterable[Item]) -> Iterator[Item]:
    seen: Set[EncodedKey] = set()
    for item in items:
        if item.key not in seen:
            seen.add(item.key)
            yield item


def _ordered(items: Iterable[Item], path: str, reverse: bool) -> List[Item]:
    """By the key at ``path``, then by the key; rows that have none there come last, whatever the direction."""
    parts = tuple(part.strip() for part in path[1:-1].split("+")) if path.startswith("[") else (path,)
    key_of = index_key_of(IndexSpec(path, parts, compound=len(parts) > 1))
    present: List[Tuple[Order, Order, Item]] = []
    absent: List[Tuple[Order, Item]] = []
    for item in items:
        value = item.key if path == ":id" else key_of(item.document) if isinstance(item.document, dict) else None
        if value is None:
            absent.append((order(item.key), item))
        else:
            present.append((order(value), order(item.key), item))
    present.sort(key=lambda each: each[:2], reverse=reverse)
    absent.sort(key=lambda each: each[0], reverse=reverse)
    return [each[2] for each in present] + [each[1] for each in absent]


def _until(items: Iterable[Item], stop: Any, included: bool) -> Iterator[Item]:
    for item in items:
        if stop(item.document):
            if included:
                yield item
            return
        yield item
