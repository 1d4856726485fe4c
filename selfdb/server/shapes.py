"""The shape of a data table: its columns as the catalog keeps them, and the SQLAlchemy table they make.

A column lies in the database under a number (``c3``) that is never used twice in its table. So a rename moves
nothing, no name of a user's ever becomes SQL, and a reader who still holds the shape of a moment ago either
finds what it describes or is told that a column is gone; never does it read another column's values.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from threading import Lock
from typing import Any, Dict, List, Mapping, Optional, Tuple
from uuid import uuid4

import sqlalchemy as sa

from .columntypes import ColumnType, Default, parse_default, parse_type
from .hot import HotStatement
from .schema import DATA_SCHEMA
from .storedtypes import stored_type

__all__ = ["MAX_COLUMNS", "MAX_KEY_BYTES", "SYSTEM_NAMES", "Column", "Layout", "Shape", "shape_of"]

#: Declared columns of one table. PostgreSQL cannot keep a row of many more long texts on one page.
MAX_COLUMNS = 400

#: Longest text in a unique column, in bytes of UTF-8; PostgreSQL's index pages hold little more.
MAX_KEY_BYTES = 2048

_SYSTEM = {
    "id": (ColumnType("uuid"), Default(function="uuid")),
    "created_at": (ColumnType("timestamp"), Default(function="now")),
    "updated_at": (ColumnType("timestamp"), Default(function="now")),
}
SYSTEM_NAMES = frozenset(_SYSTEM)


@lru_cache(maxsize=256)
def _type(text: str) -> ColumnType:
    return parse_type(text)


@dataclass(frozen=True)
class Column:
    """One column. ``declared`` is what its owner wrote, ``system`` says that the server fills it."""

    name: str
    number: int
    declared: Optional[Dict[str, Any]] = None
    system: bool = False

    @property
    def key(self) -> str:
        """Its name in the database."""
        return f"c{self.number}"

    @cached_property
    def type(self) -> ColumnType:
        """Its type."""
        return _SYSTEM[self.name][0] if self.declared is None else _type(self.declared["type"])

    @cached_property
    def nullable(self) -> bool:
        """Whether it takes null. ``id`` does so only on demand, what the server fills never."""
        if self.declared is None:
            return False
        return bool(self.declared.get("nullable", not (self.system or self.identifies)))

    @cached_property
    def default(self) -> Optional[Default]:
        """What a row gets that does not name it."""
        own = None if self.declared is None else parse_default(self.type, self.declared.get("default"))
        if own is not None:
            return own
        if self.system:
            return _SYSTEM[self.name][1]
        if self.identifies and self.type.kind == "uuid":
            return Default(function="uuid")
        return None

    @property
    def numbered(self) -> bool:
        """Whether it is an ``id`` that counts upwards."""
        return self.identifies and self.default is None and self.type.kind in ("integer", "bigint")

    @property
    def identifies(self) -> bool:
        """Whether it is the ``id``, which every table has and keeps."""
        return self.name == "id"

    @cached_property
    def unique(self) -> bool:
        """Whether no two rows may share a value other than null."""
        return self.identifies or bool((self.declared or {}).get("unique"))

    def coerce(self, value: Any) -> Any:
        """Return a JSON value (never ``None``) as one that this column keeps.

        :raises ValueError: if it is none; the message says what was expected, never what was given.
        """
        coerced = self.type.coerce(value)
        if self.unique and isinstance(coerced, str) and len(coerced.encode("utf-8")) > MAX_KEY_BYTES:
            raise ValueError(f"text of at most {MAX_KEY_BYTES} bytes")
        return coerced


@dataclass(frozen=True)
class Layout:
    """All columns of a table, in order. ``tag`` is new with every change and names the layout in caches."""

    tag: str
    next_number: int
    columns: Tuple[Column, ...]

    @classmethod
    def declare(cls, table_schema: Mapping[str, Mapping[str, Any]]) -> Layout:
        """The layout of a new table: system columns around the declared ones, unless these replace them."""
        empty = cls("", 1, ())
        if "id" not in table_schema:
            empty = empty.adding("id", None, system=True)
        for name, declared in table_schema.items():
            empty = empty.adding(name, dict(declared))
        return empty.completed()

    @classmethod
    def load(cls, stored: Mapping[str, Any]) -> Layout:
        """The layout that :meth:`dump` wrote."""
        columns = tuple(
            Column(item["name"], item["number"], item["declared"], item["system"]) for item in stored["columns"]
        )
        return cls(stored["tag"], stored["next_number"], columns)

    def dump(self) -> Dict[str, Any]:
        """The layout as the JSON that the catalog keeps."""
        columns = [
            {"name": item.name, "number": item.number, "declared": item.declared, "system": item.system}
            for item in self.columns
        ]
        return {"tag": self.tag, "next_number": self.next_number, "columns": columns}

    @property
    def table_schema(self) -> Dict[str, Dict[str, Any]]:
        """The declared columns, as they were declared."""
        return {column.name: column.declared for column in self.columns if column.declared is not None}

    def listing(self) -> List[Dict[str, Any]]:
        """The declared columns as a list, every key filled."""
        return [
            {
                "name": column.name,
                "type": column.declared["type"],
                "nullable": column.nullable,
                "default": column.declared.get("default"),
            }
            for column in self.columns
            if column.declared is not None
        ]

    def find(self, name: str) -> Optional[Column]:
        """The column of exactly this name."""
        return next((column for column in self.columns if column.name == name), None)

    def clash(self, name: str) -> Optional[Column]:
        """The column whose name is this in some case."""
        return next((column for column in self.columns if column.name.lower() == name.lower()), None)

    def adding(self, name: str, declared: Optional[Dict[str, Any]], *, system: bool = False) -> Layout:
        """This layout with one more column."""
        column = Column(name, self.next_number, declared, system)
        return Layout(uuid4().hex, self.next_number + 1, (*self.columns, column))

    def replacing(self, old: Column, new: Column) -> Layout:
        """This layout with ``new`` in the place of ``old``; a number of 0 is replaced by a fresh one."""
        number = new.number or self.next_number
        columns = tuple(replace(new, number=number) if column is old else column for column in self.columns)
        return Layout(uuid4().hex, max(self.next_number, number + 1), columns)

    def without(self, column: Column) -> Layout:
        """This layout without ``column``."""
        return Layout(uuid4().hex, self.next_number, tuple(item for item in self.columns if item is not column))

    def completed(self) -> Layout:
        """This layout with the system columns that it lacks."""
        layout = self
        for name in _SYSTEM:
            if layout.find(name) is None:
                layout = layout.adding(name, None, system=True)
        return layout


class Shape:
    """A layout made ready for SQL on one kind of database. Immutable; shared between threads.

    :param table_id: the id in the catalog, from which the table's name in the database is made.
    :param dialect: ``"sqlite"`` or ``"postgresql"``.
    """

    def __init__(self, table_id: str, layout: Layout, dialect: str) -> None:
        self.table_id = table_id
        self.dialect = dialect
        self.layout = layout
        self.columns = layout.columns
        self.names = tuple(column.name for column in layout.columns)
        self.by_name = {column.name: column for column in layout.columns}
        #: The unique columns, oldest index first.
        self.unique = tuple(sorted((item for item in self.columns if item.unique), key=lambda item: item.number))
        self.table = sa.Table(
            physical_name(table_id),
            sa.MetaData(),
            sa.Column(
                "$seq",
                sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
                key="seq",
                primary_key=True,
            ),
            *(sa.Column(column.key, stored_type(column.type, dialect)) for column in layout.columns),
            schema=DATA_SCHEMA if dialect == "postgresql" else None,
            sqlite_autoincrement=True,
        )
        #: Insertion order.
        self.seq: sa.Column[int] = self.table.c.seq
        self.cells = tuple(self.table.c[column.key] for column in layout.columns)
        self.texts = tuple(self.table.c[column.key] for column in layout.columns if column.type.is_text)
        # Statements that every request needs are put together once.
        self.select = sa.select(*self.cells)
        self.page = HotStatement(
            self.select.order_by(self.seq).limit(sa.bindparam("page_size")).offset(sa.bindparam("offset"))
        )
        self.insert = HotStatement(sa.insert(self.table).inline(), self.cells)

    def cell(self, column: Column) -> sa.Column[Any]:
        """The SQLAlchemy column of ``column``."""
        return self.table.c[column.key]

    def row(self, values: Any) -> Dict[str, Any]:
        """A row as JSON, from values in the order of :attr:`cells`."""
        return dict(zip(self.names, values))


def physical_name(table_id: str) -> str:
    """The name of the data table of the table with this id."""
    return "t_" + table_id.replace("-", "")


_cache: OrderedDict[Tuple[str, str], Shape] = OrderedDict()
_cache_lock = Lock()
_CACHE_SIZE = 1024


def shape_of(table_id: str, stored: Mapping[str, Any], dialect: str) -> Shape:
    """Return the shape of a table from the catalog's JSON; made once for each change of its columns."""
    key = (stored["tag"], dialect)
    with _cache_lock:
        shape = _cache.get(key)
        if shape is not None:
            _cache.move_to_end(key)
            return shape
    shape = Shape(table_id, Layout.load(stored), dialect)
    with _cache_lock:
        _cache[key] = shape
        while len(_cache) > _CACHE_SIZE:
            _cache.popitem(last=False)
    return shape
