"""The outbox: operations that durable hooks have still to be told of, kept in the file until they have been."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from functools import partial
from typing import Any, List, NamedTuple, Optional, Tuple

from ...core.call import on_a_loop
from ...core.clock import SYSTEM_CLOCK, Clock
from ...core.forks import renew_after_fork
from ...core.marks import blocking, inner, passing
from ...core.waits import Pause, Waiting, waiting, work
from ..errors import InvalidArgumentError, InvalidStateError
from ..file.lease import Leased, Transacted
from ..functions import function_for
from ..keys.keys import decode
from ..keys.stored import known
from ..keys.values import load
from ..scope import current
from . import outbox_tables
from .delivery import Delivery, Store
from .hooks import Drop, Retry
from .outbox_tables import Stored

__all__ = ["Outbox", "OutboxEntry"]

log = logging.getLogger("selfdb.indexie")


class OutboxEntry(NamedTuple):
    """One operation that the outbox holds.

    :ivar id: its number; entries of one key are delivered in the order of their numbers.
    :ivar operation_id: what its hooks are given as such, at every attempt.
    :ivar key: the row's key; ``None`` when the whole table was cleared.
    :ivar item: the new document, ``None`` when the row was deleted.
    :ivar old: the document before.
    :ivar all: whether the whole table was cleared.
    :ivar state: ``"ready"`` or ``"dead"``.
    :ivar attempts: how often it was tried; 0 again when some of its hooks have succeeded and others run elsewhere.
    :ivar next_at: when it is due, in UTC.
    :ivar last_error: what the hook that failed last said.
    :ivar hooks: the names of the hooks that it requires still.
    """

    id: int
    operation_id: str
    table: str
    op: str
    key: Any
    item: Any
    old: Any
    all: bool
    optimistic: bool
    state: str
    attempts: int
    created_at: datetime
    next_at: datetime
    last_error: Optional[str]
    hooks: Tuple[str, ...]


def _entry(found: Tuple[Stored, Tuple[str, ...]]) -> OutboxEntry:
    stored, names = found
    return OutboxEntry(
        stored.id,
        stored.operation,
        stored.store,
        stored.op,
        None if stored.key is None else decode(stored.key),
        None if stored.item is None else load(stored.item),
        None if stored.old is None else known(stored.old),
        bool(stored.cleared),
        bool(stored.optimistic),
        stored.state,
        stored.attempts,
        datetime.fromtimestamp(stored.created, timezone.utc),
        datetime.fromtimestamp(stored.next_at, timezone.utc),
        stored.last_error,
        names,
    )


class Outbox:
    """What durable hooks have still to be told: ``db.outbox``. May be shared by threads.

    An entry is written in the transaction of the change itself, by whichever process makes it, and requires each hook
    that was ever registered for that table and operation until that one has succeeded or is retired. A process delivers
    to the hooks that it has registered, on one thread, in order for each key; an entry that cleared a table waits for
    all before it, and holds up all after it. An entry may be delivered more than once (the program may end between a
    hook's success and its record), always with the same ``operation_id``.

    A hook that raises is tried again after a random time up to a bound, which doubles from 1 s to 5 min. It may raise
    ``db.outbox.Retry(after=seconds)`` to say when, or ``db.outbox.Drop(reason)``: the entry is dead then, holds up
    nothing, and is kept until :meth:`retry` or :meth:`drop`.
    """

    Retry = Retry
    Drop = Drop

    def __init__(self, database: Any, clock: Clock = SYSTEM_CLOCK) -> None:
        self._database = database
        self._clock = clock
        self._on_dead: List[Callable[[Stored, Tuple[str, ...]], object]] = []
        self._max_attempts: Optional[int] = None
        self._paused = False
        self._delivery: Optional[Delivery] = None
        renew_after_fork(self)

    def _renew_in_child(self) -> None:
        # Its threads are the parent's; those of the child begin with its first commit.
        if self._delivery is not None:
            self._delivery = self._new_delivery()

    # Its life, which is the database's

    @inner
    def begin(self) -> None:
        """The database is being opened: from now on there may be something to deliver."""
        self._delivery = self._new_delivery()

    @inner
    def opened(self) -> None:
        """The database is open: say in the file which hooks there are, and begin to deliver."""
        self._announce_now()
        self.wake()

    def _new_delivery(self) -> Delivery:
        database = self._database
        store = Store(
            self._transaction,
            lambda: database._connections.reader(),
            lambda: database._hooks.posts(),
            self._announce_now,
            lambda: list(self._on_dead),
            lambda: self._paused,
            lambda: self._max_attempts,
            lambda connection: connection.one(database._opened().newest),
        )
        return Delivery(store, database._timing, self._clock)

    @inner
    def wake(self) -> None:
        """There may be something to do."""
        delivery = self._delivery
        if delivery is not None and (self._on_dead or self._database._hooks.posts()):
            delivery.start()

    @inner
    def announce(self) -> None:
        """A durable hook was registered."""
        if self._delivery is None:
            return
        # Whoever is on an event loop must not wait for the file, and in a transaction the file is locked by ourselves.
        if not on_a_loop() and current(self._database) is None:
            self._announce_now()
        self.wake()

    @inner
    def close(self) -> None:
        """The database is closed."""
        delivery, self._delivery = self._delivery, None
        if delivery is not None:
            delivery.close()

    def _announce_now(self) -> None:
        hooks = self._database._hooks
        if hooks.unannounced()[0]:
            with self._transaction() as connection:
                # Looked at again: what was retired meanwhile, or by the one who wrote last, is not announced anew.
                posts, era = hooks.unannounced()
                outbox_tables.announce(connection, posts)
                connection.commit()
                hooks.announced(posts, era)

    @staticmethod
    def _tell_dead(callback: Callable[[OutboxEntry], object], stored: Stored, names: Tuple[str, ...]) -> None:
        try:
            callback(_entry((stored, names)))
        except BaseException:
            log.exception("a callback of on_dead() failed")

    # Reading and writing the file

    def _transaction(self) -> Transacted:
        return Transacted(self._database._connections)

    def _opened(self) -> None:
        """Open the database if it was never; one that was closed stays so."""
        database = self._database
        if database._upgrading() is not None:
            raise InvalidStateError("the database is being opened: there is no outbox yet")
        database._opened()

    def _change(self) -> Transacted:
        database = self._database
        self._opened()
        scope = current(database)
        if scope is not None and scope.locks:
            raise InvalidStateError("the outbox cannot be changed within a transaction, which holds the file's lock")
        return self._transaction()

    def _snapshot(self) -> Leased:
        self._opened()
        return Leased(self._database._connections)

    # What there is

    @blocking
    def pending(self, table: Any = None) -> int:
        """How many entries (of one table, or of the store of that name) are neither delivered nor dead, in all
        processes.

        :raises InvalidArgumentError: when it is neither a table nor a name.
        """
        store = None if table is None else _store_of(table)
        self._opened()
        connection = self._database._connections.reader()
        with connection.lock:
            return outbox_tables.pending(connection, store)

    @blocking
    def entries(self, state: Optional[str] = None) -> List[OutboxEntry]:
        """What the outbox holds, in its order.

        :param state: ``"ready"`` or ``"dead"``; both by default.
        :raises InvalidArgumentError: when it is something else.
        """
        if state not in (None, "ready", "dead"):
            raise InvalidArgumentError(f"state={state!r}: an entry is 'ready' or 'dead'")
        with self._snapshot() as connection:
            connection.begin_snapshot()
            found = outbox_tables.entries(connection, state)
        return [_entry(each) for each in found]

    @waiting
    def flush(self, timeout: Optional[float] = None) -> Waiting[bool]:
        """Wait until everything is delivered, dead entries aside; whether it is.

        It does not wait for hooks that neither this process has nor another one is just running, nor while it is
        paused. An entry whose hook fails is waited for, until it is tried again.

        :param timeout: for how many seconds at most; without it, as long as it takes.
        :raises InvalidArgumentError: when it is negative, or no number.
        :raises DatabaseClosedError: when the database is closed, or is so meanwhile.
        :raises InvalidStateError: in a hook, which would wait for itself.
        """
        if timeout is not None and (not isinstance(timeout, (int, float)) or not timeout >= 0):
            raise InvalidArgumentError(f"timeout={timeout!r}: it is a number of seconds, 0 or more")
        yield from work(self._opened)
        delivery = self._delivery
        if delivery is not None and delivery.runs_here:
            raise InvalidStateError("flush() in a hook would wait for that hook itself")
        end = None if timeout is None else time.monotonic() + timeout
        self.wake()
        while delivery is not None:
            moment = delivery.settled.moment
            left, hopeful = yield from work(self._left)
            if not left:
                return True
            seconds = self._database._timing.outbox_poll
            if end is not None:
                seconds = min(seconds, end - time.monotonic())
            if not hopeful or seconds <= 0 or delivery is not self._delivery:
                return False
            yield Pause(delivery.settled, moment, seconds)
        yield from work(self._opened)  # which raises: it was closed in this moment
        return False

    def _left(self) -> Tuple[int, bool]:
        """How many entries there are, and whether one of them is about to be delivered."""
        with self._snapshot() as connection:
            connection.begin_snapshot()
            left = outbox_tables.pending(connection)
            if not left:
                return 0, False
            hopeful = not self._paused and outbox_tables.concerns(connection, self._database._hooks.posts())
            return left, hopeful or outbox_tables.leased(connection, self._clock.time())

    # What is to become of it

    @property
    def max_attempts(self) -> Optional[int]:
        """After how many failures an entry is dead; ``None``, which is the default, is never."""
        return self._max_attempts

    @max_attempts.setter
    def max_attempts(self, attempts: Optional[int]) -> None:
        if attempts is not None and (isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1):
            raise InvalidArgumentError(f"max_attempts={attempts!r}: it is a whole number above 0, or None")
        self._max_attempts = attempts

    @blocking
    def retry(self, entry: int) -> bool:
        """Try an entry at once, also a dead one; false if there is none of that number.

        :param entry: the ``id`` of an :class:`OutboxEntry`.
        :raises InvalidStateError: in a transaction, which holds the file's lock.
        """
        _check_number(entry)
        with self._change() as connection:
            found = outbox_tables.revive(connection, entry, self._clock.time())
        self.wake()
        return found

    @blocking
    def drop(self, entry: int) -> bool:
        """Deliver it to nobody any more; false if there is none of that number. Otherwise as :meth:`retry`."""
        _check_number(entry)
        with self._change() as connection:
            return outbox_tables.drop(connection, entry)

    @blocking
    def retire(self, table: Any, name: Optional[str] = None) -> int:
        """Require a hook no more that is not part of the program any longer.

        Entries end that lack nothing else, and new ones do not require it, until it is registered again.

        :param table: whose hook it is.
        :param name: its name; by default all durable hooks of the table are retired.
        :returns: how many entries ended.
        :raises InvalidStateError: in a transaction, which holds the file's lock.
        """
        store = _store_of(table)
        with self._change() as connection:
            ended = outbox_tables.retire(connection, store, name)
            connection.commit()
            self._database._hooks.retire(store, name)  # before anybody else writes, and could announce it anew
        self.wake()
        return ended

    @passing()
    def pause(self) -> None:
        """Begin no delivery in this process until :meth:`resume`."""
        self._paused = True

    @passing()
    def resume(self) -> None:
        """Deliver again."""
        self._paused = False
        self.wake()

    @passing(callbacks=("callback",))
    def on_dead(self, callback: Callable[[OutboxEntry], object]) -> Callable[[], None]:
        """Call ``callback(entry)`` once for each entry that dies, on the outbox's thread.

        One process is told, once: the first that has such a callback. Entries that died before count too.

        :returns: a function that ends it.
        """
        mourner = partial(self._tell_dead, function_for(callback, "on_dead()"))  # equal to itself only
        self._on_dead.append(mourner)
        self.wake()

        def off() -> None:
            with suppress(ValueError):  # it has ended already, perhaps on another thread in this moment
                self._on_dead.remove(mourner)

        return off

    def __reduce__(self) -> Any:
        raise TypeError("an Outbox cannot be pickled or copied; it belongs to its database")

    def __repr__(self) -> str:
        return f"<Outbox of {self._database!r}>"


def _store_of(table: Any) -> str:
    name = table if isinstance(table, str) else getattr(table, "name", None)
    if not isinstance(name, str):
        raise InvalidArgumentError(f"a table or its name is wanted, not {table!r}")
    return name


def _check_number(entry: Any) -> None:
    if isinstance(entry, bool) or not isinstance(entry, int) or not -(2**63) <= entry < 2**63:
        raise InvalidArgumentError(f"the id of an entry is wanted, a whole number, not {entry!r}")
