"""Retry policies other than our own: which answers, which methods, how long, and who is told."""

from __future__ import annotations

import logging
from typing import Any, Callable, List

import pytest

from selfdb.core.retry import Failure, RetryPolicy, may_repeat
from selfdb.core.transport import Transport
from selfdb.exceptions import InternalServerError, RateLimitError, SelfDBError
from tests.core.calls import GET, POST, SkippingClock
from tests.servers.replies import ReplyServer

pytestmark = pytest.mark.usefixtures("lane")

YES = (200, {}, {"ok": True})


def policy(**options: Any) -> RetryPolicy:
    return RetryPolicy(**{"max_retries": 2, "base": 1.0, "cap": 30.0, "spread": (1.0, 1.0), **options})


def use(transport: Transport, chosen: RetryPolicy) -> Transport:
    transport.options = transport.options._replace(retry=chosen)
    return transport


def test_waits_grow_as_they_are_told_to() -> None:
    chosen = policy(growth=3.0, cap=20.0)
    assert [chosen.delay(retry) for retry in range(4)] == [1.0, 3.0, 9.0, 20.0]
    values = iter([0.0, 0.5, 1.0])
    spread = policy(spread=(0.5, 1.5), random=lambda: next(values))
    assert [spread.delay(0) for _ in range(3)] == [0.5, 1.0, 1.5]


@pytest.mark.parametrize(("asked", "seconds"), [(None, 1.0), (0.0, 1.0), (7.0, 7.0), (100.0, 30.0)])
def test_a_wish_to_wait_is_followed_up_to_a_point(asked: Any, seconds: float) -> None:
    assert policy(patience=30.0).wait(0, asked) == seconds


@pytest.mark.parametrize("asked", [0.0, 7.0, 100.0])
def test_or_as_it_stands(asked: float) -> None:
    assert policy().wait(0, asked) == asked


@pytest.mark.parametrize("failure", [Failure.AMBIGUOUS, Failure.UNAVAILABLE])
def test_methods_that_may_be_repeated_are_the_policys(failure: Failure) -> None:
    assert may_repeat(failure, "PUT", methods=frozenset({"PUT"}))
    assert not may_repeat(failure, "GET", methods=frozenset({"PUT"}))


@pytest.mark.parametrize("status", [408, 418, 500])
def test_statuses_are_the_policys(
    status: int, replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    clock = SkippingClock()
    server = replies([(status, {}, {}), YES])
    transport = use(connect(server, clock=clock), policy(statuses=frozenset({status})))
    assert transport.exchange(GET).json() == {"ok": True}
    assert clock.naps == [1.0]


@pytest.mark.parametrize("status", [502, 503, 504])
def test_and_no_others(status: int, replies: Callable[..., ReplyServer], connect: Callable[..., Transport]) -> None:
    with pytest.raises(InternalServerError):
        use(connect(replies([(status, {}, {})])), policy(statuses=frozenset())).exchange(GET)


@pytest.mark.parametrize("patient", [True, False])
def test_a_429_may_be_one_of_them(
    patient: bool, replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    chosen = policy(unprocessed=frozenset(), statuses=frozenset({429}))
    server = replies([(429, {}, {}), YES])
    transport = use(connect(server, clock=SkippingClock()), chosen)
    request = GET._replace(patient=patient)
    if patient:
        assert transport.exchange(request).json() == {"ok": True}
    else:
        with pytest.raises(RateLimitError):
            transport.exchange(request)
    server.replies[:] = [(429, {}, {})]
    with pytest.raises(RateLimitError):
        transport.exchange(POST)  # which may have been processed, as this policy has it


def test_somebody_may_be_told_of_each_wait(
    replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    heard: List[Any] = []

    def tell(attempt: int, error: SelfDBError, seconds: float) -> None:
        heard.append((attempt, type(error), error.method, seconds))

    server = replies([(503, {}, {}), (503, {}, {}), YES])
    use(connect(server, clock=SkippingClock()), policy(on_retry=tell)).exchange(GET)
    assert heard == [(1, InternalServerError, "GET", 1.0), (2, InternalServerError, "GET", 2.0)]


def test_who_fails_at_it_stops_nothing(
    replies: Callable[..., ReplyServer], connect: Callable[..., Transport], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("of the callback")

    caplog.set_level(logging.ERROR)
    server = replies([(503, {}, {}), YES])
    assert use(connect(server, clock=SkippingClock()), policy(on_retry=fail)).exchange(GET).json() == {"ok": True}
    assert "of the callback" in caplog.text
