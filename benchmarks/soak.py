"""``python -m benchmarks soak``: the long runs of the tests, and a dated report of what they reached.

Runs every test that asks `tests.soak` how much is wanted, one file after the other, with ``SELFDB_SOAK=1``. The report
has what the machine was, what became of each file, and the figures that its tests told.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, List

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"
FILE_SECONDS = 5400
FAILED = "failed"


def long_files() -> List[Path]:
    """The test files that know of a soak."""
    asks = re.compile(r"\bsoak\.(amount|LONG|figure)|^from tests\.soak import", re.MULTILINE)
    return [path for path in sorted(TESTS.glob("*/**/test_*.py")) if asks.search(path.read_text(encoding="utf-8"))]


def run(path: Path) -> List[str]:
    """The part of the report that is about ``path``: what pytest said at the end, and the figures that were told."""
    name = path.relative_to(ROOT).as_posix()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout", "3600", name]
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "figures"
        figures.touch()
        environment = {**os.environ, "SELFDB_SOAK": "1", "SELFDB_FIGURES": str(figures), "CI": "true"}
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=FILE_SECONDS,
            )
            said = done.stdout.decode(errors="replace").strip()
            if done.returncode:
                print(said[-20_000:], flush=True)
            end = said.splitlines()[-1].strip("= ")
        except subprocess.TimeoutExpired:
            end = f"{FAILED}: not done after {FILE_SECONDS} s"
        reached = sorted(set(figures.read_text(encoding="utf-8").splitlines()))
    return [f"{name}: {end}", *(f"    {line}" for line in reached)]


def parts_of(report: str) -> Dict[str, List[str]]:
    """The lines of ``report`` about each file."""
    parts: Dict[str, List[str]] = {}
    current: List[str] = []
    for line in report.splitlines():
        if line.startswith("tests/"):
            current = parts[line.partition(":")[0]] = []
        if line.strip():
            current.append(line)
    return parts


def machine() -> str:
    """What it ran on."""
    processor = platform.processor() or platform.machine()
    return f"{platform.system()}, {os.cpu_count()} cores, {processor}, Python {platform.python_version()}"


def main(arguments: List[str]) -> None:
    """Run the files; those that the day's report has already and that are not run now keep their part of it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks soak", description=__doc__.split("\n\n")[0])
    parser.add_argument("files", nargs="*", help="parts of the names of files to run; all if there is none")
    parser.add_argument("--out", type=Path, help="where the report goes (benchmarks/soak-DATE.txt)")
    options = parser.parse_args(arguments)
    today = datetime.date.today().isoformat()
    out = options.out or ROOT / "benchmarks" / f"soak-{today}.txt"
    ends = []
    for path in long_files():
        if options.files and not any(part in str(path) for part in options.files):
            continue
        part = run(path)
        ends.append(part[0])
        print("\n".join(part), flush=True)
        parts = parts_of(out.read_text(encoding="utf-8")) if out.exists() else {}
        parts[path.relative_to(ROOT).as_posix()] = part
        text = [f"Long runs of the tests, {today}", machine()]
        text += ["\n" + "\n".join(parts[name]) for name in sorted(parts)]
        out.write_text("\n".join(text) + "\n", encoding="utf-8")
    if any(word in end for end in ends for word in (FAILED, "error")):
        raise SystemExit(1)
