"""Python values to JSON bytes and back: what is sent as what, and what is refused before it is sent."""

from __future__ import annotations

import datetime
import enum
import json
from typing import Any

from ..exceptions import InvalidRequestError

__all__ = ["dataclass_fields", "decode_json", "encode_json", "encode_text"]


def dataclass_fields(value: Any) -> dict[str, Any] | None:
    """The fields of ``value`` by name if it is an instance of a dataclass, else ``None``."""
    if not hasattr(type(value), "__dataclass_fields__"):
        return None
    import dataclasses  # whose import takes milliseconds, and which is there already where there is such a class

    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _encode_other(value: Any) -> Any:
    """What ``json`` does not know by itself. The message names types only: a value may be secret."""
    import decimal  # here, since few programs send such values, and each import delays the start of all
    import uuid

    if isinstance(value, (uuid.UUID, decimal.Decimal)):
        if isinstance(value, decimal.Decimal) and not value.is_finite():
            raise InvalidRequestError("a Decimal that is not a finite number has no JSON form")
        return str(value)
    if isinstance(value, datetime.datetime):
        if value.utcoffset() is None:
            raise InvalidRequestError(
                "a datetime without a time zone is ambiguous; use datetime.now(timezone.utc) "
                "or value.replace(tzinfo=...)"
            )
        return value.isoformat()
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, enum.Enum):
        return value.value
    if hasattr(value, "model_dump"):  # a pydantic model, told by its method: the kernel does not import pydantic
        return value.model_dump(by_alias=True)
    fields = dataclass_fields(value)
    if fields is not None:
        return fields
    hint = "; decode it, or encode it as base64 text" if isinstance(value, (bytes, bytearray)) else ""
    raise InvalidRequestError(f"a value of type {type(value).__name__} has no JSON form{hint}")


_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_encode_other).encode


def encode_json(value: Any) -> bytes:
    """``value`` as JSON in UTF-8.

    Beyond what ``json`` takes: UUID, date, aware datetime and Decimal as strings, Enum by its value,
    pydantic models and dataclasses as objects.

    :raises InvalidRequestError: for NaN and infinities, datetimes without a time zone, lone surrogates,
        circular or absurdly deep structures, and every other type.
    """
    try:
        return _encoder(value).encode("utf-8")
    except InvalidRequestError:
        raise
    except UnicodeEncodeError:
        raise InvalidRequestError(f"{_broken(value) or 'a text'} holds a lone surrogate, which is no text") from None
    except RecursionError:
        raise InvalidRequestError("the value is nested too deeply to be JSON") from None
    except (TypeError, ValueError) as error:
        # json's own messages name types and "Out of range float values", never a text value.
        raise InvalidRequestError(f"the value has no JSON form: {error}") from None


def _broken(value: Any) -> str:
    """Where in ``value`` a text is that cannot be written as UTF-8, such as ``user.email``; never what it says."""
    waiting: list[tuple[str, Any]] = [("", value)]
    while waiting:
        where, item = waiting.pop()
        if isinstance(item, str):
            try:
                item.encode()
            except UnicodeEncodeError:
                return where[:200] or "a text"
        elif isinstance(item, dict):
            if any(_broken(name) for name in item if isinstance(name, str)):
                return f"a name in {where[:200]}" if where else "a name"
            waiting += [(f"{where}.{name}" if where else str(name), below) for name, below in item.items()]
        elif isinstance(item, (list, tuple)):
            waiting += [(f"{where}[{index}]", below) for index, below in enumerate(item)]
    return ""


def encode_text(text: str, what: str) -> bytes:
    """``text`` in UTF-8.

    :raises InvalidRequestError: if it holds a lone surrogate.
    """
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidRequestError(f"{what} holds a lone surrogate, which is no text") from None


def decode_json(content: bytes) -> Any:
    """The value that JSON bytes stand for (UTF-8, with or without a byte order mark).

    :raises ValueError: if they are not JSON, or nested too deeply to be read.
    """
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("nested too deeply") from None
