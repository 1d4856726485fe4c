"""The loop over events: its bounds, its marks, its end, and the threads around it."""

from __future__ import annotations

import threading
from typing import Any, List

import pytest

from selfdb.core.waits import finish
from selfdb.exceptions import RealtimeError
from selfdb.models import RealtimePayload
from selfdb.realtime.events import EventStream
from selfdb.realtime.payloads import resync_mark
from tests.core.kit import Background

MARK = resync_mark("table:orders")


def event(number: int) -> RealtimePayload:
    return RealtimePayload("INSERT", "orders", {"id": number}, None, {})


def stream(timeout: Any = 0.0, maxsize: int = 100, *, marks: bool = False, forbidden: bool = False) -> EventStream:
    return EventStream(timeout, maxsize, marks=marks, forget=forgotten.append, forbidden_here=lambda: forbidden)


forgotten: List[EventStream] = []


def numbers(given: EventStream) -> List[Any]:
    return [payload.new["id"] if payload.new else payload.event for payload in given]


def test_events_in_order() -> None:
    events = stream()
    for number in range(5):
        events.put(event(number), MARK)
    assert numbers(events) == [0, 1, 2, 3, 4]
    assert forgotten[-1] is events


def test_marks_are_counted_and_given_to_who_asks() -> None:
    for marks, expected in ((False, [1, 2]), (True, [1, "resync", 2])):
        events = stream(marks=marks)
        for given in (event(1), MARK, event(2)):
            events.put(given, MARK)
        assert numbers(events) == expected
        assert events.resyncs == 1


def test_the_oldest_go_and_a_mark_takes_their_place() -> None:
    for marks, expected in ((False, [7, 8, 9]), (True, ["resync", 7, 8, 9])):
        events = stream(maxsize=3, marks=marks)
        for number in range(10):
            events.put(event(number), MARK)
        assert numbers(events) == expected
        assert events.resyncs == 1


def test_a_second_overflow_counts_again() -> None:
    events = stream(maxsize=1, marks=True)
    events.put(event(0), MARK)
    events.put(event(1), MARK)
    assert next(events) is MARK
    events.put(event(2), MARK)
    assert next(events) is MARK
    assert next(events).new == {"id": 2}
    assert events.resyncs == 2


def test_the_end_comes_behind_what_is_buffered_and_an_error_once() -> None:
    events = stream()
    events.put(event(1), MARK)
    events.end(RealtimeError("over"))
    events.end(RealtimeError("too late"))
    events.put(event(2), MARK)
    assert next(events).new == {"id": 1}
    with pytest.raises(RealtimeError, match="over"):
        next(events)
    assert list(events) == []


def test_it_waits_for_an_event() -> None:
    events = stream(timeout=None)
    waiting = Background(lambda: next(events))
    events.put(event(1), MARK)
    assert waiting.result().new == {"id": 1}


def test_any_thread_may_close_it() -> None:
    events = stream(timeout=None)
    waiting = Background(lambda: list(events))
    threading.Timer(0.02, events.close).start()
    assert waiting.result() == []
    events.close()


def test_with_closes_it() -> None:
    with stream() as events:
        pass
    events.put(event(1), MARK)
    assert list(events) == []
    assert iter(events) is events


def test_a_silence_ends_the_loop_but_not_the_asking() -> None:
    events = stream(timeout=0.01)
    assert events.get() is None
    assert not events.ended
    events.put(event(1), MARK)
    assert events.get() == event(1)
    assert list(events) == []
    assert events.ended


def test_a_pause_ends_with_the_stream() -> None:
    events = stream()
    assert finish(events.pause(0.01))
    threading.Timer(0.02, events.close).start()
    assert not finish(events.pause(15))


def test_a_callback_cannot_wait() -> None:
    with pytest.raises(RealtimeError, match="callback"):
        next(stream(forbidden=True))
