"""One client of PostgREST under measurement, in a process of its own: ``python postgrest_peer.py NAME URL``.

Reads lines of "QUESTION TIMES" and answers each with a line of JSON: seconds of CPU and of wall time for one call.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

Calls = Dict[str, Callable[[], Any]]
"""What is called, by question; each gives rows."""

WHO = 4711
FIRST, LAST = 200, 299
ORDER = {"item": "green tea, loose", "amount": 3, "note": "x" * 110}


def by_aerodb(url: str, stack: contextlib.ExitStack) -> Calls:
    """As its users call it: the query is built for each call."""
    from selfdb.aerodb import AeroDBClient

    client = stack.enter_context(AeroDBClient(url, "bench-key"))
    return {
        "one": lambda: client.from_("people").select("*").eq("id", WHO).execute().data,
        "page": lambda: client.from_("people").select("*").order("id").range(FIRST, LAST).execute().data,
        "insert": lambda: client.from_("orders").insert(ORDER).data,
    }


def by_postgrest(url: str, stack: contextlib.ExitStack) -> Calls:
    """The same."""
    from postgrest import SyncPostgrestClient  # its own environment has it

    client: Any = stack.enter_context(SyncPostgrestClient(f"{url}/rest/v1", headers={"apikey": "bench-key"}))
    return {
        "one": lambda: client.from_("people").select("*").eq("id", WHO).execute().data,
        "page": lambda: client.from_("people").select("*").order("id").range(FIRST, LAST).execute().data,
        "insert": lambda: client.from_("orders").insert(ORDER).execute().data,
    }


def by_requests(url: str, stack: contextlib.ExitStack) -> Calls:
    """With the parameters written by hand."""
    import requests

    session = stack.enter_context(requests.Session())
    session.headers["apikey"] = "bench-key"
    people, orders = f"{url}/rest/v1/people", f"{url}/rest/v1/orders"
    window = {"select": "*", "order": "id.asc", "limit": str(LAST - FIRST + 1), "offset": str(FIRST)}
    whole = {"Prefer": "return=representation"}
    return {
        "one": lambda: session.get(people, params={"select": "*", "id": f"eq.{WHO}"}).json(),
        "page": lambda: session.get(people, params=window).json(),
        "insert": lambda: session.post(orders, json=ORDER, headers=whole).json(),
    }


CLIENTS = {"selfdb.aerodb": by_aerodb, "postgrest": by_postgrest, "requests": by_requests}


def check(calls: Calls) -> None:
    """See that every client gives the same rows before anything is measured."""
    one, page, inserted = (calls[name]() for name in ("one", "page", "insert"))
    ids: List[int] = [row["id"] for row in page]
    assert [row["id"] for row in one] == [WHO], one
    assert ids == list(range(FIRST + 1, LAST + 2)), ids
    assert [row["item"] for row in inserted] == [ORDER["item"]], inserted


def main(name: str, url: str) -> None:
    """Serve measurements until standard input ends."""
    with contextlib.ExitStack() as stack:
        calls = CLIENTS[name](url, stack)
        for _ in range(20):
            check(calls)
        print("ready", flush=True)
        for line in sys.stdin:
            question, _, number = line.partition(" ")
            call, times = calls[question], int(number)
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(times):
                call()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            print(json.dumps({"cpu": cpu / times, "wall": wall / times}), flush=True)


if __name__ == "__main__":
    # The module beside this one has the name of the package that is measured.
    sys.path = [entry for entry in sys.path if not entry or Path(entry).resolve() != Path(__file__).resolve().parent]
    main(*sys.argv[1:3])
