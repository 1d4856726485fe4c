"""A process that ends before its n-th statement, for every n: a write is there whole or not at all."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

import pytest

from selfdb.indexie import Indexie
from tests import soak

STORES = {"users": "++id, &email, name, *tags, [name+age]", "more": "id, name"}

# Imported once; each crash is that of a forked child, which has opened nothing before.
_ZYGOTE = r"""
import os, pathlib, pickle, sys
from selfdb.indexie import Indexie, Timing
import selfdb.indexie.file.connections as connections
import selfdb.indexie.overlays.optimistic, selfdb.indexie.hooks.delivery

STORES = %r
hear, say = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")

def crash(path, told, before, code, at):
    # Open and prepare, then count statements and end before the one that is asked for.
    left = [None]
    def count(sql):
        if left[0] is not None:
            left[0] -= 1
            if left[0] == 0:
                os._exit(9)
    connect = connections.Connections._connect
    def traced(self, *arguments):
        raw = connect(self, *arguments)
        raw.set_trace_callback(count)
        return raw
    connections.Connections._connect = traced
    def tell(payload):
        with open(told, "a") as file:
            file.write(f"{payload['op']} {payload['key']}\n")
    db = Indexie(path, timing=Timing().scaled(0.001))
    db.version(1).stores(STORES)
    names = {"db": db, "tell": tell}
    exec(before, names)
    left[0] = at
    exec(code, names)
    os.write(1, b"")
    os._exit(0)

while True:
    try:
        arguments = pickle.load(hear)
    except EOFError:
        break
    pid = os.fork()
    if pid == 0:
        try:
            crash(*arguments)
        except BaseException:
            import traceback
            traceback.print_exc()
        os._exit(1)
    _, status = os.waitpid(pid, 0)
    say.write(bytes([os.WEXITSTATUS(status)]))
    say.flush()
""" % (STORES,)  # noqa: UP031 - the code is full of braces


@pytest.fixture(scope="module")
def crash() -> Iterator[Callable[..., int]]:
    """``crash(path, told, before, code, at)``: what the child ended with: 0 done, 9 at the statement."""
    process = subprocess.Popen(
        [sys.executable, "-c", _ZYGOTE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def run(*arguments: Any) -> int:
        stdin.write(pickle.dumps(arguments))
        stdin.flush()
        said = stdout.read(1)
        assert said, "the mother of the children has ended"
        return said[0]

    yield run
    stdin.close()
    process.wait(60)
    stdout.close()


class State(NamedTuple):
    """What a file holds, and which hooks were told of what."""

    version: int
    rows: str
    entries: Tuple[Tuple[str, Any], ...]


def state(path: Path) -> State:
    """Read by this process; the file is checked, too."""
    db = Indexie(path)
    try:
        assert db.integrity_check() == []
        rows = {table.name: table.to_collection().items() for table in db.tables}
        entries = tuple((entry.op, entry.key) for entry in db.outbox.entries())
        return State(db.verno, repr(rows), entries)
    finally:
        db.close()


HOOKED = """
for op in ("add", "update", "delete"):
    getattr(db.users.hook, f"on_{op}")(tell, name="told")
db.outbox.pause()
db.open()
"""
PLAIN = "db.open()"
SILENT = "None"
OPERATIONS: Dict[str, Tuple[str, str]] = {
    "add": (HOOKED, "db.users.add({'email': 'new', 'name': 'n', 'age': 5, 'tags': ['a', 'b']})"),
    "put": (HOOKED, "db.users.put({'id': 2, 'email': 'moved', 'name': 'n', 'tags': ['b', 'c']})"),
    "update": (HOOKED, "db.users.update(1, {'email': 'moved', 'tags': ['z'], 'age': 9})"),
    "delete": (HOOKED, "db.users.delete(3)"),
    "clear": (HOOKED, "db.users.clear()"),
    "bulk add": (HOOKED, "db.users.bulk_add([{'email': f'new{at}', 'tags': [at]} for at in range(7)])"),
    "large bulk add": (PLAIN, "db.more.bulk_add([{'id': at, 'name': str(at)} for at in range(100, 500)])"),
    "bulk put": (HOOKED, "db.users.bulk_put([{'id': at, 'email': f'put{at}'} for at in range(2, 6)])"),
    "modify": (HOOKED, "db.users.where('name').equals('n1').modify({'age': 1, 'tags': ['m']})"),
    "delete found": (HOOKED, "db.users.where('id').above(2).delete()"),
    "transaction": (
        HOOKED,
        "db.transaction('rw', ['users', 'more'], lambda: "
        "(db.users.add({'email': 'one'}), db.more.put({'id': 1}), db.users.update(1, {'age': 7})))",
    ),
    "nested transaction": (
        HOOKED,
        "db.transaction('rw', ['users', 'more'], lambda: (db.users.add({'email': 'one'}), "
        "db.transaction('rw', ['more'], lambda: db.more.put({'id': 1}))))",
    ),
    "upgrade": (
        SILENT,
        "db.version(2).stores({'users': '++id, &email, age, *tags', 'more': None, 'new': '++, &x'})"
        ".upgrade(lambda tx: (tx.new.add({'x': tx.more.count()}), tx.users.put({'id': 99, 'age': 1}))); db.open()",
    ),
    "overlay": (
        HOOKED,
        """
with db.users.start_transaction(optimistic=False) as tx:
    db.users.add({'email': 'over', 'tags': ['o']})
    db.users.update(1, {'age': 77})
    db.users.delete(4)
    tx.commit()
""",
    ),
    "optimistic overlay": (
        HOOKED,
        """
with db.users.start_transaction(optimistic=True) as tx:
    db.users.add({'email': 'over', 'tags': ['o']})
    db.users.update(1, {'age': 77})
    tx.commit()
""",
    ),
    "import": (HOOKED, "import io; db.import_json(io.StringIO(EXPORT), clear=True)"),
}
EXPORT = json.dumps(
    {
        "format": "selfdb.indexie",
        "stores": {"users": {"rows": [[7, {"id": 7, "email": "in"}]], "next_key": 9}, "more": {"rows": []}},
    }
)


@pytest.fixture
def filled(path: Path) -> Path:
    """A closed file with some rows."""
    db = Indexie(path)
    db.version(1).stores(STORES)
    for at in range(1, 5):
        db.users.add({"email": str(at), "name": f"n{at}", "age": at, "tags": [at, "x"]})
    db.more.bulk_add([{"id": at} for at in range(1, 40)])
    db.close()
    return path


def copied(path: Path, to: Path) -> Path:
    to.parent.mkdir(exist_ok=True)
    for end in ("", "-wal", "-shm"):
        each = to.with_name(to.name + end)
        each.unlink(missing_ok=True)
        if path.with_name(path.name + end).exists():
            shutil.copyfile(path.with_name(path.name + end), each)
    return to


@pytest.mark.parametrize("operation", OPERATIONS)
def test_c071_ending_before_each_statement(
    filled: Path, crash: Callable[..., int], tmp_path: Path, operation: str
) -> None:
    before, code = OPERATIONS[operation]
    code = f"EXPORT = {EXPORT!r}\n{code}"
    told = tmp_path / "told"
    seen: List[State] = []
    first, last, at = state(filled), None, 0
    statements = 0
    # In the suite only some of the hundreds of equal statements of a large call.
    step = soak.amount("SELFDB_IX_CRASH_STEP", here=37, long=1)
    while last is None:
        at += 1 if at < 60 else step
        there = copied(filled, tmp_path / "crashed" / "file.db")
        told.unlink(missing_ok=True)
        ended = crash(there, told, before, code, at)
        assert ended in (0, 9), f"the child failed at statement {at}"
        seen.append(state(there))
        statements = at
        if ended == 0:
            last = seen.pop()
        assert at < 2000
    assert last != first
    kinds = [0 if each == first else 1 if each == last else 2 for each in seen]
    assert 2 not in kinds, (
        f"a half of it was left by an end before statement {kinds.index(2) + 1}: {seen[kinds.index(2)]}"
    )
    assert kinds == sorted(kinds), "what was kept was lost again"
    assert kinds[0] == 0
    soak.figure("IX71", f"{operation}: an end before each of {statements} statements left all or nothing")


def test_c071_ending_while_the_file_is_made(crash: Callable[..., int], tmp_path: Path) -> None:
    at, ended = 0, 9
    again: List[int] = []
    code = "db.on_populate(lambda tx: tx.users.add({'email': 'first'})); db.open()"
    while ended:
        at += 1
        there = tmp_path / f"{at}" / "file.db"
        there.parent.mkdir()
        ended = crash(there, tmp_path / "told", SILENT, code, at)
        assert ended in (0, 9)
        db = Indexie(there)
        db.version(1).stores(STORES)
        populated: List[int] = []
        db.on_populate(lambda tx, populated=populated: populated.append(tx.users.add({"email": "first"})))
        assert [row["email"] for row in db.users.to_array()] == ["first"]
        assert db.integrity_check() == []
        db.close()
        again.append(len(populated))
    assert again == sorted(again, reverse=True)
    assert (again[0], again[-1]) == (1, 0)


DELIVERED = """
for op in ("add", "update", "delete"):
    getattr(db.users.hook, f"on_{op}")(tell, name="told")
db.open()
"""


def test_c088_ending_before_each_statement_of_a_delivery(
    filled: Path, crash: Callable[..., int], tmp_path: Path
) -> None:
    told = tmp_path / "told"
    code = "db.users.add({'email': 'new'}); db.users.update(1, {'age': 8}); db.users.delete(2)"
    ready = copied(filled, tmp_path / "ready" / "file.db")
    assert crash(ready, told, HOOKED, code, -1) == 0
    expected = {("add", 5), ("update", 1), ("delete", 2)}
    assert set(state(ready).entries) == expected
    at, ended = 0, 9
    while ended:
        at += 1
        there = copied(ready, tmp_path / "crashed" / "file.db")
        told.unlink(missing_ok=True)
        ended = crash(there, told, DELIVERED, "assert db.outbox.flush(60)", at)
        assert ended in (0, 9)
        assert expected - set(state(there).entries) <= _told(told), "an entry ended before its hook had run"
        if ended:
            # Whoever comes next brings it to its end, once the lease is over.
            assert crash(there, told, DELIVERED, "assert db.outbox.flush(60)", -1) == 0
        assert state(there).entries == ()
        assert _told(told) == expected
    assert at > 3
    soak.figure("IX88", f"an end before each of {at} statements of a delivery: no entry ended before its hook")


def _told(path: Path) -> Set[Tuple[str, Optional[int]]]:
    if not path.exists():
        return set()
    return {(op, int(key)) for op, key in (line.split() for line in path.read_text().splitlines())}
