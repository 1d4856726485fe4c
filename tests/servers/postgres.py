"""A PostgreSQL cluster of our own for one pytest process: made, started, stopped and removed here.

It listens on 127.0.0.1 and a free port, runs as an unprivileged account when we are root, and never syncs
to disk. Databases are cheap; each server under test gets a fresh one.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

START_SECONDS = 150.0
STOP_SECONDS = 20.0
PREFIX = "selfdb-pg-"


class PostgresUnavailable(Exception):
    """No PostgreSQL programs (or no account to run them as) on this machine."""


def find_program(name: str) -> str:
    """Where ``name`` (``postgres``, ``initdb``) is: on PATH, in Debian's folders, or by pg_config.

    The folder matters as well: both programs must come from one installation, so ``postgres`` and
    ``initdb`` are only ever taken from a folder that holds both.
    """
    candidates: List[Path] = []
    on_path = shutil.which("initdb")
    if on_path:
        candidates.append(Path(os.path.realpath(on_path)).parent)
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    candidates.extend(sorted(debian, key=lambda folder: _version_key(folder.parent.name), reverse=True))
    pg_config = shutil.which("pg_config")
    if pg_config:
        shown = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        if shown.returncode == 0 and shown.stdout.strip():
            candidates.append(Path(shown.stdout.strip()))
    for folder in candidates:
        if all(os.access(folder / program, os.X_OK) for program in ("initdb", "postgres")):
            return str(folder / name)
    raise PostgresUnavailable(
        "the programs initdb and postgres were not found on PATH, under /usr/lib/postgresql or by pg_config"
    )


def _version_key(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def account() -> Optional[pwd.struct_passwd]:
    """The account to run as: nobody but ourselves, unless we are root, which PostgreSQL refuses."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise PostgresUnavailable("we are root and there is no account `postgres` or `nobody` to run PostgreSQL as")


def _die_with_parent() -> None:
    """In the child: ask the kernel for a fast shutdown (SIGINT) should the test process be killed."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGINT)


def sweep(folder: Path, prefix: str = PREFIX) -> None:
    """Remove what test processes left behind that were killed; the servers that they started died with them."""
    for left in folder.glob(f"{prefix}*-*"):
        owner = left.name[len(prefix) :].partition("-")[0]
        if owner.isdigit() and not _alive(int(owner)):
            shutil.rmtree(left, ignore_errors=True)  # it may be another user's


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # someone else's, so it lives
        return True
    return True


class PostgresCluster:
    """One running cluster; ``create_database()`` gives URLs, ``stop()`` ends and removes everything."""

    def __init__(self) -> None:
        self.port = 0
        self._folder: Optional[Path] = None
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._numbers = itertools.count(1)
        self._account: Optional[pwd.struct_passwd] = None

    def start(self) -> None:
        """Make and start the cluster; raises `PostgresUnavailable` when the machine cannot have one."""
        initdb, postgres = find_program("initdb"), find_program("postgres")
        self._account = account()
        # Not under pytest's own folder: that is 0700 and ours, and a socket's path is limited to 107 bytes.
        sweep(Path(tempfile.gettempdir()))
        self._folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        if self._account is not None:
            os.chown(self._folder, self._account.pw_uid, self._account.pw_gid)
        data = self._folder / "data"
        command = [initdb, "--pgdata", str(data), "--username", "postgres", "--auth", "trust", "--no-sync"]
        command += ["--encoding", "UTF8"]
        if sys.platform.startswith("linux"):
            command += ["--locale", "C.UTF-8"]  # "C" would not fold the case of anything beyond ASCII
        made = subprocess.run(command, capture_output=True, text=True, check=False, **self._as_account())
        if made.returncode != 0:
            raise RuntimeError(f"initdb failed: {made.stderr.strip() or made.stdout.strip()}")
        for attempt in range(3):
            if self._launch(postgres, data):
                return
            if attempt == 2:
                raise RuntimeError(f"PostgreSQL did not start:\n{self._log()}")

    def _as_account(self) -> Dict[str, Any]:
        options: Dict[str, Any] = {"cwd": str(self._folder), "stdin": subprocess.DEVNULL}
        if self._account is not None:
            options.update(user=self._account.pw_uid, group=self._account.pw_gid, extra_groups=[])
        return options

    def _launch(self, postgres: str, data: Path) -> bool:
        """Start on a port that was free a moment ago; false when someone took it in between."""
        assert self._folder is not None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self._folder),
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "autovacuum": "off",
            "max_connections": "200",
            "shared_buffers": "32MB",
            "timezone": "UTC",
        }
        command = [postgres, "-D", str(data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        preexec: Optional[Callable[[], None]] = _die_with_parent if sys.platform.startswith("linux") else None
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=preexec, **self._as_account())
        return self._wait_until_ready()

    def _wait_until_ready(self) -> bool:
        import psycopg

        assert self._process is not None
        end = time.monotonic() + START_SECONDS
        while self._process.poll() is None:
            try:
                psycopg.connect(self.url("postgres", scheme="postgresql"), connect_timeout=2).close()
            except psycopg.OperationalError:
                if time.monotonic() > end:
                    self._end_process()
                    return False
                time.sleep(0.05)
            else:
                return True
        self._process = None
        return False

    def _log(self) -> str:
        assert self._folder is not None
        return (self._folder / "log").read_text(errors="replace")[-4000:]

    def url(self, database: str, scheme: str = "postgresql") -> str:
        return f"{scheme}://postgres@127.0.0.1:{self.port}/{database}"

    def create_database(self) -> str:
        """The URL of a new, empty database."""
        name = f"selfdb_{os.getpid()}_{next(self._numbers)}"
        self._execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Drop what `create_database` made, whoever is still connected."""
        self._execute(f'DROP DATABASE IF EXISTS "{url.rsplit("/", 1)[1]}" WITH (FORCE)')

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        url = self.create_database()
        try:
            yield url
        finally:
            self.drop_database(url)

    def _execute(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())

    def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGINT)  # "fast" shutdown: it does not wait for clients
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait(STOP_SECONDS)

    def stop(self) -> None:
        """End the server that we started and remove its folder; harmless when it never started."""
        self._end_process()
        if self._folder is not None:
            shutil.rmtree(self._folder)
            self._folder = None
