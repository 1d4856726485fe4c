"""The blocking server of ``selfdb serve``: runs in the main thread until a signal ends it."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import threading
from types import FrameType
from typing import Callable, Iterator, Optional

from .clock import Clock
from .listener import Listener, listening
from .settings import Settings

__all__ = ["serve"]


class _Stopped(BaseException):
    """A signal came before there was anything to shut down."""


def serve(settings: Settings, *, clock: Optional[Clock] = None, announce: Callable[[str], None] = print) -> None:
    """Serve until SIGINT or SIGTERM; returns after requests under way have ended.

    :param announce: is given lines for the operator, once the server answers; they hold no secret.
    :raises FolderInUse: another process serves this data folder.
    :raises SettingsError: a setting is wrong, or unsafe for this host.
    :raises OSError: the address cannot be listened on.
    """
    with _signals() as signals, _logging(), contextlib.suppress(_Stopped), listening(settings, clock) as listener:
        signals.attach(listener)
        listener.when_ready = lambda: _tell(listener, announce)
        listener.run_here()


def _tell(listener: Listener, announce: Callable[[str], None]) -> None:
    services = listener.services
    announce(f"SelfDB is ready at {listener.url}")
    announce(f"Data folder: {services.settings.data}")
    if services.api_key_file is not None:
        announce(f"API key: in the file {services.api_key_file}")
    announce("Stop with Ctrl+C")


class _Signals:
    """Turns a signal into a clean end, whatever the server is doing at that moment."""

    def __init__(self) -> None:
        self._listener: Optional[Listener] = None

    def attach(self, listener: Listener) -> None:
        self._listener = listener

    def __call__(self, number: int, frame: Optional[FrameType]) -> None:
        if self._listener is None:
            raise _Stopped
        # The second of them does not wait for requests under way.
        self._listener.force_exit = self._listener.should_exit
        self._listener.end()


@contextlib.contextmanager
def _signals() -> Iterator[_Signals]:
    signals = _Signals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    former = {number: signal.signal(number, signals) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signals
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _logging() -> Iterator[None]:
    """Send the server's log to standard error, unless the program around us has its own logging."""
    logger = logging.getLogger("selfdb.server")
    if logging.getLogger().handlers or logger.handlers:
        yield
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    former = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(former)
