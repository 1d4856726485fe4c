"""Hosts that fork: gunicorn and Celery, with a client that was made, and used, before the fork."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest
import requests

from selfdb import NotFoundError
from tests import soak
from tests.core.kit import in_threads, wait_until
from tests.faults.programs import Program, environment, told
from tests.servers.process import free_port
from tests.servers.replies import ReplyServer, Request
from tests.support import ADMIN_EMAIL, ADMIN_PASSWORD, Http, unique

REQUESTS = soak.amount("SELFDB_PREFORK_REQUESTS", here=40, long=1000)
BOUND = 1500 if soak.LONG else 60  # seconds for them


@pytest.mark.timeout(600 if soak.LONG else 300)
@pytest.mark.parametrize("backend", ["sqlite"], scope="session")
def test_g09_gunicorn_with_a_client_from_before_the_fork(server: Any, http: Http) -> None:
    pytest.importorskip("gunicorn")
    table = http.post(
        "/tables/",
        bearer=http.admin,
        json={"name": unique("t"), "table_schema": {"word": {"type": "text"}}, "public": False},
    )
    assert table.status_code == 201, table.text
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "4", "--bind", f"127.0.0.1:{port}"]
    command += ["--graceful-timeout", "5", "--log-level", "warning", "tests.faults.prefork_app:app"]
    more = {"EMAIL": ADMIN_EMAIL, "PASSWORD": ADMIN_PASSWORD, "TABLE": table.json()["id"]}
    running = Program(command, environment(**told(server, **more)))
    url = f"http://127.0.0.1:{port}/echo"

    def answers() -> bool:
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(url, params={"word": unique()}, timeout=30).status_code == 200
        assert running.process.poll() is None, running.errors
        return False

    processes = set()
    lock = threading.Lock()

    def ask() -> List[str]:
        wrong = []
        for _ in range(REQUESTS // 4):
            word = unique()
            said = requests.get(url, params={"word": word}, timeout=60).json()
            if (said["word"], said["me"]) != (word, True):
                wrong.append(word)
            with lock:
                processes.add(said["process"])
        return wrong

    with contextlib.closing(running):
        try:
            wait_until(answers, BOUND)  # it imports, signs in and forks
            assert in_threads(4, ask, BOUND) == [[]] * 4
            before = set(processes)
            processes.clear()
            running.process.send_signal(signal.SIGHUP)  # new workers, from the same parent

            def renewed() -> bool:
                said = requests.get(url, params={"word": unique()}, timeout=30).json()
                return said["process"] not in before

            wait_until(renewed, BOUND)
            assert in_threads(4, ask, BOUND) == [[]] * 4
        finally:
            running.process.terminate()
        assert running.wait() == 0, running.errors
    assert "Traceback" not in running.errors
    assert "Warning" not in running.errors
    soak.figure("G09", f"gunicorn --preload, 4 workers and a reload: {REQUESTS * 2} requests, 0 wrong")


@pytest.fixture(scope="session")
def leaving() -> Iterator[List[Program]]:
    """Programs that were told to end and take their time for it, beside what is tested next; waited for at the end."""
    programs: List[Program] = []
    with contextlib.ExitStack() as stack:
        yield programs
        for each in programs:
            stack.callback(each.close)
        for each in programs:
            each.wait()


def test_g09_celery_with_a_client_from_before_the_fork(
    replies: Callable[..., ReplyServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leaving: List[Program]
) -> None:
    pytest.importorskip("celery")
    tried: Dict[str, int] = {}

    def script(request: Request) -> Any:
        name = request.path.rsplit("/", 1)[1]
        tried[name] = tried.get(name, 0) + 1
        if name == "status":
            return 200, {}, {"status": "ok", "initialized": True}
        if name == "missing":
            return 404, {"X-Request-ID": "the-request"}, {"detail": "no such table"}
        if name == "moody" and tried[name] < 3:
            return 500, {}, {"detail": "not now"}
        table = {"id": name, "name": name, "table_schema": {}, "public": True, "owner_id": "u", "row_count": 0}
        return 200, {}, {**table, "realtime_enabled": False, "created_at": NOW, "updated_at": NOW}

    server = replies(script)
    env = environment(SELFDB_URL=server.url, SELFDB_API_KEY="key", CELERY_FOLDER=str(tmp_path), C_FORCE_ROOT="1")
    for name in ("SELFDB_URL", "SELFDB_API_KEY", "CELERY_FOLDER"):
        monkeypatch.setenv(name, env[name])
    command = [sys.executable, "-m", "celery", "-A", "tests.faults.celery_app", "worker", "--pool", "prefork"]
    command += ["--concurrency", "2", "--loglevel", "ERROR", "--without-gossip", "--without-mingle"]
    worker = Program([*command, "--without-heartbeat"], env)
    leaving.append(worker)
    try:
        from tests.faults import celery_app

        try:
            results = [celery_app.read.delay(f"t{number}") for number in range(8)]
            refused, moody = celery_app.read.delay("missing"), celery_app.stubborn.delay("moody")
            assert [result.get(timeout=60) for result in results] == [f"t{number}" for number in range(8)]
            with pytest.raises(NotFoundError) as caught:
                refused.get(timeout=60)
            assert moody.get(timeout=60) == ["moody", 2]
        finally:
            celery_app.db.close()
    finally:
        worker.process.terminate()
    error = caught.value
    assert (error.status_code, error.method, error.path) == (404, "GET", "/tables/missing")
    assert error.request_id == "the-request"
    assert "no such table" in str(error)
    soak.figure("G09", "Celery pre-fork: 8 tasks, an exception with its fields, a task retried twice")


NOW = "2025-01-01T00:00:00Z"
