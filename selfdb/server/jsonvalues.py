"""JSON values in the one form that both databases keep: what is refused, how numbers and keys are written.

PostgreSQL's ``jsonb`` drops a negative zero, spells numbers out without exponent and orders the keys of
an object. SQLite keeps the text that it is given. So a value is brought into PostgreSQL's form before it is
stored anywhere: a reader then cannot tell which database answered.
"""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any, Dict, List, Tuple

__all__ = ["MAX_DEPTH", "canonical", "check_text", "dumps"]

MAX_DEPTH = 128
"""Levels of arrays and objects that a value may have; far below what either parser can take."""

_MAX_INTEGER_BITS = 1024


def check_text(text: str) -> str:
    """Return ``text``, or raise :class:`ValueError` if no database can keep it.

    PostgreSQL stores no NUL character, and a lone surrogate has no UTF-8 form.
    """
    if "\x00" in text:
        raise ValueError("text without NUL characters")
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError("text without lone surrogates") from None
    return text


def canonical(value: Any, depth: int = 0) -> Any:
    """Return a JSON value in its stored form.

    :raises ValueError: for NaN, infinities, integers of more than 1024 bits, NUL or lone surrogates in a
        string or key, and more than :data:`MAX_DEPTH` levels. The message says what was expected and never
        holds the value.
    """
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return check_text(value)
    if isinstance(value, int):
        if value.bit_length() > _MAX_INTEGER_BITS:
            raise ValueError("numbers of at most 308 digits")
        return value
    if isinstance(value, float):
        return _number(value)
    if depth >= MAX_DEPTH:
        raise ValueError(f"at most {MAX_DEPTH} nested levels")
    if isinstance(value, list):
        return [canonical(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return _object(value, depth)
    raise ValueError("a JSON value")


def _number(value: float) -> Any:
    if not math.isfinite(value):
        raise ValueError("finite numbers")
    if value == 0:
        return 0.0
    if value.is_integer() and "e" in repr(value):
        return int(value)  # exactly what the double is: whoever reads it as a double gets the same one
    return value


def _object(value: Dict[Any, Any], depth: int) -> Dict[str, Any]:
    pairs: List[Tuple[int, bytes, str]] = []
    for key in value:
        if not isinstance(key, str):
            raise ValueError("a JSON value")
        encoded = check_text(key).encode("utf-8")
        pairs.append((len(encoded), encoded, key))
    pairs.sort()
    return {key: canonical(value[key], depth + 1) for _, _, key in pairs}


def dumps(value: Any) -> str:
    """Return the text of a :func:`canonical` value, letter for letter as PostgreSQL prints ``jsonb``."""
    if isinstance(value, float):
        text = repr(value)
        return format(Decimal(text), "f") if "e" in text else text
    if isinstance(value, list):
        return "[" + ", ".join([dumps(item) for item in value]) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join([f"{_quoted(key)}: {dumps(item)}" for key, item in value.items()]) + "}"
    return json.dumps(value, ensure_ascii=False)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
