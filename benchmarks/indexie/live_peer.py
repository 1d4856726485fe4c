"""What a live query does while others write, in a process of its own: ``python live_peer.py FILE``.

``rerun COMMITS`` has four threads make as many commits beside a live query and tells how often it ran again.
``latency COMMITS`` has another process commit and tells how long each commit took to a callback here.
``write COMMITS`` is that other process: it commits one row at a time, with the moment before in it.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Dict, List, Optional

from selfdb.indexie import Indexie, use_live_query


def opened(file: str) -> Any:
    db = Indexie(Path(file))
    db.version(1).stores({"events": "++id, group"})
    return db.open()


def rerun(db: Any, commits: int) -> Dict[str, float]:
    runs = 0

    def count() -> int:
        nonlocal runs
        runs += 1
        return int(db.events.where("group").equals("mine").count())

    db.events.clear()
    with use_live_query(count) as live:
        threads = [
            threading.Thread(target=lambda: [db.events.add({"group": "mine"}) for _ in range(commits // 4)])
            for _ in range(4)
        ]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert live.wait_until(lambda value: value == commits // 4 * 4, 60)
        wall = time.perf_counter() - began
        told = runs - 1
        for _ in range(100):
            db.events.add({"group": "another"})
        live.settle(60)
        unrelated = runs - 1 - told
    return {"runs": told, "unrelated": unrelated, "wall": wall / commits}


def latency(db: Any, commits: int, file: str) -> Dict[str, float]:
    late: List[float] = []
    db.events.clear()

    def newest() -> Any:
        row = db.events.last()
        return None if row is None else row["sent"]

    with use_live_query(newest) as live:

        def seen(sent: Optional[float]) -> None:
            if sent is not None:
                late.append((time.time() - sent) * 1000)

        live.subscribe(seen, immediate=False)
        subprocess.run([sys.executable, __file__, file, "write", str(commits)], check=True)
        live.settle(10)
    cuts = statistics.quantiles(late, n=100)
    return {"p50": statistics.median(late), "p99": cuts[98], "seen": len(late)}


def write(db: Any, commits: int) -> None:
    for number in range(commits):
        db.events.add({"group": number, "sent": time.time()})
        time.sleep(0.03 + number % 7 * 0.003)  # so that they meet the polls at any moment


def main() -> None:
    file, *asked = sys.argv[1:]
    db = opened(file)
    if asked:
        write(db, int(asked[1]))
    else:
        print("ready", flush=True)
        for line in sys.stdin:
            question, commits = line.split()
            found = rerun(db, int(commits)) if question == "rerun" else latency(db, int(commits), file)
            print(json.dumps(found), flush=True)
    db.close()


if __name__ == "__main__":
    main()
