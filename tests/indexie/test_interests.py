"""Whom a change concerns: found without asking each, and the same as by asking each."""

from __future__ import annotations

import random
import time
from typing import Any, Callable, Dict, List, Set, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfdb.indexie.file.log import EVERYTHING, KEY, Changes
from selfdb.indexie.keys.ranges import EVERYTHING as ALL_KEYS
from selfdb.indexie.keys.ranges import Range
from selfdb.indexie.live.interests import Interests, Intervals
from selfdb.indexie.live.tracking import Reads
from tests import soak

keys: st.SearchStrategy[Any] = st.one_of(
    st.integers(-3, 3), st.sampled_from([-1.5, 0.5, float("inf"), -float("inf"), 2.0**60]), st.binary(max_size=2)
)
bounds = st.one_of(st.none(), keys)
ranges = st.one_of(
    st.builds(Range, bounds, bounds, st.booleans(), st.booleans()), keys.map(Range.only), st.just(ALL_KEYS)
)
places = st.tuples(st.sampled_from(["users", "todos"]), st.sampled_from([KEY, "age", "name"]))


def reads_of(noted: List[Tuple[Tuple[str, str], Range]]) -> Reads:
    reads = Reads()
    for (store, index), each in noted:
        reads.part(store, index).add(each)
    return reads


def touched(noted: List[Tuple[Tuple[str, str], Range]], changes: Changes) -> bool:
    """What the contract says, word by word."""
    if EVERYTHING in changes:
        return True
    for (store, index), each in noted:
        if store in changes:
            indexes = changes[store]
            if indexes is None or any(key in each for key in indexes.get(index, ())):
                return True
    return False


noted_reads = st.lists(st.tuples(places, ranges.filter(lambda each: not each.empty)), max_size=4)
one_store = st.one_of(
    st.none(),
    st.dictionaries(st.sampled_from([KEY, "age", "name"]), st.lists(keys, min_size=1, max_size=3), max_size=3),
)
all_changes = st.one_of(
    st.dictionaries(st.sampled_from(["users", "todos", "gone"]), one_store, min_size=1, max_size=2),
    st.just({EVERYTHING: None}),
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 9), noted_reads),
        st.tuples(st.just("discard"), st.integers(0, 9), st.none()),
        st.tuples(st.just("change"), st.just(0), all_changes),
    ),
    max_size=40,
)


@pytest.mark.timeout(3600 if soak.LONG else 300)
@settings(max_examples=soak.amount("SELFDB_IX_INTERESTS", here=80, long=2000), deadline=None)
@given(steps)
def test_those_concerned_are_those_whose_reads_were_touched(done: List[Tuple[str, int, Any]]) -> None:
    interests: Interests[int] = Interests()
    known: Dict[int, List[Any]] = {}
    for what, listener, value in done:
        if what == "put":
            interests.put(listener, reads_of(value))
            known[listener] = value
        elif what == "discard":
            interests.discard(listener)
            known.pop(listener, None)
        else:
            expected = {each for each, noted in known.items() if touched(noted, value)}
            assert set(interests.concerned(value)) == expected
            assert {each for each, noted in known.items() if reads_of(noted).touched_by(value)} == expected
        for each in range(10):
            assert (each in interests) == (each in known)


def test_ranges_that_come_and_go_are_found_like_by_looking_at_each() -> None:
    chance = soak.chance("intervals")
    intervals: Intervals[int] = Intervals()
    known: Set[Tuple[int, Range]] = set()
    for owner in range(600):
        low = chance.uniform(0, 100)
        each = Range(low, low + chance.choice([0.5, 10, 90]), chance.random() < 0.5, chance.random() < 0.5)
        intervals.add(owner, each)
        known.add((owner, each))
        if chance.random() < 0.4:
            gone = chance.choice(sorted(known))
            known.discard(gone)
            intervals.discard(*gone)
        at = chance.choice([chance.uniform(-1, 101), each.lower, each.upper, b"", b"z"])
        assert at is not None
        found: Set[int] = set()
        intervals.find(at, found)
        assert found == {owner for owner, one in known if at in one}
    for gone in known:
        intervals.discard(*gone)
    assert not intervals


def test_the_same_reads_again_change_nothing() -> None:
    interests: Interests[str] = Interests()
    noted = [(("users", "age"), Range(1, 5)), (("users", KEY), Range.only(7))]
    interests.put("one", reads_of(noted))
    interests.put("one", reads_of(noted[::-1]))
    assert list(interests.concerned({"users": {"age": [3]}})) == ["one"]
    interests.put("one", reads_of(noted[1:]))
    assert list(interests.concerned({"users": {"age": [3]}})) == []
    assert list(interests.concerned({"users": {KEY: [7]}})) == ["one"]


@pytest.mark.parametrize("change", ["a key", "a range"])
def test_a_change_among_a_thousand_queries_asks_few_of_them(change: str) -> None:
    """Beside asking each of them, which is what the time is measured by: other work on the machine slows both. The best
    of several counts, for garbage is collected in between."""
    chance = random.Random(11)
    interests: Interests[int] = Interests()
    reads: List[Reads] = []
    for listener in range(1000):
        low = chance.uniform(0, 1000)
        noted = (
            [(("users", KEY), Range.only(listener))] if change == "a key" else [(("users", "age"), Range(low, low + 2))]
        )
        reads.append(reads_of(noted))
        interests.put(listener, reads[-1])
    some: List[Changes] = [
        {"users": {KEY: [chance.randrange(1000)], "age": [chance.uniform(0, 1000)]}} for _ in range(50)
    ]
    interests.concerned(some[0])

    def timed(do: Callable[[], List[Set[int]]]) -> Tuple[float, List[Set[int]]]:
        best, result = float("inf"), []
        for _ in range(5):
            begun = time.thread_time()
            result = do()
            best = min(best, time.thread_time() - begun)
        return best, result

    quick, found = timed(lambda: [set(interests.concerned(each)) for each in some])
    slow, asked = timed(lambda: [{at for at, one in enumerate(reads) if one.touched_by(each)} for each in some])
    assert found == asked
    assert quick * 10 < slow
