"""Columns of a table: added, adopted, changed and removed. The caller holds the table's lock for its shape."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Dict, Iterator, Optional
from uuid import uuid4

from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from . import datatables
from .columntypes import Default, parse_default, parse_type, shown, timestamp_text
from .errors import ApiError
from .services import Services
from .shapes import MAX_COLUMNS, Column, Shape
from .tables import TableRecord, check_column, save_layout

__all__ = ["UNSET", "add", "change", "remove"]

UNSET: Any = object()
"""Stands for a default that a change does not mention."""


def add(
    connection: Connection, services: Services, record: TableRecord, name: str, declared: Dict[str, Any]
) -> TableRecord:
    """Add a column; rows that exist get its default. A system column of that name and type is adopted.

    :raises ApiError: 409 if the name is taken in any case, or if the column is unique and rows would share a
        value; 400 for a default that is no value of the type, for a unique jsonb, for NOT NULL without default
        while there are rows, or when the table has the most columns that it may.
    """
    layout = record.shape.layout
    if len(layout.table_schema) >= MAX_COLUMNS:
        raise ApiError(400, f"A table has at most {MAX_COLUMNS} columns")
    taken = layout.clash(name)
    if taken is not None:
        return _adopt(connection, services, record, taken, name, declared)
    layout = layout.adding(name, declared)
    column = layout.columns[-1]
    check_column(column)
    if not column.nullable and column.default is None and datatables.has_rows(connection, record.shape):
        raise ApiError(400, f"Column {shown(name)} is NOT NULL and needs a default: the table has rows")
    saved = save_layout(connection, services, record, layout)
    _add_filled(connection, services, saved.shape, column)
    return saved


def _adopt(
    connection: Connection,
    services: Services,
    record: TableRecord,
    taken: Column,
    name: str,
    declared: Dict[str, Any],
) -> TableRecord:
    if taken.declared is not None or taken.name != name or parse_type(declared["type"]) != taken.type:
        raise ApiError(409, f"Column {shown(taken.name)} already exists")
    column = replace(taken, declared=declared)
    check_column(column)
    saved = save_layout(connection, services, record, record.shape.layout.replacing(taken, column))
    if column.unique and not taken.unique:
        with _all_differ(column):
            datatables.create_index(connection, saved.shape, column)
    return saved


def change(
    connection: Connection,
    services: Services,
    record: TableRecord,
    name: str,
    *,
    new_name: Optional[str] = None,
    type_text: Optional[str] = None,
    nullable: Optional[bool] = None,
    default: Any = UNSET,
) -> TableRecord:
    """Rename a column, change its type (converting every value), its nullability or its default.

    A unique column stays unique.

    :raises ApiError: 404 if it is not declared, 409 if the new name is taken or values of a unique column become
        equal, 400 for what cannot be.
    """
    column = _declared(record, name)
    target = _described(column, type_text, nullable, default)
    if new_name is not None and new_name != name:
        _check_rename(record, column, new_name)
        target = replace(target, name=new_name, system=False)
    converting = target.type != column.type
    if converting:
        target = replace(target, number=0, system=False)
    if target == column:
        return record
    check_column(target)
    if nullable is False and datatables.has_nulls(connection, record.shape, column):
        raise ApiError(400, f"Column {shown(name)} holds nulls")
    layout = record.shape.layout.replacing(column, target).completed()
    saved = save_layout(connection, services, record, layout)
    if converting:
        _convert(connection, record.shape, column, saved.shape)
    _add_missing(connection, services, record.shape, saved.shape, converted=converting)
    return saved


def remove(connection: Connection, services: Services, record: TableRecord, name: str) -> TableRecord:
    """Remove a column and its values. What takes the name of a system column gives way to that one again.

    :raises ApiError: 404 if there is no such column, 400 for ``id`` and for what the server keeps.
    """
    column = _declared(record, name)
    if column.identifies:
        raise ApiError(400, 'Column "id" identifies rows and cannot be removed')
    layout = record.shape.layout
    if column.system and not datatables.has_nulls(connection, record.shape, column):
        if column.unique:
            datatables.drop_index(connection, record.shape, column)
        return save_layout(connection, services, record, layout.replacing(column, replace(column, declared=None)))
    saved = save_layout(connection, services, record, layout.without(column).completed())
    datatables.drop_column(connection, record.shape, column)
    _add_missing(connection, services, record.shape, saved.shape)
    return saved


def _declared(record: TableRecord, name: str) -> Column:
    column = record.shape.layout.find(name)
    if column is None:
        raise ApiError(404, f"Column {shown(name)} not found")
    if column.declared is None:
        raise ApiError(400, f"Column {shown(name)} is kept by the server and cannot be changed")
    return column


def _check_rename(record: TableRecord, column: Column, new_name: str) -> None:
    if column.identifies:
        raise ApiError(400, 'Column "id" identifies rows and cannot be renamed')
    taken = record.shape.layout.clash(new_name)
    if taken is not None and taken is not column:
        raise ApiError(409, f"Column {shown(taken.name)} already exists")


def _described(column: Column, type_text: Optional[str], nullable: Optional[bool], default: Any) -> Column:
    """``column`` with another declaration; a default that is kept goes through a change of type with it."""
    declared = dict(column.declared or {})
    if type_text is not None:
        declared["type"] = type_text
    if nullable is not None:
        declared["nullable"] = nullable
    if default is None:
        declared.pop("default", None)
    elif default is not UNSET:
        declared["default"] = default
    elif declared.get("default") is not None and type_text is not None:
        declared["default"] = _kept_default(column, type_text)
    return replace(column, declared=declared)


def _kept_default(column: Column, type_text: str) -> Any:
    old, written, new_type = column.default, (column.declared or {})["default"], parse_type(type_text)
    if new_type == column.type or old is None:
        return written
    try:
        if not old.function:
            return new_type.cast(old.literal, column.type)
        new: Optional[Default] = parse_default(new_type, written)
        if new is not None and new.function:
            return written
    except ValueError:
        pass
    raise ApiError(
        400, f"The default of column {shown(column.name)} cannot be cast to {new_type.label}: change or drop it too"
    )


def _convert(connection: Connection, old: Shape, source: Column, new: Shape) -> None:
    target = next(column for column in new.columns if column.number == old.layout.next_number)
    try:
        datatables.convert_column(
            connection, old, source, new, target, lambda value: target.type.cast(value, source.type)
        )
    except ValueError as expected:
        raise ApiError(
            400, f"Column {shown(source.name)} cannot be cast to {target.type.label}: expected {expected}"
        ) from None
    except IntegrityError:
        raise ApiError(
            409,
            f"Column {shown(source.name)} cannot be cast to {target.type.label}: it is unique, and rows would share "
            "a value",
        ) from None


def _add_missing(
    connection: Connection, services: Services, old: Shape, new: Shape, *, converted: bool = False
) -> None:
    first = old.layout.next_number + (1 if converted else 0)
    for column in new.columns:
        if column.number >= first:
            _add_filled(connection, services, new, column)


def _add_filled(connection: Connection, services: Services, shape: Shape, column: Column) -> None:
    default = column.default
    now = timestamp_text(services.clock.now())
    with _all_differ(column):
        if default is not None and default.function == "uuid":
            datatables.add_column(connection, shape, column, each=lambda: str(uuid4()))
        else:
            datatables.add_column(connection, shape, column, literal=None if default is None else default.value(now))


@contextmanager
def _all_differ(column: Column) -> Iterator[None]:
    """Turn the failure of a unique index into its answer."""
    try:
        yield
    except IntegrityError:
        raise ApiError(
            409, f"Column {shown(column.name)} cannot be unique: rows of the table would share a value"
        ) from None
