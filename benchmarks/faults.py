"""``python -m benchmarks faults``: plant each fault of a list in a copy of the checkout, and see its test fail.

A mutant (``mutants.py``) changes one thing blindly; a fault here undoes one protection that somebody thought of: a
check of a lease, an order of two steps. Each is planted in a copy, from which the tests start their processes too.
First the tests that are named are run unchanged, and have to pass; with the fault the named ones have to fail.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, List, NamedTuple, Sequence

from .seeded import FAULTS, Fault

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("selfdb", "tests", "benchmarks", "examples", "setup.cfg", "setup.py", "README.rst", "ruff.toml")
PASSED, FAILED = 0, 1
LIMIT = 600.0
"""Seconds for one run of pytest; a fault may well end in waiting for ever, and that is noticed too."""


class Verdict(NamedTuple):
    """What became of a fault.

    :ivar noticed: whether its test failed.
    :ivar by: the test, or how its process ended.
    """

    fault: Fault
    noticed: bool
    by: str


def planted(fault: Fault, source: str) -> str:
    """``source`` with the fault in it.

    :raises ValueError: if what it changes does not stand there exactly once.
    """
    if source.count(fault.before) != 1:
        raise ValueError(f"{fault.name}: {fault.path} has {source.count(fault.before)} times what it changes")
    return source.replace(fault.before, fault.after)


def run(folder: Path, tests: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run ``tests`` of the copy in ``folder`` until the first that fails."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "CI": "true", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    try:
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, FAILED, f"FAILED {tests[0]}: it came to no end\n", "")


def copy(folder: Path) -> None:
    """Copy into ``folder`` what the tests need."""
    for name in COPIED:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        elif path.exists():
            shutil.copy(path, folder / name)


def judge(fault: Fault, folder: Path) -> Verdict:
    """Plant ``fault`` in the copy in ``folder``, run its tests, and take it out again."""
    path = folder / fault.path
    source = path.read_text(encoding="utf-8")
    path.write_text(planted(fault, source), encoding="utf-8")
    try:
        done = run(folder, fault.tests)
    finally:
        path.write_text(source, encoding="utf-8")
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED ")]
    # Whatever else pytest may end with (a module that cannot be imported, a test of that name gone) notices nothing.
    noticed = done.returncode == FAILED and bool(failed)
    by = failed[0].split(" - ")[0].partition(" ")[2] if failed else f"pytest ended with {done.returncode}"
    return Verdict(fault, noticed, by)


def report(verdicts: Sequence[Verdict]) -> str:
    """What is written down of a run."""
    noticed = sum(verdict.noticed for verdict in verdicts)
    lines = [
        f"Planted faults, {datetime.date.today().isoformat()}",
        f"{platform.system()}, Python {platform.python_version()}",
        "",
        f"{noticed} of {len(verdicts)} turned a case red",
    ]
    for verdict in verdicts:
        lines += ["", f"{verdict.fault.name}: {'red' if verdict.noticed else 'NOT NOTICED'}", f"    {verdict.by}"]
    return "\n".join(lines) + "\n"


def main(arguments: List[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks faults", description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", help="parts of the names of faults; all if there is none")
    parser.add_argument("--out", type=Path, help="where the report goes (benchmarks/faults-DATE.txt)")
    options = parser.parse_args(arguments)
    chosen = [fault for fault in FAULTS if not options.names or any(part in fault.name for part in options.names)]
    verdicts: List[Verdict] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy(folder)
        every: Dict[str, None] = dict.fromkeys(test for fault in chosen for test in fault.tests)
        unchanged = run(folder, list(every))
        if unchanged.returncode != PASSED:
            raise SystemExit(f"the tests fail even unchanged:\n{unchanged.stdout[-4000:]}")
        for fault in chosen:
            verdicts.append(judge(fault, folder))
            print(f"{fault.name}: {'red' if verdicts[-1].noticed else 'NOT NOTICED'} ({verdicts[-1].by})", flush=True)
    if not options.names or options.out:
        out = options.out or ROOT / "benchmarks" / f"faults-{datetime.date.today().isoformat()}.txt"
        out.write_text(report(verdicts), encoding="utf-8")
    if not all(verdict.noticed for verdict in verdicts):
        raise SystemExit(1)
