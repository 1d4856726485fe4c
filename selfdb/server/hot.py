"""Statements that nearly every request needs, kept ready for SQLite's driver.

For each execution SQLAlchemy looks its statement up again and wraps the cursor, the rows and the errors: several times
what SQLite itself takes for a row by its key. Here the text and the conversions of values, which are SQLAlchemy's own,
are made once. PostgreSQL is asked in the ordinary way; and so is SQLite again when it refuses, so that what went wrong
is told in the ordinary words.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import Connection

__all__ = ["HotStatement"]

#: Parameters by name, as Python's driver takes them too.
_DIALECT = sqlite.dialect(paramstyle="named")

_Values = Mapping[str, Any]
_Row = Sequence[Any]


class HotStatement:
    """One statement. Immutable; shared between threads.

    :param given: the columns that an ``INSERT`` gets values for; their keys name the parameters.
    """

    def __init__(
        self, statement: Union[sa.Select[Any], sa.Insert, sa.UpdateBase], given: Sequence[sa.Column[Any]] = ()
    ) -> None:
        self._statement = statement
        self._text = str(statement.compile(dialect=_DIALECT, column_keys=[column.key for column in given] or None))
        processors = [_stored(column.type).bind_processor(_DIALECT) for column in given]
        self._to_store: Dict[str, Callable[[Any], Any]] = {
            column.key: processor for column, processor in zip(given, processors) if processor is not None
        }
        shown = [_stored(column.type).result_processor(_DIALECT, None) for column in statement.exported_columns]
        self._to_show: List[Tuple[int, Callable[[Any], Any]]] = [
            (index, processor) for index, processor in enumerate(shown) if processor is not None
        ]

    def rows(self, connection: Connection, values: _Values) -> Sequence[_Row]:
        """Execute it and return its rows; of a statement without rows none."""
        if connection.dialect.name != "sqlite":
            return self._ordinary(connection, values)
        stored = values
        if self._to_store:
            stored = {**values, **{key: convert(values[key]) for key, convert in self._to_store.items()}}
        driver: Any = connection.connection.driver_connection
        try:
            found: List[_Row] = driver.execute(self._text, stored).fetchall()
        except sqlite3.Error:
            if not driver.in_transaction:
                raise  # such as for a full disk: all was rolled back, and what came now would stand alone
            # The statement left nothing behind, so it can be tried again where errors are translated.
            return self._ordinary(connection, values)
        return [self._shown(row) for row in found] if self._to_show else found

    def _ordinary(self, connection: Connection, values: _Values) -> Sequence[_Row]:
        result = connection.execute(self._statement, values)
        return result.all() if result.returns_rows else ()

    def first(self, connection: Connection, values: _Values) -> Optional[_Row]:
        """Execute it and return the first of its rows, if there is any."""
        return next(iter(self.rows(connection, values)), None)

    def _shown(self, stored: _Row) -> _Row:
        row = list(stored)
        for index, convert in self._to_show:
            row[index] = convert(row[index])
        return row


def _stored(kind: sa.types.TypeEngine[Any]) -> sa.types.TypeEngine[Any]:
    return kind.dialect_impl(_DIALECT)
