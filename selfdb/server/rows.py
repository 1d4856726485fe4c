"""Rows of a table: a page of them, and the one place for each way in which they change.

A row is built or checked here in full before the database sees it, so what is returned is what was stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, ProgrammingError

from . import datatables, tables
from .access import Principal
from .columntypes import shown, timestamp_text
from .errors import ApiError
from .query import SortOrder, contains, ordered
from .realtime import outbox
from .services import Services
from .shapes import Column, Shape
from .tables import TableRecord

__all__ = ["PageQuery", "delete", "fetch", "insert", "update"]

#: PostgreSQL's "undefined table" and "undefined column": the shape changed since the catalog was read.
_RESHAPED = {"42P01", "42703"}
_TRIES = 5


@dataclass(frozen=True)
class PageQuery:
    """What a page of rows is to hold. ``page`` counts from 1."""

    page: int = 1
    page_size: int = 100
    search: Optional[str] = None
    sort_by: Optional[str] = None
    sort_order: SortOrder = SortOrder.desc


# -- reading ---------------------------------------------------------------------------------------------


def fetch(
    services: Services, caller: Callable[[Connection], Optional[Principal]], table_id: str, query: PageQuery
) -> Dict[str, Any]:
    """Return a page of rows with the number of all that match.

    :param caller: tells who is asking; it may look him up in the transaction of the page.

    :raises ApiError: 404, 401, 403; 400 for a ``sort_by`` that is no column; 503 for a table whose columns change
        each time that it is read.
    """
    for _ in range(_TRIES):
        try:
            with services.database.read() as connection:
                asking = caller(connection)
                record = tables.find(connection, table_id)
                tables.permit_read(record, asking)
                return _page(connection, services, record, query)
        except (ProgrammingError, OperationalError) as problem:
            if not _reshaped(problem):
                raise
    raise ApiError(503, "The columns of this table are changing: try again in a moment", {"Retry-After": "1"})


def _reshaped(problem: DBAPIError) -> bool:
    # SQLite's snapshots cover the shape of tables; PostgreSQL's do not.
    return getattr(problem.orig, "sqlstate", None) in _RESHAPED


def _page(connection: Connection, services: Services, record: TableRecord, query: PageQuery) -> Dict[str, Any]:
    shape = record.shape
    statement = shape.select
    total = record.row_count
    if query.search and shape.texts:
        matching = contains(services.database, query.search, *shape.texts)
        statement = statement.where(matching)
        total = int(connection.scalar(sa.select(sa.func.count()).select_from(shape.table).where(matching)) or 0)
    if query.sort_by is not None:
        statement = statement.order_by(ordered(_sort_key(shape, query.sort_by), query.sort_order))
    offset = (query.page - 1) * query.page_size
    rows: Iterable[Sequence[Any]] = ()
    if offset < total and statement is shape.select:
        rows = shape.page.rows(connection, {"page_size": query.page_size, "offset": offset})
    elif offset < total:
        rows = connection.execute(statement.order_by(shape.seq).limit(query.page_size).offset(offset))
    data = [shape.row(row) for row in rows]
    return {"data": data, "total": total, "page": query.page, "page_size": query.page_size}


def _sort_key(shape: Shape, name: str) -> sa.ColumnElement[Any]:
    column = shape.by_name.get(name)
    if column is None:
        raise ApiError(400, f"Unknown sort_by {shown(name)}; valid columns: {', '.join(shape.names)}")
    cell = shape.cell(column)
    if column.type.kind == "jsonb":
        # By its text, which is the same on both databases.
        return sa.collate(sa.cast(cell, sa.Text()), "C") if shape.dialect == "postgresql" else _as_text(cell)
    return cell


def _as_text(cell: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.type_coerce(cell, sa.Text())


# -- writing ---------------------------------------------------------------------------------------------


def insert(
    connection: Connection, services: Services, caller: Optional[Principal], table_id: str, given: Mapping[str, Any]
) -> Dict[str, Any]:
    """Insert one row and return it.

    :raises ApiError: 404, 401, 403; 400 for what is no row of this table; 409 for a value that is taken in a
        unique column.
    """
    record = tables.find_and_count(connection, table_id, 1)
    tables.permit_insert(record, caller)
    if not given:
        raise ApiError(400, "Row data cannot be empty")
    shape = record.shape
    _refuse_unknown(shape, given)
    now = timestamp_text(services.clock.now())
    row = {column.name: _initial(connection, shape, column, given, now) for column in shape.columns}
    values = {column.key: row[column.name] for column in shape.columns}
    try:
        shape.insert.rows(connection, values)
    except DBAPIError as problem:
        _refuse(connection, shape, problem, row)
        raise
    if record.realtime_enabled:
        outbox.row_changed(connection, services, record.id, record.name, "INSERT", new=row, old=None)
    return row


def update(
    connection: Connection,
    services: Services,
    caller: Principal,
    table_id: str,
    row_id: str,
    changes: Mapping[str, Any],
    *,
    id_column: str = "id",
) -> Dict[str, Any]:
    """Change the one row whose ``id_column`` is ``row_id`` and return it.

    :raises ApiError: 404, 403; 400 for changes or a column that do not fit; 409 when more than one row matches
        or a new value is taken in a unique column.
    """
    record = tables.find(connection, table_id, lock="rows")
    tables.permit_change(record, caller)
    if not changes:
        raise ApiError(400, "Row data cannot be empty")
    shape = record.shape
    _refuse_unknown(shape, changes)
    values = {name: _checked(shape.by_name[name], value) for name, value in changes.items()}
    seq, old = _one_row(connection, shape, row_id, id_column)
    stamp = shape.by_name.get("updated_at")
    if stamp is not None and stamp.system and "updated_at" not in values:
        values["updated_at"] = timestamp_text(services.clock.now())
    statement = sa.update(shape.table).where(shape.seq == seq)
    statement = statement.values({shape.by_name[name].key: value for name, value in values.items()})
    try:
        connection.execute(statement)
    except DBAPIError as problem:
        _refuse(connection, shape, problem, values, seq)
        raise
    new = {**old, **values}
    if record.realtime_enabled:
        outbox.row_changed(connection, services, record.id, record.name, "UPDATE", new=new, old=old)
    return new


def delete(
    connection: Connection,
    services: Services,
    caller: Principal,
    table_id: str,
    row_id: str,
    *,
    id_column: str = "id",
) -> None:
    """Delete the one row whose ``id_column`` is ``row_id``.

    :raises ApiError: 404, 403; 400 for a column that does not fit; 409 when more than one row matches.
    """
    record = tables.find_and_count(connection, table_id, -1)
    tables.permit_change(record, caller)
    shape = record.shape
    seq, old = _one_row(connection, shape, row_id, id_column)
    connection.execute(sa.delete(shape.table).where(shape.seq == seq))
    if record.realtime_enabled:
        outbox.row_changed(connection, services, record.id, record.name, "DELETE", new=None, old=old)


def _refuse_unknown(shape: Shape, given: Mapping[str, Any]) -> None:
    unknown = [name for name in given if name not in shape.by_name]
    if unknown:
        raise ApiError(400, f"Unknown column {shown(unknown[0])}; valid columns: {', '.join(shape.names)}")


def _initial(connection: Connection, shape: Shape, column: Column, given: Mapping[str, Any], now: str) -> Any:
    """The value of ``column`` in a new row."""
    value = given.get(column.name)
    present = column.name in given
    if column.identifies and not column.nullable and column.type.kind == "uuid" and value in (None, ""):
        present = False  # as good as absent: many clients send an empty id
    if present:
        return _checked(column, value)
    if column.default is not None:
        return column.default.value(now)
    if column.numbered:
        return _next_number(connection, shape, column)
    return _checked(column, None)


def _next_number(connection: Connection, shape: Shape, column: Column) -> int:
    # Nobody else inserts meanwhile: counting the row has locked the table's row in the catalog.
    highest = connection.scalar(sa.select(sa.func.max(shape.cell(column))))
    try:
        return int(column.type.coerce(max(highest or 0, 0) + 1))
    except ValueError:
        raise ApiError(400, f"Column {shown(column.name)} has no number left; give one") from None


def _checked(column: Column, value: Any) -> Any:
    if value is None:
        if not column.nullable:
            raise ApiError(400, f"Column {shown(column.name)} cannot be null")
        return None
    try:
        return column.coerce(value)
    except ValueError as expected:
        raise ApiError(400, f"Invalid value for column {shown(column.name)}: expected {expected}") from None


def _one_row(connection: Connection, shape: Shape, row_id: str, id_column: str) -> Tuple[int, Dict[str, Any]]:
    """The hidden number and the values of the row, locked against other writers."""
    column = shape.by_name.get(id_column)
    if column is None:
        raise ApiError(400, f"Unknown id_column {shown(id_column)}; valid columns: {', '.join(shape.names)}")
    try:
        key = column.type.key(row_id)
    except ValueError as expected:
        raise ApiError(400, f"Invalid row id for column {shown(id_column)}: expected {expected}") from None
    statement = sa.select(shape.seq, *shape.cells).where(shape.cell(column) == key)
    found: List[Any] = list(connection.execute(statement.order_by(shape.seq).limit(2).with_for_update()))
    if not found:
        raise ApiError(404, "Row not found")
    if len(found) > 1:
        raise ApiError(409, f"More than one row has this value in column {shown(id_column)}; nothing was changed")
    return int(found[0][0]), shape.row(found[0][1:])


def _refuse(
    connection: Connection, shape: Shape, problem: DBAPIError, values: Mapping[str, Any], seq: Optional[int] = None
) -> None:
    """Answer what only the database could find wrong with a row; other problems are the caller's to raise.

    ``values`` were written, by name; ``seq`` is the row's hidden number if it was there before.
    """
    if isinstance(problem, IntegrityError) and tables.is_unique_violation(problem):
        taken = _taken(connection, shape, problem, values, seq)
        if taken is not None:
            raise ApiError(409, f"A row with this {shown(taken.name)} already exists") from problem
    state = getattr(problem.orig, "sqlstate", None) or ""
    if state.startswith("54"):  # program limits: a row that is too large for a page
        raise ApiError(400, "The row is too large") from problem


def _taken(
    connection: Connection, shape: Shape, problem: IntegrityError, values: Mapping[str, Any], seq: Optional[int]
) -> Optional[Column]:
    """The unique column in which another row has the value; of several the one with the oldest index."""
    if shape.dialect == "postgresql":
        # Indexes are checked from the oldest on, and the transaction answers no further questions.
        name = getattr(getattr(problem.orig, "diag", None), "constraint_name", None)
        return next((column for column in shape.unique if datatables.index_name(shape, column) == name), None)
    # SQLite's message names whichever it met first; nobody else writes meanwhile, so it can be asked.
    for column in shape.unique:
        value = values.get(column.name)
        if value is None:
            continue
        statement = sa.select(shape.seq).where(shape.cell(column) == value).limit(1)
        if seq is not None:
            statement = statement.where(shape.seq != seq)
        if connection.execute(statement).first() is not None:
            return column
    return None
