"""A query over the rows of a table: built step by step, run as often as one likes."""

from __future__ import annotations

import copy
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .. import models
from ..core.arguments import choice, text, whole_number
from ..core.marks import blocking
from ..core.namespace import reading, search_term, sort_direction
from ..core.paging import Walk
from ..core.parsing import one
from ..core.transport import Transport
from ..core.waits import END, Waiting, waiting
from ..exceptions import InvalidRequestError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from ..models import TableDataResponse

__all__ = ["RowIterator", "TableDataQueryBuilder", "page_query"]

RowT = TypeVar("RowT")
ModelT = TypeVar("ModelT", bound="BaseModel")

log = logging.getLogger("selfdb.tables")


def page_query(
    search: str | None, sort_by: str | None, sort_order: str | None, page: int | None, page_size: int | None
) -> tuple[tuple[str, object], ...]:
    """The query of a page of rows, checked; what is ``None`` is not sent.

    :raises InvalidRequestError: for page below 1, page_size outside 1 to 1000, search above 100 characters or
        with NUL, an empty ``sort_by``, or a ``sort_order`` that is neither ``asc`` nor ``desc``.
    """
    return (
        ("search", search_term(search)),
        ("sort_by", None if sort_by is None else text(sort_by, "sort_by", 100)),
        ("sort_order", sort_direction(sort_order)),
        ("page", None if page is None else whole_number(page, "page", 1)),
        ("page_size", None if page_size is None else whole_number(page_size, "page_size", 1, 1000)),
    )


class TableDataQueryBuilder(Generic[RowT]):
    """Search, order and page of a query. Immutable: every step gives a new one, so a base may be shared by threads.

    ``for row in query`` walks all rows from the set page on, page by page; see :class:`RowIterator`.
    """

    def __init__(self, transport: Transport, table_id: str, model: Any = dict[str, Any]) -> None:
        self._transport = transport
        self._path = f"/tables/{table_id}/data"
        self._model = model
        self._search: str | None = None
        self._sort_by: str | None = None
        self._sort_order: str | None = None
        self._page: int | None = None
        self._page_size: int | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} GET {self._path}>"

    def _with(self, **changes: Any) -> TableDataQueryBuilder[RowT]:
        changed = copy.copy(self)
        vars(changed).update(changes)
        return changed

    def search(self, term: str) -> TableDataQueryBuilder[RowT]:
        """Only rows that hold ``term`` in a text column, in any case; at most 100 characters, empty for all rows."""
        return self._with(_search=search_term(text(term, "search", 100, allow_empty=True)))

    def sort(self, column: str, order: str = "desc") -> TableDataQueryBuilder[RowT]:
        """In the order of ``column``, ``asc`` or ``desc``."""
        return self._with(
            _sort_by=text(column, "sort_by", 100), _sort_order=choice(order, "sort_order", ("asc", "desc"))
        )

    def page(self, number: int) -> TableDataQueryBuilder[RowT]:
        """Page ``number``, counted from 1."""
        return self._with(_page=whole_number(number, "page", 1))

    def page_size(self, rows: int) -> TableDataQueryBuilder[RowT]:
        """``rows`` a page, 1 to 1000."""
        return self._with(_page_size=whole_number(rows, "page_size", 1, 1000))

    def as_model(self, model: type[ModelT]) -> TableDataQueryBuilder[ModelT]:
        """Rows as ``model``, a pydantic model, instead of dicts.

        :raises InvalidRequestError: if it is none.
        """
        from pydantic import BaseModel

        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise InvalidRequestError("model must be a class derived from pydantic.BaseModel")
        changed: Any = self._with(_model=model)
        typed: TableDataQueryBuilder[ModelT] = changed
        return typed

    @property
    def whole(self) -> bool:
        """Whether it asks for all rows: neither a search nor a page is set."""
        return self._search is None and self._page is None

    @blocking
    def execute(self) -> TableDataResponse[RowT]:
        """Fetch the page; as often as one likes.

        :raises BadRequestError: if the column to sort by does not exist.
        :raises NotFoundError: if the table does not exist.

        ``GET /tables/{table_id}/data``
        """
        query = page_query(self._search, self._sort_by, self._sort_order, self._page, self._page_size)
        parse = one(lambda: models.TableDataResponse[self._model])  # type: ignore[name-defined]
        response: TableDataResponse[RowT] = parse(self._transport.exchange(reading(self._path, *query)))
        return response

    def pages(self) -> Iterator[TableDataResponse[RowT]]:
        """The pages from the set one on, each fetched when the loop comes to it."""
        return RowIterator(self).pages()

    def __iter__(self) -> RowIterator[RowT]:
        return RowIterator(self)

    @blocking
    def first(self) -> RowT | None:
        """The first row of the page that :meth:`execute` would fetch, or ``None``. Fetches one row."""
        before = ((self._page or 1) - 1) * (self._page_size or DEFAULT_PAGE_SIZE)
        rows = self._with(_page=before + 1, _page_size=1).execute().data
        return rows[0] if rows else None

    @blocking
    def count(self) -> int:
        """How many rows match on all pages. Fetches one row."""
        return self._with(_page=1, _page_size=1).execute().total


def _rows_of(pages: Sequence[TableDataResponse[Any]]) -> Sequence[Any]:
    return [row for page in pages for row in page.data]


DEFAULT_PAGE_SIZE = 100
"""Rows a page where none is set; the server's own."""


class RowIterator(Generic[RowT]):
    """Walks the rows of a query, one page in memory at a time. Belongs to one thread.

    A query without an order is walked in that of ``id``, ascending, since pages without one may overlap;
    ``ordered_by_id`` says so. The server knows no snapshot: a row that is inserted or deleted on the way may shift
    the others; ``total_changed`` says that this may have happened.

    :ivar total: matching rows as of the latest page; ``None`` before the first.
    :ivar total_changed: whether ``total`` has changed since the first page.
    :ivar ordered_by_id: whether the order by ``id`` was added.
    """

    def __init__(self, query: TableDataQueryBuilder[RowT]) -> None:
        self.total: int | None = None
        self.total_changed = False
        self.ordered_by_id = query._sort_by is None
        if self.ordered_by_id:
            query = query.sort("id", "asc")
        self._query = query
        self._first_number = query._page or 1
        self._before: dict[int, int] = {}
        self._pages: Walk[TableDataResponse[RowT]] = Walk(self._fetch, _rows_of)
        self._rows: deque[RowT] = deque()

    def __iter__(self) -> RowIterator[RowT]:
        return self

    @waiting
    def __next__(self) -> Waiting[RowT]:
        """The next row; at the end of a page the next one is fetched."""
        while not self._rows:
            page: Any = yield from self._pages.step()
            if page is END:
                return page  # type: ignore[no-any-return]
            self._rows.extend(page.data)
        return self._rows.popleft()

    def pages(self) -> Iterator[TableDataResponse[RowT]]:
        """The pages that are left."""
        return self._pages

    def _fetch(self, pages: int, _: int) -> tuple[Sequence[TableDataResponse[RowT]], bool]:
        number = self._first_number + pages
        page = self._query.page(number).execute()
        if self.total is not None and page.total != self.total and not self.total_changed:
            self.total_changed = True
            log.warning(
                "the rows of %s changed while they were walked; some may be missed or repeated", self._query._path
            )
        self.total = page.total
        if not page.data:
            return (), False
        # What came counts, not what was asked for: a server may give fewer rows a page than that. By page, since one
        # whose loop was interrupted before it had it is fetched again.
        before = self._before.get(pages)
        if before is None:
            before = (number - 1) * page.page_size
        behind = before + len(page.data)
        self._before = {pages: before, pages + 1: behind}
        return (page,), behind < page.total
