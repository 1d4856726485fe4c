"""A program of its own for the tests of session files: ``python -m tests.core.session_process WHAT PATH [URL]``.

``hold`` takes the lock, says so and keeps it until its input ends. ``call`` says that it is ready, waits for a line,
makes one call with the session of the file and says what came of it.
"""

from __future__ import annotations

import sys

from selfdb import FileStore, SelfDB
from selfdb.exceptions import SelfDBError

API_KEY = "key-of-the-processes"


def hold(path: str) -> None:
    with FileStore(path).lock(None):
        print("held", flush=True)
        sys.stdin.read()


def call(path: str, url: str) -> None:
    with SelfDB(url, API_KEY, session_store=FileStore(path)) as db:
        print("ready", flush=True)
        sys.stdin.readline()
        try:
            print(db.auth.me().email, flush=True)
        except SelfDBError as error:
            print(f"failed: {error}", flush=True)


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    hold(*arguments) if what == "hold" else call(*arguments)
