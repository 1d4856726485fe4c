"""What hangs on a channel: who is called, in what order, and what is said of events that were lost."""

from __future__ import annotations

import threading
from typing import Any, List

import pytest

from selfdb.exceptions import InvalidRequestError, RealtimeError
from selfdb.models import RealtimePayload
from selfdb.realtime.events import EventStream
from selfdb.realtime.handlers import Delivery, Handlers
from tests.realtime.kit import TOPIC


def payload(name: str = "INSERT", number: Any = 0) -> RealtimePayload:
    return RealtimePayload(name, "orders", {"id": number}, None, {})


class Kit:
    """Handlers with one callback for all and one for marks; ``got`` has what they were given."""

    def __init__(self) -> None:
        self.errors: List[BaseException] = []
        self.got: List[Any] = []
        self.handlers = Handlers(TOPIC, self.errors.append)
        self.handlers.on("*", lambda given: self.got.append(given.new["id"] if given.new else None))
        self.handlers.on("resync", lambda given: self.got.append(given.event))

    def deliver(self, number: int) -> None:
        self.handlers.deliver(number, payload(number=number))

    def stream(self) -> EventStream:
        made = EventStream(0.0, 100, marks=True, forget=self.handlers.remove_stream, forbidden_here=lambda: False)
        self.handlers.add_stream(made)
        return made


def numbered(handlers: Handlers) -> int:
    """The number of one more event."""
    handlers.queued += 1
    return handlers.queued


@pytest.fixture
def kit() -> Kit:
    return Kit()


def test_the_specific_come_first_and_each_is_called_once(kit: Kit) -> None:
    order: List[str] = []
    handlers = Handlers(TOPIC, kit.errors.append)
    handlers.on("*", lambda given: order.append("all"))
    handlers.on("Insert", lambda given: order.append("insert"))
    handlers.on("UPDATE", lambda given: order.append("update"))
    handlers.deliver(1, payload("INSERT"))
    handlers.deliver(2, payload("*"))
    assert order == ["insert", "all", "all"]


def test_what_one_callback_takes_away_is_not_called_for_the_same_event(kit: Kit) -> None:
    handlers = Handlers(TOPIC, kit.errors.append)
    calls: List[str] = []

    def first(given: Any) -> None:
        calls.append("first")
        handlers.off("INSERT", second)
        handlers.on("INSERT", fourth)
        handlers.off("*", None)

    def second(given: Any) -> None:
        calls.append("second")

    def third(given: Any) -> None:
        calls.append("third")

    def fourth(given: Any) -> None:
        calls.append("fourth")

    for callback in (first, second, third):
        handlers.on("INSERT", callback)
    handlers.on("*", second)
    handlers.deliver(1, payload())
    assert calls == ["first", "third"]  # what is added is for the next event
    handlers.deliver(2, payload())
    assert calls == ["first", "third", "first", "third", "fourth"]


@pytest.mark.parametrize("kind", [RuntimeError, SystemExit, KeyboardInterrupt])
def test_a_callback_that_would_leave_leaves_the_others_their_event(kit: Kit, kind: type) -> None:
    stream = kit.stream()

    def leave(given: Any) -> None:
        raise kind("enough")

    kit.handlers.on("INSERT", leave)
    kit.deliver(1)
    assert kit.got == [1]
    assert [type(error) for error in kit.errors] == [kind]
    assert stream.taken == 1


def test_a_callback_that_is_added_twice_is_called_once() -> None:
    calls: List[Any] = []
    handlers = Handlers(TOPIC, calls.append)
    handlers.on("INSERT", calls.append)
    handlers.on("insert", calls.append)
    handlers.deliver(1, payload())
    assert len(calls) == 1


@pytest.mark.parametrize("event", ["", None, 5])
def test_wrong_events(kit: Kit, event: Any) -> None:
    for call in (lambda: kit.handlers.on(event, print), lambda: kit.handlers.off(event, None)):
        with pytest.raises(InvalidRequestError):
            call()


def test_wrong_callbacks(kit: Kit) -> None:
    with pytest.raises(InvalidRequestError):
        kit.handlers.on("INSERT", "not callable")  # type: ignore[arg-type]


def test_off_what_was_never_on(kit: Kit) -> None:
    kit.handlers.off("DELETE", print)
    kit.handlers.off("DELETE", None)
    assert not kit.handlers.idle


def test_idle_is_who_has_no_listener() -> None:
    handlers = Handlers(TOPIC, print)
    assert handlers.idle
    handlers.on("INSERT", print)
    assert not handlers.idle
    handlers.off("INSERT", print)
    assert handlers.idle


def test_a_callback_may_change_the_callbacks(kit: Kit) -> None:
    handlers = Handlers(TOPIC, kit.errors.append)
    got: List[str] = []

    def once(given: Any) -> None:
        got.append("once")
        handlers.off("INSERT", once)
        handlers.on("INSERT", lambda given: got.append("new"))

    handlers.on("INSERT", once)
    handlers.deliver(1, payload())
    handlers.deliver(2, payload())
    assert got == ["once", "new"]


def test_a_hole_in_the_numbers_is_announced_before_the_next_event(kit: Kit) -> None:
    kit.deliver(1)
    kit.deliver(4)
    assert kit.got == [1, "resync", 4]
    assert [str(error).split(": ")[0] for error in kit.errors] == [f"2 events of {TOPIC} dropped"]
    assert isinstance(kit.errors[0], RealtimeError)
    kit.deliver(6)
    assert str(kit.errors[1]).startswith("1 event of")


def test_losses_in_a_row_are_announced_together(kit: Kit) -> None:
    announce = [kit.handlers.dropped(number) for number in (1, 2, 3)]
    assert announce[1:] == [None, None]
    assert announce[0] is not None
    announce[0]()
    kit.handlers.catch_up(3)
    assert kit.got == ["resync"]
    assert len(kit.errors) == 1


def test_losses_with_events_between_them_are_announced_apart(kit: Kit) -> None:
    first, second = kit.handlers.dropped(2), kit.handlers.dropped(4)
    assert first is not None
    assert second is not None
    kit.deliver(1)
    first()
    kit.deliver(3)
    second()
    assert kit.got == [1, "resync", 3, "resync"]
    assert len(kit.errors) == 2


def test_a_loss_after_an_announcement_is_one_of_its_own(kit: Kit) -> None:
    first = kit.handlers.dropped(1)
    assert first is not None
    first()
    assert kit.handlers.dropped(2) is not None


def test_what_is_forgotten_is_no_loss(kit: Kit) -> None:
    for _ in range(5):
        numbered(kit.handlers)
    kit.handlers.forget()
    kit.deliver(numbered(kit.handlers))
    assert kit.got == [6]
    assert kit.errors == []


def test_streams_get_what_comes_while_they_are_there(kit: Kit) -> None:
    kit.deliver(1)
    stream = kit.stream()
    kit.deliver(2)
    kit.handlers.resync()
    stream_of_later = kit.stream()
    kit.handlers.end_streams(None)
    kit.deliver(3)
    assert [event.event for event in stream] == ["INSERT", "resync"]
    assert list(stream_of_later) == []


def test_a_farewell_is_for_those_that_were_there(kit: Kit) -> None:
    old = kit.stream()
    end = kit.handlers.farewell(RealtimeError("over"))
    new = kit.stream()
    kit.deliver(1)
    end()
    kit.deliver(2)
    assert next(old).new == {"id": 1}
    with pytest.raises(RealtimeError, match="over"):
        next(old)
    assert [event.new for event in new] == [{"id": 1}, {"id": 2}]


def test_a_forked_child_keeps_callbacks_and_nothing_else(kit: Kit) -> None:
    stream = kit.stream()
    numbered(kit.handlers)
    kit.handlers._lock.acquire()  # as a thread of the parent may have
    kit.handlers.renew_in_child()
    assert list(stream) == []
    done = threading.Thread(target=lambda: kit.deliver(numbered(kit.handlers)))
    done.start()
    done.join(60)
    assert kit.got == [2]
    assert kit.errors == []


def test_callbacks_that_raise(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    kit.handlers.on("INSERT", lambda given: 1 / 0)
    kit.deliver(1)
    assert kit.got == [1]
    assert [type(error) for error in kit.errors] == [ZeroDivisionError]
    assert [record.name for record in caplog.records] == ["selfdb.realtime"]


def test_a_loop_that_was_left_takes_its_stream_along(kit: Kit) -> None:
    kit.handlers = Handlers(TOPIC, kit.errors.append)
    assert kit.handlers.idle
    stream = kit.stream()
    assert not kit.handlers.idle
    del stream
    assert kit.handlers.idle


def test_who_wants_an_event() -> None:
    handlers = Handlers(TOPIC, print)
    assert not handlers.wants("INSERT", {}, 10)
    handlers.on("INSERT", print)
    assert handlers.wants("INSERT", {}, 10)
    assert handlers.wants("presence_of_mind", {}, 10)
    assert not handlers.wants("presence_state", {"key": {"metas": [{"phx_ref": "1"}]}}, 10)
    assert list(handlers.presence.snapshot()) == ["key"]
    handlers.off("INSERT", print)
    handlers.off("INSERT", print)
    assert not handlers.wants("INSERT", {}, 10)


def test_a_delivery_is_a_job_with_a_number(kit: Kit) -> None:
    queued: List[Any] = []
    first, second, third = (Delivery(kit.handlers, payload(number=n), 10 + n, queued.append) for n in range(3))
    assert (first.size, third.size, first.droppable) == (10, 12, True)
    first.run()
    second.dropped()
    third.dropped()
    assert [job.droppable for job in queued] == [False]  # one word for a run of losses
    queued[0].run()
    assert kit.got == [0, "resync"]
    assert [str(error) for error in kit.errors] == [
        f"2 events of {TOPIC} dropped: the callbacks are slower than the server"
    ]
    third.run()
    assert kit.got == [0, "resync"]
