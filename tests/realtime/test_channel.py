"""A channel as its user sees it: what it says of itself, waiting for one event to the last moment, and following."""

from __future__ import annotations

import inspect
import time
from typing import Any, Dict, Iterator, List, Optional

import pytest

from selfdb.core.clock import Clock
from selfdb.exceptions import APITimeoutError, InvalidRequestError, PermissionDeniedError, RealtimeError
from selfdb.models import RealtimePayload
from selfdb.realtime import Channel, EventStream
from selfdb.realtime import channel as channel_module
from selfdb.realtime.payloads import resync_mark
from tests.core.kit import Background, wait_until
from tests.realtime.clients import TOPIC, Watched, client, phoenix, watched
from tests.realtime.phoenix import error

__all__ = ["client", "phoenix", "watched"]

MARK = resync_mark(TOPIC)
Row = Dict[str, Any]


def event(number: int, kind: str = "INSERT") -> RealtimePayload:
    return RealtimePayload(kind, "orders", {"id": number}, None, {})


# What it says of itself


def test_how_long_each_wait_is_where_nothing_is_said() -> None:
    def default(name: str, parameter: str = "timeout") -> Any:
        return inspect.signature(getattr(Channel, name)).parameters[parameter].default

    assert [default(name) for name in ("subscribe", "unsubscribe", "push", "wait_for")] == [10.0] * 4
    assert default("events") is None, "a loop goes on until it is ended"
    assert default("events", "maxsize") == 10_000


def test_it_is_shown_with_its_topic_and_state(watched: Watched) -> None:
    channel = watched.realtime.channel(TOPIC)
    assert repr(channel) == f"<Channel {TOPIC} closed>"
    watched.realtime.connect()
    channel.subscribe()
    assert repr(channel) == f"<Channel {TOPIC} joined>"


def test_it_is_alive_as_long_as_events_come_or_will_come_by_themselves(watched: Watched) -> None:
    server, realtime = watched.server, watched.realtime
    channel = realtime.channel(TOPIC)
    assert not channel.alive
    channel.subscribe()
    assert (channel.state, channel.alive) == ("joining", False), "nothing comes before somebody connects"
    server.joins[TOPIC] = [None]
    realtime.connect()
    server.wait(lambda: server.seen("phx_join"))
    assert (channel.state, channel.alive) == ("joining", True)
    channel.unsubscribe()
    assert not channel.alive
    channel.subscribe()
    assert (channel.state, channel.alive) == ("joined", True)
    server.refuse = [503] * 1000
    server.break_off()
    wait_until(lambda: realtime.state == "reconnecting")
    wait_until(lambda: channel.state == "errored")
    assert channel.alive, "it is joined again with the connection"
    server.refuse = []
    wait_until(lambda: channel.state == "joined")
    realtime.disconnect()
    assert not channel.alive


def test_callbacks_are_taken_away_one_after_another(watched: Watched) -> None:
    channel = watched.realtime.channel(TOPIC).on("INSERT", print).on("UPDATE", print).on("UPDATE", repr)
    assert channel.off("UPDATE").off("INSERT", print) is channel
    assert channel._handlers.idle


# Loops


def test_leaving_ends_loops_on_a_channel_that_was_never_joined(watched: Watched) -> None:
    channel = watched.realtime.channel(TOPIC)
    stream = channel.events()
    assert not stream.ended
    channel.unsubscribe()
    assert stream.ended
    assert list(stream) == []


def test_the_smallest_room_of_a_loop_holds_the_newest_event(watched: Watched) -> None:
    channel = watched.realtime.channel(TOPIC)
    with channel.events(timeout=0.01, maxsize=1) as stream:
        for number in range(3):
            channel._handlers.queued += 1
            channel._handlers.deliver(channel._handlers.queued, event(number))
        assert [each.new for each in stream] == [{"id": 2}]
        assert stream.resyncs == 1


def test_no_room_at_all_is_refused_in_words(watched: Watched) -> None:
    with pytest.raises(InvalidRequestError, match=r"^maxsize must be a whole number of 1 or more$"):
        watched.realtime.channel(TOPIC).events(maxsize=0)


# Waiting for one event


class Hands(Clock):
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def monotonic(self) -> float:
        return self.now


class Script:
    """What comes while somebody waits: an event, or the end; and how long he was ready to wait for each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.coming: List[Optional[RealtimePayload]] = []
        self.asked: List[Optional[float]] = []
        script = self

        class Scripted(EventStream):
            def next_event(self) -> Any:
                script.asked.append(self.timeout)
                coming = script.coming.pop(0) if script.coming else None
                if coming is not None:
                    self.put(coming, MARK)
                else:
                    self.end()
                return super().next_event()

        monkeypatch.setattr(channel_module, "EventStream", Scripted)


@pytest.fixture
def hands(watched: Watched) -> Hands:
    made = watched.realtime._clock = Hands()
    return made


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    return Script(monkeypatch)


def test_wait_for_anything_takes_the_first_event_that_is_right(watched: Watched, script: Script) -> None:
    channel = watched.realtime.channel(TOPIC)
    script.coming = [event(1), event(2, "UPDATE")]
    assert channel.wait_for("*") == event(1)
    script.coming = [event(1), event(2, "UPDATE"), event(3, "DELETE")]
    assert channel.wait_for("*", lambda payload: payload.event != "INSERT") == event(2, "UPDATE")
    script.coming = [event(1), event(2, "UPDATE"), event(3, "DELETE")]
    assert channel.wait_for("delete") == event(3, "DELETE")


def test_wait_for_gives_each_event_what_is_left_of_its_time(watched: Watched, hands: Hands, script: Script) -> None:
    """Events that are not the wanted one neither prolong the wait nor make it look as if the channel were left."""
    script.coming = [event(4), event(6)]

    def take_seconds(payload: RealtimePayload) -> bool:
        assert payload.new is not None
        hands.now += payload.new["id"]
        return False

    with pytest.raises(APITimeoutError, match=rf"^no INSERT came on {TOPIC} within 10 s$"):
        watched.realtime.channel(TOPIC).wait_for("INSERT", take_seconds)
    assert [round(seconds or 0.0, 3) for seconds in script.asked] == [10.0, 6.0, 0.0]


def test_wait_for_says_what_did_not_come_before_the_end(watched: Watched, hands: Hands, script: Script) -> None:
    script.coming = [event(1)]
    with pytest.raises(RealtimeError) as caught:
        watched.realtime.channel(TOPIC).wait_for("UPDATE")
    assert not isinstance(caught.value, APITimeoutError)
    assert caught.value.message == f"{TOPIC} was left, or the client disconnected, before UPDATE came"


# Following


class Rows:
    """A query for all rows of a table, which are what stands in ``rows`` when it is asked."""

    whole = True

    def __init__(self, *rows: Row) -> None:
        self.rows = list(rows)
        self.read_in_state: List[str] = []
        self.channel: Any = None

    def pages(self) -> Iterator[Any]:
        self.read_in_state.append(self.channel.state)
        yield type("Page", (), {"data": list(self.rows), "total": len(self.rows)})


def test_follow_joins_and_gives_the_rows_each_change_and_after_a_gap_the_difference(watched: Watched) -> None:
    server, rows = watched.server, Rows({"id": 1}, {"id": 2})
    watched.realtime.connect()
    rows.channel = channel = watched.realtime.channel(TOPIC)
    with channel.follow(rows) as changes:
        assert len(server.seen("phx_join")) == 1
        assert [(change.event, change.new) for change in (next(changes), next(changes))] == [
            ("INSERT", {"id": 1}),
            ("INSERT", {"id": 2}),
        ]
        server.insert(TOPIC, 3)
        assert next(changes).new == {"id": 3}
        rows.rows = [{"id": 2}, {"id": 3}, {"id": 4}]
        server.cut()
        missed = [next(changes), next(changes)]
        assert [(change.event, (change.new or change.old or {})["id"]) for change in missed] == [
            ("DELETE", 1),
            ("INSERT", 4),
        ]
        assert {change.table for change in missed} == {"orders"}
    assert rows.read_in_state == ["joined", "joined"]
    assert channel._handlers.idle


@pytest.mark.parametrize("topic, table", [(TOPIC, "orders"), ("lobby", "lobby")])
def test_follow_names_the_table_whose_rows_have_no_such_key(watched: Watched, topic: str, table: str) -> None:
    watched.realtime.connect()
    rows = Rows({"id": 1})
    rows.channel = watched.realtime.channel(topic)
    with pytest.raises(InvalidRequestError, match=rf"^the rows of {table} have no column 'name' to know them by$"):
        next(rows.channel.follow(rows, key="name"))
    assert next(rows.channel.follow(rows)).new == {"id": 1}


def test_follow_of_a_part_of_the_rows_is_refused_before_anything_is_sent(watched: Watched) -> None:
    watched.realtime.connect()
    part = Rows()
    part.whole = False
    channel = watched.realtime.channel(TOPIC)
    with pytest.raises(InvalidRequestError) as caught:
        channel.follow(part)
    assert caught.value.message == "follow() takes a query without search and page: changes carry neither"
    assert channel.state == "closed"
    assert watched.server.frames == []
    assert channel._handlers.idle


def test_follow_of_what_may_not_be_read_raises_and_leaves_no_loop_behind(watched: Watched) -> None:
    watched.realtime.connect()
    watched.server.joins[TOPIC] = [error("unauthorized")]
    channel, rows = watched.realtime.channel(TOPIC), Rows()
    with pytest.raises(PermissionDeniedError) as caught:
        channel.follow(rows)
    # Whoever keeps the error keeps, in its traceback, all that the call had made: that it is gone would prove nothing.
    assert caught.tb is not None
    assert channel._handlers.idle
    assert rows.read_in_state == []


def test_follow_waits_ten_seconds_to_be_joined(watched: Watched, hands: Hands) -> None:
    realtime, server = watched.realtime, watched.server
    realtime.connect()
    server.joins[TOPIC] = [None]
    channel = realtime.channel(TOPIC)
    following = Background(lambda: channel.follow(Rows()))
    server.wait(lambda: server.seen("phx_join"))
    hands.now += 9.9
    realtime._link.wake()
    assert channel.state == "joining"
    hands.now += 0.2
    realtime._link.wake()
    assert isinstance(following.result(), APITimeoutError)
    assert channel.state == "closed"
