"""How a value of each column type lies in SQLite and in PostgreSQL.

Values go in and come out in the form that ``columntypes`` gives them; nothing here checks them again.
"""

from __future__ import annotations

import json
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Dict, Optional

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from . import jsonvalues
from .columntypes import ColumnType, timestamp_text

__all__ = ["stored_type"]


class _Flag(TypeDecorator[bool]):
    """A boolean as 0 or 1."""

    impl = sa.Integer
    cache_ok = True

    def process_bind_param(self, value: Optional[bool], dialect: Dialect) -> Any:
        return None if value is None else int(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Optional[bool]:
        return None if value is None else bool(value)


class _JsonText(TypeDecorator[Any]):
    """A JSON value as its text."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else jsonvalues.dumps(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)


class _Instant(TypeDecorator[str]):
    """A timestamp's text as TIMESTAMPTZ."""

    impl = sa.TIMESTAMP(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: Optional[str], dialect: Dialect) -> Any:
        return None if value is None else datetime.fromisoformat(value)

    def process_result_value(self, value: Optional[datetime], dialect: Dialect) -> Optional[str]:
        return None if value is None else timestamp_text(value)


class _Day(TypeDecorator[str]):
    """A date's text as DATE."""

    impl = sa.Date
    cache_ok = True

    def process_bind_param(self, value: Optional[str], dialect: Dialect) -> Any:
        return None if value is None else date.fromisoformat(value)

    def process_result_value(self, value: Optional[date], dialect: Dialect) -> Optional[str]:
        return None if value is None else value.isoformat()


class _Cents(TypeDecorator[float]):
    """A JSON number of two decimals as NUMERIC."""

    impl = sa.Numeric(10, 2)
    cache_ok = True

    def process_bind_param(self, value: Optional[float], dialect: Dialect) -> Any:
        return None if value is None else Decimal(f"{value:.2f}")

    def process_result_value(self, value: Optional[Decimal], dialect: Dialect) -> Optional[float]:
        return None if value is None else float(value)


def stored_type(column_type: ColumnType, dialect: str) -> TypeEngine[Any]:
    """Return the SQLAlchemy type of a column; ``dialect`` is ``"sqlite"`` or ``"postgresql"``."""
    return _postgresql(column_type) if dialect == "postgresql" else _sqlite(column_type.kind)


def _sqlite(kind: str) -> TypeEngine[Any]:
    if kind in ("integer", "bigint"):
        return sa.Integer()
    if kind == "boolean":
        return _Flag()
    if kind in ("float", "decimal"):
        return sa.REAL()
    if kind == "jsonb":
        return _JsonText()
    return sa.Text()


def _postgresql(column_type: ColumnType) -> TypeEngine[Any]:
    kind = column_type.kind
    # "C" orders text by code point, as SQLite does; the database's own collation would order it by locale.
    if kind == "text":
        return sa.Text(collation="C")
    if kind == "varchar":
        return sa.String(column_type.length, collation="C")
    types: Dict[str, TypeEngine[Any]] = {
        "integer": sa.Integer(),
        "bigint": sa.BigInteger(),
        "boolean": sa.Boolean(),
        "timestamp": _Instant(),
        "jsonb": postgresql.JSONB(none_as_null=True),
        "uuid": sa.Uuid(as_uuid=False),
        "decimal": _Cents(),
        "float": sa.Double(),
        "date": _Day(),
    }
    return types[kind]
