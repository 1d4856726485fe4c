"""``LocalServer``: a whole server on a free port in a background thread of this process."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Optional, Type, Union

from .clock import Clock
from .listener import Listener, listening
from .settings import Settings

__all__ = ["LocalServer"]

_READY_SECONDS = 30.0
_STOP_SECONDS = 30.0


class LocalServer:
    """A SelfDB-compatible server for tests, notebooks and small programs.

    ::

        with LocalServer() as server:
            requests.get(server.url + "/system/status", headers={"X-API-Key": server.api_key})

    :param path: data folder; ``None`` makes a temporary one that is removed when the server stops.
    :param api_key: the key callers must send; by default the folder's own, made when there is none.
    :param host: address to listen on.
    :param port: 0 picks a free one; it may differ after each ``start()``.
    :param database: ``postgresql://...`` instead of SQLite in the folder.
    :param clock: where the server takes the time from.
    :param settings: any other field of :class:`selfdb.server.Settings`; the environment is not looked at.

    ``start`` and ``stop`` may be called from any thread, one at a time; a stopped server can be started again.
    """

    def __init__(
        self,
        path: Union[str, Path, None] = None,
        *,
        api_key: Optional[str] = None,
        host: str = "127.0.0.1",
        port: int = 0,
        database: Optional[str] = None,
        clock: Optional[Clock] = None,
        **settings: Any,
    ) -> None:
        self._path = None if path is None else Path(path)
        self._options = {"api_key": api_key, "host": host, "port": port, "database": database, **settings}
        self._clock = clock
        self._stack: Optional[contextlib.ExitStack] = None
        self._listener: Optional[Listener] = None
        self._process = 0

    def __repr__(self) -> str:
        return f"LocalServer({self._listener.url!r})" if self._listener else "LocalServer(stopped)"

    @property
    def url(self) -> str:
        """Where it listens, without a trailing slash.

        :raises RuntimeError: it does not run.
        """
        return self._running().url

    @property
    def api_key(self) -> str:
        """What callers send as ``X-API-Key``.

        :raises RuntimeError: it does not run.
        """
        return self._running().services.api_key

    @property
    def data(self) -> Path:
        """Its data folder.

        :raises RuntimeError: it does not run.
        """
        return self._running().services.settings.data

    def _running(self) -> Listener:
        if self._listener is None:
            raise RuntimeError("the server does not run; use it in a with statement or call start()")
        return self._listener

    def start(self) -> LocalServer:
        """Start; returns when it answers. Harmless when it runs already.

        :raises FolderInUse: another server serves this folder.
        :raises SettingsError: a setting is wrong, or unsafe for this host.
        :raises OSError: the address cannot be listened on.
        """
        if self._listener is not None:
            return self
        with contextlib.ExitStack() as stack:
            path = self._path
            if path is None:
                path = Path(tempfile.mkdtemp(prefix="selfdb-"))
                stack.callback(shutil.rmtree, path, ignore_errors=True)
            listener = stack.enter_context(listening(Settings(data=path, **self._options), self._clock))
            thread = threading.Thread(target=listener.run_here, name="selfdb-server", daemon=True)
            thread.start()
            stack.callback(_stop, listener, thread)
            if not listener.ready.wait(_READY_SECONDS):
                raise RuntimeError("the server did not start; see the log of selfdb.server")
            self._listener = listener
            self._stack = stack.pop_all()
            self._process = os.getpid()
            atexit.register(self.stop)  # a temporary folder would outlive the program, with all that is in it
        return self

    def stop(self) -> None:
        """Stop: requests under way may end, then everything is closed. Harmless when it does not run.

        A program that ends without does so then. In a forked child the server is the parent's, and goes on.
        """
        stack, self._stack, self._listener = self._stack, None, None
        if stack is None:
            return
        atexit.unregister(self.stop)
        if self._process == os.getpid():
            stack.close()

    def __enter__(self) -> LocalServer:
        return self.start()

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.stop()


def _stop(listener: Listener, thread: threading.Thread) -> None:
    listener.end()
    thread.join(_STOP_SECONDS)
