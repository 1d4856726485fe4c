"""``python -m benchmarks mutants``: change one thing at a time in what must be right, and see whether a test notices.

Each mutant is a process of its own, forked from one that has everything else imported already; it runs the tests of its
module until the first that fails. The checkout is never written to: the changed source is handed to the importer.
Survivors whose reason stands in ``mutants-known.txt`` are listed with it; any other survivor is news, and ends the run
with an error, as does a rate below the one wanted.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import os
import platform
import re
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Tuple

from .mutated import Changed, Loop, Watched, be_child, in_child, run_pytest, within_functions
from .mutations import Mutant, mutants

ROOT = Path(__file__).resolve().parents[1]
KNOWN = Path(__file__).with_name("mutants-known.txt")
WANTED = 0.85
NEW = "NEW"
"""Stands for the reason of a survivor that nobody has looked at yet."""

BEFORE = ("requests", "urllib3", "pydantic", "websocket", "trustme", "pytest", "jwt")
"""Imported once, before the processes part. Nothing of the package: each of them imports it for itself."""


class Target(NamedTuple):
    """A module, and the tests that should notice a change in it.

    :ivar clocks: whether they wait for threads and time: then what they notice they have to notice twice.
    """

    path: str
    tests: Tuple[str, ...]
    clocks: bool = False


TARGETS = (
    Target("selfdb/core/retry.py", ("tests/core/test_retry.py",)),
    Target(
        "selfdb/core/tokens.py",
        (
            "tests/core/test_tokens.py",
            "tests/core/test_token_claims.py",
            "tests/core/test_renewal.py",
            "tests/core/test_lineage.py",
        ),
    ),
    Target("selfdb/core/wsframes.py", ("tests/core/test_wsframes.py",)),
    Target("selfdb/realtime/frames.py", ("tests/realtime/test_frames.py",)),
    Target(
        "selfdb/realtime/channel_machine.py",
        (
            "tests/realtime/test_channel_machine.py",
            "tests/realtime/test_channel_pushes.py",
            "tests/realtime/test_channel_outcomes.py",
        ),
    ),
    Target(
        "selfdb/realtime/channel.py",
        (
            "tests/realtime/test_channel.py",
            "tests/realtime/test_client_channels.py",
            "tests/realtime/test_events.py",
            "tests/realtime/test_follow.py",
            "tests/realtime/test_streams_asked.py",
        ),
        clocks=True,
    ),
)


class Verdict(NamedTuple):
    """What became of a mutant: ``by`` is the test that noticed, or how its process ended; empty if none did."""

    mutant: Mutant
    by: str


class Runner:
    """Judges the mutants of one module. Belongs to one thread of a process that has no other."""

    def __init__(self, target: Target, folder: Path) -> None:
        self._target = target
        self._path = ROOT / target.path
        self._folder = folder
        self._module = target.path[: -len(".py")].replace("/", ".")
        self.source = self._path.read_text(encoding="utf-8")

    def judge(self, every: Sequence[Mutant], tell: Callable[[Verdict], None]) -> List[Verdict]:
        """A verdict on each, of which ``tell`` hears at once."""
        inside = [mutant for mutant in every if within_functions(self.source, mutant.source)]
        found = self._from_one_session(inside, tell)
        for mutant in every:
            if mutant not in inside:
                found[mutant.name] = self._from_nothing(mutant.source)
                tell(Verdict(mutant, found[mutant.name]))
        return [Verdict(mutant, found[mutant.name]) for mutant in every]

    @property
    def _output(self) -> Path:
        return self._folder / "output"

    def _from_nothing(self, source: str) -> str:
        """Import everything with ``source`` in its place and run the tests that pass without."""
        watched = Watched(self._folder)
        arguments = [*self._target.tests, *(f"--deselect={name}" for name in watched.failed)]

        def once() -> str:
            return in_child(lambda: self._run(source, arguments, []), self._output, watched.limit)

        by = once()
        return once() if by and self._target.clocks else by

    def _run(self, source: str, arguments: Sequence[str], plugins: List[Any]) -> int:
        # Unchanged, too, it is this text: the file may be edited while this goes on.
        sys.meta_path.insert(0, Changed(self._module, self._path, source))
        return run_pytest(arguments, plugins)

    def _from_one_session(self, every: Sequence[Mutant], tell: Callable[[Verdict], None]) -> Dict[str, str]:
        """Collect the tests once; each mutant parts from there with the code of its functions exchanged."""
        results = self._folder / "results"
        results.write_text("")
        loop = Loop(self._module, self._path, self.source, every, self._folder, twice=self._target.clocks)
        process = os.fork()
        if not process:
            be_child(lambda: self._run(self.source, self._target.tests, [loop]), self._folder / "session")
        told: Dict[str, str] = {}
        while True:
            ended = os.waitpid(process, os.WNOHANG)
            lines = results.read_text(encoding="utf-8").splitlines(keepends=True)
            for line in lines[len(told) :]:
                if line.endswith("\n"):
                    mutant = every[len(told)]
                    told[mutant.name] = json.loads(line)
                    tell(Verdict(mutant, told[mutant.name]))
            if ended[0]:
                break
            time.sleep(0.05)
        if len(told) < len(every):
            said = (self._folder / "session").read_text(encoding="utf-8", errors="replace")
            raise SystemExit(f"{self._target.path}: the session broke off\n{said}")
        return told


# Reasons


def known() -> Dict[Tuple[str, str], str]:
    """By module and mutant: why no test notices it."""
    found: Dict[Tuple[str, str], str] = {}
    module = reason = ""
    for line in KNOWN.read_text(encoding="utf-8").splitlines() if KNOWN.exists() else ():
        if line.startswith("["):
            module = line.strip("[]")
        elif line.startswith("# "):
            reason = line[2:]
        elif line.strip():
            found[module, line.strip()] = reason
    return found


# The report


Section = Tuple[int, int, List[str]]
"""Of one module: mutants that were killed, all of them, and a line for each that was not with one for the reason."""


def section(path: str, verdicts: Sequence[Verdict], reasons: Dict[Tuple[str, str], str]) -> Section:
    lines = []
    for mutant, by in verdicts:
        if not by:
            lines += [f"    {mutant.line}: {mutant.name}", f"        {reasons.get((path, mutant.name), NEW)}"]
    return sum(bool(verdict.by) for verdict in verdicts), len(verdicts), lines


def read(text: str) -> Dict[str, Section]:
    """The sections of a report by module."""
    found: Dict[str, Section] = {}
    for line in text.splitlines():
        match = re.fullmatch(r"(selfdb/\S+): (\d+) of (\d+), .*", line)
        if match:
            found[match[1]] = int(match[2]), int(match[3]), []
        elif line.startswith("    "):
            found[list(found)[-1]][2].append(line)
    return found


def report(sections: Dict[str, Section]) -> str:
    killed, every = (sum(one[at] for one in sections.values()) for at in (0, 1))  # type: ignore[misc]
    lines = [
        f"Mutants, {datetime.date.today().isoformat()}",
        f"{platform.system()}, Python {platform.python_version()}",
        "",
        f"all: {_rate(killed, every)} killed",
    ]
    for path, (killed, every, survivors) in sorted(sections.items()):
        lines += ["", f"{path}: {_rate(killed, every)} killed", *survivors]
    return "\n".join(lines) + "\n"


def _rate(killed: int, every: int) -> str:
    return f"{killed} of {every}, {killed / max(1, every):.1%}"


def _tell(path: str, verdict: Verdict) -> None:
    mutant, by = verdict
    print("." if by else f"\nSURVIVED {path}:{mutant.line}: {mutant.name}", end="", flush=True)


def main(arguments: List[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks mutants", description=__doc__.split("\n\n")[0])
    parser.add_argument("modules", nargs="*", help="parts of the paths of modules; all if there is none")
    parser.add_argument("--only", default="", help="only mutants with this text in their names")
    parser.add_argument("--new", action="store_true", help="only mutants whose survival has no reason yet")
    parser.add_argument("--out", type=Path, help="where the report goes (benchmarks/mutants-DATE.txt)")
    options = parser.parse_args(arguments)
    out = options.out or ROOT / "benchmarks" / f"mutants-{datetime.date.today().isoformat()}.txt"
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # each would be loaded once a mutant
    for name in BEFORE:
        importlib.import_module(name)
    reasons = known()
    partly = bool(options.only or options.new)
    bad = False
    for target in TARGETS:
        if options.modules and not any(part in target.path for part in options.modules):
            continue
        with tempfile.TemporaryDirectory() as folder:
            runner = Runner(target, Path(folder))
            wanted = [
                mutant
                for mutant in mutants(runner.source)
                if options.only in mutant.name and not (options.new and (target.path, mutant.name) in reasons)
            ]
            verdicts = runner.judge(wanted, partial(_tell, target.path))
        killed, every, survivors = section(target.path, verdicts, reasons)
        print(f"\n{target.path}: {_rate(killed, every)} killed", flush=True)
        bad = bad or any(line.strip() == NEW for line in survivors) or (not partly and killed < WANTED * every)
        if not partly:  # modules that are run again replace their part of the report
            before = read(out.read_text(encoding="utf-8")) if out.exists() else {}
            out.write_text(report({**before, target.path: (killed, every, survivors)}), encoding="utf-8")
    if bad:
        raise SystemExit(1)
