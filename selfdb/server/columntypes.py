"""The types that a column may have, and how a JSON value becomes a value of one.

A coerced value is what a reader gets back: timestamps, dates and uuids are strings in one spelling, decimals
are JSON numbers. The rules are PostgreSQL's; they are applied here, before either database sees the value,
so that both refuse and keep the same. How a value lies in a database is in ``storedtypes``.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Callable, Dict, Optional
from uuid import UUID, uuid4

from . import jsonvalues

__all__ = ["TYPE_PATTERN", "ColumnType", "Default", "parse_default", "parse_type", "shown", "timestamp_text"]

VARCHAR_LENGTH = 255
_MAX_VARCHAR_LENGTH = 10_485_760

_ALIASES = {
    "text": "text",
    "varchar": "varchar",
    "string": "varchar",
    "integer": "integer",
    "int": "integer",
    "bigint": "bigint",
    "boolean": "boolean",
    "bool": "boolean",
    "timestamp": "timestamp",
    "datetime": "timestamp",
    "jsonb": "jsonb",
    "json": "jsonb",
    "uuid": "uuid",
    "decimal": "decimal",
    "float": "float",
    "date": "date",
}
_VARCHAR = re.compile(r"varchar\s*\(\s*([0-9]{1,8})\s*\)")
_INTEGER = re.compile(r"[+-]?[0-9]{1,40}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,400}(?:\.[0-9]{0,400})?|\.[0-9]{1,400})(?:[eE][+-]?[0-9]{1,4})?")
_UUID = re.compile(
    r"[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII
)
_INSTANT = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,20}))?)?"
    r"(?:\s*(?:([Zz])|([+-])([0-9]{2})(?::?([0-9]{2}))?))?)?"
)
_BLANKS = " \t\n\r\f\v"
_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")


#: How the description of the API spells what :func:`parse_type` understands; case and blanks do not matter there.
TYPE_PATTERN = rf"^({'|'.join(sorted(_ALIASES))}|varchar\([1-9][0-9]{{0,6}}\))$"


@dataclass(frozen=True)
class ColumnType:
    """One type, as ``kind`` and for ``varchar`` its length in characters. Build it with :func:`parse_type`."""

    kind: str
    length: Optional[int] = None

    @property
    def label(self) -> str:
        """The type's name for messages, such as ``varchar(20)``."""
        return self.kind if self.length is None else f"{self.kind}({self.length})"

    @property
    def is_text(self) -> bool:
        """Whether row search looks into columns of this type."""
        return self.kind in ("text", "varchar")

    def coerce(self, value: Any) -> Any:
        """Return a JSON value (never ``None``) as a value of this type.

        :raises ValueError: if it is none; the message says what was expected, never what was given.
        """
        coerced = _COERCIONS[self.kind](value)
        if self.length is not None and len(coerced) > self.length:
            raise ValueError(f"text of at most {self.length} characters")
        return coerced

    def key(self, text: str) -> Any:
        """Return the text of a path as a value to compare a column with.

        :raises ValueError: if it is no value of this type, or rows cannot be told apart by this type.
        """
        if self.kind == "jsonb":
            raise ValueError("a column whose type can identify rows")
        return _COERCIONS[self.kind](text)

    def cast(self, value: Any, source: ColumnType) -> Any:
        """Return a stored value of the type ``source`` as one of this type, by way of its text if need be.

        :raises ValueError: if it has no counterpart.
        """
        try:
            return self.coerce(value)
        except ValueError:
            if isinstance(value, str):
                raise
        return self.coerce(_text_of(value, source))


def parse_type(text: str) -> ColumnType:
    """Return the type that ``text`` names, in any case.

    :raises ValueError: if there is no such type, or a ``varchar`` length outside 1 to 10485760.
    """
    name = text.strip().lower()
    match = _VARCHAR.fullmatch(name)
    if match:
        length = int(match.group(1))
        if not 1 <= length <= _MAX_VARCHAR_LENGTH:
            raise ValueError(f"varchar takes a length from 1 to {_MAX_VARCHAR_LENGTH}")
        return ColumnType("varchar", length)
    kind = _ALIASES.get(name)
    if kind is None:
        raise ValueError(
            "unknown column type; use text, varchar, varchar(n), integer, bigint, boolean, timestamp, jsonb, "
            "uuid, decimal, float or date"
        )
    return ColumnType(kind, VARCHAR_LENGTH if kind == "varchar" else None)


def timestamp_text(moment: datetime) -> str:
    """Return an aware ``moment`` in the only spelling that rows use; such texts sort as their times do."""
    return moment.astimezone(timezone.utc).isoformat(timespec="microseconds")


def shown(name: str) -> str:
    """Return a name that a caller sent, short and in ASCII, fit for a message."""
    return json.dumps(name[:63])


# -- values ----------------------------------------------------------------------------------------------


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("text")
    return jsonvalues.check_text(value)


def _whole(value: Any, bits: int, name: str) -> int:
    limit = 1 << (bits - 1)
    expected = f"{name} ({-limit} to {limit - 1})"
    if isinstance(value, str):
        stripped = value.strip(_BLANKS)
        if not _INTEGER.fullmatch(stripped):
            raise ValueError(expected)
        value = int(stripped)
    elif isinstance(value, float):
        if not value.is_integer():
            raise ValueError(expected)
        value = int(value)
    elif isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(expected)
    if not -limit <= value < limit:
        raise ValueError(expected)
    return int(value)


def _integer(value: Any) -> int:
    return _whole(value, 32, "integer")


def _bigint(value: Any) -> int:
    return _whole(value, 64, "bigint")


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        word = value.strip(_BLANKS).lower()
        # PostgreSQL takes every unambiguous beginning of a word; "o" alone could be on or off.
        if word and word != "o":
            if any(full.startswith(word) for full in _TRUE):
                return True
            if any(full.startswith(word) for full in _FALSE):
                return False
    raise ValueError("boolean")


def _number_text(value: Any, expected: str) -> str:
    if isinstance(value, str):
        stripped = value.strip(_BLANKS)
        if _NUMBER.fullmatch(stripped):
            return stripped
    elif isinstance(value, float):
        if math.isfinite(value):
            return repr(value)
    elif isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= 1100:
        return str(value)
    raise ValueError(expected)


def _float(value: Any) -> float:
    number = float(_number_text(value, "float"))
    if not math.isfinite(number):
        raise ValueError("float within the range of a double")
    return number + 0.0  # a negative zero becomes zero: SQLite keeps none


def _decimal(value: Any) -> float:
    expected = "decimal of at most 8 digits before the point"
    number = Decimal(_number_text(value, expected))
    if number.adjusted() > 8:
        raise ValueError(expected)
    # Halves go away from zero, as PostgreSQL rounds NUMERIC. Ten digits fit a double exactly enough to
    # print the same two decimals again.
    rounded = number.quantize(Decimal("0.01"), rounding=ROUND_HALF_UP)
    if abs(rounded) >= Decimal(10) ** 8:
        raise ValueError(expected)
    return float(rounded) + 0.0


def _timestamp(value: Any) -> str:
    expected = "timestamp (ISO 8601, such as 2025-01-02T03:04:05Z)"
    match = _INSTANT.fullmatch(value.strip(_BLANKS)) if isinstance(value, str) else None
    if match is None:
        raise ValueError(expected)
    year, month, day, hour, minute, second, fraction, _, sign, off_hour, off_minute = match.groups()
    try:
        moment = datetime(
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0),
            tzinfo=timezone.utc,
        )  # fmt: skip
        if fraction:
            moment += timedelta(microseconds=_microseconds(fraction))
        if sign:
            if int(off_hour) > 15 or int(off_minute or 0) > 59:
                raise ValueError
            offset = timedelta(hours=int(off_hour), minutes=int(off_minute or 0))
            moment = moment - offset if sign == "+" else moment + offset
    except (ValueError, OverflowError):
        raise ValueError(expected) from None
    return timestamp_text(moment)


def _microseconds(fraction: str) -> int:
    exact = Decimal("0." + fraction) * 1_000_000
    return int(exact.quantize(Decimal(1), rounding=ROUND_HALF_UP))


def _date(value: Any) -> str:
    expected = "date (such as 2025-01-02)"
    match = _INSTANT.fullmatch(value.strip(_BLANKS)) if isinstance(value, str) else None
    if match is None:
        raise ValueError(expected)
    try:
        return date(int(match.group(1)), int(match.group(2)), int(match.group(3))).isoformat()
    except ValueError:
        raise ValueError(expected) from None


def _uuid(value: Any) -> str:
    if isinstance(value, str):
        bare = value[1:-1] if value[:1] == "{" and value[-1:] == "}" else value
        if _UUID.fullmatch(bare):
            return str(UUID(bare))
    raise ValueError("uuid")


_COERCIONS: Dict[str, Callable[[Any], Any]] = {
    "text": _text,
    "varchar": _text,
    "integer": _integer,
    "bigint": _bigint,
    "boolean": _boolean,
    "timestamp": _timestamp,
    "jsonb": jsonvalues.canonical,
    "uuid": _uuid,
    "decimal": _decimal,
    "float": _float,
    "date": _date,
}


def _text_of(value: Any, source: ColumnType) -> str:
    if source.kind == "decimal":
        return f"{value:.2f}"
    return jsonvalues.dumps(value)


# -- defaults --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Default:
    """What a row gets when it does not name a column: a literal, or one of two functions."""

    literal: Any = None
    function: str = ""

    def value(self, now: str) -> Any:
        """Return the value for one row; ``now`` is the time of its insertion as a timestamp's text."""
        if self.function == "now":
            return now
        if self.function == "today":
            return now[:10]
        if self.function == "uuid":
            return str(uuid4())
        return self.literal


_FUNCTIONS = {
    "now()": "now",
    "current_timestamp": "now",
    "gen_random_uuid()": "uuid",
    "uuid_generate_v4()": "uuid",
}


def parse_default(column_type: ColumnType, value: Any) -> Optional[Default]:
    """Return the default that a declaration names; ``None`` for none.

    :raises ValueError: if it is neither a literal of the type nor a function that yields the type.
    """
    if value is None:
        return None
    if isinstance(value, str):
        function = _FUNCTIONS.get(value.strip().lower())
        if function == "now" and column_type.kind == "timestamp":
            return Default(function="now")
        if function == "now" and column_type.kind == "date":
            return Default(function="today")
        if function == "uuid" and column_type.kind == "uuid":
            return Default(function="uuid")
    return Default(literal=column_type.coerce(value))
