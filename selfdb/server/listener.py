"""A server that listens: folder lock, socket, application and uvicorn, in the order that makes them safe.

Shared by the blocking ``serve`` and by :class:`selfdb.server.LocalServer`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import threading
from typing import Any, Callable, Generator, Iterator, List, Optional, Set

import uvicorn

from .app import create_app
from .clock import Clock
from .folderlock import FolderLock
from .realtime.protocol import SocketProtocol
from .services import Services
from .settings import Settings

__all__ = ["Listener", "listening"]

logger = logging.getLogger("selfdb.server")

#: How long requests under way may take to end when the server stops, seconds.
_GRACE_SECONDS = 5
_KEEP_ALIVE_SECONDS = 75
#: How often the date in the headers of answers is set.
_DATE_SECONDS = 1.0
#: How often a server that stops looks whether the last connection has gone.
_LOOK_SECONDS = 0.005
_BACKLOG = 2048
#: What a socket may say at once, bytes.
_LARGEST_FRAME = 1024 * 1024


class Listener(uvicorn.Server):
    """One server about to run; ``run()`` blocks until ``end()``.

    uvicorn's own looks every tenth of a second whether it should end, and sleeps for as long when it does.
    """

    def __init__(self, config: uvicorn.Config, bound: socket.socket, url: str, services: Services) -> None:
        super().__init__(config)
        self.url = url
        self.services = services
        self.ready = threading.Event()
        self.when_ready: Callable[[], None] = lambda: None
        self._bound = bound
        self._loop: Optional[asyncio.AbstractEventLoop] = None

    async def startup(self, sockets: Optional[List[socket.socket]] = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.ready.set()
            self.when_ready()

    def end(self) -> None:
        """Let requests under way end, then stop. From any thread and from a handler of a signal."""
        self.should_exit = True
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: it has ended by itself
                loop.call_soon_threadsafe(self._told.set)

    async def main_loop(self) -> None:
        self._told = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        while not await self.on_tick(0):
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._told.wait(), _DATE_SECONDS)

    async def shutdown(self, sockets: Optional[List[socket.socket]] = None) -> None:
        for server in self.servers:
            server.close()
        for bound in sockets or []:
            bound.close()
        try:
            await asyncio.wait_for(self._emptied(), self.config.timeout_graceful_shutdown)
        except asyncio.TimeoutError:
            logger.error("%d requests took too long to end and are broken off", len(self.server_state.tasks))
            for task in self.server_state.tasks:
                task.cancel()
        if not self.force_exit:
            await self.lifespan.shutdown()

    async def _emptied(self) -> None:
        """Wait until what is under way has ended, or nobody wants to wait for it."""
        state = self.server_state
        told: Set[Any] = set()
        while True:
            # Again and again: one that was accepted a moment before is among them a moment later.
            for connection in state.connections - told:
                told.add(connection)
                connection.shutdown()
            await asyncio.sleep(_LOOK_SECONDS)
            if self.force_exit or not (state.connections or state.tasks):
                break
        for server in self.servers:
            await server.wait_closed()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Whoever runs us handles signals; uvicorn would raise them again when it has stopped."""
        yield

    def run_here(self) -> None:
        """Serve in this thread until told to stop."""
        self.run(sockets=[self._bound])


@contextlib.contextmanager
def listening(settings: Settings, clock: Optional[Clock] = None) -> Iterator[Listener]:
    """Everything that a server needs before it runs, given back afterwards whatever happened.

    :raises FolderInUse: another process serves the folder (SQLite only; PostgreSQL is shared).
    :raises OSError: the address cannot be listened on.
    :raises SettingsError: see :func:`selfdb.server.create_app`.
    """
    with contextlib.ExitStack() as stack:
        lock = None
        if settings.database is None:
            lock = FolderLock(settings.data)
            stack.callback(lock.release)
        bound = stack.enter_context(_bind(settings.host, settings.port))
        app = create_app(settings, clock=clock)
        services: Services = app.state.services
        stack.callback(services.close)
        config = uvicorn.Config(
            app,
            loop="asyncio",
            http="h11",
            ws=SocketProtocol,
            ws_max_size=_LARGEST_FRAME,
            # The clients' heartbeats tell who is there.
            ws_ping_interval=None,
            ws_per_message_deflate=False,
            lifespan="on",
            # Our own log has no queries; a proxy's word about the client's address is not taken.
            access_log=False,
            log_config=None,
            log_level=_no_finer_than_debug(),
            proxy_headers=False,
            server_header=False,
            # uvicorn's 5 s are as long as a person takes between two clicks: the next write would cross the end.
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        url = _url(settings.host, bound)
        if lock is not None:
            lock.announce(url, services.api_key)
        yield Listener(config, bound, url, services)


def _no_finer_than_debug() -> Optional[int]:
    """The level for uvicorn where the program's own is finer than DEBUG; there it would log queries and headers."""
    finer = logging.getLogger("uvicorn.error").getEffectiveLevel() < logging.DEBUG
    return logging.DEBUG if finer else None


def _bind(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(
        host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    # Naming the protocol makes asyncio turn Nagle's algorithm off for the connections that are accepted; else
    # each answer on a kept connection waits 40 ms for an acknowledgement.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if hasattr(socket, "SO_REUSEADDR") and os.name != "nt":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(_BACKLOG)
    except OSError as problem:
        bound.close()
        hint = "; stop what listens there, or choose another port" if problem.errno == errno.EADDRINUSE else ""
        raise OSError(problem.errno, f"cannot listen on {host}:{port}: {problem.strerror}{hint}") from None
    return bound


def _url(host: str, bound: socket.socket) -> str:
    port = bound.getsockname()[1]
    name = host.strip("[]")
    # What listens everywhere is reached here at the loopback address.
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, name)  # noqa: S104
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
