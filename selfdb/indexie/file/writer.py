"""A write transaction of the file: where rows are stored, and what is kept for those who have to know of it."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import repeat
from math import floor
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Dict, FrozenSet, List, NamedTuple, Optional, Tuple

from ..errors import ConstraintError, IndexedDBError, TransactionInactiveError
from ..keys.keys import decode
from ..keys.ranges import Range
from ..keys.stored import old_keys
from ..ports import Effect, Entry, Row
from ..schema.specs import EncodedKey, IndexSpec, StoreSpec
from ..tables.mutations import LAST_GENERATED, Prepared
from . import log
from .reader import Reader
from .rows import Rows, rows_of

if TYPE_CHECKING:
    from types import TracebackType

    from ..schema.schema import Schema
    from .connection import Connection
    from .connections import Connections

__all__ = ["Writer"]

_logger = logging.getLogger("selfdb.indexie")


_GENERATORS = "\0generators"


_NO_GENERATORS: Tuple[str, Mapping[int, int]] = "{}", MappingProxyType({})


class _Mark(NamedTuple):
    """How far a transaction was when a savepoint began."""

    changes: log.Mark
    effects: int
    generators: Dict[int, int]
    torn: bool


class Writer:
    """One write transaction; a :class:`~selfdb.indexie.ports.Sink`. For one thread at a time.

    :param silent: whether nobody is told of what it does, as in an upgrade.
    :param connection: one whose transaction has begun already, and whose owner commits it.
    :ivar seq: the commit seq that it will have.
    :ivar explicit: whether it goes on after the call that writes: then a failing row leaves the others as they are.
    :ivar effects: the changes that hooks are to be told of, in their order.
    :ivar on_commit: called once it is committed.
    """

    # One is made for each call that writes: what most of them leave as it is stands here.
    explicit = False
    listening: Any = None
    seq = 0
    active = False
    _total = 0
    _hooks = 0
    _generators: Mapping[int, int] = MappingProxyType({})
    _generators_text = ""
    _generating = False
    _torn = False
    _saved = 0  # savepoints that have not come to their end; an interrupt may keep one from it
    _reading: Optional[Reader] = None
    _home: Optional[Connections] = None
    _owner: object = None
    _wanted: FrozenSet[Tuple[str, str]] = frozenset()

    def __init__(
        self, database: Any, schema: Schema, *, silent: bool = False, connection: Optional[Connection] = None
    ) -> None:
        self.database = database
        self.schema = schema
        self.effects: List[Effect] = []
        self.on_commit: List[Callable[[], object]] = []
        self.changes = log.ChangeSet()
        self._rows = schema.cache
        self._silent = silent
        if connection is not None:
            self._start(connection)

    # Beginning and end

    def begin(self, timeout: Optional[float] = None) -> Writer:
        """Take the write lock and begin.

        :raises IndexieTimeoutError: when the lock is not to be had in time.
        """
        self._home = home = self.database._connections
        self._owner = self
        try:
            self._begin(home.acquire_writer(timeout, self))
        except BaseException:
            self.rollback()
            raise
        return self

    def begin_on(self, connection: Connection, home: Connections, owner: object) -> Writer:
        """Begin on the connection that writes, which ``owner`` has acquired. If that fails it is given back."""
        self._home, self._owner = home, owner
        try:
            self._begin(connection)
        except BaseException:
            self.rollback()
            raise
        return self

    def _begin(self, connection: Connection) -> None:
        connection.begin()
        self._start(connection)

    def _start(self, connection: Connection) -> None:
        """Begin on a connection whose transaction has begun."""
        self.connection = connection
        cursor = self._cursor = connection.cursor
        self._raw = cursor.connection
        self._execute = cursor.execute
        try:
            ((newest, self._total, text, self._hooks),) = cursor.execute(self.schema.newest).fetchall()
        except sqlite3.Error as error:
            raise self._failed(error) from error
        self.seq = newest + 1
        self._generators_text = text
        # The next keys by the stores' numbers. Mostly they are what this process has written there last.
        known, generators = self._rows.get(_GENERATORS, _NO_GENERATORS)
        if known != text:
            generators = {int(number): key for number, key in json.loads(text).items()}
        self._generators = generators
        if not self._silent:
            self.listening = self.database._hooks.listening(self.connection, self._hooks)
            self._wanted = self.listening.wanted
        self.active = True

    def finish(self) -> None:
        """Write down what belongs to the commit itself; the next statement is COMMIT."""
        if self._torn or self._saved or not self._raw.in_transaction:
            raise TransactionInactiveError("the transaction was broken off in the middle of a write: nothing is kept")
        generators = self._generators_text
        if self._generating:
            generators = log.generators_text(self._generators)
            self.schema.cache[_GENERATORS] = (generators, self._generators)
        if self.effects:
            self.database._hooks.enqueue(self.connection, self.listening, self.effects)
        if generators != self._generators_text or self.changes or self.effects:
            try:
                log.append(
                    self._execute,
                    self.seq,
                    self._total,
                    self.changes,
                    self.database._log_retention,
                    generators,
                    self._hooks,
                )
            except sqlite3.Error as error:
                raise self._failed(error) from error

    def commit(self, publish: Optional[Callable[[], object]] = None) -> None:
        """Commit, and tell those who have to know. If it fails nothing is kept.

        :param publish: called at the moment of the commit, before any reader sees it.
        """
        connection, home = self.connection, self._home
        assert home is not None
        try:
            self.finish()
            with self.database._publisher.mutex:
                connection.commit()
                if publish is not None:
                    publish()
            self.active = False
            home.release_writer(connection)
            # What it was held for holds this: a cycle would leave both to the garbage collector.
            self._home = self._owner = None
        except BaseException:
            self.rollback()
            raise
        self.committed()

    def committed(self) -> None:
        """Tell those who have to know, with no lock held."""
        database = self.database
        database._feed.wake()
        if self.effects:
            database._hooks.committed(self.listening, self.effects)
        for callback in self.on_commit:
            try:
                callback()
            except Exception:
                _logger.exception("a callback of on_commit() failed; the transaction stays committed")

    def rollback(self) -> None:
        """Undo everything. Harmless when it is over already, or was never begun, or was interrupted in between."""
        self.active = False
        if self._home is not None:
            self._home.reclaim(self._owner)
            self._home = self._owner = None

    def savepoint(self) -> _Savepoint:
        """Undo everything of its block when the block raises."""
        return _Savepoint(self)

    # Reading

    @property
    def _reader(self) -> Reader:
        reader = self._reading
        if reader is None:
            reader = self._reading = Reader(self.database, self.schema, self.connection)
        return reader

    def get(self, store: StoreSpec, key: EncodedKey) -> Optional[Row]:
        """The row with this key."""
        return self._reader.get(store, key)

    def many(self, store: StoreSpec, keys: Sequence[EncodedKey]) -> Dict[EncodedKey, Row]:
        """The rows with these keys that exist."""
        return self._reader.many(store, keys)

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
        return self._reader.scan(
            store, source, ranges, reverse=reverse, limit=limit, offset=offset, documents=documents
        )

    def count(self, store: StoreSpec, source: Optional[IndexSpec], ranges: Sequence[Range]) -> int:
        """How many entries :meth:`scan` would yield."""
        return self._reader.count(store, source, ranges)

    def close(self) -> None:
        """Nothing: a transaction ends by commit or rollback."""

    # Generated keys

    def next_key(self, store: StoreSpec) -> int:
        """The key to generate for the next row; used up by :meth:`saw_key`."""
        key = self._generators.get(store.number, 1)
        if key > LAST_GENERATED:
            raise ConstraintError(
                f"{store.name!r} has no more keys to generate; explicit ones can still be added",
                table=store.name,
                index=":id",
                value=key,
            )
        return key

    def saw_key(self, store: StoreSpec, number: float) -> None:
        """A row with this numeric key was added: the generator goes on above it."""
        if number >= self._generators.get(store.number, 1):
            if type(number) is not int or number > LAST_GENERATED:
                number = floor(min(number, LAST_GENERATED))
            if not self._generating:
                self._generators = dict(self._generators)
                self._generating = True
            self._generators[store.number] = number + 1  # type: ignore[index]

    # Writing

    def insert(self, store: StoreSpec, key: EncodedKey, document: Any, text: str) -> None:
        """Add a row.

        :raises ConstraintError: when the key or one of a unique index exists; nothing was changed then.
        """
        rows: Rows = self._rows.get(store.name) or rows_of(self.schema, store)
        keys = rows.index_keys(document)
        self._torn = True
        try:
            if not rows.multis:
                self._execute(rows.insert, (key, self.seq, text, *keys))
            else:
                self._as_one(rows, self._insert_with_entries, key, text, keys)
        except sqlite3.Error as error:
            raise self._refused(error, rows, key, keys, True) from error
        self.changes.record(store, key, None, keys)
        self._torn = False

    def _insert_with_entries(self, rows: Rows, key: EncodedKey, text: str, keys: Any) -> None:
        self._execute(rows.insert, (key, self.seq, text, *rows.columns_of(keys)))
        for sql, (at, _) in zip(rows.insert_entry, rows.multis):
            self._cursor.executemany(sql, [(entry, key) for entry in keys[at]])

    def insert_many(self, store: StoreSpec, added: Sequence[Prepared]) -> None:
        """Add rows, which have their keys; all of them or none.

        :raises ConstraintError: when one of them cannot be added; which one is not told. A transaction that is one call
            only, of which this is the first write, has begun anew then: what it has read before may have changed.
        """
        if self.explicit:
            with self.savepoint():
                self._insert_all(store, added)
            return
        # A savepoint would have each page that is changed copied first.
        try:
            self._insert_all(store, added)
        except ConstraintError:
            self.connection.rollback()
            self._begin(self.connection)
            raise

    def _insert_all(self, store: StoreSpec, added: Sequence[Prepared]) -> None:
        rows = rows_of(self.schema, store)
        documents, texts, keys = zip(*added)
        columns = rows.columns(documents)
        try:
            singles = [columns[at] for at, _ in rows.singles]
            self._cursor.executemany(rows.insert, zip(keys, repeat(self.seq), texts, *singles))
            for sql, (at, _) in zip(rows.insert_entry, rows.multis):
                pairs = [(entry, key) for key, entries in zip(keys, columns[at]) for entry in entries]
                self._cursor.executemany(sql, pairs)
        except sqlite3.IntegrityError as error:
            raise ConstraintError(f"rows of {store.name!r} clash", table=store.name) from error
        except sqlite3.Error as error:
            raise self._failed(error) from error
        self.changes.record_added(store, keys, columns)

    def replace(self, store: StoreSpec, old: Row, document: Any, text: str) -> None:
        """Put another document in the place of ``old``, under the same key.

        :raises ConstraintError: when another row has a key of a unique index; nothing was changed then.
        """
        rows = rows_of(self.schema, store)
        before = old_keys(store, old.text)
        keys = rows.index_keys(document)
        now = rows.columns_of(keys)
        if before is None:
            moved = tuple(range(len(now)))
        else:
            was = rows.columns_of(before)
            moved = tuple([place for place, (one, other) in enumerate(zip(was, now)) if one != other])
        self._torn = True
        try:
            values = (self.seq, text, *[now[place] for place in moved], old.key)
            if not rows.multis:
                self._execute(rows.update(moved), values)
            else:
                self._as_one(rows, self._update_with_entries, moved, values, before, keys)
        except sqlite3.Error as error:
            raise self._refused(error, rows, old.key, keys, False) from error
        self._note(store, old.key, before, keys)
        self._torn = False

    def _note(self, store: StoreSpec, key: EncodedKey, before: Any, keys: Any) -> None:
        if before is None:
            self.changes.whole(store)  # what it was cannot be told
        else:
            self.changes.record(store, key, before, keys)

    def _update_with_entries(
        self, rows: Rows, moved: Tuple[int, ...], values: Tuple[Any, ...], before: Any, keys: Any
    ) -> None:
        self._execute(rows.update(moved), values)
        key = values[-1]
        if before is None:
            for forget, insert, (at, _) in zip(rows.forget_entries, rows.insert_entry, rows.multis):
                self._execute(forget, (key,))
                self._cursor.executemany(insert, [(entry, key) for entry in keys[at]])
            return
        for insert, delete, (at, _) in zip(rows.insert_entry, rows.delete_entry, rows.multis):
            self._cursor.executemany(delete, [(entry, key) for entry in before[at] if entry not in keys[at]])
            self._cursor.executemany(insert, [(entry, key) for entry in keys[at] if entry not in before[at]])

    def _as_one(self, rows: Rows, do: Callable[..., None], *arguments: Any) -> None:
        """Several statements for one row, of which all are undone when a constraint stops one."""
        if not rows.unique_entries:
            do(rows, *arguments)
            return
        self._execute("SAVEPOINT ix_row")
        try:
            do(rows, *arguments)
        except sqlite3.IntegrityError:
            self._execute("ROLLBACK TO ix_row")
            self._execute("RELEASE ix_row")
            raise
        self._execute("RELEASE ix_row")

    def remove(self, store: StoreSpec, old: Row, document: Any = None) -> None:
        """Delete the row ``old``."""
        rows = rows_of(self.schema, store)
        keys: Any = old_keys(store, old.text) if document is None else rows.index_keys(document)
        self._torn = True
        try:
            self._execute(rows.delete, (old.key,))
            if keys is None:
                for sql in rows.forget_entries:
                    self._execute(sql, (old.key,))
            else:
                for sql, (at, _) in zip(rows.delete_entry, rows.multis):
                    self._cursor.executemany(sql, [(entry, old.key) for entry in keys[at]])
        except sqlite3.Error as error:
            raise self._failed(error) from error
        self._note(store, old.key, keys, None)
        self._torn = False

    def clear(self, store: StoreSpec) -> int:
        """Delete all rows; how many there were."""
        rows = rows_of(self.schema, store)
        self._torn = True
        try:
            count = self._execute(rows.clear).rowcount
            for sql in rows.clear_entries:
                self._execute(sql)
        except sqlite3.Error as error:
            raise self._failed(error) from error
        if count:
            self.changes.whole(store)
        self._torn = False
        return count

    # Who is told

    def wants(self, store: StoreSpec, op: str) -> bool:
        """Whether anybody is to be told of this kind of change."""
        wanted = self._wanted
        return bool(wanted) and (store.name, op) in wanted

    def effect(self, effect: Effect) -> None:
        """One row was changed by a write that is not silent."""
        self.effects.append(effect)

    # Errors

    def _failed(self, error: sqlite3.Error) -> IndexedDBError:
        """The error to raise in the place of SQLite's."""
        return self.connection.failed(error)

    def _refused(self, error: sqlite3.Error, rows: Rows, key: EncodedKey, keys: Any, new: bool) -> IndexedDBError:
        """The error for a row that could not be stored; it was undone, if it was a constraint that it met."""
        if not isinstance(error, sqlite3.IntegrityError) or not self._raw.in_transaction:
            return self._failed(error)
        self._torn = False
        name = rows.store.name
        if new and self._execute(rows.get, (key,)).fetchall():
            value = decode(key)
            return ConstraintError(f"{name!r} has a row {value!r} already", table=name, index=":id", value=value)
        for at, index in enumerate(rows.store.indexes):
            if not index.unique or keys[at] is None:
                continue
            for entry in keys[at] if index.multi else (keys[at],):
                if any(other[0] != key for other in self._execute(rows.holders(index), (entry,)).fetchall()):
                    value = decode(entry)
                    return ConstraintError(
                        f"{name!r} has a row with {value!r} in its unique index {index.name!r} already",
                        table=name,
                        index=index.name,
                        value=value,
                    )
        return self._failed(error)


class _Savepoint:
    """A savepoint of a `Writer`, with all that the writer keeps beside the file."""

    __slots__ = ("_mark", "_writer")

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def __enter__(self) -> None:
        writer = self._writer
        writer._saved += 1
        writer.connection.execute("SAVEPOINT ix")
        self._mark = _Mark(writer.changes.mark(), len(writer.effects), dict(writer._generators), writer._torn)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        writer, mark = self._writer, self._mark
        if kind is None:
            writer.connection.execute("RELEASE ix")
            writer._saved -= 1
            return
        if not writer._raw.in_transaction:
            return  # SQLite has undone the whole transaction by itself
        writer._torn = True  # until all of it is undone
        writer.connection.execute("ROLLBACK TO ix")
        writer.connection.execute("RELEASE ix")
        writer.changes.back_to(mark.changes)
        del writer.effects[mark.effects :]
        writer._generators = mark.generators
        writer._torn = mark.torn
        writer._saved -= 1
