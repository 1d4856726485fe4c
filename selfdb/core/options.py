"""The knobs of a call: time-outs, deadline, retries and headers, checked where they are given."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Optional, Union

from ..exceptions import InvalidRequestError
from .retry import RetryPolicy

__all__ = ["NOT_GIVEN", "CallOptions", "NotGiven", "Timeout", "check_headers", "check_key"]

Timeout = Union[float, tuple[Optional[float], Optional[float]], None]
"""Seconds, or ``(connect, read)`` in seconds; ``None`` in any place means no limit there."""

LONGEST = 1e9
"""Seconds; operating systems refuse to wait for much longer."""

LONGEST_FIELD = 16 * 1024
"""Characters of one header; servers refuse much longer ones, each in its own way."""

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z"


class NotGiven:
    """The type of an argument left out, where ``None`` has a meaning of its own."""

    def __repr__(self) -> str:
        return "NOT_GIVEN"

    def __bool__(self) -> bool:
        return False


NOT_GIVEN = NotGiven()


def _seconds(value: Any, what: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidRequestError(f"{what} must be a number of seconds or None, not {type(value).__name__}")
    if not 0 < value <= LONGEST:
        raise InvalidRequestError(f"{what} must be above 0 and at most {LONGEST:.0f} seconds, or None for no limit")
    return float(value)


def _pair(timeout: Any) -> tuple[float | None, float | None]:
    if isinstance(timeout, (tuple, list)):
        if len(timeout) != 2:
            raise InvalidRequestError("timeout must be a number of seconds or a pair (connect, read)")
        return _seconds(timeout[0], "the connect timeout"), _seconds(timeout[1], "the read timeout")
    return _seconds(timeout, "timeout"), _seconds(timeout, "timeout")


def check_headers(headers: Mapping[str, str], reserved: frozenset[str]) -> dict[str, str]:
    """A copy of ``headers`` that cannot break out of its lines.

    :param reserved: lower-case names that are ours to set.
    :raises InvalidRequestError: for a name or value that is none, or a reserved name. No value is shown.
    """
    if not isinstance(headers, Mapping):
        raise InvalidRequestError(f"headers must be a mapping of names to values, not {type(headers).__name__}")
    checked = {}
    for name, value in headers.items():
        if not isinstance(name, str) or not re.match(_NAME, name):
            raise InvalidRequestError(f"{name!r} is not a header name")
        if name.lower() in reserved:
            raise InvalidRequestError(f"the header {name} is set by the client itself")
        if not isinstance(value, str):
            raise InvalidRequestError(f"the value of header {name} must be a str, not {type(value).__name__}")
        check_field_value(value, f"the value of header {name}")
        checked[name] = value
    return checked


def check_field_value(value: str, what: str) -> None:
    """:raises InvalidRequestError: if ``value`` cannot stand in one header line. It is not shown."""
    if len(value) > LONGEST_FIELD:
        raise InvalidRequestError(f"{what} is too long: {len(value)} characters, at most {LONGEST_FIELD} can go")
    if value != value.strip() or any(ord(c) < 32 or ord(c) == 127 or ord(c) > 255 for c in value):
        raise InvalidRequestError(f"{what} has control characters, blanks at its ends or characters beyond Latin-1")


def check_key(key: str) -> str:
    """``key`` as an idempotency key.

    :raises InvalidRequestError: if it is empty, longer than 255 characters or not printable ASCII.
    """
    if not isinstance(key, str) or not 1 <= len(key) <= 255 or not all(33 <= ord(c) <= 126 for c in key):
        raise InvalidRequestError("idempotency_key must be 1 to 255 printable ASCII characters without blanks")
    return key


class CallOptions(NamedTuple):
    """Immutable, so that clones and threads may share it.

    :ivar connect: seconds for look-up, TCP and TLS together.
    :ivar read: seconds for one wait on the server.
    :ivar deadline: seconds for a whole call with its retries and body.
    :ivar stream_deadline: the same for uploads and downloads; none unless a caller asked for one.
    :ivar headers: sent with every request.
    :ivar keyed_writes: whether each write gets an idempotency key of its own.
    """

    connect: Optional[float] = 5.0
    read: Optional[float] = 30.0
    deadline: Optional[float] = 60.0
    stream_deadline: Optional[float] = None
    retry: RetryPolicy = RetryPolicy()
    headers: Mapping[str, str] = MappingProxyType({})
    keyed_writes: bool = False

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self._asdict().items() if name != "headers")
        return f"CallOptions({shown})"  # without the headers, which may hold secrets

    def changed(
        self,
        *,
        timeout: Timeout | NotGiven = NOT_GIVEN,
        deadline: float | NotGiven | None = NOT_GIVEN,
        stream_deadline: float | NotGiven | None = NOT_GIVEN,
        max_retries: int | NotGiven = NOT_GIVEN,
        headers: Mapping[str, str] | NotGiven = NOT_GIVEN,
        idempotent_writes: bool | NotGiven = NOT_GIVEN,
        reserved: frozenset[str] = frozenset(),
    ) -> CallOptions:
        """A copy with what is given changed; ``headers`` are added to those that are there.

        :raises InvalidRequestError: for a value out of range or of a wrong type.
        """
        changes: dict[str, Any] = {}
        if not isinstance(timeout, NotGiven):
            changes["connect"], changes["read"] = _pair(timeout)
        if not isinstance(deadline, NotGiven):
            changes["deadline"] = _seconds(deadline, "deadline")
        if not isinstance(stream_deadline, NotGiven):
            changes["stream_deadline"] = _seconds(stream_deadline, "deadline")
        if not isinstance(max_retries, NotGiven):
            if isinstance(max_retries, bool) or not isinstance(max_retries, int) or max_retries < 0:
                raise InvalidRequestError("max_retries must be a whole number of 0 or more")
            changes["retry"] = self.retry._replace(max_retries=max_retries)
        if not isinstance(headers, NotGiven):
            changes["headers"] = {**self.headers, **check_headers(headers, reserved)}
        if not isinstance(idempotent_writes, NotGiven):
            if not isinstance(idempotent_writes, bool):
                raise InvalidRequestError("idempotent_writes must be True or False")
            changes["keyed_writes"] = idempotent_writes
        return self._replace(**changes)
