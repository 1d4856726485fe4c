"""A program of its own that uses the client and says what it took: ``python -m tests.faults.appetite WHAT {...}``.

In a process of its own nobody else's memory, descriptors and threads are counted. The answer is JSON on one line.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import json
import os
import sys
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

MIB = 1024 * 1024
BLOCK = os.urandom(MIB)


def peak() -> int:
    """The largest resident size so far, bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


class Growth:
    """What the peak of memory grew by since the last look, over what was resident then."""

    def __init__(self) -> None:
        self.found: Dict[str, int] = {}

    @contextlib.contextmanager
    def of(self, what: str) -> Iterator[None]:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = peak()
        yield
        self.found[what] = peak() - before


class Sink(io.RawIOBase):
    """A file object that keeps nothing."""

    size = 0

    def write(self, data: Any) -> int:
        self.size += len(data)
        return len(data)


def bodies(url: str, key: str, email: str, password: str, mib: int, folder: str) -> Dict[str, int]:
    """Uploads from and downloads to everything there is."""
    from selfdb import SelfDB

    growth = Growth()
    source, target = Path(folder) / "source", Path(folder) / "target"
    with source.open("wb") as file:
        for _ in range(mib):
            file.write(BLOCK)

    def chunks() -> Iterator[bytes]:
        for _ in range(mib):
            yield BLOCK

    def client() -> Any:
        made = SelfDB(url, key)
        made.auth.login(email, password)
        return made

    with client() as db:
        bucket = db.storage.buckets.create({"name": f"b{os.urandom(5).hex()}"})
        files = db.storage.files
        files.upload(bucket.id, "warm", BLOCK)
        files.download(bucket.name, "warm")
        size = mib * MIB
        with growth.of("upload of a path"):
            assert files.upload(bucket.id, "path", source).size == size
        with growth.of("upload of a file"), source.open("rb") as file:
            assert files.upload(bucket.id, "file", file).size == size
        with growth.of("upload of a generator"):
            assert files.upload(bucket.id, "generator", chunks()).size == size
        with growth.of("upload to an unknown route"), client() as fresh:
            assert fresh.storage.files.upload(bucket.id, "spooled", chunks()).size == size
        with growth.of("download to a path"):
            assert files.download_to(bucket.name, "path", target) == size
        assert target.stat().st_size == size
        with growth.of("download to a file"):
            sink = Sink()
            assert files.download_to(bucket.name, "generator", sink) == size == sink.size
        with growth.of("stream"), files.stream(bucket.name, "spooled") as blocks:
            assert sum(len(block) for block in blocks) == size
    return growth.found


def resumed(url: str, mib: int) -> Dict[str, int]:
    """A download whose connection is cut again and again."""
    from selfdb import SelfDB

    growth = Growth()
    with SelfDB(url, "key", max_retries=5) as db:
        with contextlib.suppress(Exception):
            db.status()
        sink = Sink()
        with growth.of("download with cuts"):
            assert db.storage.files.download_to("b", "f", sink) == mib * MIB == sink.size
    return growth.found


def bombs(url: str, kinds: List[str], limit: int) -> Dict[str, Any]:
    """Answers without end; what each is refused with, and what it took."""
    import requests

    from selfdb import SelfDB
    from selfdb.core import exchange
    from selfdb.exceptions import SelfDBError

    exchange.MAX_ANSWER = limit
    growth = Growth()
    told: Dict[str, Any] = {}
    with requests.Session() as theirs:
        for session in (None, theirs):
            db = SelfDB(url, "key", max_retries=0, deadline=60, session=session)
            with contextlib.suppress(SelfDBError):
                db.tables.get("warm")
            for kind in kinds:
                name = kind if session is None else f"{kind}, theirs"
                begun = time.monotonic()
                with growth.of(name):
                    try:
                        db.tables.get(kind)
                        outcome = "taken"
                    except SelfDBError as error:
                        outcome = type(error).__name__
                told[name] = [outcome, growth.found[name], time.monotonic() - begun]
            db.close()
    return told


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _settled(count: Callable[[], int], wanted: int) -> int:
    end = time.monotonic() + 5
    while count() > wanted and time.monotonic() < end:
        time.sleep(0.01)
    return count()


def leaks(url: str, key: str, email: str, password: str, counts: Dict[str, int]) -> Dict[str, Dict[str, int]]:
    """What is left of each scenario, done so many times after as many to warm up."""
    return {name: _left(SCENARIOS[name](url, key, email, password), count) for name, count in counts.items()}


def _left(work: Any, count: int) -> Dict[str, int]:
    next(work)
    gc.collect()
    tracemalloc.start()

    def turn() -> List[int]:
        for _ in range(count):
            next(work)
        gc.collect()
        return [tracemalloc.get_traced_memory()[0], _descriptors(), threading.active_count()]

    def held() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    first = turn()
    second = turn()
    # What is on its way out, in a thread of its own, is not left: a look at once where it is more than may be left.
    second[0] = _settled(held, first[0] + MIB // 10 - 1)
    second[1], second[2] = _settled(_descriptors, first[1]), _settled(threading.active_count, first[2])
    tracemalloc.stop()
    work.close()
    return {"memory": second[0] - first[0], "descriptors": second[1] - first[1], "threads": second[2] - first[2]}


Scenario = Callable[..., "Iterator[Any]"]


def _signed_in(url: str, key: str, email: str, password: str) -> Any:
    from selfdb import SelfDB

    db = SelfDB(url, key, max_retries=0)
    db.auth.login(email, password)
    return db


def _calls(*who: str) -> Iterator[None]:
    with _signed_in(*who) as db:
        while True:
            db.auth.me()
            yield


def _failures(*who: str) -> Iterator[None]:
    from selfdb import SelfDB
    from selfdb.exceptions import SelfDBError

    with _signed_in(*who) as db, SelfDB("http://127.0.0.1:9", "key", max_retries=0) as nowhere:
        wrong = [
            lambda: db.tables.get("00000000-0000-4000-8000-000000000000"),
            lambda: db.tables.get("no id"),
            lambda: db.tables.get(".."),
            lambda: db.auth.login(f"{os.urandom(6).hex()}@example.com", "wrong"),
            lambda: db.with_options(headers={"X-A": "1"}).storage.files.download("nobucket", "f"),
            lambda: db.storage.files.upload("no id", "f", iter([b"a"])),
            lambda: nowhere.auth.me(),
            lambda: db.as_user("bad-token").auth.me(),
            lambda: db.auth.users.create({"email": "no"}),
        ]
        while True:
            for call in wrong:
                try:
                    call()
                except SelfDBError as error:
                    str(error)
                else:
                    raise AssertionError("it was to fail")
            yield


def _clients_closed(*who: str) -> Iterator[None]:
    from selfdb import SelfDB

    while True:
        with SelfDB(*who[:2]) as db:
            db.status()
        yield


def _clients_dropped(*who: str) -> Iterator[None]:
    from selfdb import SelfDB

    while True:
        SelfDB(*who[:2]).status()
        gc.collect(0)
        yield


def _clones(*who: str) -> Iterator[None]:
    with _signed_in(*who) as db:
        while True:
            db.with_options(timeout=9).auth.me()
            db.as_user(db.access_token).auth.me()
            db.as_guest().status()
            with db.with_options(max_retries=0) as clone:
                clone.status()
            yield


def _threads(*who: str) -> Iterator[None]:
    with _signed_in(*who) as db:
        while True:
            thread = threading.Thread(target=db.auth.me)
            thread.start()
            thread.join()
            yield


def _half_read(*who: str) -> Iterator[None]:
    with _signed_in(*who) as db:
        bucket = db.storage.buckets.create({"name": f"b{os.urandom(5).hex()}"})
        table = db.tables.create({"name": f"t{os.urandom(5).hex()}", "table_schema": {"a": {"type": "text"}}})
        db.storage.files.upload(bucket.id, "f", BLOCK)
        for _ in range(4):
            db.tables.data.insert(table.id, {"a": "x"})
        while True:
            stream = db.storage.files.stream(bucket.name, "f", chunk_size=1000)
            next(stream)
            with db.storage.files.stream(bucket.name, "f") as closed:
                next(closed)
            del stream, closed
            next(iter(db.tables.data.query(table.id).page_size(1)))
            next(db.auth.users.iter(page_size=1))
            yield


def _refreshes(*who: str) -> Iterator[None]:
    with _signed_in(*who) as db:
        while True:
            db.auth.refresh()
            yield


def _subscriptions(*who: str) -> Iterator[None]:
    with _signed_in(*who) as db:
        table = db.tables.create({"name": f"t{os.urandom(5).hex()}", "table_schema": {"a": {"type": "text"}}})
        db.tables.update(table.id, {"realtime_enabled": True})
        db.realtime.connect()
        channel = db.realtime.channel(f"table:{table.name}")

        def heard(payload: Any) -> None:
            """Nothing."""

        while True:
            channel.on("INSERT", heard)
            channel.subscribe()
            channel.unsubscribe()
            channel.off("INSERT", heard)
            yield


def _connections(*who: str) -> Iterator[None]:
    with _signed_in(*who) as db:
        while True:
            db.realtime.connect()
            db.realtime.disconnect()
            yield


def _realtime_clients(*who: str) -> Iterator[None]:
    from selfdb import SelfDB

    with _signed_in(*who) as db:
        while True:
            with SelfDB(*who[:2]) as one:
                one.access_token = db.access_token
                one.realtime.connect()
                for number in range(3):
                    one.realtime.channel(f"table:n{number}").on("*", print)
            yield


def _loops(*who: str) -> Iterator[None]:
    from selfdb.aio import SelfDB

    async def once() -> None:
        async with SelfDB(*who[:2]) as db:
            await db.status()

    while True:
        asyncio.run(once())
        yield


SCENARIOS: Dict[str, Scenario] = {
    "calls": _calls,
    "failures": _failures,
    "clients that are closed": _clients_closed,
    "clients that are dropped": _clients_dropped,
    "clones": _clones,
    "short threads": _threads,
    "streams and loops that are left": _half_read,
    "refreshes": _refreshes,
    "subscriptions": _subscriptions,
    "connections": _connections,
    "realtime clients": _realtime_clients,
    "event loops": _loops,
}

if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](**json.loads(sys.argv[2]))))
