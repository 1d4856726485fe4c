"""DDL of the tables that hold users' rows: created, widened, converted and dropped inside the caller's transaction.

Null and type rules are not repeated as constraints: every row is written by this server, which checks them
under the lock of the catalog's row, so both databases refuse with the same words and a change of
``nullable`` moves no data. Only uniqueness (of ``id``, and of what was declared so) is an index, which also makes
looking rows up fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Optional

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from .errors import ApiError
from .shapes import Column, Shape

if TYPE_CHECKING:
    from alembic.operations import Operations

__all__ = [
    "add_column",
    "convert_column",
    "create",
    "create_index",
    "drop",
    "drop_column",
    "drop_index",
    "has_nulls",
    "has_rows",
    "index_name",
]

#: PostgreSQL counts dropped columns too, up to 1600 in the life of a table.
_TOO_MANY_COLUMNS = "54011"

#: Rows that are converted in one go.
CHUNK = 1000


def create(connection: Connection, shape: Shape) -> None:
    """Create the table of ``shape``, empty."""
    identity = [sa.Identity(always=True)] if shape.dialect == "postgresql" else []
    table = sa.Table(
        shape.table.name,
        sa.MetaData(),
        sa.Column(shape.seq.name, shape.seq.type, *identity, primary_key=True),
        *(sa.Column(column.key, shape.cell(column).type) for column in shape.columns),
        schema=shape.table.schema,
        sqlite_autoincrement=True,
    )
    table.create(connection, checkfirst=False)
    for column in shape.unique:
        create_index(connection, shape, column)


def drop(connection: Connection, shape: Shape) -> None:
    """Drop the table of ``shape`` with its rows."""
    shape.table.drop(connection, checkfirst=False)


def add_column(
    connection: Connection,
    shape: Shape,
    column: Column,
    *,
    literal: Any = None,
    each: Optional[Callable[[], Any]] = None,
) -> None:
    """Add ``column`` (of the new ``shape``) and give the rows that exist ``literal``, or each its own value.

    :raises sqlalchemy.exc.IntegrityError: two rows got one value where they must differ.
    """
    _add(connection, shape, column)
    if each is not None:
        make = each
        _fill(connection, shape, shape.seq, shape.cell(column), lambda _: make())
    elif literal is not None:
        connection.execute(sa.update(shape.table).values({column.key: literal}))
    if column.unique:
        create_index(connection, shape, column)


def convert_column(
    connection: Connection, old: Shape, source: Column, new: Shape, target: Column, cast: Callable[[Any], Any]
) -> None:
    """Put ``target`` of the ``new`` shape in the place of ``source`` of the ``old``, every value through ``cast``.

    :raises ValueError: by ``cast``, for a value that has no counterpart.
    :raises sqlalchemy.exc.IntegrityError: two values became one where they must differ.
    """
    _add(connection, new, target)
    _fill(connection, new, old.cell(source), new.cell(target), lambda value: None if value is None else cast(value))
    drop_column(connection, old, source)
    if target.unique:
        create_index(connection, new, target)


def drop_column(connection: Connection, shape: Shape, column: Column) -> None:
    """Drop ``column`` of ``shape`` with its values."""
    if column.unique:
        # PostgreSQL would drop the index with the column; SQLite refuses to drop a column that has one.
        drop_index(connection, shape, column)
    _operations(connection).drop_column(shape.table.name, column.key, schema=shape.table.schema)


def create_index(connection: Connection, shape: Shape, column: Column) -> None:
    """Keep the values of ``column`` unique from now on.

    :raises sqlalchemy.exc.IntegrityError: they are not.
    """
    _operations(connection).create_index(
        index_name(shape, column), shape.table.name, [column.key], unique=True, schema=shape.table.schema
    )


def drop_index(connection: Connection, shape: Shape, column: Column) -> None:
    """Let the values of ``column``, which was unique, be equal."""
    _operations(connection).drop_index(
        index_name(shape, column), table_name=shape.table.name, schema=shape.table.schema
    )


def index_name(shape: Shape, column: Column) -> str:
    """The name in the database of what keeps ``column`` unique."""
    return f"{shape.table.name}_{column.key}_unique"


def has_rows(connection: Connection, shape: Shape) -> bool:
    """Whether the table holds any row."""
    return connection.execute(sa.select(shape.seq).limit(1)).first() is not None


def has_nulls(connection: Connection, shape: Shape, column: Column) -> bool:
    """Whether any row has null in ``column``."""
    return connection.execute(sa.select(shape.seq).where(shape.cell(column).is_(None)).limit(1)).first() is not None


def _operations(connection: Connection) -> Operations:
    # Not every server changes a table; what it takes to import is felt when one starts.
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    return Operations(MigrationContext.configure(connection))


def _add(connection: Connection, shape: Shape, column: Column) -> None:
    fresh: sa.Column[Any] = sa.Column(column.key, shape.cell(column).type)
    try:
        _operations(connection).add_column(shape.table.name, fresh, schema=shape.table.schema)
    except DBAPIError as problem:
        if getattr(problem.orig, "sqlstate", None) != _TOO_MANY_COLUMNS:
            raise
        raise ApiError(400, "The columns of this table changed too often: move its rows to a new table") from problem


def _fill(
    connection: Connection,
    shape: Shape,
    source: sa.Column[Any],
    target: sa.Column[Any],
    convert: Callable[[Any], Any],
) -> None:
    """Set ``target`` from ``source`` in every row, a chunk at a time."""
    table = source.table
    seq = table.c.seq
    page = sa.select(seq.label("row_seq"), source.label("row_value")).where(seq > sa.bindparam("after"))
    page = page.order_by(seq).limit(CHUNK)
    change = (
        sa.update(shape.table)
        .where(shape.seq == sa.bindparam("row_seq"))
        .values({target.key: sa.bindparam("row_value", type_=target.type)})
    )
    after = 0
    while True:
        rows = connection.execute(page, {"after": after}).all()
        if not rows:
            return
        connection.execute(change, [{"row_seq": row.row_seq, "row_value": convert(row.row_value)} for row in rows])
        after = rows[-1].row_seq
