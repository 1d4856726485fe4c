"""Live queries, cases 75 to 78: what they follow, and waiting for it."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from typing import Any, Callable, List

import pytest

from selfdb.indexie import (
    use_live_query,
)
from tests.indexie.kit import SOON, Calls, Counted, feeding, names, settled, wait_until


class TestCase075:
    def test_c075_a_row_that_is_added_is_in_the_next_value(self, db: Any) -> None:
        users = use_live_query(lambda: db.users.to_array())
        assert users.value == []
        db.users.add({"name": "Ann"})
        assert users.wait_for_change(SOON)
        assert names(users.value) == ["Ann"]
        assert users() == users.value
        assert users.version == 2

    def test_c075_without_a_change_waiting_ends_in_time(self, db: Any) -> None:
        users = use_live_query(lambda: db.users.to_array())
        assert not users.wait_for_change(0.05)


class TestCase076:
    @pytest.fixture
    def over_50(self, db: Any) -> Any:
        db.users.add({"name": "Ann", "age": 30})
        db.users.add({"name": "Bob", "age": 55})
        function = Counted(lambda: db.users.where("age").above(50).to_array())
        return function, use_live_query(function)

    @pytest.mark.parametrize(
        "write",
        [
            pytest.param(lambda users: users.add({"name": "Cid", "age": 20}), id="added outside"),
            pytest.param(lambda users: users.add({"name": "Cid", "age": 50}), id="added at the open end"),
            pytest.param(lambda users: users.add({"name": "Cid"}), id="added without the index"),
            pytest.param(lambda users: users.update(1, {"age": 49}), id="updated outside"),
            pytest.param(lambda users: users.delete(1), id="deleted outside"),
            pytest.param(lambda users: users.delete(99), id="nothing deleted"),
        ],
    )
    def test_c076_what_lies_outside_of_the_range_runs_nothing(self, db: Any, over_50: Any, write: Any) -> None:
        function, query = over_50
        write(db.users)
        assert settled(query) == 1
        assert function.runs == 1

    @pytest.mark.parametrize(
        "write, expected",
        [
            pytest.param(lambda users: users.add({"name": "Cid", "age": 60}), ["Bob", "Cid"], id="added"),
            pytest.param(lambda users: users.update(1, {"age": 60}), ["Bob", "Ann"], id="updated into it"),
            pytest.param(lambda users: users.update(2, {"age": 20}), [], id="updated out of it"),
            pytest.param(lambda users: users.update(2, {"name": "Bo"}), ["Bo"], id="another field"),
            pytest.param(lambda users: users.delete(2), [], id="deleted"),
            pytest.param(lambda users: users.clear(), [], id="cleared"),
            pytest.param(lambda users: users.put({"id": 2, "name": "Bea", "age": 70}), ["Bea"], id="replaced"),
            pytest.param(
                lambda users: users.bulk_add([{"name": str(age), "age": age} for age in range(-500, 53)]),
                ["51", "52", "Bob"],
                id="more rows than are told one by one",
            ),
        ],
    )
    def test_c076_what_lies_in_the_range_runs_it(self, db: Any, over_50: Any, write: Any, expected: List[str]) -> None:
        function, query = over_50
        write(db.users)
        assert query.wait_for_change(SOON)
        assert names(query.value) == expected
        settled(query)
        assert function.runs == 2

    @pytest.mark.parametrize(
        "read, outside, inside",
        [
            pytest.param(
                lambda users: users.where("tags").equals("x").count(),
                {"tags": ["y", "z"]},
                {"tags": ["y", "x"]},
                id="multi-entry",
            ),
            pytest.param(
                lambda users: users.where("last").equals("D").primary_keys(),
                {"last": "E", "first": "A"},
                {"last": "D", "first": "Z"},
                id="part of a compound",
            ),
            pytest.param(
                lambda users: users.where("address.city").starts_with("Os").first(),
                {"address": {"city": "Bergen"}},
                {"address": {"city": "Oslo"}},
                id="prefix of a dotted path",
            ),
            pytest.param(
                lambda users: users.where("name").equals("A").or_("age").above(20).to_array(),
                {"name": "B", "age": 20},
                {"name": "B", "age": 21},
                id="either side of or",
            ),
            pytest.param(
                lambda users: users.where("age").any_of([1, 3]).keys(), {"age": 2}, {"age": 3}, id="any of several"
            ),
            pytest.param(
                lambda users: users.where("age").between(10, 20).limit(1).to_array(),
                {"age": 20},
                {"age": 19},
                id="limit is no bound",
            ),
            pytest.param(
                lambda users: users.where("age").above(10).filter(lambda row: row["age"] > 20).to_array(),
                {"age": 10},
                {"age": 15},
                id="filter is no bound",
            ),
        ],
    )
    def test_c076_by_each_kind_of_index(self, db: Any, read: Any, outside: Any, inside: Any) -> None:
        function = Counted(lambda: read(db.users))
        query = use_live_query(function, distinct=False)
        db.users.add(outside)
        settled(query)
        assert function.runs == 1
        db.users.add(inside)
        settled(query)
        assert function.runs == 2


class TestCase077:
    @pytest.fixture
    def fifth(self, db: Any) -> Any:
        db.users.add({"id": 4, "name": "Dan"})
        function = Counted(lambda: db.users.get(5))
        return function, use_live_query(function)

    @pytest.mark.parametrize(
        "write",
        [
            pytest.param(lambda users: users.update(4, {"name": "D"}), id="updated"),
            pytest.param(lambda users: users.add({"id": 6, "name": "Fay"}), id="added"),
            pytest.param(lambda users: users.delete(4), id="deleted"),
        ],
    )
    def test_c077_other_rows_run_nothing(self, db: Any, fifth: Any, write: Any) -> None:
        function, query = fifth
        write(db.users)
        assert settled(query) == 1
        assert function.runs == 1

    def test_c077_the_row_itself_runs_it(self, db: Any, fifth: Any) -> None:
        function, query = fifth
        assert query.value is None
        for write, expected in [
            (lambda: db.users.add({"id": 5, "name": "Eve"}), {"id": 5, "name": "Eve"}),
            (lambda: db.users.update(5, {"name": "Eva"}), {"id": 5, "name": "Eva"}),
            (lambda: db.users.delete(5), None),
        ]:
            write()
            assert query.wait_for_change(SOON)
            assert query.value == expected
        assert function.runs == 4


class TestCase078:
    @pytest.mark.parametrize("look", ["value", "version", "the constructor", "the last wait", "an iteration"])
    def test_c078_a_commit_before_waiting_is_not_missed(self, db: Any, look: str) -> None:
        users = use_live_query(lambda: db.users.to_array())
        if look == "the last wait":
            db.users.add({"name": "Ann"})
            assert users.wait_for_change(SOON)
        elif look == "an iteration":
            next(iter(users))
        elif look != "the constructor":
            getattr(users, look)
        calls = Calls()
        users.subscribe(calls, immediate=False)
        db.users.add({"name": "Bob"})
        calls.wait(1)
        assert users.wait_for_change(0)
        assert not users.wait_for_change(0)

    def test_c078_since_may_be_given(self, db: Any) -> None:
        users = use_live_query(lambda: db.users.to_array())
        assert users.wait_for_change(0, since=0)
        assert not users.wait_for_change(0, since=1)

    def test_c078_each_thread_has_seen_what_it_has_seen(self, db: Any) -> None:
        users = use_live_query(lambda: db.users.to_array())

        def elsewhere(look: Callable[[], Any]) -> Any:
            found: List[Any] = []
            thread = threading.Thread(target=lambda: found.append(look()))
            thread.start()
            thread.join(SOON)
            return found[0]

        # Who has seen nothing has something to see.
        assert elsewhere(lambda: (users.wait_for_change(0), users.wait_for_change(0))) == (True, False)
        assert not users.wait_for_change(0)
        calls = Calls()
        users.subscribe(calls, immediate=False)
        db.users.add({"name": "Ann"})
        calls.wait(1)
        assert elsewhere(lambda: users.version) == 2
        assert users.wait_for_change(0)  # which the other one's look has not used up

    def test_c078_a_copied_context_goes_its_own_way(self, db: Any) -> None:
        users = use_live_query(lambda: db.users.to_array())
        copied, other = contextvars.copy_context(), contextvars.copy_context()
        calls = Calls()
        users.subscribe(calls, immediate=False)
        db.users.add({"name": "Ann"})
        calls.wait(1)
        assert copied.run(users.wait_for_change, 0)
        assert not copied.run(users.wait_for_change, 0)
        assert other.run(users.wait_for_change, 0)
        assert users.wait_for_change(0)
        assert not users.wait_for_change(0)

    def test_c078_tasks_go_their_own_ways(self, db: Any) -> None:
        users = use_live_query(lambda: db.users.to_array())
        calls = Calls()
        users.subscribe(calls, immediate=False)

        async def look() -> Any:
            return users.wait_for_change(0), users.wait_for_change(0)

        async def main() -> Any:
            assert not users.wait_for_change(0, since=users.version)
            db.users.add({"name": "Ann"})
            calls.wait(1)
            return await asyncio.gather(look(), look())

        assert asyncio.run(main()) == [(True, False), (True, False)]
        assert users.wait_for_change(0)

    def test_c078_what_was_seen_of_queries_that_are_gone_is_forgotten(self, db: Any) -> None:
        from selfdb.indexie.live.watch import _seen

        for _ in range(20):
            use_live_query(lambda: db.users.count()).close()
        wait_until(lambda: not feeding())  # which may have been about to tell them something
        gc.collect()
        kept = use_live_query(lambda: db.users.count())
        assert len(_seen.get()) <= 1 + sum(isinstance(each, type(kept)) for each in gc.get_objects())
