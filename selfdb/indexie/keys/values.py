"""Documents as text and back: JSON, with what JSON lacks as ``{"$ix": [kind, payload]}``."""

from __future__ import annotations

import binascii
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from json import encoder as _json
from typing import Any, Dict, List, NoReturn, Optional, Set, Tuple, Union
from uuid import UUID

from ..errors import DatabaseCorruptError, DataCloneError

__all__ = ["dump", "load", "load_all", "load_whole"]

_PLAIN = frozenset((str, int, float, bool, type(None)))
_ATOMS = _PLAIN | {datetime, date, time, timedelta, Decimal, UUID, bytes}
_MARK = '"$ix"'

_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


# What JSON lacks. A document's own dict whose only member is "$ix" is wrapped, so that it is taken for none of these.


def _tag_datetime(value: datetime) -> List[Any]:
    # A fold is kept apart: the ISO form has no place for it, and on a wall clock it tells two hours from each other.
    return ["dt", value.isoformat(), 1] if value.fold else ["dt", value.isoformat()]


def _tag_set(kind: str) -> Callable[[Iterable[Any]], List[Any]]:
    return lambda value: [kind, sorted((_member(each) for each in value), key=_encode)]


_TAGS: Dict[type, Callable[[Any], List[Any]]] = {
    datetime: _tag_datetime,
    date: lambda value: ["d", value.isoformat()],
    time: lambda value: ["t", value.isoformat()],
    timedelta: lambda value: ["td", [value.days, value.seconds, value.microseconds]],
    Decimal: lambda value: ["n", str(value)],
    UUID: lambda value: ["u", str(value)],
    bytes: lambda value: ["b", binascii.b2a_base64(value, newline=False).decode()],
    set: _tag_set("s"),
    frozenset: _tag_set("fs"),
    tuple: lambda value: ["tu", [_member(each) for each in value]],
}


def _revive_datetime(payload: str, fold: int = 0) -> datetime:
    value = datetime.fromisoformat(payload)
    return value.replace(fold=fold) if fold else value


_REVIVED: Dict[str, Callable[..., Any]] = {
    "dt": _revive_datetime,
    "d": date.fromisoformat,
    "t": time.fromisoformat,
    "td": lambda payload: timedelta(*payload),
    "n": Decimal,
    "u": UUID,
    "b": binascii.a2b_base64,
    "s": set,
    "fs": frozenset,
    "tu": tuple,
    "f": _FLOATS.__getitem__,
    "o": lambda payload: {"$ix": payload},
}


def _member(value: Any) -> Any:
    """An element of a set as JSON. A tuple stays one there: a list could not be in a set."""
    if type(value) is tuple or type(value) in _TAGS:
        return _tagged(value)
    return _tagged_float(value) if type(value) is float and not math.isfinite(value) else value


def _tagged(value: Any) -> Dict[str, Any]:
    tag = _TAGS.get(type(value))
    if tag is None:
        raise TypeError
    return {"$ix": tag(value)}


def _tagged_float(value: float) -> Dict[str, Any]:
    return {"$ix": ["f", "nan" if value != value else "inf" if value > 0 else "-inf"]}


# Writing


def _encoder() -> Callable[[Any, int], Iterable[str]]:
    """What gives the pieces of a value's text; the second argument, a depth, is 0."""
    make = getattr(_json, "c_make_encoder", None)
    if make is None:
        slow = json.JSONEncoder(
            check_circular=False, allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=_tagged
        )
        return lambda value, _: (slow.encode(value),)
    # JSONEncoder makes this very object anew for each document.
    texts = getattr(_json, "c_encode_basestring", None) or _json.encode_basestring
    pieces: Callable[[Any, int], Iterable[str]] = make(None, _tagged, texts, None, ":", ",", False, False, False)
    return pieces


_pieces = _encoder()


def _encode(value: Any) -> str:
    return "".join(_pieces(value, 0))


def dump(document: Any) -> Tuple[Any, str]:
    """A document as it will be read back, and its text.

    What derives from a plain kind becomes that kind, models, data classes and mappings become dicts, tuples lists; a
    document that is plain already is returned itself. Nothing of it is changed.

    :raises DataCloneError: when it holds something that cannot be stored.
    """
    try:
        flat = type(document) is dict
        if flat:
            # Mostly it is flat, and no call is needed to see that.
            for name, each in document.items():
                if type(name) is not str or type(each) not in _ATOMS:
                    flat = False
                    break
        if not flat and not _is_plain(document):
            document = _cleaned(document, [], set())
        text = "".join(_pieces(document, 0))
        if not text.isascii():
            text.encode()
        if _MARK not in text or not _has_mark(document):
            return document, text
        return document, _encode(_explicit(document))
    except DataCloneError:
        raise
    except (ValueError, RecursionError):  # NaN and infinities, lone surrogates, endless numbers, too deep or in a cycle
        return _dump_odd(document)


def _is_plain(value: Any) -> bool:
    """Whether it holds just what is kept as it is, so that no copy has to be made."""
    if type(value) is dict:
        if not all(type(name) is str for name in value):
            return False
        members: Iterable[Any] = value.values()
    elif type(value) is list:
        members = value
    else:
        return type(value) in _ATOMS
    for each in members:
        kind = type(each)
        if kind not in _ATOMS and not ((kind is dict or kind is list) and _is_plain(each)):
            return False
    return True


def _has_mark(value: Any) -> bool:
    """Whether one of its own dicts could be taken for one of ours."""
    if type(value) is dict:
        return ("$ix" in value and len(value) == 1) or any(map(_has_mark, value.values()))
    return type(value) is list and any(map(_has_mark, value))


def _explicit(value: Any) -> Any:
    """The same with everything written out that a plain encoder would refuse or confuse."""
    kind = type(value)
    if kind is dict:
        explicit = {key: _explicit(each) for key, each in value.items()}
        return {"$ix": ["o", explicit["$ix"]]} if len(explicit) == 1 and "$ix" in explicit else explicit
    if kind is list:
        return [_explicit(each) for each in value]
    if kind is float and not math.isfinite(value):
        return _tagged_float(value)
    return _tagged(value) if kind in _TAGS else value


def _dump_odd(document: Any) -> Tuple[Any, str]:
    try:
        document = _cleaned(document, [], set())  # finds cycles, and says where what is wrong stands
        text = _encode(_explicit(document))
    except RecursionError:
        raise DataCloneError("a document that is nested so deep cannot be stored", path="") from None
    return document, text


_Path = List[Union[str, int]]


def _refuse(what: str, path: _Path) -> NoReturn:
    where = ""
    for step in path:
        where += f"[{step}]" if isinstance(step, int) else f".{step}" if where else step
    # A name that cannot be written out cannot be in a message either.
    where = where.encode("utf-8", "backslashreplace").decode()
    raise DataCloneError(f"{what} cannot be stored (at {where or 'the top'})", path=where)


def _cleaned(value: Any, path: _Path, outer: Set[int]) -> Any:
    """A copy made of plain kinds; ``outer`` are the containers around it."""
    kind = type(value)
    if kind is str:
        return _text(value, path)
    if kind is int:
        return _whole(value, path)
    if kind in _ATOMS:
        return value
    if isinstance(value, Enum):
        return _cleaned(value.value, path, outer)
    atom = _atom(value, path)
    if atom is not None:
        return atom
    if id(value) in outer:
        _refuse("a cycle", path)
    outer.add(id(value))
    try:
        if isinstance(value, (list, tuple)):
            return [_cleaned(each, [*path, at], outer) for at, each in enumerate(value)]
        if isinstance(value, (set, frozenset)):
            members = [_cleaned_member(each, [*path, at], outer) for at, each in enumerate(value)]
            return set(members) if isinstance(value, set) else frozenset(members)
        items = _items(value)
        if items is None:
            _refuse(f"a {kind.__name__}", path)
        return {_name(key, path): _cleaned(each, [*path, str(key)], outer) for key, each in items}
    finally:
        outer.discard(id(value))


def _cleaned_member(value: Any, path: _Path, outer: Set[int]) -> Any:
    cleaned = _cleaned(value, path, outer)
    if isinstance(cleaned, list) and isinstance(value, tuple):
        return tuple(_cleaned_member(each, [*path, at], outer) for at, each in enumerate(value))
    if isinstance(cleaned, (dict, list, set)):
        # A frozen data class can be in a set; the dict that it would be read back as cannot.
        _refuse(f"a {type(value).__name__} in a set", path)
    return cleaned


def _text(value: str, path: _Path) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        _refuse("a string with a lone surrogate", path)
    return value


def _whole(value: int, path: _Path) -> int:
    try:
        if abs(value) > 1 << 1000:
            str(value)
    except ValueError:
        _refuse("an int of so many digits", path)
    return value


def _name(key: Any, path: _Path) -> str:
    if isinstance(key, Enum):
        key = key.value
    if not isinstance(key, str):
        _refuse(f"a dict with a key that is a {type(key).__name__} and no string", path)
    return _text(str.__str__(key), path)


def _atom(value: Any, path: _Path) -> Any:
    """The plain value of what derives from a plain kind, else ``None``."""
    if isinstance(value, str):
        return _text(str.__str__(value), path)
    if isinstance(value, int):
        return _whole(int.__int__(value), path)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, datetime):
        day = value.date()
        return datetime.combine(date(day.year, day.month, day.day), _clock(value.timetz()))
    if isinstance(value, date):
        return date(value.year, value.month, value.day)
    if isinstance(value, time):
        return _clock(value)
    if isinstance(value, timedelta):
        return timedelta(value.days, value.seconds, value.microseconds)
    if isinstance(value, Decimal):
        return Decimal(value)
    if isinstance(value, UUID):
        return UUID(int=value.int)
    return bytes(value) if isinstance(value, (bytes, bytearray, memoryview)) else None


def _clock(value: time) -> time:
    return time(value.hour, value.minute, value.second, value.microsecond, value.tzinfo, fold=value.fold)


def _items(value: Any) -> Optional[Iterable[Tuple[Any, Any]]]:
    """Names and values of what is stored as a dict, else ``None``."""
    if isinstance(value, type):
        return None
    if isinstance(value, Mapping):
        return value.items()
    model_dump = getattr(value, "model_dump", None)  # pydantic's; nobody who has no models pays for importing it
    if callable(model_dump):
        dumped: Dict[str, Any] = model_dump()
        return dumped.items()
    if is_dataclass(value):
        return [(each.name, getattr(value, each.name)) for each in fields(value)]
    return None


# Reading


def _revive(found: Dict[str, Any]) -> Any:
    if len(found) != 1 or "$ix" not in found:
        return found
    try:
        kind, *payload = found["$ix"]
        return _REVIVED[kind](*payload)
    except (ArithmeticError, KeyError, TypeError, ValueError) as error:
        raise DatabaseCorruptError(f"a stored document holds {found!r:.80}, which this version cannot read") from error


# Without the decoder's own look for white space around the text.
_scan: Callable[[str, int], Tuple[Any, int]] = vars(json.JSONDecoder())["scan_once"]
_scan_marked: Callable[[str, int], Tuple[Any, int]] = vars(json.JSONDecoder(object_hook=_revive))["scan_once"]


def load(text: str) -> Any:
    """The document that was stored as ``text``: a new object each time.

    :raises DatabaseCorruptError: when it is no document's text.
    """
    try:
        document, end = _scan_marked(text, 0) if _MARK in text else _scan(text, 0)
    except (StopIteration, TypeError, ValueError, RecursionError) as error:
        raise DatabaseCorruptError("a stored document cannot be read") from error
    if end != len(text) and text[end:].strip():
        raise DatabaseCorruptError("a stored document cannot be read: something stands behind it")
    return document


def load_whole(text: str) -> Any:
    """As :func:`load`, of a text that may come from anywhere: with space around it, and nothing else behind it."""
    text = text.strip()
    try:
        value, end = _scan_marked(text, 0)
    except (StopIteration, ValueError, RecursionError) as error:
        raise DatabaseCorruptError("the text is no JSON") from error
    if end != len(text):
        raise DatabaseCorruptError("the text is JSON, and something behind it")
    return value


def load_all(texts: List[str]) -> List[Any]:
    """:func:`load` of each, which is faster at once."""
    try:
        joined = f"[{','.join(texts)}]"
        if _MARK not in joined:
            documents, end = _scan(joined, 0)
            if len(documents) == len(texts) and end == len(joined):
                return documents  # type: ignore[no-any-return]
    except (StopIteration, TypeError, ValueError, RecursionError):
        pass
    return [load(text) for text in texts]  # which says what is wrong, if anything is
