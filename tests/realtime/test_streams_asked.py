"""Asking a stream of events instead of looping over it, and what a followed change says of its row."""

from __future__ import annotations

import threading
from typing import Any, Dict, Iterator, List, Optional

import pytest

from selfdb import RealtimeError
from selfdb.models import RealtimePayload
from selfdb.realtime import EventStream
from selfdb.realtime.follow import Follower
from selfdb.realtime.payloads import resync_mark

MARK = resync_mark("table:orders")
Row = Dict[str, Any]


def stream(
    timeout: Optional[float] = 0.01, *, maxsize: int = 100, marks: bool = True, here: bool = False
) -> EventStream:
    return EventStream(timeout, maxsize, marks=marks, forget=lambda stream: None, forbidden_here=lambda: here)


def event(kind: str, new: Optional[Row], old: Optional[Row] = None) -> RealtimePayload:
    return RealtimePayload(kind, "orders", new, old, {"of": "the server"})


def test_a_silence_ends_nothing_when_a_stream_is_asked() -> None:
    events = stream()
    assert events.get() is None
    assert not events.ended
    events.put(event("INSERT", {"id": 1}), MARK)
    got = events.get()
    assert got is not None
    assert got.new == {"id": 1}
    assert events.get() is None
    events.put(MARK, MARK)
    assert events.get() == MARK


def test_a_stream_has_ended_once_all_of_it_was_given() -> None:
    events = stream(None)
    events.put(event("INSERT", {"id": 1}), MARK)
    events.end()
    assert not events.ended
    assert events.get() is not None
    assert events.ended
    assert events.get() is None  # at once, though there is no time-out


def test_the_error_that_ends_a_stream_is_given_once_and_last() -> None:
    events = stream(None)
    events.put(event("INSERT", {"id": 1}), MARK)
    events.end(RealtimeError("the table is gone"))
    assert events.get() is not None
    assert not events.ended
    with pytest.raises(RealtimeError, match="the table is gone"):
        events.get()
    assert events.ended
    assert events.get() is None


def test_whoever_waits_is_woken_by_an_event_and_by_the_end() -> None:
    events, got = stream(None), []

    def ask() -> None:
        while not events.ended:
            got.append(events.get())

    thread = threading.Thread(target=ask)
    thread.start()
    events.put(event("DELETE", None, {"id": 1}), MARK)
    events.close()
    thread.join(60)
    assert not thread.is_alive()
    assert [each and each.event for each in got] in (["DELETE"], ["DELETE", None])


def test_a_callback_cannot_ask() -> None:
    with pytest.raises(RealtimeError, match="callback cannot wait"):
        stream(here=True).get()


class Query:
    """Rows as they are found, one list for each time that they are read."""

    whole = True

    def __init__(self, *readings: List[Row]) -> None:
        self._readings = list(readings)

    def pages(self) -> Iterator[Any]:
        rows = self._readings.pop(0)
        yield type("Page", (), {"data": rows, "total": len(rows)})


def test_old_is_the_row_as_it_was_given_even_if_events_lag_behind_what_was_read() -> None:
    events = stream()
    first, second, third = ({"id": 1, "state": state} for state in ("new", "paid", "sent"))
    # All of it happened before the rows were read; rows without times cannot be told to be newer.
    events.put(event("UPDATE", second, first), MARK)
    events.put(event("UPDATE", third, second), MARK)
    events.put(event("DELETE", None, second), MARK)
    given = list(Follower(events, Query([third]), "id", "orders"))
    assert [change.event for change in given] == ["INSERT", "UPDATE", "UPDATE", "DELETE"]
    before: Optional[Row] = None
    for change in given:
        assert change.old == before
        before = change.new
    assert given[1].raw == {"of": "the server"}
