"""A document's keys in the indexes of its store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Dict, List, Optional, Tuple, Union

from ..schema.specs import EncodedKey, IndexSpec, StoreSpec
from .keys import LARGEST, SMALLEST, encode_or_none
from .paths import MISSING, lookup

__all__ = ["Extractor", "IndexKeys", "entries_of", "extractor_of", "index_key_of"]

IndexKeys = Tuple[Union[EncodedKey, Tuple[EncodedKey, ...], None], ...]
"""A document's key in each index, in the order of ``StoreSpec.indexes``: ``None`` where it is absent, and for a
multi-entry index the tuple of all its keys, ascending."""

_TEXT = b"\x30"


def index_key_of(index: IndexSpec) -> Callable[[Dict[str, Any]], Optional[EncodedKey]]:
    """What gives a document's key in an index that is not multi-entry; ``None`` for a document that is absent there."""
    if index.compound:
        parts = [_value_at(path) for path in index.paths]
        return lambda document: encode_or_none([part(document) for part in parts])
    path = index.paths[0]
    if "." in path:
        get = _value_at(path)
        return lambda document: encode_or_none(get(document))

    def key(document: Dict[str, Any]) -> Optional[EncodedKey]:
        value: Any = document.get(path)
        if type(value) is str:
            return _TEXT + value.encode()  # no document holds what cannot be encoded
        return None if value is None else encode_or_none(value)

    return key


def _keys_of(index: IndexSpec) -> Callable[[Sequence[Dict[str, Any]]], List[Any]]:
    """What gives the keys of many documents in an index, one for each."""
    if index.multi:
        entries = entries_of(index)
        return lambda documents: list(map(entries, documents))
    path = index.paths[0]
    if index.compound or "." in path:
        key = index_key_of(index)
        return lambda documents: list(map(key, documents))

    def keys(documents: Sequence[Dict[str, Any]]) -> List[Any]:
        values: Iterable[Any] = [document.get(path) for document in documents]
        # What most fields hold, without a call for it.
        return [
            _TEXT + value.encode()
            if type(value) is str
            else value
            if value is None or (type(value) is int and SMALLEST <= value <= LARGEST)
            else encode_or_none(value)
            for value in values
        ]

    return keys


def _value_at(path: str) -> Callable[[Dict[str, Any]], Any]:
    """What gives the value at a path; ``None``, which is no key either, where there is none."""
    if "." not in path:
        return lambda document: document.get(path)

    def value(document: Dict[str, Any]) -> Any:
        found = lookup(document, path)
        return None if found is MISSING else found

    return value


def entries_of(index: IndexSpec) -> Callable[[Dict[str, Any]], Tuple[EncodedKey, ...]]:
    """What gives a document's keys in a multi-entry index, ascending and without doubles."""
    get = _value_at(index.paths[0])

    def entries(document: Dict[str, Any]) -> Tuple[EncodedKey, ...]:
        value = get(document)
        elements = value if isinstance(value, (list, tuple, set, frozenset)) else (value,)
        keys = {key for key in map(encode_or_none, elements) if key is not None}
        return tuple(sorted(keys, key=lambda key: (type(key) is bytes, key)))

    return entries


def extractor_of(store: StoreSpec) -> Extractor:
    """The one of a store; made once for each spec."""
    extractor = store.__dict__.get("_extractor")
    if extractor is None:
        extractor = store.__dict__["_extractor"] = Extractor(store)
    return extractor


class Extractor:
    """Gives a document's keys in all indexes of one store. Immutable."""

    __slots__ = ("_absent", "_columns", "_multis", "_plain", "_singles")

    def __init__(self, store: StoreSpec) -> None:
        self._singles = [(at, index_key_of(index)) for at, index in enumerate(store.indexes) if not index.multi]
        self._multis = [(at, entries_of(index)) for at, index in enumerate(store.indexes) if index.multi]
        # The name of a field of the document itself, or what finds the key.
        self._plain: List[Tuple[Optional[str], Any]] = [
            (None if index.compound or "." in index.paths[0] else index.paths[0], index_key_of(index))
            for index in store.indexes
            if not index.multi
        ]
        self._columns = [_keys_of(index) for index in store.indexes]
        self._absent: IndexKeys = tuple(() if index.multi else None for index in store.indexes)

    def index_keys(self, document: Any) -> IndexKeys:
        """The document's keys, in the order of ``StoreSpec.indexes``."""
        if not isinstance(document, dict):
            return self._absent
        if not self._multis:
            found: List[Any] = []
            for name, extract in self._plain:
                if name is None:
                    found.append(extract(document))
                    continue
                value: Any = document.get(name)
                kind = type(value)
                # What most fields hold, without a call for it.
                if kind is str:
                    found.append(_TEXT + value.encode())
                elif value is None or (kind is int and SMALLEST <= value <= LARGEST):
                    found.append(value)
                else:
                    found.append(encode_or_none(value))
            return tuple(found)
        keys: List[Any] = list(self._absent)
        for at, extract in self._singles:
            keys[at] = extract(document)
        for at, entries in self._multis:
            keys[at] = entries(document)
        return tuple(keys)

    def columns(self, documents: Iterable[Any]) -> List[List[Any]]:
        """The keys of many documents, index by index: for each what :meth:`index_keys` gives in its place."""
        plain = [document if isinstance(document, dict) else {} for document in documents]
        return [column(plain) for column in self._columns]
