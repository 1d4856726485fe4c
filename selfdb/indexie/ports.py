"""What the parts of the store ask of each other: where is read from, where is written to, and what passes between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Dict, NamedTuple, Optional, Protocol, Tuple

from .keys.ranges import Range
from .schema.specs import EncodedKey, IndexSpec, StoreSpec

__all__ = ["Effect", "Entry", "Row", "Sink", "View"]


class Row(NamedTuple):
    """A stored row.

    :ivar version: commit seq of its last change.
    :ivar text: the document as it is stored.
    """

    key: EncodedKey
    version: int
    text: str


Entry = Tuple[EncodedKey, EncodedKey, str]
"""What a scan yields: index key, key, stored document (``""`` where documents were not asked for). When the key itself
is scanned both keys are equal."""


class Effect(NamedTuple):
    """The change of one row, as hooks and the outbox see it.

    :ivar op: ``"add"``, ``"update"`` or ``"delete"``.
    :ivar old: the stored document before, ``None`` when there was none.
    :ivar new: the stored document after, ``None`` when there is none.
    :ivar all: whether the whole store was cleared; there is one effect for it, whose key is 0.
    """

    store: StoreSpec
    op: str
    key: EncodedKey
    old: Optional[str]
    new: Optional[str]
    all: bool = False


class View(Protocol):
    """One consistent state of the stores, to read from. For one thread at a time."""

    @property
    def seq(self) -> int:
        """Commit seq of the newest commit that it shows."""

    def get(self, store: StoreSpec, key: EncodedKey) -> Optional[Row]:
        """The row with this key."""

    def many(self, store: StoreSpec, keys: Sequence[EncodedKey]) -> Dict[EncodedKey, Row]:
        """The rows with these keys that exist."""

    def scan(
        self,
        store: StoreSpec,
        source: Optional[IndexSpec],
        ranges: Sequence[Range],
        *,
        reverse: bool = False,
        limit: Optional[int] = None,
        offset: int = 0,
        documents: bool = True,
    ) -> Iterator[Entry]:
        """Entries in the order of (index key, key); ``source`` ``None`` is the key.

        :param ranges: sorted, and no two of them touch (see :func:`~selfdb.indexie.keys.ranges.union`).
        """

    def count(self, store: StoreSpec, source: Optional[IndexSpec], ranges: Sequence[Range]) -> int:
        """How many entries :meth:`scan` would yield."""

    def close(self) -> None:
        """Give back what it holds. Harmless when repeated."""


class Sink(View, Protocol):
    """Where a write goes: a transaction of the file, or an overlay. It stores; what a write means is said elsewhere.

    :ivar explicit: whether it goes on after the call that writes: then a row that fails leaves the others as they are.
    """

    explicit: bool

    def next_key(self, store: StoreSpec) -> int:
        """The key to generate for the next row. It is used up by :meth:`saw_key`, which follows once the row is there;
        an overlay may use it up at once.

        :raises ConstraintError: when there are none left.
        """

    def saw_key(self, store: StoreSpec, number: float) -> None:
        """A row with this numeric key was added: the generator goes on above it."""

    def insert(self, store: StoreSpec, key: EncodedKey, document: Any, text: str) -> None:
        """Add a row.

        :raises ConstraintError: when the key or one of a unique index exists; nothing was changed then.
        """

    def replace(self, store: StoreSpec, old: Row, document: Any, text: str) -> None:
        """Put another document in the place of ``old``, under the same key.

        :raises ConstraintError: when another row has a key of a unique index; nothing was changed then.
        """

    def remove(self, store: StoreSpec, old: Row, document: Any = None) -> None:
        """Delete the row ``old``; ``document`` is its decoded document, if the caller has it."""

    def clear(self, store: StoreSpec) -> int:
        """Delete all rows; how many there were."""

    def wants(self, store: StoreSpec, op: str) -> bool:
        """Whether anybody is to be told of this kind of change, so that an :class:`Effect` has to be made."""

    def effect(self, effect: Effect) -> None:
        """One row was changed by a write that is not silent."""

    def savepoint(self) -> AbstractContextManager[object]:
        """Undo everything of its block when the block raises."""
