"""How an example is run: as a child process, with its settings in the environment, or as a module of this one."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import IO, Any, Callable, Dict, Iterator, List

import pytest

from selfdb import SelfDB
from tests.servers import postgrest
from tests.servers.postgres import PostgresCluster
from tests.servers.postgrest import PostgRest
from tests.servers.process import free_port
from tests.support import ADMIN_EMAIL, ADMIN_PASSWORD

ROOT = Path(__file__).parents[2]
TABLES = Path(__file__).with_name("rest.sql")
SECONDS = 120.0
LINE_SECONDS = 100.0


class Reader:
    """Somebody who has a server, an account on it and a home folder, and runs examples there.

    :ivar variables: the environment that the examples see.
    """

    def __init__(self, server: Any, home: Path) -> None:
        self.server = server
        self.home = home
        self.variables: Dict[str, str] = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SELFDB_", "AERODB_"))},
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "error",
            "HOME": str(home),
            "SELFDB_URL": server.url,
            "SELFDB_API_KEY": server.api_key,
            "SELFDB_EMAIL": ADMIN_EMAIL,
            "SELFDB_PASSWORD": ADMIN_PASSWORD,
        }

    def client(self) -> SelfDB:
        """A client of his, not signed in; the caller closes it."""
        return SelfDB(self.server.url, self.server.api_key)

    def start(self, example: str, *arguments: object, **changes: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "examples" / example), *map(str, arguments)],
            env={**self.variables, **changes},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, example: str, *arguments: object, **changes: str) -> subprocess.CompletedProcess[str]:
        with self.start(example, *arguments, **changes) as process:
            try:
                output, errors = process.communicate(timeout=SECONDS)
            finally:
                process.kill()  # harmless once it has ended
        done = subprocess.CompletedProcess(process.args, process.returncode, output, errors)
        assert "Traceback" not in done.stderr, done.stderr
        return done


class Output:
    """What a process writes, line by line as it comes."""

    def __init__(self, stream: IO[str]) -> None:
        self.lines: List[str] = []
        self._stream = stream
        self._came = threading.Condition()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        for line in self._stream:
            with self._came:
                self.lines.append(line.rstrip("\n"))
                self._came.notify_all()

    def wait_for(self, line: str, *, after: int = 0) -> int:
        """How many lines there were when ``line`` had come, at or behind place ``after``."""
        with self._came:
            assert self._came.wait_for(lambda: line in self.lines[after:], LINE_SECONDS), f"no {line!r} in {self.lines}"
            return len(self.lines)

    def join(self) -> None:
        self._thread.join(LINE_SECONDS)


@pytest.fixture(scope="session")
def small_server(_shared_servers: Dict[str, Any]) -> Any:
    """The shared server on SQLite: which database stands behind it is nothing to an example."""
    if "sqlite" not in _shared_servers:
        _shared_servers["sqlite"] = _shared_servers["start"](backend="sqlite")
    return _shared_servers["sqlite"]


@pytest.fixture
def reader(small_server: Any, tmp_path: Path) -> Reader:
    home = tmp_path / "home"
    home.mkdir()
    return Reader(small_server, home)


@pytest.fixture(scope="session")
def _rest_database(postgres: PostgresCluster) -> Iterator[str]:
    with postgrest.database(postgres, TABLES.read_text(encoding="utf-8")) as url:
        yield url


@pytest.fixture(scope="session")
def _rest(postgrest_program: Path, _rest_database: str) -> Iterator[PostgRest]:
    with PostgRest(postgrest_program, _rest_database, role="web_reader") as server:
        yield server


@pytest.fixture
def rest(_rest: PostgRest) -> Iterator[PostgRest]:
    """PostgREST with the tables of ``rest.sql``, and the requests that it gets."""
    _rest.clear()
    yield _rest
    _rest.instead = postgrest.nothing


@pytest.fixture
def sql(_rest_database: str) -> Iterator[Callable[..., Any]]:
    """``sql(statement, *values)``: the rows that the statement gives in the database behind `rest`."""
    import psycopg

    with psycopg.connect(_rest_database, autocommit=True) as connection:

        def execute(statement: str, *values: Any) -> Any:
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else None

        yield execute


@pytest.fixture
def rest_reader(rest: PostgRest, tmp_path: Path) -> Reader:
    """A reader whose server is `rest`."""
    home = tmp_path / "home"
    home.mkdir()
    reader = Reader(SimpleNamespace(url="", api_key=""), home)
    reader.variables.update(AERODB_URL=rest.url, AERODB_KEY="key-of-the-reader")
    return reader


@pytest.fixture
def db(reader: Reader) -> Iterator[SelfDB]:
    """A signed-in client of the reader's server, to look at what an example did there."""
    with reader.client() as client:
        client.auth.login(ADMIN_EMAIL, ADMIN_PASSWORD)
        yield client


@pytest.fixture
def nowhere() -> str:
    """An address at which nobody listens."""
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture
def load() -> Callable[[str], ModuleType]:
    """``load("cron_job.py")``: the example as a module, fresh each time."""

    def load_module(example: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(Path(example).stem, ROOT / "examples" / example)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load_module
