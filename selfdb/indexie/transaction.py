"""Transactions: several calls as one, on the file itself; nested ones as savepoints of the outer one."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, List, NoReturn, Optional, Tuple, TypeVar

from ..core.marks import blocking, inner, mark_of, passing, set_steps
from ..core.strand import Strand
from ..core.waits import Waiting, ask, waiting, work
from .blocks import ends
from .errors import (
    AbortError,
    InvalidArgumentError,
    NotInScopeError,
    ReadOnlyError,
    SubTransactionError,
    TransactionInactiveError,
)
from .file.connection import Connection
from .file.connections import Connections
from .file.lease import Lease
from .file.reader import Reader
from .file.writer import Writer
from .functions import function_for
from .ports import Sink, View
from .schema.specs import StoreSpec
from .schema.upgrade import Upgrading
from .scope import Scope, current, surely
from .tables.table import Table

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from .database import Indexie

__all__ = ["Transaction", "run"]

T = TypeVar("T")

_logger = logging.getLogger("selfdb.indexie")

F = TypeVar("F", bound=Callable[..., Any])


def _as_steps_of(waits: Callable[..., Any]) -> Callable[[F], F]:
    """An event loop does the steps of ``waits`` in the place of what is decorated, which a thread calls."""
    mark = mark_of(waits)
    assert mark is not None
    assert mark.steps is not None
    steps = mark.steps

    def decorate(function: F) -> F:
        set_steps(function, steps, False, ())
        return function

    return decorate


_MODES = {"rw": "rw", "readwrite": "rw", "r": "r", "readonly": "r"}


@blocking
class Transaction(Scope):
    """Calls that are kept together or not at all, or that read one state. Made by :meth:`Indexie.transaction`.

    It holds for the context that entered it: that thread or task, and those that begin with a copy of its context.
    Whatever is called on the database there is part of it. A block that raises undoes what was written in it;
    ``KeyboardInterrupt`` is no exception.

    A transaction within another one joins it. If its block raises only its own writes are undone, and the outer one may
    go on. While it is under way in another thread or task the outer one's own cannot write: that would be undone with
    it. Who ends before those within takes them along: nothing of them is kept.
    """

    def __init__(self, database: Indexie, mode: str, tables: Any) -> None:
        super().__init__(database)
        self._mode = _mode(mode)
        self._scope = _names(database, tables)
        self._names = frozenset(self._scope)
        self._held: Optional[Connection] = None
        self._home: Optional[Connections] = None
        self._writer: Optional[Writer] = None
        self._view: Optional[View] = None
        self._lease = Lease()
        self._outer: Optional[Scope] = None
        self._savepoint: Any = None
        self._child: Optional[Transaction] = None
        self._state = "new"
        self._aborted = False
        self._on_commit: List[Callable[[], object]] = []
        self._on_rollback: List[Callable[[], object]] = []

    def __reduce__(self) -> Any:
        raise TypeError("a Transaction cannot be pickled or copied; it belongs to the context that opened it")

    def __repr__(self) -> str:
        return f"<Transaction {self._mode!r} of {', '.join(self._scope)}>"

    @property
    def mode(self) -> str:
        """``"rw"`` or ``"r"``."""
        return self._mode

    @property
    def scope(self) -> Tuple[str, ...]:
        """The names of its tables."""
        return self._scope

    @property
    def locks(self) -> bool:  # type: ignore[override]
        """Whether it holds the file's write lock."""
        return self._writer is not None

    def table(self, name: str) -> Table[Any]:
        """One of its tables, for use while it is active and in its own context.

        :raises NotInScopeError: when the transaction does not list it.
        :raises TransactionInactiveError: when the transaction is over, or another context's.
        """
        self._check_use()
        if name not in self._scope:
            self._outside(name)
        return _Bound(self, name)

    def __getattr__(self, name: str) -> Table[Any]:
        if name.startswith("_") or name not in self.__dict__.get("_scope", ()):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return self.table(name)

    def abort(self) -> NoReturn:
        """End it: everything is undone, and the caller of the transaction gets this error.

        :raises AbortError: always.
        """
        self._check_use()
        self._aborted = True
        raise AbortError("the transaction was aborted")

    @passing(callbacks=("callback",))
    def on_commit(self, callback: Callable[[], Any]) -> None:
        """Call ``callback()`` once after the COMMIT, of the outermost transaction if it is a nested one."""
        self._check_use()
        self._on_commit.append(_callback(callback, "on_commit"))

    @passing(callbacks=("callback",))
    def on_rollback(self, callback: Callable[[], Any]) -> None:
        """Call ``callback()`` once if it was undone."""
        self._check_use()
        self._on_rollback.append(_callback(callback, "on_rollback"))

    # As a scope

    @inner
    def write(self, stores: Sequence[StoreSpec], work: Callable[[Sink], T], silent: bool) -> T:
        """Do ``work`` on what it writes to."""
        # Its caller holds the lock.
        if self._aborted or self._state != "begun" or self._outer is not None:
            self._check_active()
        for store in stores:
            if store.name not in self._names:
                self._outside(store.name)
        writer = self._writer
        if writer is None:
            raise ReadOnlyError(f'this transaction only reads {", ".join(self._scope)}: begin it with "rw"')
        if not silent and self.database._hooks.network_first(stores):
            self.database._hooks.check_local(stores)
        if self._child is not None:
            # Its rollback would undo this too.
            raise SubTransactionError("a transaction within this one is under way in another task or thread")
        return self.written(writer, work)

    @inner
    def view(self, stores: Sequence[StoreSpec], lease: Lease) -> Optional[View]:
        """What reads in it read from."""
        self._check_scope(stores)
        return self._writer if self._view is None else self._view

    def _check_scope(self, stores: Sequence[StoreSpec]) -> None:
        self._check_active()
        for store in stores:
            if store.name not in self._scope:
                self._outside(store.name)

    def _outside(self, name: str) -> NoReturn:
        raise NotInScopeError(
            f"{name!r} is not among the tables of this transaction ({', '.join(self._scope)})",
            table=name,
            scope=self._scope,
        )

    def _check_active(self) -> None:
        if self._aborted or self._state != "begun":
            raise TransactionInactiveError("the transaction is over" if self._state != "new" else "it has not begun")
        if self._outlived():
            raise TransactionInactiveError("the transaction is over: one around it has ended before it")

    def _outlived(self) -> bool:
        """Whether one around it is over, so that nothing of the file is its own any more."""
        within: Transaction = self
        while isinstance(within._outer, Transaction):
            within = within._outer
            if within._state != "begun":
                return True
        return within._outer is not None and within._lease.connection is None and not within._outer.active

    @inner
    def check_here(self) -> None:
        """Return if it is active, and the present context's.

        :raises TransactionInactiveError: if not.
        """
        self._check_use()

    def _check_use(self) -> None:
        self._check_active()
        scope = current(self.database)
        while scope is not None and scope is not self:
            scope = current(self.database, scope)
        if scope is None:
            raise TransactionInactiveError("the transaction belongs to another thread or task")

    # Beginning and end

    @inner
    def begin(self) -> None:
        """Take the lock and begin, or begin a savepoint of the transaction around. It may block."""
        with self.lock:
            if self._state != "new":
                raise TransactionInactiveError("a transaction is entered once: make another one")
            self._state = "beginning"
            database, outer = self.database, self._outer
            connection, self._held = self._held, None
            try:
                stores = [database._store(name) for name in self._scope]
                if outer is not None:
                    self._join(outer, stores)
                elif self._mode == "r":
                    self._view = database._snapshot(self._lease)
                else:
                    writer = Writer(database, database._schema)
                    writer.explicit = True
                    self._writer = writer
                    if connection is None or self._home is None:
                        writer.begin()
                    else:
                        writer.begin_on(connection, self._home, self)
            except BaseException:
                self._writer = None
                if self._home is not None:
                    self._home.reclaim(self)
                raise
            self._state = "begun"

    def _join(self, outer: Scope, stores: Sequence[StoreSpec]) -> None:
        with outer.lock:
            if self._mode == "r":
                # The outer one's own state, with what was written in it.
                self._view = outer.view(stores, self._lease) or self.database._snapshot(self._lease)
                return
            if isinstance(outer, Upgrading):
                writer: Optional[Writer] = outer.writer
            else:
                assert isinstance(outer, Transaction)
                writer = outer._writer
                outer._check_active()
                if outer._child is not None:
                    raise SubTransactionError("another transaction within this one is under way in another task")
            assert writer is not None
            outer.check_no_write()
            savepoint = writer.savepoint()
            savepoint.__enter__()
            self._writer, self._savepoint = writer, savepoint
            if isinstance(outer, Transaction):
                outer._child = self

    def _check_outer(self) -> None:
        """Find what is around it.

        :raises SubTransactionError: when it wants more than that allows.
        """
        outer = self._outer = current(self.database)
        self.strand = (outer.strand if outer is not None else None) or Strand(keeps=True)
        if outer is None:
            return
        # One lock for what is one transaction of the file: none of them ends in the middle of another's call.
        self.lock = outer.lock
        if isinstance(outer, Transaction):
            wider = [name for name in self._scope if name not in outer._scope]
            if wider:
                raise SubTransactionError(
                    f"the transaction around has {', '.join(outer._scope)} and not {', '.join(wider)}: list them there"
                )
            if self._mode == "rw" and outer._mode == "r":
                raise SubTransactionError('the transaction around only reads: begin it with "rw"')
        elif self._mode == "rw" and not isinstance(outer, Upgrading):
            if getattr(outer, "kind", None) == "live":
                raise ReadOnlyError("the function of a live query only reads")
            from .overlays.optimistic import check_no_overlay

            check_no_overlay(self.database, [self.database._spec(name) for name in self._scope])
            self._outer = None

    @inner
    def commit(self) -> None:
        """Keep what was written. It may block."""
        with self.lock:
            if self._state != "begun":
                raise TransactionInactiveError("the transaction is over")
            outlived = self._outlived()
            try:
                self._state = "over"
                if outlived and self._writer is not None:
                    raise TransactionInactiveError("the transaction is over: one around it has ended before it")
                if self._child is not None:
                    self._undo()
                    raise SubTransactionError("a transaction within this one is still under way: nothing is kept")
                self._keep()
            except BaseException:
                if self._writer is not None and self._savepoint is None:
                    self._writer.rollback()  # an interrupt may have come before it could end by itself
                self._tell(self._on_rollback)
                raise
            finally:
                self._let_go()

    def _keep(self) -> None:
        writer, outer = self._writer, self._outer
        if writer is None:
            self._close_view()
            self._tell(self._on_commit)
        elif self._savepoint is None:
            writer.on_commit.extend(self._on_commit)
            writer.commit()
        else:
            assert outer is not None
            with outer.lock:
                self._savepoint.__exit__(None, None, None)
            if isinstance(outer, Transaction):
                outer._on_commit += self._on_commit
                outer._on_rollback += self._on_rollback
            else:
                writer.on_commit.extend(self._on_commit)

    @inner
    def rollback(self) -> None:
        """Undo what was written. Harmless when it is over. It may block."""
        with self.lock:
            begun, self._state = self._state == "begun", "over"
            self._held = None
            if not begun:
                self._lease.end()
                if self._home is not None:
                    self._home.reclaim(self)
                return
            try:
                if not self._outlived():
                    self._undo()
            finally:
                self._let_go()
        self._tell(self._on_rollback)

    def _undo(self) -> None:
        writer, outer = self._writer, self._outer
        if writer is None:
            self._close_view()
        elif self._savepoint is None:
            writer.rollback()
        else:
            assert outer is not None
            error = AbortError("undone")
            with outer.lock:
                self._savepoint.__exit__(AbortError, error, None)

    def _close_view(self) -> None:
        self._view = None
        self._lease.end()

    def _let_go(self) -> None:
        outer = self._outer
        if isinstance(outer, Transaction) and outer._child is self:
            outer._child = None
        if self.strand is not None and (outer is None or outer.strand is not self.strand):
            self.strand.close()

    def _tell(self, callbacks: List[Callable[[], object]]) -> None:
        for callback in callbacks:
            try:
                callback()
            except Exception:
                _logger.exception("a callback of a transaction failed")

    # Steps, on a thread or on a loop

    def _entered(self) -> Waiting[None]:
        self._check_outer()
        try:
            if self._outer is None and self._mode == "rw":
                if not self.database.is_open:
                    yield from work(self.database._opened)
                self._home = self.database._connections
                # On a loop this is where others are waited for, which takes no thread.
                self._held = yield from self._home.acquire_writer_steps(self)
            yield from work(self.begin)
            self.enter()
        except GeneratorExit:
            self.leave()
            self.rollback()
            raise
        except BaseException:
            self.leave()
            yield from surely(self.rollback, self.rollback)
            raise

    def _ended(self, error: Optional[BaseException]) -> Waiting[None]:
        self.leave()
        if error is None and not self._aborted:
            yield from surely(self.commit, self.rollback)
            return
        yield from surely(self.rollback, self.rollback)
        if error is None:
            raise AbortError("the transaction was aborted")

    def _give_up(self) -> None:
        """An interrupt may have come at any moment: end it if it has not ended."""
        self.leave()
        self.rollback()

    _forgotten = _give_up

    @waiting
    def _enter(self) -> Waiting[Self]:
        yield from self._entered()
        return self

    @waiting
    def _exit(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Waiting[None]:
        yield from self._ended(error)

    # An interrupt that comes after the last step would leave a transaction that nobody ends.

    @_as_steps_of(_enter)
    def __enter__(self) -> Self:
        try:
            self._begin_block()
            return self._enter()
        except BaseException:
            self._give_up()
            raise

    @ends
    @_as_steps_of(_exit)
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._exit(kind, error, trace)
            self._end_block()
        except BaseException:
            self._give_up()
            raise


def run(transaction: Transaction, function: Callable[..., Any]) -> Waiting[Any]:
    """Do ``function`` in a transaction, and give what it returns once that is committed."""
    arguments = (transaction,) if _takes_one(function) else ()
    try:
        yield from transaction._entered()
        try:
            result = yield from ask(function, *arguments)
            if inspect.iscoroutine(result):
                result.close()
                raise InvalidArgumentError("a coroutine function cannot be awaited here: use selfdb.aio.indexie")
        except GeneratorExit:
            transaction.leave()
            transaction.rollback()
            raise
        except BaseException as error:
            yield from transaction._ended(error)
            raise
        yield from transaction._ended(None)
    except KeyboardInterrupt:
        transaction._give_up()
        raise
    return result


def _takes_one(function: Callable[..., Any]) -> bool:
    """Whether the function has to be given an argument."""
    if not callable(function):
        raise InvalidArgumentError(f"transaction() takes a function, not {function!r}")
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(
        each.default is each.empty and each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
        for each in parameters
    )


def _mode(mode: Any) -> str:
    known = _MODES.get(mode) if isinstance(mode, str) else None
    if known is None:
        raise InvalidArgumentError(f'the mode of a transaction is "rw" or "r", not {mode!r}')
    return known


def _names(database: Indexie, tables: Any) -> Tuple[str, ...]:
    if not isinstance(tables, (str, Table, Iterable)):
        raise InvalidArgumentError(f"tables are a name, a table, or a list of these, not {tables!r}")
    listed = [tables] if isinstance(tables, (str, Table)) else list(tables)
    if not listed:
        raise InvalidArgumentError("a transaction lists at least one table")
    names: List[str] = []
    for each in listed:
        # What is no table's name is refused here, before anything is begun.
        name = each.name if isinstance(each, Table) else database.table(each).name
        if isinstance(each, Table) and each.db is not database:
            raise InvalidArgumentError(f"{name!r} is a table of another database")
        if name not in names:
            names.append(name)
    return tuple(names)


def _callback(callback: Any, name: str) -> Callable[[], object]:
    return partial(function_for(callback, f"{name}()"))


class _Bound(Table[Any]):
    """A table for as long as a transaction lasts."""

    def __init__(self, transaction: Transaction, name: str) -> None:
        super().__init__(transaction.database, name)
        self._transaction = transaction
        self._validate = transaction.database.table(name)._validate

    def _store(self) -> StoreSpec:
        self._transaction.check_here()
        return super()._store()

    def _fast(self) -> Optional[Reader]:
        return None  # only the transaction knows what its rows are
