"""The change log: what each commit touched, kept for whoever has to know; and the SQL of its table."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain, repeat
from math import isfinite
from typing import Any, Dict, FrozenSet, List, NamedTuple, Optional, Protocol, Tuple, Union

from ..schema.specs import EncodedKey, StoreSpec

__all__ = [
    "CREATE",
    "EVERYTHING",
    "KEEP_BYTES",
    "KEEP_ROWS",
    "KEY",
    "MAX_BODY",
    "MAX_ROWS",
    "NEWEST",
    "SINCE",
    "ChangeSet",
    "Changes",
    "IndexKeys",
    "Mark",
    "append",
    "decode",
    "generators_text",
    "prune",
]

MAX_ROWS = 256
"""Changed rows of one store that a commit tells one by one."""

MAX_BODY = 32 * 1024
"""Bytes that one commit's body may have; a longer one says "the whole store"."""

KEEP_ROWS = 10_000
KEEP_BYTES = 8 * 1024 * 1024

KEY = ":id"
"""What stands for the primary key where an index is named."""

_PRUNE_EVERY = 64

IndexKeys = Optional[Tuple[Union[EncodedKey, Tuple[EncodedKey, ...], None], ...]]
"""A row's key in each index of its store, in their order: ``None`` where it is absent, a tuple in a multi-entry one."""

_Row = Tuple[EncodedKey, IndexKeys, IndexKeys]

Changes = Dict[str, Optional[Dict[str, Collection[EncodedKey]]]]
"""By store: the keys that were touched in it, by index (``KEY`` is the primary key), old and new ones alike; ``None``
for the whole store. ``EVERYTHING`` in the place of a store's name is every store."""

EVERYTHING = "*"

# `generators` has each store's next generated key, by its number: whoever writes reads the newest row anyhow, so that
# a transaction which adds a row has neither to read nor to write another page for them.
# `hooks` counts the changes of the catalogue of hooks, for the same reason.
# `total` is how many bytes all bodies up to here have had, so that what is too much is found without adding up.
CREATE = (
    "CREATE TABLE _ix_log (seq INTEGER PRIMARY KEY, total INTEGER NOT NULL, body BLOB NOT NULL, "
    "generators TEXT NOT NULL, hooks INTEGER NOT NULL)",
    "INSERT INTO _ix_log (seq, total, body, generators, hooks) VALUES (0, 0, x'7b7d', '{}', 0)",
)
NEWEST = "SELECT seq, total, generators, hooks FROM _ix_log ORDER BY seq DESC LIMIT 1"
SINCE = (
    "SELECT seq, body, (SELECT value FROM _ix_meta WHERE name = 'log_watermark') FROM _ix_log"
    " WHERE seq > ? ORDER BY seq LIMIT ?"
)
"""The commits after a seq, oldest first, each with the watermark: the newest seq that was pruned."""

HOOKS_CHANGED = "UPDATE _ix_log SET hooks = hooks + 1 WHERE seq = (SELECT max(seq) FROM _ix_log)"

_APPEND = "INSERT INTO _ix_log (seq, total, body, generators, hooks) VALUES (?, ?, ?, ?, ?)"
_NEWEST_GONE = "SELECT seq FROM _ix_log WHERE total >= ? ORDER BY seq LIMIT 1"
_PRUNE = "DELETE FROM _ix_log WHERE seq <= ?"
_NO_LESS = "SELECT 1 FROM _ix_log WHERE seq <= ? LIMIT 1"
_WATERMARK = (
    "INSERT INTO _ix_meta (name, value) VALUES ('log_watermark', ?)"
    " ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)


_NONE: FrozenSet[str] = frozenset()


class Mark(NamedTuple):
    """How far a `ChangeSet` was."""

    rows: Dict[str, int]
    whole: FrozenSet[str]


class ChangeSet:
    """What one transaction touches. For one thread at a time.

    It only collects while rows are written; the work is done by :meth:`encode`, once a commit.
    """

    __slots__ = ("_touched", "_whole")

    def __init__(self) -> None:
        # By the store's name: the store, and its rows.
        self._touched: Dict[str, Tuple[StoreSpec, List[_Row]]] = {}
        self._whole: FrozenSet[str] = _NONE  # replaced, never changed: most transactions never need another

    def __bool__(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self._touched or self._whole)

    def record(self, store: StoreSpec, key: EncodedKey, old: IndexKeys, new: IndexKeys) -> None:
        """One row was written.

        :param old: its keys in the store's indexes before; ``None`` when there was no such row.
        :param new: its keys now; ``None`` when it is gone.
        """
        touched = self._touched.get(store.name)
        if touched is None:
            self._touched[store.name] = store, [(key, old, new)]
        elif len(touched[1]) < MAX_ROWS:
            touched[1].append((key, old, new))
        elif store.name not in self._whole:
            self._whole |= {store.name}

    def whole(self, store: StoreSpec) -> None:
        """Any row of the store may have been written."""
        self._whole |= {store.name}

    def record_added(self, store: StoreSpec, keys: Sequence[EncodedKey], columns: Sequence[Sequence[Any]]) -> None:
        """Rows were added; ``columns`` are their keys, index by index."""
        if len(keys) > MAX_ROWS:
            self.whole(store)
            return
        for key, new in zip(keys, zip(*columns) if columns else repeat(())):
            self.record(store, key, None, new)

    def everything(self) -> None:
        """Any row of any store may have been written, and the schema changed."""
        self._whole |= {EVERYTHING}

    def mark(self) -> Mark:
        """How far it is, for :meth:`back_to`."""
        return Mark({name: len(rows) for name, (_, rows) in self._touched.items()}, self._whole)

    def back_to(self, mark: Mark) -> None:
        """Forget what came after ``mark``, because it was undone."""
        for name in list(self._touched):
            count = mark.rows.get(name, 0)
            if count:
                del self._touched[name][1][count:]
            else:
                del self._touched[name]
        self._whole = mark.whole

    def changes(self) -> Changes:
        """All that was touched, by store and index."""
        if EVERYTHING in self._whole:
            return {EVERYTHING: None}
        result: Changes = dict.fromkeys(self._whole)
        for name, (store, rows) in self._touched.items():
            if name not in self._whole:
                result[name] = _keys_of(store, rows)
        return result

    def encode(self) -> bytes:
        """The body of its row in the log."""
        if len(self._touched) == 1 and not self._whole:
            ((store, rows),) = self._touched.values()
            if len(rows) == 1 and rows[0][1] is None and rows[0][2] is not None:
                body = _encode_one(store, rows[0][0], rows[0][2])
                if len(body) <= MAX_BODY:
                    return body
        changes = self.changes()
        body = _encode(changes)
        if len(body) > MAX_BODY:
            body = _encode(dict.fromkeys(changes))
        return body if len(body) <= MAX_BODY else _encode({EVERYTHING: None})


def _keys_of(store: StoreSpec, rows: List[_Row]) -> Dict[str, Collection[EncodedKey]]:
    keys: Dict[str, Collection[EncodedKey]] = {KEY: dict.fromkeys([row[0] for row in rows])}
    sides = [side for _, old, new in rows for side in (old, new) if side is not None]
    for position, index in enumerate(store.indexes):
        values: Iterable[Any] = [side[position] for side in sides]
        found: Dict[Any, None] = dict.fromkeys(chain.from_iterable(filter(None, values)) if index.multi else values)
        found.pop(None, None)
        if found:
            keys[index.name] = found
    return keys


# Encoded keys are numbers and bytes. JSON has no bytes, but strings, which keys are not: one character for each byte.

_encoder = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":"))
_quoted = json.encoder.encode_basestring


def _text(key: EncodedKey) -> str:
    if type(key) is bytes:
        return _quoted(key.decode("latin-1"))
    return repr(key) if type(key) is int or isfinite(key) else ("Infinity" if key > 0 else "-Infinity")  # type: ignore[operator, arg-type]


def _encode_one(store: StoreSpec, key: EncodedKey, keys: Tuple[Any, ...]) -> bytes:
    """What :func:`_encode` gives where one row was added, which is what most commits are: by hand in half the time."""
    form: Optional[Tuple[str, List[str]]] = store.__dict__.get("_log_form")
    if form is None:
        names = [f"],{_quoted(index.name)}:[" for index in store.indexes]
        form = store.__dict__["_log_form"] = f"{{{_quoted(store.name)}:{{{_quoted(KEY)}:[", names
    parts = [form[0], repr(key) if type(key) is int else _text(key)]
    for name, value in zip(form[1], keys):
        kind = type(value)
        if kind is bytes:
            parts += (name, _quoted(value.decode("latin-1")))  # as _text() does, without a call for it
        elif kind is int:
            parts += (name, repr(value))
        elif kind is tuple:
            if value:
                parts += (name, ",".join(map(_text, value)))
        elif value is not None:
            parts += (name, _text(value))
    parts.append("]}}")
    return "".join(parts).encode()


def _encode(changes: Changes) -> bytes:
    plain = {store: indexes and dict(zip(indexes, map(_plain, indexes.values()))) for store, indexes in changes.items()}
    return _encoder.encode(plain).encode()


def _plain(keys: Iterable[EncodedKey]) -> List[Any]:
    return [key.decode("latin-1") if type(key) is bytes else key for key in keys]


def decode(body: bytes) -> Changes:
    """What a commit touched, from its body; a body that cannot be read says: everything."""
    try:
        changes: Dict[str, Any] = json.loads(body)
        for indexes in changes.values():
            if indexes is not None:
                for index, keys in indexes.items():
                    indexes[index] = [key.encode("latin-1") if type(key) is str else key for key in keys]
    except (ValueError, AttributeError, TypeError):
        return {EVERYTHING: None}
    return changes


class _Cursor(Protocol):
    def fetchone(self) -> Any: ...


class Execute(Protocol):
    """How a statement is executed inside the write transaction."""

    def __call__(self, sql: str, parameters: Tuple[Any, ...], /) -> _Cursor: ...


def append(
    execute: Execute,
    seq: int,
    total: int,
    changes: ChangeSet,
    keep_rows: int = KEEP_ROWS,
    generators: Optional[str] = None,
    hooks: int = 0,
) -> None:
    """Tell of a transaction, inside it and right before its COMMIT.

    :param seq: the transaction's own commit seq, which is one above the newest.
    :param total: the newest row's, as :data:`NEWEST` gave it when the transaction began.
    :param keep_rows: commits that are kept; every now and then older ones are pruned, and what is above
        ``KEEP_BYTES``. The newest always stays.
    :param generators: the next keys of all stores, as :func:`generators_text` writes them; ``None`` leaves them, and
        what ``hooks`` counts, as they are.
    :param hooks: how often the catalogue of hooks has changed.
    """
    if generators is None:
        _, _, generators, hooks = execute(NEWEST, ()).fetchone()
    body = changes.encode()
    total += len(body)
    execute(_APPEND, (seq, total, body, generators, hooks))
    if seq % _PRUNE_EVERY == 0:
        prune(execute, seq, total, keep_rows)


def generators_text(generators: Mapping[int, int]) -> str:
    """What stands in the newest row for the next generated keys of stores, given by their numbers."""
    return "{" + ",".join(map('"%d":%d'.__mod__, generators.items())) + "}"


def prune(execute: Execute, seq: int, total: int, keep_rows: int = KEEP_ROWS, keep_bytes: int = KEEP_BYTES) -> None:
    """Forget the oldest commits, and note up to where. ``seq`` and ``total`` are the newest row's."""
    watermark = seq - max(1, keep_rows)
    if total > keep_bytes:
        watermark = max(watermark, min(execute(_NEWEST_GONE, (total - keep_bytes,)).fetchone()[0], seq - 1))
    if watermark >= 0 and execute(_NO_LESS, (watermark,)).fetchone() is not None:
        execute(_PRUNE, (watermark,))
        execute(_WATERMARK, (watermark,))
