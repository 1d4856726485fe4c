"""Addresses: the base URL, path segments and query strings, encoded once and in one way."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple, Union
from urllib.parse import quote, urljoin, urlsplit

from ..exceptions import InvalidRequestError

if TYPE_CHECKING:
    import uuid

__all__ = ["BaseURL", "Id", "Origin", "key_of", "object_path", "origin_of", "query_string", "segment"]

Id = Union[str, int, "uuid.UUID"]
"""What names one thing in a path."""

LONGEST = 16 * 1024
"""Bytes of one encoded part of an address; servers refuse a request line that is much longer, each in its own way."""

_DEFAULT_PORTS = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """Scheme, host and port: the part of an address that secrets are bound to."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _DEFAULT_PORTS.get(self.scheme) else f":{self.port}"
        return f"{self.scheme}://{host}{port}"


def origin_of(url: str) -> Origin:
    """The origin of an absolute http(s) URL.

    :raises ValueError: if it is none.
    """
    parts = urlsplit(url)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ValueError("not an absolute http or https URL")
    return Origin(parts.scheme, parts.hostname, _DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port)


class BaseURL:
    """Where a server lives.

    :param url: ``http://`` or ``https://``, a host, perhaps a port and a path prefix (kept). Trailing
        slashes are dropped.
    :param name: what the caller calls it, for messages.
    :raises InvalidRequestError: if it is empty, of another scheme, or has a user, a password, a query,
        a fragment, a backslash or white space.
    """

    __slots__ = ("origin", "prefix", "text")

    def __init__(self, url: str, name: str = "base_url") -> None:
        if not isinstance(url, str) or not url:
            raise InvalidRequestError(f"{name} must be a URL such as https://api.example.com")
        if any(ord(character) <= 32 or ord(character) == 127 or character == "\\" for character in url):
            raise InvalidRequestError(f"{name} must not contain blanks, backslashes or control characters")
        try:
            parts = urlsplit(url)
            self.origin = origin_of(url)
            # What cannot be written as a host name, or at all, fails here rather than in the middle of the first call.
            self.origin.host.encode("idna" if not self.origin.host.isascii() else "ascii")
            url.encode()
        except ValueError:
            raise InvalidRequestError(
                f"{name} must be an absolute http or https URL such as https://api.example.com"
            ) from None
        if "@" in parts.netloc:
            raise InvalidRequestError(f"{name} must not contain a user or password; log in with auth.login() instead")
        if parts.query or parts.fragment:
            raise InvalidRequestError(f"{name} must have neither a query nor a fragment")
        self.prefix = parts.path.rstrip("/")
        self.text = f"{parts.scheme}://{parts.netloc}{self.prefix}"

    def redirect(self, current: str, location: str) -> tuple[Origin, str]:
        """Where ``location``, received as an answer for ``current``, leads: its origin and its absolute URL.

        :raises ValueError: if it is not an http(s) address.
        """
        with contextlib.suppress(UnicodeError):
            location = location.encode("latin-1").decode("utf-8")  # as browsers take what is beyond ASCII
        if any(ord(character) < 32 or ord(character) == 127 for character in location):
            raise ValueError("control characters in an address")
        target = urljoin(current, location)
        return origin_of(target), target


def segment(value: Id, what: str) -> str:
    """One path segment, percent-encoded so that it arrives intact whatever it holds.

    :param value: text, a whole number or a UUID.
    :param what: its name in the error message, such as ``table_id``.
    :raises InvalidRequestError: if it is empty, ``.`` or ``..`` (every HTTP stack resolves these away), of
        another type, too long, or holds a lone surrogate.
    """
    if isinstance(value, bool) or not (isinstance(value, (str, int)) or _is_uuid(value)):
        raise InvalidRequestError(f"{what} must be a str, int or UUID, not {type(value).__name__}")
    text = _text(value, what)
    if text in ("", ".", ".."):
        raise InvalidRequestError(f"{what} must not be {'empty' if not text else repr(text)}")
    return _quoted(text, what)


def key_of(value: Id, what: str, *taken: str) -> str:
    """`segment` for what the server finds by its own names, where others have a meaning of their own.

    Most servers undo the encoding of a slash before they look for a route: ``<id>/columns/a`` as the id of a table
    to delete would name one of its columns.

    :param taken: words that name something else at this place, such as ``count``.
    :raises InvalidRequestError: as `segment`; also for a slash, and for one of ``taken``.
    """
    encoded = segment(value, what)
    if "%2F" in encoded:
        raise InvalidRequestError(f"{what} must not contain a slash")
    if encoded in taken:
        raise InvalidRequestError(f"{what} must not be {encoded!r}, which names something else on the server")
    return encoded


def _is_uuid(value: object) -> bool:
    import uuid  # here, for most ids are texts, and each import delays the start of every program

    return isinstance(value, uuid.UUID)


def _text(value: object, what: str) -> str:
    if isinstance(value, str):
        return value  # as it is: `str` of a member of an Enum of strings gives its name
    try:
        return str(value)
    except ValueError:  # of an int of thousands of digits
        raise InvalidRequestError(f"{what} is a number of too many digits") from None


def _quoted(text: str, what: str) -> str:
    try:
        encoded = quote(text, safe="")
    except UnicodeEncodeError:
        raise InvalidRequestError(f"{what} holds a lone surrogate, which is no text") from None
    if len(encoded) > LONGEST:
        raise InvalidRequestError(f"{what} is too long for an address: {len(encoded)} bytes, at most {LONGEST} can go")
    return encoded


def object_path(path: str) -> str:
    """The path of a stored object for a URL: each segment encoded, the slashes between them kept.

    One leading slash is allowed and dropped.

    :raises InvalidRequestError: for an empty path or segment, ``.``, ``..``, a backslash, a control character, or
        more than 16 KiB.
    """
    if not isinstance(path, str):
        raise InvalidRequestError(f"path must be a str, not {type(path).__name__}")
    if any(ord(character) < 32 or ord(character) == 127 or character == "\\" for character in path):
        raise InvalidRequestError("path must not contain a backslash or control characters")
    encoded = "/".join(segment(part, "each part of path") for part in path[path.startswith("/") :].split("/"))
    if len(encoded) > LONGEST:
        raise InvalidRequestError(f"path is too long for an address: {len(encoded)} bytes, at most {LONGEST} can go")
    return encoded


def query_string(pairs: Iterable[tuple[str, object]]) -> str:
    """``?a=1&b=true``, in the order given, without those whose value is ``None``; empty if none is left.

    :raises InvalidRequestError: if a value holds a lone surrogate or is too long.
    """
    parts = []
    for name, value in pairs:
        if value is None:
            continue
        if isinstance(value, bool):
            value = "true" if value else "false"
        parts.append(f"{quote(name, safe='')}={_quoted(_text(value, name), name)}")
    return "?" + "&".join(parts) if parts else ""
