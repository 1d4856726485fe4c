"""Keys: which values are keys, their order, and the bytes that have the same order in SQLite.

Numbers stay SQLite's own integers and reals. Everything else is bytes: a tag, then what sorts within the tag::

    18 boolean   one byte
    20 date      microseconds since 1970 in UTC, with the sign turned, in 8 bytes
    30 text      UTF-8, whose order is that of the code points
    40 bytes     as they are
    50 array     its elements, then 00

In an array a number is ``10``, its double with the sign turned, and in 2 bytes what the double lost of an integer;
text and bytes write ``00`` as ``00 FF`` and end in ``00 00``. No element is the beginning of another one, so that
arrays compare element by element, and the shorter one stands first. ``01`` and ``FF`` are below and above all elements.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import date, datetime, timedelta, timezone
from enum import Enum
from typing import Any, Optional, Tuple
from uuid import UUID

from ..errors import DataError
from ..schema.specs import EncodedKey
from .markers import MAX_KEY, MIN_KEY
from .ranges import EMPTY, EVERYTHING, Range

__all__ = [
    "ARRAYS",
    "LARGEST",
    "STRINGS",
    "decode",
    "encode",
    "encode_or_none",
    "leading",
    "leading_prefix",
    "prefix",
    "span",
]

SMALLEST = -(2**63)
LARGEST = 2**63 - 1

_NUMBER, _BOOLEAN, _DATE, _TEXT, _BYTES, _ARRAY = b"\x10", b"\x18", b"\x20", b"\x30", b"\x40", b"\x50"
_END, _BELOW, _ABOVE = b"\x00", b"\x01", b"\xff"
_FALSE, _TRUE = _BOOLEAN + b"\x00", _BOOLEAN + b"\x01"

STRINGS = Range(_TEXT, b"\x31", False, True)
"""All strings, and nothing else."""

ARRAYS = Range(_ARRAY, b"\x51", False, True)
"""All arrays, and nothing else."""

_EPOCH = datetime(1970, 1, 1)
_EPOCH_UTC = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_SIGN = 1 << 63
_ALL = (1 << 64) - 1
_DOUBLE = struct.Struct(">d")
_WORD = struct.Struct(">Q")
_ELEMENT = struct.Struct(">QH")
_BIAS = 1 << 15


def encode(value: Any) -> EncodedKey:
    """The encoded form of a key.

    :raises DataError: when ``value`` is none.
    """
    kind = type(value)
    if kind is int and SMALLEST <= value <= LARGEST:
        return value  # type: ignore[no-any-return]
    if kind is str:
        try:
            return _TEXT + value.encode()  # type: ignore[no-any-return]
        except UnicodeEncodeError:
            raise _refusal(value) from None
    key = encode_or_none(value)
    if key is None:
        raise _refusal(value)
    return key


def encode_or_none(value: Any) -> Optional[EncodedKey]:
    """The encoded form of a key, or ``None`` when ``value`` is none."""
    kind = type(value)
    if kind is str:
        try:
            return _TEXT + value.encode()  # type: ignore[no-any-return]
        except UnicodeEncodeError:
            return None
    if kind is int:
        return value if SMALLEST <= value <= LARGEST else None
    if kind is float:
        return value + 0.0 if value == value else None  # -0.0 becomes 0.0
    if kind is bool:
        return _TRUE if value else _FALSE
    if value is None:
        return None
    try:
        return _encode_rare(value)
    except RecursionError:
        return None


def _encode_rare(value: Any, ends: bool = False) -> Optional[EncodedKey]:
    if isinstance(value, (list, tuple)):
        parts = [_element(each, ends) for each in value]
        return None if None in parts else b"".join((_ARRAY, *parts, _END))  # type: ignore[arg-type]
    if isinstance(value, Enum):
        return encode_or_none(value.value)
    if isinstance(value, date):
        return _date(value)
    if isinstance(value, UUID):
        return _TEXT + str(value).encode()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _BYTES + bytes(value)
    # What derives from a plain kind counts as that, whatever else it does.
    if isinstance(value, str):
        return encode_or_none(str.__str__(value))
    if isinstance(value, int):
        return encode_or_none(int.__int__(value))
    return encode_or_none(float.__float__(value)) if isinstance(value, float) else None


def _date(value: date) -> Optional[bytes]:
    if not isinstance(value, datetime):
        since = datetime(value.year, value.month, value.day) - _EPOCH
    elif value.utcoffset() is None:
        since = value.replace(tzinfo=None) - _EPOCH
    else:
        since = value - _EPOCH_UTC
    return _DATE + _WORD.pack(since // _MICROSECOND + _SIGN)


def _element(value: Any, ends: bool = False) -> Optional[bytes]:
    """One element of an array; with ``ends`` the ends of the order may be one, too."""
    if ends and value is MIN_KEY:
        return _BELOW
    if ends and value is MAX_KEY:
        return _ABOVE
    key = _encode_rare(value, ends) if isinstance(value, (list, tuple)) else encode_or_none(value)
    if key is None:
        return None
    if not isinstance(key, bytes):
        return _number(key)
    if key[:1] in (_TEXT, _BYTES):
        return key[:1] + key[1:].replace(b"\x00", b"\x00\xff") + b"\x00\x00"
    return key


def _number(value: float) -> bytes:
    double = float(value) + 0.0
    bits: int = _WORD.unpack(_DOUBLE.pack(double))[0]
    bits = bits ^ _ALL if bits & _SIGN else bits | _SIGN
    lost = value - int(double) if isinstance(value, int) else 0
    return _NUMBER + _ELEMENT.pack(bits, lost + _BIAS)


def decode(key: EncodedKey) -> Any:
    """The key itself: dates come as aware datetimes in UTC, arrays as lists."""
    if not isinstance(key, bytes):
        return key
    tag = key[:1]
    if tag == _TEXT:
        return key[1:].decode()
    if tag == _BYTES:
        return key[1:]
    return _decode_from(key, 0)[0]


def _decode_from(key: bytes, at: int) -> Tuple[Any, int]:
    tag, at = key[at : at + 1], at + 1
    if tag == _NUMBER:
        return _decode_number(key, at), at + 10
    if tag == _BOOLEAN:
        return key[at] == 1, at + 1
    if tag == _DATE:
        return _EPOCH_UTC + (_WORD.unpack_from(key, at)[0] - _SIGN) * _MICROSECOND, at + 8
    if tag in (_TEXT, _BYTES):
        end = at
        while True:
            end = key.index(0, end)
            if key[end + 1] == 0:
                break
            end += 2
        payload = key[at:end].replace(b"\x00\xff", b"\x00")
        return (payload.decode() if tag == _TEXT else payload), end + 2
    if tag in (_BELOW, _ABOVE):
        return (MIN_KEY if tag == _BELOW else MAX_KEY), at
    elements = []
    while key[at]:
        element, at = _decode_from(key, at)
        elements.append(element)
    return elements, at + 1


def _decode_number(key: bytes, at: int) -> float:
    bits, lost = _ELEMENT.unpack_from(key, at)
    bits = bits ^ _SIGN if bits & _SIGN else bits ^ _ALL
    double: float = _DOUBLE.unpack(_WORD.pack(bits))[0]
    lost -= _BIAS
    if lost or (SMALLEST <= double <= LARGEST and double.is_integer()):
        return int(double) + int(lost)
    return double


def _refusal(value: Any) -> DataError:
    kind = type(value).__name__
    if value is MIN_KEY or value is MAX_KEY:
        return DataError(f"{value!r} is a bound of ranges and no key", key=value)
    if isinstance(value, int):
        return DataError("an int that is a key has to be within 64 bits", key=value)
    if isinstance(value, float):
        return DataError("NaN is no key", key=value)
    if isinstance(value, str):
        return DataError("a string with a lone surrogate is no key", key=value)
    if isinstance(value, (list, tuple)):
        return DataError(f"a {kind} is a key only if each of its elements is one", key=value)
    return DataError(
        f"a {kind} is no key; keys are numbers, booleans, dates, strings, bytes and lists of these "
        "(rows can be chosen by anything with filter())",
        key=value,
    )


# Ranges


def span(lower: Any, upper: Any, lower_open: bool = False, upper_open: bool = False) -> Range:
    """The range between two of a user's values; ``MIN_KEY`` and ``MAX_KEY`` are allowed, also inside of arrays.

    :raises DataError: when a bound is no key.
    """
    if lower is MAX_KEY or upper is MIN_KEY:
        return EMPTY
    low = None if lower is MIN_KEY else _bound(lower)
    high = None if upper is MAX_KEY else _bound(upper)
    result = Range(low, high, lower_open and low is not None, upper_open and high is not None)
    return EMPTY if result.empty else result


def _bound(value: Any) -> EncodedKey:
    try:
        key = _encode_rare(value, True) if isinstance(value, (list, tuple)) else encode(value)
    except RecursionError:
        key = None
    if key is None:
        raise _refusal(value)
    return key


def prefix(start: str) -> Range:
    """All strings that begin with ``start``.

    :raises DataError: when it is no string, or has a lone surrogate.
    """
    if not isinstance(start, str):
        raise DataError(f"a prefix is a string, not {type(start).__name__}", key=start)
    key = encode(start)
    assert isinstance(key, bytes)
    # UTF-8 has no byte FF: what begins with these bytes is below the same bytes with the last one raised.
    return Range(key, key[:-1] + bytes((key[-1] + 1,)), False, True)


def _elements(values: Sequence[Any]) -> bytes:
    parts = []
    for value in values:
        part = _element(value)
        if part is None:
            raise _refusal(value)
        parts.append(part)
    return b"".join((_ARRAY, *parts))


def leading(values: Sequence[Any], bounds: Range = EVERYTHING) -> Range:
    """All arrays that begin with ``values`` and go on with an element in ``bounds`` (a range of encoded keys).

    With it the leading parts of a compound index are an index themselves. There must be such an element.
    """
    start = _elements(values)
    low, high = start, start + _ABOVE
    if bounds.lower is not None:
        low = start + _as_element(bounds.lower) + _ABOVE * bounds.lower_open
    if bounds.upper is not None:
        high = start + _as_element(bounds.upper) + _ABOVE * (not bounds.upper_open)
    result = Range(low, high, False, True)
    return EMPTY if bounds.empty or result.empty else result


def _as_element(key: EncodedKey) -> bytes:
    element = _element(decode(key), True)
    assert element is not None
    return element


def leading_prefix(values: Sequence[Any], start: str) -> Range:
    """All arrays that begin with ``values`` and go on with a string that begins with ``start``."""
    element = _element(start)
    if element is None or not isinstance(start, str):
        raise DataError(f"a prefix is a string, not {type(start).__name__}", key=start)
    low = _elements(values) + element[:-2]
    return Range(low, low + _ABOVE, False, True)
