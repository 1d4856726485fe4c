"""One store as its user sees it: writing rows, reading them by key, and beginning queries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, List, Optional, Tuple, TypeVar, Union, overload

from ...core.marks import blocking
from ..errors import DatabaseCorruptError, InvalidArgumentError, InvalidStateError, StorageError
from ..file.reader import Reader
from ..functions import function_for
from ..hooks.hooks import in_hook
from ..keys.keys import decode, encode
from ..keys.ranges import EVERYTHING
from ..keys.stored import document_of
from ..keys.values import load
from ..queries.clause import WhereClause
from ..queries.collection import Collection, Found
from ..queries.plan import ALL, Branch, Query, criteria, source_of
from ..schema.specs import StoreSpec
from . import bulk, mutations
from .changes import Changes, check

if TYPE_CHECKING:
    from ..database import Indexie
    from ..hooks.hooks import TableHooks
    from ..hooks.strategy import Strategy
    from ..overlays.optimistic import OverlayTransaction

__all__ = ["Table"]

T = TypeVar("T")


class Table(Generic[T]):
    """One store of a database. For any thread; it holds nothing but the database and its name.

    Outside of a transaction each call is one by itself, done when the call returns. Documents are copied: what is
    given is never changed, and what comes back is new each time. In all writes ``silent=True`` tells no hook and puts
    nothing into the outbox, while live queries still follow; that is the default within a hook.

    Everything that touches the file may raise :class:`~selfdb.indexie.DatabaseClosedError`; every write
    :class:`~selfdb.indexie.IndexieTimeoutError` when others write for all of ``busy_timeout``,
    :class:`~selfdb.indexie.QuotaExceededError` when the disk is full, :class:`~selfdb.indexie.ReadOnlyError` and
    :class:`~selfdb.indexie.NotInScopeError` when the transaction that it is in does not allow it.
    """

    def __init__(self, db: Indexie, name: str) -> None:
        self._db = db
        self._name = name
        self._validate: mutations.Validate = None

    def __reduce__(self) -> Any:
        raise TypeError("a Table cannot be pickled or copied; ask the database of the other process for its own")

    def __repr__(self) -> str:
        return f"<Table {self._name} of {self._db!r}>"

    @property
    def name(self) -> str:
        """The store's name."""
        return self._name

    @property
    def db(self) -> Indexie:
        """The database that it is of."""
        return self._db

    @property
    def schema(self) -> StoreSpec:
        """What is declared of it: key and indexes."""
        return self._spec()

    @property
    def primary_key(self) -> str:
        """Where the key stands in documents: a path, ``"[a+b]"``, or ``""`` when it is kept out of line."""
        return self._spec().key_name

    @property
    def strategy(self) -> Strategy:
        """Whether writes go to the file or to the hooks first; ``Strategy.LOCAL_FIRST`` unless set."""
        return self._db._hooks.strategy(self._name)

    @strategy.setter
    def strategy(self, strategy: Strategy) -> None:
        self._db._hooks.set_strategy(self._name, strategy)

    @property
    def hook(self) -> TableHooks:
        """Where functions are registered that are called after writes."""
        return self._db._hooks.table(self._name)

    def _spec(self) -> StoreSpec:
        """For building queries: without touching the file, if the store was declared."""
        schema = self._db._schema
        store = None if schema is None else schema.stores.get(self._name)
        return self._db._spec(self._name) if store is None else store

    def _store(self) -> StoreSpec:
        """For reading and writing: as it stands in the file."""
        schema = self._db._schema
        store = None if schema is None else schema.stores.get(self._name)
        return self._db._store(self._name) if store is None else store

    # Writing a row

    @blocking
    def add(self, item: Any, key: Any = None, *, silent: Optional[bool] = None) -> Any:
        """Add a row.

        :param item: a dict, a model, a data class; any value that can be stored where keys are kept out of line.
        :param key: its key, if the document has none.
        :returns: the key.
        :raises ConstraintError: when the key or one of a unique index exists; nothing was written then.
        :raises DataError: when there is no valid key, or ``key`` is another one than the document's.
        :raises DataCloneError: when the document holds something that cannot be stored.
        """
        return self._write_one(mutations.insert, item, key, silent)

    @blocking
    def put(self, item: Any, key: Any = None, *, silent: Optional[bool] = None) -> Any:
        """Add a row, or replace the whole of the one with its key. Arguments, result and errors as of :meth:`add`;
        only that the key may exist."""
        return self._write_one(mutations.put, item, key, silent)

    def _write_one(self, write: Callable[..., Any], item: Any, key: Any, silent: Optional[bool]) -> Any:
        db = self._db
        silent = in_hook() if silent is None else silent
        store = self._store()
        row = mutations.prepared(store, item, key, self._validate and self._check(silent))
        stored = db._write((store,), lambda sink: write(sink, store, row, silent), silent=silent)
        return stored if type(stored) is int else decode(stored)

    @blocking
    def update(self, key: Any, changes: Changes, *, missing: str = "raise", silent: Optional[bool] = None) -> bool:
        """Change fields of a row, atomically among threads and processes.

        :param changes: a dict of (dotted) paths to values, to ``ops.add()`` or ``ops.remove()``, or to
            ``DELETE_FIELD``; or a function that is given a copy of the row to edit, whose result is ignored unless it
            is ``SKIP`` (nothing is written) or ``DELETE``.
        :param missing: what to do if there is no such row: ``"raise"``, ``"ignore"`` or ``"insert"`` (a dict only).
        :returns: whether the row was there and not skipped.
        :raises KeyNotFoundError: when there is no such row.
        :raises DataError: when the changes lead to another key.
        :raises ConstraintError: when another row has a key of a unique index.
        :raises InvalidArgumentError: when a path does not fit the document, or a function returns a new dict and leaves
            its copy as it was, or is a coroutine function.
        :raises SubTransactionError: when, in a transaction, a function writes to the store itself.
        """
        if missing not in ("raise", "ignore", "insert"):
            raise InvalidArgumentError(f'missing is "raise", "ignore" or "insert", not {missing!r}')
        return bool(self._update(key, changes, missing, silent))

    @blocking
    def upsert(self, key: Any, changes: Changes, *, silent: Optional[bool] = None) -> bool:
        """Change fields of a row, or create it of them; whether it was created. Otherwise as :meth:`update`."""
        return self._update(key, changes, "insert", silent) is None

    def _update(self, key: Any, changes: Changes, missing: str, silent: Optional[bool]) -> Optional[bool]:
        check(changes)
        db = self._db
        quiet = db._hooks.silent(silent)
        store = self._store()
        validate = self._check(quiet)
        return db._write(
            (store,), lambda sink: mutations.update(sink, store, key, changes, missing, quiet, validate), silent=quiet
        )

    @blocking
    def delete(self, key: Any, *, silent: Optional[bool] = None) -> bool:
        """Delete a row; whether there was one.

        :raises DataError: when ``key`` is no valid key.
        """
        encoded = encode(key)
        db = self._db
        quiet = db._hooks.silent(silent)
        store = self._store()
        return db._write((store,), lambda sink: mutations.delete(sink, store, encoded, quiet), silent=quiet)

    @blocking
    def clear(self, *, silent: Optional[bool] = None) -> int:
        """Delete all rows; how many there were. The generator of keys goes on where it was."""
        db = self._db
        quiet = db._hooks.silent(silent)
        store = self._store()
        return db._write((store,), lambda sink: mutations.clear(sink, store, quiet), silent=quiet)

    # Writing many rows

    @blocking(sources=("items", "keys"))
    def bulk_add(
        self,
        items: Iterable[Any],
        keys: Optional[Iterable[Any]] = None,
        *,
        all_keys: bool = False,
        partial: bool = False,
        silent: Optional[bool] = None,
    ) -> Any:
        """Add rows.

        :param keys: one for each row, ``None`` where it has its own.
        :param all_keys: return the list of all keys, not only the last one.
        :param partial: keep the good rows when others fail. Within a transaction of the caller's they are kept anyway.
        :returns: the last key (``None`` without rows), or the list of all.
        :raises BulkError: when rows failed; it says which and why.
        :raises InvalidArgumentError: when there are not as many keys as rows, or one of the two is no list.
        """
        quiet = self._db._hooks.silent(silent)
        return bulk.add_or_put(self, items, keys, replace=False, all_keys=all_keys, partial=partial, silent=quiet)

    @blocking(sources=("items", "keys"))
    def bulk_put(
        self,
        items: Iterable[Any],
        keys: Optional[Iterable[Any]] = None,
        *,
        all_keys: bool = False,
        partial: bool = False,
        silent: Optional[bool] = None,
    ) -> Any:
        """Put rows; as :meth:`bulk_add`, only that the keys may exist."""
        quiet = self._db._hooks.silent(silent)
        return bulk.add_or_put(self, items, keys, replace=True, all_keys=all_keys, partial=partial, silent=quiet)

    @blocking(sources=("updates",))
    def bulk_update(self, updates: Iterable[Tuple[Any, Changes]], *, silent: Optional[bool] = None) -> int:
        """Change rows, given as pairs of key and changes; how many were there. A row that is not there is no error.

        :raises BulkError: when some could not be changed; outside of a transaction none are then.
        :raises InvalidArgumentError: when they are no such pairs.
        """
        return bulk.update_many(self, updates, self._db._hooks.silent(silent))

    @blocking(sources=("keys",))
    def bulk_delete(self, keys: Iterable[Any], *, silent: Optional[bool] = None) -> int:
        """Delete rows by key; how many there were.

        :raises DataError: when one is no valid key; none are deleted then.
        :raises InvalidArgumentError: when it is no list of keys.
        """
        return bulk.delete_keys(self, keys, self._db._hooks.silent(silent))

    # Reading by key

    @blocking
    def get(self, key_or_criteria: Any) -> Optional[T]:
        """The row with a key, or the first one with the values that a dict of paths names; ``None`` without one.

        :raises DataError: when it, or a value of the criteria, is no valid key.
        :raises SchemaError: when no path of the criteria is indexed.
        :raises InvalidArgumentError: when the dict is empty.
        """
        if type(key_or_criteria) is dict or isinstance(key_or_criteria, Mapping):
            found: Optional[T] = self.where(key_or_criteria).first()
            return found
        key = encode(key_or_criteria)
        reader = self._fast()
        if reader is not None:
            texts = reader.texts_of(self._name, key)
            if texts is not None:
                try:
                    return load(texts[0]) if texts else None
                except DatabaseCorruptError:
                    pass  # what follows says which row that is
        store = self._store()
        with self._db._view((store,)) as view:
            row = view.get(store, key)
        return None if row is None else document_of(store, key, row.text)

    @blocking(sources=("keys",))
    def bulk_get(self, keys: Iterable[Any]) -> List[Optional[T]]:
        """The rows with these keys, in their order, with ``None`` where there is none; of one state of the store.

        :raises DataError: when one is no valid key.
        :raises InvalidArgumentError: when it is no list of keys.
        """
        encoded = [encode(key) for key in bulk.listed(keys, "keys")]
        store = self._store()
        with self._db._view((store,)) as view:
            rows = view.many(store, list(dict.fromkeys(encoded)))
        return [document_of(store, key, rows[key].text) if key in rows else None for key in encoded]

    # Queries

    @overload
    def where(self, path: Union[str, Sequence[str]]) -> WhereClause[T]: ...

    @overload
    def where(self, path: Mapping[str, Any]) -> Collection[T]: ...

    def where(self, path: Union[str, Sequence[str], Mapping[str, Any]]) -> Any:
        """Begin a query on an index, on the key (by its path or ``":id"``), or on the leading parts of a compound one.

        :param path: a path or a list of paths, which gives a :class:`WhereClause`; or a dict of paths and the values
            that rows have there, which gives a :class:`Collection`.
        :raises SchemaError: when it is not indexed; of a dict, when none of its paths is.
        :raises InvalidArgumentError: when it is none of these, or an empty dict.
        """
        if type(path) is str:
            return WhereClause(self, source_of(self._spec(), path))
        if isinstance(path, Mapping):
            return Collection(self, criteria(self._spec(), path))
        return WhereClause(self, source_of(self._spec(), path))

    def order_by(self, path: Union[str, Sequence[str]]) -> Collection[T]:
        """All rows that are in an index, in its order.

        :raises SchemaError: when there is no such index; ``to_collection().order_by()`` takes any path.
        """
        return Collection(self, Query((Branch(source_of(self._spec(), path), (EVERYTHING,)),)))

    def to_collection(self) -> Collection[T]:
        """All rows, in the order of their keys."""
        return Collection(self, ALL)

    def filter(self, accept: Callable[[T], Any]) -> Collection[T]:
        """See :meth:`Collection.filter`."""
        return self.to_collection().filter(accept)

    def limit(self, count: int) -> Collection[T]:
        """See :meth:`Collection.limit`."""
        return self.to_collection().limit(count)

    def offset(self, count: int) -> Collection[T]:
        """See :meth:`Collection.offset`."""
        return self.to_collection().offset(count)

    def reverse(self) -> Collection[T]:
        """All rows, the last key first."""
        return self.to_collection().reverse()

    @blocking
    def to_array(self) -> List[T]:
        """All rows, in the order of their keys."""
        return self.to_collection().to_array()

    @blocking
    def first(self) -> Optional[T]:
        """The row with the lowest key, or ``None``."""
        return self.to_collection().first()

    @blocking
    def last(self) -> Optional[T]:
        """The row with the highest key, or ``None``."""
        return self.to_collection().last()

    @blocking
    def count(self) -> int:
        """How many rows there are."""
        return self.to_collection().count()

    @blocking(callbacks=("callback",))
    def each(self, callback: Callable[[T], Any]) -> None:
        """See :meth:`Collection.each`."""
        self.to_collection().each(callback)

    def __iter__(self) -> Found[T]:
        """See :meth:`Collection.__iter__`."""
        return iter(self.to_collection())

    @blocking
    def keys(self) -> List[Any]:
        """All keys, in their order."""
        return self.primary_keys()

    @blocking
    def primary_keys(self) -> List[Any]:
        """All keys, in their order."""
        return self.to_collection().primary_keys()

    def _check(self, silent: bool) -> mutations.Validate:
        """What checks a document of such a write, if anything does. Those of an upgrade are silent, all of them."""
        return None if silent or self._validate is None or self._db._upgrading() is not None else self._validate

    def _fast(self) -> Optional[Reader]:
        """This thread's reader, for what takes one statement and stands in no transaction."""
        return self._db._fast()

    # The rest

    def attach_schema(self, model_or_callable: Any) -> None:
        """Check every document that is written, unless the write is silent, as all of an upgrade are.

        :param model_or_callable: a pydantic model, or a function that raises for a wrong document; ``None`` ends it.
            A write whose document it refuses raises :class:`~selfdb.indexie.StorageError` and writes nothing. A key
            that is still to be generated is not in the document by then.
        :raises InvalidArgumentError: when it is neither.
        """
        if model_or_callable is None:
            self._validate = None
            return
        accept = getattr(model_or_callable, "model_validate", model_or_callable)
        if not callable(accept):
            raise InvalidArgumentError(f"attach_schema() takes a model or a function, not {model_or_callable!r}")
        function_for(accept, "attach_schema()")
        name = self._name

        def validate(document: Any) -> None:
            try:
                # A copy: what is checked must stay what is stored.
                accept(_copied(document))
            except Exception as error:
                raise StorageError(f"a document for {name!r} was refused by its schema: {error}") from error

        self._validate = validate

    def start_transaction(
        self, optimistic: bool = False, *, tables: Any = None, conflict: str = "error"
    ) -> OverlayTransaction:
        """A transaction for a ``with`` block whose writes to this table are held in memory until its ``commit()``.

        It holds no lock meanwhile. A block that is left without ``commit()`` is rolled back.

        :param optimistic: whether every reader and live query of this process sees its writes at once, and hooks are
            called by ``commit()`` before anything is stored; otherwise its own context alone sees them.
        :param tables: further tables that it covers: a name, a table, or a list of these.
        :param conflict: what ``commit()`` does about a row that was changed elsewhere meanwhile: ``"error"`` raises
            :class:`~selfdb.indexie.WriteConflictError` and stores nothing; ``"overwrite"`` does not ask.
        :raises InvalidArgumentError: for another ``conflict``, or what is no table of this database.
        :raises InvalidTableError: when there is no such table.
        """
        covered: List[Any] = [self]
        if tables is not None:
            given = isinstance(tables, Iterable) and not isinstance(tables, (str, Table))
            covered += tables if given else [tables]
        return self._db.start_transaction(covered, optimistic=optimistic, conflict=conflict)

    def drop(self) -> None:
        """Delete the store with all its rows; only in an upgrade hook.

        :raises InvalidStateError: anywhere else.
        """
        drop = getattr(self._db, "_drop", None)
        if drop is None:
            raise InvalidStateError(f"{self._name}.drop() is for upgrade hooks only")
        drop(self._name)


def _copied(document: Any) -> Any:
    """Deep enough that what is done to it reaches no container of the document's."""
    if isinstance(document, dict):
        return {name: _copied(value) for name, value in document.items()}
    if isinstance(document, list):
        return [_copied(value) for value in document]
    return document
