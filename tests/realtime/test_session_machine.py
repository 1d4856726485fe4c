"""All channels of a connection, without a socket: refs, heartbeats, sleep and tokens."""

from __future__ import annotations

from typing import Any, List

import pytest

from selfdb.realtime.frames import Frame
from selfdb.realtime.session_machine import SessionMachine
from tests.realtime.kit import TOPIC, Session, W, delivered, drops, event, events, reply, sent


def beat_of(actions: Any) -> str:
    (frame,) = [frame for frame in sent(actions) if frame[3] == "heartbeat"]
    assert frame == [None, frame[1], "phoenix", "heartbeat", {}]
    return str(frame[1])


def answer(ref: str) -> Frame:
    return reply(ref, topic="phoenix")


def test_c114_a_heartbeat_each_thirty_seconds_after_the_answer() -> None:
    session = Session()
    session.open()
    assert session.wait(29.9) == []
    ref = beat_of(session.wait(0.1))
    session.wait(4)
    session.get(answer(ref))
    assert session.wait(29.9) == []
    again = beat_of(session.wait(0.1))
    assert int(again) == int(ref) + 1


def test_c114_without_an_answer_the_connection_is_dropped_after_ten_seconds() -> None:
    session = Session()
    session.open()
    beat_of(session.wait(30))
    assert session.wait(9.9) == []
    assert len(drops(session.wait(0.1))) == 1
    assert session.wait(100) == []


def test_r13_a_heartbeat_belongs_to_its_connection() -> None:
    session = Session()
    session.open()
    old = beat_of(session.wait(30))
    session.lose()
    assert session.wait(50) == []
    session.open()
    session.get(answer(old))
    assert session.wait(29.9) == []  # neither a drop for the old one nor a beat put off by its answer
    new = beat_of(session.wait(0.1))
    session.get(answer(old))
    assert len(drops(session.wait(10))) == 1
    assert new != old


@pytest.mark.parametrize("connections", [2, 10])
def test_r21_each_connection_beats(connections: int) -> None:
    session = Session()
    for _ in range(connections):
        session.open()
        session.get(answer(beat_of(session.wait(30))))
        assert len(drops(session.wait(29))) == 0
        session.lose()


@pytest.mark.parametrize("seconds", [3600.0, -3600.0, 31.0])
def test_r28_a_jump_of_the_wall_clock_beats_at_once(seconds: float) -> None:
    session = Session()
    session.open()
    session.wait(5)
    session.asleep += seconds
    ref = beat_of(session.wait(0))
    session.get(answer(ref))
    assert session.wait(29.9) == []


def test_r28_a_small_correction_of_the_clock_is_none() -> None:
    session = Session()
    session.open()
    session.wait(5)
    session.asleep += 29
    assert session.wait(1) == []


def test_r28_a_jump_while_a_beat_is_under_way_sends_no_second_one() -> None:
    session = Session()
    session.open()
    beat_of(session.wait(30))
    session.asleep += 3600
    assert session.wait(1) == []
    assert len(drops(session.wait(9))) == 1


def test_a_jump_without_a_connection_is_nothing() -> None:
    session = Session()
    session.wait(1)
    session.asleep += 3600
    assert session.wait(1) == []


def test_while_nothing_is_read_an_answer_cannot_be_missed() -> None:
    session = Session()
    session.open()
    session.machine.hold_beat(session.now)
    beat_of(session.wait(30))
    session.wait(8)
    session.machine.hold_beat(session.now)
    assert drops(session.wait(9.9)) == []
    assert len(drops(session.wait(0.1))) == 1


def test_refs_count_upwards_over_all_channels_and_connections() -> None:
    session = Session()
    session.open()
    refs: List[Any] = []
    for topic in ("a", "b"):
        refs += [frame[1] for frame in sent(session.join(topic=topic))]
    session.lose()
    refs += [frame[1] for frame in sent(session.open())]
    assert refs == ["1", "2", "3", "4"]


def test_channels_do_not_hear_each_other() -> None:
    session = Session().joined()
    session.join(topic="table:others")
    assert session.get(Frame(None, None, "table:others", "INSERT", 1)) == []
    assert session.get(Frame(None, None, "table:nobody", "INSERT", 1)) == []
    assert delivered(session.get(event(2))) == [2]


def test_a_channel_that_is_made_while_connected_joins_at_once() -> None:
    session = Session()
    session.open()
    assert events(session.join(W(), topic="late")) == ["phx_join"]
    assert session.machine.channel("late") is session.machine.channels["late"]


def accepting(session: Session, topic: str, *names: str) -> None:
    session.join(topic=topic)
    ref = session.machine.channel(topic).join_ref
    session.get(reply(ref, response={"accepts": list(names)}, join_ref=ref, topic=topic))


def test_r29_a_token_goes_to_the_channels_whose_server_takes_it() -> None:
    session = Session()
    session.open()
    assert session.machine.takes_token() is False
    accepting(session, "a", "access_token")
    assert session.machine.takes_token() is True
    assert sent(session.machine.push_token("fresh")) == [["1", "2", "a", "access_token", {"access_token": "fresh"}]]
    accepting(session, "b", "something else")
    assert session.machine.takes_token() is False
    assert [frame[2] for frame in sent(session.machine.push_token("fresh"))] == ["a"]


@pytest.mark.parametrize("response", [{"accepts": "access_token"}, {"accepts": None}, "access_token", {}])
def test_r29_only_a_list_says_what_is_accepted(response: Any) -> None:
    session = Session()
    session.open()
    session.join()
    session.get(reply("1", response=response, join_ref="1"))
    assert session.machine.takes_token() is False
    assert session.machine.push_token("fresh") == []


def test_the_next_time_is_the_earliest() -> None:
    assert SessionMachine().next_due() is None
    session = Session().joined()
    assert session.machine.next_due() == session.now + 30
    session.push(W(), timeout=3)
    assert session.machine.next_due() == session.now + 3
    session.get(Frame("1", "1", TOPIC, "phx_error", {}))
    assert session.machine.next_due() == session.now + 1


@pytest.mark.parametrize("short", [True, False])
def test_events_put_the_end_of_a_heartbeat_off_but_not_for_ever(short: bool) -> None:
    """On the short way of an event too, where the machine is only told that something came."""
    session = Session().joined()
    beat_of(session.wait(30))
    for _ in range(3):
        assert drops(session.wait(9)) == []
        if short:
            session.machine.heard(session.now)
        else:
            session.machine.frame(event(1), session.now)
    assert drops(session.wait(2.9)) == []
    assert len(drops(session.wait(0.1))) == 1


def test_asking_about_an_event_changes_nothing() -> None:
    session = Session().joined()
    beat_of(session.wait(30))
    session.wait(9)
    channel = session.machine.channels[TOPIC]
    assert channel.delivers(None, "INSERT")
    assert not channel.delivers(None, "phx_reply")
    assert not channel.delivers("0", "INSERT")
    assert len(drops(session.wait(1))) == 1
