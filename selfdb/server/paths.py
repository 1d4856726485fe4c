"""The keys of stored objects: how a file name and a directory become one key, and which keys are refused.

A key is what the catalogue holds and what a download names. It is never a path of the file system: content
lives under generated names (see ``objects.py``), so even a key that slipped through could not leave the
store.
"""

from __future__ import annotations

import unicodedata
from typing import Optional

__all__ = ["MAX_KEY_LENGTH", "MAX_SEGMENT_LENGTH", "KeyRefused", "asked_key", "last_segment", "object_key"]

MAX_SEGMENT_LENGTH = 255
MAX_KEY_LENGTH = 1024


class KeyRefused(ValueError):
    """A key breaks a rule; the text says which one and never repeats the key (it may hold control
    characters).
    """


def object_key(filename: str, path: Optional[str] = None) -> str:
    """The key of an upload, without a leading slash.

    ``path`` is a directory (``notes.pdf`` in ``/docs`` is ``docs/notes.pdf``). Deployed applications send the
    whole key there instead, so a ``path`` that equals the file name or ends with ``/`` and the file name *is*
    the key. Slashes around either are dropped.

    :raises KeyRefused: an empty name, or a key that breaks a rule.
    """
    name = filename.strip("/")
    if not name:
        raise KeyRefused("filename must not be empty")
    directory = (path or "").strip("/")
    if not directory:
        return _checked(name)
    if directory == name or directory.endswith("/" + name):
        return _checked(directory)
    return _checked(f"{directory}/{name}")


def asked_key(path: str) -> str:
    """The key that a download names, with or without leading slashes.

    :raises KeyRefused: a key that no upload could have made.
    """
    return _checked(path.lstrip("/"))


def last_segment(key: str) -> str:
    """The name of the file itself: ``notes.pdf`` of ``docs/notes.pdf``."""
    return key.rpartition("/")[2]


def _checked(key: str) -> str:
    if not key:
        raise KeyRefused("Invalid path: it is empty")
    if len(key) > MAX_KEY_LENGTH:
        raise KeyRefused(f"Invalid path: longer than {MAX_KEY_LENGTH} characters")
    if "\\" in key:
        raise KeyRefused("Invalid path: backslashes are not allowed")
    # Cc are the control characters, NUL among them; Cs are lone surrogates, which no database could store.
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in key):
        raise KeyRefused("Invalid path: control characters are not allowed")
    for segment in key.split("/"):
        if not segment:
            raise KeyRefused("Invalid path: empty segments are not allowed")
        if segment in (".", ".."):
            raise KeyRefused("Invalid path: '.' and '..' are not allowed as segments")
        if len(segment) > MAX_SEGMENT_LENGTH:
            raise KeyRefused(f"Invalid path: a segment is longer than {MAX_SEGMENT_LENGTH} characters")
    return key
