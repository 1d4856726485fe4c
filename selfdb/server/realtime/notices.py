"""PostgreSQL's notices: a thread that rings the doorbell when any server of the database has committed an event."""

from __future__ import annotations

import logging
import selectors
import socket
import threading
from typing import Any, Optional

from ..database import Database
from .doorbell import Doorbell
from .outbox import NOTICE

__all__ = ["Notices"]

logger = logging.getLogger("selfdb.server.realtime")

_RETRY_SECONDS = 1.0
_JOIN_SECONDS = 5.0


class Notices:
    """Listens on a connection of its own; when that is lost, rings once a second until there is another.

    A notice only wakes: what is new is always read from the table, so a lost one loses nothing.
    """

    def __init__(self, database: Database, doorbell: Doorbell) -> None:
        self._database = database
        self._doorbell = doorbell
        self._stopping = threading.Event()
        # A byte from the one is heard at the other, together with the database: nobody waits for a time-out.
        self._end, self._ended = socket.socketpair()
        self._thread: Optional[threading.Thread] = None

    def start(self) -> None:
        """Begin to listen."""
        self._thread = threading.Thread(target=self._run, name="selfdb-notices", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End at once, unless the database hangs."""
        self._stopping.set()
        self._end.send(b"\0")
        if self._thread is not None:
            self._thread.join(_JOIN_SECONDS)
        self._end.close()
        self._ended.close()

    def _run(self) -> None:
        import psycopg
        from sqlalchemy.exc import DBAPIError

        troubled = False
        while not self._stopping.is_set():
            try:
                connection = self._database.detached()
                try:
                    self._listen(connection)
                finally:
                    connection.close()
                troubled = False
            except (psycopg.Error, DBAPIError, OSError) as problem:
                if not troubled and not self._stopping.is_set():
                    logger.warning("no notices from PostgreSQL (%s); looking every second", type(problem).__name__)
                troubled = True
                self._doorbell.ring()
                self._stopping.wait(_RETRY_SECONDS)

    def _listen(self, connection: Any) -> None:
        connection.rollback()
        connection.autocommit = True
        connection.execute(f"LISTEN {NOTICE}")
        self._doorbell.ring()  # whatever came before we listened
        with selectors.DefaultSelector() as selector:
            selector.register(connection.fileno(), selectors.EVENT_READ)
            selector.register(self._ended, selectors.EVENT_READ)
            while not self._stopping.is_set():
                # What came together with the answer to LISTEN is no longer on the wire: take first, then wait.
                connection.pgconn.consume_input()
                while connection.pgconn.notifies() is not None:
                    self._doorbell.ring()
                selector.select()
