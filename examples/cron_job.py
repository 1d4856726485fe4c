"""A nightly job that closes the day: one row for each day, however often cron starts it.

    15 3 * * *  SELFDB_URL=... SELFDB_API_KEY=... SELFDB_EMAIL=... SELFDB_PASSWORD=... python cron_job.py

Exit codes: 0 done; 75 try later (no connection, or the last run is still at work); 1 refused. What happened goes
to stderr. The lock and the session lie in ~/.selfdb-nightly.
"""

from __future__ import annotations

import fcntl
import os
import sys
from datetime import datetime, timezone
from pathlib import Path

from selfdb import FileStore, SelfDB, exceptions

WAIT = 30.0  # seconds for a server that is just starting


def close_the_day(db: SelfDB, day: str) -> None:
    db.wait_ready(WAIT)
    try:
        db.auth.me()  # with the session of the last run, renewed if need be
    except exceptions.AuthenticationError:
        db.auth.login(os.environ.get("SELFDB_EMAIL", ""), os.environ.get("SELFDB_PASSWORD", ""))
    try:
        table = db.tables.get_by_name("closed_days")
    except exceptions.NotFoundError:
        table = db.tables.create({"name": "closed_days", "table_schema": {"day": {"type": "text", "nullable": False}}})
    # The key makes it one row, even if this is the second run today or an answer was lost on the way.
    db.tables.data.insert(table.id, {"day": day}, idempotency_key=f"close-{day}")


def main() -> int:
    home, day = Path.home() / ".selfdb-nightly", f"{datetime.now(timezone.utc):%Y-%m-%d}"
    home.mkdir(mode=0o700, exist_ok=True)
    try:
        with (home / "lock").open("w") as lock, SelfDB(session_store=FileStore(home / "session")) as db:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the process, however that ends
            close_the_day(db, day)
    except BlockingIOError:
        message, code = "the last run is still at work", 75
    except (exceptions.APIConnectionError, exceptions.InternalServerError, exceptions.RateLimitError) as error:
        message, code = f"try later: {error}", 75
    except exceptions.SelfDBError as error:
        message, code = f"refused: {error}", 1
    else:
        message, code = f"{day} is closed", 0
    print(f"nightly: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
