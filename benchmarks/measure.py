"""How every benchmark measures: turns in an order that chance gives, CPU and wall time, medians with their spread."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple

HERE = Path(__file__).parent
SDK = "sdk-0.0.5"
"""The published asynchronous SDK, whose package bears the name of this one, so that it needs an environment."""

POSTGREST = "postgrest"
"""postgrest-py, as the package index calls it."""

TINYDB, SQLITE_UTILS, PEEWEE = "tinydb", "sqlite-utils", "peewee"
"""Other stores for one file, as the package index calls them."""

BARE = "bare"
"""What this client stands on and nothing else, as its users install it; an environment for work adds to every start."""

RELEASES = {
    "httpx": ("httpx",),
    "aiohttp": ("aiohttp",),
    SDK: ("selfdb==0.0.5",),
    "websockets": ("websockets",),
    POSTGREST: ("postgrest",),
    TINYDB: ("tinydb",),
    SQLITE_UTILS: ("sqlite-utils",),
    PEEWEE: ("peewee",),
    BARE: ("requests>=2.32.3", "urllib3>=2.6", "pydantic>=2.8", "websocket-client>=1.9"),
}
"""What each peer has installed, in an environment of its own."""

Figures = Dict[str, float]
Rounds = Dict[str, List[Figures]]
"""The figures of each round, by peer."""

Results = Dict[str, Rounds]
"""The rounds of each question."""


@contextlib.contextmanager
def running(command: List[str], **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A process that ends with its standard input."""
    variables = {**os.environ, **environment}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tempfile.gettempdir(), env=variables
    ) as process:
        try:
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()


def ask(process: subprocess.Popen[str], question: str) -> str:
    """The line with which ``process`` answers the line ``question``."""
    assert process.stdin is not None
    assert process.stdout is not None
    if question:
        print(question, file=process.stdin, flush=True)
    answer = process.stdout.readline().strip()
    if not answer:
        raise RuntimeError(f"{process.args!r} ended")
    return answer


def environment_of(peer: str, folder: Path) -> Path:
    """The python that has ``peer``; made in ``folder`` if it is not there."""
    if peer not in RELEASES:
        return Path(sys.executable)
    python = folder / peer / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / peer)], check=True)
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", *RELEASES[peer]]
        subprocess.run(pip, cwd=folder, check=True)
    return python


@contextlib.contextmanager
def peer(name: str, program: str, folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """``program`` of this folder under the python of ``name``, once it has said that it is ready."""
    own = {"PYTHONPATH": "" if name in RELEASES else str(HERE.parent)}
    command = [str(environment_of(name, folder)), str(HERE / program), *arguments]
    with running(command, **own) as process:
        ask(process, "")
        yield process


def timed(call: Callable[[], object], times: int) -> Figures:
    """Seconds of CPU, all threads of this process, and of wall time for one of ``times`` calls."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(times):
        call()
    return {"cpu": (time.process_time() - cpu) / times, "wall": (time.perf_counter() - wall) / times}


def whole(command: List[str], **environment: str) -> Figures:
    """Seconds of CPU and of wall time of a process, from its start to its end, which has to be a good one."""
    variables = {**os.environ, **environment}
    variables.pop("PYTHONDONTWRITEBYTECODE", None)  # what is compiled stays so, as where it is installed
    wall = time.perf_counter()
    child = os.posix_spawn(command[0], command, variables)
    _, status, used = os.wait4(child, 0)
    wall = time.perf_counter() - wall
    if status:
        raise RuntimeError(f"{command!r} ended with the status {status}")
    return {"cpu": used.ru_utime + used.ru_stime, "wall": wall}


def elsewhere(process: subprocess.Popen[str], question: str) -> Callable[[], Figures]:
    """A turn that another process takes."""
    return lambda: json.loads(ask(process, question))


def in_turns(turns: Mapping[str, Callable[[], Figures]], rounds: int) -> Rounds:
    """Every turn once a round, in another order each time."""
    results: Rounds = {name: [] for name in turns}
    order = list(turns)
    for _ in range(rounds):
        random.shuffle(order)
        for name in order:
            results[name].append(turns[name]())
    return results


def ratios(rounds: Rounds, ours: str, theirs: str, figure: str) -> List[float]:
    """The ratio within each round: what the machine did to one round it did to both."""
    return [mine[figure] / yours[figure] for mine, yours in zip(rounds[ours], rounds[theirs]) if yours[figure]]


def show(title: str, rounds: Rounds, columns: Iterable[Tuple[str, str, float, str]]) -> str:
    """A table of medians with the smallest and the largest: ``columns`` are (figure, heading, factor, format)."""
    columns = list(columns)
    lines = [title, f"  {'':<26}" + "".join(f"{heading:>28}" for _, heading, _, _ in columns)]
    for name, figures in rounds.items():
        cells = []
        for figure, _, factor, form in columns:
            values = [each[figure] * factor for each in figures]
            low, middle, high = (format(f(values), form) for f in (min, statistics.median, max))
            cells.append(f"{f'{middle} [{low} {high}]':>28}")
        lines.append(f"  {name:<26}" + "".join(cells))
    return "\n".join(lines)


@contextlib.contextmanager
def kept(environments: Optional[Path]) -> Iterator[Path]:
    """The folder of the peers' environments; one that goes again if none was named."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = (environments or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        yield folder


def parser_of(name: str, about: Optional[str], rounds: int) -> argparse.ArgumentParser:
    """What every benchmark may be told."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks {name}", description=about)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--environments", type=Path, help="a folder to keep the peers' environments in")
    parser.add_argument("--json", type=Path, help="a file for all figures")
    return parser


def save(results: Results, file: Optional[Path]) -> None:
    """Write every figure to ``file``, if there is one."""
    if file is not None:
        file.write_text(json.dumps(results, indent=1), encoding="utf-8")


def run(
    name: str, about: Optional[str], arguments: List[str], measure: Callable[[int, Path], Results], rounds: int = 9
) -> None:
    """A benchmark that needs to be told nothing of its own."""
    options = parser_of(name, about, rounds).parse_args(arguments)
    with kept(options.environments) as environments:
        save(measure(options.rounds, environments), options.json)
