"""Following a query: first its rows, then every change, and after a gap the difference."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from ..core.waits import END, Waiting, waiting, work
from ..exceptions import APIConnectionError, InternalServerError, InvalidRequestError, RateLimitError
from ..models import RealtimePayload
from .events import EventStream
from .payloads import RESYNC

__all__ = ["Followable", "Follower"]

log = logging.getLogger("selfdb.realtime")

MAX_PASSES = 5
"""How often the rows are read at most because they changed while they were read."""

PAUSES = (0.5, 1.0, 2.0, 5.0)
"""Seconds before the rows are read again where the server could not give them; the last goes on for ever."""


class Page(Protocol):
    """One page of rows."""

    data: list[Any]
    total: int


class Followable(Protocol):
    """What is needed of a query."""

    def pages(self) -> Iterator[Any]:
        """The pages of the query."""

    @property
    def whole(self) -> bool:
        """Whether it asks for all rows: neither a search nor a page is set."""


class Follower(Iterator[RealtimePayload]):
    """An endless loop over the rows of a table as they are and as they become. Belongs to one thread.

    Begins with an ``INSERT`` for each row that is there. Knows the rows that it gave by their key, so that nothing is
    given twice, a gap is filled with exactly the difference, and ``old`` is always the row as it was given before.
    Holds all rows of the query in memory.
    """

    def __init__(self, stream: EventStream, query: Followable, key: str, table: str) -> None:
        if not query.whole:
            stream.close()
            raise InvalidRequestError("follow() takes a query without search and page: changes carry neither")
        self._stream = stream
        self._query = query
        self._key = key
        self._table = table
        self._known: dict[Any, dict[str, Any]] = {}
        self._behind: int | None = None
        self._stale = True
        self._over = False
        self._changes: Iterator[RealtimePayload] = iter(())

    def __iter__(self) -> Follower:
        return self

    @waiting
    def __next__(self) -> Waiting[RealtimePayload]:
        """The next change.

        :raises RealtimeError: when the server closed the channel.
        :raises InvalidRequestError: if a row has no column ``key``.
        :raises SelfDBError: if the rows cannot be read, and not for want of a server. The loop is over then.
        """
        try:
            return (yield from self._next())
        except Exception:
            self.close()
            raise

    def _next(self) -> Waiting[RealtimePayload]:
        while not self._over:
            change = next(self._changes, None)
            if change is not None:
                return change
            if self._stale:
                rows = yield from self._read_patiently()
                self._stale, self._changes = False, self._difference(rows)
                continue
            event = yield from self._stream.next_event()
            if event is None:
                self.close()
            elif event.event == RESYNC:
                self._stale = True
            else:
                self._changes = self._apply(event)
        return END  # type: ignore[no-any-return]

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """End the loop. Idempotent; from any thread."""
        self._over = True
        self._stream.close()

    @property
    def caught_up(self) -> bool:
        """Whether what was there has been given, at the beginning or after a gap: the moment to draw a whole picture.

        An empty table gives nothing, so that it is first told with the first change.
        """
        return self._behind == 0

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows as they were given; a copy."""
        return list(self._known.values())

    def _difference(self, rows: dict[Any, dict[str, Any]]) -> Iterator[RealtimePayload]:
        """What turns the rows that were given into ``rows``."""
        gone = [key for key in self._known if key not in rows]
        changed = [key for key, row in rows.items() if not self._has(key, row)]
        self._behind = len(gone) + len(changed)
        return self._given(gone, changed, rows)

    def _given(self, gone: list[Any], changed: list[Any], rows: dict[Any, dict[str, Any]]) -> Iterator[RealtimePayload]:
        assert self._behind is not None
        for key in gone:
            self._behind -= 1
            yield self._event("DELETE", None, self._known.pop(key))
        for key in changed:
            self._behind -= 1
            yield self._take(key, rows[key])

    def _read_patiently(self) -> Waiting[dict[Any, dict[str, Any]]]:
        """The rows, however long the server is away; as they are known, once the loop was ended."""
        attempt = 0
        while True:
            try:
                return (yield from work(self._read))
            except (APIConnectionError, InternalServerError, RateLimitError) as error:
                log.info("the rows of %s could not be read and are tried again: %s", self._table, error)
            if not (yield from self._stream.pause(PAUSES[min(attempt, len(PAUSES) - 1)])):
                return dict(self._known)
            attempt += 1

    def _read(self) -> dict[Any, dict[str, Any]]:
        """All rows by key.

        A row that is deleted between two pages moves another one to a page that was read already. So pages are read
        again while there are changes, and what any pass found counts: the events of rows that are gone since then
        are still to come.
        """
        rows: dict[Any, dict[str, Any]] = {}
        for _ in range(MAX_PASSES):
            before, pages, totals, found = self._stream.taken, 0, set(), set()
            for page in self._query.pages():
                pages += 1
                totals.add(page.total)
                for row in page.data:
                    plain = _plain(row)
                    key = self._key_of(plain)
                    found.add(key)
                    if not _older(plain, rows.get(key)):
                        rows[key] = plain
            if pages <= 1:
                return {key: rows[key] for key in found}  # of one moment
            if totals == {len(found)} and self._stream.taken == before:
                return rows
        log.info("the rows of %s changed each time they were read", self._table)
        return rows

    def _key_of(self, row: Mapping[str, Any]) -> Any:
        if self._key not in row:
            raise InvalidRequestError(f"the rows of {self._table} have no column {self._key!r} to know them by")
        value = row[self._key]
        return value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)

    def _apply(self, event: RealtimePayload) -> Iterator[RealtimePayload]:
        if event.event == "DELETE" and event.old is not None:
            old = self._known.pop(self._key_of(event.old), None)
            if old is not None:
                yield self._event("DELETE", None, old, event.raw)
        elif event.new is not None:
            if event.old is not None and self._key_of(event.old) != self._key_of(event.new):
                gone = self._known.pop(self._key_of(event.old), None)
                if gone is not None:
                    yield self._event("DELETE", None, gone)
            key = self._key_of(event.new)
            if not self._has(key, event.new):  # read with the rows already, before its event came
                yield self._take(key, event.new, event.raw)

    def _has(self, key: Any, row: dict[str, Any]) -> bool:
        """Whether ``row``, or a later state of it, was given."""
        known = self._known.get(key)
        return known == row or _older(row, known)

    def _take(self, key: Any, row: dict[str, Any], raw: dict[str, Any] | None = None) -> RealtimePayload:
        old = self._known.get(key)
        self._known[key] = row
        return self._event("INSERT" if old is None else "UPDATE", row, old, raw)

    def _event(
        self, kind: str, new: dict[str, Any] | None, old: dict[str, Any] | None, raw: dict[str, Any] | None = None
    ) -> RealtimePayload:
        # The event's own `old` may be of a moment that was never given, where the row was read after it.
        made = {"event": kind, "table": self._table, "new": new, "old": old}
        return RealtimePayload(kind, self._table, new, old, made if raw is None else raw)


def _older(row: Mapping[str, Any], known: Mapping[str, Any] | None) -> bool:
    """Whether ``row`` is of an earlier moment than what is known, as far as the rows tell."""
    if known is None:
        return False
    mine, theirs = row.get("updated_at"), known.get("updated_at")
    return isinstance(mine, str) and isinstance(theirs, str) and mine < theirs


def _plain(row: Any) -> dict[str, Any]:
    return dict(row) if isinstance(row, Mapping) else dict(row.model_dump(mode="json"))
