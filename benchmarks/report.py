"""Every benchmark, one after the other, and one table of what came out: ``python -m benchmarks report``."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import statistics
import sys
import traceback
from pathlib import Path
from typing import Callable, Dict, List, Optional, Tuple

from . import aio, calls, cron, latency, machine, realtime, server, start, threads, transfer
from .goals import GOALS, Goal
from .measure import HERE, Results, kept, save

SCRIPTS: Dict[str, Tuple[Callable[[int, Path], Results], int]] = {
    "calls": (lambda rounds, folder: calls.measure(rounds, folder, list(calls.QUESTIONS)), 11),
    "threads": (lambda rounds, folder: threads.measure(rounds, 64, 2.0, 5.0), 5),
    # The published SDK is no part of the question, and takes minutes for a thousand calls at a time.
    "aio": (lambda rounds, folder: aio.measure(rounds, folder, ("selfdb.aio", "httpx", "aiohttp")), 5),
    "realtime": (realtime.measure, 9),
    "latency": (latency.measure, 9),
    "transfer": (transfer.measure, 5),
    "start": (start.measure, 20),
    "cron": (cron.measure, 20),
    "server": (server.measure, 5),
}
"""By name: what measures, and how many rounds unless told otherwise."""

WIDTHS = (36, 24, 10, 6, 10, 6)


def judged(value: float, limit: Optional[float], at_most: bool) -> Tuple[str, str]:
    """The limit as it is shown, and whether ``value`` keeps to it."""
    if limit is None:
        return "", ""
    kept_to = value <= limit if at_most else value >= limit
    return f"{'<=' if at_most else '>='} {limit:g}", "yes" if kept_to else "NO"


def line_of(goal: Goal, results: Results) -> str:
    """A line of the table."""
    try:
        values = goal.figure(results)
        middle = statistics.median(values)
    except (KeyError, statistics.StatisticsError):
        cells = ["not measured", "", "", "", ""]
    else:
        wanted, met = judged(middle, goal.goal, goal.at_most)
        more, reached = judged(middle, goal.beyond, goal.at_most)
        cells = [f"{middle:.3g} [{min(values):.3g} {max(values):.3g}]", wanted, met, more, reached]
    return "  " + "".join(f"{cell:<{width}}" for cell, width in zip([goal.what, *cells], WIDTHS)).rstrip()


def table(results: Results) -> str:
    """All goals: the median of the rounds, the smallest and the largest, and whether the median is enough."""
    heads = ("", "measured", "goal", "met", "beyond", "met")
    lines = ["  " + "".join(f"{head:<{width}}" for head, width in zip(heads, WIDTHS)).rstrip()]
    question = ""
    for goal in GOALS:
        if goal.question != question:
            question = goal.question
            lines.append(question)
        lines.append(line_of(goal, results))
    return "\n".join(lines)


def gathered(names: List[str], rounds: Optional[int], environments: Path) -> Results:
    """What the benchmarks called ``names`` measured; one that fails is told of, and left out."""
    results: Results = {}
    for name in names:
        measure, usual = SCRIPTS[name]
        try:
            with contextlib.redirect_stdout(sys.stderr):  # the report itself is one table
                results.update(measure(rounds or usual, environments))
        except Exception:
            traceback.print_exc()
    return results


def main(arguments: List[str]) -> None:
    """Measure, print and keep the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks report", description=__doc__)
    parser.add_argument("--rounds", type=int, help="of every benchmark; each has its own number by default")
    parser.add_argument("--environments", type=Path, help="a folder to keep the peers' environments in")
    parser.add_argument("--json", type=Path, help="a file for all figures")
    parser.add_argument("--only", nargs="+", choices=list(SCRIPTS), default=list(SCRIPTS), metavar="NAME")
    parser.add_argument("--out", type=Path, help="where the report goes (benchmarks/report-DATE.txt)")
    options = parser.parse_args(arguments)
    begun, busy = datetime.datetime.now(datetime.timezone.utc), machine.load()
    with kept(options.environments) as environments:
        results = gathered(options.only, options.rounds, environments)
        about = machine.described(environments)
    ended = datetime.datetime.now(datetime.timezone.utc)
    head = [
        f"How fast it is, {begun:%Y-%m-%d %H:%M} to {ended:%H:%M} UTC",
        *about,
        f"load average before: {busy}; after: {machine.load()}",
    ]
    text = "\n".join([*head, "", table(results)])
    print(text)
    save(results, options.json)
    out = options.out or HERE / f"report-{begun:%Y-%m-%d}.txt"
    out.write_text(text + "\n", encoding="utf-8")
