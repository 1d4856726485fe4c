"""A dead server: what retries cost it, and that a crowd of clients does not come back in step. The table of retries."""

from __future__ import annotations

import contextlib
import functools
import math
import random
import threading
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import pytest
import requests

from selfdb.core.retry import RetryBudget, RetryPolicy
from selfdb.core.transport import Transport
from selfdb.exceptions import APIConnectionError, SelfDBError
from tests import soak
from tests.core.calls import GET, POST, HeldClock, SkippingClock, transport_to
from tests.core.kit import Background
from tests.servers.process import free_port
from tests.servers.scripted import Peer, ScriptedServer

CLIENTS = 100
MINUTES = 5
EVERY = 20.0  # seconds of the clock between two calls of a client, on average


def kolmogorov_smirnov(values: Sequence[float]) -> float:
    """The probability that as many values, uniform in [0, 1), are as far from even as these (asymptotic)."""
    ordered, count = sorted(values), len(values)
    distance = max(max((n + 1) / count - value, value - n / count) for n, value in enumerate(ordered))
    root = math.sqrt(count)
    x = (root + 0.12 + 0.11 / root) * distance
    terms = [math.exp(-2 * (k * x) ** 2) * (1 if k % 2 else -1) for k in range(1, 101)]
    return min(1.0, max(0.0, 2 * math.fsum(terms)))


def test_the_test_of_evenness_tells_even_from_uneven() -> None:
    chance = random.Random(7)
    even = [chance.random() for _ in range(5000)]
    assert kolmogorov_smirnov(even) > 0.01
    assert kolmogorov_smirnov([value**1.1 for value in even]) < 0.01
    assert kolmogorov_smirnov([0.5 + value / 2 for value in even]) < 1e-6, "equal jitter is not full jitter"
    # The textbook's point: at D = 1.3581 / sqrt(n), p is 0.05.
    count = 10_000
    shift = 1.3581 / math.sqrt(count)
    skewed = [min(1.0, max(0.0, (n + 0.5) / count + shift)) for n in range(count)]
    assert kolmogorov_smirnov(skewed) == pytest.approx(0.05, abs=0.004)


class Counted(requests.adapters.HTTPAdapter):
    """Counts what is sent, to a port that nobody listens on."""

    def __init__(self) -> None:
        super().__init__(max_retries=0)
        self.sent = 0

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        self.sent += 1
        return super().send(*args, **kwargs)


@pytest.mark.timeout(3600 if soak.LONG else 300)
@pytest.mark.parametrize("theirs", [False, True], ids=["our session", "their session"])
def test_g04_a_dead_server_is_not_hit_harder_than_it_is_called(theirs: bool) -> None:
    """Many clients, each with its budget, five minutes of a held clock: what each call costs once budgets are empty."""
    # One run in a hundred of true chance is as uneven as this allows: the suite is not to fail for it.
    chance = soak.chance("jitter") if soak.LONG else random.Random(4711)
    clients = soak.amount("SELFDB_DEAD_CLIENTS", here=40, long=100) // (3 if theirs else 1)
    url = f"http://127.0.0.1:{free_port()}"
    relative: List[float] = []
    spent = calls_after = extra_after = calls_all = attempts_all = 0
    for _ in range(clients):
        clock = HeldClock()
        with contextlib.ExitStack() as stack:
            session: Optional[requests.Session] = None
            if theirs:
                session = stack.enter_context(requests.Session())
                session.trust_env = False
                session.mount("http://", Counted())
            source = random.Random(chance.random())
            transport = transport_to(url, clock=clock, session=session, random=source.random)
            stack.callback(transport.pool.close)
            # A part of what a client has, so that these minutes are enough to spend it.
            transport.pool.budget = RetryBudget(10 * RetryBudget.COST)
            end = clock.monotonic() + MINUTES * 60
            while clock.monotonic() < end:
                empty = transport.pool.budget.left < RetryBudget.COST
                before = len(clock.naps)
                with pytest.raises(APIConnectionError) as caught:
                    transport.exchange(POST if calls_all % 2 else GET)
                naps = clock.naps[before:]
                assert caught.value.attempts == 1 + len(naps)
                relative += [nap / (RetryPolicy().base * 2**retry) for retry, nap in enumerate(naps)]
                calls_all += 1
                attempts_all += caught.value.attempts
                if empty:
                    calls_after += 1
                    extra_after += len(naps)
                del caught
                clock.advance(EVERY * 2 * source.random())
            spent += transport.pool.budget.left < RetryBudget.COST
            if session is not None:
                counted = session.get_adapter(url)
                assert isinstance(counted, Counted)
                assert counted.sent > 0
    assert spent == clients, "every budget was spent"
    assert calls_after > clients * 5
    assert extra_after <= calls_after * 0.10
    p = kolmogorov_smirnov(relative)
    assert p > 0.01 / (50 if soak.LONG else 1), "the waits are not evenly spread below their ceilings"
    soak.figure(
        "G04",
        f"{clients} clients, {MINUTES} min, {'their' if theirs else 'our'} session: {attempts_all} attempts of "
        f"{calls_all} calls; budgets empty: {extra_after} extra of {calls_after}; "
        f"{len(relative)} waits even with p = {p:.2f}",
    )


def test_g04_a_hundred_threads_share_one_budget() -> None:
    source = soak.chance("jitter of threads")
    lock = threading.Lock()

    def even() -> float:
        with lock:
            return source.random()

    transport = transport_to(f"http://127.0.0.1:{free_port()}", clock=SkippingClock(), random=even)
    transport.pool.budget = RetryBudget(500)
    attempts: List[int] = []

    def call() -> None:
        for _ in range(5):
            with pytest.raises(APIConnectionError) as caught:
                transport.exchange(GET)
            attempts.append(caught.value.attempts)
            del caught

    threads = [threading.Thread(target=call, daemon=True) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    transport.pool.close()
    assert len(attempts) == 500
    assert sum(attempts) - 500 == 500 // RetryBudget.COST, "what the budget has, and not one more"
    soak.figure("G04", f"100 threads on one client: {sum(attempts) - 500} extra of 500 calls, all from the one budget")


# The table of what is repeated, every cell of it over the wire


def last(status: int) -> Callable[[Peer], None]:
    def answer(peer: Peer) -> None:
        peer.read_request()
        peer.reply(status, b'{"detail": "no"}', {"Connection": "close"})

    return answer


def after_reading(harm: Callable[[Peer], None]) -> Callable[[Peer], None]:
    def do(peer: Peer) -> None:
        peer.read_request()
        harm(peer)

    return do


#: By failure: what the server does, and whether GET, a write, and a write with an acknowledged key are tried again.
TABLE: Dict[str, Tuple[Optional[Callable[[Peer], None]], bool, bool, bool]] = {
    "could not connect": (None, True, True, True),
    "reset before the answer": (after_reading(Peer.reset), True, False, True),
    "end before the answer": (after_reading(Peer.close), True, False, True),
    "read time-out": (after_reading(Peer.stall), True, False, True),
    "answer cut in its head": (
        after_reading(lambda peer: peer.send(b"HTTP/1.1 200 OK\r\nX-A: b\r\n")),
        True,
        False,
        True,
    ),
    "answer cut in its body": (after_reading(lambda peer: peer.reply(200, b"{", length=9)), True, False, True),
    "429": (last(429), True, True, True),
    **{str(status): (last(status), True, False, True) for status in (502, 503, 504)},
    **{str(status): (last(status), False, False, False) for status in (400, 401, 403, 404, 409, 422, 500, 501)},
}

REPEATED = {"GET": 1, "HEAD": 1, "POST": 2, "PATCH": 2, "DELETE": 2}


@pytest.fixture(params=[False, True], ids=["our session", "their session"])
def reach(request: pytest.FixtureRequest) -> Iterator[Callable[..., Transport]]:
    with contextlib.ExitStack() as stack:

        def new(server: Any, **options: Any) -> Transport:
            session: Optional[requests.Session] = None
            if request.param:
                session = stack.enter_context(requests.Session())
                session.trust_env = False
            made = transport_to(server, clock=SkippingClock(), session=session, **options)
            stack.callback(made.pool.close)
            return made

        yield new


@pytest.mark.parametrize("failure", list(TABLE))
def test_g01_every_cell_of_the_table_of_repetitions(
    failure: str, scripted: Callable[..., ScriptedServer], reach: Callable[..., Transport]
) -> None:
    handler, *again = TABLE[failure]

    def check(method: str, column: int, keyed: bool, acknowledged: bool) -> None:
        server = scripted(default=handler) if handler is not None else None
        transport = reach(
            server or f"http://127.0.0.1:{free_port()}", timeout=(5, 0.15 if "time-out" in failure else 15)
        )
        transport.pool.acknowledges_keys = acknowledged
        cell = again[2] if acknowledged else again[column - 1]
        request = (GET if column == 1 else POST)._replace(method=method, idempotency_key="k" if keyed else None)
        with pytest.raises(SelfDBError) as caught:
            transport.exchange(request)
        said = caught.value
        del caught
        where = (failure, method, "keyed" if keyed else "plain", "acknowledged" if acknowledged else "")
        assert said.attempts == (3 if cell else 1), where
        if server is not None:
            server.wait_for(requests=said.attempts)  # who does not wait for an answer may be the faster one
            assert len(server.requests) == said.attempts, where
        sent = failure not in ("could not connect", "429") and not (failure.isdigit() and int(failure) < 500)
        assert said.may_have_been_applied is (sent and column == 2), where
        server.stop() if server is not None else None

    waiting = []  # for time-outs, all at the same time
    for method, column in REPEATED.items():
        for keyed, acknowledged in ((False, False), (True, False), (True, True)):
            if column == 1 and keyed:
                continue  # reads carry no key
            if method == "HEAD" and failure.startswith("answer cut"):
                continue  # it has no body; and where a head ends is not seen on a session that is not ours
            cell = (method, column, keyed, acknowledged)
            if "time-out" in failure:
                waiting.append(Background(functools.partial(check, *cell)))
            else:
                check(*cell)
    assert [each.result() for each in waiting] == [None] * len(waiting)
