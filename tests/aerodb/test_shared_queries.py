"""One base query in the hands of many threads: each adds its own, and none sees what another added."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, List, Tuple

from tests.aerodb.kit import rows
from tests.servers.postgrest import PostgRest

THREADS = 16


def test_threads_share_a_base_query(db: Any, rest: PostgRest) -> None:
    base = db.from_("numbers").select("id, label").order("id")
    together = Barrier(THREADS)

    def ask(number: int) -> List[Tuple[int, str]]:
        together.wait(10)
        found = []
        for turn in range(10):
            at = 1 + number * 100 + turn
            query = base.eq("id", at) if turn % 2 else base.gte("id", at).limit(1)
            found += [(row["id"], row["label"]) for row in rows(query.execute())]
        return found

    with ThreadPoolExecutor(THREADS) as pool:
        for number, found in enumerate(pool.map(ask, range(THREADS))):
            expected = [1 + number * 100 + turn for turn in range(10)]
            assert found == [(at, f"number {at}") for at in expected]
    assert rows(base.limit(1).execute()) == [{"id": 1, "label": "number 1"}]
    assert rest.lines[-1] == "GET /rest/v1/numbers?select=id,label&order=id.asc&limit=1"


def test_threads_share_the_very_query(db: Any, rest: PostgRest) -> None:
    query = db.from_("numbers").select("id").in_("id", list(range(1, 6001)))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: len(rows(query.execute())), range(16)))
    assert found == [2500] * 16


def test_threads_walk_a_query_each(db: Any) -> None:
    query = db.from_("numbers").select("id")
    with ThreadPoolExecutor(4) as pool:
        walks = list(pool.map(lambda _: [row["id"] for row in query.stream(size=300, key="id")], range(4)))
    assert walks == [list(range(1, 2501))] * 4


def test_conditions_are_shared_as_well(db: Any) -> None:
    from selfdb.aerodb import filters

    condition = filters.or_(filters.eq("id", 1), filters.in_("id", (number for number in (2, 3))))
    for _ in range(2):
        found = db.from_("numbers").select("id").and_(condition).order("id").execute()
        assert [row["id"] for row in rows(found)] == [1, 2, 3]
