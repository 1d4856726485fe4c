"""Channels as a program uses them: subscribing, callbacks, loops, gaps, and callbacks that are too slow."""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
from typing import Any, List

import pytest

from selfdb.exceptions import (
    APITimeoutError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    RealtimeError,
)
from tests.core.kit import Background, wait_until
from tests.realtime.clients import TOPIC, Watched, client, phoenix, watched
from tests.realtime.phoenix import error
from tests.servers.scripted import PeerGone

__all__ = ["client", "phoenix", "watched"]


def row(number: int, name: str = "INSERT") -> Any:
    return {"event": name, "table": "orders", "new": {"id": number}, "old": None}


def joined(watched: Watched, topic: str = TOPIC, **options: Any) -> Any:
    watched.realtime.connect(**options)
    return watched.realtime.channel(topic).subscribe()


# Subscribing


def test_c103_subscribe_sends_the_join_and_returns_the_channel_after_its_ok(watched: Watched) -> None:
    watched.realtime.connect()
    channel = watched.realtime.channel(TOPIC)
    assert channel.state == "closed"
    assert not channel.alive
    assert channel.subscribe() is channel is watched.realtime.channel(TOPIC)
    (frame,) = watched.server.frames
    assert frame == [frame[0], frame[0], TOPIC, "phx_join", {}]
    assert channel.state == "joined"
    assert channel.alive
    channel.subscribe()
    assert len(watched.server.frames) == 1


def test_r24_before_the_first_connect_it_takes_note(watched: Watched) -> None:
    channel = watched.realtime.subscribe(TOPIC)
    assert channel.state == "joining"
    watched.realtime.connect()
    wait_until(lambda: channel.state == "joined")


def test_r24_what_was_noted_outlives_a_failed_connect(watched: Watched) -> None:
    channel = watched.realtime.channel(TOPIC).subscribe()
    watched.server.refuse = [500]
    with pytest.raises(Exception, match="refused"):
        watched.realtime.connect()
    assert channel.state == "joining"
    watched.realtime.connect()
    wait_until(lambda: channel.state == "joined")


def test_r24_a_refusal_that_comes_late_is_reported(watched: Watched) -> None:
    watched.server.joins[TOPIC] = [error("unauthorized")]
    channel = watched.realtime.channel(TOPIC).subscribe()
    watched.realtime.connect()
    wait_until(lambda: bool(watched.errors))
    assert isinstance(watched.errors[0], PermissionDeniedError)
    assert channel.state == "closed"


@pytest.mark.parametrize(
    "reason, kind",
    [("unauthorized", PermissionDeniedError), ("table not found", NotFoundError), ("join crashed", RealtimeError)],
)
def test_c109_a_refused_join_is_raised(watched: Watched, reason: str, kind: type) -> None:
    watched.realtime.connect()
    watched.server.joins[TOPIC] = [error(reason)]
    channel = watched.realtime.channel(TOPIC)
    with pytest.raises(kind):
        channel.subscribe()
    assert channel.state == "closed"
    assert watched.errors == []
    channel.subscribe()
    assert channel.state == "joined"


def test_c109_a_mute_server_is_a_time_out(watched: Watched) -> None:
    watched.realtime.connect()
    watched.server.joins[TOPIC] = [None]
    channel = watched.realtime.channel(TOPIC)
    with pytest.raises(APITimeoutError):
        channel.subscribe(timeout=0.1)
    wait_until(lambda: channel.state == "closed")
    watched.server.wait(lambda: watched.server.seen("phx_leave"))


def test_r24_after_disconnect_nothing_joins_by_itself(watched: Watched) -> None:
    channel = joined(watched)
    watched.realtime.disconnect()
    assert channel.state == "closed"
    with pytest.raises(RealtimeError, match="connect"):
        channel.subscribe()
    watched.realtime.connect()
    assert channel.state == "closed"
    channel.subscribe()
    assert len(watched.server.seen("phx_join")) == 2
    assert watched.realtime.channel(TOPIC) is channel


def test_disconnect_ends_who_waits(watched: Watched) -> None:
    watched.realtime.connect()
    watched.server.joins[TOPIC] = [None]
    waiting = Background(watched.realtime.channel(TOPIC).subscribe)
    watched.server.wait(lambda: watched.server.seen("phx_join"))
    watched.realtime.disconnect()
    assert isinstance(waiting.result(), RealtimeError)


@pytest.mark.parametrize("topic", ["", None, 5])
def test_a_topic_has_to_be_one(watched: Watched, topic: Any) -> None:
    with pytest.raises(InvalidRequestError):
        watched.realtime.channel(topic)


def test_c116_unsubscribe_leaves_and_the_callbacks_stay(watched: Watched) -> None:
    got: List[Any] = []
    channel = joined(watched).on("INSERT", lambda payload: got.append(payload.new["id"]))
    ref = watched.server.join_ref(TOPIC)
    watched.realtime.unsubscribe(TOPIC)
    assert channel.state == "closed"
    (leave,) = watched.server.seen("phx_leave")
    assert leave[0] == ref
    watched.server.insert(TOPIC, 1)
    channel.subscribe()
    watched.server.insert(TOPIC, 2)
    wait_until(lambda: got == [2])
    channel.unsubscribe()
    channel.unsubscribe()


# Callbacks


def test_callbacks_come_in_the_order_of_arrival_the_specific_ones_first(watched: Watched) -> None:
    got: List[Any] = []
    channel = joined(watched)
    channel.on("*", lambda payload: got.append(("*", payload.new["id"])))
    channel.on("insert", lambda payload: got.append(("INSERT", payload.new["id"])))
    watched.realtime.on(TOPIC, "UPDATE", lambda payload: got.append(("UPDATE", payload.new["id"])))
    watched.server.say(TOPIC, "INSERT", row(1))
    watched.server.say(TOPIC, "update", row(2, "update"))
    watched.server.say(TOPIC, "phx_other", row(3))
    watched.server.say(TOPIC, "DELETE", row(4, "DELETE"))
    wait_until(lambda: len(got) == 5)
    assert got == [("INSERT", 1), ("*", 1), ("UPDATE", 2), ("*", 2), ("*", 4)]


@pytest.mark.parametrize(
    "frame",
    [
        [None, None, TOPIC, "insert", {"table": "orders", "new": {"id": 1}}],
        [None, None, TOPIC, "change", {"action": "INSERT", "table": "orders", "new_data": {"id": 1}}],
        [None, None, TOPIC, "broadcast", {"payload": {"action": "insert", "new_data": {"id": 1}}}],
        [None, None, TOPIC, "broadcast", {"payload": json.dumps({"event": "INSERT", "record": {"id": 1}})}],
        {"topic": TOPIC, "event": "INSERT", "payload": {"new": {"id": 1}}, "ref": None},
        {"type": "broadcast", "channel": TOPIC, "event": "INSERT", "payload": {"new": {"id": 1}}},
    ],
)
def test_c106_every_shape_of_a_server_calls_each_callback_once(watched: Watched, frame: Any) -> None:
    got: List[Any] = []
    channel = joined(watched)
    channel.on("INSERT", lambda payload: got.append(("INSERT", payload.table, payload.new)))
    channel.on("*", lambda payload: got.append(("*", payload.table, payload.new)))
    watched.server.live.send_json({"type": "subscribed", "channel": TOPIC})
    watched.server.live.send_json(frame)
    wait_until(lambda: len(got) == 2)
    assert got == [("INSERT", "orders", {"id": 1}), ("*", "orders", {"id": 1})]


def test_c118_malformed_frames_are_logged_and_ignored(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    got: List[Any] = []
    caplog.set_level("DEBUG", "selfdb.realtime")
    joined(watched).on("*", lambda payload: got.append(payload.raw))
    for junk in (b"not json", b"[1,2]", b"\xff\xfe", b'"text"'):
        watched.server.live.send(1, junk)
    watched.server.live.send(2, b"")
    watched.server.live.send(2, b"\x02" + bytes([len(TOPIC), 5]) + TOPIC.encode() + b"shout" + b"\x00\x01")
    wait_until(lambda: bool(got))
    assert got == [{"payload": b"\x00\x01"}]
    told = [record.levelname for record in caplog.records if "ignored" in record.getMessage()]
    assert told == ["WARNING", *["DEBUG"] * 4]  # however many there are, one line of a log is enough
    assert len(watched.server.sockets) == 1


def test_c107_a_raising_callback_stops_nothing(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    got: List[Any] = []
    channel = joined(watched)
    channel.on("INSERT", lambda payload: 1 / 0)
    channel.on("INSERT", lambda payload: got.append(payload.new["id"]))
    watched.server.insert(TOPIC, 1)
    watched.server.insert(TOPIC, 2)
    wait_until(lambda: got == [1, 2] and len(watched.errors) == 2)
    assert {type(error) for error in watched.errors} == {ZeroDivisionError}
    assert "selfdb.realtime" in {record.name for record in caplog.records if record.levelno == logging.ERROR}


def test_an_error_callback_that_raises_stops_nothing(watched: Watched) -> None:
    got: List[Any] = []
    watched.realtime.on_error(lambda error: 1 / 0)
    channel = joined(watched).on("INSERT", lambda payload: 1 / 0)
    channel.on("INSERT", lambda payload: got.append(1))
    watched.server.insert(TOPIC, 1)
    wait_until(lambda: got == [1])


def test_c108_off_takes_one_callback_away_or_all(watched: Watched) -> None:
    got: List[Any] = []
    calls = {name: (lambda payload, name=name: got.append((name, payload.new["id"]))) for name in "abc"}
    channel = joined(watched)
    for name in "abc":
        channel.on("INSERT", calls[name]).on("INSERT", calls[name])
    channel.off("insert", calls["b"])
    watched.server.insert(TOPIC, 1)
    wait_until(lambda: len(got) == 2)
    channel.off("INSERT")
    channel.on("*", calls["c"])
    watched.realtime.off(TOPIC, "INSERT", calls["a"])
    watched.server.insert(TOPIC, 2)
    wait_until(lambda: len(got) == 3)
    assert got == [("a", 1), ("c", 1), ("c", 2)]


def test_c119_anything_may_be_called_in_a_callback(watched: Watched) -> None:
    done: List[str] = []
    channel = joined(watched)

    def react(payload: Any) -> None:
        other = watched.realtime.channel("table:others").subscribe()
        done.append(other.state)
        other.unsubscribe()
        done.append(other.state)
        with pytest.raises(RealtimeError):
            next(channel.events(timeout=1))
        watched.realtime.disconnect()
        done.append(watched.realtime.state)
        watched.realtime.connect()
        done.append(watched.realtime.state)

    channel.on("INSERT", react)
    watched.server.insert(TOPIC, 1)
    wait_until(lambda: len(done) == 4)
    assert done == ["joined", "closed", "disconnected", "connected"]


def test_r20_disconnect_in_a_signal_handler(watched: Watched) -> None:
    channel = joined(watched)
    took: List[float] = []

    def on_alarm(number: int, stack: Any) -> None:
        began = time.monotonic()
        watched.realtime.disconnect()
        took.append(time.monotonic() - began)

    before = signal.signal(signal.SIGALRM, on_alarm)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        end = time.monotonic() + 15
        while not took and time.monotonic() < end:
            channel.state
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert took[0] < 10
    wait_until(lambda: watched.realtime.state == "disconnected")
    assert channel.state == "closed"


# Gaps


def test_c112_after_a_gap_there_is_one_mark_before_the_next_event(watched: Watched) -> None:
    got: List[Any] = []
    channel = joined(watched)
    channel.on("*", lambda payload: got.append(payload.new["id"]))
    channel.on("resync", lambda payload: got.append(payload.event))
    refs = [watched.server.join_ref(TOPIC)]
    watched.server.insert(TOPIC, 1)
    for number in (2, 3):
        wait_until(lambda number=number: got[-1:] == [number - 1])  # type: ignore[misc]
        watched.server.cut()
        watched.server.wait(lambda number=number: len(watched.server.seen("phx_join")) == number)
        wait_until(lambda: channel.state == "joined")
        refs.append(watched.server.join_ref(TOPIC))
        watched.server.insert(TOPIC, number)
    wait_until(lambda: got[-1:] == [3])
    assert got == [1, "resync", 2, "resync", 3]
    assert len(set(refs)) == 3


def test_r01_every_channel_is_joined_again(watched: Watched) -> None:
    watched.realtime.connect()
    channels = [watched.realtime.channel(f"table:t{number}").subscribe() for number in range(5)]
    watched.server.cut()
    wait_until(lambda: all(channel.state == "joined" for channel in channels))
    assert len(watched.server.seen("phx_join")) == 10


def test_c110_a_close_of_the_server_is_reported_and_ends_loops(watched: Watched) -> None:
    channel = joined(watched)
    stream = channel.events(timeout=15)
    watched.server.insert(TOPIC, 1)
    ref = watched.server.join_ref(TOPIC)
    watched.server.say(TOPIC, "phx_close", {}, ref)
    assert next(stream).new == {"id": 1}
    with pytest.raises(RealtimeError, match="closed the channel"):
        next(stream)
    assert list(stream) == []
    wait_until(lambda: len(watched.errors) == 1)
    assert not channel.alive


# Loops and waiting


def test_a_loop_over_events(watched: Watched) -> None:
    channel = joined(watched)
    with channel.events() as stream:
        for number in range(3):
            watched.server.insert(TOPIC, number)
        assert [next(stream).new["id"] for _ in range(3)] == [0, 1, 2]
        threading.Timer(0.05, watched.realtime.disconnect).start()
        assert list(stream) == []


def test_a_loop_with_a_time_out(watched: Watched) -> None:
    channel = joined(watched)
    watched.server.insert(TOPIC, 0)
    assert list(watched.realtime.channel("table:others").events(timeout=0.05)) == []
    stream = channel.events(timeout=5)
    watched.server.insert(TOPIC, 1)
    assert next(stream).new["id"] in (0, 1)
    stream.close()


def test_a_loop_that_asks_for_marks_gets_them(watched: Watched) -> None:
    channel = joined(watched)
    plain, marked = channel.events(timeout=15), channel.events(timeout=15, resync=True)
    watched.server.cut()
    watched.server.wait(lambda: len(watched.server.seen("phx_join")) == 2)
    wait_until(lambda: channel.state == "joined")
    watched.server.insert(TOPIC, 1)
    assert [next(marked).event, next(marked).event] == ["resync", "INSERT"]
    assert next(plain).event == "INSERT"
    assert plain.resyncs == marked.resyncs == 1
    plain.close()
    marked.close()


@pytest.mark.parametrize("size", [0, -1, True, "5"])
def test_the_room_of_a_loop_has_to_be_a_number(watched: Watched, size: Any) -> None:
    with pytest.raises(InvalidRequestError):
        watched.realtime.channel(TOPIC).events(maxsize=size)


def test_wait_for(watched: Watched) -> None:
    channel = joined(watched)
    waiting = Background(lambda: channel.wait_for("update", lambda payload: payload.new["id"] > 1, timeout=15))
    wait_until(lambda: not channel._handlers.idle)
    for number in range(3):
        watched.server.insert(TOPIC, 5)
        watched.server.say(TOPIC, "UPDATE", row(number, "UPDATE"))
    assert waiting.result().new == {"id": 2}
    with pytest.raises(APITimeoutError, match="DELETE"):
        channel.wait_for("DELETE", timeout=0.05)


def test_wait_for_a_mark_is_not_content_with_an_event(watched: Watched) -> None:
    channel = joined(watched)
    waiting = Background(lambda: channel.wait_for("resync", timeout=15))
    wait_until(lambda: not channel._handlers.idle)
    watched.server.insert(TOPIC, 1)
    watched.server.cut()
    assert waiting.result().event == "resync"


def test_wait_for_says_when_the_channel_was_left(watched: Watched) -> None:
    channel = joined(watched)
    waiting = Background(lambda: channel.wait_for("*", timeout=15))
    wait_until(lambda: not channel._handlers.idle)
    channel.unsubscribe()
    assert isinstance(waiting.result(), RealtimeError)


# Pushing and presence


def test_push_waits_for_the_response(watched: Watched) -> None:
    watched.server.pushes = {"shout": {"status": "ok", "response": {"n": 1}}, "bad": error("unknown event")}
    channel = joined(watched)
    assert channel.push("shout", {"a": [1]}) == {"n": 1}
    (frame,) = watched.server.seen("shout")
    assert frame[0] == watched.server.join_ref(TOPIC)
    assert frame[4] == {"a": [1]}
    with pytest.raises(RealtimeError, match="unknown event"):
        channel.push("bad", {})
    with pytest.raises(APITimeoutError):
        channel.push("mute", {}, timeout=0.05)


def test_c118_bytes_are_pushed_as_a_binary_frame(watched: Watched) -> None:
    channel = joined(watched)
    pushing = Background(lambda: channel.push("raw", b"\x00\xff", timeout=15))
    watched.server.wait(lambda: watched.server.seen("binary"))
    (frame,) = watched.server.seen("binary")
    assert frame[4].endswith(TOPIC.encode() + b"raw" + b"\x00\xff")
    watched.realtime.disconnect()
    assert isinstance(pushing.result(), RealtimeError)


@pytest.mark.parametrize(
    "name, payload",
    [("x", object()), ("x", float("nan")), ("x", "\ud800"), ("phx_leave", {}), ("", {}), (5, {}), ("x" * 300, b"")],
)
def test_what_cannot_be_sent_is_refused_before_anything_is(watched: Watched, name: Any, payload: Any) -> None:
    channel = joined(watched)
    with pytest.raises(InvalidRequestError):
        channel.push(name, payload)
    channel.subscribe()
    assert len(watched.server.frames) == 1


def test_a_push_without_a_channel_is_a_mistake(watched: Watched) -> None:
    watched.realtime.connect()
    with pytest.raises(RealtimeError, match="subscribe"):
        watched.realtime.channel(TOPIC).push("shout", {})


def test_presence(watched: Watched) -> None:
    channel = joined(watched)
    assert channel.presence == {}
    watched.server.say(TOPIC, "presence_state", {"ann": {"metas": [{"phx_ref": "1"}]}})
    watched.server.say(TOPIC, "presence_diff", {"joins": {"bob": {"metas": [{"phx_ref": "2"}]}}, "leaves": {}})
    wait_until(lambda: set(channel.presence) == {"ann", "bob"})


# Callbacks that are too slow


class Slow:
    """A callback that stands until ``release``; ``entered`` says that it does."""

    def __init__(self) -> None:
        self.got: List[Any] = []
        self.entered = threading.Event()
        self.gate = threading.Event()

    def __call__(self, payload: Any) -> None:
        self.entered.set()
        assert self.gate.wait(30)
        self.got.append(payload.event if payload.new is None else payload.new["id"])


@pytest.fixture
def slow() -> Any:
    made = Slow()
    yield made
    made.gate.set()


def flood(watched: Watched, slow: Slow, count: int, *, blocks: bool = False) -> None:
    """One event that the callback stands in, and ``count`` behind it, all of them read unless that is stopped."""
    watched.server.insert(TOPIC, 0)
    assert slow.entered.wait(60)
    handlers = watched.realtime.channel(TOPIC)._handlers
    for number in range(1, count + 1):
        watched.server.insert(TOPIC, number)
    if blocks:
        wait_until(lambda: bool(watched.realtime._held))
    else:
        watched.server.pushes["are you there"] = {"status": "ok", "response": {}}
        watched.realtime.channel(TOPIC).push("are you there", {})  # answered behind them
        assert handlers.queued == count + 1


def reports(watched: Watched) -> List[str]:
    return [str(error).split(": ")[0] for error in watched.errors]


def test_r25_the_oldest_go_and_the_report_is_exact(watched: Watched, slow: Slow) -> None:
    joined(watched, max_items=10).on("INSERT", slow).on("resync", slow)
    flood(watched, slow, 100)
    slow.gate.set()
    wait_until(lambda: slow.got[-1:] == [100])
    assert slow.got == [0, "resync", *range(91, 101)]
    assert reports(watched) == [f"90 events of {TOPIC} dropped"]
    assert not watched.realtime._dispatcher._jobs


def test_r25_the_newest_go_and_the_report_is_exact(watched: Watched, slow: Slow) -> None:
    joined(watched, overflow="drop_newest", max_items=10).on("INSERT", slow).on("resync", slow)
    flood(watched, slow, 100)
    assert len(watched.realtime._dispatcher._jobs) == 11  # ten events and one word for all that were dropped
    slow.gate.set()
    wait_until(lambda: slow.got[-1:] == ["resync"])
    watched.server.insert(TOPIC, 101)
    wait_until(lambda: slow.got[-1:] == [101])
    assert slow.got == [*range(11), "resync", 101]
    assert reports(watched) == [f"90 events of {TOPIC} dropped"]


def test_r25_block_stops_reading_and_loses_nothing_within_its_time(watched: Watched, slow: Slow) -> None:
    joined(watched, overflow="block", max_items=10, block_seconds=8).on("INSERT", slow)
    flood(watched, slow, 100, blocks=True)
    assert len(watched.realtime._dispatcher._jobs) == 10
    slow.gate.set()
    wait_until(lambda: slow.got == list(range(101)))
    assert watched.errors == []


def test_r25_block_has_a_limit(watched: Watched, slow: Slow) -> None:
    joined(watched, overflow="block", max_items=10, block_seconds=0.05).on("INSERT", slow)
    flood(watched, slow, 50)
    wait_until(lambda: not watched.realtime._held)
    slow.gate.set()
    wait_until(lambda: slow.got[-1:] == [50])
    assert slow.got == [0, *range(41, 51)]
    wait_until(lambda: reports(watched) == [f"40 events of {TOPIC} dropped"])


def test_r25_disconnect_is_final_and_said(watched: Watched, slow: Slow) -> None:
    channel = joined(watched, overflow="disconnect", max_items=10).on("INSERT", slow)
    watched.server.insert(TOPIC, 0)
    assert slow.entered.wait(60)
    for number in range(1, 30):
        try:
            watched.server.insert(TOPIC, number)
        except PeerGone:
            break  # it has gone already
    wait_until(lambda: watched.realtime.state == "disconnected")
    assert channel.state == "closed"
    slow.gate.set()
    wait_until(lambda: len(watched.errors) == 1)
    assert slow.got == list(range(11))
    assert "disconnected" in str(watched.errors[0])


def test_r25_many_drops_take_no_room(watched: Watched, slow: Slow) -> None:
    joined(watched, max_items=5).on("INSERT", slow)
    joined(watched, "table:others").on("INSERT", slow)
    watched.server.insert(TOPIC, 0)
    assert slow.entered.wait(60)
    for number in range(200):
        watched.server.insert(TOPIC, number)
        watched.server.insert("table:others", number)
    others = watched.realtime.channel("table:others")._handlers
    wait_until(lambda: others.queued == 200)
    assert len(watched.realtime._dispatcher._jobs) <= 5 + 2


def test_what_disconnect_threw_away_is_no_loss(watched: Watched, slow: Slow) -> None:
    channel = joined(watched).on("INSERT", slow)
    flood(watched, slow, 20)
    watched.realtime.disconnect()
    watched.realtime.connect()
    channel.subscribe()
    slow.gate.set()
    watched.server.insert(TOPIC, "new")
    wait_until(lambda: slow.got[-1:] == ["new"])
    assert slow.got == [0, "new"]
    assert watched.errors == []


def test_events_that_nobody_hears_cost_nothing(watched: Watched) -> None:
    channel = joined(watched)
    for number in range(10):
        watched.server.insert(TOPIC, number)
    watched.server.pushes = {"ping": {"status": "ok", "response": {}}}
    channel.push("ping", {})
    assert channel._handlers.queued == 0
