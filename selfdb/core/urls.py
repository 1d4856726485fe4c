"""Addresses: the base URL, path segments and query strings, encoded once and in one way."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import NamedTuple, Union
from urllib.parse import quote, urljoin, urlsplit

from ..exceptions import InvalidRequestError

__all__ = ["BaseURL", "Id", "Origin", "object_path", "origin_of", "query_string", "segment"]

Id = Union[str, int, uuid.UUID]
"""What names one thing in a path."""

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
    return Origin(parts.scheme, parts.hostname, parts.port or _DEFAULT_PORTS[parts.scheme])


class BaseURL:
    """Where a server lives.

    :param url: ``http://`` or ``https://``, a host, perhaps a port and a path prefix (kept). Trailing
        slashes are dropped.
    :raises InvalidRequestError: if it is empty, of another scheme, or has a user, a password, a query,
        a fragment, a backslash or white space.
    """

    __slots__ = ("origin", "prefix", "text")

    def __init__(self, url: str) -> None:
        if not isinstance(url, str) or not url:
            raise InvalidRequestError("base_url must be a URL such as https://api.example.com")
        if any(ord(character) <= 32 or ord(character) == 127 or character == "\\" for character in url):
            raise InvalidRequestError("base_url must not contain blanks, backslashes or control characters")
        try:
            parts = urlsplit(url)
            self.origin = origin_of(url)
            # What cannot be written as a host name fails here rather than in the middle of the first call.
            self.origin.host.encode("idna" if not self.origin.host.isascii() else "ascii")
        except ValueError:
            raise InvalidRequestError(
                "base_url must be an absolute http or https URL such as https://api.example.com"
            ) from None
        if "@" in parts.netloc:
            raise InvalidRequestError("base_url must not contain a user or password; log in with auth.login() instead")
        if parts.query or parts.fragment:
            raise InvalidRequestError("base_url must have neither a query nor a fragment")
        self.prefix = parts.path.rstrip("/")
        self.text = f"{parts.scheme}://{parts.netloc}{self.prefix}"

    def redirect(self, current: str, location: str) -> tuple[Origin, str]:
        """Where ``location``, received as an answer for ``current``, leads: its origin and its absolute URL.

        :raises ValueError: if it is not an http(s) address.
        """
        target = urljoin(current, location)
        return origin_of(target), target


def segment(value: Id, what: str) -> str:
    """One path segment, percent-encoded so that it arrives intact whatever it holds.

    :param value: text, a whole number or a UUID.
    :param what: its name in the error message, such as ``table_id``.
    :raises InvalidRequestError: if it is empty, ``.`` or ``..`` (every HTTP stack resolves these away), of
        another type, or holds a lone surrogate.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, uuid.UUID)):
        raise InvalidRequestError(f"{what} must be a str, int or UUID, not {type(value).__name__}")
    text = value if isinstance(value, str) else str(value)  # which of an Enum of strings gives its name
    if text in ("", ".", ".."):
        raise InvalidRequestError(f"{what} must not be {'empty' if not text else repr(text)}")
    try:
        return quote(text, safe="")
    except UnicodeEncodeError:
        raise InvalidRequestError(f"{what} holds a lone surrogate, which is no text") from None


def object_path(path: str) -> str:
    """The path of a stored object for a URL: each segment encoded, the slashes between them kept.

    One leading slash is allowed and dropped.

    :raises InvalidRequestError: for an empty path or segment, ``.``, ``..``, a backslash or a control character.
    """
    if not isinstance(path, str):
        raise InvalidRequestError(f"path must be a str, not {type(path).__name__}")
    if any(ord(character) < 32 or ord(character) == 127 or character == "\\" for character in path):
        raise InvalidRequestError("path must not contain a backslash or control characters")
    return "/".join(segment(part, "each part of path") for part in path[path.startswith("/") :].split("/"))


def query_string(pairs: Iterable[tuple[str, object]]) -> str:
    """``?a=1&b=true``, in the order given, without those whose value is ``None``; empty if none is left.

    :raises InvalidRequestError: if a value holds a lone surrogate.
    """
    parts = []
    for name, value in pairs:
        if value is None:
            continue
        if isinstance(value, bool):
            value = "true" if value else "false"
        text = value if isinstance(value, str) else str(value)
        try:
            parts.append(f"{quote(name, safe='')}={quote(text, safe='')}")
        except UnicodeEncodeError:
            raise InvalidRequestError(f"{name} holds a lone surrogate, which is no text") from None
    return "?" + "&".join(parts) if parts else ""
