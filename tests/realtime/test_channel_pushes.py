"""What a program pushes over a channel, and what the end of it all does to whoever waits; without a socket."""

from __future__ import annotations

import pytest

from selfdb.exceptions import APITimeoutError, RealtimeError
from selfdb.realtime.frames import Frame
from tests.realtime.kit import (
    GONE,
    TOPIC,
    Session,
    W,
    events,
    refused,
    reply,
    sent,
    settled,
)

# Pushing


def test_pushing_before_any_join_is_a_mistake() -> None:
    session = Session()
    session.open()
    with pytest.raises(RealtimeError, match="subscribe"):
        session.push(W())


def test_a_push_carries_the_join_ref_and_gets_its_response() -> None:
    session, waiter = Session().joined(), W()
    assert sent(session.push(waiter, "shout", {"a": 1})) == [["1", "2", TOPIC, "shout", {"a": 1}]]
    said = session.get(reply("2", response={"b": 2}, join_ref="1"))
    assert settled(said)[waiter].response == {"b": 2}
    assert session.get(reply("2", response={"b": 3}, join_ref="1")) == []


def test_r31_a_refused_push() -> None:
    session, waiter = Session().joined(), W()
    session.push(waiter)
    error = settled(session.get(reply("2", "error", {"reason": "unknown event"}, join_ref="1")))[waiter].error
    assert isinstance(error, RealtimeError)
    assert "unknown event" in str(error)
    assert "shout" in str(error)


def test_c115_pushes_wait_for_the_join_and_go_in_order() -> None:
    session = Session()
    waiters = [W(str(number)) for number in range(3)]
    session.open()
    session.join()
    for number, waiter in enumerate(waiters):
        assert session.push(waiter, payload=number) == []
    said = session.get(reply("1", join_ref="1"))
    assert sent(said) == [["1", str(number + 2), TOPIC, "shout", number] for number in range(3)]


def test_c115_an_expired_push_is_never_sent() -> None:
    session, early, late = Session(), W("early"), W("late")
    session.join(None)
    session.open()
    session.push(early, timeout=3)
    session.push(late, timeout=9)
    assert isinstance(settled(session.wait(3))[early].error, APITimeoutError)
    said = session.get(reply("1", join_ref="1"))
    assert events(said) == ["shout"]
    assert settled(said) == {}


def test_c115_a_push_that_expires_in_the_moment_of_the_join_is_not_sent() -> None:
    session, waiter = Session(), W()
    session.join(None)
    session.open()
    session.push(waiter, timeout=3)
    session.now += 3  # the answer comes before the clock is looked at
    said = session.get(reply("1", join_ref="1"))
    assert events(said) == []
    assert isinstance(settled(said)[waiter].error, APITimeoutError)


def test_c115_a_push_has_its_time_and_a_late_reply_no_effect() -> None:
    session, waiter = Session().joined(), W()
    session.push(waiter, timeout=10)
    assert isinstance(settled(session.wait(10))[waiter].error, APITimeoutError)
    assert session.get(reply("2", join_ref="1")) == []


def test_a_lost_connection_fails_what_was_sent_and_keeps_what_was_not() -> None:
    session, before, during = Session().joined(), W("before"), W("during")
    session.push(before)
    assert settled(session.lose())[before].error is GONE
    session.push(during, payload="later")
    session.open()
    said = session.get(reply(session.channel.join_ref))
    assert [frame[3:] for frame in sent(said)] == [["shout", "later"]]


def test_a_close_code_is_a_lost_connection_like_any_other() -> None:
    session, waiter = Session(), W()
    session.join(None)
    session.open()
    session.push(waiter)
    assert settled(session.lose(RealtimeError("closed with code 1012"))) == {}
    session.open()
    assert events(session.get(reply(session.channel.join_ref))) == ["shout"]


def test_an_error_of_the_channel_fails_what_was_sent() -> None:
    session, waiter = Session().joined(), W()
    session.push(waiter)
    said = session.get(Frame("1", "1", TOPIC, "phx_error", {}))
    assert isinstance(settled(said)[waiter].error, RealtimeError)


@pytest.mark.parametrize("how", ["leave", "end", "close", "refused", "late"])
def test_what_waits_to_be_sent_ends_with_the_channel(how: str) -> None:
    session, joiner, waiter = Session(), W("join"), W("push")
    session.open()
    session.join(joiner)
    session.push(waiter, timeout=60)
    if how == "leave":
        said = session.leave()
    elif how == "end":
        said = session.end()
    elif how == "close":
        said = session.get(Frame("1", "1", TOPIC, "phx_close", {}))
    elif how == "refused":
        said = session.get(refused("1", "unauthorized"))
    else:
        said = session.wait(10)
    assert set(settled(said)) == {joiner, waiter}
    assert settled(said)[waiter].error is not None


# The end


def test_the_end_settles_everything_and_nothing_comes_back() -> None:
    session, pusher, joiner = Session().joined(), W("push"), W("join")
    session.push(pusher)
    session.lose()
    session.join(joiner)
    said = session.end()
    assert settled(said)[joiner].error is GONE
    assert session.state == "closed"
    assert events(session.open()) == []
    assert session.machine.next_due() == session.now + 30


def test_the_end_while_leaving() -> None:
    session, waiter = Session().joined(), W()
    session.leave(waiter)
    assert settled(session.end())[waiter].error is None
    assert session.state == "closed"


def test_without_a_connection_who_waits_is_told_and_the_patient_go_on() -> None:
    session, waiter, pusher = Session(), W("join"), W("push")
    session.join(None)
    session.join(waiter)
    session.push(pusher)
    said = session.machine.unreachable(GONE)
    assert set(settled(said)) == {waiter, pusher}
    assert session.state == "joining"
    assert events(session.open()) == ["phx_join"]


def test_without_a_connection_others_are_closed() -> None:
    session, waiter = Session(), W()
    session.join(waiter)
    assert settled(session.machine.unreachable(GONE))[waiter].error is GONE
    assert session.state == "closed"
