"""A document as it stands in its row, where something else than this package may have damaged it."""

from __future__ import annotations

from typing import Any, Optional

from ..errors import DatabaseCorruptError
from ..schema.specs import EncodedKey, StoreSpec
from .extraction import IndexKeys, extractor_of
from .keys import decode
from .values import load

__all__ = ["document_of", "known", "old_keys", "text_of"]


def document_of(store: StoreSpec, key: EncodedKey, text: str) -> Any:
    """The document of a row.

    :raises DatabaseCorruptError: when it cannot be read; it says which row that is.
    """
    try:
        return load(text)
    except DatabaseCorruptError as error:
        shown = decode(key)
        raise DatabaseCorruptError(
            f"the row {shown!r} of {store.name!r} cannot be read: {error.message}; it can be deleted, or put() over",
            table=store.name,
            key=shown,
        ) from error


def known(text: str) -> Any:
    """A document that was there; ``None`` when it could not be read."""
    try:
        return load(text)
    except DatabaseCorruptError:
        return None


def old_keys(store: StoreSpec, text: str) -> Optional[IndexKeys]:
    """The index keys of a document that was there; ``None`` when it cannot be read, and had whichever."""
    try:
        return extractor_of(store).index_keys(load(text))
    except DatabaseCorruptError:
        return None


def text_of(stored: Any) -> str:
    """The text of what a row holds as bytes; an empty one, which is no document's, when it is no text."""
    try:
        return str(stored, "utf-8") if isinstance(stored, bytes) else str(stored)
    except UnicodeDecodeError:
        return ""
