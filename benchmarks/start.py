"""What a process pays before its first call: ``python -m benchmarks start``. Fresh processes, CPU and wall time."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Callable, Dict, List

from .measure import BARE, HERE, SDK, Figures, Results, environment_of, in_turns, run, show, whole

MADE = "from selfdb import SelfDB\ndb = SelfDB('http://127.0.0.1:1', 'bench-key-0123456789')\n"
COUNTED = "import os, threading\nprint(threading.active_count(), len(os.listdir('/proc/self/task')))\n"
PROGRAMS = {
    "interpreter": (BARE, ""),
    "import requests": (BARE, "import requests\n"),
    "import selfdb": (BARE, "import selfdb\n"),
    "selfdb": (BARE, MADE),
    SDK: (SDK, MADE),
}
"""By name: the environment that it runs in, and the program. The last two make a client."""

COLUMNS = (("cpu", "CPU ms", 1e3, ".1f"), ("wall", "wall ms", 1e3, ".1f"))


def threads(python: str, folder: Path) -> float:
    """How many threads there are once a client was made, those that Python does not know of included."""
    program = folder / "counted.py"
    program.write_text(MADE + COUNTED, encoding="utf-8")
    variables = {"PYTHONPATH": str(HERE.parent)}
    said = subprocess.run([python, str(program)], env=variables, stdout=subprocess.PIPE, text=True, check=True)
    return float(max(int(word) for word in said.stdout.split()))


def measure(rounds: int, environments: Path) -> Results:
    """The rounds of each program; 20 at least, for single starts differ much."""
    turns: Dict[str, Callable[[], Figures]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for number, (name, (environment, text)) in enumerate(PROGRAMS.items()):
            program = folder / f"program{number}.py"  # with -c, the working directory would be on the path
            program.write_text(text, encoding="utf-8")
            command = [str(environment_of(environment, environments)), str(program)]
            path = str(HERE.parent) if environment == BARE else ""
            turns[name] = lambda command=command, path=path: whole(command, PYTHONPATH=path)  # type: ignore[misc]
        for turn in turns.values():
            turn()  # compiles, and brings the files to memory
        results = {"start": in_turns(turns, max(20, rounds))}
        count = threads(str(environment_of(BARE, environments)), folder)
    results["start: threads"] = {"selfdb": [{"threads": count}]}
    print(show("start: whole processes", results["start"], COLUMNS))
    print(f"  threads once a client was made: {count:.0f}", flush=True)
    return results


def main(arguments: List[str]) -> None:
    """Measure and print."""
    run("start", __doc__, arguments, measure, 20)
