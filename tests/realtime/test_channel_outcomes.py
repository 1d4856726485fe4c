"""What becomes of those who wait on a channel, to the word, and what one end leaves for the next beginning."""

from __future__ import annotations

from typing import Any, List

import pytest

from selfdb.exceptions import APITimeoutError, NotFoundError, PermissionDeniedError, RealtimeError
from selfdb.realtime.channel_machine import (
    LONGEST_REASON,
    Changed,
    ChannelMachine,
    ChannelState,
    Deliver,
    Failed,
    Resync,
    Settled,
    refusal,
)
from tests.realtime.kit import GONE, TOPIC, Session, W, event, events, failures, refused, reply, sent, settled, states

# What is said


@pytest.mark.parametrize(
    "event, response, kind, words",
    [
        ("phx_join", {"reason": "odd"}, RealtimeError, f"the join of {TOPIC} was refused: odd"),
        ("phx_join", {}, RealtimeError, f"the join of {TOPIC} was refused: no reason given"),
        ("phx_join", {"reason": ""}, RealtimeError, f"the join of {TOPIC} was refused: no reason given"),
        ("phx_join", "odd", RealtimeError, f"the join of {TOPIC} was refused: no reason given"),
        ("phx_join", {"reason": 5}, RealtimeError, f"the join of {TOPIC} was refused: 5"),
        ("phx_join", {"reason": "x" * 600}, RealtimeError, f"the join of {TOPIC} was refused: {'x' * 500}"),
        ("phx_join", {"reason": "not found"}, NotFoundError, f"the join of {TOPIC} was refused: not found"),
        (
            "shout",
            {"reason": "forbidden"},
            PermissionDeniedError,
            f"the push 'shout' to {TOPIC} was refused: forbidden; sign in as a user who may read the table",
        ),
    ],
)
def test_a_refusal_says_what_was_refused_and_why(event: str, response: Any, kind: type, words: str) -> None:
    error = refusal(TOPIC, event, response)
    assert type(error) is kind
    assert error.message == words
    assert error.response_body == (response if kind is RealtimeError else None)
    assert LONGEST_REASON == 500


def test_a_refused_push_names_its_channel_and_event() -> None:
    session, waiter = Session().joined(), W()
    ref = sent(session.push(waiter))[0][1]
    error = settled(session.get(reply(ref, "error", {"reason": "odd"})))[waiter].error
    assert error is not None
    assert error.message == f"the push 'shout' to {TOPIC} was refused: odd"


def test_a_refused_join_that_nobody_waits_for_is_a_failure_of_its_topic() -> None:
    session = Session()
    session.open()
    session.join()
    said = session.get(refused(session.channel.join_ref, "odd"))
    (failure,) = [action for action in said if isinstance(action, Failed)]
    assert failure.topic == TOPIC
    assert failure.error.message == f"the join of {TOPIC} was refused: odd"


def test_each_way_to_be_left_without_an_answer_has_its_words() -> None:
    session, joiner = Session(), W("joiner")
    session.open()
    session.join(joiner, 2.0)
    buffered = W("buffered")
    session.push(buffered)
    said = settled(session.wait(2.0))
    assert [type(one.error) for one in said.values()] == [APITimeoutError] * 2
    assert str(said[joiner].error) == f"the server did not answer the join of {TOPIC} in time"
    assert str(said[buffered].error) == f"the channel {TOPIC} was not joined"
    session, pusher = Session().joined(), W("pusher")
    session.push(pusher, timeout=3.0)
    assert str(settled(session.wait(3.0))[pusher].error) == f"the server did not answer a push to {TOPIC} in time"
    failed = W("failed")
    session.push(failed)
    said = settled(session.get(reply(None)._replace(event="phx_error")))
    assert str(said[failed].error) == f"the channel {TOPIC} failed; it is joined again"


def test_a_channel_that_the_server_closes_says_why_it_may_have() -> None:
    session = Session().joined()
    said = session.get(reply(None)._replace(event="phx_close"))
    (failure,) = [action for action in said if isinstance(action, Failed)]
    assert failure.topic == TOPIC, "its loops are to end with this"
    assert failure.error.message == (
        f"the server closed the channel {TOPIC}: its table is gone, renamed or no longer yours to read"
    )


def test_all_that_is_said_of_a_channel_names_it() -> None:
    session = Session().joined()
    session.get(reply(None)._replace(event="phx_error"))
    session.wait(1.0)
    assert session.get(reply(session.channel.join_ref)) == [Changed(TOPIC, ChannelState.JOINED), Resync(TOPIC)]
    assert session.get(event(7, name="UPDATE")) == [Deliver(TOPIC, "UPDATE", 7)]


# Leaving


def test_who_waits_while_the_channel_is_left_is_told() -> None:
    session, pusher = Session().joined(), W("pusher")
    session.push(pusher)
    assert str(settled(session.leave())[pusher].error) == f"the channel {TOPIC} was left"
    session, joiner = Session(), W("joiner")
    session.join(joiner)
    leaver = W("leaver")
    said = session.leave(leaver)
    assert str(settled(said)[joiner].error) == f"the channel {TOPIC} was left"
    assert settled(said)[leaver].error is None
    assert states(said) == ["closed"]


def test_a_join_that_timed_out_has_nothing_to_leave() -> None:
    session, leaver = Session(), W()
    session.open()
    session.join()
    ref = session.channel.join_ref
    assert sent(session.wait(10.0)) == [[ref, str(int(ref or 0) + 1), TOPIC, "phx_leave", {}]]
    assert session.state == "errored"
    said = session.leave(leaver)
    assert events(said) == []
    assert session.state == "closed"
    assert settled(said)[leaver].error is None


# Between connections


@pytest.mark.parametrize("how", ["lost", "ended"])
def test_without_a_connection_a_join_is_not_sent(how: str) -> None:
    session = Session().joined()
    if how == "lost":
        session.lose()
        session.leave()
    else:
        session.end()
    assert session.state == "closed"
    assert events(session.join(W())) == []
    assert session.state == "joining"
    assert events(session.open()) == ["phx_join"]


def test_a_join_that_was_never_sent_is_not_one_that_failed() -> None:
    session = Session()
    session.join()
    assert states(session.lose()) == []
    assert session.state == "joining"


def test_while_no_connection_comes_about_all_who_wait_are_told_and_the_channel_goes_on() -> None:
    session, joiner, pusher = Session(), W("joiner"), W("pusher")
    session.join()
    session.join(joiner)
    session.push(pusher)
    said = settled(session.channel.unreachable(GONE))
    assert {waiter: one.error for waiter, one in said.items()} == {joiner: GONE, pusher: GONE}
    assert session.state == "joining"


# Time


def test_a_channel_that_nobody_asked_for_is_closed_and_has_nothing_to_do() -> None:
    session = Session()
    assert session.state == "closed"
    assert not session.channel.wanted
    assert session.channel.next_due() is None


def test_it_is_to_be_woken_at_the_first_of_all_that_is_due() -> None:
    """Each of these alone: what the thread that waits for it is told decides whether it happens in time."""
    session = Session().joined()
    channel, now = session.channel, session.now
    assert channel.next_due() is None
    session.push(W("sent"), timeout=5.0)
    assert channel.next_due() == now + 5.0
    session.push(W("sent, and due before"), timeout=4.0)
    assert channel.next_due() == now + 4.0
    session.lose()
    assert channel.next_due() is None
    session.push(W("kept until it is joined"), timeout=9.0)
    assert channel.next_due() == now + 9.0
    session.join(W("joiner"), timeout=8.0)
    assert channel.next_due() == now + 8.0
    session.push(W("kept, and due before"), timeout=7.0)
    assert channel.next_due() == now + 7.0
    session.open()
    session.get(reply(channel.join_ref))
    session.get(reply(None)._replace(event="phx_error"))
    assert channel.next_due() == now + 1.0, "then it is joined again"
    session.leave(timeout=3.0)
    assert channel.next_due() == now + 3.0


def test_a_join_is_due_when_its_answer_is() -> None:
    session = Session()
    session.join(None)
    assert session.channel.next_due() is None, "without a connection there is no hurry"
    session.open()
    assert session.channel.next_due() == session.now + 10.0


def test_a_join_is_given_the_time_of_who_waits_longest() -> None:
    session, waiter = Session(), W()
    session.join()
    session.join(waiter, 20.0)
    session.open()
    assert events(session.wait(19.0)) == []
    said = session.wait(1.0)
    assert waiter in settled(said)
    assert events(said) == ["phx_leave"], "and then it is asked again"
    assert session.state == "errored"


def test_who_gives_up_at_the_moment_of_the_next_try_is_told_and_it_is_made() -> None:
    session, waiter = Session().joined(), W()
    session.get(reply(None)._replace(event="phx_error"))
    session.join(waiter, 1.0)
    said = session.wait(1.0)
    assert isinstance(settled(said)[waiter].error, APITimeoutError)
    assert events(said) == ["phx_join"]


def test_who_gives_up_on_a_channel_that_was_joined_before_does_not_end_it() -> None:
    session, first, late = Session(), W("first"), W("late")
    session.open()
    session.join(first)
    session.get(reply(session.channel.join_ref))
    session.get(reply(None)._replace(event="phx_error"))
    session.join(late, 0.5)
    assert late in settled(session.wait(0.5))
    assert session.state == "errored"
    assert events(session.wait(1.0)) == ["phx_join"]


def test_who_gives_up_between_two_tries_has_nothing_to_leave() -> None:
    session, first, second = Session(), W("first"), W("second")
    session.open()
    session.join(first, 5.0)
    session.join(second, 5.5)
    assert events(session.wait(5.0)) == ["phx_leave"]
    said = session.wait(0.5)
    assert second in settled(said)
    assert events(said) == []
    assert session.state == "closed"


@pytest.mark.parametrize("end", ["refused", "left"])
def test_the_patience_of_an_earlier_join_ends_with_the_channel(end: str) -> None:
    session, waiter = Session(), W()
    session.open()
    session.join()
    if end == "refused":
        assert failures(session.get(refused(session.channel.join_ref, "unauthorized")))
    else:
        session.leave()
        session.wait(10.0)
    assert session.state == "closed"
    session.join(waiter, 5.0)
    said = session.wait(5.0)
    assert waiter in settled(said)
    assert events(said) == ["phx_leave"]
    assert session.state == "closed"


# What could not be sent, and what is waited for


def test_before_the_first_join_nothing_is_known_to_be_accepted() -> None:
    assert ChannelMachine(TOPIC, lambda: "1").accepts == frozenset()


@pytest.mark.parametrize(
    "response, accepted",
    [
        ({"accepts": ["access_token", "shout"]}, ["access_token", "shout"]),
        ({"accepts": ["access_token", 5, None, ["x"], {}]}, ["access_token"]),
        ({"accepts": "access_token"}, []),
        ({"accepts": {"access_token": True}}, []),
        ({"accepts": None}, []),
        ({}, []),
        (["accepts"], []),
        ("accepts", []),
        (5, []),
    ],
)
def test_what_the_server_accepts_is_what_its_reply_to_the_join_names(response: Any, accepted: List[str]) -> None:
    session = Session()
    session.open()
    session.join()
    said = session.get(reply(session.channel.join_ref, response=response))
    assert states(said) == ["joined"]
    assert session.channel.accepts == frozenset(accepted)


def test_what_an_earlier_server_accepted_is_forgotten_with_the_next_join() -> None:
    session = Session()
    session.open()
    session.join()
    session.get(reply(session.channel.join_ref, response={"accepts": ["access_token"]}))
    session.lose()
    session.open()
    session.get(reply(session.channel.join_ref))
    assert session.channel.accepts == frozenset()


def test_a_push_that_could_not_be_sent_is_told_to_who_waits_and_anything_else_is_a_failure() -> None:
    session, waiter = Session().joined(), W()
    ref = sent(session.push(waiter))[0][1]
    assert session.channel.unsent(ref, GONE) == [Settled(waiter, error=GONE)]
    assert session.channel.unsent(ref, GONE) == [Failed(TOPIC, GONE)], "it is waited for no more"
    assert session.channel.unsent(None, GONE) == [Failed(TOPIC, GONE)]


def test_what_is_waited_for() -> None:
    session, waiter = Session().joined(), W()
    channel = session.channel
    assert channel.awaits(channel.join_ref)
    ref = sent(session.push(waiter))[0][1]
    assert channel.awaits(ref)
    session.get(reply(ref))
    assert not channel.awaits(ref)
    assert not channel.awaits("999")
    assert not channel.awaits(None)
    session.lose()
    assert channel.join_ref is None
    assert not channel.awaits(None)
