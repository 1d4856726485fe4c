"""Transactions that hold no lock: their writes lie in memory until they are committed, visible at once or hidden."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, List, NamedTuple, Optional, Tuple, TypeVar, Union

from ...core.marks import blocking
from ...core.strand import Strand
from ...core.waits import Waiting, waiting
from ..blocks import ends
from ..errors import (
    DatabaseClosedError,
    InvalidArgumentError,
    NotInScopeError,
    ReadOnlyError,
    StorageError,
    SubTransactionError,
    TransactionInactiveError,
)
from ..file.lease import Lease
from ..file.log import ChangeSet
from ..file.snapshot import FileAlone, Reading
from ..keys.extraction import extractor_of
from ..keys.keys import decode
from ..keys.stored import known
from ..keys.values import load
from ..ports import Sink, View
from ..schema.specs import EncodedKey, StoreSpec
from ..scope import PASS, Scope, current, surely
from ..tables.table import Table
from .merge import OverlayRow
from .overlay import Draft, Overlay
from .publish import Others
from .settle import Edits, Settlement, settle

if TYPE_CHECKING:
    from types import TracebackType

    from ..file.writer import Writer

__all__ = ["Operation", "OverlayTransaction", "check_no_overlay", "network_first"]

T = TypeVar("T")

log = logging.getLogger("selfdb.indexie")


class Operation(NamedTuple):
    """One change that an overlay transaction holds.

    :ivar id: what hooks are given as ``operation_id``.
    :ivar key: the row's key; ``None`` when the whole table was cleared.
    :ivar item: the new document; ``None`` when the row was deleted.
    :ivar old: the document before.
    :ivar all: whether the whole table was cleared.
    """

    id: str
    table: str
    op: str
    key: Any
    item: Any
    old: Any
    all: bool


class OverlayTransaction(Scope):
    """Writes to some tables that are kept in memory until :meth:`commit`, made by ``start_transaction()``.

    A context manager: in its block, writes of this context (this thread or task) to the tables go into it, and reads of
    them see what it holds over what is stored. An optimistic one is seen by every reader and live query of this process
    at once; otherwise by its own context alone. Other tables are written as ever. A block that is left without
    ``commit()``, or by an exception, is rolled back.

    Generated keys are final: they are taken from the table's own generator. An overlay is not durable, and other
    processes see what was committed.

    :ivar active: whether it can be written to.
    """

    kind = "overlay"

    def __init__(
        self,
        database: Any,
        tables: Union[str, Any, Iterable[Union[str, Any]]],
        *,
        optimistic: bool = False,
        conflict: str = "error",
    ) -> None:
        super().__init__(database)
        if conflict not in ("error", "overwrite"):
            raise InvalidArgumentError(f"conflict={conflict!r}: it is 'error' or 'overwrite'")
        self._names = _names(database, tables)
        if not self._names:
            raise InvalidArgumentError("start_transaction() wants at least one table")
        for name in self._names:
            database._spec(name)  # which raises where there is no such table
        self._optimistic = bool(optimistic)
        self._overwrite = conflict == "overwrite"
        self._overlay = Overlay(self._reserve, self._forsake)
        self._state = "new"
        self._forsaken = False
        # What is known of its end: an interrupt may break that off, and whoever comes then completes it.
        self._visible: Optional[bool] = None
        self._withdrawn = False
        self._drafting: Optional[threading.Thread] = None
        self._lease = Lease()  # of the draft; there is one at a time

    def __reduce__(self) -> Any:
        raise TypeError("an OverlayTransaction cannot be pickled or copied; it belongs to the process that opened it")

    def __repr__(self) -> str:
        kind = "optimistic" if self._optimistic else "hidden"
        return f"<OverlayTransaction {kind} on {', '.join(self._names)}: {self._state}>"

    # As a block

    def __enter__(self) -> OverlayTransaction:
        """Have the writes of this context go into it.

        :raises SubTransactionError: when another one of this context has one of the tables, or within
            ``db.transaction()``.
        :raises TransactionInactiveError: when it was entered before.
        """
        if self._state != "new":
            raise TransactionInactiveError("an overlay transaction is entered once; start another one")
        scope = current(self.database)
        while scope is not None:
            self._check_within(scope)
            self.strand = self.strand or scope.strand
            scope = current(self.database, scope)
        self.strand = self.strand or Strand()
        try:
            self._begin_block()
            self._state = "active"
            self.database._publisher.enrol(self._overlay)
            self.enter()
        except BaseException:
            self.leave()
            # Nothing was written yet, so there is nothing of the file to be shown again.
            self._state = "rolled back: it was not entered"
            self._close_strand()
            self.database._publisher.withdraw(self._overlay, lambda others: None)
            raise
        return self

    def _check_within(self, scope: Scope) -> None:
        if scope.kind == "live":
            raise ReadOnlyError("the function of a live query must not write, nor begin a transaction")
        if not isinstance(scope, OverlayTransaction):
            raise SubTransactionError(
                "start_transaction() cannot be within db.transaction(), which holds the file's lock: this one is "
                "there to do without"
            )
        shared = sorted(set(scope._names) & set(self._names))
        if shared:
            raise SubTransactionError(f"an overlay transaction around this one has {shared[0]!r} already")

    @ends
    @waiting
    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> Waiting[None]:
        """Roll back, unless it was committed."""
        if self._unended:
            self.leave()
            yield from surely(self._left, self._left)
        self._end_block()

    def _forgotten(self) -> None:
        self.leave()
        self._left()

    # What it is for

    @property
    def optimistic(self) -> bool:
        """Whether others see its writes before they are committed."""
        return self._optimistic

    @property
    def scope(self) -> Tuple[str, ...]:
        """The names of its tables."""
        return self._names

    @property
    def operations(self) -> List[Operation]:
        """What hooks are going to be told, in its order; silent writes are not among them."""
        return [
            Operation(
                each.id,
                each.effect.store.name,
                each.effect.op,
                None if each.effect.all else decode(each.effect.key),
                None if each.effect.new is None else load(each.effect.new),
                None if each.effect.old is None else known(each.effect.old),
                each.effect.all,
            )
            for each in list(self._overlay.operations)
        ]

    def table(self, name: Union[str, Any]) -> Any:
        """One of its tables, whose reads and writes go into it from any thread and in any context.

        :raises NotInScopeError: when it is not one of its tables.
        """
        found = name.name if isinstance(name, Table) else name
        if found not in self._names:
            raise NotInScopeError(f"this transaction has no {found!r}", table=found, scope=self._names)
        table: Table[Any] = Table(Through(self), found)  # type: ignore[arg-type]
        table._validate = self.database.table(found)._validate
        return table

    # What tables ask

    def write(self, stores: Sequence[StoreSpec], work: Callable[[Sink], T], silent: bool) -> T:
        """Do ``work`` on it, if its tables are concerned."""
        if not any(store.name in self._names for store in stores):
            return PASS  # type: ignore[no-any-return]
        with self.lock:
            self._check_active()
            return self._write(work, explicit=True)

    def view(self, stores: Sequence[StoreSpec], lease: Lease) -> Optional[View]:
        """What it holds over what is stored and visible."""
        if not any(store.name in self._names for store in stores):
            return None
        with self.lock:
            self._check_active()
            begin = partial(self.database._base, self.database._unbegun(lease))
            view: View = self.database._publisher.over(begin, self._overlay)
            return view

    def _check_active(self) -> None:
        if self._state != "active":
            raise TransactionInactiveError(f"this overlay transaction is over: it was {self._state}")

    def _write(self, work: Callable[[Sink], T], explicit: bool) -> T:
        if self._drafting is threading.current_thread():
            raise SubTransactionError("a function given to a write must not write itself: the row is being changed")
        draft = Draft(self._overlay, self._begin, time.time, explicit=explicit)
        self._drafting = threading.current_thread()
        try:
            result = work(draft)
        except BaseException:
            draft.discard()
            raise
        finally:
            self._drafting = None
            draft.close()
        if self._optimistic and draft.changes:
            epoch = self.database._publisher.change(
                self._overlay, draft.keep, lambda others: _note(draft.log, self._overlay, draft.changes, others)
            )
            self._tell(draft.log, epoch)
        else:
            draft.keep()
        return result

    def _begin(self) -> View:
        """What a draft stands on."""
        base: View = self.database._base(self.database._unbegun(self._lease))
        return base

    def _check_unlocked(self) -> None:
        scope = current(self.database)
        while scope is not None:
            if scope.locks:
                raise SubTransactionError(
                    "an overlay transaction writes to the file only outside of db.transaction(), which holds its lock"
                )
            scope = current(self.database, scope)

    def _tell(self, changes: ChangeSet, epoch: int) -> None:
        feed = self.database._feed
        if changes and feed.listening:
            feed.overlay_changed(changes, epoch)

    def _reserve(self, store: StoreSpec, above: float, count: int) -> int:
        """Take keys from the file's generator."""
        self._check_unlocked()
        writer = self.database._writer()
        try:
            writer.begin()
            if above > 0:
                writer.saw_key(store, above)
            first: int = writer.next_key(store)
            writer.saw_key(store, first + count - 1)
            writer.commit()
        except BaseException:
            writer.rollback()
            raise
        return first

    # Its end

    @blocking(closes=True)
    def commit(self) -> None:
        """Store what it holds, at one instant for every reader.

        Hooks are told first where it is optimistic, or the table's strategy is ``NETWORK_FIRST``; otherwise the outbox
        is given what they are to be told. If anything fails nothing is stored, and what it held is gone.

        :raises HookError: when such a hook raises; ``completed`` names the operations whose hooks had succeeded.
        :raises WriteConflictError: when a row was changed elsewhere since it was first changed here.
        :raises ConstraintError: when a key of a unique index is taken by now. Of these two ``hooks_succeeded`` says
            whether hooks had been told all the same.
        :raises TransactionInactiveError: when it is over already.
        :raises SubTransactionError: within ``db.transaction("rw")``, which holds the file's lock; it goes on then.
        """
        mine = False
        try:
            with self.lock:
                self._check_active()
                self._check_unlocked()
                self._lease.end()  # an interrupt may have come before the last draft could give it back
                mine = True
                self._state = "being committed"
            # From here on calls of this context, those of its hooks among them, go where they would go without it.
            self.leave()
            self._commit()
        except BaseException:
            if mine:
                self._fail()
            raise

    def _fail(self) -> None:
        self.leave()
        if self._state != "committed":
            self._end("rolled back: its commit failed")

    def _writer(self) -> Writer:
        if self._forsaken:
            raise DatabaseClosedError("the database was closed while this overlay transaction was being committed")
        writer: Writer = self.database._writer()
        return writer

    def _commit(self) -> None:
        database = self.database
        overlay = self._overlay
        publisher = database._publisher
        changes = ChangeSet()
        epochs: List[int] = []

        def publish() -> None:
            if self._optimistic:
                _note(changes, overlay, overlay.held, publisher.others(overlay))
            epochs.append(publisher.remove(overlay))
            self._state = "committed"

        settlement = Settlement(
            overlay,
            self._writer,
            publish,
            lambda store: self._optimistic or database._hooks.network_first((store,)),
            self._overwrite,
            self._optimistic,
            _validate(database),
        )
        listening, untold, operations, edits = settle(settlement)
        self._close_strand()
        if self._optimistic:
            _note_edits(changes, overlay, edits)
            self._tell(changes, epochs[0])
        if operations:
            database._hooks.committed(
                listening,
                [operation.effect for operation in untold],
                operations=[(operation.id, operation.created) for operation in untold],
                optimistic=self._optimistic,
            )

    @blocking(closes=True)
    def rollback(self) -> None:
        """Forget what it holds. Harmless when it was rolled back already, or its commit failed.

        :raises TransactionInactiveError: when it was committed.
        """
        with self.lock:
            if self._state in ("committed", "being committed"):
                raise TransactionInactiveError("this overlay transaction cannot be rolled back: it was committed")
            self.leave()
            self._end()

    def _left(self) -> None:
        with self.lock:
            if self._unended:  # and nobody else has begun to commit it
                self._end()

    @property
    def _unended(self) -> bool:
        return self._state == "active" or (self._state.startswith("rolled back") and not self._withdrawn)

    def _end(self, how: str = "rolled back") -> None:
        self._lease.end()
        if self._withdrawn:
            return
        publisher = self.database._publisher
        overlay = self._overlay
        if self._visible is None:
            self._visible = overlay in publisher.layers
        if not self._state.startswith("rolled back"):
            self._state = how
        self._close_strand()
        changes = ChangeSet()
        epoch = publisher.withdraw(overlay, lambda others: _note(changes, overlay, overlay.held, others))
        self._told(changes, epoch)
        self._withdrawn = True

    def _told(self, changes: ChangeSet, epoch: int) -> None:
        overlay = self._overlay
        if self._visible and self.database._feed.listening:
            try:
                self._note_base(changes)
            except BaseException:
                for store in overlay.stores.values():
                    changes.whole(store)
                raise
            finally:
                self._tell(changes, epoch)

    def _note_base(self, changes: ChangeSet) -> None:
        """What of the file readers see now that its rows are gone."""
        overlay = self._overlay
        try:
            # Read after it was withdrawn: what is committed from then on tells of itself.
            with FileAlone(self.database) as base:
                for name, store in overlay.stores.items():
                    rows = overlay.rows(name)
                    below = base.many(store, list(rows))
                    extract = extractor_of(store).index_keys
                    for key, row in rows.items():
                        found = below.get(key)
                        now = None if found is None else extract(load(found.text))
                        changes.record(store, key, row.keys if row.text is not None else None, now)
        except StorageError as error:
            log.debug("what an overlay covered could not be read: %s", error)
            for store in overlay.stores.values():
                changes.whole(store)

    def _forsake(self) -> None:
        """The database was closed, or this is a forked child."""
        self._forsaken = True
        self._state = "rolled back: the database was closed"
        self._withdrawn = True
        self.active = False
        self._close_strand()

    def _close_strand(self) -> None:
        strand = self.strand
        if strand is not None and (self.parent is None or self.parent.strand is not strand):
            strand.close()


def _home(table: Table[Any]) -> Any:
    home: Any = table.db
    return home._transaction.database if isinstance(home, Through) else home


def _names(database: Any, tables: Union[str, Any, Iterable[Union[str, Any]]]) -> Tuple[str, ...]:
    if isinstance(tables, (str, Table)):
        tables = (tables,)
    listed = list(tables) if isinstance(tables, Iterable) else [tables]
    if not listed or not all(isinstance(each, (str, Table)) for each in listed):
        raise InvalidArgumentError(f"tables are a name, a table, or a list of these, not {tables!r}")
    for each in listed:
        if isinstance(each, Table) and _home(each) is not database:
            raise InvalidArgumentError(f"{each.name!r} is a table of another database")
    return tuple(dict.fromkeys(each if isinstance(each, str) else each.name for each in listed))


def _validate(database: Any) -> Callable[[StoreSpec, Any], object]:
    def validate(store: StoreSpec, document: Any) -> None:
        check = database.table(store.name)._validate
        if check is not None:
            check(document)

    return validate


def _note(
    changes: ChangeSet, overlay: Overlay, held: Mapping[str, Mapping[EncodedKey, OverlayRow]], others: Others
) -> None:
    """What other overlays have under the keys of this one: readers see it more, or less, than before."""
    for other in others:
        for name, rows in held.items():
            theirs = other.rows(name)
            for key in rows if theirs else ():
                row = theirs.get(key)
                if row is not None and row.text is not None:
                    changes.record(overlay.stores[name], key, row.keys, None)


def _note_edits(changes: ChangeSet, overlay: Overlay, edits: Edits) -> None:
    """What hooks have changed, against what readers saw before."""
    for (name, key), text in edits.items():
        store = overlay.stores[name]
        changes.record(store, key, overlay.rows(name)[key].keys, extractor_of(store).index_keys(load(text)))


def check_no_overlay(database: Any, stores: Sequence[StoreSpec]) -> None:
    """Return if a transaction of the file over these stores may begin here.

    :raises SubTransactionError: when an overlay transaction of this context has one of them.
    """
    names = {store.name for store in stores}
    scope = current(database)
    while scope is not None:
        if isinstance(scope, OverlayTransaction):
            shared = sorted(names.intersection(scope._names))
            if shared:
                raise SubTransactionError(
                    f"an overlay transaction has {shared[0]!r}, whose writes go there until it is committed"
                )
        scope = current(database, scope)


class Through:
    """A database as one overlay transaction has it, for tables that are used outside of its context."""

    def __init__(self, transaction: OverlayTransaction) -> None:
        self._transaction = transaction

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transaction.database, name)

    def __repr__(self) -> str:
        return repr(self._transaction)

    def _fast(self) -> None:
        return None

    def _view(self, stores: Sequence[StoreSpec], streaming: bool = False) -> Reading:
        return Reading(self._transaction.database, stores, streaming, self._transaction)

    def _write(self, stores: Sequence[StoreSpec], work: Callable[[Sink], T], *, silent: bool) -> T:
        return self._transaction.write(stores, work, silent)


def network_first(database: Any, stores: Sequence[StoreSpec], work: Callable[[Sink], T]) -> T:
    """One call's write to tables whose hooks come first: what it changes is stored when they have succeeded.

    :raises HookError: when one of them raises; nothing was stored then.
    :raises WriteConflictError: when a row was changed elsewhere while they ran.
    """
    transaction = OverlayTransaction(database, [store.name for store in stores])
    transaction._state = "active"
    database._publisher.enrol(transaction._overlay)
    try:
        with transaction.lock:
            result = transaction._write(work, explicit=False)
        transaction._state = "being committed"
        transaction._commit()
    except BaseException:
        transaction._fail()
        raise
    return result
