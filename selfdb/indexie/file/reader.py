"""Reading stores from one connection: a snapshot, or single statements that are one each."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

from ..errors import DatabaseCorruptError, is_no_text
from ..keys.ranges import Range
from ..keys.stored import text_of
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

_NO_TEXT = re.compile(r", (d|s\.d) FROM ")
"""Where a statement selects a document, which is to be had as bytes when one of them is no text."""


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
        """The row with this key. Its text may be no document's."""
        # Fetched to the end, so that the statement holds no snapshot any more.
        for row in self._rows(rows_of(self.schema, store).get, (key,)):
            return Row._make(row)
        return None

    def _rows(self, sql: str, parameters: Sequence[Any]) -> List[Any]:
        """What a statement gives that selects ``k, v, d``; with an empty text for what is none."""
        try:
            try:
                return self.connection.raw.execute(sql, parameters).fetchall()
            except sqlite3.Error as error:
                if not is_no_text(error):
                    raise
            found = self.connection.raw.execute(sql.replace("v, d", "v, CAST(d AS BLOB)", 1), parameters).fetchall()
            return [(key, version, text_of(stored)) for key, version, stored in found]
        except sqlite3.Error as error:
            raise self.connection.failed(error) from error

    def stored(self, store: StoreSpec) -> Iterator[Tuple[EncodedKey, str]]:
        """The keys and texts of all rows, of which some may be no documents'."""
        for key, stored in self._walk(rows_of(self.schema, store).all, ()):
            yield key, text_of(stored)

    def many(self, store: StoreSpec, keys: Sequence[EncodedKey]) -> Dict[EncodedKey, Row]:
        """The rows with these keys that exist. Their texts may be no documents'."""
        rows = rows_of(self.schema, store)
        found: Dict[EncodedKey, Row] = {}
        at = 0
        while at < len(keys):
            size, sql = rows.many(len(keys) - at)
            some = list(keys[at : at + size])
            at += len(some)
            some += some[-1:] * (size - len(some))
            for row in self._rows(sql, some):
                found[row[0]] = Row._make(row)
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
        statements = [(select.scan(documents, reverse, False), bounds) for select, bounds in selects]
        return self._walk_all(statements, limit, offset)

    def _walk(self, sql: str, parameters: Sequence[Any]) -> Iterator[Any]:
        given = 0
        try:
            try:
                for entries in self._batches(sql, parameters):
                    yield from entries
                    given += len(entries)
                return
            except sqlite3.Error as error:
                if not is_no_text(error):
                    raise
            for entries in self._batches(_NO_TEXT.sub(r", CAST(\1 AS BLOB) FROM ", sql, count=1), parameters):
                for entry in entries[given:]:
                    yield (*entry[:-1], text_of(entry[-1]))
                given = max(0, given - len(entries))
        except sqlite3.Error as error:
            raise self.connection.failed(error) from error

    def _batches(self, sql: str, parameters: Sequence[Any]) -> Iterator[List[Any]]:
        cursor = self.connection.raw.cursor()
        try:
            cursor.execute(sql, parameters)
            while True:
                entries = cursor.fetchmany(_AT_ONCE)
                yield entries
                if len(entries) < _AT_ONCE:
                    return
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
    # asked takes several statements, or an overlay came meanwhile, or the query was made for another schema, or what a
    # row holds is no text.

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
        try:
            found = self.connection.all(sql, parameters)
        except DatabaseCorruptError:
            return None  # else it would not be said which row that is
        return [text for (text,) in found] if publisher.epoch == epoch else None

    def close(self) -> None:
        """Give back what it holds. Harmless when repeated."""
