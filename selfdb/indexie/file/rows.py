"""One store in SQL: its statements, and what of a document stands in index columns and side tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

from ..keys.extraction import IndexKeys, extractor_of
from ..keys.ranges import Range
from ..schema.specs import EncodedKey, IndexSpec, StoreSpec

if TYPE_CHECKING:
    from ..schema.schema import Schema

__all__ = ["Rows", "Select", "rows_of"]

_POINTS = (1, 8, 64, 256)
"""How many keys one statement looks up: few shapes, so that they stay prepared."""


def rows_of(schema: Schema, store: StoreSpec) -> Rows:
    """The statements of a store; made once for each schema."""
    rows = schema.cache.get(store.name)
    if rows is None:
        rows = schema.cache[store.name] = Rows(store, schema.guard)
    return rows


class Rows:
    """Statements and extractors of one store. Immutable but for statements that are built when first needed.

    :param guard: a condition that is always true while the file has the schema that the store is of; a statement that
        reads cannot be prepared on another.
    """

    def __init__(self, store: StoreSpec, guard: str) -> None:
        if not store.number:
            raise ValueError(f"{store.name!r} has no table yet")
        self.store = store
        self.guard = guard
        self.table = table = f"s{store.number}"
        self.index_keys = extractor_of(store).index_keys
        self.columns = extractor_of(store).columns
        self.singles = [(at, f"i{index.number}") for at, index in enumerate(store.indexes) if not index.multi]
        self.multis = [(at, f"m{store.number}_{index.number}") for at, index in enumerate(store.indexes) if index.multi]
        self.unique_entries = any(index.unique and index.multi for index in store.indexes)
        columns = [column for _, column in self.singles]
        marks = ", ?" * len(columns)
        self.insert = f"INSERT INTO {table} ({', '.join(['k', 'v', 'd', *columns])}) VALUES (?, ?, ?{marks})"
        self.get = f"SELECT k, v, d FROM {table} WHERE k = ? AND {guard}"
        self.text = f"SELECT d FROM {table} WHERE k = ? AND {guard}"
        self.delete = f"DELETE FROM {table} WHERE k = ?"
        self.all = f"SELECT k, CAST(d AS BLOB) FROM {table} WHERE {guard} ORDER BY k"
        self.clear = f"DELETE FROM {table}"
        self.size = f"SELECT count(*) FROM {table}"
        self.insert_entry = [f"INSERT INTO {side} (x, k) VALUES (?, ?)" for _, side in self.multis]
        self.delete_entry = [f"DELETE FROM {side} WHERE x = ? AND k = ?" for _, side in self.multis]
        self.forget_entries = [f"DELETE FROM {side} WHERE k = ?" for _, side in self.multis]
        self.clear_entries = [f"DELETE FROM {side}" for _, side in self.multis]
        self._updates: Dict[Tuple[int, ...], str] = {}
        self._many: Dict[int, str] = {}
        self._texts: Dict[Any, str] = {}
        self._selects: Dict[Any, Select] = {}

    def columns_of(self, keys: IndexKeys) -> Sequence[Any]:
        """The part of ``keys`` that stands in columns."""
        if not self.multis:
            return keys
        return [keys[position] for position, _ in self.singles]

    def update(self, changed: Tuple[int, ...]) -> str:
        """The statement that replaces a document; ``changed`` are the columns (by place in ``singles``) that move."""
        sql = self._updates.get(changed)
        if sql is None:
            columns = "".join(f", {self.singles[place][1]} = ?" for place in changed)
            sql = self._updates[changed] = f"UPDATE {self.table} SET v = ?, d = ?{columns} WHERE k = ?"
        return sql

    def holders(self, index: IndexSpec) -> str:
        """The statement that gives the keys of the rows that have a key in an index."""
        if index.multi:
            return f"SELECT k FROM m{self.store.number}_{index.number} WHERE x = ?"
        return f"SELECT k FROM {self.table} WHERE i{index.number} = ?"

    def many(self, count: int) -> Tuple[int, str]:
        """How many keys a statement for ``count`` of them takes, and the statement."""
        size = _size_for(count)
        sql = self._many.get(size)
        if sql is None:
            sql = f"SELECT k, v, d FROM {self.table} WHERE k IN ({', '.join('?' * size)}) AND {self.guard}"
            self._many[size] = sql
        return size, sql

    def select(self, source: Optional[IndexSpec], ranges: Sequence[Range]) -> List[Tuple[Select, List[EncodedKey]]]:
        """The statements, with their parameters, that one after another give the ranges in ascending order."""
        found: List[Tuple[Select, List[EncodedKey]]] = []
        points: List[EncodedKey] = []
        for each in ranges:
            if each.is_only:
                points.append(each.lower)  # type: ignore[arg-type]
                if len(points) == _POINTS[-1]:
                    found.append(self._points(source, points))
                    points = []
                continue
            if points:
                found.append(self._points(source, points))
                points = []
            if each.empty:
                continue
            parameters = [bound for bound in (each.lower, each.upper) if bound is not None]
            found.append((self._shape(source, each), parameters))
        if points:
            found.append(self._points(source, points))
        return found

    def texts_of_one(self, source: Optional[IndexSpec], reverse: bool, limit: bool) -> str:
        """The statement that reads just the documents under one key."""
        shape = (0 if source is None else source.number, reverse, limit)
        sql = self._texts.get(shape)
        if sql is None:
            sql = self._texts[shape] = self._points(source, [0])[0].scan(True, reverse, limit, True)
        return sql

    def texts(self, source: Optional[IndexSpec], each: Range, reverse: bool, limit: bool) -> str:
        """The statement that reads just the documents of a range."""
        lower, upper, lower_open, upper_open = each
        shape = (0 if source is None else source.number, lower is None, upper is None, lower_open, upper_open)
        sql = self._texts.get((*shape, reverse, limit))
        if sql is None:
            sql = self._texts[(*shape, reverse, limit)] = self._shape(source, each).scan(True, reverse, limit, True)
        return sql

    def _shape(self, source: Optional[IndexSpec], each: Range) -> Select:
        lower = "" if each.lower is None else ">" if each.lower_open else ">="
        upper = "" if each.upper is None else "<" if each.upper_open else "<="
        shape = (source and source.number, lower, upper)
        select = self._selects.get(shape)
        if select is None:
            conditions = [f"{{x}} {operator} ?" for operator in (lower, upper) if operator]
            select = self._selects[shape] = Select(self, source, " AND ".join(conditions))
        return select

    def _points(self, source: Optional[IndexSpec], points: List[EncodedKey]) -> Tuple[Select, List[EncodedKey]]:
        size = _size_for(len(points))
        shape = (source and source.number, size)
        select = self._selects.get(shape)
        if select is None:
            condition = "{x} = ?" if size == 1 else f"{{x}} IN ({', '.join('?' * size)})"
            select = self._selects[shape] = Select(self, source, condition)
        return select, points + points[-1:] * (size - len(points))


def _size_for(count: int) -> int:
    return next((size for size in _POINTS if size >= count), _POINTS[-1])


class Select:
    """The statements that read one shape of range from one source. Built when first needed, then kept.

    All of them give (index key, key, document); with ``limit`` two more parameters, limit and offset.
    """

    def __init__(self, rows: Rows, source: Optional[IndexSpec], condition: str) -> None:
        self._rows = rows
        self._source = source
        self._condition = condition
        self._made: Dict[Tuple[bool, bool, bool, bool], str] = {}
        self.count = self._count()

    def _from(self, documents: bool) -> Tuple[str, str, str, str]:
        """Tables, index key, key and document."""
        rows, source = self._rows, self._source
        if source is None:
            return rows.table, "k", "k", "d"
        if not source.multi:
            return rows.table, f"i{source.number}", "k", "d"
        side = f"m{rows.store.number}_{source.number}"
        if not documents:
            return f"{side} AS e", "e.x", "e.k", "''"
        # A cross join is not turned round: the entries lead, in their order.
        return f"{side} AS e CROSS JOIN {rows.table} AS s ON s.k = e.k", "e.x", "e.k", "s.d"

    def _where(self, x: str) -> str:
        condition = self._condition.format(x=x)
        if not condition and self._source is not None and not self._source.multi:
            condition = f"{x} IS NOT NULL"
        return f" WHERE {condition} AND {self._rows.guard}" if condition else f" WHERE {self._rows.guard}"

    def _count(self) -> str:
        tables, x, _, _ = self._from(False)
        return f"SELECT count(*) FROM {tables}{self._where(x)}"

    def scan(self, documents: bool, reverse: bool, limit: bool, alone: bool = False) -> str:
        """The statement that reads entries in order; ``alone`` their documents only."""
        asked = (documents, reverse, limit, alone)
        sql = self._made.get(asked)
        if sql is None:
            tables, x, key, document = self._from(documents)
            way = " DESC" if reverse else ""
            source = self._source
            order = f"{x}{way}" if source is None or (source.unique and not source.multi) else f"{x}{way}, {key}{way}"
            told = document if alone else f"{x}, {key}, {document if documents else repr('')}"
            sql = f"SELECT {told} FROM {tables}{self._where(x)} ORDER BY {order}{' LIMIT ? OFFSET ?' if limit else ''}"
            self._made[asked] = sql
        return sql
