"""Live queries beside overlays: what is shown before a commit stays in sight through it, or goes with its overlay."""

from __future__ import annotations

import threading
from typing import Any, Dict, List

import pytest

from selfdb.indexie import HookError, LiveQuery, use_live_query
from tests import soak
from tests.indexie.conftest import SCHEMA
from tests.indexie.kit import SOON, Calls, Counted, elsewhere, names


class TestOptimistic:
    def test_each_write_is_shown_and_taken_back_with_the_overlay(self, db: Any) -> None:
        db.users.add({"name": "Ann"})
        query: LiveQuery[List[Any]] = use_live_query(lambda: names(db.users.to_array()))
        calls = Calls()
        query.subscribe(calls)
        calls.wait(1)

        def write() -> None:
            with db.users.start_transaction(optimistic=True):
                db.users.add({"name": "Bob"})
                calls.wait(2)
                db.users.update(1, {"name": "Anne"})
                calls.wait(3)

        elsewhere(write)
        assert calls.wait(4) == [["Ann"], ["Ann", "Bob"], ["Anne", "Bob"], ["Ann"]]
        assert query.settle(SOON)
        assert query.version == 4

    def test_a_commit_that_changes_nothing_in_sight_is_no_news(self, db: Any) -> None:
        query = use_live_query(lambda: db.users.to_array())
        calls = Calls()
        query.subscribe(calls)
        calls.wait(1)

        def write() -> None:
            with db.users.start_transaction(optimistic=True) as transaction:
                db.users.add({"name": "Bob"})
                calls.wait(2)
                transaction.commit()

        elsewhere(write)
        assert query.settle(SOON)
        assert [names(value) for value in calls.values] == [[], ["Bob"]]

    def test_a_hook_that_fails_takes_it_back(self, db: Any) -> None:
        def refuse(payload: Dict[str, Any]) -> None:
            raise ValueError("no")

        db.users.hook.on_add(refuse, name="refuse")
        query = use_live_query(lambda: names(db.users.to_array()))
        calls = Calls()
        query.subscribe(calls)
        calls.wait(1)

        def write() -> None:
            with pytest.raises(HookError), db.users.start_transaction(optimistic=True) as transaction:
                db.users.add({"name": "Bob"})
                calls.wait(2)
                transaction.commit()

        elsewhere(write)
        assert calls.wait(3) == [[], ["Bob"], []]

    def test_another_process_is_shown_commits_only(self, db: Any, peer: Any) -> None:
        process = peer()
        process.run(
            "from selfdb.indexie import Indexie, use_live_query\n"
            "db = Indexie(path)\ndb.version(1).stores({'users': stores['users']})\n"
            "query = use_live_query(lambda: [row['name'] for row in db.users.to_array()])",
            stores=SCHEMA,
        )
        with db.users.start_transaction(optimistic=True) as transaction:
            db.users.add({"name": "Bob"})
            assert process.run("query.settle(10); result = query.value, query.version") == ([], 1)
            transaction.commit()
        assert process.run("query.settle(10); result = query.value, query.version") == (["Bob"], 2)

    def test_only_those_who_read_what_it_touches_run(self, db: Any) -> None:
        function = Counted(lambda: db.users.where("age").above(50).count())
        query = use_live_query(function)
        with db.users.start_transaction(optimistic=True):
            db.users.add({"age": 20})
            assert query.settle(SOON)
            assert function.runs == 1
            db.users.add({"age": 60})
            assert query.settle(SOON)
            assert query.value == 1
        assert query.settle(SOON)
        assert query.value == 0

    def test_a_query_that_begins_in_it_is_outside_of_it_and_sees_what_all_see(self, db: Any) -> None:
        with db.users.start_transaction(optimistic=True):
            db.users.add({"name": "Bob"})
            query = use_live_query(lambda: names(db.users.to_array()))
            assert query.value == ["Bob"]
        assert query.wait_for_change(SOON)
        assert query.value == []


class TestStandard:
    @pytest.mark.parametrize("commit", [True, False])
    def test_nothing_is_shown_until_its_commit_and_then_all_at_once(self, db: Any, commit: bool) -> None:
        db.users.add({"name": "Ann"})
        function = Counted(lambda: names(db.users.to_array()))
        query = use_live_query(function)
        calls = Calls()
        query.subscribe(calls)
        calls.wait(1)
        with db.users.start_transaction(optimistic=False) as transaction:
            db.users.add({"name": "Bob"})
            db.users.update(1, {"name": "Anne"})
            assert names(db.users.to_array()) == ["Anne", "Bob"]
            assert query.settle(SOON)
            assert function.runs == 1
            if commit:
                transaction.commit()
        assert query.settle(SOON)
        assert calls.wait(1 + commit) == [["Ann"], ["Anne", "Bob"]][: 1 + commit]
        assert function.runs == 1 + commit

    def test_a_query_that_begins_in_it_does_not_see_it(self, db: Any) -> None:
        with db.users.start_transaction(optimistic=False):
            db.users.add({"name": "Bob"})
            assert use_live_query(lambda: db.users.count()).value == 0


@pytest.mark.timeout(3600 if soak.LONG else 300)
def test_a_row_that_becomes_real_is_never_seen_twice_nor_missing(db: Any) -> None:
    """Each value is checked: rows of committed overlays stay in sight from their first showing on."""
    chance = soak.chance("overlays that are shown")
    kept: List[int] = []
    wrong: List[Any] = []

    def look(rows: List[Dict[str, Any]]) -> None:
        found = [row["note"] for row in rows]
        missing = set(kept) - set(found)
        if missing or len(found) != len(set(found)):
            wrong.append((missing, found))

    queries = [
        use_live_query(lambda: db.users.to_array(), distinct=False),
        use_live_query(lambda: db.users.where("age").above(0).reverse().to_array(), distinct=False),
    ]
    for query in queries:
        query.subscribe(look)

    def write() -> None:
        for note in range(soak.amount("SELFDB_IX_SHOWN", here=40, long=2000)):
            commit = chance.random() < 0.7
            with db.users.start_transaction(optimistic=True) as transaction:
                db.users.add({"note": note, "age": 1 + note % 7})
                if commit:
                    if chance.random() < 0.5:  # in sight from here on
                        for query in queries:
                            query.wait_until(lambda rows, note=note: any(row["note"] == note for row in rows), SOON)
                        kept.append(note)
                    transaction.commit()
                    if note not in kept:
                        for query in queries:
                            assert query.settle(SOON)
                        kept.append(note)

    elsewhere_long = threading.Thread(target=write)
    elsewhere_long.start()
    elsewhere_long.join()
    for query in queries:
        assert query.settle(SOON)
        assert sorted(row["note"] for row in query.value) == kept
        assert query.error is None
    assert wrong == []
