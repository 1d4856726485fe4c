"""``python -m benchmarks soak``: the long runs of the tests, and a dated report of what they reached.

Runs every test that asks `tests.soak` how much is wanted, one file after the other, with ``SELFDB_SOAK=1``. The report
has what the machine was, what became of each file, and the figures that the tests told, goal by goal.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Dict, List, Tuple

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"
FILE_SECONDS = 5400


def long_files() -> List[Path]:
    """The test files that know of a soak."""
    return [path for path in sorted(TESTS.glob("*/**/test_*.py")) if "soak." in path.read_text(encoding="utf-8")]


def run(path: Path, figures: Path) -> Tuple[str, float]:
    """What pytest said at the end of ``path``'s long run, and the seconds that it took."""
    name = path.relative_to(ROOT).as_posix()
    environment = {**os.environ, "SELFDB_SOAK": "1", "SELFDB_FIGURES": str(figures), "CI": "true"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout", "3600", name]
    began = time.monotonic()
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=FILE_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"NOT DONE after {FILE_SECONDS} s", time.monotonic() - began
    said = done.stdout.decode(errors="replace")
    if done.returncode:
        print(said[-20_000:], flush=True)
    return said.strip().splitlines()[-1].strip("= "), time.monotonic() - began


def machine() -> str:
    processor = platform.processor() or platform.machine()
    return f"{platform.system()}, {os.cpu_count()} cores, {processor}, Python {platform.python_version()}"


def report(ends: Dict[str, Tuple[str, float]], figures: List[str]) -> str:
    """The text that is committed."""
    lines = [f"Long runs of the tests, {datetime.date.today().isoformat()}", machine(), "", "Figures reached", ""]
    lines += sorted(set(figures))
    lines += ["", "Files", ""]
    lines += [f"{seconds:7.0f} s  {name}: {said}" for name, (said, seconds) in ends.items()]
    return "\n".join(lines) + "\n"


def main(arguments: List[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks soak", description=__doc__.split("\n\n")[0])
    parser.add_argument("files", nargs="*", help="parts of the names of files to run; all if there is none")
    parser.add_argument("--out", type=Path, help="where the report goes (benchmarks/soak-DATE.txt)")
    options = parser.parse_args(arguments)
    out = options.out or ROOT / "benchmarks" / f"soak-{datetime.date.today().isoformat()}.txt"
    wanted = [path for path in long_files() if not options.files or any(part in str(path) for part in options.files)]
    ends: Dict[str, Tuple[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "figures"
        figures.touch()
        for path in wanted:
            ends[path.relative_to(ROOT).as_posix()] = run(path, figures)
            print(*ends[path.relative_to(ROOT).as_posix()], path.name, flush=True)
            out.write_text(report(ends, figures.read_text(encoding="utf-8").splitlines()), encoding="utf-8")
    if any("failed" in said or "error" in said or "NOT DONE" in said for said, _ in ends.values()):
        raise SystemExit(1)
