"""One channel, without a socket: joining, leaving and failing, as the official client does it."""

from __future__ import annotations

from typing import Any

import pytest

from selfdb.exceptions import APITimeoutError, NotFoundError, PermissionDeniedError, RealtimeError
from selfdb.realtime.frames import Frame
from tests.realtime.kit import (
    TOPIC,
    Session,
    W,
    delivered,
    event,
    events,
    failures,
    refused,
    reply,
    resyncs,
    sent,
    settled,
    states,
)

# Joining


def test_c103_a_join_uses_its_ref_as_its_join_ref() -> None:
    session, waiter = Session(), W()
    session.open()
    assert sent(session.join(waiter)) == [["1", "1", TOPIC, "phx_join", {}]]
    assert session.state == "joining"
    said = session.get(reply("1", join_ref="1"))
    assert settled(said)[waiter].error is None
    assert states(said) == ["joined"]
    assert resyncs(said) == 0


def test_before_the_connection_stands_a_join_waits_for_it() -> None:
    session, waiter = Session(), W()
    assert sent(session.join(waiter)) == []
    assert session.state == "joining"
    assert sent(session.open()) == [["1", "1", TOPIC, "phx_join", {}]]
    assert waiter in settled(session.get(reply("1", join_ref="1")))


def test_joining_twice_sends_one_join_and_answers_both() -> None:
    session, first, second, third = Session(), W("1"), W("2"), W("3")
    session.open()
    session.join(first)
    assert session.join(second) == []
    assert set(settled(session.get(reply("1", join_ref="1")))) == {first, second}
    assert set(settled(session.join(third))) == {third}
    assert session.join(None) == []
    assert events(session.log) == ["phx_join"]


def test_a_reply_without_a_join_ref_counts_by_its_ref() -> None:
    session, waiter = Session(), W()
    session.open()
    session.join(waiter)
    error = settled(session.get(reply("1", "error", {"reason": "unmatched topic"})))[waiter].error
    assert isinstance(error, NotFoundError)
    assert session.state == "closed"


@pytest.mark.parametrize(
    "reason, kind",
    [
        ("unauthorized", PermissionDeniedError),
        ("forbidden", PermissionDeniedError),
        ("unmatched topic", NotFoundError),
        ("not found", NotFoundError),
        ("table not found", NotFoundError),
        ("join crashed", RealtimeError),
        ("too many channels joined", RealtimeError),
    ],
)
def test_c109_a_refused_first_join_is_raised_and_not_tried_again(reason: str, kind: type) -> None:
    session, waiter = Session(), W()
    session.open()
    session.join(waiter)
    said = session.get(refused("1", reason))
    error = settled(said)[waiter].error
    assert type(error) is kind
    assert reason in str(error)
    assert failures(said) == []
    assert session.state == "closed"
    assert sent(session.wait(100)) == [[None, "2", "phoenix", "heartbeat", {}]]


@pytest.mark.parametrize(
    "reason, said",
    [("x" * 100_000, "x" * 500), ("\ud800!", "?!"), (7, "7"), ([[["x"]]], "no reason given"), ({"a": 1}, "no reason")],
)
def test_a_refusal_says_no_more_than_can_be_shown(reason: Any, said: str) -> None:
    session, waiter = Session(), W()
    session.open()
    session.join(waiter)
    error = settled(session.get(reply("1", "error", {"reason": reason}, join_ref="1")))[waiter].error
    assert said in str(error)
    assert len(str(error)) < 600
    str(error).encode()


@pytest.mark.parametrize("response", [{}, None, "no", {"reason": ""}, ["x"]])
def test_a_refusal_without_a_reason(response: object) -> None:
    session, waiter = Session(), W()
    session.open()
    session.join(waiter)
    frame = Frame("1", "1", TOPIC, "phx_reply", {"status": "error", "response": response})
    assert "no reason given" in str(settled(session.get(frame))[waiter].error)


def test_a_late_refusal_goes_to_whoever_listens_for_errors() -> None:
    session = Session()
    session.join(None)
    session.open()
    said = session.get(refused("1", "unauthorized"))
    assert [type(error) for error in failures(said)] == [PermissionDeniedError]
    assert session.state == "closed"


def test_a_queued_join_that_crashed_is_tried_again() -> None:
    session = Session()
    session.join(None)
    session.open()
    said = session.get(refused("1", "join crashed"))
    assert [type(error) for error in failures(said)] == [RealtimeError]
    assert session.state == "errored"
    assert events(session.wait(1)) == ["phx_join"]


def test_c109_a_mute_server_is_a_time_out_and_is_told_that_it_is_off() -> None:
    session, waiter = Session(), W()
    session.open()
    session.join(waiter, timeout=10)
    assert session.wait(9.9) == []
    said = session.wait(0.1)
    assert isinstance(settled(said)[waiter].error, APITimeoutError)
    assert sent(said) == [["1", "2", TOPIC, "phx_leave", {}]]
    assert session.state == "closed"
    assert session.get(reply("1", join_ref="1")) == []  # too late


def test_waiters_have_their_own_times() -> None:
    session, short, long = Session(), W("short"), W("long")
    session.open()
    session.join(long, timeout=8)
    session.join(short, timeout=2)
    assert set(settled(session.wait(2))) == {short}
    assert session.state == "joining"
    assert set(settled(session.get(reply("1", join_ref="1")))) == {long}


def test_a_second_waiter_with_more_time_sees_the_next_try() -> None:
    session, short, long = Session(), W("short"), W("long")
    session.open()
    session.join(short, timeout=2)
    session.join(long, timeout=8)
    said = session.wait(2)
    assert set(settled(said)) == {short}
    assert events(said) == ["phx_leave"]
    assert session.state == "errored"
    assert events(session.wait(1)) == ["phx_join"]
    assert set(settled(session.get(reply(session.channel.join_ref)))) == {long}


def test_a_join_that_nobody_waits_for_has_ten_seconds() -> None:
    session = Session()
    session.join(None)
    session.open()
    said = session.wait(10)
    assert events(said) == ["phx_leave"]
    assert session.state == "errored"
    assert events(session.wait(1)) == ["phx_join"]


# Failing and joining again


def test_c111_the_steps_of_joining_again() -> None:
    session = Session().joined()
    session.get(Frame(session.channel.join_ref, session.channel.join_ref, TOPIC, "phx_error", {}))
    waits = []
    for _ in range(6):
        began = session.now
        while "phx_join" not in events(session.wait(0.5)):
            assert session.now - began < 30
        waits.append(session.now - began)
        session.get(Frame(session.channel.join_ref, session.channel.join_ref, TOPIC, "phx_error", {}))
        assert session.state == "errored"
    assert waits == [1, 2, 5, 10, 10, 10]


def test_c111_the_steps_begin_anew_after_an_ok() -> None:
    session = Session().joined()
    for _ in range(3):
        session.get(Frame(None, None, TOPIC, "phx_error", {"reason": "channel_crash"}))
        said = session.wait(1)
        assert events(said) == ["phx_join"]
        session.get(reply(session.channel.join_ref, join_ref=session.channel.join_ref))
        assert session.state == "joined"


def test_a_second_error_while_it_waits_puts_nothing_off() -> None:
    session = Session().joined()
    ref = session.channel.join_ref
    session.get(Frame(ref, ref, TOPIC, "phx_error", {}))
    session.wait(0.5)
    assert session.get(Frame(ref, ref, TOPIC, "phx_error", {})) == []
    assert events(session.wait(0.5)) == ["phx_join"]


def test_each_join_has_a_ref_of_its_own_and_marks_the_gap() -> None:
    session = Session().joined()
    first = session.channel.join_ref
    session.get(Frame(first, first, TOPIC, "phx_error", {}))
    session.wait(1)
    second = session.channel.join_ref
    assert second not in (first, None)
    said = session.get(reply(second, join_ref=second))
    assert resyncs(said) == 1
    assert states(said) == ["joined"]


def test_c112_a_lost_connection_joins_again_with_new_refs_at_once() -> None:
    session = Session().joined()
    assert states(session.lose()) == ["errored"]
    assert session.get(event(1)) == []
    session.wait(60)
    said = session.open()
    assert sent(said) == [["2", "2", TOPIC, "phx_join", {}]]
    said = session.get(reply("2", join_ref="2"))
    assert resyncs(said) == 1
    assert delivered(session.get(event(2))) == [2]


def test_a_join_that_was_lost_with_the_connection_is_made_again() -> None:
    session, waiter = Session(), W()
    session.open()
    session.join(waiter)
    assert states(session.lose()) == ["errored"]
    session.wait(3)
    assert events(session.open()) == ["phx_join"]
    said = session.get(reply("2", join_ref="2"))
    assert waiter in settled(said)
    assert resyncs(said) == 0  # nothing was missed before the first join


def test_r24_who_waits_while_the_link_is_restored_waits_his_time() -> None:
    session, waiter = Session().joined(), W()
    session.lose()
    session.join(waiter, timeout=5)
    assert isinstance(settled(session.wait(5))[waiter].error, APITimeoutError)
    assert session.state == "errored"
    assert events(session.open()) == ["phx_join"]


def test_a_first_join_whose_time_passes_offline_is_withdrawn() -> None:
    session, waiter = Session(), W()
    session.open()
    session.lose()
    session.join(waiter, timeout=5)
    said = session.wait(5)
    assert isinstance(settled(said)[waiter].error, APITimeoutError)
    assert events(said) == []
    assert session.state == "closed"
    assert events(session.open()) == []


def test_a_rejoin_that_is_not_answered_is_tried_again() -> None:
    session = Session().joined()
    session.lose()
    session.open()
    said = session.wait(10)
    assert events(said) == ["phx_leave"]
    assert session.state == "errored"
    assert events(session.wait(1)) == ["phx_join"]


def test_a_rejoin_that_is_refused_for_good_closes_the_channel() -> None:
    session = Session().joined()
    session.lose()
    session.open()
    said = session.get(refused(session.channel.join_ref, "unauthorized"))
    assert [type(error) for error in failures(said)] == [PermissionDeniedError]
    assert states(said) == ["closed"]


def test_a_rejoin_that_crashed_is_tried_again_and_reported() -> None:
    session = Session().joined()
    session.lose()
    session.open()
    said = session.get(refused(session.channel.join_ref, "join crashed"))
    assert [type(error) for error in failures(said)] == [RealtimeError]
    assert states(said) == ["errored"]
    assert events(session.wait(1)) == ["phx_join"]


# Stale frames, close and error of the server


@pytest.mark.parametrize("name", ["phx_close", "phx_error", "INSERT"])
def test_c110_what_belongs_to_an_earlier_join_is_dropped(name: str) -> None:
    session = Session().joined()
    old = session.channel.join_ref
    session.lose()
    session.open()
    new = session.channel.join_ref
    session.get(reply(new, join_ref=new))
    assert session.get(Frame(old, old, TOPIC, name, {})) == []
    assert session.state == "joined"


def test_c110_a_close_of_the_current_join_is_final() -> None:
    session = Session().joined()
    ref = session.channel.join_ref
    said = session.get(Frame(ref, ref, TOPIC, "phx_close", {}))
    assert states(said) == ["closed"]
    assert [type(error) for error in failures(said)] == [RealtimeError]
    assert session.wait(25) == []
    assert session.get(Frame(ref, ref, TOPIC, "phx_error", {})) == []
    assert session.get(Frame(None, None, TOPIC, "phx_close", {})) == []


def test_a_close_while_joining_is_told_to_who_waits() -> None:
    session, waiter = Session(), W()
    session.open()
    session.join(waiter)
    said = session.get(Frame("1", "1", TOPIC, "phx_close", {}))
    assert isinstance(settled(said)[waiter].error, RealtimeError)
    assert failures(said) == []
    assert session.state == "closed"


def test_an_error_while_joining_keeps_who_waits_waiting() -> None:
    session, waiter = Session(), W()
    session.open()
    session.join(waiter)
    assert settled(session.get(Frame("1", "1", TOPIC, "phx_error", {}))) == {}
    session.wait(1)
    assert waiter in settled(session.get(reply(session.channel.join_ref)))


def test_events_count_while_joined_only() -> None:
    session = Session()
    session.open()
    assert session.get(event(0)) == []
    session.join()
    assert session.get(event(1)) == []
    session.get(reply("1", join_ref="1"))
    assert delivered(session.get(event(2))) == [2]
    assert delivered(session.get(event(3, "1"))) == [3]
    assert session.get(event(4, "1", "phx_unknown")) == []
    session.leave()
    assert session.get(event(5)) == []


@pytest.mark.parametrize("payload", ["nonsense", None, {"status": "ok"}, []])
def test_replies_to_nothing_do_nothing(payload: object) -> None:
    session = Session().joined()
    assert session.get(Frame(None, "77", TOPIC, "phx_reply", payload)) == []
    assert session.get(Frame(None, None, TOPIC, "phx_reply", payload)) == []
    assert session.state == "joined"


# Leaving


def test_c116_leaving_waits_for_the_reply_and_takes_no_more_events() -> None:
    session, waiter = Session().joined(), W()
    said = session.leave(waiter)
    assert sent(said) == [["1", "2", TOPIC, "phx_leave", {}]]
    assert session.state == "leaving"
    assert session.get(event(1)) == []
    said = session.get(reply("2", join_ref="1"))
    assert settled(said)[waiter].error is None
    assert states(said) == ["closed"]
    assert session.get(Frame("1", "1", TOPIC, "phx_close", {})) == []


def test_c116_a_close_is_as_good_as_the_reply_and_joining_again_works() -> None:
    session, waiter = Session().joined(), W()
    session.leave(waiter)
    assert waiter in settled(session.get(Frame("1", "1", TOPIC, "phx_close", {})))
    assert session.get(reply("2", join_ref="1")) == []
    session.join()
    ref = session.channel.join_ref
    said = session.get(reply(ref, join_ref=ref))
    assert states(said) == ["joined"]
    assert resyncs(said) == 0
    assert delivered(session.get(event(7))) == [7]


def test_leaving_without_an_answer_ends_in_time() -> None:
    session, waiter = Session().joined(), W()
    session.leave(waiter, timeout=3)
    assert session.wait(2.9) == []
    assert settled(session.wait(0.1))[waiter].error is None
    assert session.state == "closed"


def test_leaving_offline_is_done_at_once() -> None:
    session, waiter = Session().joined(), W()
    session.lose()
    said = session.leave(waiter)
    assert waiter in settled(said)
    assert events(said) == []
    assert session.state == "closed"
    assert events(session.open()) == []


@pytest.mark.parametrize("what", ["closed", "leaving"])
def test_leaving_twice_is_harmless(what: str) -> None:
    session, waiter = Session(), W()
    if what == "leaving":
        session.joined().leave()
    assert set(settled(session.leave(waiter))) == {waiter}
    assert session.leave() == []
    assert session.state == what


def test_r11_leaving_while_joining_ends_closed() -> None:
    session, joiner, leaver = Session(), W("join"), W("leave")
    session.open()
    session.join(joiner)
    said = session.leave(leaver)
    assert isinstance(settled(said)[joiner].error, RealtimeError)
    assert sent(said) == [["1", "2", TOPIC, "phx_leave", {}]]
    assert session.get(reply("1", join_ref="1")) == []  # the join's ok comes all the same
    assert set(settled(session.get(reply("2", join_ref="1")))) == {leaver}
    assert session.state == "closed"
    assert events(session.wait(25)) == []


def test_leaving_before_the_first_connection() -> None:
    session = Session()
    session.join(None)
    assert states(session.leave()) == ["closed"]
    assert events(session.open()) == []


def test_joining_while_leaving_supersedes_it() -> None:
    session, leaver, joiner = Session().joined(), W("leave"), W("join")
    session.leave(leaver)
    said = session.join(joiner)
    assert leaver in settled(said)
    assert sent(said) == [["3", "3", TOPIC, "phx_join", {}]]
    assert session.get(reply("2", join_ref="1")) == []
    assert session.get(Frame("1", "1", TOPIC, "phx_close", {})) == []
    assert joiner in settled(session.get(reply("3", join_ref="3")))
    assert session.state == "joined"


def test_a_connection_lost_while_leaving_has_left() -> None:
    session, waiter = Session().joined(), W()
    session.leave(waiter)
    said = session.lose()
    assert waiter in settled(said)
    assert states(said) == ["closed"]
    assert events(session.open()) == []


def test_leaving_while_it_waits_to_join_again() -> None:
    session, waiter = Session().joined(), W()
    session.get(Frame("1", "1", TOPIC, "phx_error", {}))
    session.leave(waiter)
    assert waiter in settled(session.get(reply("2")))
    assert events(session.wait(20)) == []


@pytest.mark.parametrize(
    "join_ref, event_name, delivers",
    [
        (None, "INSERT", True),
        ("1", "INSERT", True),
        ("0", "INSERT", False),
        ("", "INSERT", False),
        (None, "phx_reply", False),
        (None, "phx_anything", False),
        ("1", "phx_close", False),
        (None, "phx", True),
        (None, "", True),
    ],
)
def test_what_is_an_event_for_the_handlers(join_ref: Any, event_name: str, delivers: bool) -> None:
    session = Session().joined()
    machine = session.machine.channel(TOPIC)
    assert machine.join_ref == "1"
    assert machine.delivers(join_ref, event_name) is delivers
    session.lose()
    assert machine.delivers(join_ref, event_name) is False
