"""Checks of arguments before any I/O. Every one raises `InvalidRequestError` with the argument's name."""

from __future__ import annotations

from typing import Any

from ..exceptions import InvalidRequestError

__all__ = ["choice", "flag", "is_token", "text", "whole_number"]

_LARGEST = 10**100
"""Beyond any server's; a number of more than 4300 digits has no text in Python."""


def whole_number(value: Any, what: str, low: int, high: int | None = None) -> int:
    """``value`` if it is an ``int`` (no ``bool``) from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidRequestError(f"{what} must be an int, not {type(value).__name__}")
    if value < low or value > (_LARGEST if high is None else high):
        bounds = f"{low} or more" if high is None else f"from {low} to {high}"
        shown = value if abs(value) <= _LARGEST else "a number of so many digits"
        raise InvalidRequestError(f"{what} must be {bounds}, not {shown}")
    return value


def text(value: Any, what: str, longest: int, *, allow_empty: bool = False) -> str:
    """``value`` if it is a ``str`` of at most ``longest`` characters, without NUL and not empty."""
    if not isinstance(value, str):
        raise InvalidRequestError(f"{what} must be a str, not {type(value).__name__}")
    if not value and not allow_empty:
        raise InvalidRequestError(f"{what} must not be empty")
    if len(value) > longest:
        raise InvalidRequestError(f"{what} must have at most {longest} characters, not {len(value)}")
    if "\0" in value:
        raise InvalidRequestError(f"{what} must not contain NUL")
    return value


def choice(value: Any, what: str, allowed: tuple[str, ...]) -> str:
    """``value`` in lower case if it is one of ``allowed``."""
    folded = value.lower() if isinstance(value, str) else value
    if folded not in allowed:
        raise InvalidRequestError(f"{what} must be one of {', '.join(allowed)}")
    return str(folded)


def flag(value: Any, what: str) -> bool:
    """``value`` if it is a ``bool``."""
    if not isinstance(value, bool):
        raise InvalidRequestError(f"{what} must be True or False, not {type(value).__name__}")
    return value


def is_token(value: object) -> bool:
    """Whether ``value`` can stand in a header as a token: printable ASCII without blanks, and not empty."""
    return isinstance(value, str) and bool(value) and all(33 <= ord(character) <= 126 for character in value)
