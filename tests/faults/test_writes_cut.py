"""Writes over a link that breaks at every byte: at most one effect each, exactly one with a key, and no false word.

The server is a real one, and what it did is read from its database after it has stopped.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any, Callable, Dict, List, NamedTuple, Sequence

import pytest

from selfdb import SelfDB
from selfdb.core.retry import RetryPolicy
from tests import soak
from tests.faults.cuts import CutBench, Said
from tests.servers.cutting import Cut
from tests.support import Http

pytestmark = pytest.mark.timeout(3600 if soak.LONG else 120)

PATIENT = 30.0
HASTY = 1.0  # seconds for one wait where the link falls silent
BOUND = 3000 if soak.LONG else 110


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """How long a client waits before it tries again is proven elsewhere."""
    monkeypatch.setattr(RetryPolicy, "delay", lambda self, retry: 0.001)
    # On their session `urllib3` tells of each head that breaks off, with a traceback that holds the socket.
    caplog.set_level(logging.ERROR, "urllib3")


class Sums(NamedTuple):
    """What came out of a run."""

    calls: int
    done: int
    doubtful: int
    of_them_done: int
    not_applied: int

    def __str__(self) -> str:
        return (
            f"{self.calls} calls: {self.done} succeeded, {self.doubtful} may have been applied "
            f"({self.of_them_done} were), {self.not_applied} said not applied and were not"
        )


def judge(said: Sequence[Said], kind: str, effects: Dict[Any, int]) -> Sums:
    """No call has had two effects, none that succeeded had none, and none that said "not applied" was applied."""
    outcomes: Counter[str] = Counter()
    for call in said:
        count = effects.get((kind, call.logical), 0)
        assert count <= 1, f"{call} was done {count} times"
        if call.error is None:
            assert count == 1, f"{call} was not done"
            outcomes["done"] += 1
        elif call.may_have_been_applied:
            outcomes["doubtful"] += 1
            outcomes["of them done"] += count
        else:
            assert count == 0, f"{call} said that it was not applied"
            outcomes["not applied"] += 1
    return Sums(len(said), *(outcomes[name] for name in ("done", "doubtful", "of them done", "not applied")))


def every_boundary(lengths: Sequence[int], chance: Any, *, at_least: int = 0) -> List[Cut]:
    """Each byte of the request and of the answer once, by chance with a reset or an orderly end; or more rounds."""
    cuts: List[Cut] = []
    while not cuts or len(cuts) < at_least:
        for way, length in zip(("request", "answer"), lengths):
            cuts += [Cut(way, count, chance.choice(("reset", "end"))) for count in range(length + 1)]
    chance.shuffle(cuts)
    return cuts


def some_boundaries(lengths: Sequence[int], chance: Any, count: int, endings: Sequence[str]) -> List[Cut]:
    """``count`` of them by chance, and the first and the last byte of both ways."""
    cuts = []
    for way, length in zip(("request", "answer"), lengths):
        places = {0, 1, length - 1, length, *(chance.randrange(length) for _ in range(count // 2))}
        cuts += [Cut(way, place, chance.choice(endings)) for place in sorted(places)]
    return cuts


@pytest.fixture
def bench(make_server: Callable[..., Any], tmp_path: Any) -> Callable[..., Any]:
    """``bench(**options)``: a `CutBench` on a server of its own, and a table with a column ``logical`` in it."""

    def make(**options: Any) -> Any:
        server = make_server(path=tmp_path / "data")
        token = Http(server).admin
        with SelfDB(server.url, server.api_key) as db:
            db.access_token = token
            table = db.tables.create({"name": "effects_of_calls", "table_schema": {"logical": {"type": "text"}}})
        made = CutBench(server, token, **{"timeout": (5, PATIENT), "deadline": PATIENT, **options})
        made.ledger.rows_of(table, "logical")
        return made, table.id

    return make


def inserting(table: Any, *, keyed: bool) -> Callable[[SelfDB, str], Any]:
    def insert(db: SelfDB, logical: str) -> Any:
        key = f"key-of-{logical}" if keyed else None
        row = db.tables.data.insert(table, {"logical": logical}, idempotency_key=key)
        assert row["logical"] == logical, "the answer of another call"
        return row

    return insert


@pytest.mark.parametrize("theirs", [False, True], ids=["our session", "their session"])
@pytest.mark.parametrize("keyed", [False, True], ids=["plain", "keyed"])
def test_g01_a_write_is_cut_at_every_byte(keyed: bool, theirs: bool, bench: Callable[..., Any]) -> None:
    chance = soak.chance("cuts of writes")
    made, table = bench(theirs=theirs)
    insert = inserting(table, keyed=keyed)
    with made:
        lengths = made.lengths(insert, "warm")
        if theirs and not soak.LONG:
            cuts = some_boundaries(lengths, chance, 200, ("reset", "end"))
        else:
            writes = soak.amount("SELFDB_CUT_WRITES", here=0, long=10_000)
            cuts = every_boundary(lengths, chance, at_least=writes)
        said = made.run(insert, cuts, "c-", bound=BOUND)
        sums = judge(said, "INSERT", made.effects())
    if keyed:
        assert sums.done == sums.calls, "one effect, and its row came back"
    else:
        assert sums.of_them_done, "some of the answers that were cut off were of writes that had been done"
    what = f"{'keyed' if keyed else 'plain'} POST, {'their' if theirs else 'our'} session"
    soak.figure("G01", f"{what}, cut at {lengths[0]} + {lengths[1]} bytes: {sums}; none twice")
