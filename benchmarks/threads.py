"""64 threads on one client, server of 5 ms: ``python -m benchmarks threads``. Calls a second, latency, connections."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from typing import Callable, Dict, List

import requests
import urllib3
from requests.adapters import HTTPAdapter

from selfdb import SelfDB

from .measure import HERE, Figures, Results, ask, in_turns, parser_of, running, save, show

COLUMNS = (
    ("rate", "calls/s", 1, ".0f"),
    ("p50", "p50 ms", 1e3, ".1f"),
    ("p99", "p99 ms", 1e3, ".1f"),
    ("cpu", "CPU us/call", 1e6, ".0f"),
    ("opened", "connections", 1, ".0f"),
)


def crowd(call: Callable[[], object], threads: int, seconds: float, opened: Callable[[], int]) -> Figures:
    """What ``threads`` threads reach that call again and again for ``seconds``."""
    times: List[List[float]] = [[] for _ in range(threads)]
    barrier = threading.Barrier(threads + 1)
    end = [0.0]

    def work(mine: List[float]) -> None:
        call()  # opens the connection
        barrier.wait()
        barrier.wait()
        began = time.perf_counter()
        while began < end[0]:
            call()
            done = time.perf_counter()
            mine.append(done - began)
            began = done

    workers = [threading.Thread(target=work, args=(mine,), daemon=True) for mine in times]
    for worker in workers:
        worker.start()
    barrier.wait()
    before, cpu, wall = opened(), time.process_time(), time.perf_counter()
    end[0] = wall + seconds
    barrier.wait()
    for worker in workers:
        worker.join()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    flat = sorted(each for mine in times for each in mine)
    return {
        "rate": len(flat) / wall,
        "p50": flat[len(flat) // 2],
        "p99": flat[int(len(flat) * 0.99)],
        "cpu": cpu / len(flat),
        "opened": opened() - before,
    }


def measure(rounds: int, threads: int, seconds: float, delay: float) -> Results:
    """The rounds of each client."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running([sys.executable, str(HERE / "answers.py"), str(delay)]))
        url = f"http://127.0.0.1:{ask(server, '')}"
        db = stack.enter_context(SelfDB(url, "bench-key"))
        default = stack.enter_context(requests.Session())
        large = stack.enter_context(requests.Session())
        large.mount("http://", HTTPAdapter(pool_maxsize=64))
        pool = stack.enter_context(urllib3.PoolManager(maxsize=64))
        counting = stack.enter_context(requests.Session())
        headers = {"X-API-Key": "bench-key"}
        calls: Dict[str, Callable[[], object]] = {
            "selfdb": db.auth.me,
            "requests": lambda: default.get(url + "/users/me", headers=headers).json(),
            "requests, pool of 64": lambda: large.get(url + "/users/me", headers=headers).json(),
            "urllib3, pool of 64": lambda: pool.request("GET", url + "/users/me", headers=headers).json(),
        }

        def opened() -> int:
            return int(counting.get(url + "/connections").text)

        for call in calls.values():
            crowd(call, threads, 0.5, opened)  # a pool opens what it needs: what is opened later was dropped
        turns: Dict[str, Callable[[], Figures]] = {
            name: (lambda call=call: crowd(call, threads, seconds, opened))  # type: ignore[misc]
            for name, call in calls.items()
        }
        results = {"threads": in_turns(turns, rounds)}
    print(show(f"{threads} threads, server of {delay:g} ms", results["threads"], COLUMNS), flush=True)
    return results


def main(arguments: List[str]) -> None:
    """Measure and print."""
    parser = parser_of("threads", __doc__, 5)
    parser.add_argument("--threads", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--delay", type=float, default=5.0, help="milliseconds before each answer of the server")
    options = parser.parse_args(arguments)
    results = measure(options.rounds, options.threads, options.seconds, options.delay)
    save(results, options.json)
