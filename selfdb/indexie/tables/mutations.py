"""What the writes of one row mean, wherever they go: keys, defaults, update forms, and who is told of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Dict, List, Optional, Tuple

from ..errors import DataCloneError, DataError, InvalidArgumentError, KeyNotFoundError
from ..keys.keys import decode, encode
from ..keys.markers import DELETE, SKIP
from ..keys.paths import MISSING, assign, lookup
from ..keys.stored import document_of
from ..keys.values import dump, load
from ..ports import Effect, Row, Sink
from ..schema.specs import EncodedKey, StoreSpec
from .changes import Changes, revised

__all__ = [
    "LAST_GENERATED",
    "Prepared",
    "Validate",
    "clear",
    "delete",
    "insert",
    "key_in",
    "numbered",
    "numbered_from",
    "prepared",
    "put",
    "put_over",
    "remove",
    "revise",
    "update",
]

LAST_GENERATED = 2**53
"""The last key that is generated: beyond it a double does not tell two of them from each other."""

Validate = Optional[Callable[[Any], object]]
"""Raises when a document is not to be stored."""


Prepared = Tuple[Any, str, Optional[EncodedKey]]
"""A document on its way into a store, its text, and its key; ``None`` when that is to be generated."""


def prepared(store: StoreSpec, item: Any, key: Any = None, validate: Validate = None) -> Prepared:
    """Make a document ready without touching the file.

    :raises DataError: when its key is missing, is none, or is another one than ``key``.
    :raises DataCloneError: when it cannot be stored.
    """
    document, text = dump(item)
    if validate is not None:
        validate(document)
    paths = store.key_paths
    if len(paths) == 1 and not store.compound_key and type(document) is dict:
        path = paths[0]
        value = document.get(path) if "." not in path else _present(document, path)
        if value is not None:
            encoded = encode(value)
            if key is not None and encode(key) != encoded:
                _refuse_key(store, key)
            return document, text, encoded
        if key is None:
            if store.auto:
                return document, text, None
            raise DataError(f"{store.name!r} wants a key at {path!r}, and the document has none", key=None)
        return _filled(store, document, text, key)
    if not paths:
        if key is None and not store.auto:
            raise DataError(f"{store.name!r} keeps its keys out of line: give one as key", key=None)
        return document, text, None if key is None else encode(key)
    if not isinstance(document, dict):
        raise DataError(
            f"{store.name!r} keeps its keys in its documents, which have to be dicts, not {type(document).__name__}",
            key=key,
        )
    found = key_in(store, document)
    if key is not None:
        if found is None:
            return _filled(store, document, text, key)
        if encode(key) != found:
            _refuse_key(store, key)
    if found is None:
        raise DataError(f"{store.name!r} wants a key at {store.key_name!r}, and the document has none", key=None)
    return document, text, found


def _refuse_key(store: StoreSpec, key: Any) -> None:
    raise DataError(f"the key given is not the one that the document has at {store.key_name!r}", key=key)


def _present(document: Any, path: str) -> Any:
    value = lookup(document, path)
    return None if value is MISSING else value


def key_in(store: StoreSpec, document: Any) -> Optional[EncodedKey]:
    """The key that stands in a document; ``None`` when there is none, or not all parts of it.

    :raises DataError: when what stands there is no key.
    """
    values = [_present(document, path) for path in store.key_paths]
    if None in values:
        return None
    return encode(values if store.compound_key else values[0])


def _filled(store: StoreSpec, document: Dict[str, Any], text: str, key: Any) -> Prepared:
    """The document with ``key`` where its key belongs; nothing of the one that was given is changed."""
    encoded = encode(key)
    values = [key]
    if store.compound_key:
        if not isinstance(key, (list, tuple)) or len(key) != len(store.key_paths):
            raise DataError(f"a key of {store.name!r} is a list of {len(store.key_paths)} values", key=key)
        values = list(key)
    document = load(text)
    for path, value in zip(store.key_paths, values):
        present = _present(document, path)
        if present is not None and encode(present) != encode(value):
            _refuse_key(store, key)
        if not assign(document, path, value):
            raise DataError(f"the key cannot be put at {path!r}: something that is no dict stands on the way", key=key)
    document, text = dump(document)
    return document, text, encoded


def numbered(store: StoreSpec, row: Prepared, number: int) -> Prepared:
    """The row with a generated key, which its text has; its document only where an index wants it."""
    document, text, _ = row
    path, name, indexed = store.__dict__.get("_numbered") or _form(store)
    if path is None or path in document or '"$ix"' in text:
        return _filled(store, document, text, number) if store.key_paths else (document, text, number)
    if indexed:
        document = {**document, path: number}
    return document, f"{text[:-1]},{name}{number}}}" if len(text) > 2 else f"{{{name}{number}}}", number


def numbered_from(store: StoreSpec, rows: Sequence[Prepared], number: int) -> List[Prepared]:
    """Rows with generated keys that follow each other."""
    path, name, indexed = store.__dict__.get("_numbered") or _form(store)
    if path is None or indexed:
        return [numbered(store, row, key) for key, row in enumerate(rows, number)]
    # Most rows as numbered() does, without a call for each.
    return [
        numbered(store, (document, text, None), key)
        if len(text) == 2 or path in document or '"$ix"' in text
        else (document, f"{text[:-1]},{name}{key}}}", key)
        for key, (document, text, _) in enumerate(rows, number)
    ]


def _form(store: StoreSpec) -> Tuple[Optional[str], str, bool]:
    """The name of the field that a generated key goes to, as it is and in a text, and whether an index has it, too."""
    path: Optional[str] = store.key_paths[0] if store.key_paths and "." not in store.key_paths[0] else None
    indexed = any(path in index.paths for index in store.indexes)
    form = store.__dict__["_numbered"] = path, f"{dump(path)[1]}:", indexed
    return form


def insert(sink: Sink, store: StoreSpec, row: Prepared, silent: bool) -> EncodedKey:
    """Add a row; its key.

    :raises ConstraintError: when the key or one of a unique index exists; nothing was changed then.
    """
    if row[2] is None:
        row = numbered(store, row, sink.next_key(store))
    document, text, key = row
    assert key is not None
    sink.insert(store, key, document, text)
    if store.auto and type(key) is not bytes:
        sink.saw_key(store, key)  # type: ignore[arg-type]
    if not silent and sink.wants(store, "add"):
        sink.effect(Effect(store, "add", key, None, text))
    return key


def put(sink: Sink, store: StoreSpec, row: Prepared, silent: bool) -> EncodedKey:
    """Add a row, or replace the one under its key; its key."""
    _, _, key = row
    if key is None:
        return insert(sink, store, row, silent)
    return put_over(sink, store, sink.get(store, key), row, silent)


def put_over(sink: Sink, store: StoreSpec, old: Optional[Row], row: Prepared, silent: bool) -> EncodedKey:
    """:func:`put` of a row with a key, where ``old`` is what is there now."""
    if old is None:
        return insert(sink, store, row, silent)
    document, text, _ = row
    if old.text != text:
        _replace(sink, store, old, document, text, silent)
    return old.key


def _replace(sink: Sink, store: StoreSpec, old: Row, document: Any, text: str, silent: bool) -> None:
    sink.replace(store, old, document, text)
    if not silent and sink.wants(store, "update"):
        sink.effect(Effect(store, "update", old.key, old.text, text))


def update(
    sink: Sink,
    store: StoreSpec,
    key: Any,
    changes: Changes,
    missing: str,
    silent: bool,
    validate: Validate = None,
) -> Optional[bool]:
    """Change one row; ``True`` if it was there, ``False`` if not or if it was skipped, ``None`` if it was created.

    :param missing: ``"raise"``, ``"ignore"`` or ``"insert"``.
    """
    old = sink.get(store, encode(key))
    if old is not None:
        return revise(sink, store, old, changes, silent, validate)
    if missing == "raise":
        raise KeyNotFoundError(f"{store.name!r} has no row {key!r}", table=store.name, key=key)
    if missing == "ignore":
        return False
    if not isinstance(changes, Mapping):
        raise InvalidArgumentError("a row that is missing can be created of a dict of changes, not by a function")
    document = revised({}, changes, lambda _: False)
    insert(sink, store, prepared(store, document, key, validate), silent)
    return None


def revise(sink: Sink, store: StoreSpec, old: Row, changes: Changes, silent: bool, validate: Validate = None) -> bool:
    """Change the row ``old``; whether it was not skipped.

    :raises DataError: when the changes lead to another key; nothing was changed then.
    """
    document = revised(document_of(store, old.key, old.text), changes, lambda draft: _text_of(draft) == old.text)
    if document is SKIP:
        return False
    if document is DELETE:
        remove(sink, store, old, silent)
        return True
    document, text = dump(document)
    if text == old.text:
        return True
    if store.key_paths and (not isinstance(document, dict) or key_in(store, document) != old.key):
        raise DataError(
            f"the key of a row of {store.name!r} cannot be changed: add it under the other key and delete this one",
            key=decode(old.key),
        )
    if validate is not None:
        validate(document)
    _replace(sink, store, old, document, text, silent)
    return True


def _text_of(document: Any) -> Optional[str]:
    try:
        return dump(document)[1]
    except DataCloneError:
        return None


def delete(sink: Sink, store: StoreSpec, key: EncodedKey, silent: bool) -> bool:
    """Delete a row; whether there was one."""
    old = sink.get(store, key)
    if old is None:
        return False
    remove(sink, store, old, silent)
    return True


def remove(sink: Sink, store: StoreSpec, old: Row, silent: bool) -> None:
    """Delete the row ``old``."""
    sink.remove(store, old)
    if not silent and sink.wants(store, "delete"):
        sink.effect(Effect(store, "delete", old.key, old.text, None))


def clear(sink: Sink, store: StoreSpec, silent: bool) -> int:
    """Delete all rows; how many there were."""
    count = sink.clear(store)
    if count and not silent and sink.wants(store, "delete"):
        sink.effect(Effect(store, "delete", 0, None, None, all=True))
    return count
