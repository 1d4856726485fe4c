"""A client across a fork: parent and child go on with it, and neither takes the other's answer."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Callable, List

import pytest

from selfdb.core import forks
from selfdb.core import http as http_module
from selfdb.core.forks import renew_after_fork
from selfdb.core.transport import Transport
from tests.conftest import Tls
from tests.core.calls import GET
from tests.core.kit import in_forked_child
from tests.core.renewal import Kept, locks, locks_of
from tests.servers.replies import ReplyServer

ROOT = Path(__file__).parents[2]

# A process of its own: forking one that runs pytest's and the servers' threads would prove something else.
PROGRAM = """
import os, sys, threading
from selfdb.core.request import Request
from tests.core.calls import transport_to

url, verify = sys.argv[1], sys.argv[2] or None
transport = transport_to(url, verify=verify)

def ask(who, number):
    answer = transport.exchange(Request("GET", "/echo", f"?who={who}&number={number}")).json()
    assert answer == f"/echo?who={who}&number={number}", (who, number, answer)

ask("parent", -1)  # a connection to inherit
busy = threading.Event()
def background():
    number = 0
    while not busy.is_set():
        ask("background", number)
        number += 1
thread = threading.Thread(target=background)
thread.start()
children = []
for child in range(4):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            for number in range(15):
                ask(f"child-{child}", number)
            status = 0
        finally:
            os._exit(status)
    children.append(pid)
    for number in range(10):
        ask(f"parent-{child}", number)
statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
busy.set()
thread.join()
ask("parent", "last")
transport.pool.close()
print(statuses)
"""


@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
def test_parent_and_children_share_a_client_without_crossed_answers(
    secure: bool, tls: Tls, replies: Callable[..., ReplyServer]
) -> None:
    def echo(request: Any) -> Any:
        return 200, {}, json.dumps(request.target).encode()

    server = replies(echo, tls=tls.server if secure else None)
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    environment["PYTHONPATH"] = str(ROOT)
    ran = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM, server.url, tls.ca if secure else ""],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        cwd=ROOT,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == "[0, 0, 0, 0]\n"
    theirs = [request for request in server.requests if "who=child" in request.target]
    ours = [request for request in server.requests if "who=child" not in request.target]
    assert len(theirs) == 60
    assert not {request.connection for request in theirs} & {request.connection for request in ours}


def test_a_child_lets_go_of_what_it_inherited(
    replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    server = replies(lambda request: (200, {}, request.target))
    transport = connect(server)
    transport.exchange(GET)

    def child() -> bytes:
        return transport.exchange(GET).content

    assert in_forked_child(child) == b"/things?search=canary-of-the-query"
    transport.exchange(GET)
    assert [request.connection for request in server.requests] == [0, 1, 0]


def test_renewal_runs_in_this_process_as_it_would_in_a_child(
    replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    """What a child does, done here: every lock is a new one, every connection is left behind."""
    transport = connect(replies(lambda request: (200, {}, {})))
    transport.exchange(GET)
    before = transport.pool._session()
    locks = forks._aware_lock, transport.pool._lock, transport.pool.budget._lock
    try:
        assert locks[0].acquire(blocking=False), "held by a thread that the child does not have"
        forks._in_child()
        assert not {id(lock) for lock in locks} & {
            id(forks._aware_lock),
            id(transport.pool._lock),
            id(transport.pool.budget._lock),
        }
        assert transport.exchange(GET).status_code == 200
        assert transport.pool._session() is not before
        closed = http_module._BoundedHTTPConnection("127.0.0.1", 9)
        forks._in_child()
        assert closed.sock is None
    finally:
        before.close()


def test_only_what_lives_is_renewed() -> None:
    renewed: List[str] = []

    class Thing:
        def __init__(self, name: str) -> None:
            self.name = name
            renew_after_fork(self)

        def _renew_in_child(self) -> None:
            renewed.append(self.name)

    kept, forgotten = Thing("kept"), Thing("forgotten")
    del forgotten
    gc.collect()
    assert in_forked_child(lambda: ",".join(renewed).encode()) == b"kept"
    assert kept.name == "kept"
    assert renewed == []
    assert threading.active_count() >= 1


def test_objects_that_another_thread_makes_meanwhile_are_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Growing(List[Any]):
        looks = 0

        def __iter__(self) -> Any:
            Growing.looks += 1
            if Growing.looks == 1:
                raise RuntimeError("Set changed size during iteration")
            return super().__iter__()

    monkeypatch.setattr(forks, "_aware", Growing())
    forks._before()
    assert Growing.looks == 2


IMPORTING = """
import importlib.abc, os, signal, sys, threading, time
from selfdb import SelfDB

importing, forking = threading.Event(), threading.Event()

class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "selfdb.models.users":
            importing.set()
            forking.wait(20)
            time.sleep(0.3)
        return None

def load():
    import selfdb.models
    selfdb.models.UserRead

sys.meta_path.insert(0, Slow())
db = SelfDB("http://127.0.0.1:9", "key")
threading.Thread(target=load, daemon=True).start()
assert importing.wait(20)
forking.set()
pid = os.fork()
if not pid:
    signal.alarm(20)
    load()
    os._exit(0)
print(os.waitpid(pid, 0)[1])
"""


def test_a_fork_in_the_middle_of_another_threads_import_leaves_a_child_that_can_import() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTING], capture_output=True, text=True, check=False, timeout=100)
    assert (done.stdout, done.returncode) == ("0\n", 0), done.stderr


def test_only_a_process_of_several_threads_loads_before_it_forks(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: List[str] = []
    monkeypatch.setattr(forks, "_load", [])
    forks.load_before_fork(lambda: loaded.append("loaded"))
    for count in (1, 2):
        monkeypatch.setattr(forks.threading, "active_count", lambda count=count: count)
        forks._before()
        assert len(loaded) == count - 1


NOT_BY_THEMSELVES = {
    "core/call.py Call._lock": "a child is in no call: nobody there waits for one",
    "core/http.py ClientAdapter._context_lock": "a child makes another session, and it an adapter",
    "core/places.py Places._lock": "a child has no executor before it makes one, and it its places",
    "core/turns.py Turns._lock": "who keeps one makes another, which is looked for here too",
    "realtime/waiting.py Turn._lock": "who keeps one makes another, which is looked for here too",
    "indexie/hooks/delivery.py Delivery._lock": "the outbox makes another delivery",
}


def test_every_lock_that_is_kept_is_another_one_in_a_child() -> None:
    kept = list(locks())
    assert len(kept) > 30, "they are not found any more"
    assert sorted(each.name for each in kept if not each.renewed) == sorted(NOT_BY_THEMSELVES)


def test_a_lock_that_is_forgotten_is_found() -> None:
    source = """
import threading
_gate = threading.RLock()
_other = threading.Lock()
def _in_child():
    global _gate
    _gate = threading.RLock()
class Thing:
    def __init__(self):
        self.kept: object = threading.Lock()
        self.forgotten = threading.Condition()
        local = threading.Event()
    def _renew_in_child(self):
        self._more()
    def _more(self):
        self.kept = None
        self._renew_in_child()
"""
    assert list(locks_of("a.py", source)) == [
        Kept("a.py _gate", True),
        Kept("a.py _other", False),
        Kept("a.py Thing.forgotten", False),
        Kept("a.py Thing.kept", True),
    ]
