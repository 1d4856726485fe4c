"""What is sent again and what is not: statuses, waits that a server asks for, idempotency keys."""

from __future__ import annotations

import contextlib
import threading
from email.utils import formatdate
from typing import Any, Callable, Dict, List, Optional, Set

import pytest

from selfdb.core.flags import Flag
from selfdb.core.request import Request
from selfdb.core.retry import RetryBudget
from selfdb.core.transport import Transport
from selfdb.exceptions import (
    APIConnectionError,
    APITimeoutError,
    ClientClosedError,
    ConflictError,
    InternalServerError,
    RateLimitError,
    SelfDBError,
    error_class_for_status,
)
from tests.core.calls import GET, POST, HeldClock, SkippingClock, reveals_nothing
from tests.core.kit import Background
from tests.servers.process import free_port
from tests.servers.replies import ReplyServer
from tests.servers.scripted import Peer, ScriptedServer, close, read, reply

pytestmark = pytest.mark.usefixtures("lane")

WRITES = ("POST", "PUT", "PATCH", "DELETE")


def of(method: str) -> Request:
    return (POST if method in WRITES else GET)._replace(method=method)


# Statuses


@pytest.mark.parametrize("method", ["GET", "HEAD", *WRITES])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 406, 409, 418, 422, 500, 501, 505])
def test_c094_final_statuses_are_raised_at_once(
    status: int, method: str, replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    server = replies([(status, {"Retry-After": "1"}, {"detail": "why"})])
    with pytest.raises(error_class_for_status(status)) as caught:
        connect(server).exchange(of(method))
    assert type(caught.value) is error_class_for_status(status)
    assert (caught.value.status_code, caught.value.attempts) == (status, 1)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [502, 503, 504])
@pytest.mark.parametrize("method", ["GET", "HEAD", *WRITES])
def test_c094_a_failing_gateway_is_asked_again_for_reads_only(
    status: int, method: str, replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    server = replies(lambda request: (status, {}, "<html>bad gateway</html>"))
    with pytest.raises(InternalServerError) as caught:
        connect(server).exchange(of(method))
    assert caught.value.status_code == status
    assert caught.value.attempts == len(server.requests) == (1 if method in WRITES else 3)


@pytest.mark.parametrize("method", ["GET", "HEAD", *WRITES])
def test_c094_a_server_that_is_too_busy_is_asked_again_whatever_the_method(
    method: str, replies: Callable[..., ReplyServer], connect: Callable[..., Transport], skipping: SkippingClock
) -> None:
    server = replies([(429, {"Retry-After": "2"}, {}), (429, {"Retry-After": "0"}, {}), (200, {}, {})])
    assert connect(server).exchange(of(method)).status_code == 200
    assert skipping.naps == [2.0, 0.0]
    assert len({request.body for request in server.requests}) == 1, "each attempt sends the same"


def test_too_busy_for_too_long(replies: Callable[..., ReplyServer], connect: Callable[..., Transport]) -> None:
    server = replies(lambda request: (429, {"Retry-After": "2"}, {"detail": "slow down"}))
    with pytest.raises(RateLimitError, match="slow down") as caught:
        connect(server).exchange(POST)
    assert (caught.value.retry_after, caught.value.attempts) == (2.0, 3)
    assert len(server.requests) == 3


def test_who_is_not_patient_hears_of_it_at_once(
    replies: Callable[..., ReplyServer], connect: Callable[..., Transport], skipping: SkippingClock
) -> None:
    server = replies([(429, {"Retry-After": "1"}, {})])
    with pytest.raises(RateLimitError) as caught:
        connect(server).exchange(POST._replace(patient=False))
    assert caught.value.retry_after == 1.0
    assert skipping.naps == []


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("asked", "deadline", "waited"),
    [
        ("5", 60, 5.0),
        ("59", 60, 59.0),
        ("61", 60, None),
        ("60", 60, None),
        ("86400", 60, None),
        ("3", 2, None),
        ("60", None, 60.0),
        ("61", None, None),
        ("-5", 60, 0.25),
        ("nan", 60, 0.25),
        ("tomorrow", 60, 0.25),
        (None, 60, 0.25),
        (None, 20, None),
    ],
)
def test_a_wait_that_is_asked_for_is_kept_exactly_or_not_begun(
    asked: Optional[str],
    deadline: Optional[float],
    waited: Optional[float],
    status: int,
    replies: Callable[..., ReplyServer],
    connect: Callable[..., Transport],
) -> None:
    clock = HeldClock()
    headers = {} if asked is None else {"Retry-After": asked}
    server = replies([(status, headers, {}), (200, {}, {})])
    steps = 100.0 if asked is None and waited is None else 1.0  # as long as no server has asked for
    transport = connect(server, deadline=deadline, clock=clock, random=lambda: steps)
    if waited is None:
        with pytest.raises(error_class_for_status(status)) as caught:
            transport.exchange(GET)
        assert caught.value.attempts == 1
        assert clock.naps == []
        if isinstance(caught.value, RateLimitError):
            assert caught.value.retry_after == (None if asked is None else float(asked))
    else:
        assert transport.exchange(GET).status_code == 200
        assert clock.naps == [waited]


def test_a_wait_until_a_date(replies: Callable[..., ReplyServer], connect: Callable[..., Transport]) -> None:
    clock = HeldClock()
    at = formatdate(clock.time() + 7, usegmt=True)
    server = replies([(503, {"Retry-After": at}, {}), (200, {}, {})])
    connect(server, clock=clock).exchange(GET)
    assert clock.naps == [7.0]


def test_waits_grow_and_are_jittered(replies: Callable[..., ReplyServer], connect: Callable[..., Transport]) -> None:
    clock = HeldClock()
    values = iter([0.5, 1.0, 0.0, 0.25])
    server = replies([*[(503, {}, {})] * 4, (200, {}, {})])
    connect(server, clock=clock, max_retries=4, random=lambda: next(values)).exchange(GET)
    assert clock.naps == [0.125, 0.5, 0.0, 0.5]


def test_a_budget_that_is_spent_ends_waits_too(
    replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    server = replies([(429, {"Retry-After": "1"}, {}), (503, {}, {})])
    transport = connect(server)
    transport.pool.budget = RetryBudget(RetryBudget.COST - 1)
    for _ in range(2):
        with pytest.raises(SelfDBError) as caught:
            transport.exchange(GET)
        assert caught.value.attempts == 1


def test_an_answer_below_500_shows_that_the_server_lives(
    replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    transport = connect(replies([(404, {}, {}), (500, {}, {})]))
    transport.pool.budget.take(10)
    left = transport.pool.budget.left
    for expected in (left + 1, left + 1):
        with pytest.raises(SelfDBError):
            transport.exchange(GET)
        assert transport.pool.budget.left == expected


def test_closing_ends_a_wait_between_attempts(
    replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    waiting = threading.Event()

    class Announcing(SkippingClock):
        def wait(self, event: Flag, seconds: float) -> bool:
            waiting.set()
            return event.wait(seconds)

    server = replies([(503, {"Retry-After": "50"}, {})])
    transport = connect(server, clock=Announcing())
    call = Background(lambda: transport.exchange(GET))
    assert waiting.wait(60)
    transport.pool.close()
    error = call.result()
    assert isinstance(error, ClientClosedError)
    reveals_nothing(error)
    with pytest.raises(ClientClosedError):
        transport.exchange(GET)
    assert len(server.requests) == 1


# Idempotency keys

KEYED = POST._replace(idempotency_key="order-4711")


class Acknowledging:
    """Steps of a server that knows keys: it says so on each answer, unless told otherwise."""

    def __init__(self, *faults: Any) -> None:
        self.faults = list(faults)

    def __call__(self, peer: Peer) -> None:
        while True:
            request = peer.read_request()
            fault = self.faults.pop(0) if self.faults else None
            if fault is not None:
                fault(peer)
                return
            key = request.header("Idempotency-Key")
            peer.reply(200, b"{}", {"Idempotency-Key": key} if key else {})


LAST = {"Connection": "close"}

FAULTS: Dict[str, Any] = {
    "reset": lambda peer: peer.reset(),
    "end": lambda peer: peer.close(),
    "truncated": lambda peer: peer.reply(200, b"{", length=9),
    "502": lambda peer: peer.reply(502, b"", LAST),
    "503": lambda peer: peer.reply(503, b"", LAST),
    "504": lambda peer: peer.reply(504, b"", LAST),
    "read time-out": lambda peer: peer.stall(),
}


def keys(server: ScriptedServer) -> List[Optional[str]]:
    return [request.header("Idempotency-Key") for request in server.requests]


@pytest.mark.parametrize("fault", list(FAULTS))
@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
def test_a_keyed_write_is_repeated_once_the_server_has_echoed_a_key(
    fault: str, method: str, scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    slow = fault == "read time-out"
    times = 1 if slow else 2
    server = scripted(default=Acknowledging(None, *[FAULTS[fault]] * times))
    transport = connect(server, timeout=(5, 1.0 if slow else 30))
    transport.exchange(KEYED._replace(idempotency_key="first"))
    assert transport.pool.acknowledges_keys
    assert transport.exchange(KEYED._replace(method=method)).status_code == 200
    assert keys(server) == ["first", *["order-4711"] * (times + 1)]
    assert len({request.body for request in server.requests}) == 1


@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_keyed_write_is_not_repeated_before_that(
    fault: str, scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted(default=Acknowledging(FAULTS[fault]))
    with pytest.raises(SelfDBError) as caught:
        connect(server, timeout=(5, 0.5 if fault == "read time-out" else 30)).exchange(KEYED)
    assert caught.value.attempts == 1 == len(server.requests)
    if isinstance(caught.value, APIConnectionError):
        assert caught.value.may_have_been_applied


def test_a_write_without_a_key_is_not_repeated_after_it(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted(default=Acknowledging(None, FAULTS["reset"]))
    transport = connect(server)
    transport.exchange(KEYED)
    with pytest.raises(APIConnectionError):
        transport.exchange(POST)
    assert keys(server) == ["order-4711", None]


@pytest.mark.parametrize("echo", ["other", "", "ORDER-4711", "order-4711, order-4711"])
def test_another_echo_is_no_acknowledgement(
    echo: str, replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    transport = connect(replies([(200, {"Idempotency-Key": echo}, {})]))
    transport.exchange(KEYED)
    assert not transport.pool.acknowledges_keys


def test_an_echo_that_nobody_asked_for_is_none(
    replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    transport = connect(replies([(200, {"Idempotency-Key": "order-4711"}, {})]))
    transport.exchange(POST)
    assert not transport.pool.acknowledges_keys


def test_keys_of_their_own_are_fresh_for_each_write_and_kept_for_its_attempts(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted(default=Acknowledging(None, FAULTS["reset"], FAULTS["502"]))
    transport = connect(server, idempotent_writes=True)
    for method in ("POST", "PATCH", "DELETE"):
        transport.exchange(POST._replace(method=method))
    first, second, again, third, fourth = keys(server)
    assert second == again == third, "one key for the three attempts of the second call"
    fresh: Set[Optional[str]] = {first, second, fourth}
    assert len(fresh) == 3
    assert all(key is not None and 16 <= len(key) <= 255 for key in fresh)


def test_a_key_that_is_given_wins(scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]) -> None:
    server = scripted(default=Acknowledging())
    connect(server, idempotent_writes=True).exchange(KEYED)
    assert keys(server) == ["order-4711"]


def test_reads_and_calls_that_must_not_have_a_key_have_none(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted(default=Acknowledging())
    transport = connect(server, idempotent_writes=True)
    transport.exchange(GET)
    transport.exchange(POST._replace(keyable=False))
    connect(server).exchange(POST)
    assert keys(server) == [None, None, None]


def test_a_twin_that_is_still_under_way_is_waited_for(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport], skipping: SkippingClock
) -> None:
    def busy(peer: Peer) -> None:
        peer.reply(409, b'{"detail": "in progress"}', {"Retry-After": "1", **LAST})

    server = scripted(default=Acknowledging(None, FAULTS["reset"], busy))
    transport = connect(server)
    transport.exchange(KEYED._replace(idempotency_key="first"))
    assert transport.exchange(KEYED).status_code == 200
    assert skipping.naps == [0.25, 1.0]
    fresh = scripted(default=Acknowledging(None, busy))
    transport = connect(fresh)
    transport.exchange(KEYED._replace(idempotency_key="first"))
    with pytest.raises(ConflictError, match="in progress"):
        transport.exchange(KEYED)  # not ours: we sent it once only


def test_what_may_have_been_applied_once_stays_so(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second attempt of a keyed write cannot connect: that says nothing about the first."""
    for fault in ("reset", "502"):
        server = scripted(default=Acknowledging(None, FAULTS[fault]))
        transport = connect(server)
        transport.exchange(KEYED._replace(idempotency_key="first"))

        nowhere = f"http://127.0.0.1:{free_port()}"
        with monkeypatch.context() as patch:
            real = transport.pool.send
            urls = [server.url, nowhere, nowhere]
            patch.setattr(transport.pool, "lane", lambda base: None)
            patch.setattr(
                transport.pool,
                "send",
                lambda method, url, *rest, real=real, urls=urls, **more: real(
                    method, urls.pop(0) + "/things", *rest, **more
                ),
            )
            with pytest.raises(APIConnectionError, match="may have been applied") as caught:
                transport.exchange(KEYED)
        assert caught.value.attempts == 3
        assert caught.value.may_have_been_applied


def test_a_deadline_that_passes_during_the_wait_forgets_no_doubt(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    class Late(HeldClock):
        def wait(self, event: Flag, seconds: float) -> bool:
            self.advance(100)
            return super().wait(event, seconds)

    server = scripted(default=Acknowledging(None, FAULTS["reset"]))
    transport = connect(server, clock=Late())
    transport.exchange(KEYED._replace(idempotency_key="first"))
    with pytest.raises(APITimeoutError) as caught:
        transport.exchange(KEYED)
    assert caught.value.may_have_been_applied
    assert caught.value.attempts == 1


def test_one_effect_for_a_hundred_unkeyed_writes_through_faults(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    """Each write reaches the server at most once, whatever the server then does to it."""
    steps = [
        [read(), fault]
        for fault in (close(), reply(200, b"{", length=7), reply(503, b"", LAST), reply(200, b"{}", LAST))
    ]
    server = scripted(default=lambda peer: [step(peer) for step in steps[peer.number % len(steps)]])
    transport = connect(server)
    transport.pool.budget = RetryBudget(10**6)
    calls = 100
    for number in range(calls):
        with pytest.raises(SelfDBError) if number % len(steps) != 3 else contextlib.nullcontext():
            transport.exchange(POST._replace(body=b'{"n":%d}' % number))
    bodies = [request.body for request in server.requests]
    assert len(bodies) == len(set(bodies)) == calls
