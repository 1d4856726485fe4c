"""Large uploads and downloads against curl: ``python -m benchmarks transfer``. MB/s, and what memory rose by."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Callable, Dict, List

from .measure import HERE, Figures, Results, ask, in_turns, kept, parser_of, running, save, show

MIB = 1024 * 1024
COLUMNS = (
    ("rate", "MB/s", 1e-6, ".0f"),
    ("cpu", "CPU s", 1, ".2f"),
    ("grown", "peak memory +MiB", 1 / MIB, ".1f"),
)
SAID = "%{time_total} %{size_upload} %{size_download} %{http_code}\n"


def by_client(name: str, url: str, way: str, small: Path, large: Path) -> Figures:
    """A turn in a process of its own."""
    command = [sys.executable, str(HERE / "transfer_peer.py"), name, url, way, str(small), str(large)]
    variables = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    said = subprocess.run(command, env=variables, stdout=subprocess.PIPE, text=True, check=True).stdout
    figures: Figures = json.loads(said)
    return figures


def by_curl(url: str, way: str, small: Path, large: Path) -> Figures:
    """The same by curl: the small one first, over the same connection. Its memory is not looked at."""
    command = ["curl"]
    for number, file in enumerate((small, large)):
        command += ["--next"] * number + ["-sS", "-o", os.devnull, "-w", SAID]
        if way == "up":
            command += ["-T", str(file), f"{url}/storage/buckets/bench/files"]
        else:
            command += [f"{url}/storage/files/download/bench/{file.stat().st_size}"]
    before = os.times()
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[1].split()
    after = os.times()
    moved = int(said[1 if way == "up" else 2])
    if moved != large.stat().st_size or said[3][0] != "2":
        raise RuntimeError(f"curl moved {moved} bytes")
    cpu = after.children_user - before.children_user + after.children_system - before.children_system
    return {"rate": moved / float(said[0]), "wall": float(said[0]), "cpu": cpu, "grown": 0.0}


def measure(rounds: int, environments: Path, mib: int = 1024) -> Results:
    """The rounds of either way."""
    results: Results = {}
    with tempfile.TemporaryDirectory() as temporary, running([sys.executable, str(HERE / "moving.py")]) as server:
        url = f"http://127.0.0.1:{ask(server, '')}"
        small, large = Path(temporary) / "small.bin", Path(temporary) / "large.bin"
        for file, size in ((small, MIB), (large, mib * MIB)):
            with file.open("wb") as empty:
                empty.truncate(size)  # holes: no disk is measured
            with file.open("rb") as whole:
                while whole.read(MIB):  # and no cache that is filled
                    pass
        for way in ("up", "down"):
            turns: Dict[str, Callable[[], Figures]] = {}
            for name in ("selfdb", "requests"):
                turns[name] = lambda name=name, way=way: by_client(  # type: ignore[misc]
                    name, url, way, small, large
                )
            if shutil.which("curl"):
                turns["curl"] = lambda way=way: by_curl(url, way, small, large)  # type: ignore[misc]
            name = f"transfer {way}"
            results[name] = in_turns(turns, rounds)
            print(show(f"{name}: {mib} MiB", results[name], COLUMNS), flush=True)
    return results


def main(arguments: List[str]) -> None:
    """Measure and print."""
    parser = parser_of("transfer", __doc__, 5)
    parser.add_argument("--mib", type=int, default=1024, help="the size of what is moved")
    options = parser.parse_args(arguments)
    with kept(options.environments) as environments:
        save(measure(options.rounds, environments, options.mib), options.json)
