"""Where sessions are kept: files that are private, whole, locked across processes, and honest about what is wrong."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, Iterator, List, Optional

import pytest

from selfdb.core import stores
from selfdb.core.clock import Deadline
from selfdb.core.stores import FileStore, MemoryStore
from selfdb.core.tokens import TokenKeeper, Tokens, binding_of
from selfdb.exceptions import APITimeoutError, InvalidRequestError, SelfDBError
from tests.core.kit import BOUND, Background, in_forked_child, open_below
from tests.core.session_process import API_KEY
from tests.servers.replies import Reply, ReplyServer, Request

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "session"


# In memory


def test_memory_keeps_what_was_set_last() -> None:
    store = MemoryStore()
    assert store.get() is None
    store.remove()
    store.set("one")
    store.set("two")
    with store.lock(0):
        assert store.get() == "two"
    store.remove()
    assert store.get() is None


# One file


def test_a_file_keeps_what_was_set_last_for_the_next_one(path: Path) -> None:
    store = FileStore(path)
    assert store.get() is None
    store.remove()
    store.set("one")
    store.set("zw\u00f6lf \U0001f512")
    assert FileStore(str(path)).get() == "zw\u00f6lf \U0001f512"
    store.remove()
    assert store.get() is None
    assert FileStore(path).get() is None


def test_file_and_folder_are_for_their_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "made" / "session"
    mask = os.umask(0)
    try:
        store = FileStore(path)
        assert not path.parent.exists(), "nothing is made before it is needed"
        store.set("secret")
        with store.lock(1):
            pass
    finally:
        os.umask(mask)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {
        "session": 0o600,
        "session.lock": 0o600,
    }


def test_a_file_that_others_could_read_is_private_again_after_a_write(path: Path) -> None:
    path.write_text("old")
    path.chmod(0o644)
    FileStore(path).set("new")
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_relative_path_and_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    relative, home = FileStore("here"), FileStore("~/there")
    monkeypatch.chdir("/")
    relative.set("1")
    home.set("2")
    assert (tmp_path / "here").read_text() == "1"
    assert (tmp_path / "home" / "there").read_text() == "2"
    assert repr(relative) == f"FileStore({str(tmp_path / 'here')!r})"


@pytest.mark.parametrize("wrong", ["", "a\0b", 7, None, b"bytes", "~no-such-user-here/x"])
def test_what_is_no_path_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidRequestError, match="path of a session file"):
        FileStore(wrong)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="is a folder"):
        FileStore(tmp_path)


def test_a_reader_never_sees_a_part_of_a_text(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # no power is cut here, and 500 of them take seconds
    store = FileStore(path)
    texts = [f"{number:03}" * (1 + number * 7) for number in range(500)]
    store.set(texts[0])
    begun, done = threading.Event(), threading.Event()
    seen: List[Optional[str]] = []

    def read() -> None:
        while not done.is_set():
            seen.append(FileStore(path).get())
            begun.set()

    reader = Background(read)
    assert begun.wait(BOUND)
    for text in texts:
        store.set(text)
    done.set()
    assert reader.result() is None
    assert set(seen) <= set(texts)
    assert [file.name for file in path.parent.iterdir()] == ["session"], "no file is left beside it"


# What cannot be read or written


def test_a_file_that_is_no_text_is_no_session_and_is_replaced_by_a_login(path: Path) -> None:
    path.write_bytes(b"\x80\xff\x00secret")
    store = FileStore(path)
    assert TokenKeeper(store).current() is None
    TokenKeeper(store).set(Tokens("a", "r"))
    assert TokenKeeper(store).current() == Tokens("a", "r")


def test_a_file_below_a_file_can_be_neither_read_nor_written_nor_locked(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = FileStore(tmp_path / "file" / "session")
    for attempt, message in (
        (store.get, "cannot be read"),
        (lambda: store.set("x"), "cannot be written"),
        (store.remove, "cannot be deleted"),
        (lambda: store.lock(1).__enter__(), "lock .* cannot be taken"),
    ):
        with pytest.raises(SelfDBError, match=message) as caught:
            attempt()
        assert isinstance(caught.value.__cause__, OSError)
        assert not isinstance(caught.value, OSError)


def test_a_folder_that_came_into_the_way_later(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "session")
    (tmp_path / "session").mkdir()
    (tmp_path / "session" / "file").touch()
    with pytest.raises(SelfDBError, match="cannot be written"):
        store.set("x")
    with pytest.raises(SelfDBError, match="cannot be read"):
        store.get()
    with pytest.raises(SelfDBError, match="cannot be deleted"):
        store.remove()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["session"], "no unfinished file is left"


def test_what_cannot_be_encoded_leaves_the_old_text(path: Path) -> None:
    store = FileStore(path)
    store.set("old")
    with pytest.raises(SelfDBError, match="cannot be written"):
        store.set("\ud800")
    assert store.get() == "old"
    assert [file.name for file in path.parent.iterdir()] == ["session"]


@pytest.mark.parametrize("text", ["", "garbage", "[1]", '{"version": 3}', '{"binding": "b", "access_token": 1}'])
def test_what_somebody_else_wrote_is_no_session_and_is_replaced_by_a_login(path: Path, text: str) -> None:
    path.write_text(text)
    keeper = TokenKeeper(FileStore(path), "b")
    assert keeper.current() is None
    assert path.read_text() == text, "looking at it changes nothing"
    keeper.set(Tokens("a", "r"))
    assert TokenKeeper(FileStore(path), "b").current() == Tokens("a", "r")


def test_a_session_of_another_server_or_key_is_none(path: Path) -> None:
    here = binding_of("https://here.example", "key-one")
    TokenKeeper(FileStore(path), here).set(Tokens("a", "r"))
    assert TokenKeeper(FileStore(path), here).current() == Tokens("a", "r")
    for origin, key in (("https://there.example", "key-one"), ("https://here.example", "key-two")):
        assert TokenKeeper(FileStore(path), binding_of(origin, key)).current() is None
    written = path.read_text()
    assert "key-one" not in written
    assert "here.example" not in written


# The lock


def test_two_stores_of_one_file_hold_each_other_off(path: Path) -> None:
    with FileStore(path).lock(0), pytest.raises(APITimeoutError, match="holds the session lock"):
        FileStore(path).lock(0).__enter__()
    with FileStore(path).lock(0), FileStore(path.with_name("another")).lock(0):
        pass


def test_who_waits_for_the_lock_gets_it_when_it_is_let_go(path: Path) -> None:
    tried = threading.Event()

    class Trying(FileStore):
        def _locked(self, timeout: Optional[float]) -> int:
            tried.set()
            return super()._locked(timeout)

    def wait() -> str:
        with Trying(path).lock(None):
            return "got it"

    with FileStore(path).lock(1):
        waiting = Background(wait)
        assert tried.wait(BOUND)
    assert waiting.result() == "got it"


def test_the_lock_is_let_go_after_an_error_in_it(path: Path) -> None:
    store = FileStore(path)
    with pytest.raises(ZeroDivisionError), store.lock(0):
        raise ZeroDivisionError
    with pytest.raises(PermissionError), store.lock(0):
        raise PermissionError("the error of the block stays what it is")
    with store.lock(0):
        pass


def test_an_interruption_while_waiting_leaves_no_open_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stores, "time", SimpleNamespace(monotonic=time.monotonic, sleep=interrupted))
    with FileStore(path).lock(0):
        held = open_below(path.parent)
        assert held == 1
        with pytest.raises(KeyboardInterrupt):
            FileStore(path).lock(None).__enter__()
        assert open_below(path.parent) == held


def test_a_file_system_without_locks_is_a_typed_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(handle: int, operation: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(SelfDBError, match=r"cannot be taken: .*No locks available"):
        FileStore(path).lock(1).__enter__()


def test_a_renewal_that_cannot_lock_keeps_the_session(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "folder" / "session")
    keeper = TokenKeeper(store)
    keeper.set(Tokens("a", "r"))
    (tmp_path / "folder" / "session").unlink()
    (tmp_path / "folder").rmdir()
    (tmp_path / "folder").touch()
    with pytest.raises(SelfDBError, match="cannot be taken"):
        keeper.renew("a", lambda refresh, deadline: Tokens("b"), Deadline(1))
    assert keeper.current() == Tokens("a", "r")


# Several processes


@contextlib.contextmanager
def program(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`session_process` as a child; killed and waited for at the end, if it is still there."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.core.session_process", *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(BOUND)
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_another_process_holds_us_off_until_it_is_killed(path: Path) -> None:
    with program("hold", str(path)) as holder:
        assert line_of(holder) == "held"
        with pytest.raises(APITimeoutError):
            FileStore(path).lock(0.05).__enter__()
        holder.kill()
        with FileStore(path).lock(BOUND):
            pass


def test_a_forked_child_lets_go_of_its_parents_lock_and_leaves_it_to_him(path: Path) -> None:
    store = FileStore(path)
    with contextlib.ExitStack() as inside:
        inside.enter_context(store.lock(0))

        def in_child() -> bytes:
            inside.close()  # as if the thread that holds it had forked
            with pytest.raises(APITimeoutError):
                store.lock(0).__enter__()
            return str(len(store._handles)).encode()

        assert in_forked_child(in_child) == b"0"
        with pytest.raises(APITimeoutError):
            FileStore(path).lock(0).__enter__()
    with store.lock(0):
        store._renew_in_child()
        with FileStore(path).lock(0):
            pass


class Server:
    """Knows one session: renews it once for each refresh token, and lets ``count`` calls meet their 401 together."""

    def __init__(self, count: int) -> None:
        self.pairs: Dict[str, Dict[str, Any]] = {
            "refresh-0": {"access_token": "access-1", "refresh_token": "refresh-1", "token_type": "bearer"}
        }
        self.stale = threading.Barrier(count)
        self.lock = threading.Lock()

    def __call__(self, request: Request) -> Reply:
        if request.line == "POST /users/token/refresh":
            with self.lock:
                pair = self.pairs.pop(request.json["refresh_token"], None)
            return (401, {}, {"detail": "Invalid or expired refresh token"}) if pair is None else (200, {}, pair)
        assert request.line == "GET /users/me"
        if request.header("Authorization") == "Bearer access-1":
            return 200, {}, {"id": "1", "email": "ada@example.com", "role": "USER"}
        self.stale.wait(BOUND)
        return 401, {}, {"detail": "Could not validate credentials"}


def test_four_processes_with_one_file_and_an_expired_token_make_one_refresh(
    path: Path, replies: Callable[..., ReplyServer]
) -> None:
    server = replies(Server(4))
    session = {
        "binding": binding_of(f"http://127.0.0.1:{server.port}", API_KEY),
        "access_token": "access-0",
        "refresh_token": "refresh-0",
    }
    FileStore(path).set(json.dumps(session))
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(program("call", str(path), server.url)) for _ in range(4)]
        assert [line_of(child) for child in children] == ["ready"] * 4
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        assert [line_of(child) for child in children] == ["ada@example.com"] * 4
    assert server.lines.count("POST /users/token/refresh") == 1
    assert server.lines.count("GET /users/me") == 8
    assert json.loads(FileStore(path).get() or "")["refresh_token"] == "refresh-1"
