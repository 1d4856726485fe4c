"""The exchanges about one table: a query or a write goes out, and rows come back in an envelope."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Generic, NoReturn, Optional, TypeVar

from ..exceptions import InvalidRequestError
from .calls import LONGEST_LINE, Answer, Calls, Refused, problem
from .envelope import AeroDBResponse
from .query import Query, pieces, query_string
from .rows import RowReader, total_of
from .writes import Write, check_returned, check_unlimited

__all__ = ["Table"]

RowT = TypeVar("RowT")

_ONE_ROW = "application/vnd.pgrst.object+json"
_NOT_ONE = "PGRST116"
_NO_CONTENT = 204
_NO_ROWS = re.compile(r"\b0 rows\b")


class Table(Generic[RowT]):
    """One table of one client. Immutable; shared by all queries that begin at the same ``from_()``.

    :param calls: makes the exchanges.
    :param name: of the table.
    :param path: of the table, encoded.
    :param reader: reads its rows.
    """

    __slots__ = ("calls", "name", "path", "reader")

    def __init__(self, calls: Calls, name: str, path: str, reader: RowReader[RowT]) -> None:
        self.calls = calls
        self.name = name
        self.path = path
        self.reader = reader

    def read(self, query: Query) -> AeroDBResponse[Any]:
        """What ``query`` finds.

        :raises SelfDBError: if it is refused, here or there.
        """
        self.check(query)
        if query.rows != "many" and not query.head:
            ((_, text),) = pieces(query, self._room)
            return self._one(query, lambda: self._get(query, text))
        return self._many(query)

    def check(self, query: Query) -> None:
        """Return if no step of ``query`` had a wrong argument.

        :raises InvalidRequestError: that of the first one.
        """
        if query.refused is not None:
            raise InvalidRequestError(query.refused)

    def _get(self, query: Query, text: str, method: str = "GET") -> Answer:
        headers = self.calls.profile(method)
        if query.counted is not None:
            headers["Prefer"] = f"count={query.counted}"
        if query.rows != "many" and method == "GET":
            headers["Accept"] = _ONE_ROW
        return self.calls.send(method, self.path, query=text, headers=headers, table=self.name)

    def page(self, query: Query) -> tuple[Answer, list[RowT]]:
        """The rows of one exchange, and the answer that they came in.

        :raises SelfDBError: if it is refused, here or there.
        """
        answer = self._get(query, query_string(query.parameters()))
        return answer, self.reader.many(answer) or []

    @property
    def _room(self) -> int:
        """Bytes for the query of a read."""
        return LONGEST_LINE - len(f"HEAD {self.calls.transport.base.prefix}{self.path} HTTP/1.1\r\n")

    def _many(self, query: Query) -> AeroDBResponse[Any]:
        rows: Optional[list[RowT]] = None
        total: int | None = None
        answer: Optional[Answer] = None
        for part, text in list(pieces(query, self._room)):  # before the first is sent, for a later one may be refused
            if answer is not None and query.limit is not None:
                left = query.limit - len(rows or ())
                if left <= 0 and query.counted is None:
                    break
                text = query_string(part.limited(max(0, left), None).parameters())
            answer = self._get(part, text, "HEAD" if query.head else "GET")
            if not query.head:
                found = self.reader.many(answer)
                if not answer.content and answer.status != _NO_CONTENT:
                    found = []
                rows = found if rows is None else rows + (found or [])
            counted = total_of(answer.headers.get("Content-Range"))
            total = counted if total is None else total + (counted or 0)
        assert answer is not None  # there is one part at least
        return AeroDBResponse(rows, None, total, answer.status, answer.from_cache)

    def _one(self, query: Query, fetch: Callable[[], Answer]) -> AeroDBResponse[Any]:
        try:
            answer = fetch()
        except Refused as refused:
            none = refused.code == _NOT_ONE and _NO_ROWS.search(str(refused.details)) is not None
            if query.rows != "maybe" or not none:
                raise
            return AeroDBResponse(None, None, status=refused.status_code)
        total = total_of(answer.headers.get("Content-Range"))
        return AeroDBResponse(self.reader.one(answer), None, total, answer.status, answer.from_cache)

    def write(self, query: Query, call: str, write: Callable[[Query], Write]) -> AeroDBResponse[Any]:
        """Make the write that ``write`` describes for what ``query`` chooses.

        :param call: what the caller called, for messages.
        :raises SelfDBError: if it is refused, here or there.
        """
        self.check(query)
        check_unlimited(query, call)
        wanted = write(query)
        check_returned(query, wanted)
        if query.rows == "many":
            answer = self._send(query, wanted)
            rows: list[RowT] = []
            if wanted.returning == "representation" and answer.content:
                rows = self.reader.many(answer) or []
            return AeroDBResponse(rows, None, total_of(answer.headers.get("Content-Range")), answer.status)
        return self._one(query, lambda: self._send(query, wanted))

    def _send(self, query: Query, wanted: Write) -> Answer:
        headers = {**self.calls.profile(wanted.method), "Prefer": wanted.prefer}
        if query.rows != "many":
            headers["Accept"] = _ONE_ROW
        return self.calls.send(
            wanted.method,
            self.path,
            query=query_string(query.write_parameters(*wanted.parameters)),
            headers=headers,
            body=wanted.body,
            content_type=None if wanted.body is None else "application/json",
            table=self.name,
        )

    def counting_failure(self, work: Callable[[], AeroDBResponse[Any]]) -> AeroDBResponse[Any]:
        """What ``work`` gives, or an envelope of what it raises, with the count that a refusal bears.

        A server that is asked for rows behind the last one says how many there are.
        """
        total: list[int | None] = []

        def counted() -> AeroDBResponse[Any]:
            try:
                return work()
            except Refused as refused:
                total.append(total_of(refused.content_range))
                raise

        response = self.calls.enveloped(counted)
        if not total or total[0] is None:
            return response
        return AeroDBResponse(response.data, response.error, total[0], response.status)


def unfiltered(call: str, query: Query) -> NoReturn:
    """Refuse a write that would change every row.

    :raises AeroDBRequestError: ``UNFILTERED_WRITE``.
    """
    why = "; filters on an embedded table choose none of its rows" if query.conditions else ""
    raise problem(
        "UNFILTERED_WRITE",
        f"{call} without a filter would change every row of the table{why}: put a filter before it, "
        "such as eq(), or all_rows() if every row is meant",
    )
