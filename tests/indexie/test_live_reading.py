"""Live queries beyond the contract's cases: what their functions read, and where."""

from __future__ import annotations

import contextvars
import threading
from typing import Any, List

import pytest

from selfdb.indexie import (
    IndexieTimeoutError,
    InvalidArgumentError,
    InvalidStateError,
    use_live_query,
)
from tests.indexie.conftest import SCHEMA
from tests.indexie.kit import SOON, Calls, Counted, names, settled, wait_until


class TestReading:
    def test_wait_until(self, db: Any) -> None:
        query = use_live_query(lambda: db.users.count())
        assert query.wait_until(lambda value: value == 0, 0) == 0
        with pytest.raises(IndexieTimeoutError):
            query.wait_until(lambda value: value > 1, 0.05)
        threads = [threading.Thread(target=lambda: db.users.add({})) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert query.wait_until(lambda value: value > 2, SOON) == 3
        for thread in threads:
            thread.join()

    def test_subscribers_get_the_current_value_and_then_each_one_without_a_gap(self, db: Any) -> None:
        query = use_live_query(lambda: db.users.count(), distinct=False)
        writer = threading.Thread(target=lambda: [db.users.add({}) for _ in range(200)])
        writer.start()
        all_calls = []
        for _ in range(20):
            calls = Calls()
            query.subscribe(calls)
            calls.wait(1)
            all_calls.append(calls)
        writer.join()
        settled(query)
        wait_until(lambda: all(calls.values[-1] == 200 for calls in all_calls))
        whole = all_calls[0].values
        for calls in all_calls:
            assert calls.values == whole[len(whole) - len(calls.values) :]
        assert {thread.name for calls in all_calls for thread in calls.threads} == {"selfdb-indexie-live"}

    def test_what_a_callback_or_a_run_sets_in_its_context_stays_there(self, db: Any) -> None:
        variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
        found: List[int] = []

        def look(value: Any = None) -> None:
            found.append(variable.get())
            variable.set(1)

        query = use_live_query(lambda: (look() if found else None, db.users.count())[1])
        calls = Calls(look)
        query.subscribe(calls)
        for count in (1, 2, 3):
            calls.wait(count)
            db.users.add({})
        calls.wait(4)
        wait_until(lambda: len(found) == 7)
        assert found == [0] * 7

    def test_what_a_callback_or_a_run_enters_is_not_the_next_ones_business(self, db: Any) -> None:
        entered: List[Any] = []

        def enter(value: int) -> None:
            entered.append(db.transaction("r", ["users"]))
            entered[-1].__enter__()

        def function() -> Any:
            if not entered:
                return db.users.count()
            entered.append(db.transaction("r", ["users"]))
            entered[-1].__enter__()
            return db.users.count()

        query = use_live_query(function)
        calls, other = Calls(enter), Calls(lambda value: db.users.add({}) if value < 3 else None)
        query.subscribe(calls)
        query.subscribe(other)
        try:
            assert other.wait(4) == [0, 1, 2, 3]
        finally:
            query.close()
            for each in entered:
                each.__exit__(None, None, None)

    def test_iterations_leave_out_what_was_overtaken_and_know_nothing_of_each_other(self, db: Any) -> None:
        query = use_live_query(lambda: db.users.count())
        first, second = iter(query), iter(query)
        assert next(first) == next(second) == 0
        db.users.add({})
        settled(query)
        assert next(first) == 1
        for _ in range(3):
            db.users.add({})
            settled(query)
        assert query.version == 5
        assert next(second) == next(first) == next(iter(query)) == 4
        ended: List[Any] = []
        waiting = threading.Thread(target=lambda: ended.append(list(second)))
        waiting.start()
        wait_until(lambda: query._watch.changed._watchers)
        query.close()
        waiting.join(SOON)
        assert (ended, list(first)) == ([[]], [])

    def test_refresh(self, db: Any) -> None:
        outside = ["a"]
        query = use_live_query(lambda: (db.users.count(), outside[0]))
        outside[0] = "b"
        assert settled(query) == 1
        query.refresh()
        assert settled(query) == 2
        assert query.value == (0, "b")

    def test_a_query_or_a_table_that_is_returned_is_read(self, db: Any) -> None:
        db.users.add({"name": "Ann", "age": 60})
        by_age = Counted(lambda: db.users.where("age").above(50))
        queries = [use_live_query(by_age), use_live_query(lambda: db.users)]
        assert [names(query.value) for query in queries] == [["Ann"], ["Ann"]]
        db.users.add({"name": "Bob", "age": 20})
        assert [settled(query) for query in queries] == [1, 2]
        assert by_age.runs == 1

    def test_what_is_read_is_forgotten_when_it_is_not_read_any_more(self, db: Any) -> None:
        key = 1
        function = Counted(lambda: db.users.get(key))
        query = use_live_query(function)
        key = 2
        db.users.add({"id": 1})
        settled(query)
        assert function.runs == 2
        db.users.update(1, {"name": "Ann"})
        settled(query)
        assert function.runs == 2
        db.users.add({"id": 2})
        assert query.wait_for_change(SOON)
        assert query.value["id"] == 2

    def test_nothing_in_the_range_is_followed_too(self, db: Any) -> None:
        wanted: List[int] = []
        query = use_live_query(lambda: db.users.where("age").any_of(wanted).to_array())
        assert query.value == []
        wanted.append(3)
        query.refresh()
        settled(query)
        db.users.add({"age": 3})
        assert query.wait_for_change(SOON)

    def test_it_is_outside_of_the_callers_transaction(self, db: Any) -> None:
        def inside() -> Any:
            db.users.add({"name": "Ann"})
            query = use_live_query(lambda: db.users.count())
            assert query.value == 0
            assert db.users.count() == 1
            return query

        query = db.transaction("rw", ["users"], inside)
        assert query.wait_until(lambda value: value == 1, SOON) == 1

    def test_a_reading_transaction_in_the_function_reads_the_runs_snapshot(self, db: Any) -> None:
        function = Counted(lambda: db.transaction("r", ["users"], lambda: db.users.where("age").above(50).count()))
        query = use_live_query(function)
        db.users.add({"age": 20})
        settled(query)
        assert function.runs == 1
        db.users.add({"age": 60})
        settled(query)
        assert query.value == 1

    @pytest.mark.parametrize("function", [pytest.param(lambda: 5, id="nothing"), pytest.param(None, id="no function")])
    def test_a_function_that_reads_nothing(self, function: Any) -> None:
        with pytest.raises(InvalidArgumentError if function is None else InvalidStateError):
            use_live_query(function)

    def test_a_function_that_reads_two_databases(self, make_db: Any, tmp_path: Any, db: Any) -> None:
        other = make_db(file=tmp_path / "other.db").open()
        with pytest.raises(InvalidStateError):
            use_live_query(lambda: (db.users.count(), other.users.count()))
        assert not db._feed.listening
        assert not other._feed.listening

    def test_a_database_opens_with_the_first_read(self, make_db: Any) -> None:
        database = make_db()
        query = use_live_query(lambda: database.users.count())
        database.users.add({})
        assert query.wait_until(lambda value: value == 1, SOON)

    def test_in_memory(self) -> None:
        from selfdb.indexie import Indexie

        database = Indexie(":memory:")
        database.version(1).stores({"notes": "++id"})
        with database:
            query = use_live_query(lambda: database.notes.count())
            database.notes.add({})
            assert query.wait_until(lambda value: value == 1, SOON)

    def test_thousands_of_rows_at_once_fromelsewhere(self, db: Any, peer: Any) -> None:
        """More commits than are read from the log at a time."""
        query = use_live_query(lambda: db.users.count())
        process = peer()
        process.run(
            "from selfdb.indexie import Indexie\ndb = Indexie(path)\ndb.version(1).stores(stores)\n"
            "for _ in range(1200): db.users.add({})",
            stores=SCHEMA,
        )
        settled(query)
        assert query.value == 1200

    def test_repr_and_name(self, db: Any) -> None:
        query = use_live_query(lambda: db.users.count(), name="users")
        assert query.name == "users"
        assert repr(query) == "<LiveQuery users, version 1>"
        query.close()
        assert "closed" in repr(query)

    @pytest.mark.parametrize("given", [{"cb": None}, {"cb": print, "on_error": 3}])
    def test_subscribe_wants_functions(self, db: Any, given: Any) -> None:
        query = use_live_query(lambda: db.users.count())
        with pytest.raises(InvalidArgumentError):
            query.subscribe(**given)
