"""Tables by PostgREST: queries built step by step, and the calls that they end in."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Optional, TypeVar, Union, cast, overload

from ..core.arguments import flag
from ..core.encoding import encode_json
from ..core.marks import blocking
from ..core.namespace import mapping_of
from ..core.urls import segment
from ..exceptions import InvalidRequestError
from . import filters, values
from .calls import Calls
from .envelope import AeroDBResponse
from .filters import Condition
from .paging import Pages, RowStream
from .query import Query, columns_named
from .rows import DictReader, ModelReader, Row, RowReader, total_of
from .table import Table, unfiltered
from .writes import Write, changed_row, check_inserting, inserted_rows

if TYPE_CHECKING:
    from typing import Literal

    from pydantic import BaseModel

__all__ = ["DatabaseClient", "QueryBuilder"]

RowT = TypeVar("RowT")
DataT = TypeVar("DataT")
ModelT = TypeVar("ModelT", bound="BaseModel")

PREFIX = "/rest/v1"
_DICTS = DictReader()


@functools.lru_cache(maxsize=1024)
def _path_of(table: str) -> str:
    return f"{PREFIX}/{segment(values.name(table, 'table'), 'table')}"


class DatabaseClient:
    """The tables and functions of a database. Holds no state of a call; may be shared by threads.

    :param calls: makes the exchanges.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._calls.url}>"

    @overload
    def from_(self, table: str, model: None = ...) -> QueryBuilder[Row, list[Row]]: ...

    @overload
    def from_(self, table: str, model: type[ModelT]) -> QueryBuilder[ModelT, list[ModelT]]: ...

    def from_(self, table: str, model: type[Any] | None = None) -> QueryBuilder[Any, Any]:
        """A query of ``table``, or of a view.

        :param model: a pydantic model that rows come back as; dicts by default.
        """
        query, path = Query(), ""
        reader: RowReader[Any] = _DICTS
        try:
            path = _path_of(table) if isinstance(table, str) else _path_of.__wrapped__(table)
            if model is not None:
                reader = ModelReader(model)
        except Exception as error:  # noqa: BLE001 - as of the filters
            query = query._replace(refused=filters.why_of(error))
        return QueryBuilder(Table(self._calls, table, path, reader), query)

    @overload
    def table(self, table: str, model: None = ...) -> QueryBuilder[Row, list[Row]]: ...

    @overload
    def table(self, table: str, model: type[ModelT]) -> QueryBuilder[ModelT, list[ModelT]]: ...

    def table(self, table: str, model: type[Any] | None = None) -> QueryBuilder[Any, Any]:
        """Another name of :meth:`from_`."""
        return self.from_(table, model)

    @blocking
    def rpc(self, name: str, params: Mapping[str, Any] | None = None) -> AeroDBResponse[Any]:
        """Call the database's function ``name`` with ``params`` by name; what it returns is the data.

        ``POST /rest/v1/rpc/{name}``
        """

        def work() -> AeroDBResponse[Any]:
            path = f"{PREFIX}/rpc/{segment(values.name(name, 'name'), 'name')}"
            body = encode_json({} if params is None else dict(mapping_of(params, "params")))
            headers = self._calls.profile("POST")
            answer = self._calls.send("POST", path, headers=headers, body=body, content_type="application/json")
            return AeroDBResponse(answer.json(), None, total_of(answer.headers.get("Content-Range")), answer.status)

        return self._calls.enveloped(work)


class QueryBuilder(Generic[RowT, DataT]):
    """A query. Immutable: every step gives a new one, so a base may be shared, by threads as well.

    No step raises, and nothing is sent before :meth:`execute` or another call that ends the query; the first wrong
    argument comes back from there as ``VALIDATION_ERROR``. Filters of several steps all have to hold.
    """

    __slots__ = ("_query", "_table")

    def __init__(self, table: Table[RowT], query: Query) -> None:
        self._table = table
        self._query = query

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._table.path}>"

    def _with(self, query: Query) -> QueryBuilder[RowT, DataT]:
        return QueryBuilder(self._table, query)

    def _step(self, step: Callable[[Query], Query]) -> QueryBuilder[RowT, DataT]:
        query = self._query
        if query.refused is not None:
            return self
        try:
            return self._with(step(query))
        except Exception as error:  # noqa: BLE001 - as of the filters
            return self._with(query._replace(refused=filters.why_of(error)))

    def _where(self, condition: Condition) -> QueryBuilder[RowT, DataT]:
        return self._step(lambda query: query.where(condition))

    # Columns

    @overload
    def select(
        self, columns: str = ..., *, count: str | None = ..., head: Literal[False] = ...
    ) -> QueryBuilder[RowT, DataT]: ...

    @overload
    def select(
        self, columns: str = ..., *, count: str | None = ..., head: Literal[True]
    ) -> QueryBuilder[RowT, None]: ...

    def select(self, columns: str = "*", *, count: str | None = None, head: bool = False) -> QueryBuilder[Any, Any]:
        """The columns to return, in PostgREST's grammar: ``"id, name, author:users(name)"``.

        :param count: ``"exact"``, ``"planned"`` or ``"estimated"``: how to count the rows without regard to limits.
        :param head: return nothing but that count.
        """
        return self._step(lambda query: query.selecting(columns, count, head))

    # Filters

    def eq(self, column: str, value: Any) -> QueryBuilder[RowT, DataT]:
        """Rows whose ``column`` equals ``value``; ``None`` finds null."""
        return self._where(filters.eq(column, value))

    def neq(self, column: str, value: Any) -> QueryBuilder[RowT, DataT]:
        """Rows whose ``column`` is another than ``value``; ``None`` finds what is not null."""
        return self._where(filters.neq(column, value))

    def gt(self, column: str, value: Any) -> QueryBuilder[RowT, DataT]:
        """Rows whose ``column`` is greater than ``value``."""
        return self._where(filters.gt(column, value))

    def gte(self, column: str, value: Any) -> QueryBuilder[RowT, DataT]:
        """Rows whose ``column`` is ``value`` or greater."""
        return self._where(filters.gte(column, value))

    def lt(self, column: str, value: Any) -> QueryBuilder[RowT, DataT]:
        """Rows whose ``column`` is less than ``value``."""
        return self._where(filters.lt(column, value))

    def lte(self, column: str, value: Any) -> QueryBuilder[RowT, DataT]:
        """Rows whose ``column`` is ``value`` or less."""
        return self._where(filters.lte(column, value))

    def like(self, column: str, pattern: str) -> QueryBuilder[RowT, DataT]:
        """Rows whose ``column`` matches ``pattern``: ``%`` (or ``*``) for any text, ``_`` for one character.

        :func:`filters.escape_like <selfdb.aerodb.filters.escape_like>` makes a text match itself.
        """
        return self._where(filters.like(column, pattern))

    def ilike(self, column: str, pattern: str) -> QueryBuilder[RowT, DataT]:
        """As :meth:`like`, in any case."""
        return self._where(filters.ilike(column, pattern))

    def in_(self, column: str, values: Any) -> QueryBuilder[RowT, DataT]:
        """Rows whose ``column`` is one of ``values``; no rows for none. ``None`` among them finds null.

        A list that is too long for one request is sent in several, and their rows are put together; not with an order,
        an offset or an aggregate. Values that the column takes for the same should be given once.
        """
        return self._where(filters.in_(column, values))

    def is_(self, column: str, value: Union[bool, str, None]) -> QueryBuilder[RowT, DataT]:
        """Rows whose ``column`` is null (``None``), true, false, or ``"unknown"``."""
        return self._where(filters.is_(column, value))

    def not_(self, column: str, op: str, value: Any) -> QueryBuilder[RowT, DataT]:
        """The contrary of the operator ``op``, such as ``not_("role", "in", ["a", "b"])``."""
        return self._where(filters.not_(column, op, value))

    def or_(self, *conditions: Union[Condition, str], on: str | None = None) -> QueryBuilder[RowT, DataT]:
        """Rows for which any of ``conditions`` holds; see :mod:`selfdb.aerodb.filters`.

        :param on: the embedded table that they are about.
        """
        return self._step(lambda query: query.where(filters.tree("or", conditions, on)))

    def and_(self, *conditions: Union[Condition, str], on: str | None = None) -> QueryBuilder[RowT, DataT]:
        """Rows for which all of ``conditions`` hold; arguments as of :meth:`or_`."""
        return self._step(lambda query: query.where(filters.tree("and", conditions, on)))

    def contains(self, column: str, value: Any) -> QueryBuilder[RowT, DataT]:
        """Rows whose array or range ``column`` holds all of ``value``, or whose JSON one holds that mapping."""
        return self._where(filters.contains(column, value))

    def contained_by(self, column: str, value: Any) -> QueryBuilder[RowT, DataT]:
        """Rows whose array, range or JSON ``column`` is within ``value``."""
        return self._where(filters.contained_by(column, value))

    def overlaps(self, column: str, value: Any) -> QueryBuilder[RowT, DataT]:
        """Rows whose array or range ``column`` has something in common with ``value``."""
        return self._where(filters.overlaps(column, value))

    def filter(self, column: str, op: str, value: Any) -> QueryBuilder[RowT, DataT]:
        """Any operator of PostgREST, perhaps behind ``not.``; text goes as it is, quotes and lists included."""
        return self._where(filters.filter(column, op, value))

    def match(self, values: Mapping[str, Any]) -> QueryBuilder[RowT, DataT]:
        """Rows whose columns all equal ``values``."""

        def step(query: Query) -> Query:
            for column, value in mapping_of(values, "the values of match()").items():
                query = query.where(filters.eq(column, value))
            return query

        return self._step(step)

    def all_rows(self) -> QueryBuilder[RowT, DataT]:
        """Let :meth:`update` and :meth:`delete` go without a filter."""
        return self._step(lambda query: query._replace(all_rows=True))

    # Order and window

    def order(
        self, column: str, ascending: bool = True, nulls_first: bool | None = None, *, on: str | None = None
    ) -> QueryBuilder[RowT, DataT]:
        """In the order of ``column``; further calls order what is equal so far.

        :param nulls_first: by default nulls are last, or first where it descends.
        :param on: the embedded table whose rows are ordered.
        """
        return self._step(lambda query: query.ordered(column, ascending, nulls_first, on))

    def limit(self, n: int, *, on: str | None = None) -> QueryBuilder[RowT, DataT]:
        """At most ``n`` rows.

        :param on: the embedded table whose rows are limited.
        """
        return self._step(lambda query: query.limited(n, on))

    def offset(self, n: int) -> QueryBuilder[RowT, DataT]:
        """Behind the first ``n`` rows."""
        return self._step(lambda query: query.from_row(n))

    def range(self, start: int, end: int) -> QueryBuilder[RowT, DataT]:
        """Rows number ``start`` to ``end``, counted from 0, both included."""

        def step(query: Query) -> Query:
            query = query.from_row(start)
            if not isinstance(end, int) or isinstance(end, bool) or end < start:
                raise InvalidRequestError("range() needs two whole numbers, of which the second is not the smaller")
            return query.limited(end - start + 1, None)

        return self._step(step)

    def single(self) -> QueryBuilder[RowT, RowT]:
        """Return the row itself; none and several are errors, ``PGRST116``."""
        return cast("QueryBuilder[RowT, RowT]", self._step(lambda query: query._replace(rows="one")))

    def maybe_single(self) -> QueryBuilder[RowT, Optional[RowT]]:
        """Return the row itself, or ``None`` if there is none; several are an error."""
        return cast("QueryBuilder[RowT, Optional[RowT]]", self._step(lambda query: query._replace(rows="maybe")))

    # Calls

    @blocking
    def execute(self) -> AeroDBResponse[DataT]:
        """Fetch the rows; as often as one likes.

        ``GET /rest/v1/{table}``
        """
        return self._table.counting_failure(lambda: self._table.read(self._query))

    @blocking
    def insert(
        self,
        data: Any,
        *,
        returning: str = "representation",
        count: str | None = None,
        columns: Union[str, Sequence[str], None] = None,
        missing_default: bool = False,
    ) -> AeroDBResponse[DataT]:
        """Insert a row, or a list of rows, in one transaction.

        :param data: a mapping, a pydantic model (of which what was set is sent), a dataclass, or a list of these.
        :param returning: ``"representation"`` for the rows, ``"minimal"`` or ``"headers-only"`` for none.
        :param count: as of :meth:`select`.
        :param columns: those to insert; others of ``data`` are ignored. By default all that any row has.
        :param missing_default: whether what a row lacks gets the column's default instead of null.

        ``POST /rest/v1/{table}``
        """

        def write(query: Query) -> Write:
            check_inserting(query, "insert()")
            body, wishes, parameters = inserted_rows(data, columns, missing_default)
            return Write.of("POST", body, returning, query.counted if count is None else count, wishes, parameters)

        return self._written("insert()", write)

    @blocking
    def upsert(
        self,
        data: Any,
        *,
        on_conflict: Union[str, Sequence[str], None] = None,
        ignore_duplicates: bool = False,
        returning: str = "representation",
        count: str | None = None,
        columns: Union[str, Sequence[str], None] = None,
        missing_default: bool = False,
    ) -> AeroDBResponse[DataT]:
        """Insert rows, and update those that exist; other arguments as of :meth:`insert`.

        :param on_conflict: the unique columns that tell whether a row exists; the primary key by default.
        :param ignore_duplicates: leave those that exist as they are; they are not among the rows returned.

        ``POST /rest/v1/{table}``
        """

        def write(query: Query) -> Write:
            check_inserting(query, "upsert()")
            body, wishes, parameters = inserted_rows(data, columns, missing_default)
            if on_conflict is not None:
                parameters = (*parameters, ("on_conflict", columns_named(on_conflict, "on_conflict")))
            resolution = "ignore" if flag(ignore_duplicates, "ignore_duplicates") else "merge"
            wishes = (f"resolution={resolution}-duplicates", *wishes)
            return Write.of("POST", body, returning, query.counted if count is None else count, wishes, parameters)

        return self._written("upsert()", write)

    @blocking
    def update(
        self, data: Any, *, returning: str = "representation", count: str | None = None
    ) -> AeroDBResponse[DataT]:
        """Change the rows that the filters choose, which go before this call; other arguments as of :meth:`insert`.

        Without a filter nothing is sent (``UNFILTERED_WRITE``), unless :meth:`all_rows` allows it.

        :param data: what to set: a mapping, a pydantic model (of which what was set is sent) or a dataclass.

        ``PATCH /rest/v1/{table}``
        """

        def write(query: Query) -> Write:
            body = changed_row(data)
            if not (query.chooses or query.all_rows):
                unfiltered("update()", query)
            return Write.of("PATCH", body, returning, query.counted if count is None else count)

        return self._written("update()", write)

    @blocking
    def delete(self, *, returning: str = "representation", count: str | None = None) -> AeroDBResponse[DataT]:
        """Delete the rows that the filters choose, which go before this call; arguments as of :meth:`insert`.

        Without a filter nothing is sent (``UNFILTERED_WRITE``), unless :meth:`all_rows` allows it.

        ``DELETE /rest/v1/{table}``
        """

        def write(query: Query) -> Write:
            if not (query.chooses or query.all_rows):
                unfiltered("delete()", query)
            return Write.of("DELETE", None, returning, query.counted if count is None else count)

        return self._written("delete()", write)

    def _written(self, call: str, write: Callable[[Query], Write]) -> AeroDBResponse[DataT]:
        return self._table.counting_failure(lambda: self._table.write(self._query, call, write))

    def pages(self, size: int = 1000, key: str | None = None) -> Pages[RowT]:
        """All rows, ``size`` at a time: one response a page, fetched when the loop comes to it.

        A page that fails is the last one. A ``limit()`` bounds the rows in all. Servers may give fewer rows a page than
        asked for; that is noticed.

        :param key: a unique column without nulls, among those selected: pages are walked in its order, each from
            where the last one ended, so that rows that come and go meanwhile shift none. Without one they are counted
            off, which gets slower from page to page, and rows may be missed or doubled.
        """
        return Pages(self._table, self._query, size, key)

    def stream(self, size: int = 1000, key: str | None = None) -> RowStream[RowT]:
        """All rows, one page of ``size`` in memory at a time; arguments as of :meth:`pages`.

        The loop raises :class:`~selfdb.aerodb.envelope.AeroDBRequestError` behind the last good row if a page fails.
        """
        return RowStream(self.pages(size, key))
