"""What every test of the store may use: a file of its own, databases on it, and a second process at the same file."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional

import pytest

from . import memory

SCHEMA = {"users": "++id, &email, name, age, *tags, [last+first], address.city"}

_PEER = r"""
import pathlib, pickle, sys, traceback
names = {"path": pathlib.Path(sys.argv[1])}
say, hear = sys.stdout.buffer, sys.stdin.buffer
sys.stdout = sys.stderr
while True:
    try:
        code, given = pickle.load(hear)
    except EOFError:
        break
    names.update(given)
    names["result"] = None
    try:
        exec(compile(code, "<peer>", "exec"), names)
        answer = (names["result"], None, "")
    except BaseException as error:
        answer = (None, error, traceback.format_exc())
    try:
        data = pickle.dumps(answer)
    except Exception:
        data = pickle.dumps((None, RuntimeError(answer[2] or repr(answer[0])), answer[2]))
    say.write(data)
    say.flush()
"""


class Peer:
    """Another process, which runs code when it is told to. Its names stay from one piece to the next.

    ``path`` is there from the start. What the code leaves as ``result`` is returned; what it raises is raised here.
    """

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PEER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=str(Path(__file__).parents[2]),
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def run(self, code: str, **names: Any) -> Any:
        """Run it and wait for its end."""
        self.start(code, **names)
        return self.finish()

    def start(self, code: str, **names: Any) -> None:
        """Let it run while this process goes on; :meth:`finish` has to follow."""
        assert self.process.stdin is not None
        self.process.stdin.write(pickle.dumps((code, names)))
        self.process.stdin.flush()

    def finish(self) -> Any:
        assert self.process.stdout is not None
        try:
            result, error, told = pickle.load(self.process.stdout)
        except EOFError:
            raise RuntimeError(f"the peer has ended with {self.process.wait(10)}") from None
        if error is not None:
            raise error from RuntimeError(told)
        return result

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> None:
        """Let it end, and see that it does."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass  # it was killed
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process.stdout.close()


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """In memory, where that can be: no test cuts the power, so none of them needs what a disk keeps."""
    if memory.FOLDER is None:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="selfdb-test-", dir=memory.FOLDER) as folder:
        yield Path(folder)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where this test's file is, or will be."""
    return tmp_path / "test.indexie.db"


@pytest.fixture
def make_db(path: Path) -> Iterator[Callable[..., Any]]:
    """``make_db(stores=SCHEMA, *, file=path, **options)``: an `Indexie` of version 1, not open yet; closed at the end.

    ``stores=None`` declares nothing.
    """
    from selfdb.indexie import Indexie

    made: List[Any] = []

    def make(stores: Optional[Any] = SCHEMA, *, file: Optional[Path] = None, **options: Any) -> Any:
        database = Indexie(path if file is None else file, **options)
        made.append(database)
        if stores is not None:
            database.version(1).stores(stores)
        return database

    yield make
    for database in reversed(made):
        database.close()


@pytest.fixture
def db(make_db: Callable[..., Any]) -> Any:
    """An open database with the store ``users`` of the contract's cases."""
    return make_db().open()


@pytest.fixture
def peer(path: Path) -> Iterator[Callable[[], Peer]]:
    """``peer()``: another process, told where the file is; as many as are wanted, all ended at the end."""
    peers: List[Peer] = []

    def start() -> Peer:
        peers.append(Peer(path))
        return peers[-1]

    yield start
    for each in peers:
        each.stop()
