"""A whole script: start, log in, insert one row, end: ``python -m benchmarks cron``. CPU and wall time."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Dict, List

from .measure import BARE, HERE, SDK, Figures, Results, environment_of, in_turns, run, show, whole
from .nginx import TABLE, static_server

COLUMNS = (("wall", "wall ms", 1e3, ".1f"), ("cpu", "CPU ms", 1e3, ".1f"))


def measure(rounds: int, environments: Path) -> Results:
    """The rounds of each script."""
    turns: Dict[str, Callable[[], Figures]] = {}
    with static_server() as server:
        for name, environment in (("selfdb", BARE), ("requests", BARE), (SDK, SDK)):
            python = str(environment_of(environment, environments))
            command = [python, str(HERE / "cron_script.py"), name, server.url, TABLE]
            path = str(HERE.parent) if environment == BARE else ""
            turns[name] = lambda command=command, path=path: whole(command, PYTHONPATH=path)  # type: ignore[misc]
        for turn in turns.values():
            turn()  # compiles, and brings the files to memory
        results = {"cron": in_turns(turns, max(20, rounds))}
    print(show("cron: log in and insert one row, whole processes", results["cron"], COLUMNS), flush=True)
    return results


def main(arguments: List[str]) -> None:
    """Measure and print."""
    run("cron", __doc__, arguments, measure, 20)
