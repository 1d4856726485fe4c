"""What a write sends: its rows, their columns, and the wishes of its ``Prefer`` header."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

from ..core.arguments import choice, flag
from ..core.encoding import encode_json
from ..core.namespace import mapping_of
from ..exceptions import InvalidRequestError
from . import values
from .query import Query, columns_named, counting, joined_names

__all__ = ["Write", "changed_row", "check_inserting", "check_returned", "check_unlimited", "inserted_rows"]

RETURNING = ("representation", "minimal", "headers-only")


class Write(NamedTuple):
    """One write, apart from its filters.

    :ivar method: ``POST``, ``PATCH`` or ``DELETE``.
    :ivar body: encoded; ``None`` for a delete.
    :ivar returning: what comes back.
    :ivar counted: how to count the rows, if they are to be counted.
    :ivar wishes: of the ``Prefer`` header, beside these two.
    :ivar parameters: of the query, behind those of the filters.
    """

    method: str
    body: Optional[bytes]
    returning: str
    counted: Optional[str]
    wishes: tuple[str, ...] = ()
    parameters: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, method: str, body: Any, returning: str, count: str | None, *more: Any) -> Write:
        """A write whose arguments were checked, and whose ``body`` was encoded unless it is ``None``.

        :raises InvalidRequestError: if one of them is wrong.
        """
        encoded = None if body is None else encode_json(body)
        return cls(method, encoded, choice(returning, "returning", RETURNING), counting(count), *more)

    @property
    def prefer(self) -> str:
        """The value of the ``Prefer`` header."""
        count = () if self.counted is None else (f"count={self.counted}",)
        return ",".join((f"return={self.returning}", *self.wishes, *count))


def _mapping(row: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(row, type) and hasattr(row, "model_dump"):
        # A default that nobody set is the database's to choose.
        return mapping_of(row.model_dump(by_alias=True, exclude_unset=True), what)
    return mapping_of(row, what)


def changed_row(data: Any) -> Mapping[str, Any]:
    """What an update sets.

    :raises InvalidRequestError: if it is no mapping, model or dataclass.
    """
    row = dict(_mapping(data, "data"))
    _columns_of([row])
    return row


def inserted_rows(
    data: Any, columns: Any, missing_default: bool
) -> tuple[Any, tuple[str, ...], tuple[tuple[str, str], ...]]:
    """The body, the wishes and the parameters of an insert.

    :raises InvalidRequestError: if ``data`` is neither a row nor a list of rows.
    """
    several = isinstance(data, (list, tuple))
    if several:
        rows = [dict(_mapping(row, f"data[{number}]")) for number, row in enumerate(data)]
    else:
        rows = [dict(_mapping(data, "data"))]
    body = rows if several else rows[0]
    wishes = ("missing=default",) if flag(missing_default, "missing_default") else ()
    named = _columns_of(rows)
    if columns is not None:
        return body, wishes, (("columns", columns_named(columns, "columns")),)
    if any(len(row) != len(named) for row in rows):
        # The server refuses rows that differ, unless it is told which columns there are.
        return body, wishes, (("columns", joined_names(named)),)
    return body, wishes, ()


def _columns_of(rows: list[dict[str, Any]]) -> list[str]:
    """The columns that any of ``rows`` has, as they come.

    :raises InvalidRequestError: if one could be none.
    """
    names: dict[str, None] = {}
    for row in rows:
        if row.keys() != names.keys():
            names.update(dict.fromkeys(row))
    return [values.name(name, "the name of a column in data") for name in names]


def check_unlimited(query: Query, call: str) -> None:
    """Return if no limit stands before a write.

    :raises InvalidRequestError: if one does: servers ignore it there, or want an order, and change other rows.
    """
    if query.limit is not None or query.offset is not None:
        raise InvalidRequestError(f"{call} knows no limit(), offset() or range(): choose its rows by filters")
    if query.head:
        raise InvalidRequestError(f"{call} has no head=True: use returning='minimal' with count=...")


def check_returned(query: Query, write: Write) -> None:
    """Return if what comes back is what the query asks for.

    :raises InvalidRequestError: if it is nothing where one row is asked for.
    """
    if query.rows != "many" and write.returning != RETURNING[0]:
        raise InvalidRequestError(f"single() and maybe_single() need returning={RETURNING[0]!r}")


def check_inserting(query: Query, call: str) -> None:
    """Return if no filter stands before an insert, which would have no meaning.

    :raises InvalidRequestError: if one does.
    """
    if query.chooses:
        raise InvalidRequestError(f"{call} knows no filters: it changes the rows that it is given")
