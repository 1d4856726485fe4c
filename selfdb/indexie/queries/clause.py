"""The condition of a query, between ``where(path)`` and the collection: what each clause takes of an index."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, Tuple, TypeVar

from ...core.marks import blocking
from ..errors import DataError, InvalidArgumentError
from ..keys import keys
from ..keys.markers import MAX_KEY, MIN_KEY
from ..keys.ranges import EMPTY, Range, complement, union
from .collection import Collection
from .plan import Branch, Query, Source, exactly

if TYPE_CHECKING:
    from ..tables.table import Table

__all__ = ["WhereClause"]

T = TypeVar("T")


@blocking
class WhereClause(Generic[T]):
    """An index to choose rows by, as ``where()`` and ``or_()`` give it. Immutable, for any thread.

    Each method gives a collection. Keys compare by the order of all keys: numbers, then booleans, dates, strings,
    bytes, lists. A value that is no key raises :class:`~selfdb.indexie.DataError`.
    """

    __slots__ = ("_before", "_source", "_table")

    def __init__(self, table: Table[T], source: Source, before: Query | None = None) -> None:
        self._table = table
        self._source = source
        self._before = before

    def __copy__(self) -> WhereClause[T]:
        return self  # which nothing changes

    def __reduce__(self) -> Any:
        raise TypeError("a WhereClause cannot be pickled; build it anew in the other process")

    def __repr__(self) -> str:
        return f"<WhereClause {self._table.name}.{self._source.path}>"

    def equals(self, value: Any) -> Collection[T]:
        """Rows whose index key is ``value``."""
        if self._source.leading:
            return self._collection((self._only(value),))
        key = keys.encode(value)
        return self._collection((Range(key, key),))

    def not_equal(self, value: Any) -> Collection[T]:
        """Rows that are in the index under another key; a row without one is not."""
        return self._chosen(complement([self._only(value)]))

    def above(self, value: Any) -> Collection[T]:
        """Rows whose index key is greater than ``value``."""
        return self._chosen((self._span(value, MAX_KEY, True, False),))

    def above_or_equal(self, value: Any) -> Collection[T]:
        """Rows whose index key is ``value`` or greater."""
        return self._chosen((self._span(value, MAX_KEY, False, False),))

    def below(self, value: Any) -> Collection[T]:
        """Rows whose index key is less than ``value``."""
        return self._chosen((self._span(MIN_KEY, value, False, True),))

    def below_or_equal(self, value: Any) -> Collection[T]:
        """Rows whose index key is ``value`` or less."""
        return self._chosen((self._span(MIN_KEY, value, False, False),))

    def between(self, lower: Any, upper: Any, include_lower: bool = True, include_upper: bool = False) -> Collection[T]:
        """Rows whose index key lies between two bounds.

        :param lower: a key, or ``MIN_KEY``, which may stand in a list too.
        :param upper: a key, or ``MAX_KEY``; below ``lower`` there are no such rows.
        """
        return self._chosen((self._span(lower, upper, not include_lower, not include_upper),))

    def starts_with(self, prefix: str) -> Collection[T]:
        """Rows whose index key is a string that begins with ``prefix``; with ``""`` all whose key is a string."""
        return self._chosen((self._prefix(prefix),))

    def starts_with_any_of(self, *prefixes: Any) -> Collection[T]:
        """Rows whose index key begins with one of the strings, which may be given as one list too."""
        return self._chosen(union(map(self._prefix, _listed(prefixes))))

    def any_of(self, *values: Any) -> Collection[T]:
        """Rows whose index key is one of the values, which may be given as one list too. None of them: no rows."""
        return self._chosen(union(map(self._only, _listed(values))))

    def none_of(self, *values: Any) -> Collection[T]:
        """Rows that are in the index under none of the values, which may be given as one list too."""
        return self._chosen(complement(map(self._only, _listed(values))))

    def _chosen(self, ranges: Sequence[Range]) -> Collection[T]:
        return self._collection(tuple([each for each in ranges if not each.empty]))

    def _collection(self, ranges: Tuple[Range, ...]) -> Collection[T]:
        before = self._before
        if before is None:
            return Collection(self._table, None, self._source, ranges)
        return Collection(self._table, before._replace(branches=(*before.branches, Branch(self._source, ranges))))

    # What a value means where the source is only the beginning of a compound index

    def _only(self, value: Any) -> Range:
        source = self._source
        if source.leading > 1:
            self._check_parts(value, exact=True)
        return exactly(source, value)

    def _span(self, lower: Any, upper: Any, lower_open: bool, upper_open: bool) -> Range:
        leading = self._source.leading
        if not leading:
            return keys.span(lower, upper, lower_open, upper_open)
        if leading == 1:
            bounds = keys.span(lower, upper, lower_open, upper_open)
            return EMPTY if bounds.empty else keys.leading((), bounds)
        # A list stands for all that begin with it, so that leaving it out leaves out all of these.
        for each in (lower, upper):
            if each is not MIN_KEY and each is not MAX_KEY:
                self._check_parts(each, exact=False)
        low, high = keys.span(lower, MAX_KEY).lower, keys.span(MIN_KEY, upper).upper
        if lower is MAX_KEY or upper is MIN_KEY:
            return EMPTY
        start, end = keys.ARRAYS.lower, keys.ARRAYS.upper
        if low is not None:
            assert isinstance(low, bytes)
            start = low[:-1] + b"\xff" * (lower_open and len(lower) == leading)
        if high is not None:
            assert isinstance(high, bytes)
            end = high[:-1] + b"\xff" * (not upper_open and len(upper) == leading)
        return Range(start, end, False, True)

    def _prefix(self, prefix: str) -> Range:
        leading = self._source.leading
        if not leading:
            return keys.prefix(prefix)
        if leading == 1:
            return keys.leading_prefix((), prefix)
        raise DataError(f"the keys of {self._source.path!r} are lists, and no string begins them", key=prefix)

    def _check_parts(self, value: Any, *, exact: bool) -> None:
        leading = self._source.leading
        if not isinstance(value, (list, tuple)) or len(value) > leading or (exact and len(value) != leading):
            raise DataError(f"{self._source.path!r} takes lists of {leading} values", key=value)


def _listed(values: Sequence[Any]) -> Iterable[Any]:
    """The values, whether they were given one by one or as one collection."""
    if len(values) != 1 or isinstance(values[0], (str, bytes, bytearray)):
        return values
    only = values[0]
    if isinstance(only, dict):
        raise InvalidArgumentError("values are given one by one or as a list, not as a dict")
    return only if isinstance(only, Iterable) else values
