"""What a query asks for, as an immutable value, and the parameters that it is sent as, in their order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple, Optional

from ..core.arguments import choice, flag, whole_number
from ..exceptions import InvalidRequestError
from . import values
from .calls import LONGEST_LINE
from .filters import Condition, Membership, Refused

__all__ = ["Query", "columns_named", "counting", "joined_names", "pieces", "query_string", "selected"]

_LARGEST = 2**63 - 1
_COUNTS = ("exact", "planned", "estimated")
_AROUND_SEPARATORS = re.compile(r'("(?:[^"\\]|\\.)*")|\s*([,()])\s*', re.DOTALL)


class Query(NamedTuple):
    """Everything that the steps of a query said so far.

    :ivar select: the columns, or ``None`` where none were named.
    :ivar conditions: in the order of the calls.
    :ivar orders: parameter and term, in the order of the calls.
    :ivar limits: by parameter.
    :ivar offset: rows to pass over.
    :ivar counted: how to count all rows, if they are to be counted.
    :ivar head: whether only the count is wanted.
    :ivar rows: ``many``, ``one``, or ``maybe`` one.
    :ivar all_rows: whether a write may go without a filter.
    :ivar refused: why it cannot be sent: the first wrong argument of a step.
    """

    select: Optional[str] = None
    conditions: tuple[Condition, ...] = ()
    orders: tuple[tuple[str, str], ...] = ()
    limits: tuple[tuple[str, int], ...] = ()
    offset: Optional[int] = None
    counted: Optional[str] = None
    head: bool = False
    rows: str = "many"
    all_rows: bool = False
    refused: Optional[str] = None

    # Steps. Each raises `InvalidRequestError` for a wrong argument.

    def selecting(self, columns: str, count: str | None, head: bool) -> Query:
        """With these columns, this way of counting, and whether nothing but the count is wanted."""
        if not isinstance(columns, str):
            raise InvalidRequestError(f"the columns of select() must be one str, not {type(columns).__name__}")
        return self._replace(
            select=values.name(tidy(columns), "the columns of select()"),
            counted=counting(count),
            head=flag(head, "head"),
        )

    def where(self, condition: Condition) -> Query:
        """With one more condition."""
        if isinstance(condition, Refused):
            raise InvalidRequestError(condition.why)
        return self._replace(conditions=(*self.conditions, condition))

    def ordered(self, column: str, ascending: bool, nulls_first: bool | None, on: str | None) -> Query:
        """With one more column to order by."""
        term = f"{values.name(column, 'column')}.{'asc' if flag(ascending, 'ascending') else 'desc'}"
        if nulls_first is not None:
            term += ".nullsfirst" if flag(nulls_first, "nulls_first") else ".nullslast"
        return self._replace(orders=(*self.orders, (_of(on, "order"), term)))

    def limited(self, rows: int, on: str | None) -> Query:
        """With at most so many rows."""
        parameter = _of(on, "limit")
        others = tuple(pair for pair in self.limits if pair[0] != parameter)
        return self._replace(limits=(*others, (parameter, whole_number(rows, "limit", 0, _LARGEST))))

    def from_row(self, rows: int) -> Query:
        """Behind so many rows."""
        return self._replace(offset=whole_number(rows, "offset", 0, _LARGEST))

    # What it comes to

    @property
    def limit(self) -> int | None:
        """At most so many rows."""
        return next((rows for parameter, rows in self.limits if parameter == "limit"), None)

    @property
    def chooses(self) -> bool:
        """Whether a condition chooses among the rows of the table itself."""
        return any(not condition.embedded for condition in self.conditions)

    def parameters(self) -> list[tuple[str, str]]:
        """The parameters of a read, decoded and in order."""
        pairs = [("select", self.select or "*")]
        pairs += [condition.parameter() for condition in self.conditions]
        if self.orders:
            terms: dict[str, list[str]] = {}
            for parameter, term in self.orders:
                terms.setdefault(parameter, []).append(term)
            pairs += [(parameter, ",".join(listed)) for parameter, listed in terms.items()]
        pairs += [(parameter, str(rows)) for parameter, rows in self.limits]
        if self.offset is not None:
            pairs.append(("offset", str(self.offset)))
        return pairs

    def write_parameters(self, *more: tuple[str, str]) -> list[tuple[str, str]]:
        """The parameters of a write: no order, no limit, and columns only where they were named."""
        pairs = [("select", self.select)] if self.select is not None else []
        pairs += [condition.parameter() for condition in self.conditions]
        pairs += [pair for pair in self.orders if pair[0] != "order"]
        pairs += [(parameter, str(rows)) for parameter, rows in self.limits]
        pairs += more
        return pairs


def query_string(pairs: list[tuple[str, str]]) -> str:
    """``?a=eq.1&b=gt.2``; empty without parameters."""
    if not pairs:
        return ""
    if values.needs_no_encoding("".join([text for pair in pairs for text in pair])):  # nearly all, told at once
        return "?" + "&".join([f"{parameter}={value}" for parameter, value in pairs])
    return "?" + "&".join([f"{values.encoded(parameter)}={values.encoded(value)}" for parameter, value in pairs])


def pieces(query: Query, room: int) -> Iterator[tuple[Query, str]]:
    """``query`` and its query string; in parts, where a list of ``in_`` makes it longer than ``room`` bytes.

    :raises InvalidRequestError: if it is too long and its parts would not come to the same.
    """
    text = query_string(query.parameters())
    if len(text) <= room:
        yield query, text
        return
    lists = [
        condition
        for condition in query.conditions
        if isinstance(condition, Membership)
        and not condition.negated
        and not condition.embedded
        and len(condition.texts) > 1
    ]
    if not lists:
        raise too_long(len(text))
    why = _indivisible(query)
    if why:
        raise too_long(len(text), f"; the list of in_() cannot be sent in parts with {why}")
    longest = max(lists, key=lambda condition: sum(map(len, condition.texts)))
    for half in longest.halves():
        exchanged = tuple(half if condition is longest else condition for condition in query.conditions)
        yield from pieces(query._replace(conditions=exchanged), room)


def _indivisible(query: Query) -> str:
    if any(parameter == "order" for parameter, _ in query.orders):
        return "order()"
    if query.offset is not None:
        return "offset() or range()"
    if query.rows != "many" and not query.head:
        return "single() or maybe_single()"
    return "an aggregate in select()" if _aggregates(query.select or "") else ""


def _aggregates(select: str) -> bool:
    """Whether rows are put together; ``count`` alone is an old way to say ``count()``."""
    named = (item.partition("::")[0].rpartition(":")[2] for item in _items(select))
    return "()" in select or "count" in named


def too_long(length: int, why: str = "") -> InvalidRequestError:
    return InvalidRequestError(
        f"the query is {length} bytes long, and servers take a request line of {LONGEST_LINE} at most{why}; "
        "put long lists into in_() as a filter of its own, or call a function with rpc()"
    )


def counting(count: str | None) -> str | None:
    return None if count is None else choice(count, "count", _COUNTS)


def _of(on: str | None, parameter: str) -> str:
    return parameter if on is None else f"{values.name(on, 'on')}.{parameter}"


def tidy(columns: str) -> str:
    """``columns`` without the white space around separators, and as it is within quotes."""
    return _AROUND_SEPARATORS.sub(lambda found: found[1] or found[2], columns).strip()


def selected(select: str | None, column: str) -> bool:
    """Whether rows bear ``column`` under its own name."""
    if select is None:
        return True
    return any(item in ("*", column) or item.startswith(f"{column}::") for item in _items(select))


def _items(select: str) -> Iterator[str]:
    """What stands between the commas of ``select`` that are in no brackets and no quotes."""
    depth = start = 0
    for found in re.finditer(r'"(?:[^"\\]|\\.)*"|[(),]', select, re.DOTALL):
        depth += {"(": 1, ")": -1}.get(found[0], 0)
        if found[0] == "," and depth == 0:
            yield select[start : found.start()]
            start = found.end()
    yield select[start:]


def columns_named(columns: Any, what: str) -> str:
    """``columns``, one text or a list of names, as the value of a parameter.

    :raises InvalidRequestError: for anything else.
    """
    if isinstance(columns, str):
        return values.name(tidy(columns), what)
    named = [values.name(column, what) for column in values.elements(columns, what)]
    if not named:
        raise InvalidRequestError(f"{what} must name at least one column")
    return ",".join(named)


def joined_names(names: list[str]) -> str:
    """Names that rows are known by, as the value of ``columns``: in quotes where the grammar asks for them."""
    return ",".join(part if part.isidentifier() and part.isascii() else values.in_quotes(part) for part in names)
