"""What a store and an index are, once a schema string has been read: values that nobody changes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Optional, Tuple, Union

__all__ = ["EncodedKey", "IndexSpec", "StoreSpec"]

EncodedKey = Union[int, float, bytes]
"""A key as the file holds it. SQLite's own order of these (numbers, then bytes) is the order of the keys."""


@dataclass(frozen=True)
class IndexSpec:
    """One index of a store.

    :ivar name: as ``where()`` names it: ``"email"``, ``"address.city"``, ``"[last+first]"``.
    :ivar paths: the (dotted) paths that it takes its key from; several when it is compound.
    :ivar compound: whether its key is the list of its paths' values.
    :ivar unique: whether no two rows may share a key.
    :ivar multi: whether a list gives one entry for each element.
    :ivar number: which column ``i<number>`` of the store's table, or which table ``m<store>_<number>`` of a multi-entry
        index, holds it; 0 until it was placed in a file. Two specs that differ in it only are equal.
    """

    name: str
    paths: Tuple[str, ...]
    compound: bool = False
    unique: bool = False
    multi: bool = False
    number: int = field(default=0, compare=False)

    def __hash__(self) -> int:
        return hash(self.name)

    def __str__(self) -> str:
        return f"{'&' if self.unique else ''}{'*' if self.multi else ''}{self.name}"


@dataclass(frozen=True)
class StoreSpec:
    """One store: its key and its indexes.

    :ivar name: the name that the schema declares.
    :ivar key_paths: where in a document its key stands; empty when keys are kept out of line.
    :ivar compound_key: whether the key is the list of its paths' values.
    :ivar auto: whether missing keys are generated.
    :ivar indexes: in the order of the schema string.
    :ivar number: which table ``s<number>`` holds it; 0 until it was placed in a file. Two specs that differ in it only
        are equal.
    """

    name: str
    key_paths: Tuple[str, ...] = ()
    compound_key: bool = False
    auto: bool = False
    indexes: Tuple[IndexSpec, ...] = ()
    number: int = field(default=0, compare=False)
    _by_name: Dict[str, IndexSpec] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._by_name.update((index.name, index) for index in self.indexes)

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def key_name(self) -> str:
        """The key as ``where()`` and a schema name it: ``"id"``, ``"[a+b]"``, or ``""`` when it is out of line."""
        joined = "+".join(self.key_paths)
        return f"[{joined}]" if self.compound_key else joined

    def index(self, name: str) -> Optional[IndexSpec]:
        """The index of that name, or ``None``."""
        return self._by_name.get(name)

    def __str__(self) -> str:
        return ", ".join(["++" * self.auto + self.key_name, *map(str, self.indexes)])
