"""Sessions beyond the process: a file that the next client goes on from."""

from __future__ import annotations

import stat
import threading
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import pytest

from selfdb import AuthenticationError, FileStore, SelfDB
from tests.client.conftest import ACCESS, pair
from tests.support import Http

Connect = Callable[..., SelfDB]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "private" / "session"


def test_the_next_client_is_signed_in(server: Any, http: Http, connect: Connect, path: Path) -> None:
    user, _ = http.new_user()
    first = connect(server, session_store=FileStore(path))
    first.auth.login(user["email"], "password123")
    first.close()
    second = connect(server, session_store=FileStore(path))
    assert second.auth.me().id == user["id"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    text = path.read_text()
    assert server.api_key not in text
    assert "password123" not in text
    second.auth.logout()
    assert not path.exists()
    with pytest.raises(AuthenticationError):
        connect(server, session_store=FileStore(path)).auth.me()


def test_a_session_is_renewed_by_whoever_comes_next(
    make_server: Callable[..., Any], clock: Any, connect: Connect, path: Path
) -> None:
    server = make_server(clock=clock, access_token_seconds=60)
    connect(server, session_store=FileStore(path)).auth.login("admin@example.com", "password")
    clock.advance(61)
    second = connect(server, session_store=FileStore(path))
    assert second.auth.me().email == "admin@example.com"
    assert second.access_token is not None
    assert second.access_token in path.read_text()


def test_another_server_or_key_does_not_get_the_session(
    replies: Callable[..., Any], connect: Connect, path: Path
) -> None:
    one, other = replies([pair()]), replies([])
    store = FileStore(path)
    connect(one, session_store=store).auth.login("a@b.c", "password")
    assert connect(one, session_store=FileStore(path)).access_token == ACCESS
    assert connect(other, session_store=FileStore(path)).access_token is None
    with SelfDB(one.url, "another-key", session_store=FileStore(path)) as db:
        assert db.access_token is None


def test_two_clients_on_one_file_make_one_refresh(replies: Callable[..., Any], connect: Connect, path: Path) -> None:
    """As two cron jobs that start in the same minute with a session that has expired."""
    refused = threading.Barrier(2)

    def script(request: Any) -> Tuple[int, Dict[str, str], Any]:
        if request.path == "/users/token/refresh":
            return pair("second-access", "second-refresh")
        if request.header("Authorization") == "Bearer first-access":
            refused.wait(30)
            return 401, {}, {"detail": "Could not validate credentials"}
        return 200, {}, {"count": 7}

    server = replies(script)
    seed = connect(server, session_store=FileStore(path))
    seed.access_token, seed.refresh_token = "first-access", "first-refresh"
    counts: List[int] = []
    clients = [connect(server, session_store=FileStore(path)) for _ in range(2)]
    threads = [threading.Thread(target=lambda db=db: counts.append(db.tables.count())) for db in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert counts == [7, 7]
    assert server.lines.count("POST /users/token/refresh") == 1
    assert [db.refresh_token for db in clients] == ["second-refresh"] * 2


def test_a_user_of_ones_own_stays_out_of_the_file(replies: Callable[..., Any], connect: Connect, path: Path) -> None:
    server = replies([pair("his-second", "his-refresh")])
    db = connect(server, session_store=FileStore(path))
    db.access_token = ACCESS
    before = path.read_text()
    guest = db.as_user("his-first", "his-refresh")
    guest.auth.refresh()
    assert guest.access_token == "his-second"
    assert path.read_text() == before


def test_a_file_that_is_no_session(replies: Callable[..., Any], connect: Connect, path: Path) -> None:
    path.parent.mkdir()
    for content in ("", "{", "[]", '{"binding": 5}', "null"):
        path.write_text(content)
        assert connect(replies([]), session_store=FileStore(path)).access_token is None
