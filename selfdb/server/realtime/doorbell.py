"""The doorbell between threads that commit and the loop that tells the sockets."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Callable, Optional

__all__ = ["Doorbell"]


class Doorbell:
    """``ring()`` from any thread calls the answerer on its loop; many rings before it comes are one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._answer: Callable[[], None] = lambda: None
        self._rung = False

    def attach(self, loop: asyncio.AbstractEventLoop, answer: Callable[[], None]) -> None:
        """From now on ``answer`` is called on ``loop``."""
        with self._lock:
            self._loop, self._answer, self._rung = loop, answer, False

    def detach(self) -> None:
        """Nobody answers any more; rings go nowhere."""
        with self._lock:
            self._loop = None

    def ring(self) -> None:
        """Have the answerer called soon. Never blocks, never raises."""
        with self._lock:
            if self._loop is None or self._rung:
                return
            self._rung = True
            # Under the lock, so that a loop is not asked after it was detached and closed; a server that was
            # stopped by force has detached nothing.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._come)

    def _come(self) -> None:
        with self._lock:
            self._rung = False
        self._answer()
