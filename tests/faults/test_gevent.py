"""gevent: patched first, everything works in greenlets; patched too late, a warning says so."""

from __future__ import annotations

from typing import Any

import pytest

from tests import soak
from tests.faults.programs import program, told
from tests.realtime.raw import Table
from tests.support import Http

pytest.importorskip("gevent")

GREENLETS = 50

GREEN = """
from gevent import monkey
monkey.patch_all()
import gevent, os, sys, time
from selfdb import APITimeoutError, SelfDB

db = SelfDB(max_retries=2)
db.access_token = os.environ["TOKEN"]
table = os.environ["TABLE"]
got = []
db.realtime.connect()
channel = db.realtime.channel(os.environ["TOPIC"]).on("INSERT", lambda payload: got.append(payload.new["n"]))
channel.subscribe()

def work(number):
    db.tables.data.insert(table, {"n": number})
    return number

jobs = [gevent.spawn(work, number) for number in range(100, 150)]
gevent.joinall(jobs, timeout=60, raise_error=True)
assert [job.value for job in jobs] == list(range(100, 150))
end = time.monotonic() + 30
while len(got) < 50:
    assert time.monotonic() < end, got
    time.sleep(0.01)
assert sorted(got) == list(range(100, 150)), got

mute = SelfDB(os.environ["MUTE"], "key", timeout=0.3, max_retries=1)
begun = time.monotonic()
def late():
    try:
        mute.status()
    except APITimeoutError:
        return "late"
jobs = [gevent.spawn(late) for _ in range(20)]
gevent.joinall(jobs, timeout=60)
assert [job.value for job in jobs] == ["late"] * 20
# One greenlet waits; another is not held up, as it would be by a call that gevent does not see.
ticks = []
ticking = gevent.spawn(lambda: [ticks.append(gevent.sleep(0.01)) for _ in range(20)])
waiting = gevent.spawn(late)
ticking.join(30)
assert len(ticks) == 20
waiting.kill()
begun = time.monotonic()
mute.close()
db.close()
assert time.monotonic() - begun < 10
print("done", flush=True)
"""


@pytest.mark.parametrize("backend", ["sqlite"], scope="session")
def test_g24_fifty_greenlets_with_retries_time_outs_and_events(server: Any, http: Http) -> None:
    from tests.servers.scripted import ScriptedServer

    table = Table(http, http.admin)
    with ScriptedServer(default=lambda peer: peer.wait_for_close()) as peer:
        more = {"TOKEN": http.admin, "TABLE": table.id, "TOPIC": table.topic, "MUTE": peer.url}
        with program(GREEN, flags=(), **told(server, **more)) as running:
            running.expect("done")
            assert (running.wait(), running.errors) == (0, "")
    soak.figure("G24", "gevent: 50 greenlets with writes, events, time-outs, close and exit")


LATE = """
import warnings
warnings.simplefilter("ignore")
from selfdb import SelfDB
from gevent import monkey
monkey.patch_all()
warnings.simplefilter("always")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(2):
        SelfDB("http://127.0.0.1:1", "key", max_retries=0).close()
print([str(warning.message) for warning in caught if "selfdb" in str(warning.message)], flush=True)
"""

EARLY = """
import warnings
warnings.simplefilter("ignore")
import selfdb
from gevent import monkey
monkey.patch_all()
warnings.simplefilter("error")
selfdb.SelfDB("http://127.0.0.1:1", "key").close()
print("silent", flush=True)
"""


def test_g24_a_late_patch_is_a_warning() -> None:
    with program(LATE, flags=()) as running:
        said = running.line()
        assert running.wait() == 0, running.errors
    assert "before selfdb is imported" in said


def test_g24_a_patch_before_the_first_client_is_early_enough() -> None:
    with program(EARLY, flags=()) as running:
        running.expect("silent")
        assert running.wait() == 0, running.errors
