"""All hooks of one database: which this process has, which the file knows of, and who is told of a write."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Dict, FrozenSet, List, NamedTuple, Optional, Protocol, Tuple, Union

from ...core.clock import SYSTEM_CLOCK, Clock
from ...core.dispatch import Dispatcher, Job
from ...core.forks import renew_after_fork
from ..errors import InvalidArgumentError, InvalidStateError
from ..ports import Effect
from ..schema.specs import StoreSpec
from . import outbox_tables, payload
from .hooks import Hook, TableHooks, call, in_hook, make_hook
from .outbox_tables import New, Post
from .strategy import Strategy

if TYPE_CHECKING:
    from ..file.connection import Connection

__all__ = ["Hooks", "Listening"]

log = logging.getLogger("selfdb.indexie")


class Listening(NamedTuple):
    """Who is told of what, at one time. Never changes.

    :ivar wanted: the (store, operation) that anybody at all is told of.
    :ivar durable: the names that an outbox entry requires.
    :ivar background: hooks of this process that are told once, from memory.
    :ivar inline: hooks of this process, durable or not, in the order of their registration.
    """

    number: int
    generation: int
    wanted: FrozenSet[Tuple[str, str]]
    durable: Mapping[Tuple[str, str], Tuple[str, ...]]
    background: Mapping[Tuple[str, str], Tuple[Hook, ...]]
    inline: Mapping[Tuple[str, str], Tuple[Hook, ...]]


class Announcer(Protocol):
    """Who has to know of hooks and of what they are to be told: the outbox."""

    def announce(self) -> None: ...

    def wake(self) -> None: ...


class Hooks:
    """All hooks of one database, and the strategies of its tables. May be shared by threads.

    :param outbox: told when the file may not know yet of a durable hook, and when there is something to deliver.
    """

    def __init__(self, outbox: Announcer, clock: Clock = SYSTEM_CLOCK) -> None:
        self._outbox = outbox
        self._clock = clock
        self._lock = threading.Lock()
        self._registered: Dict[Tuple[str, str], Tuple[Hook, ...]] = {}
        self._announced: set[Post] = set()
        self._generation = 0
        self._strategies: Dict[str, Strategy] = {}
        self._latest: Optional[Listening] = None
        self._dispatcher = Dispatcher(name="selfdb-indexie-hooks")
        renew_after_fork(self)

    def _renew_in_child(self) -> None:
        # Another thread of the parent may have held it: the outbox's does so at each of its looks.
        self._lock = threading.Lock()

    # What the user says

    def table(self, name: str) -> TableHooks:
        """The hooks of one table."""
        return TableHooks(self, name)

    def register(self, table: str, op: str, callback: Callable[..., Any], name: Optional[str], durable: bool) -> None:
        """Have ``callback`` told of ``op`` on the table.

        :raises InvalidArgumentError: when it cannot be called, or its name will not do.
        """
        hook = make_hook(op, callback, name, durable)
        with self._lock:
            others = self._registered.get((table, op), ())
            if durable and any(each.durable and each.name == hook.name for each in others):
                raise InvalidArgumentError(
                    f"a hook named {hook.name!r} is told of {op!r} on {table!r} already, and the outbox knows hooks by "
                    f'their names: give another one, on_{op}(callback, name="..."), or off() the first'
                )
            self._registered[table, op] = (*others, hook)
            self._generation += 1
        if durable:
            self._outbox.announce()

    def unregister(self, table: str, callback: Callable[..., Any]) -> bool:
        """Forget all registrations of ``callback`` for a table; whether there were any."""
        with self._lock:
            before = sum(map(len, self._registered.values()))
            for place, hooks in self._registered.items():
                if place[0] == table:
                    self._registered[place] = tuple(hook for hook in hooks if hook.callback != callback)
            self._generation += 1
            return sum(map(len, self._registered.values())) < before

    def retire(self, table: str, name: Optional[str]) -> None:
        """Forget a table's durable hooks (that of one name): they were retired from the file."""
        with self._lock:
            for place, hooks in self._registered.items():
                if place[0] == table:
                    self._registered[place] = tuple(
                        hook for hook in hooks if not hook.durable or (name is not None and hook.name != name)
                    )
            self._announced = {
                post for post in self._announced if post[0] != table or (name is not None and post[2] != name)
            }
            self._generation += 1

    def strategy(self, table: str) -> Strategy:
        """When the table's hooks are told."""
        return self._strategies.get(table, Strategy.LOCAL_FIRST)

    def set_strategy(self, table: str, strategy: Union[Strategy, str]) -> None:
        """Have them told so.

        :raises InvalidArgumentError: when there is no such strategy.
        """
        try:
            self._strategies[table] = Strategy(strategy)
        except ValueError:
            raise InvalidArgumentError(
                f"{strategy!r} is no strategy: Strategy.LOCAL_FIRST or Strategy.NETWORK_FIRST"
            ) from None

    # What a write asks

    def silent(self, said: Optional[bool]) -> bool:
        """Whether a write is silent: as it says, else within a hook."""
        return in_hook() if said is None else bool(said)

    def network_first(self, stores: Iterable[StoreSpec]) -> bool:
        """Whether the hooks of one of the stores come before the write."""
        return bool(self._strategies) and any(
            self._strategies.get(store.name) is Strategy.NETWORK_FIRST for store in stores
        )

    def check_local(self, stores: Iterable[StoreSpec]) -> None:
        """Return if a transaction may write to them.

        :raises InvalidStateError: when hooks would have to run while the file is locked.
        """
        if self.network_first(stores):
            raise InvalidStateError(
                "a table whose strategy is NETWORK_FIRST cannot be written within db.transaction(): its hooks would "
                "hold up every writer. Use start_transaction(), or silent=True to write without hooks"
            )

    def listening(self, connection: Connection, number: int) -> Listening:
        """Who is told of what, as a write transaction finds it.

        :param number: how often the file's catalogue of hooks has changed.
        """
        latest = self._latest
        if latest is None or latest.number != number or latest.generation != self._generation:
            latest = self._latest = self._listening(number, outbox_tables.catalogue(connection))
        return latest

    def _listening(self, number: int, catalogue: Iterable[Post]) -> Listening:
        with self._lock:
            registered = dict(self._registered)
            announced = set(self._announced)
            generation = self._generation
        names: Dict[Tuple[str, str], Dict[str, None]] = {}
        for store, op, name in catalogue:
            names.setdefault((store, op), {})[name] = None
        for (store, op), hooks in registered.items():
            for hook in hooks:
                # What was announced and is not in the catalogue any more was retired by another process.
                if hook.durable and (store, op, hook.name) not in announced:
                    names.setdefault((store, op), {})[hook.name] = None
        durable = {place: tuple(found) for place, found in names.items()}
        background = {
            place: some
            for place, some in (
                (place, tuple(h for h in hooks if not h.durable)) for place, hooks in registered.items()
            )
            if some
        }
        inline = {
            place: tuple(hook for hook in hooks if not hook.durable or hook.name in durable.get(place, ()))
            for place, hooks in registered.items()
        }
        return Listening(number, generation, frozenset({*durable, *background}), durable, background, inline)

    def enqueue(
        self,
        connection: Connection,
        listening: Listening,
        effects: Sequence[Effect],
        *,
        operations: Sequence[Tuple[str, float]] = (),
        done: Sequence[FrozenSet[str]] = (),
        optimistic: bool = False,
    ) -> bool:
        """Write the outbox entries of a transaction, within it; whether there are any.

        :param operations: operation id and time of each effect, where they have them already.
        :param done: the names of the hooks that have been told of each effect already.
        """
        now = self._clock.time()
        news: List[New] = []
        for place, (store, op, key, old, new, cleared) in enumerate(effects):
            names = listening.durable.get((store.name, op))
            if names and done and done[place]:
                names = tuple(name for name in names if name not in done[place])
            if names:
                operation, created = operations[place] if operations else (str(uuid.uuid4()), now)
                news.append(
                    New(
                        operation,
                        store.name,
                        op,
                        None if cleared else key,
                        new,
                        old,
                        cleared,
                        optimistic,
                        created,
                        names,
                    )
                )
        if news:
            outbox_tables.append(connection, news)
        return bool(news)

    def committed(
        self,
        listening: Listening,
        effects: Sequence[Effect],
        *,
        operations: Sequence[Tuple[str, float]] = (),
        optimistic: bool = False,
    ) -> None:
        """Have the outbox delivered, and tell those who are told from memory. For one who holds no lock."""
        if listening.durable:
            self._outbox.wake()
        if not listening.background:
            return
        now = self._clock.time()
        for place, (store, op, key, old, new, cleared) in enumerate(effects):
            for hook in listening.background.get((store.name, op), ()):
                operation, created = operations[place] if operations else (str(uuid.uuid4()), now)
                make = partial(
                    payload.build,
                    operation=operation,
                    store=store.name,
                    op=op,
                    key=key,
                    item=new,
                    old=old,
                    cleared=cleared,
                    created=created,
                    optimistic=optimistic,
                    attempt=1,
                )
                size = len(new or "") + len(old or "")
                dropped = partial(log.warning, "too much waits for the hook %s: a change is not told to it", hook.name)
                self._dispatcher.put(Job(partial(self._tell, (store.name, op), hook, make), size, dropped=dropped))

    def _tell(self, place: Tuple[str, str], hook: Hook, make: Callable[[], Dict[str, Any]]) -> None:
        with self._lock:
            if not any(each is hook for each in self._registered.get(place, ())):
                return  # it was taken away since the change
        try:
            call(hook, make())
        except BaseException as error:
            log.warning("the hook %s failed and is not tried again: %s", hook.name, error, exc_info=error)

    # What the outbox asks

    def posts(self) -> Dict[Post, Hook]:
        """The durable hooks of this process."""
        with self._lock:
            return {
                (store, op, hook.name): hook
                for (store, op), hooks in self._registered.items()
                for hook in hooks
                if hook.durable
            }

    def unannounced(self) -> Tuple[FrozenSet[Post], object]:
        """Those that the file may not know of, and what :meth:`announced` is to be given with them."""
        posts = self.posts()
        with self._lock:
            return frozenset(posts) - self._announced, self._announced

    def announced(self, posts: Iterable[Post], era: object) -> None:
        """It knows of these; nothing is noted when it was closed meanwhile, for the next file may be another one."""
        with self._lock:
            if era is self._announced:
                self._announced.update(posts)
                self._generation += 1

    def close(self) -> None:
        """Tell nobody any more."""
        self._dispatcher.close()
        with self._lock:
            self._announced = set()
            self._latest = None

    def reopen(self) -> None:
        """Tell again."""
        self._dispatcher.reopen()
