"""What lists and counts have in common: which query keys they know, paging, searching."""

from __future__ import annotations

import uuid
from enum import Enum
from typing import Annotated, Any, Optional

import sqlalchemy as sa
from fastapi import Depends, Query, Request

from .database import Database
from .errors import ApiError

__all__ = [
    "SKIP_MAX",
    "Limit",
    "Search",
    "Skip",
    "SortOrder",
    "SortOrderQuery",
    "as_id",
    "contains",
    "escape_like",
    "known_query",
    "ordered",
]

SKIP_MAX = 2_147_483_647


class SortOrder(str, Enum):
    """Direction of a sort."""

    asc = "asc"
    desc = "desc"


# These two are coroutines only so that FastAPI does not send them to another thread.


async def _search(
    search: Annotated[Optional[str], Query(max_length=100, pattern="^[^\\x00]*$")] = None,
) -> Optional[str]:
    return search or None


#: Query parameters of lists, to be used as types of a handler's parameters (they carry their defaults).
Skip = Annotated[int, Query(ge=0, le=SKIP_MAX)]
Limit = Annotated[int, Query(ge=1, le=1000)]
#: Text to search for; empty counts as not given.
Search = Annotated[Optional[str], Depends(_search)]
SortOrderQuery = Annotated[SortOrder, Query()]


def known_query(*names: str) -> Any:
    """``dependencies=[known_query("skip", ...)]``: refuse a request that carries any other query key.

    Answers 400 ``Unknown query parameters: a, b``, in the order of the request.
    """

    async def check(request: Request) -> None:
        unknown = [name for name in dict.fromkeys(request.query_params.keys()) if name not in names]
        if unknown:
            listed = ", ".join(unknown).encode("utf-8", "replace").decode("utf-8")
            raise ApiError(400, f"Unknown query parameters: {listed[:500]}")

    return Depends(check)


def escape_like(text: str) -> str:
    """``text`` for a LIKE pattern with ``ESCAPE '\\'`` in which it stands for itself."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def contains(database: Database, text: str, *columns: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """True where any of ``columns`` contains ``text`` literally, whatever the case of either."""
    pattern = f"%{escape_like(text.lower())}%"
    return sa.or_(*(database.folded(column).like(pattern, escape="\\") for column in columns))


def ordered(column: sa.ColumnElement[Any], order: SortOrder) -> sa.ColumnElement[Any]:
    """``column`` as a sort key; nulls come last going up and first going down, on both databases."""
    return column.asc().nulls_last() if order is SortOrder.asc else column.desc().nulls_first()


def as_id(text: str) -> Optional[str]:
    """``text`` if it is an id as this server writes them (a UUID, lower case), else ``None``."""
    try:
        return text if str(uuid.UUID(text)) == text else None
    except ValueError:
        return None
