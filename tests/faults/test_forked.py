"""Forks: children and parent go on with one client, in the middle of anything, and nobody gets the other's answer."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any, Callable

import pytest

from tests import soak
from tests.conftest import Tls
from tests.faults.programs import Program, environment, program
from tests.servers.replies import ReplyServer, Request

CALLS = soak.amount("SELFDB_FORK_CALLS", here=15, long=200)
CHILDREN = 8

FORKS = """
import os, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)
from selfdb import SelfDB
from selfdb.core.request import Request

count, ca = int(sys.argv[1]), sys.argv[2] or None
db = SelfDB(verify=ca, timeout=30)
db.access_token, db.refresh_token = "access-0", "refresh-0"

def ask(who, number):
    said = db._transport.exchange(Request("GET", "/echo", f"?who={who}&number={number}")).json()
    assert said == f"/echo?who={who}&number={number}", (who, number, said)

ask("parent", "first")  # a connection to inherit
done = threading.Event()

def background(name):
    number = 0
    while not done.is_set():
        ask(name, number)
        number += 1

def renewing():
    while not done.is_set():
        db._transport.renew(db.access_token)

threads = [threading.Thread(target=background, args=(f"thread-{n}",)) for n in range(3)]
threads.append(threading.Thread(target=renewing))
for thread in threads:
    thread.start()

def child(number):
    status = 1
    try:
        for call in range(count):
            ask(f"child-{number}", call)
        db._transport.renew(db.access_token)
        status = 0
    finally:
        os._exit(status)

def fork(number):
    pid = os.fork()
    if pid == 0:
        child(number)
    pids.append(pid)

pids = []
for number in range(int(sys.argv[3])):
    if number % 2:
        fork(number)
    else:  # as a worker thread of a program does
        thread = threading.Thread(target=fork, args=(number,))
        thread.start()
        thread.join()
    ask(f"parent-{number}", 0)
for call in range(count):
    ask("parent", call)
statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
done.set()
for thread in threads:
    thread.join()
ask("parent", "last")
db.close()
print(set(statuses), flush=True)
"""


def echo(request: Request) -> Any:
    if request.path == "/users/token/refresh":
        number = int(request.json["refresh_token"].split("-")[1]) + 1
        pair = {"access_token": f"access-{number}", "refresh_token": f"refresh-{number}", "token_type": "bearer"}
        return 200, {}, pair
    return 200, {}, json.dumps(request.target).encode()


@pytest.mark.timeout(3600 if soak.LONG else 300)
@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
def test_g09_eight_children_and_their_parent_use_one_client(
    secure: bool, tls: Tls, replies: Callable[..., ReplyServer]
) -> None:
    server = replies(echo, tls=tls.server if secure else None)
    arguments = (str(CALLS), tls.ca if secure else "", str(CHILDREN))
    with program(FORKS, *arguments, flags=(), SELFDB_URL=server.url, SELFDB_API_KEY="key") as parent:
        parent.expect("{0}")
        assert (parent.wait(), parent.errors) == (0, "")
    asked = [request for request in server.requests if request.path == "/echo"]
    # Nobody speaks on a connection of another process.
    owners = {request.connection: "child" in request.target and request.target.split("&")[0] for request in asked}
    for request in asked:
        assert owners[request.connection] == ("child" in request.target and request.target.split("&")[0])
    soak.figure(
        "G09",
        f"{CHILDREN} children x {CALLS} calls over {'TLS' if secure else 'TCP'}, parent's threads in calls and "
        f"renewals: {len(asked)} answers, 0 crossed, 0 hangs",
    )


LATER = """
import sys, threading
from selfdb import SelfDB, SelfDBError
from selfdb.core import forks

threading.Thread(target=threading.Event().wait, daemon=True).start()
forks._before()
loaded = set(sys.modules)

def calls(db):
    yield db.auth.me
    yield db.auth.refresh
    yield db.tables.list
    yield lambda: db.tables.get("a page")
    yield lambda: db.tables.data.query("t").execute()
    yield lambda: db.tables.data.insert("t", {"a": 1.5}, idempotency_key="k")
    yield lambda: db.with_options(idempotent_writes=True).tables.data.insert("t", {"a": 1})
    yield lambda: db.tables.data.insert_many("t", [{"a": 1}, {"a": 2}])
    yield lambda: db.storage.files.upload("b", "f", iter([b"a"]))
    yield lambda: db.storage.files.download("b", "f")
    yield lambda: db.realtime.connect(timeout=5)
    yield db.status

with SelfDB(max_retries=0) as db:
    db.access_token, db.refresh_token = "access-0", "refresh-0"
    for call in calls(db):
        try:
            call()
        except SelfDBError:
            pass
print(sorted(set(sys.modules) - loaded), flush=True)
"""


def test_g09_what_is_loaded_before_a_fork_is_all_that_calls_import(replies: Callable[..., ReplyServer]) -> None:
    """What a thread imports at the moment of a fork is never imported in the child, which waits for it."""
    table = {"id": "t", "name": "t", "table_schema": {}, "public": True, "owner_id": "u", "row_count": 0}
    table.update(realtime_enabled=False, created_at="2025-01-01T00:00:00Z", updated_at="2025-01-01T00:00:00Z")

    def answer(request: Request) -> Any:
        if request.path == "/users/token/refresh":
            return echo(request)
        if request.path in ("/tables/", "/users/me"):
            return 200, {}, [table] if request.path == "/tables/" else {"id": "1", "email": "e"}
        return 404, {}, "<html><head><title>Not Found &amp; gone</title></head></html>"

    server = replies(answer)
    with program(LATER, flags=(), SELFDB_URL=server.url, SELFDB_API_KEY="key") as running:
        running.expect("[]")
        assert (running.wait(), running.errors) == (0, "")
    assert len(server.lines) > 10


HELD = """
import faulthandler, gc, os, signal, sys, threading, warnings
faulthandler.register(signal.SIGALRM, chain=True)  # a child that hangs says where, and is killed
warnings.simplefilter("ignore", DeprecationWarning)
import selfdb.core.forks as forks
from selfdb import SelfDB
from selfdb.core.request import Request

db = SelfDB()
db.access_token, db.refresh_token = "access-0", "refresh-0"
db._transport.exchange(Request("GET", "/echo", ""))
channel = db.realtime.channel("table:orders").on("*", print)
stream = channel.events(timeout=0.01)

def locks():
    kinds = (type(threading.Lock()), type(threading.RLock()))
    seen = []
    for thing in [*gc.get_objects(), forks]:
        module = getattr(type(thing), "__module__", "") or ""
        if thing is not forks and not (isinstance(module, str) and module.startswith("selfdb")):
            continue
        held = dict(getattr(thing, "__dict__", {}))
        for base in type(thing).__mro__:
            for slot in getattr(base, "__slots__", ()):
                if isinstance(slot, str) and hasattr(thing, slot):
                    held.setdefault(slot, getattr(thing, slot))
        for name, value in held.items():
            lock = getattr(value, "_lock", value) if isinstance(value, threading.Condition) else value
            if isinstance(lock, kinds):
                seen.append((f"{type(thing).__name__}.{name}", lock))
    return seen

def use():
    db._transport.exchange(Request("GET", "/echo", "?child"))
    db._transport.renew(db.access_token)
    db.with_options(timeout=3).as_user("token")
    db.realtime.channel("table:other").on("*", print)
    channel.events(timeout=0.01).close()
    db.realtime.disconnect()
    db.close()

found = locks()
for name, lock in found:
    held, go_on = threading.Event(), threading.Event()

    def hold():
        with lock:
            held.set()
            go_on.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(60)
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        try:
            use()
        except BaseException as error:
            print(name, repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    go_on.set()
    holder.join()
    if status:
        print("fails with", name, status, flush=True)
print("tried", len(found), *sorted({name for name, _ in found}), flush=True)
"""


def test_g09_a_fork_while_another_thread_holds_any_lock_of_ours(replies: Callable[..., ReplyServer]) -> None:
    server = replies(echo)
    with program(HELD, flags=(), SELFDB_URL=server.url, SELFDB_API_KEY="key") as parent:
        said = parent.line()
        assert parent.wait() == 0, parent.errors
        assert said.startswith("tried "), said + parent.errors
        names = said.split()[2:]
    assert {"TokenKeeper._lock", "Pool._lock", "RetryBudget._lock", "Turn._lock", "Link._lock"} <= set(names)
    soak.figure("G09", f"forked while another thread held one of {len(names)} kinds of locks: 0 hangs")


POOLS = """
import multiprocessing, os, sys, warnings
from concurrent.futures import ProcessPoolExecutor
warnings.simplefilter("ignore", DeprecationWarning)
from selfdb import SelfDB
from selfdb.core.request import Request

db = SelfDB()

def ask(number):
    said = db._transport.exchange(Request("GET", "/echo", f"?who={os.getpid()}&number={number}")).json()
    return said == f"/echo?who={os.getpid()}&number={number}"

if __name__ == "__main__":
    ask(0)
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            answers = list(pool.map(ask, range(8)))
        print(method, all(answers), ask(1), flush=True)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print("pool", all(pool.map(ask, range(8))), ask(1), flush=True)
    db.close()
"""


def test_g09_multiprocessing_with_a_client_in_a_global(replies: Callable[..., ReplyServer], tmp_path: Path) -> None:
    server = replies(echo)
    script = tmp_path / "pools.py"
    script.write_text(POOLS)
    running = Program([sys.executable, str(script)], environment(SELFDB_URL=server.url, SELFDB_API_KEY="key"))
    with contextlib.closing(running) as parent:
        for method in ("fork", "spawn", "forkserver", "pool"):
            parent.expect(f"{method} True True")
        assert (parent.wait(), parent.errors) == (0, "")
