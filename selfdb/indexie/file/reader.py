"""Reading stores from one connection: a snapshot, or single statements that are one each."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

from ..keys.ranges import Range
from ..ports import Entry, Row
from ..schema.specs import EncodedKey, IndexSpec, StoreSpec
from .rows import Rows, rows_of

if TYPE_CHECKING:
    from ..queries.plan import Source
    from ..schema.schema import Schema
    from .connection import Connection

__all__ = ["Reader"]

_AT_ONCE = 256
"""Rows that are fetched at a time where a result is walked through."""


class Reader:
    """A :class:`~selfdb.indexie.ports.View` on one connection. For one thread at a time.

    Outside a transaction of its connection each statement is a snapshot of its own, and the connection may be put away
    between them: then :meth:`texts_of` and :meth:`texts` are what may be called.
    """

    def __init__(self, database: Any, schema: Schema, connection: Connection, seq: Optional[int] = None) -> None:
        self.database = database
        self.schema = schema
        self.connection = connection
        self._seq = seq

    @property
    def seq(self) -> int:
        """Commit seq of the newest commit that it shows."""
        if self._seq is None:
            self._seq = int(self.connection.execute("SELECT max(seq) FROM _ix_log").fetchone()[0])
        return self._seq

    def get(self, store: StoreSpec, key: EncodedKey) -> Optional[Row]:
        """The row with this key."""
        try:
            # Fetched to the end, so that the statement holds no snapshot any more.
            for row in self.connection.raw.execute(rows_of(self.schema, store).get, (key,)).fetchall():
                return Row._make(row)
        except sqlite3.Error as error:
            raise self.connection.failed(error) from error
        return None

    def many(self, store: StoreSpec, keys: Sequence[EncodedKey]) -> Dict[EncodedKey, Row]:
        """The rows with these keys that exist."""
        rows = rows_of(self.schema, store)
        found: Dict[EncodedKey, Row] = {}
        try:
            at = 0
            while at < len(keys):
                size, sql = rows.many(len(keys) - at)
                some = list(keys[at : at + size])
                at += len(some)
                some += some[-1:] * (size - len(some))
                for row in self.connection.raw.execute(sql, some).fetchall():
                    found[row[0]] = Row._make(row)
        except sqlite3.Error as error:
            raise self.connection.failed(error) from error
        return found

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
        if limit == 0:
            return iter(())
        selects = rows_of(self.schema, store).select(source, ranges)
        if reverse:
            selects.reverse()
        if len(selects) == 1 and (limit is not None or offset):
            ((select, bounds),) = selects
            parameters = [*bounds, -1 if limit is None else limit, offset]
            return self._walk(select.scan(documents, reverse, True), parameters)
        return self._walk_all(
            [(select.scan(documents, reverse, False), bounds) for select, bounds in selects], limit, offset
        )

    def _walk(self, sql: str, parameters: List[Any]) -> Iterator[Entry]:
        cursor = self.connection.raw.cursor()
        try:
            cursor.execute(sql, parameters)
            while True:
                entries = cursor.fetchmany(_AT_ONCE)
                yield from entries
                if len(entries) < _AT_ONCE:
                    return
        except sqlite3.Error as error:
            raise self.connection.failed(error) from error
        finally:
            with suppress(sqlite3.ProgrammingError):  # the database was closed before whoever iterates let go
                cursor.close()

    def _walk_all(self, statements: List[Any], limit: Optional[int], offset: int) -> Iterator[Entry]:
        if not statements:
            return
        left = limit
        for sql, parameters in statements:
            for entry in self._walk(sql, parameters):
                if offset:
                    offset -= 1
                    continue
                yield entry
                if left is not None:
                    left -= 1
                    if left == 0:
                        return

    def count(self, store: StoreSpec, source: Optional[IndexSpec], ranges: Sequence[Range]) -> int:
        """How many entries :meth:`scan` would yield."""
        total = 0
        try:
            for select, bounds in rows_of(self.schema, store).select(source, ranges):
                # Keys that only fill up a statement are the same one again, which IN counts once.
                total += self.connection.raw.execute(select.count, bounds).fetchall()[0][0]
        except sqlite3.Error as error:
            raise self.connection.failed(error) from error
        return total

    # For a thread's own reader, whose statements are a snapshot each. They tell ``None`` where they do not do: what is
    # asked takes several statements, or an overlay came meanwhile, or the query was made for another schema.

    def texts_of(self, name: str, key: EncodedKey) -> Optional[List[str]]:
        """The document with this key, in a list; an empty one if there is none."""
        store = self.schema.stores.get(name)
        if store is None:
            return None
        rows: Rows = self.schema.cache.get(name) or rows_of(self.schema, store)
        return self._told(rows.text, (key,))

    def texts(
        self,
        name: str,
        source: Source,
        ranges: Tuple[Range, ...],
        reverse: bool,
        limit: Optional[int],
        offset: int,
    ) -> Optional[List[str]]:
        """The documents of what :meth:`scan` yields."""
        store = self.schema.stores.get(name)
        spec = source.spec
        if store is None or (spec is not None and store.index(spec.name) is not spec) or len(ranges) != 1:
            return None
        rows: Rows = self.schema.cache.get(name) or rows_of(self.schema, store)
        (only,) = ranges
        low, high, low_open, high_open = only
        cut = limit is not None or offset > 0
        if low is not None and low == high and not low_open and not high_open:
            if limit and not offset and (spec is None or (spec.unique and not spec.multi)):
                cut = False  # there is one at most
            sql = rows.texts_of_one(spec, reverse, cut)
            parameters: Tuple[Any, ...] = (low,)
        else:
            sql = rows.texts(spec, only, reverse, cut)
            parameters = tuple([bound for bound in (low, high) if bound is not None])
        if cut:
            parameters += (-1 if limit is None else limit, offset)
        return self._told(sql, parameters)

    def _told(self, sql: str, parameters: Tuple[Any, ...]) -> Optional[List[str]]:
        publisher = self.database._publisher
        epoch = publisher.epoch
        if publisher.layers:
            return None  # it came after the caller had looked
        found = self.connection.all(sql, parameters)
        return [text for (text,) in found] if publisher.epoch == epoch else None

    def close(self) -> None:
        """Give back what it holds. Harmless when repeated."""
