"""The rows of a transaction that is not in the file yet: kept in memory, shown over the file's own."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from ..errors import ConstraintError
from ..file.log import ChangeSet
from ..keys.extraction import IndexKeys, extractor_of
from ..keys.keys import decode
from ..keys.ranges import EVERYTHING, Range
from ..keys.stored import old_keys
from ..ports import Effect, Entry, Row, View
from ..schema.specs import EncodedKey, IndexSpec, StoreSpec
from . import merge
from .merge import Overlaid, OverlayRow

__all__ = ["Draft", "Operation", "Overlay"]

_ABSENT: Any = object()
_CHUNK = 500
_MOST_RESERVED = 256
_LAST_KEY = 2**53


class Operation(NamedTuple):
    """One change that an overlay holds, in the order in which it was made.

    :ivar id: the operation id that its hooks are given.
    :ivar effect: what was changed.
    :ivar created: when, in seconds since the epoch.
    """

    id: str
    effect: Effect
    created: float


class Overlay:
    """What one overlay transaction has changed so far.

    Its owner's calls come one at a time (the transaction holds its lock); readers of other threads only ever see what
    :meth:`freeze` gave them, which is replaced rather than changed once it was given away.

    :param reserve: ``reserve(store, above, count)`` takes that many keys, all above ``above``, from the store's own
        generator and gives the first.
    :ivar touched: by store, the version that each of its rows had in the file when it was first changed here; 0 for one
        that was not there.
    :ivar highest: by store, the highest numeric key that was added.
    :ivar uniques: which key has which key of a unique index, by (store, index).
    :ivar operations: what its hooks are to be told.
    """

    def __init__(self, reserve: Callable[[StoreSpec, float, int], int], on_forsaken: Callable[[], object]) -> None:
        self._reserve = reserve
        self._on_forsaken = on_forsaken
        self._rows: Dict[str, Dict[EncodedKey, OverlayRow]] = {}
        self._frozen: set[str] = set()
        self.touched: Dict[str, Dict[EncodedKey, int]] = {}
        self.operations: List[Operation] = []
        self.highest: Dict[str, float] = {}
        self.stores: Dict[str, StoreSpec] = {}
        self.uniques: Dict[Tuple[str, str], Dict[EncodedKey, EncodedKey]] = {}
        self._reserved: Dict[str, Tuple[int, int]] = {}
        self._grants: Dict[str, int] = {}

    def freeze(self) -> Mapping[str, Overlaid]:
        """Its rows by store, which nobody changes from now on."""
        self._frozen.update(self._rows)
        return dict(self._rows)

    def forsake(self) -> None:
        """The database was closed, or this is a forked child: its transaction is over."""
        self._on_forsaken()

    def rows(self, store: str) -> Dict[EncodedKey, OverlayRow]:
        """Its rows of one store; to be looked at only."""
        return self._rows.get(store, {})

    @property
    def held(self) -> Mapping[str, Mapping[EncodedKey, OverlayRow]]:
        """All its rows by store; to be looked at only."""
        return self._rows

    def apply(self, delta: Mapping[str, Mapping[EncodedKey, OverlayRow]]) -> None:
        """Take what one call changed."""
        for store, rows in delta.items():
            if store in self._frozen or store not in self._rows:
                self._rows[store] = {**self._rows.get(store, {}), **rows}
                self._frozen.discard(store)
            else:
                self._rows[store].update(rows)

    # Keys

    def next_key(self, store: StoreSpec) -> int:
        """The key for the next row, which belongs to this overlay whatever becomes of it.

        :raises ConstraintError: when there are none left.
        """
        above = self.highest.get(store.name, 0)
        first, count = self._reserved.get(store.name, (0, 0))
        if above >= _LAST_KEY:
            raise ConstraintError(
                f"{store.name!r} has no key left to generate: one of {_LAST_KEY} or above was added",
                table=store.name,
                index=":id",
                value=above,
            )
        if first <= above:
            first, count = int(above) + 1, count - (int(above) + 1 - first)
        if count <= 0:
            # Twice as many each time, so that a thousand rows do not lock the file a thousand times.
            count = min(self._grants.get(store.name, 1), _MOST_RESERVED)
            self._grants[store.name] = count * 2
            first = self._reserve(store, above, count)
        self._reserved[store.name] = (first, count)
        return first


class Draft:
    """One call's changes to an overlay: a :class:`~selfdb.indexie.ports.Sink`. Nobody sees them before :meth:`keep`.

    What is written stands on the file and on the overlay itself, not on other overlays, which may yet be undone.

    :param begin: makes a snapshot of the file; called when the file is first looked at.
    :param explicit: whether the transaction goes on after the call that writes.
    :ivar log: what readers see otherwise when it is kept.
    """

    def __init__(
        self, overlay: Overlay, begin: Callable[[], View], now: Callable[[], float], *, explicit: bool
    ) -> None:
        self.explicit = explicit
        self.log = ChangeSet()
        self._overlay = overlay
        self._begin = begin
        self._now = now
        self._base: Optional[View] = None
        self._delta: Dict[str, Dict[EncodedKey, OverlayRow]] = {}
        self._effects: List[Operation] = []
        self._journal: List[Tuple[Dict[Any, Any], Any, Any]] = []

    # What it stands on

    @property
    def base(self) -> View:
        """The file."""
        if self._base is None:
            self._base = self._begin()
        return self._base

    @property
    def seq(self) -> int:
        """Commit seq of the newest commit that it stands on."""
        return self.base.seq

    def close(self) -> None:
        """Give the snapshot back."""
        base, self._base = self._base, None
        if base is not None:
            base.close()

    def _over(self, store: StoreSpec) -> Overlaid:
        own, delta = self._overlay.rows(store.name), self._delta.get(store.name)
        return own if not delta else {**own, **delta}

    def _own(self, store: StoreSpec, key: EncodedKey) -> Optional[OverlayRow]:
        delta = self._delta.get(store.name)
        row = delta.get(key) if delta else None
        return self._overlay.rows(store.name).get(key) if row is None else row

    def get(self, store: StoreSpec, key: EncodedKey) -> Optional[Row]:
        """The row with this key; its version is the one that it had in the file when it was first changed here."""
        row = self._own(store, key)
        if row is None:
            return self.base.get(store, key)
        return None if row.text is None else Row(key, self._overlay.touched[store.name][key], row.text)

    def many(self, store: StoreSpec, keys: Sequence[EncodedKey]) -> Dict[EncodedKey, Row]:
        """The rows with these keys that exist."""
        found = merge.many(self.base, self._over(store), store, keys)
        touched = self._overlay.touched.get(store.name, {})
        return {key: row._replace(version=touched.get(key, row.version)) for key, row in found.items()}

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
        return merge.scan(
            self.base,
            self._over(store),
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
        return merge.count(self.base, self._over(store), store, source, ranges)

    # What is changed

    def next_key(self, store: StoreSpec) -> int:
        """The key for the next row.

        :raises ConstraintError: when there are none left.
        """
        # A file that has no write-ahead log cannot be written while a snapshot of it is open.
        self.close()
        return self._overlay.next_key(store)

    def saw_key(self, store: StoreSpec, number: float) -> None:
        """A row with this numeric key was added."""
        highest = self._overlay.highest
        if number > highest.get(store.name, 0):
            self._set(highest, store.name, number)

    def insert(self, store: StoreSpec, key: EncodedKey, document: Any, text: str) -> None:
        """Add a row.

        :raises ConstraintError: when the key or one of a unique index exists; nothing was changed then.
        """
        if self.get(store, key) is not None:
            raise _taken(store, None, key)
        keys = extractor_of(store).index_keys(document)
        self._check_uniques(store, key, keys)
        self._put(store, key, 0, OverlayRow(text, keys))

    def replace(self, store: StoreSpec, old: Row, document: Any, text: str) -> None:
        """Put another document in the place of ``old``, under the same key.

        :raises ConstraintError: when another row has a key of a unique index; nothing was changed then.
        """
        keys = extractor_of(store).index_keys(document)
        self._check_uniques(store, old.key, keys)
        self._put(store, old.key, old.version, OverlayRow(text, keys), old)

    def remove(self, store: StoreSpec, old: Row, document: Any = None) -> None:
        """Delete the row ``old``."""
        self._put(store, old.key, old.version, OverlayRow(None, ()), old)

    def clear(self, store: StoreSpec) -> int:
        """Delete all rows that there are now; how many there were."""
        keys = [entry[1] for entry in self.scan(store, None, [EVERYTHING], documents=False)]
        for start in range(0, len(keys), _CHUNK):
            for row in self.many(store, keys[start : start + _CHUNK]).values():
                self.remove(store, row)
        return len(keys)

    def _put(self, store: StoreSpec, key: EncodedKey, version: int, row: OverlayRow, old: Optional[Row] = None) -> None:
        before = self._own(store, key)
        if before is not None:
            was = before.keys if before.text is not None else None
        else:
            was = None if old is None else old_keys(store, old.text)
            if old is not None and was is None:
                self.log.whole(store)  # what it was cannot be told
        self._move_uniques(store, key, () if before is None else before.keys, row.keys)
        self.log.record(store, key, was, row.keys if row.text is not None else None)
        overlay = self._overlay
        overlay.stores[store.name] = store
        touched = overlay.touched.setdefault(store.name, {})
        if key not in touched:
            self._set(touched, key, version)
        self._set(self._delta.setdefault(store.name, {}), key, row)

    def _set(self, where: Dict[Any, Any], key: Any, value: Any) -> None:
        self._journal.append((where, key, where.get(key, _ABSENT)))
        where[key] = value

    def _move_uniques(self, store: StoreSpec, key: EncodedKey, old: IndexKeys, new: IndexKeys) -> None:
        for place, index in enumerate(store.indexes):
            if not index.unique:
                continue
            owners = self._overlay.uniques.setdefault((store.name, index.name), {})
            for gone in _each(old, place):
                if owners.get(gone) == key:
                    self._journal.append((owners, gone, owners.pop(gone)))
            for came in _each(new, place):
                self._set(owners, came, key)

    def _check_uniques(self, store: StoreSpec, key: EncodedKey, keys: IndexKeys) -> None:
        for place, index in enumerate(store.indexes):
            if not index.unique:
                continue
            owners = self._overlay.uniques.get((store.name, index.name), {})
            for value in _each(keys, place):
                owner = owners.get(value, key)
                if owner != key:
                    raise _taken(store, index, value)
                for entry in self.base.scan(store, index, [Range.only(value)], documents=False):
                    if entry[1] != key and self._own(store, entry[1]) is None:
                        raise _taken(store, index, value)

    # Who is told

    def wants(self, store: StoreSpec, op: str) -> bool:
        """Always: an overlay tells what it holds."""
        return True

    def effect(self, effect: Effect) -> None:
        """One row was changed by a write that is not silent."""
        self._effects.append(Operation(str(uuid.uuid4()), effect, self._now()))

    def savepoint(self) -> AbstractContextManager[None]:
        """Nothing of its own: a draft is one call's, and a call that raises is undone by :meth:`discard`."""
        return nullcontext()

    # How it ends

    @property
    def changes(self) -> Mapping[str, Mapping[EncodedKey, OverlayRow]]:
        """What it changed, by store."""
        return {store: rows for store, rows in self._delta.items() if rows}

    def keep(self) -> None:
        """The overlay takes it; for a visible one, under the publisher's mutex."""
        self._overlay.apply(self.changes)
        self._overlay.operations.extend(self._effects)

    def discard(self) -> None:
        """Leave the overlay as it was."""
        while self._journal:
            where, key, value = self._journal.pop()
            if value is _ABSENT:
                where.pop(key, None)  # an interrupt may have come before it was set
            else:
                where[key] = value


def _each(keys: IndexKeys, place: int) -> Sequence[EncodedKey]:
    key = keys[place] if keys else None
    if key is None:
        return ()
    return key if isinstance(key, tuple) else (key,)


def _taken(store: StoreSpec, index: Optional[IndexSpec], key: EncodedKey) -> ConstraintError:
    name = ":id" if index is None else index.name
    value = decode(key)
    what = "the key" if index is None else repr(name)
    return ConstraintError(
        f"{store.name!r} already has a row with {what} {value!r}",
        table=store.name,
        index=name,
        value=value,
    )
