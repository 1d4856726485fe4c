"""A query that is being put together, and the ways to have what it finds."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Deque, Generic, List, Optional, Tuple, TypeVar, cast

from ...core.forks import renew_after_fork
from ...core.marks import blocking, inner, set_steps
from ...core.waits import END, Waiting, work
from ..errors import DatabaseCorruptError, InvalidArgumentError
from ..functions import function_for
from ..keys.keys import decode
from ..keys.ranges import Range
from ..keys.values import load, load_all
from ..ports import View
from ..schema.specs import StoreSpec
from ..scope import current
from ..tables import bulk
from ..tables.changes import Changes, check
from . import evaluation
from .evaluation import Item
from .plan import Branch, Query, Source, placed, source_of

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from ..tables.table import Table
    from .clause import WhereClause

__all__ = ["Collection", "Found"]

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 64
"""Rows that are read at a time for an event loop."""

_MOST = 2**62 - 1
"""Rows that no table has; an offset and a limit of so many are still a number that SQLite knows when they are added."""


class Collection(Generic[T]):
    """Rows of one table, chosen, ordered and cut, but not read yet. Immutable, for any thread.

    Each step returns a new collection. Whatever the order of the steps: the ranges are united, filters choose, then
    come order and direction, ``until()``, ``offset()``, ``limit()``. Without ``order_by()`` rows come in the order of
    the index that they were looked for in, then of their keys; after ``or_()`` in the order of their keys.

    Reading sees one state of the store. In a transaction that is the transaction's own.

    :raises DatabaseClosedError: by what reads, when the database was closed.
    """

    __slots__ = ("_made", "_ranges", "_source", "_table")

    def __init__(
        self, table: Table[T], query: Optional[Query], source: Optional[Source] = None, ranges: Tuple[Range, ...] = ()
    ) -> None:
        self._table = table
        # A clause gives ranges of one source; what nothing is added to, which is most, needs no query around them.
        self._made = query
        self._source = source
        self._ranges = ranges

    @property
    def _query(self) -> Query:
        query = self._made
        if query is None:
            assert self._source is not None
            query = self._made = Query((Branch(self._source, self._ranges),))
        return query

    def __copy__(self) -> Self:
        return self  # which nothing changes

    def __reduce__(self) -> Any:
        raise TypeError("a Collection cannot be pickled; read it, or build it anew in the other process")

    def __repr__(self) -> str:
        return f"<Collection of {self._table.name}>"

    def _with(self, **changes: Any) -> Collection[T]:
        return Collection(self._table, self._query._replace(**changes))

    # Steps

    def filter(self, accept: Callable[[T], Any]) -> Collection[T]:
        """Only rows for which ``accept(row)`` is true. It must not change the row."""
        function_for(accept, "filter()")
        return self._with(filters=(*self._query.filters, accept))

    def and_(self, accept: Callable[[T], Any]) -> Collection[T]:
        """The same as :meth:`filter`."""
        return self.filter(accept)

    def or_(self, path: Any) -> WhereClause[T]:
        """Rows of this collection, and those of the clause that follows; each once.

        :param path: as of :meth:`Table.where`.
        :raises SchemaError: when the path is not indexed.
        """
        from .clause import WhereClause

        table = self._table
        return WhereClause(table, source_of(table._spec(), path), self._query)

    def reverse(self) -> Collection[T]:
        """The other way round; twice is as before."""
        return self._with(reverse=not self._query.reverse)

    def order_by(self, path: str) -> Collection[T]:
        """By what stands at ``path``, indexed or not, then by key; rows with no key there come last either way."""
        if not isinstance(path, str) or not path:
            raise InvalidArgumentError(f"order_by() takes a path, not {path!r}")
        return self._with(order=path)

    def limit(self, count: int) -> Collection[T]:
        """At most so many rows, 0 or more; of several limits the smallest counts."""
        present = self._query.limit
        count = _count(count, "limit")
        return self._with(limit=count if present is None else min(present, count))

    def offset(self, count: int) -> Collection[T]:
        """Without so many rows at the beginning, 0 or more; several offsets add up."""
        return self._with(offset=min(self._query.offset + _count(count, "offset"), _MOST))

    def until(self, stop: Callable[[T], Any], include_stop: bool = False) -> Collection[T]:
        """Only up to the first row for which ``stop(row)`` is true; with that row if ``include_stop``."""
        function_for(stop, "until()")
        return self._with(until=(*self._query.until, (stop, bool(include_stop))))

    def distinct(self) -> Collection[T]:
        """Each row once, where a multi-entry index would give it once for each entry."""
        return self._with(distinct=True)

    def clone(self) -> Collection[T]:
        """The same collection; there is no need for it, since no step changes one."""
        return self._with()

    # Ends

    @blocking
    def to_array(self) -> List[T]:
        """All rows, each a new object."""
        texts = self._texts(None)
        if texts is not None:
            try:
                return load_all(texts)
            except DatabaseCorruptError:
                pass  # what follows says which row that is
        return self._read(lambda view, store, query: [item.document for item in evaluation.found(view, store, query)])

    @blocking
    def first(self) -> Optional[T]:
        """The first row, or ``None``."""
        texts = self._texts(1)
        if texts is not None:
            try:
                return load(texts[0]) if texts else None
            except DatabaseCorruptError:
                pass

        def first(view: View, store: StoreSpec, query: Query) -> Optional[T]:
            for item in evaluation.found(view, store, query):
                return item.document  # type: ignore[no-any-return]
            return None

        limit = self._query.limit
        return self._with(limit=1 if limit is None else min(limit, 1))._read(first)

    @blocking
    def last(self) -> Optional[T]:
        """The last row, or ``None``."""
        query = self._query
        cut = query.limit is not None or query.offset or query.until
        if not cut and query.order is None and not query.distinct and len(query.branches) == 1:
            return self.reverse().first()
        rows = self.to_array()
        return rows[-1] if rows else None

    @blocking
    def count(self) -> int:
        """How many rows there are; in a multi-entry index each entry counts, but for ``distinct()``."""
        return self._read(evaluation.count)

    @blocking(callbacks=("callback",))
    def each(self, callback: Callable[[T], Any]) -> None:
        """Call ``callback(row)`` for each row, in their order. What it returns is ignored; what it raises ends it."""
        function_for(callback, "each()")
        with self._found() as found:
            for item in found.items():
                callback(item.document)

    def __iter__(self) -> Found[T]:
        """Row by row, of the state at the first one, until it is exhausted or closed."""
        return self._found()

    def _found(self) -> Found[T]:
        return Found(self._table, self._query)

    @blocking
    def keys(self) -> List[Any]:
        """The index keys that the rows were found under; after ``or_()`` their own keys."""
        source = self._query.branches[0].source if len(self._query.branches) == 1 else None

        def keys(view: View, store: StoreSpec, query: Query) -> List[Any]:
            found = [decode(item.index_key) for item in evaluation.found(view, store, query, documents=False)]
            return found if source is None else [source.shown(key) for key in found]

        return self._read(keys)

    @blocking
    def primary_keys(self) -> List[Any]:
        """The rows' own keys."""
        return self._read(
            lambda view, store, query: [
                decode(item.key) for item in evaluation.found(view, store, query, documents=False)
            ]
        )

    @blocking
    def items(self) -> List[Tuple[Any, T]]:
        """The rows with their own keys before them."""
        return self._read(
            lambda view, store, query: [
                (decode(item.key), item.document) for item in evaluation.found(view, store, query)
            ]
        )

    @blocking
    def sort_by(self, path: str) -> List[T]:
        """All rows, ordered as by :meth:`order_by`."""
        return self.order_by(path).to_array()

    @blocking
    def modify(self, changes: Changes, *, silent: Optional[bool] = None) -> int:
        """Change every row, each once, in one transaction.

        :param changes: as of :meth:`Table.update`.
        :returns: how many rows were found.
        :raises ModifyError: when some could not be changed. In a transaction of the caller's the others are changed,
            else none are.
        """
        check(changes)
        return bulk.modify(self._table, self._query, changes, silent)

    @blocking
    def delete(self, *, silent: Optional[bool] = None) -> int:
        """Delete every row in one transaction; how many there were."""
        return bulk.delete_found(self._table, self._query, silent)

    def _texts(self, limit: Optional[int]) -> Optional[List[str]]:
        """The documents, if one statement outside of everything finds them; ``None`` if that does not do."""
        reader = self._table._fast()
        if reader is None:
            return None
        query, source = self._made, self._source
        if query is None:
            assert source is not None
            return reader.texts(self._table.name, source, self._ranges, False, limit, 0)
        if not query.plain:
            return None
        source, ranges = query.branches[0]
        if limit is None or (query.limit is not None and query.limit < limit):
            limit = query.limit
        return reader.texts(self._table.name, source, ranges, query.reverse, limit, query.offset)

    def _read(self, work: Callable[[View, StoreSpec, Query], R]) -> R:
        table = self._table
        store = table._store()
        query = placed(self._query, store)
        with table.db._view((store,)) as view:
            return work(view, store, query)


@blocking
class Found(Generic[T]):
    """The rows of a collection, one after another, of one state of the store. For one thread at a time.

    It reads that state, and keeps the file from forgetting it, until it is exhausted or closed.
    """

    def __init__(self, table: Table[T], query: Query) -> None:
        self._table = table
        self._query = query
        self._context: Any = None
        self._items: Optional[Iterator[Item]] = None
        self._over = False
        self._ahead: Deque[T] = deque()
        renew_after_fork(self)
        self._renew_in_child()

    def _renew_in_child(self) -> None:
        self._reading = threading.Lock()

    def __reduce__(self) -> Any:
        raise TypeError("an iteration over rows cannot be pickled or copied; begin another one")

    def __iter__(self) -> Self:
        return self

    @inner
    def items(self) -> Iterator[Item]:
        """The same with all that is known of a row."""
        if self._items is None and not self._over:
            database = self._table.db
            store = self._table._store()
            query = placed(self._query, store)
            context = database._view((store,))
            if current(database) is None:
                self._context = context
                self._items = evaluation.found(context.__enter__(), store, query)
            else:
                # What surrounds it goes on writing where this reads, and others must be able to.
                with context as view:
                    self._items = iter(list(evaluation.found(view, store, query)))
        return self._items or iter(())

    @blocking
    def __next__(self) -> T:
        """The next row."""
        if self._ahead:
            return self._ahead.popleft()
        try:
            for item in self.items():
                return item.document  # type: ignore[no-any-return]
        except BaseException:
            self.close()
            raise
        self.close()
        raise StopIteration

    def _steps(self) -> Waiting[T]:
        """The same on an event loop: many rows for one way to a thread and back."""
        while not self._ahead and not self._over:
            yield from work(self._read_ahead)
        return self._ahead.popleft() if self._ahead else cast(T, END)

    def _read_ahead(self) -> None:
        with self._reading:  # a step that was cancelled may be reading still; its rows are kept for the next one
            if self._ahead:
                return
            try:
                self._ahead.extend([item.document for item in islice(self.items(), AHEAD)])
            except BaseException:
                self.close()
                raise
            if not self._ahead:
                self.close()

    @blocking(closes=True)
    def close(self) -> None:
        """Give the state back. Harmless when repeated."""
        self._over = True
        context, self._context, self._items = self._context, None, None
        if context is not None:
            context.__exit__(None, None, None)

    def __enter__(self) -> Self:
        return self

    @blocking
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if self._context is not None:
            self.close()


set_steps(Found.__next__, Found._steps, opens=False, asks=())


def _count(count: Any, name: str) -> int:
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise InvalidArgumentError(f"{name}() takes a whole number of rows, 0 or more, not {count!r}")
    return min(count, _MOST)
