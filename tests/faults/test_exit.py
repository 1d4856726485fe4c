"""The end of a program: prompt, silent and with its own exit code, whatever a client is in the middle of."""

from __future__ import annotations

import functools
import signal
import time
from pathlib import Path
from typing import Any, Dict, Tuple

import pytest

from tests import soak
from tests.core.kit import wait_until
from tests.faults.programs import Program, program, told
from tests.realtime.raw import Table
from tests.servers.scripted import Peer, ScriptedServer
from tests.support import Http

PROMISE = 1.0  # seconds from the program's end to the process's, without the interpreter's own
SLACK = 5.0

BEGIN = """
import atexit, os, signal, sys, threading, time
from selfdb import SelfDB

# What a shell starts in the background ignores it, and so would all that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

db = SelfDB()

def ready():
    print("ready", flush=True)

def in_thread(work):
    def run():
        try:
            work()
        except Exception:
            pass
    threading.Thread(target=run, daemon=True).start()

def subscribed(callback):
    db.access_token = os.environ["TOKEN"]
    channel = db.realtime.channel(os.environ["TOPIC"]).on("INSERT", callback)
    db.realtime.connect()
    channel.subscribe()
    return channel
"""

ENDS: Dict[str, Tuple[str, int]] = {
    "runs out": ("", 0),
    "sys.exit": ("sys.exit(7)", 7),
    "unhandled": ("raise SystemError('the program is wrong')", 1),
}

#: What clients are in the middle of when the program ends; each says ready first.
SERVED: Dict[str, str] = {
    "an unclosed client": "db.status(); ready()",
    "a subscription": "subscribed(lambda payload: None); ready()",
    "a blocked callback": """
entered = threading.Event()
subscribed(lambda payload: (entered.set(), time.sleep(600)))
ready()
entered.wait(60)
""",
    "an event loop's iterator": """
channel = subscribed(lambda payload: None)
stream = channel.events(timeout=0.2)
for event in stream:
    pass
stream = channel.events()
ready()
""",
    "rows that are iterated": """
db.access_token = os.environ["TOKEN"]
rows = iter(db.tables.data.query(os.environ["TABLE"]).page_size(1))
next(rows)
ready()
""",
    "a local server": "local = SelfDB.local(); local.auth.me(); ready()",
}


@functools.lru_cache(maxsize=1)
def bare() -> float:
    """Seconds that an interpreter with the same modules takes to end, on this machine in this moment."""
    text = "import selfdb, selfdb.realtime; from selfdb import SelfDB; print('ready', flush=True)"
    with program(text, SELFDB_URL="http://127.0.0.1:1", SELFDB_API_KEY="k") as nothing:
        nothing.expect("ready")
        begun = time.monotonic()
        assert nothing.wait() == 0, nothing.errors
        return time.monotonic() - begun


def ended(running: Program) -> Tuple[int, float]:
    begun = time.monotonic()
    code = running.wait()
    return code, time.monotonic() - begun - bare()


def checked(running: Program, code: int, took: float, expected: int, error: str = "") -> None:
    assert code == expected, running.errors
    if error:
        assert running.errors.rstrip().endswith(error), running.errors
        assert running.errors.count("Traceback") == 1, running.errors
    else:
        assert running.errors == ""
    assert took < PROMISE * SLACK


@pytest.fixture
def table(server: Any, http: Http) -> Table:
    table = Table(http, http.admin)
    table.insert(1)
    table.insert(2)
    return table


@pytest.mark.parametrize("backend", ["sqlite"], scope="session")
@pytest.mark.parametrize("end", list(ENDS))
def test_g08_a_program_ends_in_the_middle_of_anything(server: Any, http: Http, table: Table, end: str) -> None:
    """All at once: a client of each kind that is left as it is."""
    text, expected = ENDS[end]
    parts = [SERVED[name] for name in SERVED if name != "a local server"]
    more = {"TOKEN": http.admin, "TOPIC": table.topic, "TABLE": table.id}
    with program(BEGIN + "\n".join(parts) + f"\nsys.stdin.readline()\n{text}\n", **told(server, **more)) as running:
        for _ in range(3):
            running.expect("ready")
        table.insert(3)
        for _ in range(2):
            running.expect("ready")
        running.tell()
        code, took = ended(running)
    checked(running, code, took, expected, "SystemError: the program is wrong" if end == "unhandled" else "")
    soak.figure("G08", f"exit with open subscription, blocked callback, iterators ({end}): {took:+.2f} s, code {code}")


MUTE = """
in_thread(db.status)
in_thread(lambda: db.with_options(max_retries=5).tables.count())
in_thread(lambda: SelfDB("http://127.0.0.1:1", max_retries=50).status())
in_thread(db.realtime.connect)
stream = db.storage.files.stream("bucket", "file", chunk_size=65536)
next(iter(stream))
ready()
"""


def mute(peer: Peer) -> None:
    """Takes a request and never answers, but for a download, which begins."""
    if "/files" in peer.read_request().target:
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 100_000)
    peer.stall()


@pytest.mark.parametrize("end", list(ENDS))
def test_g08_a_program_ends_beside_a_peer_that_says_nothing(end: str) -> None:
    text, expected = ENDS[end]
    with ScriptedServer(default=mute) as peer:
        address = {"SELFDB_URL": peer.url, "SELFDB_API_KEY": "key"}
        with program(BEGIN + MUTE + f"sys.stdin.readline()\n{text}\n", **address) as running:
            running.expect("ready")
            running.tell()
            code, took = ended(running)
    checked(running, code, took, expected, "SystemError: the program is wrong" if end == "unhandled" else "")
    soak.figure("G08", f"exit with a silent peer, a retry's sleep, an open download ({end}): {took:+.2f} s")


INTERRUPTED = {
    "a call": "ready(); db.status()",
    "an event loop": """
channel = subscribed(lambda payload: None)
ready()
for event in channel.events():
    pass
""",
    "a retry's sleep": "ready(); db.with_options(max_retries=9, deadline=None)._transport.lifeline.sleep(600)",
    "connecting": "ready(); db.realtime.connect(timeout=600)",
}


@pytest.mark.parametrize("backend", ["sqlite"], scope="session")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", list(INTERRUPTED))
def test_g08_a_signal_ends_a_program_in_the_middle(
    server: Any, http: Http, table: Table, where: str, number: signal.Signals
) -> None:
    with ScriptedServer(default=mute) as peer:
        live = where == "an event loop"
        address = told(server) if live else {"SELFDB_URL": peer.url, "SELFDB_API_KEY": "key"}
        more = {**address, "TOKEN": http.admin, "TOPIC": table.topic}
        with program(BEGIN + INTERRUPTED[where], **more) as running:
            running.expect("ready")
            if where in ("a call", "connecting"):
                wait_until(lambda: bool(peer.requests))
            running.process.send_signal(number)
            code, took = ended(running)
    assert code == -number
    assert took < PROMISE * SLACK
    if number == signal.SIGINT:
        assert running.errors.rstrip().endswith("KeyboardInterrupt"), running.errors
        assert "Exception ignored" not in running.errors
        assert "Warning" not in running.errors
    else:
        assert running.errors == ""


@pytest.mark.parametrize("end", ["sys.exit", "unhandled"])
def test_g08_a_local_server_ends_with_its_program_and_leaves_nothing(end: str, tmp_path: Path) -> None:
    text, expected = ENDS[end]
    body = BEGIN + SERVED["a local server"] + f"\nsys.stdin.readline()\n{text}\n"
    with program(body, SELFDB_URL="http://127.0.0.1:1", SELFDB_API_KEY="key", TMPDIR=str(tmp_path)) as running:
        running.expect("ready")
        assert list(tmp_path.iterdir()) != []
        running.tell()
        code, took = ended(running)
    checked(running, code, took, expected, "SystemError: the program is wrong" if end == "unhandled" else "")
    assert list(tmp_path.iterdir()) == []


CLOSING = """
from selfdb import ClientClosedError
took = []

def close(*_):
    begun = time.monotonic()
    db.close()
    took.append(time.monotonic() - begun)

def busy():
    try:
        db.with_options(timeout=600, deadline=None).status()
    except Exception:
        pass

for _ in range(20):
    threading.Thread(target=busy, daemon=True).start()
in_thread(lambda: db.realtime.connect(timeout=600))
ready()
sys.stdin.readline()
"""

CLOSES = {
    "twice": "close(); close()",
    "a thread": "thread = threading.Thread(target=close); thread.start(); thread.join()",
    "a signal handler": """
signal.signal(signal.SIGUSR1, close)
os.kill(os.getpid(), signal.SIGUSR1)
while not took:
    time.sleep(0.01)
""",
    "atexit": "atexit.register(lambda: (close(), print(max(took), flush=True)))",
    "a finalizer": """
import gc, weakref
class Owner:
    pass
owner = Owner()
weakref.finalize(owner, close)
del owner
gc.collect()
""",
    "a forked child": """
import warnings
warnings.simplefilter("ignore")
pid = os.fork()
if pid == 0:
    close()
    os._exit(0 if max(took) < 10 else 1)
assert os.waitpid(pid, 0)[1] == 0
close()
""",
}


@pytest.mark.parametrize("where", list(CLOSES))
def test_g08_close_returns_at_once_from_anywhere_while_twenty_threads_are_in_calls(where: str) -> None:
    with ScriptedServer(default=mute) as peer:
        text = BEGIN + CLOSING + CLOSES[where]
        if where != "atexit":
            text += "\nprint(max(took), flush=True)\n"
        with program(text, SELFDB_URL=peer.url, SELFDB_API_KEY="key") as running:
            running.expect("ready")
            wait_until(lambda: len(peer.requests) >= 21)
            running.tell()
            said = running.line()
            code, took = ended(running)
    checked(running, code, took, 0)
    assert float(said) < 2.0 * SLACK
    soak.figure("G08", f"close() from {where}: {float(said):.3f} s")


IN_A_CHILD = """
import warnings
warnings.simplefilter("ignore")
local = SelfDB.local()
pid = os.fork()
if pid == 0:
    local.close()  # the child's own; the server is the parent's
    sys.exit(0)  # which runs what is registered for the exit, too
assert os.waitpid(pid, 0)[1] == 0
print(local.auth.me().email, flush=True)
local.tables.list()
"""


def test_g08_a_forked_child_stops_no_server_of_its_parent(tmp_path: Path) -> None:
    address = {"SELFDB_URL": "http://127.0.0.1:1", "SELFDB_API_KEY": "key", "TMPDIR": str(tmp_path)}
    with program(BEGIN + IN_A_CHILD, flags=(), **address) as running:
        running.expect("admin@example.com")
        assert (running.wait(), running.errors) == (0, "")
    assert list(tmp_path.iterdir()) == []
