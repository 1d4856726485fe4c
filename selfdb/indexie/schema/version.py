"""One declared version of a database: its stores and what is done to a file that is older."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Dict, List, Optional

from ...core.marks import blocking, passing
from ..errors import SchemaError
from ..functions import function_for
from .schema import read_schema
from .specs import StoreSpec

if TYPE_CHECKING:
    from ..database import Indexie

__all__ = ["Version"]


@blocking
class Version:
    """Made by :meth:`Indexie.version`. To be used before the database is opened, by one thread."""

    def __init__(self, database: Indexie, number: int) -> None:
        self._database = database
        self._number = number
        self._stores: Dict[str, Optional[StoreSpec]] = {}
        self._hooks: List[Callable[..., Any]] = []

    @property
    def number(self) -> int:
        """Which version it is."""
        return self._number

    def stores(self, schemas: Mapping[str, Optional[str]]) -> Version:
        """Declare the stores that this version adds or changes; others stay as the version before has them.

        A schema is a string of comma-separated parts. The first is the primary key: ``++id`` generated, ``id`` given,
        ``++`` or nothing for keys outside of the documents, ``[a+b]`` compound. The others are indexes: ``name``,
        ``&email`` unique, ``*tags`` with an entry for each element of a list, ``[last+first]`` compound,
        ``address.city`` of a dict within. Called again it adds to what it was told.

        :param schemas: schema strings by the stores' names; ``None`` deletes a store.
        :raises SchemaError: when a schema is wrong; nothing was declared then.
        :raises InvalidStateError: when the database is open.
        """
        self._database._declaring()
        if not isinstance(schemas, Mapping):
            raise SchemaError(f"stores() takes a dict of schemas by name, not a {type(schemas).__name__}")
        read = {name: None if schema is None else read_schema(name, schema) for name, schema in schemas.items()}
        self._stores.update(read)
        return self

    @passing(callbacks=("hook",))
    def upgrade(self, hook: Callable[..., Any]) -> Version:
        """Have ``hook(tx)`` or ``hook()`` bring an older file's rows to this version.

        It runs in the transaction that upgrades the file, after the stores and indexes of this version were added and
        before the stores that it deletes are gone; what it reads and writes, through ``tx.table()`` or the database, is
        part of that transaction. Its writes call no hooks. When it raises, the file stays as it was. It does not run
        for a new file. Several run in the order in which they were given.

        :raises InvalidStateError: when the database is open.
        """
        self._database._declaring()
        self._hooks.append(function_for(hook, "upgrade()"))
        return self
