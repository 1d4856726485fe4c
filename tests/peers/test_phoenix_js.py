"""The npm package ``phoenix``, the official client of Phoenix Channels, drives the embedded server from node."""

from __future__ import annotations

import fcntl
import json
import os
import queue
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

import pytest

from tests.conftest import API_KEY, unavailable
from tests.realtime.raw import Table
from tests.servers.process import free_port
from tests.support import Http

CALLS = Path(__file__).with_name("phoenix_js_calls.mjs")
SECONDS = 90.0
BOTH = ("2.0.0", "1.0.0")


@pytest.fixture(scope="session")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the newest release of that client; filled once for all processes of this run."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        unavailable("node and npm, for the official client of Phoenix Channels")
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / "phoenix-js"
    with (shared / "phoenix-js.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / "complete").exists():
            return folder
        folder.mkdir(exist_ok=True)
        (folder / "package.json").write_text('{"private": true}')
        done = subprocess.run(
            [str(npm), "install", "--no-audit", "--no-fund", "phoenix@1", "ws@8"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )
        if done.returncode != 0:
            unavailable(f"the npm package phoenix could not be installed: {done.stderr[-500:]}")
        (folder / "complete").touch()
    return folder


class Peer:
    """That client in a process of its own: told what to do, asked what it saw. ``stop()`` ends the process."""

    def __init__(self, modules: Path) -> None:
        self.process = subprocess.Popen(
            [str(shutil.which("node")), str(CALLS)],
            env={**os.environ, "PEER_MODULES": str(modules)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.seen: List[Dict[str, Any]] = []
        self._passed = 0
        self._reports: queue.Queue[Optional[Dict[str, Any]]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                self._reports.put(json.loads(line))
            except ValueError:
                self._reports.put({"what": "trouble", "text": line})
        self._reports.put(None)

    def do(self, what: str, **arguments: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": what, **arguments}) + "\n")
        self.process.stdin.flush()

    def open(self, server: Any, token: str, vsn: str, *, heartbeat: int = 30_000) -> None:
        params = {"X-API-Key": server.api_key, "token": token}
        url = server.url.replace("http", "ws", 1) + "/realtime/socket"
        self.do("open", url=url, params=params, vsn=vsn, heartbeat=heartbeat)
        self.next("open")

    def channel(self, name: str, topic: str) -> None:
        self.do("channel", **{"as": name, "topic": topic})

    def ask(self, what: str, name: str, **arguments: Any) -> Dict[str, Any]:
        """Do it and return the answer's status and response."""
        self.do(what, **{"as": name, **arguments})
        answer = self.next(what, **{"as": name})
        return {"status": answer["status"], "response": answer.get("response")}

    def look(self, name: str) -> List[str]:
        self.do("look", **{"as": name})
        report = self.next("look")
        return [report["socket"], report["channel"]]

    def next(self, what: str, **fields: Any) -> Dict[str, Any]:
        """The next report of that kind and with these fields; earlier ones are passed over, and stay in ``seen``."""
        wanted = {"what": what, **fields}
        end = time.monotonic() + SECONDS
        while True:
            while self._passed < len(self.seen):
                report = self.seen[self._passed]
                self._passed += 1
                if wanted.items() <= report.items():
                    return report
            try:
                found = self._reports.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {wanted}; seen: {self.seen}") from None
            assert found is not None, f"node ended; seen: {self.seen}"
            assert found["what"] != "trouble", found["text"]
            self.seen.append(found)

    def those(self, what: str, **fields: Any) -> List[Dict[str, Any]]:
        """All reports of that kind and with these fields so far."""
        wanted = {"what": what, **fields}
        return [report for report in self.seen if wanted.items() <= report.items()]

    def stop(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self._reader.join(10)
        self.process.stdout.close()


@pytest.fixture
def peer(modules: Path) -> Iterator[Peer]:
    started = Peer(modules)
    yield started
    started.stop()


def joined(peer: Peer, name: str, topic: str) -> None:
    peer.channel(name, topic)
    assert peer.ask("join", name) == {"status": "ok", "response": {"accepts": ["access_token"]}}


def received(peer: Peer, name: str) -> List[Any]:
    """The next event of that channel: its name and payload."""
    report = peer.next("event", **{"as": name})
    return [report["event"], report["payload"]]


@pytest.mark.parametrize("vsn", BOTH)
def test_it_gets_each_change_until_it_leaves(peer: Peer, server: Any, http: Http, vsn: str) -> None:
    table = Table(http, http.admin)
    _, token = http.new_user()
    peer.open(server, token, vsn)
    joined(peer, "a", table.topic)
    row = table.insert(1, 'ü "\u2028')
    changed = table.update(row["id"], n=2)
    table.delete(row["id"])
    for event in (table.event("INSERT", row, None), table.event("UPDATE", changed, row)):
        assert received(peer, "a") == event[3:]
    assert received(peer, "a") == table.event("DELETE", None, changed)[3:]
    assert {report["shape"] for report in peer.those("got")} == {"[" if vsn == "2.0.0" else "{"}
    assert peer.look("a") == ["open", "joined"]
    assert peer.ask("leave", "a") == {"status": "ok", "response": {}}
    peer.next("got", event="phx_close")
    table.insert(3)
    joined(peer, "b", table.topic)
    last = table.insert(4)
    assert received(peer, "b") == table.event("INSERT", last, None)[3:]
    assert len(peer.those("event", **{"as": "a"})) == 3
    peer.do("disconnect")
    peer.next("disconnected")


@pytest.mark.parametrize("vsn", BOTH)
def test_joins_are_refused_with_a_reason(peer: Peer, server: Any, http: Http, vsn: str) -> None:
    private = Table(http, http.admin, public=False)
    _, token = http.new_user()
    peer.open(server, token, vsn)
    refusals = {private.topic: "unauthorized", "table:absent": "table not found", "room:lobby": "unmatched topic"}
    for topic, reason in refusals.items():
        peer.channel(topic, topic)
        assert peer.ask("join", topic) == {"status": "error", "response": {"reason": reason}}
    private.change(public=True)
    # It asks again by itself, and is let in as soon as it may.
    assert peer.next("join", **{"as": private.topic, "status": "ok"})
    row = private.insert(1)
    assert received(peer, private.topic) == private.event("INSERT", row, None)[3:]
    private.change(public=False)
    peer.next("channel closed", **{"as": private.topic})


@pytest.mark.parametrize("vsn", BOTH)
def test_a_second_channel_of_a_topic_takes_over_from_the_first(peer: Peer, server: Any, http: Http, vsn: str) -> None:
    table = Table(http, http.admin)
    peer.open(server, http.admin, vsn)
    joined(peer, "a", table.topic)
    joined(peer, "b", table.topic)
    row = table.insert(1)
    assert received(peer, "b") == table.event("INSERT", row, None)[3:]
    assert peer.look("b") == ["open", "joined"]
    assert len(peer.those("event")) == 1
    assert len(peer.those("channel closed", **{"as": "a"})) == 1
    assert not peer.those("channel closed", **{"as": "b"})
    assert not peer.those("channel failed")


@pytest.mark.parametrize("vsn", BOTH)
def test_heartbeats_are_answered(peer: Peer, server: Any, http: Http, vsn: str) -> None:
    peer.open(server, http.admin, vsn, heartbeat=100)
    for _ in range(3):
        beat = peer.next("sent", topic="phoenix", event="heartbeat")
        answer = peer.next("got", topic="phoenix", event="phx_reply")
        assert answer["ref"] == beat["ref"]
        assert answer["payload"] == {"status": "ok", "response": {}}
    assert not peer.those("closed")


@pytest.mark.parametrize("vsn", BOTH)
def test_what_a_client_pushes_is_told_to_nobody(peer: Peer, modules: Path, server: Any, http: Http, vsn: str) -> None:
    table = Table(http, http.admin)
    peer.open(server, http.admin, vsn)
    joined(peer, "a", table.topic)
    listener = Peer(modules)
    try:
        listener.open(server, http.admin, vsn)
        joined(listener, "b", table.topic)
        answer = peer.ask("push", "a", event="INSERT", payload={"new": {"n": 666}})
        assert answer == {"status": "error", "response": {"reason": "unknown event"}}
        row = table.insert(1)
        for each, name in ((peer, "a"), (listener, "b")):
            assert received(each, name) == table.event("INSERT", row, None)[3:]
            assert len(each.those("event")) == 1
    finally:
        listener.stop()


@pytest.mark.parametrize("vsn", BOTH)
def test_it_joins_again_after_the_server_was_restarted(
    peer: Peer, make_server: Callable[..., Any], tmp_path: Path, vsn: str
) -> None:
    port = free_port()
    server = make_server(path=tmp_path / "data", port=port, api_key=API_KEY)
    http = Http(server)
    table = Table(http, http.admin)
    peer.open(server, http.admin, vsn)
    joined(peer, "a", table.topic)
    table.insert(1)
    assert received(peer, "a")[1]["new"]["n"] == 1
    server.stop()
    assert peer.next("closed")["code"] == 1012
    server.start()
    peer.next("open")
    # The answer to this one is reported under the join that was asked for at first.
    assert peer.next("join", **{"as": "a"})["status"] == "ok"
    table.insert(2)
    assert received(peer, "a")[1]["new"]["n"] == 2
    assert [report["payload"]["new"]["n"] for report in peer.those("event")] == [1, 2]
    refs = [report["ref"] for report in peer.those("sent", event="phx_join")]
    assert len(refs) == len(set(refs)) == 2
