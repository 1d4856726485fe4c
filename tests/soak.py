"""How much is asked of a test that asks chance or repeats itself: a little in the suite, all of it in a soak.

``SELFDB_SOAK=1`` makes every such test long; a variable of its own, named where the test asks for its `amount`, sets
one alone. ``SELFDB_SEED=...`` repeats what chance did. What came out is told as a `figure`: printed, and added to the
file that ``SELFDB_FIGURES`` names, which is how ``tox -e soak`` comes by its report.
"""

from __future__ import annotations

import os
import random

LONG = os.environ.get("SELFDB_SOAK", "") not in ("", "0")


def amount(variable: str, *, here: int, long: int) -> int:
    """What the environment's ``variable`` says; else ``long`` in a soak and ``here`` in the suite."""
    said = os.environ.get(variable)
    return int(said) if said else (long if LONG else here)


def chance(what: str) -> random.Random:
    """A source of chance for ``what`` whose seed is printed, so that a failure shows how to repeat it."""
    seed = os.environ.get("SELFDB_SEED") or str(random.SystemRandom().randrange(1 << 32))
    print(f"SELFDB_SEED={seed}  # of {what}")
    return random.Random(f"{seed} {what}")


def figure(goal: str, said: str) -> None:
    """Tell what was reached: ``figure("G01", "10 000 writes cut at each of 1 043 bytes: 0 made twice")``."""
    line = f"{goal}  {said}"
    print(line)
    path = os.environ.get("SELFDB_FIGURES")
    if path:
        # One write of one line: the processes of xdist share the file.
        with open(path, "ab", buffering=0) as file:
            file.write(line.encode() + b"\n")
