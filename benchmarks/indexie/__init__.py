"""``selfdb.indexie`` against what it stands on and other stores for one file: ``python -m benchmarks indexie``."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
from pathlib import Path
from typing import Dict, List, Tuple

from ..measure import PEEWEE, SQLITE_UTILS, TINYDB, Results, Rounds, elsewhere, in_turns, peer, ratios, run, show

__all__ = ["FLOORS", "main"]

OURS = "selfdb.indexie"
RAW = "sqlite3"
OTHERS = (TINYDB, SQLITE_UTILS, PEEWEE)

QUESTIONS: Dict[str, Tuple[str, int, int]] = {
    "add": ("rows one by one in one transaction", 3000, 0),
    "bulk": ("rows by one call", 5000, 5000),
    "batch": ("100 rows by one call, where there are 5000", 3000, 500),
    "own": ("rows one by one, each a transaction of its own", 1000, 60),
    "get": ("rows by key", 5000, 10),
    "unique": ("rows by a unique index", 5000, 10),
    "range": ("100 rows by a range of an index", 300, 10),
}
"""By name: what is done, how often in a turn, and how often by TinyDB, which takes a file's length for each."""

FLOORS = {"add": 0.35, "bulk": 0.40, "batch": 0.40, "own": 0.5, "get": 0.40, "unique": 0.40, "range": 0.40}
"""What part of the speed of ``sqlite3`` with all values made before is to be left."""

COLUMNS = (("cpu", "CPU us", 1e6, ".1f"), ("wall", "wall us", 1e6, ".1f"))
FOREIGN = 300
COMMITS = 10_000


def measure(rounds: int, environments: Path) -> Results:
    """The rounds of each question."""
    results: Results = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        processes = {
            name: stack.enter_context(peer(name, "indexie/stores_peer.py", environments, name, str(folder)))
            for name in (OURS, RAW, *OTHERS)
        }
        for question, (title, times, seldom) in QUESTIONS.items():
            turns = {
                name: elsewhere(process, f"{question} {seldom if name == TINYDB else times}")
                for name, process in processes.items()
                if not (name == TINYDB and not seldom)
            }
            rounds_of = results[f"indexie: {question}"] = in_turns(turns, rounds)
            print(show(f"{question}: {title}", rounds_of, COLUMNS), flush=True)
            print(_said(question, rounds_of), flush=True)
        live = stack.enter_context(peer(OURS, "indexie/live_peer.py", environments, str(folder / "live.db")))
        turns = {
            "rerun": elsewhere(live, f"rerun {COMMITS}"),
            "latency": elsewhere(live, f"latency {FOREIGN}"),
        }
        live_rounds = results["indexie: live"] = {name: [turn() for _ in range(3)] for name, turn in turns.items()}
    reruns = [each["runs"] for each in live_rounds["rerun"]]
    print(f"live: {COMMITS} commits of 4 threads made a live query run {statistics.median(reruns):.0f} times again,")
    print(
        f"  100 unrelated ones {max(each['unrelated'] for each in live_rounds['rerun']):.0f} times; another process's"
    )
    middle, late = (statistics.median(each[name] for each in live_rounds["latency"]) for name in ("p50", "p99"))
    print(f"  commit took {middle:.1f} ms to a callback (p99 {late:.1f} ms)", flush=True)
    return results


def _said(question: str, rounds: Rounds) -> str:
    # The speed that is left is the time of the raw one by ours.
    left = statistics.median(ratios(rounds, RAW, OURS, "cpu"))
    said = [f"  {left:.2f} of the speed of {RAW} (at least {FLOORS[question]:.2f})"]
    for other in OTHERS:
        if other in rounds:
            said.append(f"{statistics.median(ratios(rounds, other, OURS, 'cpu')):.1f} times that of {other}")
    return ", ".join(said)


def main(arguments: List[str]) -> None:
    """Measure and print."""
    run("indexie", __doc__, arguments, measure, 9)
