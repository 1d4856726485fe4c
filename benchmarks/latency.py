"""From the sending of a frame to its callback, 1000 events a second: ``python -m benchmarks latency``."""

from __future__ import annotations

from pathlib import Path
from typing import List

from .measure import SDK, Results, in_turns, run, show
from .realtime import turns_of

PEERS = ("selfdb", SDK, "websockets", "raw socket")
COUNT = 1500
RATE = 1000
COLUMNS = (("p50", "p50 us", 1e6, ".0f"), ("p99", "p99 us", 1e6, ".0f"), ("cpu", "CPU us/event", 1e6, ".0f"))


def measure(rounds: int, environments: Path) -> Results:
    """The rounds of every client."""
    with turns_of(dict.fromkeys(PEERS, f"latency {COUNT} {RATE}"), environments) as turns:
        results = {"latency": in_turns(turns, rounds)}
    print(show(f"latency: {RATE} events a second, from sending to callback", results["latency"], COLUMNS), flush=True)
    return results


def main(arguments: List[str]) -> None:
    """Measure and print."""
    run("latency", __doc__, arguments, measure)
