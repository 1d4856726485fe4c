"""``selfdb.aio`` against its peers at 1, 10, 100 and 1000 calls at a time, on one server, interleaved in one run."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, Iterator, List

HERE = Path(__file__).parent
AT_A_TIME = (1, 10, 100, 1000)
RELEASES = {"httpx": "httpx", "aiohttp": "aiohttp", "sdk-0.0.5": "selfdb==0.0.5"}
"""What each peer has installed, in an environment of its own."""

Figures = Dict[str, float]


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


def environment_of(peer: str, folder: Path) -> Path:
    """The python that has ``peer``."""
    if peer == "selfdb.aio":
        return Path(sys.executable)
    python = folder / peer / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / peer)], check=True)
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", RELEASES[peer]]
        subprocess.run(pip, cwd=folder, check=True)
    return python


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


def run(
    peers: List[str], delay: float, rounds: int, seconds: float, folder: Path
) -> Dict[int, Dict[str, List[Figures]]]:
    """Figures of each round, by number of calls at a time and by peer."""
    results: Dict[int, Dict[str, List[Figures]]] = {}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running([sys.executable, str(HERE / "answers.py"), str(delay)]))
        url = f"http://127.0.0.1:{ask(server, '')}"
        processes = {}
        for peer in peers:
            command = [str(environment_of(peer, folder)), str(HERE / "aio_peer.py"), peer, url]
            own = {"PYTHONPATH": str(HERE.parent)} if peer == "selfdb.aio" else {"PYTHONPATH": ""}
            processes[peer] = stack.enter_context(running(command, **own))
            ask(processes[peer], "")
        for concurrency in AT_A_TIME:
            results[concurrency] = {peer: [] for peer in peers}
            for _ in range(rounds):
                for peer, process in processes.items():
                    figures: Figures = json.loads(ask(process, f"{concurrency} {seconds}"))
                    figures["rate"] = figures["done"] / figures["wall"]
                    figures["cpu_us"] = figures["cpu"] / max(1, figures["done"]) * 1e6
                    results[concurrency][peer].append(figures)
                    print(concurrency, peer, json.dumps(figures), file=sys.stderr, flush=True)
    return results


def table(results: Dict[int, Dict[str, List[Figures]]]) -> str:
    """Medians, and the smallest and largest in brackets."""
    lines = [f"{'at a time':>9}  {'client':<12}{'calls/s':>24}{'CPU us/call':>24}{'lag p99 ms':>22}{'failed':>8}"]
    for concurrency, by_peer in results.items():
        for peer, rounds in by_peer.items():
            cells = []
            for name, scale, form in (("rate", 1, ".0f"), ("cpu_us", 1, ".0f"), ("lag_p99", 1000, ".1f")):
                values = [figures[name] * scale for figures in rounds]
                middle, low, high = (format(f(values), form) for f in (statistics.median, min, max))
                cells.append(f"{middle} [{low} {high}]")
            failed = sum(figures["failed"] for figures in rounds)
            lines.append(f"{concurrency:>9}  {peer:<12}{cells[0]:>24}{cells[1]:>24}{cells[2]:>22}{failed:>8.0f}")
    return "\n".join(lines)


def main(arguments: List[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks aio", description=__doc__)
    parser.add_argument("--delay", type=float, default=0.0, help="milliseconds before each answer of the server")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--peers", default="selfdb.aio,httpx,aiohttp,sdk-0.0.5")
    parser.add_argument("--environments", type=Path, help="a folder to keep the peers' environments in")
    parser.add_argument("--json", type=Path, help="a file for all figures")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.environments or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        results = run(options.peers.split(","), options.delay, options.rounds, options.seconds, folder.resolve())
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
