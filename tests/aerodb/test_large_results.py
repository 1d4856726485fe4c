"""A table of any size passes through ``stream()`` in the memory of one page."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any, Callable

import pytest

from tests import soak
from tests.servers.postgrest import PostgRest

ROWS = soak.amount("SELFDB_STREAM_ROWS", here=9_000, long=1_000_000)
PAGE = 500
SLACK = 1024 * 1024
"""Bytes; the rows of the suite take six times as much, those of a soak hundreds of times."""

pytestmark = pytest.mark.timeout(3600 if soak.LONG else 300)


def peak_of(query: Any, rest: PostgRest, expected: int) -> int:
    """The most that was allocated at a time while ``expected`` rows went by, over what was there before."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        total = 0
        for count, row in enumerate(query.stream(size=PAGE, key="id"), 1):
            total += row["id"]
            if count % PAGE == 0:
                rest.clear()
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert total == expected * (expected + 1) // 2
    return peak


def test_a2_memory_is_that_of_one_page(db: Any, rest: PostgRest, sql: Callable[..., Any]) -> None:
    sql("INSERT INTO many SELECT n, repeat(md5(n::text), 20) FROM generate_series(1, %s) n", ROWS)
    try:
        query = db.from_("many").select("id, label")
        list(query.limit(10).stream(key="id"))  # what is loaded once
        few = peak_of(query.lte("id", 4 * PAGE), rest, 4 * PAGE)
        all_of_them = peak_of(query, rest, ROWS)
    finally:
        sql("TRUNCATE many")
    soak.figure(
        "A2", f"{ROWS} rows in pages of {PAGE}: {all_of_them / 2**20:.1f} MiB, as {4 * PAGE} rows: {few / 2**20:.1f}"
    )
    assert all_of_them < few + SLACK
