"""What a call finds itself in: a transaction, an overlay, an upgrade or a live query's run, told by the context."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, Optional, TypeVar

from ..core.call import carry
from ..core.forks import renew_after_fork
from ..core.marks import inner
from ..core.strand import Strand
from ..core.waits import Waiting, work
from .blocks import Block
from .errors import SubTransactionError
from .file.lease import Lease
from .ports import Sink, View
from .schema.specs import StoreSpec

__all__ = ["PASS", "Scope", "current", "surely"]

T = TypeVar("T")
S = TypeVar("S", bound=Sink)

_innermost: ContextVar[Optional[Scope]] = carry(ContextVar("selfdb_indexie_scope", default=None))

PASS: Any = object()
"""Returned by a scope that leaves a call to the scope around it."""


@inner
class Scope(Block):
    """Base of all that a context may be in.

    It is bound to the context that entered it: to that thread or task, and to those that begin with a copy of its
    context. A scope that ended counts for nothing wherever such a copy still holds it.

    :ivar database: the `Indexie` that it is of; a scope means nothing to another.
    :ivar parent: the scope around it when it was entered, of whichever database.
    :ivar active: whether it counts.
    :ivar kind: what it is, for those that do not go together with it.
    :ivar locks: whether the file is locked for it, so that nobody else can write.
    :ivar strand: what makes its calls one after the other where they come from an event loop.
    :ivar writing: whether a write of its is under way, in which a function of the user's may be.
    :ivar lock: held by each call that uses its sink or view, since several threads may share its context.
    """

    database: Any
    parent: Optional[Scope]
    lock: Any
    kind = ""
    locks = False
    strand: Optional[Strand] = None
    writing = False

    def __init__(self, database: Any) -> None:
        self.database = database
        self.parent = None
        self.active = False
        renew_after_fork(self)
        self._renew_in_child()

    def _renew_in_child(self) -> None:
        self.lock = threading.RLock()  # another thread of the parent may have held it, in the middle of a call

    def enter(self) -> None:
        """From here on calls of this context find it. It does not wait for anything."""
        self.parent = _alive(_innermost.get())
        self.active = True
        _innermost.set(self)

    def leave(self) -> None:
        """It counts no more, in no context. Callable from any of them, and again."""
        self.active = False
        if _innermost.get() is self:
            _innermost.set(_alive(self.parent))

    def joins(self, database: Any) -> bool:
        """Asked when a call of another database than its own finds it: whether it is of that one from now on.

        :raises InvalidStateError: when it may not be passed by.
        """
        return False

    def write(self, stores: Sequence[StoreSpec], work: Callable[[Sink], T], silent: bool) -> T:
        """Do ``work`` on this scope's sink and return what it returns, or :data:`PASS`.

        :raises ReadOnlyError, NotInScopeError: when the scope does not allow it.
        """
        result: T = PASS
        return result

    def written(self, sink: S, work: Callable[[S], T]) -> T:
        """Do ``work`` on the sink. Under :attr:`lock`.

        :raises SubTransactionError: when this is part of another write, whose rows would be others than it has read.
        """
        self.check_no_write()
        self.writing = True
        try:
            return work(sink)
        finally:
            self.writing = False

    def check_no_write(self) -> None:
        """Return if no write is under way. Under :attr:`lock`, so that it could only be one that this is part of.

        :raises SubTransactionError: if there is.
        """
        if self.writing:
            raise SubTransactionError("a function given to a write must not write itself: the rows are being changed")

    def view(self, stores: Sequence[StoreSpec], lease: Lease) -> Optional[View]:
        """What reads in this scope read from; ``None`` leaves it to the scope around. Use it under :attr:`lock`.

        :param lease: for what is held for this read alone.

        :raises NotInScopeError: when the scope does not cover one of the stores.
        """
        return None


def surely(do: Callable[[], object], undo: Callable[[], object]) -> Waiting[None]:
    """Do ``do``, which may block, though nobody waits for it any more.

    Where that cannot be, since the event loop has ended under whoever is in the scope, ``undo`` is called here: nobody
    else will, and others wait for the lock.
    """
    try:
        yield from work(do, shield=True)
    except (RuntimeError, GeneratorExit):
        undo()
        raise


def _alive(scope: Optional[Scope]) -> Optional[Scope]:
    while scope is not None and not scope.active:
        scope = scope.parent
    return scope


def current(database: Any, around: Optional[Scope] = None) -> Optional[Scope]:
    """The innermost active scope of this database in the present context; or the next one around ``around``."""
    scope = _innermost.get() if around is None else around.parent
    while scope is not None and not (scope.active and (scope.database is database or scope.joins(database))):
        scope = scope.parent
    return scope
