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
from tests.ways import SHORT

pytestmark = pytest.mark.timeout(3600 if soak.LONG else 300)

PATIENT = 30.0
HASTY = 2.0  # seconds for one wait where the link falls silent; many wait at the same time
BOUND = 3000 if soak.LONG else 250


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


@pytest.mark.parametrize("keyed", [False, True], ids=["plain", "keyed"])
def test_g01_a_write_is_cut_at_every_byte(
    keyed: bool, theirs: bool, bench: Callable[..., Any], request: pytest.FixtureRequest
) -> None:
    chance = soak.chance("cuts of writes")
    made, table = bench(theirs=theirs)
    way = request.node.callspec.params["theirs"]
    insert = inserting(table, keyed=keyed)
    with made:
        lengths = made.lengths(insert, "warm--")
        if way != SHORT and not soak.LONG:
            cuts = some_boundaries(lengths, chance, 100, ("reset", "end"))
        else:
            writes = soak.amount("SELFDB_CUT_WRITES", here=0, long=10_000)
            cuts = every_boundary(lengths, chance, at_least=writes)
        said = made.run(insert, cuts, "c-", bound=BOUND)
        sums = judge(said, "INSERT", made.effects())
    if keyed:
        assert sums.done == sums.calls, "one effect, and its row came back"
    else:
        assert sums.of_them_done, "some of the answers that were cut off were of writes that had been done"
    what = f"{'keyed' if keyed else 'plain'} POST, {way}"
    soak.figure("G01", f"{what}, cut at {lengths[0]} + {lengths[1]} bytes: {sums}; none twice")


@pytest.mark.parametrize("keyed", [False, True], ids=["plain", "keyed"])
def test_g01_a_write_over_a_link_that_falls_silent(keyed: bool, bench: Callable[..., Any]) -> None:
    chance = soak.chance("silences of writes")
    made, table = bench(timeout=(5, HASTY), workers=24)
    insert = inserting(table, keyed=keyed)
    with made:
        lengths = made.lengths(insert, "warm--")
        said = made.run(insert, some_boundaries(lengths, chance, 16, ("stall",)), "s-")
        sums = judge(said, "INSERT", made.effects())
    if keyed:
        assert sums.done == sums.calls
    soak.figure("G01", f"{'keyed' if keyed else 'plain'} POST over links that fall silent: {sums}; none twice")


def test_g01_a_key_that_the_server_never_acknowledged_is_not_repeated(bench: Callable[..., Any]) -> None:
    chance = soak.chance("cuts of first writes")
    made, table = bench()
    insert = inserting(table, keyed=True)
    with made:
        lengths = made.lengths(insert, "warm--")
        # Not the places at which the whole exchange has passed.
        cuts = [cut for cut in some_boundaries(lengths, chance, 30, ("reset", "end")) if cut.after < lengths[1]]
        said = made.run(insert, cuts, "f-", fresh=True)
        sums = judge(said, "INSERT", made.effects())
    for call in said:
        assert call.error is not None, f"{call}: sent a second time, or not cut"
        assert (call.error.attempts, call.error.may_have_been_applied) == (1, True)
    soak.figure("G01", f"keyed POST to a server not known to honour keys: {sums}; none twice")


def patching(db: SelfDB, table: Any) -> Any:
    row = db.tables.data.insert(table, {"logical": "the row"})["id"]
    return lambda db, logical, key: db.tables.data.update_row(table, row, {"logical": logical}, idempotency_key=key)


def deleting(db: SelfDB, table: Any) -> Any:
    report = db.tables.data.insert_many(table, [{"logical": f"o-{number:06d}"} for number in range(100)])
    report.raise_for_failures()
    for number in (*range(8), 99):
        db.tables.data.insert(table, {"logical": f"warm--{number:02d}"})
    return lambda db, logical, key: db.tables.data.delete_row(table, logical, id_column="logical", idempotency_key=key)


def creating_users(db: SelfDB, table: Any) -> Any:
    def create(db: SelfDB, logical: str, key: Any) -> Any:
        user = {"email": f"{logical}@example.com", "password": "password123", "firstName": "Ada", "lastName": "B"}
        return db.auth.users.create(user, idempotency_key=key)

    return create


#: By name: what makes the call, and what its effect is in the ledger.
OTHERS: Dict[str, Any] = {
    "PATCH row": (patching, "UPDATE"),
    "DELETE row": (deleting, "DELETE"),
    "create user": (creating_users, "INSERT"),
}


@pytest.mark.parametrize("keyed", [False, True], ids=["plain", "keyed"])
@pytest.mark.parametrize("what", list(OTHERS))
def test_g01_other_writes_are_cut(what: str, keyed: bool, bench: Callable[..., Any]) -> None:
    chance = soak.chance(f"cuts of {what}")
    make, kind = OTHERS[what]
    made, table = bench()
    made.ledger.users()
    with made, SelfDB(made.server.url, made.server.api_key) as direct:
        direct.access_token = made.token
        act = make(direct, table)

        def call(db: SelfDB, logical: str) -> Any:
            return act(db, logical, f"key-of-{logical}" if keyed else None)

        lengths = made.lengths(call, "warm--")
        said = made.run(call, some_boundaries(lengths, chance, 24, ("reset", "end")), "o-")
        sums = judge(said, kind, made.effects())
    if keyed:
        assert sums.done == sums.calls
    soak.figure("G01", f"{what}, {'keyed' if keyed else 'plain'}: {sums}; none twice")


@pytest.mark.parametrize("keyed", [False, True], ids=["plain", "keyed"])
def test_g01_many_rows_are_cut(keyed: bool, bench: Callable[..., Any]) -> None:
    chance = soak.chance("cuts of many rows")
    made, table = bench(idempotent_writes=keyed)

    def call(db: SelfDB, logical: str) -> Any:
        rows = [{"logical": f"{logical}.{number}"} for number in range(4)]
        return db.tables.data.insert_many(table, rows, concurrency=2)

    with made:
        lengths = made.lengths(call, "warm--")
        said = made.run(call, some_boundaries(lengths, chance, 20, ("reset", "end")), "m-")
        effects = made.effects()
    statuses: Counter[str] = Counter()
    for each in said:
        assert each.error is None, "each row has an outcome of its own"
        for outcome in each.result:
            count = effects.get(("INSERT", f"{each.logical}.{outcome.index}"), 0)
            assert count in {"done": (1,), "refused": (0,), "unknown": (0, 1)}[outcome.status.value], (outcome, count)
            statuses[outcome.status.value] += 1
    assert statuses["done"]
    if keyed:
        assert set(statuses) == {"done"}
    soak.figure(
        "G01", f"insert_many, {'keyed' if keyed else 'plain'}: {dict(statuses)} rows; none twice, none misreported"
    )


@pytest.mark.parametrize("chunked", [False, True], ids=["bytes", "an iterator"])
def test_g01_uploads_are_cut(chunked: bool, bench: Callable[..., Any]) -> None:
    chance = soak.chance("cuts of uploads")
    made, _ = bench()
    made.ledger.files()
    content = b"0123456789" * 20
    with made, SelfDB(made.server.url, made.server.api_key) as direct:
        direct.access_token = made.token
        bucket = direct.storage.buckets.create({"name": "uploads-that-are-cut"})

        def call(db: SelfDB, logical: str) -> Any:
            data = iter([content[:90], content[90:]]) if chunked else content
            uploaded = db.storage.files.upload(bucket.id, logical, data)
            assert uploaded.path.strip("/") == logical
            return uploaded

        lengths = made.lengths(call, "warm--")
        said = made.run(call, some_boundaries(lengths, chance, 40, ("reset", "end")), "u-")
        for file in direct.storage.files.iter(bucket_id=bucket.id):
            assert file.size == len(content), "a part of a file was taken for all of it"
            assert direct.storage.files.download(bucket.name, str(file.path)) == content
        sums = judge(said, "INSERT", made.effects())
    soak.figure("G01", f"upload of {'an iterator' if chunked else 'bytes'}: {sums}; none twice, none in part")
