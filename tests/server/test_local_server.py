"""``LocalServer``: a server in this process, and what it leaves behind (nothing)."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Dict

import pytest
import requests

from selfdb.server import FolderInUse, LocalServer
from tests.support import Http

CHEAP: Dict[str, Any] = {"hash_time_cost": 1, "hash_memory_kib": 8}


def test_it_answers_when_start_returns_and_is_gone_after_the_block() -> None:
    with LocalServer(**CHEAP) as server:
        data = server.data
        http = Http(server)
        assert http.get("/system/status").json()["initialized"] is False
        assert server.url.startswith("http://127.0.0.1:")
        assert data.is_dir()
        assert server.api_key not in repr(server)
        url = server.url
    assert not data.exists(), "a temporary folder goes with it"
    with pytest.raises(requests.ConnectionError):
        requests.get(url + "/system/status", timeout=10)
    with pytest.raises(RuntimeError, match="does not run"):
        _ = server.url


def test_it_can_be_started_again_and_keeps_a_given_folder(tmp_path: Path) -> None:
    server = LocalServer(tmp_path / "data", **CHEAP)
    first = server.start()
    assert first is server.start() is server
    key = server.api_key
    user, _ = Http(server).new_user()
    server.stop()
    server.stop()
    server.start()
    try:
        http = Http(server)
        assert server.api_key == key
        assert http.get(f"/users/{user['id']}", bearer=http.admin).json() == user
    finally:
        server.stop()


def test_the_environment_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELFDB_API_KEY", "key-of-the-environment")
    monkeypatch.setenv("SELFDB_ADMIN_EMAIL", "other@example.com")
    with LocalServer(**CHEAP) as server:
        assert server.api_key != "key-of-the-environment"
        assert Http(server).login().access


def test_two_in_one_process_do_not_meet() -> None:
    with LocalServer(**CHEAP) as one, LocalServer(api_key="another", **CHEAP) as two:
        Http(one).new_user()
        http = Http(two)
        assert http.get("/users/count", bearer=http.admin).json() == {"count": 1}
        assert Http(one).get("/system/status", key="another").status_code == 401


def test_a_folder_in_use_is_refused_and_named(tmp_path: Path) -> None:
    with LocalServer(tmp_path, **CHEAP) as server:
        with pytest.raises(FolderInUse) as refused:
            LocalServer(tmp_path, **CHEAP).start()
        assert refused.value.url == server.url
        assert Http(server).get("/system/status").status_code == 200


@pytest.mark.parametrize("settings", [{"host": "0.0.0.0"}, {"registration": "closed"}, {"api_key": ""}])
def test_a_failed_start_leaves_no_thread_and_no_lock(tmp_path: Path, settings: Dict[str, Any]) -> None:
    before = set(threading.enumerate())
    with pytest.raises(ValueError):
        LocalServer(tmp_path, **{**CHEAP, **settings}).start()
    assert set(threading.enumerate()) <= before
    with LocalServer(tmp_path, **CHEAP) as server:
        assert Http(server).get("/system/status").status_code == 200


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(TypeError):
        LocalServer(colour="red").start()


def test_requests_under_way_are_answered_before_it_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    from selfdb.server import users

    inside, leave = threading.Event(), threading.Event()
    plain = users.count

    def slow(*arguments: Any) -> int:
        inside.set()
        assert leave.wait(30)
        return plain(*arguments)

    monkeypatch.setattr(users, "count", slow)
    server = LocalServer(**CHEAP).start()
    http = Http(server)
    bearer = http.admin
    answers = []
    asking = threading.Thread(target=lambda: answers.append(http.get("/users/count", bearer=bearer)))
    asking.start()
    assert inside.wait(30)
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    leave.set()
    stopping.join()
    asking.join()
    assert answers[0].json() == {"count": 1}
