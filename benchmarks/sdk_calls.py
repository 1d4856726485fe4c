"""The published SDK under measurement, in its own environment: ``python sdk_calls.py URL TABLE``.

Reads lines of "QUESTION TIMES" and answers each with a line of JSON: seconds of CPU and of wall time for one call.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any, Awaitable, Callable, Dict

from selfdb import SelfDB

NEW_ROW = {"title": "a row of about two hundred bytes", "n": 7, "done": False, "note": "x" * 110}


async def main(url: str, table: str) -> None:
    """Serve measurements until standard input ends."""
    client: Any = SelfDB(base_url=url, api_key="bench-key-0123456789")
    calls: Dict[str, Callable[[], Awaitable[Any]]] = {
        "get": lambda: client.auth.me(),
        "insert": lambda: client.tables.data.insert(table, NEW_ROW),
        "page": lambda: client.tables.data.fetch(table),
    }
    for call in calls.values():
        await call()
    print("ready", flush=True)
    for line in sys.stdin:  # nothing else is to run meanwhile
        name, _, times = line.partition(" ")
        call = calls[name]
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(int(times)):
            await call()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(json.dumps({"cpu": cpu / int(times), "wall": wall / int(times)}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
