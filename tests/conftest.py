"""Fixtures that every test may use: servers on both databases, fakes, a clock, and two guards."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Generator, Iterator, List, NamedTuple, Optional

import pytest
from hypothesis import HealthCheck, settings

from tests import pace, support
from tests.servers import postgrest
from tests.servers.clock import FakeClock
from tests.servers.postgres import PostgresCluster, PostgresUnavailable
from tests.servers.replies import ReplyServer
from tests.servers.scripted import ScriptedServer
from tests.ways import lane, theirs  # noqa: F401 - fixtures

API_KEY = "selfdb-key-of-the-tests"

# The cheapest hashing that the server allows: tests make hundreds of users.
CHEAP: Dict[str, Any] = {"hash_time_cost": 1, "hash_memory_kib": 8}


def on_ci() -> bool:
    return os.environ.get("CI", "").lower() in ("1", "true", "yes")


def unavailable(reason: str) -> None:
    """What a test needs is not on this machine: an error on CI, where nothing may be left out silently."""
    if on_ci():
        pytest.fail(f"needed on CI: {reason}", pytrace=False)
    pytest.skip(reason)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(pace, "pace")
    # A shell that starts the tests in the background has it ignored, in all of their children too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # How long an example takes says something of the machine; the rest stays as it is, on CI too.
    settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("any machine")


# PostgreSQL


@pytest.fixture(scope="session")
def _clusters() -> Iterator[List[PostgresCluster]]:
    clusters: List[PostgresCluster] = []
    yield clusters
    for cluster in clusters:
        cluster.stop()


@pytest.fixture(scope="session")
def start_postgres(_clusters: List[PostgresCluster]) -> Callable[[], PostgresCluster]:
    """Gives this process's cluster, started at the first call."""
    failure: List[str] = []

    def start() -> PostgresCluster:
        if failure:
            unavailable(failure[0])
        if not _clusters:
            cluster = PostgresCluster()
            try:
                cluster.start()
            except PostgresUnavailable as error:
                failure.append(f"PostgreSQL: {error}")
                unavailable(failure[0])
            except BaseException:
                cluster.stop()
                raise
            _clusters.append(cluster)
        return _clusters[0]

    return start


@pytest.fixture(scope="session")
def postgres(start_postgres: Callable[[], PostgresCluster]) -> PostgresCluster:
    return start_postgres()


@pytest.fixture(scope="session")
def postgrest_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PostgREST itself, installed once for the run, whichever process is the first to want it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    try:
        return postgrest.install(shared / "postgrest")
    except postgrest.PostgrestUnavailable as error:
        unavailable(str(error))
        raise


# The embedded server


class _Embedded:
    """Starts embedded servers and stops them again, newest first."""

    def __init__(self, start_postgres: Callable[[], PostgresCluster]) -> None:
        self._start_postgres = start_postgres
        self._running: List[Any] = []
        self._databases: List[str] = []

    def start(self, *, backend: str = "sqlite", **settings: Any) -> Any:
        from selfdb.server import LocalServer

        if backend not in ("sqlite", "postgresql"):
            raise ValueError(f"no such backend: {backend}")
        if backend == "postgresql" and "database" not in settings:
            settings["database"] = self._start_postgres().create_database()
            self._databases.append(settings["database"])
        path = settings.pop("path", None)
        server = LocalServer(path, **{"api_key": API_KEY, **CHEAP, **settings})
        server.start()
        self._running.append(server)
        return server

    def stop(self) -> None:
        try:
            while self._running:
                self._running.pop().stop()
        finally:
            while self._databases:
                self._start_postgres().drop_database(self._databases.pop())


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    """``"sqlite"``, then ``"postgresql"``: whoever uses it, or a server that does, runs on both."""
    return str(request.param)


@pytest.fixture(scope="session")
def _shared_servers(start_postgres: Callable[[], PostgresCluster]) -> Iterator[Dict[str, Any]]:
    # Apart from `server`: pytest ends a parametrized session fixture each time the parameter changes.
    servers: Dict[str, Any] = {}
    embedded = _Embedded(start_postgres)
    servers["start"] = embedded.start
    yield servers
    embedded.stop()


@pytest.fixture(scope="session")
def server(backend: str, _shared_servers: Dict[str, Any]) -> Any:
    """A running server on ``backend``, shared by all tests of this process: use unique names in it."""
    if backend not in _shared_servers:
        _shared_servers[backend] = _shared_servers["start"](backend=backend)
    return _shared_servers[backend]


@pytest.fixture(scope="session")
def http(server: Any) -> support.Http:
    """Raw HTTP to the shared server."""
    return support.Http(server)


@pytest.fixture
def make_server(start_postgres: Callable[[], PostgresCluster]) -> Iterator[Callable[..., Any]]:
    """``make_server(backend="sqlite", path=None, clock=None, **settings)``: a server of one's own.

    ``server.stop()`` may be called by the test (twice is harmless); a ``path`` survives it.
    """
    embedded = _Embedded(start_postgres)
    yield embedded.start
    embedded.stop()


@pytest.fixture
def fresh_server(backend: str, make_server: Callable[..., Any]) -> Any:
    """A new, empty server on ``backend`` for one test."""
    return make_server(backend=backend)


@pytest.fixture
def clock() -> FakeClock:
    """A clock that moves by ``clock.advance(seconds)`` only."""
    return FakeClock()


@pytest.fixture
def unique() -> Callable[..., str]:
    """``unique(prefix="n")``: a name that nothing else in this run bears."""
    return support.unique


@pytest.fixture
def unheard(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a test that interrupts finalizers and generators that are thrown away: what they cannot raise is dropped.

    pytest would keep it until the test ends, and with its frames whatever the callers had in hand.
    """
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: None)


# Fakes


@pytest.fixture
def scripted() -> Iterator[Callable[..., ScriptedServer]]:
    """``scripted(*handlers, default=None, tls=None)``: a running `ScriptedServer`; see its module."""
    running: List[ScriptedServer] = []

    def start(*handlers: Any, **options: Any) -> ScriptedServer:
        running.append(ScriptedServer(*handlers, **options))
        return running[-1].start()

    yield start
    _stop_all(running)


@pytest.fixture
def replies() -> Iterator[Callable[..., ReplyServer]]:
    """``replies(script, tls=None)``: a running `ReplyServer`; see its module."""
    running: List[ReplyServer] = []

    def start(*arguments: Any, **options: Any) -> ReplyServer:
        running.append(ReplyServer(*arguments, **options))
        return running[-1].start()

    yield start
    _stop_all(running)


def _stop_all(servers: List[Any]) -> None:
    errors = []
    for server in servers:
        try:
            server.stop()
        except AssertionError as error:
            errors.append(error)
    if errors:
        raise errors[0]


class Tls(NamedTuple):
    """A certificate authority of our own and a server's context for 127.0.0.1 and localhost."""

    server: Any
    ca: str
    new_server: Callable[..., Any]


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """A server's SSLContext, the path of the authority to trust, and a maker of further contexts."""
    import ssl

    import trustme

    authority = trustme.CA()
    path: Path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))

    def new_server(*names: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*names).configure_cert(context)
        return context

    return Tls(new_server("127.0.0.1", "localhost"), str(path), new_server)


# Guards


class NetworkBlocked(RuntimeError):
    """A test reached for another machine. Not an OSError, so that no client mistakes it for the network."""


@pytest.fixture(scope="session", autouse=True)
def _loopback_only() -> Iterator[None]:
    """Sockets of this process connect to this machine only."""

    def guarded(name: str) -> Callable[..., Any]:
        original = getattr(socket.socket, name)

        def connect(self: socket.socket, address: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6):
                host = str(address[0])
                if not (host.startswith("127.") or host in ("::1", "localhost")):
                    raise NetworkBlocked(f"tests stay on 127.0.0.1; this one asked for {host}")
            return original(self, address)

        return connect

    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, guarded(name))
        yield


LEAK_SECONDS = 15.0


def _left_over(before: set[int]) -> List[threading.Thread]:
    return [
        thread
        for thread in threading.enumerate()
        if thread.ident not in before and thread.is_alive() and (not thread.daemon or thread.name.startswith("selfdb"))
    ]


def _sockets() -> Optional[int]:
    """How many sockets this process has open; None where the system does not say."""
    try:
        names = os.listdir("/proc/self/fd")
    except FileNotFoundError:
        return None
    count = 0
    for name in names:
        try:
            count += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
        except OSError:
            continue  # closed since: the listing's own descriptor, for one
    return count


_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    report = yield
    if report.failed:
        item.stash[_FAILED] = True
    # Three reports of each test go to the process that prints them, which looks at none of their keywords.
    report.keywords = {}
    return report


@pytest.fixture(autouse=True)
def _no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """After a test: no thread of ours and no non-daemon thread more than before it, and no socket either.

    Sockets are not counted in tests on the shared servers, whose database pools may grow in any of them.
    """
    threads = {thread.ident or 0 for thread in threading.enumerate()}
    count = not {"_shared_servers", "postgres"} & set(request.fixturenames)
    sockets = _sockets() if count else None
    yield
    if request.node.stash.get(_FAILED, False):
        return  # its traceback keeps alive what it had at hand
    assert sys.exc_info()[1] is None, "the test left this process in the middle of an error"
    end = time.monotonic() + LEAK_SECONDS
    while True:
        left = _left_over(threads)
        grown = (_sockets() or 0) - sockets if sockets is not None else 0
        if not left and grown <= 0:
            return
        if time.monotonic() > end:
            break
        time.sleep(0.01)  # a server notices a closed connection a moment later than its client
    assert not left, f"the test left threads behind: {[thread.name for thread in left]}"
    assert grown <= 0, f"the test left {grown} sockets open"
