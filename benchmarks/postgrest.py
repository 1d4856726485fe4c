"""``selfdb.aerodb`` against postgrest-py on one PostgREST: ``python -m benchmarks postgrest``. CPU of the client."""

from __future__ import annotations

import contextlib
import statistics
import sys
from pathlib import Path
from typing import List

from .measure import POSTGREST, Results, ask, elsewhere, in_turns, peer, ratios, run, running, show

OURS = "selfdb.aerodb"
PEERS = (OURS, POSTGREST, "requests")
QUESTIONS = {
    "one": ("a filtered select of one row", 300),
    "page": ("a page of 100 rows, 16 KB", 120),
    "insert": ("an insert of one row, which comes back", 300),
}
"""By name: what is called, and how often in a turn."""

COLUMNS = (("cpu", "CPU us", 1e6, ".0f"), ("wall", "wall us", 1e6, ".0f"))


def measure(rounds: int, environments: Path) -> Results:
    """The rounds of each question."""
    results: Results = {}
    serve = [sys.executable, "-m", "benchmarks.postgrest_server", str(environments)]
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running(serve, PYTHONPATH=str(Path(__file__).parents[1])))
        url, about = ask(server, "").split(" ", 1)
        print(about, flush=True)
        processes = {
            name: stack.enter_context(peer(name, "postgrest_peer.py", environments, name, url)) for name in PEERS
        }
        for question, (title, times) in QUESTIONS.items():
            turns = {name: elsewhere(process, f"{question} {times}") for name, process in processes.items()}
            rounds_of = results[f"postgrest: {question}"] = in_turns(turns, rounds)
            print(show(f"{question}: {title}", rounds_of, COLUMNS), flush=True)
            ratio = statistics.median(ratios(rounds_of, OURS, POSTGREST, "cpu"))
            print(f"  {OURS} takes {ratio:.3f} of the CPU that postgrest-py takes", flush=True)
    return results


def main(arguments: List[str]) -> None:
    """Measure and print."""
    run("postgrest", __doc__, arguments, measure, 11)
