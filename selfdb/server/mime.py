"""MIME types as text: what is stored for an upload, what a bucket allows, what a browser may show."""

from __future__ import annotations

import mimetypes
import re
from typing import Optional, Sequence

__all__ = ["DEFAULT_TYPE", "MAX_LENGTH", "essence", "is_allowed", "is_inert", "is_pattern", "stored_type"]

DEFAULT_TYPE = "application/octet-stream"
MAX_LENGTH = 255

_NAME = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_TYPE = re.compile(rf"{_NAME}/{_NAME}(?:[ \t]*;[ -~]*)?\Z")
_PATTERN = re.compile(rf"{_NAME}/(?:\*|{_NAME})\Z")

# Python's own table only: the files that an operating system adds would make two servers answer differently.
_guesses = mimetypes.MimeTypes()

_INERT = frozenset(
    (
        DEFAULT_TYPE,
        "application/json",
        "application/pdf",
        "application/zip",
        "text/plain",
        "text/csv",
        "text/markdown",
    )
)


def essence(mime_type: str) -> str:
    """``type/subtype`` in lower case, without parameters."""
    return mime_type.partition(";")[0].strip().lower()


def stored_type(declared: Optional[str], filename: str) -> str:
    """What is stored, and later sent, for an upload.

    The declared type if it reads like one (printable ASCII, at most 255 characters); with none declared the
    guess from the file's name; else ``application/octet-stream``. What cannot be a header is never stored.
    """
    text = (declared or "").strip()
    if not text:
        guessed, encoding = _guesses.guess_type(filename, strict=True)
        return guessed if guessed is not None and encoding is None else DEFAULT_TYPE
    if len(text) > MAX_LENGTH or _TYPE.match(text) is None:
        return DEFAULT_TYPE
    return text


def is_pattern(text: str) -> bool:
    """Whether ``text`` may stand in ``allowed_mime_types``: ``type/subtype`` or ``type/*``."""
    return len(text) <= MAX_LENGTH and _PATTERN.match(text) is not None and not text.startswith("*/")


def is_allowed(mime_type: str, allowed: Optional[Sequence[str]]) -> bool:
    """Whether a bucket with these ``allowed_mime_types`` takes the type. None or an empty list allows all."""
    if not allowed:
        return True
    asked = essence(mime_type)
    family = asked.partition("/")[0] + "/*"
    return any(pattern.lower() in (asked, family) for pattern in allowed)


def is_inert(mime_type: str) -> bool:
    """Whether a browser that shows the content in place runs nothing of it in this server's origin."""
    asked = essence(mime_type)
    if asked in _INERT:
        return True
    family, _, subtype = asked.partition("/")
    return family in ("image", "audio", "video", "font") and "xml" not in subtype
