"""Bringing a file to the declared version: creating it, or going from version to version in one transaction."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple, TypeVar

from ...core.marks import blocking
from ..errors import InvalidStateError, InvalidTableError, UpgradeError
from ..file import log
from ..file.connection import Connection
from ..file.lease import Lease
from ..file.writer import Writer
from ..ports import Sink, View
from ..scope import Scope
from . import catalogue
from .schema import Schema, same_key
from .specs import StoreSpec

if TYPE_CHECKING:
    from ..database import Indexie
    from ..tables.table import Table

__all__ = ["UpgradeTransaction", "Upgrading", "bring_up", "call_hook"]

T = TypeVar("T")


def call_hook(hook: Callable[..., Any], argument: Any) -> Any:
    """Call ``hook(argument)``, or ``hook()`` if it takes none."""
    try:
        parameters = inspect.signature(hook).parameters.values()
    except (TypeError, ValueError):  # built in, and it does not say
        return hook(argument)
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    takes = any(each.kind in positional or each.kind is inspect.Parameter.VAR_POSITIONAL for each in parameters)
    return hook(argument) if takes else hook()


class Upgrading(Scope):
    """What the hooks of an upgrade find themselves in: everything they do is part of its transaction, and silent.

    :ivar schema: the stores that the file has at this moment.
    """

    kind = "upgrade"
    locks = True

    def __init__(self, database: Indexie, connection: Connection, schema: Schema) -> None:
        super().__init__(database)
        self._connection = connection
        self.schema = schema
        self.stores: Dict[str, StoreSpec] = dict(schema.stores)
        self._dropped: List[str] = []
        self._made: Optional[Writer] = None

    @property
    def writer(self) -> Writer:
        """The one that writes; made when it is needed, for the schema of the moment."""
        if self._made is None:
            self._made = Writer(self.database, self.schema, silent=True, connection=self._connection)
            self._made.explicit = True
        return self._made

    def write(self, stores: Sequence[StoreSpec], work: Callable[[Sink], T], silent: bool) -> T:
        return self.written(self.writer, work)

    def view(self, stores: Sequence[StoreSpec], lease: Lease) -> View:
        return self.writer

    def drop(self, name: str) -> None:
        """Have a store go when the hook is over; from now on it cannot be used."""
        if name not in self.stores:
            raise InvalidTableError(f"there is no store {name!r}", table=name)
        del self.stores[name]
        self._dropped.append(name)

    def settle(self) -> List[str]:
        """The hooks of a version are over: what they wrote is complete. The names of the stores that they dropped."""
        writer, self._made = self._made, None
        if writer is not None:
            writer.finish()
        dropped, self._dropped = self._dropped, []
        return dropped

    def now(self, schema: Schema) -> None:
        """The file has other stores from here on."""
        self.schema = schema
        self.stores = dict(schema.stores)


@blocking
class UpgradeTransaction:
    """What a hook of an upgrade, or of ``on_populate``, is given."""

    mode = "rw"

    def __init__(self, scope: Upgrading) -> None:
        self._scope = scope

    @property
    def active(self) -> bool:
        """Whether the upgrade still runs."""
        return self._scope.active

    @property
    def scope(self) -> Tuple[str, ...]:
        """The names of the stores that the file has at this moment."""
        return tuple(self._scope.stores)

    @property
    def db(self) -> Indexie:
        """The database."""
        database: Indexie = self._scope.database
        return database

    def table(self, name: str) -> Table[Any]:
        """A store of the file, declared or not.

        :raises InvalidTableError: when the file has no store of this name.
        """
        return self.db.table(name)

    def __getitem__(self, name: str) -> Table[Any]:
        return self.db.table(name)

    def __getattr__(self, name: str) -> Table[Any]:
        if name.startswith("_") or name not in self._scope.stores:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return self.db.table(name)


class _Chain:
    """One file on its way up. All of it is in the transaction of ``connection``."""

    def __init__(self, database: Indexie, connection: Connection, schema: Schema) -> None:
        self._connection = connection
        self._schema = schema
        self._scope = Upgrading(database, connection, schema)

    def _become(self, stores: Mapping[str, StoreSpec]) -> None:
        self._schema = Schema.of(self._schema.verno, stores)
        self._scope.now(self._schema)

    def step(self, declared: Mapping[str, Optional[StoreSpec]], hooks: Sequence[Callable[..., Any]]) -> None:
        """From one version to the next."""
        stores = dict(self._schema.stores)
        for name, spec in declared.items():
            if spec is not None:
                before = stores.get(name)
                stores[name] = self._altered(before, spec) if before else catalogue.create_store(self._connection, spec)
        self._become(stores)
        gone = {name for name, spec in declared.items() if spec is None and name in stores}
        gone.update(self._run(hooks))
        for name in gone:
            catalogue.drop_store(self._connection, stores.pop(name))
        self._become(stores)

    def _altered(self, before: StoreSpec, wanted: StoreSpec) -> StoreSpec:
        if not same_key(before, wanted):
            raise UpgradeError(
                f"the primary key of {wanted.name!r} cannot be changed (from {before.key_name!r} to "
                f"{wanted.key_name!r}, generated or not); declare another store, and move the rows in an upgrade"
            )
        kept = set(wanted.indexes)
        spec = before
        for index in before.indexes:
            if index not in kept:
                spec = catalogue.drop_index(self._connection, spec, index)
        there = set(spec.indexes)
        spec = catalogue.add_indexes(
            self._connection, spec, tuple(each for each in wanted.indexes if each not in there)
        )
        return catalogue.order_indexes(self._connection, spec, [index.name for index in wanted.indexes])

    def _run(self, hooks: Iterable[Callable[..., Any]]) -> List[str]:
        scope = self._scope
        transaction = UpgradeTransaction(scope)
        for hook in hooks:
            scope.enter()
            try:
                call_hook(hook, transaction)
            finally:
                scope.leave()
        return scope.settle()

    def populate(self, hooks: Sequence[Callable[..., Any]]) -> None:
        """Have a new file filled."""
        if self._run(hooks):
            raise InvalidStateError("drop() is for upgrades; a new file has what is declared")

    def end(self, verno: int) -> Schema:
        """The file has this version now."""
        catalogue.set_version(self._connection, self._schema.verno, verno)
        newest = self._connection.one(log.NEWEST)
        changes = log.ChangeSet()
        changes.everything()
        log.append(self._connection.execute, newest[0] + 1, newest[1], changes)
        return Schema.of(verno, self._schema.stores)


Step = Tuple[int, Mapping[str, Optional[StoreSpec]], Sequence[Callable[..., Any]]]
"""A version: its number, its stores and its hooks."""


def create(
    database: Indexie,
    connection: Connection,
    verno: int,
    stores: Mapping[str, Optional[StoreSpec]],
    populate: Sequence[Callable[..., Any]],
) -> Schema:
    """Make a new file's stores and have it filled. The transaction is the caller's, who commits it."""
    catalogue.create(connection)
    chain = _Chain(database, connection, Schema.of(0, {}))
    chain.step(stores, ())
    chain.populate(populate)
    return chain.end(verno)


def bring_up(database: Indexie, connection: Connection, schema: Schema, steps: Sequence[Step]) -> Schema:
    """Bring a file from its version through all of ``steps``. The transaction is the caller's, who commits it.

    :raises UpgradeError: when anything goes wrong; its cause says what.
    """
    chain = _Chain(database, connection, schema)
    verno = schema.verno
    for verno, stores, hooks in steps:
        try:
            chain.step(stores, hooks)
        except UpgradeError:
            raise
        except Exception as error:
            raise UpgradeError(
                f"the upgrade to version {verno} failed and was undone ({type(error).__name__}: {error})"
            ) from error
    return chain.end(verno)
