"""Connections that somebody holds: each is given back though an interrupt comes at whatever moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from ..blocks import Holding, ends
from ..errors import DatabaseClosedError

if TYPE_CHECKING:
    from types import TracebackType

    from .connection import Connection
    from .connections import Connections

__all__ = ["Lease", "Leased", "Transacted", "Writing"]


class Lease:
    """One connection for a snapshot, from :meth:`take` until :meth:`end`. For one thread at a time.

    Whoever is going to end it makes it, before there is anything to be held: an interrupt finds it in his hands at any
    moment.

    :ivar connection: what is held.
    """

    __slots__ = ("_connections", "connection")

    def __init__(self) -> None:
        self._connections: Optional[Connections] = None
        self.connection: Optional[Connection] = None

    def take(self, connections: Connections) -> Connection:
        """A connection for the caller alone."""
        self.end()  # an interrupt may have come before a former one could be
        self._connections = connections
        self.connection = connection = connections.taken()
        connection.hold()
        return connection

    def end(self) -> None:
        """Give it back; its snapshot ends. Harmless when repeated, also by one who was interrupted in it."""
        connection, connections = self.connection, self._connections
        if connection is None or connections is None:
            return
        try:
            connection.rollback()
        except DatabaseClosedError:
            connection.close()
        except Exception:
            connection.holder, self.connection = 0, None
            raise
        connection.holder = 0
        self.connection = None  # before others may have it: from here on it is not ended again
        connections.spare(connection)


class Leased(Holding):
    """The block of a :class:`Lease`: gives the connection, on which nothing has begun."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._lease = Lease()

    def __enter__(self) -> Connection:
        self._begin_block()
        return self._lease.take(self._connections)

    def _forgotten(self) -> None:
        self._lease.end()


class Writing(Holding):
    """The block of the connection that writes: gives it to one thread alone, and undoes what is not committed.

    :param seconds: how long to wait for others who have it; ``None`` is the database's ``busy_timeout``.
    :raises IndexieTimeoutError: when others had it for all of that time.
    """

    def __init__(self, connections: Connections, seconds: Optional[float] = None) -> None:
        self._connections = connections
        self._seconds = seconds

    def __enter__(self) -> Connection:
        self._begin_block()
        return self._connections.acquire_writer(self._seconds, self)

    def _forgotten(self) -> None:
        self._connections.reclaim(self)


class Transacted(Writing):
    """The block of one transaction that writes, which is committed unless an error leaves it.

    :raises IndexieTimeoutError: when others, of this process or another one, were writing for all of ``seconds``.
    """

    def __enter__(self) -> Connection:
        self._connection = connection = super().__enter__()
        try:
            connection.begin(self._seconds)
        except BaseException:
            self._forgotten()
            raise
        return connection

    @ends
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._connection.in_transaction:
                self._connection.commit()
        finally:
            self._forgotten()
        self._end_block()
