"""What the parts of a database ask of the whole: its stores, where to read, and where to write."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Dict, Optional, TypeVar

from ..core.strand import Stranded
from .errors import DatabaseClosedError, InvalidStateError, InvalidTableError
from .file.connections import Connections
from .file.lease import Lease
from .file.reader import Reader
from .file.snapshot import Reading, Snapshot
from .file.writer import Writer
from .hooks.outbox import Outbox
from .hooks.registry import Hooks
from .live.feed import Feed
from .overlays.publish import Publisher
from .ports import Sink, View
from .schema.schema import Schema
from .schema.specs import StoreSpec
from .schema.upgrade import Upgrading
from .schema.version import Version
from .scope import PASS, current
from .timing import Timing

__all__ = ["Services"]

T = TypeVar("T")


class Services(Stranded):
    """The inner side of an `Indexie`, which makes what stands here and opens and closes it."""

    _timing: Timing
    _log_retention: int
    _versions: Dict[int, Version]
    _schema: Optional[Schema]
    _connections: Connections
    _ended: Optional[Callable[[], DatabaseClosedError]]
    _fast_readers: threading.local
    _publisher: Publisher
    _feed: Feed
    _outbox: Outbox
    _hooks: Hooks

    def _open(self, timeout: Optional[float], again: bool) -> Schema:
        raise NotImplementedError

    def _declared(self, upto: Optional[int] = None) -> Mapping[str, Optional[StoreSpec]]:
        raise NotImplementedError

    def _upgrading(self) -> Optional[Upgrading]:
        """The upgrade whose hook this is part of."""
        if self._schema is not None:
            return None
        scope = current(self)
        while scope is not None and not isinstance(scope, Upgrading):
            scope = current(self, scope)
        return scope

    def _opened(self) -> Schema:
        """The schema of the file, which is opened if it was never."""
        schema = self._schema
        if schema is not None:
            return schema
        upgrading = self._upgrading()
        if upgrading is not None:
            return upgrading.schema
        if self._ended is not None:
            raise self._ended()
        return self._open(None, again=False)

    def _check_no_upgrade(self, what: str) -> None:
        """Return if the file is open, or may be opened.

        :raises InvalidStateError: in a hook of the upgrade that opens it, whose connection is the only one.
        """
        if self._upgrading() is not None:
            raise InvalidStateError(f"the database is being opened, and this is part of it: {what}")

    def _store(self, name: str) -> StoreSpec:
        """The store as the file has it.

        :raises InvalidTableError: when it has not.
        """
        upgrading = self._upgrading()
        spec = (self._opened() if upgrading is None else upgrading).stores.get(name)
        if spec is None:
            raise InvalidTableError(f"there is no store {name!r}", table=name)
        return spec

    def _spec(self, name: str) -> StoreSpec:
        """As :meth:`_store`, but of the declarations while the file is not open."""
        if self._schema is None and self._versions and self._upgrading() is None:
            spec = self._declared().get(name)
            if spec is not None:
                return spec
            raise InvalidTableError(f"there is no store {name!r}", table=name)
        return self._store(name)

    def _drop(self, name: str) -> None:
        """Delete a store, in an upgrade.

        :raises InvalidStateError: elsewhere.
        """
        upgrading = self._upgrading()
        if upgrading is None:
            raise InvalidStateError(
                "drop() is for the hooks of an upgrade; elsewhere a version that has the store as None deletes it"
            )
        upgrading.drop(name)

    def _fast(self) -> Optional[Reader]:
        """This thread's reader, where one statement is all that a read needs: no scope and no overlay is about."""
        schema = self._schema
        if schema is None or self._publisher.layers or current(self) is not None:
            return None
        reader: Optional[Reader] = getattr(self._fast_readers, "reader", None)
        if reader is None or reader.schema is not schema or reader.connection.closed:
            reader = self._fast_readers.reader = Reader(self, schema, self._connections.reader())
        return reader

    def _view(self, stores: Sequence[StoreSpec], streaming: bool = False) -> Reading:
        """The block of a read: ``with db._view(stores) as view``."""
        return Reading(self, stores, streaming)

    def _unbegun(self, lease: Lease) -> Snapshot:
        """A snapshot of the file alone, as it will be when it is begun.

        :param lease: what holds its connection, and gives it back.
        """
        self._check_no_upgrade("read its tables")
        schema = self._opened()
        return Snapshot(self, schema, self._connections, lease)

    def _base(self, unbegun: Snapshot) -> Snapshot:
        """A snapshot of the file alone."""
        return unbegun.begin()

    def _snapshot(self, lease: Lease) -> View:
        """A snapshot with the visible overlays, whatever the scope."""
        return self._publisher.view(partial(self._base, self._unbegun(lease)))

    def _writer(self) -> Writer:
        """A write transaction that has not begun."""
        return Writer(self, self._opened())

    def _write(self, stores: Sequence[StoreSpec], work: Callable[[Sink], T], *, silent: bool) -> T:
        """Do ``work`` where the context says, or in a transaction of its own; what it returned."""
        scope = current(self)
        while scope is not None:
            with scope.lock:
                result = scope.write(stores, work, silent)
            if result is not PASS:
                return result
            scope = current(self, scope)
        if not silent and self._hooks.network_first(stores):
            from .overlays.optimistic import network_first

            return network_first(self, stores, work)
        writer = Writer(self, self._schema or self._opened())
        try:
            writer.begin()
            result = work(writer)
            writer.commit()
        except BaseException:
            writer.rollback()  # an interrupt may have come at any moment
            raise
        return result
