"""``selfdb.aio`` against its peers at 1, 10, 100 and 1000 calls at a time, on one server, interleaved in one run."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Callable, Dict, List, Sequence

from .load import cpu_of
from .measure import HERE, SDK, Figures, Results, ask, in_turns, kept, parser_of, peer, running, save, show

AT_A_TIME = (1, 10, 100, 1000)
PEERS = ("selfdb.aio", "httpx", "aiohttp", SDK)
HOP = "aio: hop"
COLUMNS = (
    ("rate", "calls/s", 1, ".0f"),
    ("cpu", "CPU us/call", 1e6, ".0f"),
    ("lag_p99", "lag p99 ms", 1e3, ".1f"),
    ("server", "server's CPU %", 1e2, ".0f"),
    ("failed", "failed", 1, ".0f"),
)
HOPS = (("cpu", "CPU us/hop", 1e6, ".2f"),)


def turn(process: subprocess.Popen[str], concurrency: int, seconds: float, server: int) -> Figures:
    """A turn of one client, and how busy the process ``server`` was meanwhile."""
    before = cpu_of(server)
    said = json.loads(ask(process, f"{concurrency} {seconds}"))
    return {
        "rate": said["done"] / said["wall"],
        "cpu": said["cpu"] / max(1, said["done"]),
        "lag_p99": said["lag_p99"],
        "server": (cpu_of(server) - before) / said["wall"],
        "failed": said["failed"],
    }


def measure(
    rounds: int, environments: Path, peers: Sequence[str] = PEERS, delay: float = 0.0, seconds: float = 2.0
) -> Results:
    """The rounds of every client, by number of calls at a time; those of an empty function on the workers' threads."""
    results: Results = {}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running([sys.executable, str(HERE / "answers.py"), str(delay)]))
        url = f"http://127.0.0.1:{ask(server, '')}"
        processes = {name: stack.enter_context(peer(name, "aio_peer.py", environments, name, url)) for name in peers}
        for concurrency in AT_A_TIME:
            turns: Dict[str, Callable[[], Figures]] = {
                name: (lambda process=process, n=concurrency: turn(process, n, seconds, server.pid))  # type: ignore[misc]
                for name, process in processes.items()
            }
            name = f"aio: {concurrency} at a time"
            results[name] = in_turns(turns, rounds)
            print(show(name, results[name], COLUMNS), flush=True)
        turns = {}
        for name, title in (("hop", "selfdb"), ("hop asyncio", "asyncio")):
            process = stack.enter_context(peer(name, "aio_peer.py", environments, name, url))
            for n in (1, 1000):
                turns[f"{title}, {n} at a time"] = lambda process=process, n=n: turn(  # type: ignore[misc]
                    process, n, seconds / 4, server.pid
                )
        results[HOP] = in_turns(turns, rounds)
        print(show("aio: an empty function, to a worker's thread and back", results[HOP], HOPS), flush=True)
    return results


def main(arguments: List[str]) -> None:
    """Measure and print."""
    parser = parser_of("aio", __doc__, 5)
    parser.add_argument("--delay", type=float, default=0.0, help="milliseconds before each answer of the server")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--peers", default=",".join(PEERS))
    options = parser.parse_args(arguments)
    with kept(options.environments) as environments:
        results = measure(options.rounds, environments, options.peers.split(","), options.delay, options.seconds)
        save(results, options.json)
