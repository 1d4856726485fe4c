"""One large transfer in a fresh process: ``python transfer_peer.py CLIENT URL up|down SMALL LARGE``, two files.

Moves a small body and then the large one with the same client, and prints a line of JSON: seconds of wall and CPU time
for the large one, and by how many bytes the peak of the process's memory rose meanwhile.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Callable

KEY = "bench-key-0123456789"
TOKEN = "bench-token"
BUCKET = "7b555910-3c00-471c-bf02-cb30fd24fda4"


def peak() -> int:
    """The most memory that was resident so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says may still be the parent's
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def by_selfdb(url: str, way: str) -> Callable[[Path], int]:
    """What moves the content of a file, or as much as it holds."""
    from selfdb import SelfDB

    db = SelfDB(url, KEY)
    db.access_token = TOKEN

    def up(file: Path) -> int:
        db.storage.files.upload(BUCKET, file.name, file)
        return file.stat().st_size

    def down(file: Path) -> int:
        with Path(os.devnull).open("wb") as target:
            return db.storage.files.download_to("bench", str(file.stat().st_size), target)

    return up if way == "up" else down


def by_requests(url: str, way: str) -> Callable[[Path], int]:
    """The same as people write it with ``requests``."""
    import requests

    session = requests.Session()
    session.headers.update({"X-API-Key": KEY, "Authorization": f"Bearer {TOKEN}"})

    def up(file: Path) -> int:
        with file.open("rb") as body:
            session.post(f"{url}/storage/buckets/{BUCKET}/files", data=body).json()
        return file.stat().st_size

    def down(file: Path) -> int:
        moved = 0
        where = f"{url}/storage/files/download/bench/{file.stat().st_size}"
        with session.get(where, stream=True) as answer, Path(os.devnull).open("wb") as target:
            for block in answer.iter_content(65536):
                moved += target.write(block)
        return moved

    return up if way == "up" else down


def main(client: str, url: str, way: str, small: str, large: str) -> None:
    """Move both, measure the second."""
    move = {"selfdb": by_selfdb, "requests": by_requests}[client](url, way)
    move(Path(small))
    before, wall, cpu = peak(), time.perf_counter(), time.process_time()
    moved = move(Path(large))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    if moved != Path(large).stat().st_size:
        raise SystemExit(f"{moved} bytes were moved")
    print(json.dumps({"rate": moved / wall, "wall": wall, "cpu": cpu, "grown": peak() - before}))


if __name__ == "__main__":
    main(*sys.argv[1:6])
