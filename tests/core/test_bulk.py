"""Many calls a few at a time: bounded, lazy, in order, each with its own outcome, and no thread left behind."""

from __future__ import annotations

import threading
from typing import Any, Iterator, List, Optional, Tuple

import pytest

from selfdb.core.bulk import BulkReport, Outcome, OutcomeStatus, run_many
from selfdb.exceptions import (
    APIConnectionError,
    APITimeoutError,
    BadRequestError,
    ClientClosedError,
    ConflictError,
    InternalServerError,
    InvalidRequestError,
    RateLimitError,
    RedirectError,
    ResponseTooLargeError,
    SelfDBError,
)
from tests.core.kit import BOUND, Background, wait_until


def threads_of_bulk() -> List[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "selfdb-bulk"]


class Gauge:
    """Work that counts how many of its calls are under way, and holds them until ``opened`` is set."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now = 0
        self.most = 0
        self.opened = threading.Event()

    def __call__(self, item: Any) -> Any:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        assert self.opened.wait(BOUND)
        with self.lock:
            self.now -= 1
        return item


@pytest.mark.parametrize("concurrency", [1, 3, 64])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 50])
def test_every_item_has_its_outcome_in_the_order_of_the_items(concurrency: int, count: int) -> None:
    report = run_many(range(count), lambda item: item * 10, concurrency)
    assert [outcome.index for outcome in report] == list(range(count))
    assert [outcome.result for outcome in report] == [item * 10 for item in range(count)]
    assert len(report) == len(report.done) == count
    assert report.refused == report.unknown == []
    assert all(outcome.item is None and outcome.error is None for outcome in report)
    assert threads_of_bulk() == []


def test_outcomes_stand_in_the_order_of_the_items_whatever_ends_first() -> None:
    later_ones_are_done = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert later_ones_are_done.wait(BOUND)
        elif item == 3:
            later_ones_are_done.set()
        return item

    report = run_many(iter(range(4)), work, 4)
    assert [outcome.result for outcome in report] == [0, 1, 2, 3]


@pytest.mark.parametrize("concurrency", [1, 4])
def test_the_bound_is_reached_and_never_passed(concurrency: int) -> None:
    gauge = Gauge()
    running = Background(lambda: run_many(range(20), gauge, concurrency))
    wait_until(lambda: gauge.now == concurrency)
    gauge.opened.set()
    assert len(running.result()) == 20
    assert gauge.most == concurrency
    assert threads_of_bulk() == []


def test_no_more_threads_than_items_are_started() -> None:
    gauge = Gauge()
    running = Background(lambda: run_many(range(2), gauge, 64))
    wait_until(lambda: gauge.now == 2)
    assert len(threads_of_bulk()) == 2
    gauge.opened.set()
    running.result()


@pytest.mark.parametrize("concurrency", [1, 3])
def test_items_are_taken_as_late_as_can_be_and_in_the_calling_thread(concurrency: int) -> None:
    taken = ended = 0
    lock = threading.Lock()
    ahead: List[int] = []
    takers = set()

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(30):
            takers.add(threading.get_ident())
            with lock:
                taken += 1
                ahead.append(taken - ended)
            yield number

    def work(item: int) -> None:
        nonlocal ended
        with lock:
            ended += 1

    run_many(items(), work, concurrency)
    assert max(ahead) <= concurrency, "an item that nobody can work on yet is not taken"
    assert takers == {threading.get_ident()}


def maybe_applied(error: SelfDBError) -> SelfDBError:
    error.may_have_been_applied = True
    return error


@pytest.mark.parametrize(
    "error, status",
    [
        (BadRequestError("no", 400), "refused"),
        (ConflictError("no", 409), "refused"),
        (RateLimitError("no", 429), "refused"),
        (SelfDBError("no", 413), "refused"),
        (InvalidRequestError("no"), "refused"),
        (ClientClosedError("no"), "refused"),
        (SelfDBError("the server answered 302", 302), "refused"),
        (RedirectError("elsewhere"), "refused"),
        (APIConnectionError("refused"), "refused"),
        (APITimeoutError("not connected"), "refused"),
        (maybe_applied(APIConnectionError("lost")), "unknown"),
        (maybe_applied(APITimeoutError("late")), "unknown"),
        (maybe_applied(InternalServerError("oops", 500)), "unknown"),
        (maybe_applied(InternalServerError("oops", 503)), "unknown"),
        (maybe_applied(SelfDBError("the answer is not the JSON that was promised", 201)), "unknown"),
        (maybe_applied(ResponseTooLargeError("too large", 200)), "unknown"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{type(value).__name__}-{value.status_code}",
)
def test_what_became_of_an_item(error: SelfDBError, status: str) -> None:
    def work(item: str) -> str:
        if item == "bad":
            raise error
        return item.upper()

    report = run_many(["a", "bad", "c"], work, 2)
    assert [outcome.status.value for outcome in report] == ["done", status, "done"]
    assert (report.outcomes[1].error, report.outcomes[1].item, report.outcomes[1].result) == (error, "bad", None)
    assert report.refused == ([report.outcomes[1]] if status == "refused" else [])
    assert report.unknown == ([report.outcomes[1]] if status == "unknown" else [])
    assert [outcome.result for outcome in report.done] == ["A", "C"]
    with pytest.raises(type(error)) as caught:
        report.raise_for_failures()
    assert caught.value is error


def test_a_report_without_failures() -> None:
    report = run_many("abc", str.upper, 2)
    report.raise_for_failures()
    assert repr(report) == "BulkReport(done=3, refused=0, unknown=0)"


def test_a_report_shows_no_item() -> None:
    outcomes: List[Outcome[int]] = [
        Outcome(0, OutcomeStatus.REFUSED, error=ConflictError("first"), item={"password": "hunter2"}),
        Outcome(1, OutcomeStatus.UNKNOWN, error=APITimeoutError("second"), item={"password": "hunter2"}),
    ]
    report = BulkReport(outcomes)
    assert repr(report) == "BulkReport(done=0, refused=1, unknown=1)"
    with pytest.raises(ConflictError, match="first"):
        report.raise_for_failures()


@pytest.mark.parametrize("known", [True, False])
def test_progress_is_told_after_each_item_in_the_calling_thread(known: bool) -> None:
    steps: List[Tuple[int, Optional[int]]] = []
    threads = set()

    def progress(done: int, total: Optional[int]) -> None:
        threads.add(threading.get_ident())
        steps.append((done, total))

    items = list(range(7))
    run_many(items if known else iter(items), lambda item: item, 3, progress)
    assert steps == [(done, 7 if known else None) for done in range(1, 8)]
    assert threads == {threading.get_ident()}


# What ends it


def ends(run: Any, error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        run()
    assert caught.value is error
    wait_until(lambda: threads_of_bulk() == [])


@pytest.mark.parametrize("error", [ZeroDivisionError(), KeyboardInterrupt(), ConflictError("theirs")], ids=repr)
def test_what_the_items_raise_ends_it(error: BaseException) -> None:
    worked: List[int] = []

    def items() -> Iterator[int]:
        yield from range(5)
        raise error

    ends(lambda: run_many(items(), worked.append, 2), error)
    assert sorted(worked)[:3] == [0, 1, 2]
    assert len(worked) <= 5


@pytest.mark.parametrize("error", [ZeroDivisionError(), KeyboardInterrupt()], ids=repr)
def test_what_progress_raises_ends_it(error: BaseException) -> None:
    worked: List[int] = []

    def progress(done: int, total: Optional[int]) -> None:
        raise error

    ends(lambda: run_many(range(50), worked.append, 2, progress), error)
    assert len(worked) <= 2, "nothing new is begun"


@pytest.mark.parametrize("error", [ZeroDivisionError(), SystemExit(), KeyError("column")], ids=repr)
def test_a_fault_in_the_work_ends_it(error: BaseException) -> None:
    begun: List[int] = []

    def work(item: int) -> None:
        begun.append(item)
        raise error

    ends(lambda: run_many(range(50), work, 1), error)
    assert begun == [0]


def test_an_end_leaves_what_is_under_way_to_its_end() -> None:
    gauge = Gauge()
    finished: List[int] = []

    def work(item: int) -> None:
        if item == 0:
            wait_until(lambda: gauge.now == 1)
            raise ZeroDivisionError
        gauge(item)
        finished.append(item)

    with pytest.raises(ZeroDivisionError):
        run_many(range(50), work, 2)
    assert finished == []
    gauge.opened.set()
    wait_until(lambda: threads_of_bulk() == [])
    assert finished == [1]
