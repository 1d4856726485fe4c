"""A live board in the terminal: how many orders are in which state, drawn anew with each change. Ctrl+C ends it.

SELFDB_URL=... SELFDB_API_KEY=... SELFDB_EMAIL=... SELFDB_PASSWORD=... python order_board.py TABLE [--for SECONDS]
The table has a column state. Into a pipe goes a line for each change. What happens to the connection goes to stderr.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator

from selfdb import PermissionDeniedError, SelfDB, SelfDBError
from selfdb.models import RealtimePayload


def follow(db: SelfDB, name: str) -> Iterator[RealtimePayload]:
    db.auth.login(os.environ.get("SELFDB_EMAIL", ""), os.environ.get("SELFDB_PASSWORD", ""))
    table = db.tables.get_by_name(name)
    if not table.realtime_enabled:  # there would be rows, but never a change
        try:
            db.tables.update(table.id, {"realtime_enabled": True})
        except PermissionDeniedError:
            sys.exit(f"order_board: realtime is off for {name}, and its owner has to enable it")
    db.realtime.on_state_change(lambda state: sys.stderr.write(f"{name}: {state}\n"))
    db.realtime.connect()
    return db.realtime.channel(f"table:{name}").follow(db.tables.data.query(table.id))


def draw(title: str, states: Counter[str]) -> None:
    if sys.stdout.isatty():
        rows = [(title, sum(states.values())), *states.most_common()]
        print("\x1b[2J\x1b[H" + "\n".join(f"{state!s:<20}{count:>8}" for state, count in rows), flush=True)
    else:
        print(", ".join(f"{count} {state}" for state, count in states.most_common()) or "no orders", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("table", metavar="TABLE")
    parser.add_argument("--for", metavar="SECONDS", dest="seconds", type=float, default=threading.TIMEOUT_MAX)
    given, states = parser.parse_args(), Counter[str]()
    try:
        with SelfDB() as db:
            changes = follow(db, given.table)
            limit = threading.Timer(given.seconds, db.realtime.disconnect)  # which ends the loop
            limit.daemon = True
            limit.start()
            for change in changes:
                states.update([change.new["state"]] if change.new else [])
                states.subtract([change.old["state"]] if change.old else [])
                draw(given.table, +states)
    except KeyboardInterrupt:
        pass
    except SelfDBError as error:
        sys.exit(f"order_board: {error}")
