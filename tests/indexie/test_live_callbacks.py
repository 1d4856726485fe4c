"""Live queries, cases 82 and 84 to 86: whom they tell of what, and how that ends."""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any, Callable, List

import pytest

from selfdb.indexie import (
    DatabaseClosedError,
    InvalidStateError,
    use_live_query,
)
from selfdb.indexie.live import watch
from tests import soak
from tests.indexie.kit import SOON, Calls, Counted, feeding, names, settled, wait_until


class TestCase082:
    def test_c082_others_are_called_though_a_callback_raises(self, db: Any) -> None:
        def fail(value: Any) -> None:
            raise ValueError(f"cannot take {len(value)}")

        users = use_live_query(lambda: db.users.to_array())
        before, after, errors = Calls(), Calls(), Calls()
        users.subscribe(before)
        users.subscribe(fail, on_error=errors)
        users.subscribe(after)
        after.wait(1)
        db.users.add({"name": "Ann"})
        assert [len(value) for value in before.wait(2)] == [0, 1]
        assert [len(value) for value in after.wait(2)] == [0, 1]
        assert [str(error) for error in errors.wait(2)] == ["cannot take 0", "cannot take 1"]
        assert users.error is None

    @pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt()], ids=repr)
    def test_c082_whatever_it_raises(self, db: Any, error: BaseException, caplog: Any) -> None:
        def fail(value: Any) -> None:
            raise error

        users = use_live_query(lambda: db.users.to_array())
        calls = Calls()
        users.subscribe(fail)
        users.subscribe(fail, on_error=fail)
        users.subscribe(calls)
        calls.wait(1)
        db.users.add({"name": "Ann"})
        calls.wait(2)
        assert "callback" in caplog.text

    def test_c082_a_run_that_fails_keeps_the_value_and_is_told(self, db: Any) -> None:
        bad = False

        def function() -> Any:
            if bad:
                db.users.get(7)
                raise ValueError("bad")
            return db.users.where("age").above(50).to_array()

        counted = Counted(function)
        users = use_live_query(counted)
        calls, errors = Calls(), Calls()
        users.subscribe(calls, on_error=errors)
        calls.wait(1)
        bad = True
        db.users.add({"id": 1, "age": 60})
        (error,) = errors.wait(1)
        assert str(error) == "bad"
        assert users.error is error
        assert users.value == []
        assert users.version == 1
        assert not users.settle(SOON)

        # It is tried again when something of what it reads is changed: by this run, or by the one before.
        db.users.add({"id": 2, "age": 20})
        assert not users.settle(SOON)
        assert counted.runs == 2
        db.users.add({"id": 7, "age": 20})
        errors.wait(2)
        bad = False
        db.users.update(1, {"age": 70})
        assert users.wait_for_change(SOON)
        assert users.error is None
        assert [row["age"] for row in users.value] == [70]
        assert len(errors.values) == 2


class TestCase084:
    @pytest.mark.parametrize("distinct", [True, False])
    def test_c084_a_transaction_that_is_rolled_back_tells_nobody(self, db: Any, distinct: bool) -> None:
        function = Counted(lambda: db.users.to_array())
        users = use_live_query(function, distinct=distinct)
        calls = Calls()
        users.subscribe(calls, immediate=False)

        def fail() -> None:
            db.users.add({"name": "Ann"})
            raise LookupError

        with pytest.raises(LookupError):
            db.transaction("rw", ["users"], fail)
        settled(users)
        assert function.runs == 1
        assert calls.values == []

    def test_c084_nor_does_the_part_that_was(self, db: Any) -> None:
        function = Counted(lambda: db.users.where("age").above(50).to_array())
        users = use_live_query(function)

        def inner() -> None:
            db.users.add({"age": 60})
            raise LookupError

        def outer() -> None:
            db.users.add({"age": 10})
            with pytest.raises(LookupError):
                db.transaction("rw", ["users"], inner)

        db.transaction("rw", ["users"], outer)
        assert settled(users) == 1
        assert function.runs == 1

    def test_c084_an_equal_result_is_not_published(self, db: Any) -> None:
        db.users.add({"name": "Ann", "age": 60})
        function = Counted(lambda: names(db.users.where("age").above(50).to_array()))
        query = use_live_query(function)
        calls = Calls()
        query.subscribe(calls, immediate=False)
        db.users.update(1, {"age": 61})
        assert settled(query) == 1
        assert function.runs == 2
        db.users.update(1, {"name": "Anne"})
        assert calls.wait(1) == [["Anne"]]

    def test_c084_unless_it_is_wanted(self, db: Any) -> None:
        db.users.add({"name": "Ann", "age": 60})
        query = use_live_query(lambda: names(db.users.where("age").above(50).to_array()), distinct=False)
        db.users.update(1, {"age": 61})
        assert settled(query) == 2
        assert query.value == ["Ann"]

    @pytest.mark.parametrize("before, after", list(itertools.permutations([1, 1.0, True], 2)), ids=repr)
    def test_c084_values_that_json_tells_apart_are_not_equal(self, db: Any, before: Any, after: Any) -> None:
        db.users.add({"name": "Ann", "age": before})
        query = use_live_query(lambda: db.users.get(1))
        db.users.update(1, {"age": after})
        assert settled(query) == 2
        assert type(query.value["age"]) is type(after)

    def test_c084_one_transaction_is_one_value(self, db: Any) -> None:
        query = use_live_query(lambda: names(db.users.to_array()))
        calls = Calls()
        query.subscribe(calls)
        calls.wait(1)

        def both() -> None:
            db.users.add({"name": "Ann"})
            db.users.add({"name": "Bob"})

        db.transaction("rw", ["users"], both)
        assert settled(query) == 2
        assert calls.wait(2) == [[], ["Ann", "Bob"]]


class TestCase085:
    @pytest.fixture
    def patient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Closing waits for longer than a second, in which a busy machine may do nothing at all."""
        monkeypatch.setattr(watch, "_ENOUGH", SOON)

    def test_c085_an_iteration_ends(self, db: Any) -> None:
        query = use_live_query(lambda: db.users.count())
        got: List[Any] = []
        thread = threading.Thread(target=lambda: got.extend(query))
        thread.start()
        for count in range(4):
            if count:
                db.users.add({})
            wait_until(lambda: got[-1:] == [count])
        query.close()
        thread.join(SOON)
        assert not thread.is_alive()
        assert got == [0, 1, 2, 3]
        assert list(query) == []

    @pytest.mark.parametrize("what", ["wait_for_change", "wait_until"])
    @pytest.mark.parametrize("closed", ["the query", "the database"])
    def test_c085_who_waits_is_told(self, db: Any, what: str, closed: str) -> None:
        query = use_live_query(lambda: db.users.count())
        began, errors = threading.Event(), []

        def wait() -> None:
            assert query.value == 0
            began.set()
            try:
                query.wait_for_change() if what == "wait_for_change" else query.wait_until(lambda value: value > 0)
            except DatabaseClosedError as error:
                errors.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        assert began.wait(SOON)
        wait_until(lambda: query._watch.changed._watchers)
        (query if closed == "the query" else db).close()
        thread.join(SOON)
        assert not thread.is_alive()
        assert len(errors) == 1

    @pytest.mark.timeout(3600 if soak.LONG else 300)
    def test_c085_no_callback_begins_after_closing(self, db: Any, patient: None) -> None:
        """Closed again and again while commits come in, at whatever point the feed then is."""
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set():
                db.users.add({})

        writer = threading.Thread(target=write)
        writer.start()
        late = []
        try:
            for _ in range(soak.amount("SELFDB_IX_CLOSES", here=40, long=2000)):
                closed = threading.Event()
                begun = Calls(lambda value, closed=closed: late.append(value) if closed.is_set() else None)
                query = use_live_query(lambda: db.users.count())
                query.subscribe(begun)
                begun.wait(1)
                query.close()
                closed.set()
        finally:
            stop.set()
            writer.join(SOON)
        assert late == []

    def test_c085_closing_waits_for_the_callback_that_is_under_way(self, db: Any, patient: None) -> None:
        entered, go_on, ended = threading.Event(), threading.Event(), threading.Event()

        def callback(value: Any) -> None:
            entered.set()
            go_on.wait(SOON)
            ended.set()

        query = use_live_query(lambda: db.users.count())
        query.subscribe(callback)
        assert entered.wait(SOON)
        threading.Timer(0.05, go_on.set).start()
        query.close()
        assert ended.is_set()

    def test_c085_but_not_for_one_that_does_not_end(self, db: Any) -> None:
        entered, go_on = threading.Event(), threading.Event()

        def callback(value: Any) -> None:
            entered.set()
            go_on.wait()

        query = use_live_query(lambda: db.users.count())
        query.subscribe(callback)
        assert entered.wait(SOON)
        begun = time.monotonic()
        query.close()
        assert time.monotonic() - begun < 5
        go_on.set()

    def test_c085_a_closed_query_keeps_its_value_and_takes_nothing_more(self, db: Any) -> None:
        db.users.add({})
        with use_live_query(lambda: db.users.count()) as query:
            assert not query.closed
        assert query.closed
        query.close()
        assert query.value == 1
        assert query.version == 1
        for call in (lambda: query.subscribe(print), query.refresh, query.settle):
            with pytest.raises(DatabaseClosedError):
                call()
        with pytest.raises(DatabaseClosedError):
            query.wait_for_change(1)

    @pytest.mark.parametrize("last", [0, 1], ids=["to who has just come", "to who was there"])
    def test_c085_who_waits_for_all_that_was_committed_finds_it_told(self, db: Any, last: int) -> None:
        """And may leave then, knowing that nothing it has written was kept from anybody."""
        entered, go_on = threading.Event(), threading.Event()
        told: List[int] = []
        found: List[Any] = []

        def callback(value: int) -> None:
            if value == last:
                entered.set()
                assert go_on.wait(SOON)
            told.append(value)

        query = use_live_query(lambda: db.users.count())
        query.subscribe(callback)
        if last:
            db.users.add({})
        assert entered.wait(SOON)
        thread = threading.Thread(target=lambda: found.extend((query.settle(SOON), list(told))))
        thread.start()
        thread.join(0.1)
        go_on.set()
        thread.join(SOON)
        assert found == [True, [0, 1][: last + 1]]


class TestCase086:
    def test_c086_unsubscribing_inside_of_the_callback(self, db: Any) -> None:
        query = use_live_query(lambda: db.users.count())
        ends: List[Any] = []
        once = Calls(lambda value: ends[0]())
        other = Calls()
        ends.append(query.subscribe(once, immediate=False))
        query.subscribe(other)
        other.wait(1)
        db.users.add({})
        other.wait(2)
        db.users.add({})
        assert other.wait(3)[-1] == 2
        assert once.values == [1]

    @pytest.mark.parametrize("what", ["the other subscription", "the query", "the database"])
    def test_c086_who_is_sent_away_by_the_callback_before_is_not_called(self, db: Any, what: str) -> None:
        query = use_live_query(lambda: db.users.count())
        ends: List[Any] = []

        def send_away(value: int) -> None:
            if value == 1:
                ends.pop()() if what == "the other subscription" else (query if what == "the query" else db).close()

        first, second = Calls(send_away), Calls()
        query.subscribe(first)
        ends.append(query.subscribe(second))
        second.wait(1)
        db.users.add({})
        first.wait(2)
        if what == "the other subscription":
            db.users.add({})
            first.wait(3)
        else:
            wait_until(lambda: not feeding())
        assert second.values == [0]

    def test_c086_writing_inside_of_the_callback(self, db: Any) -> None:
        query = use_live_query(lambda: db.users.count())
        calls = Calls(lambda value: db.users.add({}) if value < 5 else None)
        query.subscribe(calls)
        assert calls.wait(6) == [0, 1, 2, 3, 4, 5]

    def test_c086_in_a_transaction_inside_of_the_callback(self, db: Any) -> None:
        query = use_live_query(lambda: db.users.count())

        def add(value: int) -> None:
            if value < 3:
                db.transaction("rw", ["users"], lambda: db.users.add({}))

        calls = Calls(add)
        query.subscribe(calls)
        assert calls.wait(4) == [0, 1, 2, 3]

    @pytest.mark.parametrize("what", ["the query", "the database"])
    def test_c086_closing_inside_of_the_callback(self, db: Any, what: str) -> None:
        query = use_live_query(lambda: db.users.count())
        calls = Calls(lambda value: (query if what == "the query" else db).close())
        query.subscribe(calls)
        calls.wait(1)
        wait_until(lambda: query.closed and not feeding())
        assert calls.values == [0]

    def test_c086_subscribing_inside_of_the_callback(self, db: Any) -> None:
        query = use_live_query(lambda: db.users.count())
        inner = Calls()
        outer = Calls(lambda value: query.subscribe(inner) if value == 0 else None)
        query.subscribe(outer)
        assert inner.wait(1) == [0]
        db.users.add({})
        assert inner.wait(2) == [0, 1]

    @pytest.mark.parametrize(
        "wait",
        [
            pytest.param(lambda query: query.wait_for_change(), id="wait_for_change"),
            pytest.param(lambda query: query.wait_for_change(60), id="for a time"),
            pytest.param(lambda query: query.wait_until(lambda value: False), id="wait_until"),
            pytest.param(lambda query: query.settle(), id="settle"),
            pytest.param(list, id="iterating"),
        ],
    )
    def test_c086_what_would_wait_for_itself_is_refused(self, db: Any, wait: Callable[[Any], Any]) -> None:
        query = use_live_query(lambda: db.users.count())
        errors = Calls()
        query.subscribe(lambda value: wait(query), on_error=errors)
        assert isinstance(errors.wait(1)[0], InvalidStateError)

    def test_c086_callbacks_come_one_at_a_time_and_hold_up_no_writer(self, db: Any) -> None:
        inside: List[int] = []
        most: List[int] = []
        go_on = threading.Event()

        def callback(value: Any) -> None:
            inside.append(1)
            most.append(len(inside))
            assert go_on.wait(SOON)
            inside.pop()

        queries = [use_live_query(lambda: db.users.count()) for _ in range(3)]
        for query in queries:
            query.subscribe(callback)
        for _ in range(50):
            db.users.add({})
        assert db.users.count() == 50
        go_on.set()
        for query in queries:
            settled(query)
        assert set(most) == {1}
