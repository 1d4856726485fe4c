"""Several processes at one file: nothing is lost when they write together, are killed, fork, or fill the disk."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, List

import pytest

from selfdb.indexie import IndexieTimeoutError, QuotaExceededError, TransactionInactiveError
from tests import soak

Make = Callable[..., Any]
Peers = Callable[..., Any]

OPEN = """
from selfdb.indexie import Indexie
db = Indexie(path, busy_timeout=60)
db.version(1).stores({"users": "++id, &email, name, age, *tags, [last+first], address.city"})
db.open()
"""


@pytest.mark.parametrize("processes", [4, 8])
def test_c070_processes_that_add_at_once(make_db: Make, peer: Peers, processes: int) -> None:
    each = soak.amount("SELFDB_IX_ADDS", here=250, long=3000)
    db = make_db().open()
    peers = [peer() for _ in range(processes)]
    for number, one in enumerate(peers):
        one.run(OPEN, number=number, each=each)
    for one in peers:
        one.start("result = [db.users.add({'email': f'{number}-{at}', 'tags': [number]}) for at in range(each)]")
    keys = [one.finish() for one in peers]
    assert all(mine == sorted(mine) for mine in keys)
    assert sorted(key for mine in keys for key in mine) == list(range(1, processes * each + 1))
    assert db.users.count() == processes * each
    for number in range(processes):
        assert db.users.where("tags").equals(number).primary_keys() == keys[number]
    assert db.integrity_check() == []


def test_c070_threads_and_processes_that_update_one_row(make_db: Make, peer: Peers) -> None:
    db = make_db().open()
    db.users.add({"age": 0})
    code = (
        OPEN
        + """
import threading
def work():
    for _ in range(50):
        db.users.update(1, lambda user: user.update({"age": user["age"] + 1}))
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    )
    peers = [peer() for _ in range(2)]
    for one in peers:
        one.start(code)
    for one in peers:
        one.finish()
    assert db.users.get(1)["age"] == 400


def test_c070_a_writer_that_never_comes_to_an_end(make_db: Make, peer: Peers) -> None:
    db = make_db(busy_timeout=0.2).open()
    other = peer()
    other.run(OPEN + "tx = db.transaction('rw', 'users'); tx.__enter__(); db.users.add({})")
    begun = time.monotonic()
    with pytest.raises(IndexieTimeoutError, match="another process"):
        db.users.add({})
    assert 0.2 <= time.monotonic() - begun < 2
    assert db.users.count() == 0  # a reader does not wait
    other.run("tx.__exit__(None, None, None)")
    assert db.users.add({}) == 2


KILLED = """
from selfdb.indexie import Indexie
import sys
db = Indexie(path, busy_timeout=60)
db.version(1).stores({"rows": "++id, &n, *tags", "twins": "id, n"})
db.rows.hook.on_add(lambda payload: None, name="told")
db.outbox.pause()
db.open()
sys.__stdout__.write("begun\\n"); sys.__stdout__.flush()
n = db.rows.count()
while True:
    n += 1
    with db.transaction("rw", ["rows", "twins"]):
        key = db.rows.add({"n": n, "tags": [n % 5, n % 7], "more": "x" * (n % 50) * 40})
        db.twins.add({"id": key, "n": n})
        if n % 3 == 0:
            db.rows.update(key, {"tags": ["three"]})
        if n % 10 == 0:
            db.twins.bulk_put([{"id": -at, "n": n} for at in range(1, 30)])
    sys.__stdout__.write(f"{key}\\n"); sys.__stdout__.flush()
"""


def test_c071_killed_at_any_moment(path: Path, make_db: Make) -> None:
    import subprocess

    chance = soak.chance("the moments of kills")
    rounds = soak.amount("SELFDB_IX_KILLS", here=5, long=40)
    acknowledged = 0
    for _ in range(rounds):
        child = subprocess.Popen(
            [sys.executable, "-c", f"import pathlib, sys; path = pathlib.Path(sys.argv[1])\n{KILLED}", str(path)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert child.stdout is not None
        with child.stdout:
            assert child.stdout.readline() == b"begun\n"
            time.sleep(chance.uniform(0.001, 0.15))
            child.kill()
            said = [line for line in child.stdout.read().split(b"\n")[:-1] if line]
        child.wait(10)
        if said:
            acknowledged = int(said[-1])
        db = make_db({"rows": "++id, &n, *tags", "twins": "id, n"})
        rows = db.rows.to_array()
        assert [row["id"] for row in rows] == list(range(1, len(rows) + 1))
        assert len(rows) >= acknowledged
        twins = [(row["id"], row["n"]) for row in db.twins.where("id").above(0).to_array()]
        assert twins == [(row["id"], row["n"]) for row in rows]
        assert db.twins.where("id").below(0).count() in (0, 29)
        assert all(row["tags"] == ["three"] for row in rows if row["n"] % 3 == 0)
        entries = [(entry.op, entry.key) for entry in db.outbox.entries()]
        assert entries == [("add", row["id"]) for row in rows]
        assert db.integrity_check() == []
        db.close()
    soak.figure("IX71", f"{rounds} kills under load: {acknowledged} acknowledged transactions, whole every time")


FORKING = (
    OPEN
    + """
import os, threading
from selfdb.indexie import DatabaseClosedError, use_live_query

def forked(work):
    # What the child's work returns, or the name of the error that it raised.
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            said = repr(work())
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    def wait():
        with os.fdopen(reading) as file:
            said = file.read()
        os.waitpid(pid, 0)
        return said
    return wait
"""
)


def test_c072_a_fork_of_an_open_database(make_db: Make, peer: Peers) -> None:
    code = (
        FORKING
        + """
db.users.add({"email": "before"})
live = use_live_query(lambda: db.users.count())
def closed():
    try:
        live.wait_for_change(timeout=10)
    except DatabaseClosedError:
        return True
def write(who):
    for at in range(200):
        db.users.add({"email": f"{who}{at}", "tags": [who]})
    return db.users.where("tags").equals(who).count()
wait = forked(lambda: (closed(), write("child")))
mine = write("parent")
child = wait()
settled = live.wait_until(lambda count: count == 401, timeout=20)
result = (mine, child, settled, db.users.count(), db.integrity_check())
live.close()
"""
    )
    assert peer().run(code) == (200, "(True, 200)", 401, 401, [])


def test_c072_a_child_of_a_child(make_db: Make, peer: Peers) -> None:
    code = (
        FORKING
        + """
def write(depth):
    db.users.add({"age": depth})
    if depth:
        forked(lambda: write(depth - 1))()
write(3)
result = [row["age"] for row in db.users.to_array()]
"""
    )
    assert peer().run(code) == [3, 2, 1, 0]


def test_c072_a_fork_within_a_transaction(make_db: Make, peer: Peers) -> None:
    code = (
        FORKING
        + """
with db.transaction("rw", "users"):
    db.users.add({"email": "mine"})
    inside = forked(lambda: db.users.add({"email": "the child's"}))()
    db.users.add({"email": "mine, too"})
    def anew():
        other = Indexie(path)
        return other.users.count()
    other = forked(anew)()
result = (inside, other, [row["email"] for row in db.users.to_array()], db.integrity_check())
"""
    )
    inside, other, rows, wrong = peer().run(code)
    assert inside.startswith("DatabaseClosedError")
    assert other.startswith("DatabaseClosedError")
    assert "fork" in other
    assert rows == ["mine", "mine, too"]
    assert wrong == []


def test_c072_a_fork_beside_a_transaction_of_another_thread(make_db: Make, peer: Peers) -> None:
    code = (
        FORKING
        + """
import time
stop = threading.Event()
def busy():
    while not stop.is_set():
        with db.transaction("rw", "users"):
            db.users.add({"name": "thread"})
            db.users.add({"name": "thread"})
thread = threading.Thread(target=busy)
thread.start()
children = []
for at in range(10):
    children.append(forked(lambda: db.users.add({"name": "child"}) > 0)())
stop.set()
thread.join()
names = [row["name"] for row in db.users.to_array()]
result = (children, names.count("child"), names.count("thread") % 2, db.integrity_check())
"""
    )
    children, count, odd, wrong = peer().run(code)
    assert children == ["True"] * 10
    assert count == 10
    assert (odd, wrong) == (0, [])


def test_c072_a_fork_within_an_iteration(make_db: Make, peer: Peers) -> None:
    code = (
        FORKING
        + """
db.users.bulk_add([{"age": at} for at in range(1000)])
rows = iter(db.users.to_collection())
first = next(rows)["age"]
child = forked(lambda: db.users.count())()
result = (first, child, 1 + sum(1 for _ in rows), db.users.add({}))
"""
    )
    first, child, count, key = peer().run(code)
    assert (first, count, key) == (0, 1000, 1001)
    assert child.startswith("DatabaseClosedError")


def full(db: Any, pages: int) -> None:
    """Let the file have so many pages more than it has."""
    connection = db._connections._writer
    (count,) = connection.one("PRAGMA page_count")
    connection.one(f"PRAGMA max_page_count = {count + pages}")


def roomy(db: Any) -> None:
    db._connections._writer.one("PRAGMA max_page_count = 1000000")


@pytest.mark.parametrize("how", ["add", "put", "update", "bulk_add", "partial"])
def test_c073_a_full_disk(db: Any, how: str) -> None:
    db.users.bulk_add([{"email": str(at), "tags": [at], "name": "x" * 300} for at in range(20)])
    before = db.users.to_array()
    lengths = {row["id"]: 0 for row in before}
    full(db, 4)
    kept = 0
    with pytest.raises(QuotaExceededError):
        for at in range(100, 10_000):
            row = {"id": at, "email": str(at), "tags": [at], "name": "y" * 900}
            if how == "add":
                db.users.add(row)
            elif how == "put":
                db.users.put(row)
            elif how == "update":
                db.users.update(at % 20 + 1, {"more": "z" * at * 10})
            else:
                db.users.bulk_add(
                    [{**row, "id": n, "email": str(n)} for n in range(100, 400)], partial=how == "partial"
                )
            kept += 1
            if how == "update":
                lengths[at % 20 + 1] = at * 10
    if how in ("add", "put"):
        assert db.users.count() == 20 + kept
    elif how == "update":
        assert [len(row.get("more", "")) for row in db.users.to_array()] == list(lengths.values())
    elif how in ("bulk_add", "partial"):
        assert db.users.to_array() == before
    assert db.integrity_check() == []
    roomy(db)
    db.users.clear()
    assert db.users.add({"name": "a" * 5000})
    assert db.users.count() == 1
    assert db.integrity_check() == []


def test_c073_a_full_disk_in_a_transaction(db: Any) -> None:
    db.users.add({"name": "before"})
    full(db, 3)
    caught: List[type] = []

    def fn(tx: Any) -> None:
        db.users.add({"name": "first"})
        for at in range(1000):
            try:
                db.users.add({"name": "x" * 2000, "email": str(at)})
            except QuotaExceededError as error:
                caught.append(type(error))
                break

    # Whoever catches it inside cannot commit a half: SQLite has undone the whole.
    with pytest.raises((TransactionInactiveError, QuotaExceededError)):
        db.transaction("rw", "users", fn)
    assert caught == [QuotaExceededError]
    assert [row["name"] for row in db.users.to_array()] == ["before"]
    roomy(db)
    assert db.users.add({}) == 2


def test_c073_a_full_disk_in_an_upgrade(make_db: Make) -> None:
    db = make_db()
    db.users.bulk_add([{"name": "x" * 400} for _ in range(50)])
    db.close()
    later = make_db()

    def hook(tx: Any) -> None:
        connection = tx._scope._connection
        (count,) = connection.one("PRAGMA page_count")
        connection.one(f"PRAGMA max_page_count = {count + 2}")
        later.users.bulk_add([{"name": "y" * 900} for _ in range(500)])

    later.version(2).stores({"more": "id"}).upgrade(hook)
    with pytest.raises(Exception) as caught:
        later.open()
    assert isinstance(caught.value.__cause__, QuotaExceededError)
    again = make_db().open()
    assert (again.verno, again.users.count(), again.integrity_check()) == (1, 50, [])


@pytest.mark.parametrize("form", ["fn", "with", "nested"])
def test_c074_an_interrupt_in_a_transaction(db: Any, form: str) -> None:
    db.users.add({"name": "before"})

    def fn() -> None:
        db.users.add({"name": "undone"})
        signal.raise_signal(signal.SIGINT)
        time.sleep(10)

    with pytest.raises(KeyboardInterrupt):
        if form == "fn":
            db.transaction("rw", "users", fn)
        elif form == "with":
            with db.transaction("rw", "users"):
                fn()
        else:
            db.transaction("rw", "users", lambda: db.transaction("rw", "users", fn))
    assert [row["name"] for row in db.users.to_array()] == ["before"]
    assert db.users.add({}) == 2


def _alarm(*_: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the platform has no such signal")
@pytest.mark.parametrize("holder", ["thread", "process"])
def test_c074_an_interrupt_in_a_wait_for_the_lock(make_db: Make, peer: Peers, holder: str) -> None:
    db = make_db(busy_timeout=30).open()
    leave, entered = threading.Event(), threading.Event()

    def hold() -> None:
        with db.transaction("rw", "users"):
            entered.set()
            leave.wait(30)

    thread = threading.Thread(target=hold)
    other = peer()
    if holder == "thread":
        thread.start()
        assert entered.wait(10)
    else:
        other.run(OPEN + "tx = db.transaction('rw', 'users'); tx.__enter__()")
    former = signal.signal(signal.SIGALRM, _alarm)
    try:
        begun = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            db.users.add({"name": "never"})
        assert time.monotonic() - begun < 5
    finally:
        signal.signal(signal.SIGALRM, former)
        leave.set()
        if holder == "thread":
            thread.join()
        else:
            other.run("tx.__exit__(None, None, None)")
    assert db.users.add({}) == 1


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the platform has no such signal")
@pytest.mark.usefixtures("unheard")  # Python drops some
def test_c074_interrupts_at_any_moment_of_the_writes_in_a_transaction(make_db: Make) -> None:
    db = make_db(busy_timeout=1).open()
    db.users.add({"name": "before", "tags": [0]})
    chance = soak.chance("the moments of interrupts")
    former = signal.signal(signal.SIGALRM, _alarm)
    times = soak.amount("SELFDB_IX_INTERRUPTS", here=150, long=5000)

    def fn() -> None:
        armed = 0.0
        while True:
            if time.monotonic() > armed + 0.1:
                # Once more: Python drops an interrupt that comes while it throws a generator away.
                armed = time.monotonic()
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.00005, 0.004))
            db.users.add({"name": "undone", "email": "one", "tags": [1, 2]})
            db.users.update(1, {"tags": [3, 4], "name": "undone"})
            db.users.where("email").equals("one").delete()

    try:
        for _ in range(times):
            with pytest.raises(KeyboardInterrupt):
                try:
                    db.transaction("rw", "users", fn)
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)  # a second one must not come behind the block
            db.users.put({"id": 1, "name": "before", "tags": [0]})
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
    assert db.users.to_array() == [{"id": 1, "name": "before", "tags": [0]}]
    assert db.integrity_check() == []
    soak.figure("IX74", f"{times} interrupts in the middle of a transaction: nothing was left of any")
