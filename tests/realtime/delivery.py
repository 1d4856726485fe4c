"""Who writes rows and who listens for them in tests of delivery, and how the two are compared."""

from __future__ import annotations

import itertools
import random
import threading
import time
from typing import Any, List, Union

import requests

from selfdb import SelfDB
from selfdb.models import RealtimePayload
from tests.realtime.raw import Table, until

#: Seconds after the way is free again within which events come; a busy machine is given five times that.
RETURN_SECONDS = 7.0
SLACK = 5.0

RESYNC, LEFT = "resync", "left"


class Writer:
    """A thread that inserts rows numbered from 1, one after the other. It may be interrupted: no number comes twice."""

    def __init__(self, table: Table) -> None:
        self.begun = 0
        self._table = table
        self._failures: List[BaseException] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def _run(self) -> None:
        while not self._stopping.wait(0.01):
            try:
                self.change()
            except requests.ConnectionError:
                continue  # the server was killed; whether the row is there, the table tells
            except BaseException as failure:
                self._failures.append(failure)
                return

    def change(self) -> None:
        self.begun += 1
        self._table.insert(self.begun)

    def __exit__(self, *exc_info: Any) -> None:
        self._stopping.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        if self._failures:
            raise self._failures[0]


class Changer(Writer):
    """A thread that inserts, updates and deletes rows at random."""

    def __init__(self, table: Table, seed: int) -> None:
        super().__init__(table)
        self._dice = random.Random(seed)
        self._rows: List[str] = []

    def change(self) -> None:
        self.begun += 1
        what = self._dice.random()
        if what < 0.4 or not self._rows:
            self._rows.append(self._table.insert(self.begun)["id"])
        elif what < 0.7:
            self._table.update(self._dice.choice(self._rows), n=self.begun)
        else:
            self._table.delete(self._rows.pop(self._dice.randrange(len(self._rows))))


class Listener:
    """A channel and the log of what it was told: numbers of rows, and marks."""

    def __init__(self, db: SelfDB, table: Table) -> None:
        self.realtime = db.realtime
        self.log: List[Union[int, str]] = []
        self.last = 0
        self.slowest = 0.0
        self.channel = self.realtime.channel(table.topic).on("INSERT", self._inserted).on(RESYNC, self._resync)

    def _inserted(self, payload: RealtimePayload) -> None:
        assert payload.new is not None
        self.log.append(payload.new["n"])
        self.last = payload.new["n"]

    def _resync(self, payload: RealtimePayload) -> None:
        self.log.append(RESYNC)

    def follows(self, writer: Writer, returned: float) -> None:
        """Wait for rows whose writing has not begun yet."""
        begun = writer.begun
        until(lambda: self.last > begun, RETURN_SECONDS * SLACK)
        self.slowest = max(self.slowest, time.monotonic() - returned)

    def hears_the_last(self, writer: Writer) -> None:
        """Wait for the newest row. One that is written between two connections is announced and not told: then another
        is written."""
        end = time.monotonic() + RETURN_SECONDS * SLACK
        while self.last < writer.begun:
            assert time.monotonic() < end, "it did not happen in time"
            patience = time.monotonic() + 1.0
            while self.last < writer.begun and time.monotonic() < patience:
                time.sleep(0.005)
            if self.last < writer.begun:
                writer.change()

    def check(self, commits: List[int]) -> None:
        """Between two marks there is nothing but a run of the commits without a gap; nothing comes twice."""
        place = {number: index for index, number in enumerate(commits)}
        numbers = [entry for entry in self.log if isinstance(entry, int)]
        assert numbers == sorted(set(numbers))
        for marked, run in itertools.groupby(self.log, key=lambda entry: isinstance(entry, str)):
            if not marked:
                places = [place[number] for number in run if isinstance(number, int)]
                assert places == list(range(places[0], places[0] + len(places))), self.log
        assert numbers[-1] == commits[-1]


def numbers(table: Table) -> List[int]:
    """The rows of the table, in the order of their commits."""
    rows: List[int] = []
    for page in itertools.count(1):
        answer = table.http.get(
            f"/tables/{table.id}/data",
            params={"page": page, "page_size": 1000, "sort_by": "n", "sort_order": "asc"},
            bearer=table.bearer,
        ).json()
        rows += [row["n"] for row in answer["data"]]
        if len(rows) >= answer["total"]:
            return rows
    raise AssertionError("unreachable")
