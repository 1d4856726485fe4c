"""The text that a value has in a query of PostgREST: its form, its quotes, and what is refused before it is sent."""

from __future__ import annotations

import datetime
import decimal
import enum
import math
import re
import uuid
from collections.abc import Iterable, Mapping, Set
from typing import Any
from urllib.parse import quote

from ..core.encoding import encode_json
from ..exceptions import InvalidRequestError

__all__ = [
    "array",
    "checked",
    "elements",
    "encoded",
    "like_literal",
    "listed",
    "name",
    "needs_no_encoding",
    "quoted",
    "text_of",
    "unquoted",
]

_SAFE = "!$'()*,:@/"
"""What may stand in a query as it is, beside letters, digits and ``-._~``; ``+`` may not, it stands for a blank."""

_AS_IT_IS = re.compile(r"[A-Za-z0-9._~!$'()*,:@/-]*\Z")
"""What has nothing to encode, told faster than by encoding it."""

_QUOTED = re.compile(r"""[,.:()"\\{}\s\0-\x1f]""")
_CONTROL = re.compile(r"[\0-\x1f\x7f-\x9f]")

_PLAIN_DIGITS = 400
"""Digits up to which a ``Decimal`` is written without an exponent; PostgreSQL reads both."""


def encoded(text: str) -> str:
    """``text`` for a query string."""
    return quote(text, safe=_SAFE)


def needs_no_encoding(text: str) -> bool:
    """Whether :func:`encoded` would leave ``text`` as it is."""
    return _AS_IT_IS.match(text) is not None


def checked(text: str, what: str) -> str:
    """``text`` if it can be sent and stored.

    :raises InvalidRequestError: if it holds NUL, which PostgreSQL does not store, or a lone surrogate.
    """
    if "\0" in text:
        raise InvalidRequestError(f"{what} must not contain NUL")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidRequestError(f"{what} holds a lone surrogate, which is no text") from None
    return text


def name(value: Any, what: str) -> str:
    """``value`` if it may name a column, a table or the like; its grammar is the server's to judge.

    :raises InvalidRequestError: for anything but text, if it is empty, ``.`` or ``..``, or holds control characters.
    """
    if not isinstance(value, str):
        raise InvalidRequestError(f"{what} must be a str, not {type(value).__name__}")
    if value.isidentifier() and value.isascii():  # nearly all
        return value
    if not value.strip():
        raise InvalidRequestError(f"{what} must not be empty")
    if value in (".", ".."):
        raise InvalidRequestError(f"{what} must not be {value!r}")
    if _CONTROL.search(value):
        raise InvalidRequestError(f"{what} must not contain control characters")
    return checked(value, what)


def text_of(value: Any, what: str) -> str:
    """The text of one value: as it is written behind ``eq.``.

    :raises InvalidRequestError: for ``None``, NaN and infinities, datetimes without a time zone, NUL, lone
        surrogates, and types that have no text of their own.
    """
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, str):
        return checked(value, what)
    if value is None:
        raise InvalidRequestError(f"{what} must not be None here; use is_() or eq() to look for null")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float, decimal.Decimal)):
        return _number(value, what)
    if isinstance(value, datetime.datetime) and value.utcoffset() is None:
        raise InvalidRequestError(
            f"{what} is a datetime without a time zone, which is ambiguous; use datetime.now(timezone.utc) or "
            "value.replace(tzinfo=...), or value.isoformat() for a column without a time zone"
        )
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, (Mapping, list, tuple)):
        return checked(encode_json(dict(value) if isinstance(value, Mapping) else value).decode(), what)
    hint = "; decode it first" if isinstance(value, (bytes, bytearray, memoryview)) else ""
    raise InvalidRequestError(f"{what}: a value of type {type(value).__name__} has no text in a query{hint}")


def _number(value: Any, what: str) -> str:
    if isinstance(value, decimal.Decimal):
        if not value.is_finite():
            raise InvalidRequestError(f"{what} must be a finite number")
        exponent = value.as_tuple().exponent
        short = isinstance(exponent, int) and -_PLAIN_DIGITS <= exponent <= _PLAIN_DIGITS
        return format(value, "f") if short else str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidRequestError(f"{what} must be a finite number")
        return float.__repr__(value)
    try:
        return int.__repr__(value)
    except ValueError:  # of thousands of digits
        raise InvalidRequestError(f"{what} is a number of too many digits") from None


def quoted(text: str) -> str:
    """``text`` as it stands inside ``in.(…)``, ``or=(…)`` and ``and=(…)``: in quotes where it has to be."""
    return text if text and not _QUOTED.search(text) else in_quotes(text)


def in_quotes(text: str) -> str:
    """``text`` between double quotes."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def unquoted(column: str) -> str:
    """The name that rows bear ``column`` under."""
    if len(column) < 2 or column[0] != '"' or column[-1] != '"':
        return column
    return re.sub(r"\\(.)", r"\1", column[1:-1])


def listed(texts: Iterable[str]) -> str:
    """The list behind ``in.``."""
    inside = ",".join(map(quoted, texts))
    # One empty text alone would be read as a list of nothing.
    return '("","")' if inside == '""' else f"({inside})"


def elements(values: Any, what: str) -> tuple[Any, ...]:
    """The values of a list, a tuple, a set or any other iterable.

    :raises InvalidRequestError: for text and mappings, which are one value each, for what is no iterable, and for one
        that fails.
    """
    if isinstance(values, (str, bytes, bytearray, Mapping)) or not isinstance(values, Iterable):
        raise InvalidRequestError(f"{what} must be a list of values, not {type(values).__name__}")
    try:
        return tuple(values)
    except Exception as error:  # noqa: BLE001 - theirs, whatever it is
        raise InvalidRequestError(f"{what}: reading the values failed with {type(error).__name__}") from None


def array(value: Any, what: str) -> str:
    """What ``cs.``, ``cd.`` and ``ov.`` compare with: a list as PostgreSQL's array, a mapping as JSON, or one text."""
    if isinstance(value, (list, tuple, Set)):
        return _array(tuple(value), what, 0)
    return text_of(value, what)


def _array(values: tuple[Any, ...], what: str, depth: int) -> str:
    if depth >= 6:  # as many dimensions as PostgreSQL has
        raise InvalidRequestError(f"{what} is nested too deeply for an array")
    parts = []
    for value in values:
        if value is None:
            parts.append("NULL")
        elif isinstance(value, (list, tuple)):
            parts.append(_array(tuple(value), what, depth + 1))
        else:
            # Always in quotes: NULL, blanks at the ends and the empty text have a meaning without them.
            parts.append(in_quotes(text_of(value, what)))
    return "{" + ",".join(parts) + "}"


def like_literal(text: str) -> str:
    r"""``text`` as a part of a pattern for ``like`` and ``ilike`` that matches nothing but itself.

    ::

        client.from_("files").like("name", filters.escape_like(typed) + "%")

    :raises InvalidRequestError: for ``*``, which PostgREST takes for ``%`` wherever it stands; use ``eq`` for a whole
        value with a star.
    """
    if not isinstance(text, str):
        raise InvalidRequestError(f"a pattern must be a str, not {type(text).__name__}")
    if "*" in text:
        raise InvalidRequestError(
            "a pattern cannot match a star, which PostgREST takes for %; use eq() for a whole value"
        )
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
