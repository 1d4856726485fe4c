"""The blob store: what a crash, a fault, a sweep, a vanished client and a huge body leave behind."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sqlite3
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Set
from urllib.parse import urlsplit

import pytest
import requests

from selfdb.server import listener, uploads
from selfdb.server.objects import Incoming, ObjectStore, UploadAbandoned
from tests import soak
from tests.conftest import API_KEY
from tests.server.storage import download, listed, new_bucket, refreshed, stored, upload
from tests.servers.process import ServeProcess
from tests.support import Http

FUTURE = time.time() + 1e6
#: More by hand: SELFDB_KILLS=20 pytest tests/server/test_objects.py
KILLS = soak.amount("SELFDB_KILLS", here=1, long=8)


def contents(data: Path) -> Set[str]:
    """Every file of the store but its lock."""
    return {path.name for path in (data / "objects").rglob("*") if path.is_file() and path.name != ".pin"}


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)


def named(data: Path) -> Set[str]:
    with sqlite3.connect(f"file:{data / 'selfdb.sqlite3'}?mode=ro", uri=True) as connection:
        found = {version for (version,) in connection.execute("SELECT version FROM _selfdb_files")}
    connection.close()
    return found


# The store alone


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "objects")


def kept(store: ObjectStore, content: bytes = b"content") -> str:
    incoming = store.receive()
    incoming.write(content)
    incoming.claim()
    incoming.publish()
    incoming.keep()
    return incoming.version


def all_named(prefix: str) -> Set[str]:
    raise AssertionError("nothing should be asked")


def test_what_was_kept_is_read_back(store: ObjectStore, tmp_path: Path) -> None:
    version = kept(store, b"content")
    with store.open(version) as file:
        assert file.read() == b"content"
    assert contents(tmp_path) == {version}
    assert store.path(version).stat().st_mode & 0o777 == 0o600
    for folder in [store.folder, *(path for path in store.folder.iterdir() if path.is_dir())]:
        assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("version", ["", "..", "../../etc/passwd", "A" * 32, "0" * 31, "0" * 33, "0" * 32 + "\n"])
def test_what_names_no_version_never_becomes_a_path(store: ObjectStore, version: str) -> None:
    with pytest.raises(ValueError):
        store.path(version)


def test_an_abandoned_upload_leaves_nothing(store: ObjectStore, tmp_path: Path) -> None:
    with store.receive() as incoming:
        incoming.write(b"half")
        assert contents(tmp_path) == {incoming.version}
    assert contents(tmp_path) == set()
    for use in (lambda: incoming.write(b"more"), incoming.claim):
        with pytest.raises(UploadAbandoned):
            use()
    incoming.abandon()


def test_a_claimed_upload_cannot_be_abandoned(store: ObjectStore, tmp_path: Path) -> None:
    with store.receive() as incoming:
        incoming.write(b"whole")
        incoming.claim()
        incoming.publish()
    assert contents(tmp_path) == {incoming.version}
    incoming.keep()
    withdrawn = store.receive()
    withdrawn.claim()
    withdrawn.publish()
    withdrawn.withdraw()
    assert contents(tmp_path) == {incoming.version}


def test_what_is_open_outlives_its_removal(store: ObjectStore) -> None:
    version = kept(store, b"content")
    with store.open(version) as file:
        store.discard([version, "0" * 32])
        with pytest.raises(FileNotFoundError):
            store.open(version)
        assert file.read() == b"content"


def test_the_sweep_removes_what_no_row_names(store: ObjectStore, tmp_path: Path) -> None:
    wanted, orphan = kept(store), kept(store)
    (store.folder / "incoming" / ("f" * 32)).write_bytes(b"half")
    assert store.sweep(lambda prefix: {wanted} if wanted.startswith(prefix) else set(), FUTURE) == 2
    assert contents(tmp_path) == {wanted}
    assert orphan != wanted


def test_the_sweep_leaves_young_and_living_files_alone(store: ObjectStore, tmp_path: Path) -> None:
    with store.receive() as receiving:
        receiving.write(b"half")
        published = store.receive()
        published.claim()
        published.publish()
        # Another store object stands for another process: locks belong to open files.
        assert ObjectStore(store.folder).sweep(lambda prefix: set(), FUTURE) == 0
        assert contents(tmp_path) == {receiving.version, published.version}
        published.keep()
    assert store.sweep(lambda prefix: set(), time.time() - 3600) == 0
    assert contents(tmp_path) == {published.version}
    assert store.sweep(lambda prefix: set(), FUTURE) == 1


def test_the_sweep_asks_again_before_it_removes(store: ObjectStore, tmp_path: Path) -> None:
    version = kept(store)
    asked: List[str] = []

    def catalogue(prefix: str) -> Set[str]:
        # The row is committed between the two looks.
        asked.append(prefix)
        return {version} if len(asked) > 1 else set()

    assert store.sweep(catalogue, FUTURE) == 0
    assert asked == [version[:2], version]
    assert contents(tmp_path) == {version}


def test_removals_wait_while_a_backup_holds_the_store(store: ObjectStore, tmp_path: Path) -> None:
    first, second = kept(store), kept(store)
    with ObjectStore(store.folder).pinned():
        store.discard([first])
        assert store.sweep(all_named, FUTURE) == 0
        assert contents(tmp_path) == {first, second}
    store.discard([second])
    assert contents(tmp_path) == set()


def test_a_backup_waits_for_removals_under_way(store: ObjectStore) -> None:
    held = threading.Event()

    def pin() -> None:
        with ObjectStore(store.folder).pinned():
            held.set()

    with store._removing() as allowed:
        assert allowed
        waiting = threading.Thread(target=pin)
        waiting.start()
        assert not held.wait(0.2)
    assert held.wait(60)
    waiting.join(60)


# In a server


@pytest.fixture
def own(make_server: Callable[..., Any], tmp_path: Path) -> Any:
    return make_server(path=tmp_path / "data")


STEPS = ["receive", "write", "claim", "publish", "record", "commit"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("overwriting", [False, True], ids=["new", "overwriting"])
def test_c083_a_fault_at_any_step_changes_nothing(
    own: Any, monkeypatch: pytest.MonkeyPatch, step: str, overwriting: bool
) -> None:
    http = Http(own)
    bucket = new_bucket(http)
    if overwriting:
        stored(http, bucket, "a", b"before", bearer=http.admin)
    before = (listed(http, bucket), refreshed(http, bucket), contents(own.data))

    def fail(*arguments: Any, **options: Any) -> Any:
        raise OSError(errno.EIO, "injected")

    with monkeypatch.context() as patch:
        if step == "receive":
            patch.setattr(ObjectStore, "receive", fail)
        elif step in ("write", "claim", "publish"):
            patch.setattr(Incoming, step, fail)
        elif step == "record":
            patch.setattr(uploads, "record_upload", fail)
        else:
            from sqlalchemy.engine import RootTransaction

            patch.setattr(RootTransaction, "_do_commit", fail)
            patch.setattr(RootTransaction, "commit", fail)
        answer = upload(http, bucket, "a", b"after" * 100_000, bearer=http.admin)
    assert answer.status_code == 500
    assert "injected" not in answer.text
    assert (listed(http, bucket), refreshed(http, bucket)) == before[:2]
    if step == "commit":
        # Whether a failed commit happened cannot be known; the content waits for the sweep of the next start.
        assert contents(own.data) >= before[2]
        own.stop()
        own.start()
    assert contents(own.data) == before[2] == named(own.data)
    http = Http(own)
    assert upload(http, bucket, "a", b"after", bearer=http.admin).status_code == (200 if overwriting else 201)


def test_a_full_disk_is_507_and_changes_nothing(own: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    http = Http(own)
    bucket = new_bucket(http)

    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Incoming, "write", full)
        answer = upload(http, bucket, "a", b"x")
    assert answer.status_code == 507
    assert contents(own.data) == set()


def test_c083_overwritten_and_deleted_contents_are_removed(own: Any) -> None:
    http = Http(own)
    bucket = new_bucket(http)
    for content in (b"first", b"second"):
        stored(http, bucket, "a", content, bearer=http.admin)
    file_id = stored(http, bucket, "b", b"other", bearer=http.admin)["file_id"]
    assert len(contents(own.data)) == 2
    assert contents(own.data) == named(own.data)
    assert http.delete(f"/storage/files/{file_id}", bearer=http.admin).status_code == 204
    assert len(contents(own.data)) == 1
    assert http.delete(f"/storage/buckets/{bucket['id']}", bearer=http.admin).status_code == 204
    assert contents(own.data) == set()


def begin(server: Any, bucket: Dict[str, Any], filename: str, length: int, sent: bytes) -> socket.socket:
    """An upload that stops in the middle of its body."""
    where = urlsplit(server.url)
    link = socket.create_connection((where.hostname, where.port), timeout=30)
    head = (
        f"POST /storage/buckets/{bucket['id']}/files?filename={filename} HTTP/1.1\r\n"
        f"Host: {where.netloc}\r\nX-API-Key: {server.api_key}\r\nContent-Length: {length}\r\n"
        "Content-Type: text/plain\r\n\r\n"
    )
    link.sendall(head.encode() + sent)
    return link


def test_c081_a_client_that_goes_away_leaves_nothing(own: Any) -> None:
    http = Http(own)
    bucket = new_bucket(http)
    link = begin(own, bucket, "half", 10_000_000, b"x" * 3_000_000)
    try:
        until(lambda: bool(contents(own.data)))
        assert listed(http, bucket)["total"] == 0
        assert download(http, bucket, "half").status_code == 404
    finally:
        link.close()
    until(lambda: not contents(own.data))
    assert refreshed(http, bucket) == bucket


def test_c081_a_server_that_stops_leaves_no_half_upload(
    make_server: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "_GRACE_SECONDS", 1)  # the upload does not end: all of it is waited for
    own = make_server(path=tmp_path / "data")
    http = Http(own)
    bucket = new_bucket(http)
    link = begin(own, bucket, "half", 10_000_000, b"x" * 3_000_000)
    try:
        until(lambda: bool(contents(own.data)))
        data = own.data
        own.stop()
        assert contents(data) == set()
    finally:
        link.close()


def test_c086_a_bucket_made_private_while_the_body_comes_takes_nothing(own: Any) -> None:
    http = Http(own)
    bucket = new_bucket(http)
    _, bearer = http.new_user()
    stored(http, bucket, "a", b"first", bearer=bearer)
    link = begin(own, bucket, "other", 1000, b"x" * 500)
    try:
        assert (
            http.patch(f"/storage/buckets/{bucket['id']}", json={"public": False}, bearer=http.admin).status_code == 200
        )
        link.sendall(b"x" * 500)
        assert link.recv(65536).startswith(b"HTTP/1.1 401 ")
    finally:
        link.close()
    assert listed(http, bucket)["total"] == 1
    assert contents(own.data) == named(own.data)


# In a process of its own


@pytest.fixture
def child(tmp_path: Path) -> Iterator[ServeProcess]:
    process = ServeProcess(tmp_path / "data", api_key=API_KEY)
    with process:
        yield process


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_c083_a_killed_server_leaves_no_half_file_and_no_row(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with ServeProcess(data, api_key=API_KEY) as child:
        http = Http(child)
        bucket = new_bucket(http)
        stored(http, bucket, "whole", b"whole", bearer=http.admin)
        half = begin(child, bucket, "half", 10_000_000, b"x" * 3_000_000)
        over = begin(child, bucket, "whole", 10_000_000, b"y" * 3_000_000)
        try:
            until(lambda: len(contents(data)) >= 2)
            assert child.process is not None
            child.process.send_signal(signal.SIGKILL)
            child.process.wait(60)
        finally:
            half.close()
            over.close()
    assert len(contents(data)) >= 2
    with ServeProcess(data, api_key=API_KEY) as child:
        http = Http(child)
        assert [file["path"] for file in listed(http, bucket)["data"]] == ["/whole"]
        assert download(http, bucket, "whole").content == b"whole"
        assert download(http, bucket, "half").status_code == 404
        assert contents(data) == named(data)


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_c083_killed_again_and_again_while_it_is_written_to(tmp_path: Path) -> None:
    """Writers overwrite and delete without pause; the kill comes wherever it comes. What is listed must be whole."""
    data = tmp_path / "data"
    for _ in range(KILLS):
        with ServeProcess(data, api_key=API_KEY) as child:
            http = Http(child)
            bucket = new_bucket(http)
            _check_whole(http, data)
            done = threading.Event()
            rounds: List[int] = []

            def write(http: Http = http, bucket: Dict[str, Any] = bucket, done: threading.Event = done) -> None:
                bearer = http.admin
                number = 0
                while not done.is_set():
                    number += 1
                    try:
                        body = bytes([number % 256]) * (1000 + number)
                        reply = upload(http, bucket, f"f{number % 5}", body, bearer=bearer)
                        rounds.append(reply.status_code)
                        if number % 7 == 0:
                            http.delete(f"/storage/files/{reply.json()['file_id']}", bearer=bearer)
                    except requests.RequestException:
                        return

            writers = [threading.Thread(target=write) for _ in range(3)]
            for writer in writers:
                writer.start()
            until(lambda rounds=rounds: len(rounds) > 30)  # type: ignore[misc]
            assert child.process is not None
            child.process.send_signal(signal.SIGKILL)
            child.process.wait(60)
            done.set()
            for writer in writers:
                writer.join(60)
    with ServeProcess(data, api_key=API_KEY) as child:
        _check_whole(Http(child), data)
        assert contents(data) == named(data)


def _check_whole(http: Http, data: Path) -> None:
    files = http.get("/storage/files/", params={"page_size": 1000}, bearer=http.admin).json()["data"]
    for file in files:
        answer = http.get(f"/storage/files/download/{file['bucket_name']}{file['path']}")
        assert (answer.status_code, len(answer.content), len(set(answer.content))) == (200, file["size"], 1)
    for bucket in http.get("/storage/buckets/", params={"limit": 1000}, bearer=http.admin).json():
        own = [file["size"] for file in files if file["bucket_id"] == bucket["id"]]
        assert (bucket["file_count"], bucket["total_size"]) == (len(own), sum(own))


MIB = 1024 * 1024
BODY = soak.amount("SELFDB_BODY_MIB", here=256, long=2048) * MIB


def _peak(pid: int) -> int:
    """The largest resident size so far, bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from Linux's /proc")
def test_a_large_body_costs_little_memory(child: ServeProcess) -> None:
    http = Http(child)
    bucket = new_bucket(http)
    block = os.urandom(MIB)
    stored(http, bucket, "warm", block * 4)
    assert download(http, bucket, "warm").content == block * 4
    assert child.process is not None
    before = _peak(child.process.pid)
    assert stored(http, bucket, "big", (block for _ in range(BODY // MIB)))["size"] == BODY
    url = f"{http.url}/storage/files/download/{bucket['name']}/big"
    got = 0
    with requests.get(url, headers={"X-API-Key": API_KEY}, stream=True, timeout=60) as answer:
        for piece in answer.iter_content(MIB):
            assert piece == block
            got += len(piece)
    assert got == BODY
    assert _peak(child.process.pid) - before < 64 * MIB
