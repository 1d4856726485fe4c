"""What a read reads from: the transaction it stands in, or a snapshot of its own that shows the overlays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Optional

from ..blocks import Holding
from ..ports import View
from ..schema.specs import StoreSpec
from ..scope import Scope, current
from .lease import Lease
from .log import NEWEST
from .reader import Reader

if TYPE_CHECKING:
    from ..schema.schema import Schema
    from ..services import Services
    from .connections import Connections

__all__ = ["FileAlone", "Reading", "Snapshot"]


class Snapshot(Reader):
    """One state of the file, on a connection of its own until it is closed. For one thread at a time.

    It is that of the moment of :meth:`begin`. The connection is opened before, for that may have to wait for a fork.

    :param lease: what the connection is held by.
    """

    def __init__(self, database: Services, schema: Schema, connections: Connections, lease: Lease) -> None:
        self._lease = lease
        connection = lease.take(connections)
        super().__init__(database, schema, connection)
        try:
            connection.open()
        except BaseException:
            self.close()
            raise

    def begin(self) -> Snapshot:
        """Take it."""
        try:
            self.connection.begin_snapshot()
            self._seq = self.connection.one(f"SELECT seq FROM ({NEWEST}) WHERE {self.schema.guard}")[0]
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Give back what it holds. Harmless when repeated."""
        self._lease.end()


class FileAlone(Holding):
    """The block of a snapshot of the file, whatever overlays there are."""

    def __init__(self, database: Services) -> None:
        self._database = database
        self._lease = Lease()

    def __enter__(self) -> Snapshot:
        self._begin_block()
        return self._database._base(self._database._unbegun(self._lease))

    def _forgotten(self) -> None:
        self._lease.end()


class Reading(Holding):
    """The block of one read: gives the view to read from, and gives back what that holds.

    :param streaming: whether it lasts until the user is done with a result. The transaction that it stands in is not
        held up then.
    :param scope: what it stands in; the present context tells by default.
    """

    def __init__(
        self, database: Services, stores: Sequence[StoreSpec], streaming: bool, scope: Optional[Scope] = None
    ) -> None:
        self._database = database
        self._scope = scope
        self._stores = stores
        self._streaming = streaming
        self._lock: Any = None
        self._lease = Lease()

    def __enter__(self) -> View:
        self._begin_block()
        scope = self._scope or current(self._database)
        while scope is not None:
            lock = scope.lock  # it is another one in a child that was forked meanwhile
            lock.acquire()
            try:
                view = scope.view(self._stores, self._lease)
            except BaseException:
                lock.release()
                raise
            if view is not None and not self._streaming:
                self._lock = lock
                return view
            lock.release()
            if view is not None:
                return view
            scope = current(self._database, scope)
        return self._database._snapshot(self._lease)

    def _forgotten(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()
        self._lease.end()
