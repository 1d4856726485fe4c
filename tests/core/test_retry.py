"""When to try again: the table of what may be repeated, waits, the budget, and what ``Retry-After`` says."""

from __future__ import annotations

import itertools
import os
import threading
import time
from email.utils import formatdate
from typing import Iterator, Optional

import pytest
from hypothesis import given, strategies

from selfdb.core.retry import SAFE_METHODS, Failure, RetryBudget, RetryPolicy, may_repeat, parse_retry_after
from tests.core.kit import BOUND, Background, in_forked_child, in_threads

NOW = 1_800_000_000.0

# What may be sent again after which failure: by GET and HEAD, by a write, by a write with an acknowledged key.
TABLE = {
    Failure.NOT_SENT: (True, True, True),
    Failure.AMBIGUOUS: (True, False, True),
    Failure.RATE_LIMITED: (True, True, True),
    Failure.UNAVAILABLE: (True, False, True),
    Failure.FINAL: (False, False, False),
}


def test_the_table_is_complete() -> None:
    assert set(TABLE) == set(Failure)
    assert {"GET", "HEAD"} == SAFE_METHODS


@pytest.mark.parametrize("failure", list(Failure), ids=lambda failure: failure.name)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("key", [False, True], ids=["unkeyed", "keyed"])
def test_every_cell_of_the_table(failure: Failure, method: str, key: bool) -> None:
    safe, write, keyed = TABLE[failure]
    expected = safe if method in ("GET", "HEAD") else keyed if key else write
    assert may_repeat(failure, method, key) is expected


def test_without_word_of_a_key_there_is_none() -> None:
    assert may_repeat(Failure.AMBIGUOUS, "POST") is False


def test_waits_double_up_to_the_cap() -> None:
    policy = RetryPolicy(random=lambda: 1.0)
    assert [policy.delay(retry) for retry in range(7)] == [0.25, 0.5, 1, 2, 4, 8, 8]
    assert policy.delay(10**6) == 8, "no overflow, however often"


def test_the_jitter_is_full() -> None:
    values = itertools.cycle([0.0, 0.5, 0.999])
    policy = RetryPolicy(base=1.0, random=lambda: next(values))
    assert [policy.delay(0) for _ in range(3)] == [0.0, 0.5, 0.999]


def test_the_default_random_source_stays_below_the_ceiling() -> None:
    policy = RetryPolicy()
    assert policy.max_retries == 2
    delays = [policy.delay(1) for _ in range(200)]
    assert all(0 <= delay < 0.5 for delay in delays)
    assert len(set(delays)) > 100


def test_a_policy_may_draw_from_a_part_of_the_ceiling_and_grow_otherwise() -> None:
    drawn = [
        RetryPolicy(base=1.0, cap=100.0, growth=3.0, spread=(0.5, 1.5), random=lambda at=at: at)
        for at in (0.0, 0.5, 1.0)
    ]
    assert [[policy.delay(retry) for retry in range(3)] for policy in drawn] == [
        [0.5, 1.5, 4.5],
        [1.0, 3.0, 9.0],
        [1.5, 4.5, 13.5],
    ]


@pytest.mark.parametrize(
    ("patience", "asked", "waits"),
    [
        pytest.param(None, None, 0.5, id="nobody asked"),
        pytest.param(60.0, None, 0.5, id="nobody asked one who has patience"),
        pytest.param(None, 90.0, 90.0, id="followed as it stands"),
        pytest.param(None, 0.125, 0.125, id="followed as it stands, though shorter"),
        pytest.param(60.0, 7.0, 7.0, id="followed"),
        pytest.param(60.0, 90.0, 60.0, id="followed as far as patience goes"),
        pytest.param(60.0, 0.125, 0.5, id="shorter than our own"),
    ],
)
def test_how_long_a_server_is_waited_for(patience: Optional[float], asked: Optional[float], waits: float) -> None:
    policy = RetryPolicy(random=lambda: 1.0, patience=patience)
    assert policy.wait(1, asked) == waits


def test_what_is_tried_again_unless_said_otherwise() -> None:
    policy = RetryPolicy()
    assert policy.unprocessed == {429}
    assert policy.statuses == {502, 503, 504}
    assert policy.methods == {"GET", "HEAD"}
    assert policy.patience is None
    assert policy.on_retry is None


def test_what_a_client_may_spend() -> None:
    """A hundred retries, or half as many time-outs, before a server that is dead is left alone."""
    assert RetryBudget().left == 500
    assert (RetryBudget.COST, RetryBudget.COST_OF_TIMEOUT) == (5, 10)


def test_a_forked_child_need_not_wait_for_a_thread_that_stayed_behind() -> None:
    budget = RetryBudget(10)
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with budget._lock:
            held.set()
            let_go.wait(BOUND)

    holder = Background(hold)
    assert held.wait(BOUND)
    try:
        said = in_forked_child(lambda: str((budget.take(4), budget.give(1), budget.left)).encode())
    finally:
        let_go.set()
    holder.result()
    assert said == b"(True, None, 7)"


def test_a_budget_gives_what_it_has() -> None:
    budget = RetryBudget(12)
    assert budget.left == 12
    assert budget.take(10)
    assert not budget.take(5)
    assert budget.left == 2, "a refused take takes nothing"
    assert budget.take(2)
    assert not budget.take(1)


def test_a_budget_never_grows_above_its_capacity() -> None:
    budget = RetryBudget(10)
    budget.give()
    assert budget.left == 10
    assert budget.take(3)
    budget.give(100)
    assert budget.left == 10
    assert budget.take(2)
    budget.give()
    assert budget.left == 9


def test_threads_never_take_more_than_there_is() -> None:
    budget = RetryBudget(100)
    taken = in_threads(16, lambda: sum(budget.take(1) for _ in range(20)))
    assert sum(taken) == 100
    assert budget.left == 0


@pytest.fixture
def far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = "UTC-14"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("0", 0.0),
        ("5", 5.0),
        ("  7 ", 7.0),
        ("0.25", 0.25),
        ("86400", 86400.0),
        ("-1", None),
        ("-0.001", None),
        ("nan", None),
        ("NaN", None),
        ("inf", None),
        ("-inf", None),
        ("1e400", None),
        ("", None),
        ("   ", None),
        ("soon", None),
        ("5 seconds", None),
        ("5, 5", None),
        ("0x10", None),
        (formatdate(NOW + 90, usegmt=True), 90.0),
        (formatdate(NOW - 90, usegmt=True), 0.0),
        (formatdate(NOW, usegmt=True), 0.0),
        (formatdate(NOW + 30, usegmt=True).replace("GMT", "-0000"), 30.0),
        (formatdate(NOW + 30, usegmt=True).replace("GMT", "+0100"), 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 253402300799.0 - NOW),
        ("Fri, 99 Foo 9999 99:99:99 GMT", None),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
        ("Fri, 31 Dec 2027", None),
        ("a, b c d e f", None),
        ("Jan--1 31 0,", None),
        ("99 Dec 0,: ,", None),
        ("Fri, 31 Dec 2027 00:00:00 +99999999999999999999", None),
        ("99 Dec 00:00 999999999999999999999999999999,", None),
        ("\x00\xff", None),
    ],
)
def test_retry_after(value: Optional[str], expected: Optional[float], far_east: None) -> None:
    assert parse_retry_after(value, NOW) == expected


@given(strategies.text(alphabet=strategies.characters(max_codepoint=255)))
def test_retry_after_of_anything_is_a_wait_or_nothing(value: str) -> None:
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or 0 <= seconds < float("inf")
