"""Walking a large result page by page: with one page in memory, and without a gap that nobody is told of."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, TypeVar

from ..core.arguments import whole_number
from ..core.marks import inner
from ..core.paging import Repetition
from ..core.waits import END, Waiting, waiting, work
from ..exceptions import InvalidRequestError, SelfDBError
from . import filters, values
from .calls import Answer, Refused, problem
from .envelope import AeroDBError, AeroDBRequestError, AeroDBResponse
from .query import Query, selected
from .rows import total_of
from .table import Table

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["Pages", "RowStream"]

RowT = TypeVar("RowT")

_BEHIND_THE_END = 416
"""What a server that counts its rows answers where it has fewer than are to be passed over."""


class _Place(NamedTuple):
    """How far a walk is.

    :ivar left: rows that the limit still allows.
    :ivar behind: rows to pass over.
    :ivar last: the key of the last row, as text.
    :ivar largest: rows of the largest page so far: what the server gives at a time, if there are as many.
    :ivar confirming: whether the last page was shorter than that, and the next one tells whether it was the end.
    :ivar over: whether no page comes any more.
    """

    left: Optional[int]
    behind: int
    last: Optional[str] = None
    largest: int = 0
    confirming: bool = False
    over: bool = False


class Pages(Iterator["AeroDBResponse[list[RowT]]"]):
    """One response a page, fetched when the loop comes to it. Belongs to one thread; see ``QueryBuilder.pages``."""

    def __init__(self, table: Table[RowT], query: Query, size: int, key: str | None) -> None:
        self._table = table
        self._key = key
        self._size = size
        try:
            self._query = query if query.refused is not None else self._prepared(query)
        except InvalidRequestError as error:
            self._query = query._replace(refused=error.message)
        self._place = _Place(query.limit, query.offset or 0)
        self._repetition = Repetition()

    def _prepared(self, query: Query) -> Query:
        whole_number(self._size, "size", 1)
        if query.head or query.rows != "many":
            raise InvalidRequestError("pages() and stream() give lists of rows: leave single() and head=True out")
        if self._key is None:
            return query
        column = values.name(self._key, "key")
        if filters.split_path(column)[0] or "->" in filters.outside_quotes(column):
            raise InvalidRequestError("key must be a column of the table itself")
        if any(parameter == "order" for parameter, _ in query.orders):
            raise InvalidRequestError("with a key the rows come in its order: leave order() out, or the key")
        if query.offset is not None:
            raise InvalidRequestError("with a key there is no offset() or range(): begin with a filter on the key")
        if not selected(query.select, column):
            raise InvalidRequestError("key must be among the columns of select(), under its own name")
        return query.ordered(column, True, None, None)

    def __iter__(self) -> Self:
        return self

    @waiting
    def __next__(self) -> Waiting[AeroDBResponse[list[RowT]]]:
        """The next page."""
        return self.step()

    @inner
    def step(self) -> Waiting[AeroDBResponse[list[RowT]]]:
        """A step of the loop; ``END`` behind the last page."""
        if self._place.over:
            return END  # type: ignore[no-any-return]
        # What was fetched counts only once it is here: a step that was interrupted is made again.
        response, place = yield from work(self._fetch)
        self._place = place
        if response.data and self._key is None and _told_apart(response.data):
            try:
                self._repetition.check(response.data)
            except SelfDBError as error:
                self.close()
                return self._table.calls.failed(error)
        return response if response.data or response.error is not None else END

    def close(self) -> None:
        """Fetch no more pages."""
        self._place = self._place._replace(over=True)

    def _fetch(self) -> tuple[AeroDBResponse[list[RowT]], _Place]:
        """The next page, and the place behind it."""
        places = [self._place._replace(over=True)]

        def fetch() -> AeroDBResponse[list[RowT]]:
            self._table.check(self._query)
            place = self._place
            asked = self._size if place.left is None else min(self._size, place.left)
            if asked == 0:
                return AeroDBResponse(None, None)
            query = self._query.limited(asked, None)
            if place.behind:
                query = query.from_row(place.behind)
            if self._key is not None and place.last is not None:
                query = query.where(filters.gt(self._key, place.last))
            try:
                answer, rows = self._table.page(query)
            except Refused as refused:
                if refused.status_code != _BEHIND_THE_END or not place.largest:
                    raise
                return AeroDBResponse([], None)  # rows went away meanwhile
            if rows:
                places.append(self._behind(answer, rows, asked))
            total = total_of(answer.headers.get("Content-Range"))
            return AeroDBResponse(rows, None, total, answer.status, answer.from_cache)

        return self._table.counting_failure(fetch), places[-1]

    def _behind(self, answer: Answer, rows: list[RowT], asked: int) -> _Place:
        """The place behind ``rows``, which came for ``asked`` ones."""
        place, got = self._place, len(rows)
        left = None if place.left is None else max(0, place.left - got)
        # Fewer than were asked for mean that the rows are over, or that the server never gives more at a time. A full
        # page before tells; else one request more does, and what that brings is all that is waited for.
        short = got < asked
        over = left == 0 or (short and (place.largest >= self._size or place.confirming))
        largest = max(place.largest, got)
        confirming = short and got < largest
        if self._key is None:
            return _Place(left, place.behind + got, None, largest, confirming, over)
        return _Place(left, 0, self._key_of(answer, rows, self._key), largest, confirming, over)

    def _key_of(self, answer: Answer, rows: list[Any], key: str) -> str:
        """The key of the last of ``rows`` as text."""
        name = values.unquoted(key)
        raw = rows if isinstance(rows[0], dict) else answer.json()
        if any(isinstance(row.get(name), float) for row in raw):  # which may have lost digits of what the server wrote
            raw = json.loads(answer.content, parse_float=str)
        before: Any = None
        for row in raw:
            if row.get(name) is None:
                raise problem("VALIDATION_ERROR", f"the key {key} is null or missing in a row; it must be NOT NULL")
            if row[name] == before:
                raise problem("VALIDATION_ERROR", f"the key {key} is the same in two rows; it must be unique")
            before = row[name]
        text = values.text_of(before, "key")
        if text == self._place.last:
            raise answer.unusable(f"to {key}=gt.… ends with the same row again")
        return text


def _told_apart(rows: list[Any]) -> bool:
    """Whether the rows of a page have ids by which a page that comes again is known: several, each another."""
    ids = [repr(row.get("id") if isinstance(row, dict) else getattr(row, "id", None)) for row in rows]
    return len(ids) > 1 and len(set(ids)) == len(ids)


class RowStream(Iterator[RowT]):
    """The rows of all pages. Belongs to one thread; see ``QueryBuilder.stream``.

    :ivar error: why it ended before its end; raised by the loop as well.
    """

    def __init__(self, pages: Pages[RowT]) -> None:
        self._pages = pages
        self._rows: deque[RowT] = deque()
        self.error: AeroDBError | None = None

    def __iter__(self) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @waiting
    def __next__(self) -> Waiting[RowT]:
        """The next row; at the end of a page the next one is fetched."""
        while not self._rows:
            page: Any = yield from self._pages.step()
            if page is END:
                return page  # type: ignore[no-any-return]
            if page.error is not None:
                self.error = page.error
                raise AeroDBRequestError.of(page.error)
            self._rows.extend(page.data)
        return self._rows.popleft()

    def close(self) -> None:
        """Fetch no more pages, and forget the rows at hand."""
        self._pages.close()
        self._rows.clear()
