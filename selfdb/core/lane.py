"""The short way of an ordinary call: its head in one piece, one write, and an answer of known length read at once.

`requests` works out for every call what is constant for a client: the environment's proxies, netrc, the parts of the
URL, merged headers, cookies. This lane has all that in one piece of text, and takes its connections from the same pool
of `urllib3`. It serves only what it understands wholly: for the rest it says so before anything is sent, or hands an
answer that has begun over to the ordinary way.
"""

from __future__ import annotations

import http.client
import os
import re
from collections.abc import Iterator, Mapping
from functools import partial
from types import FunctionType
from typing import Any, Union

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import requote_uri, select_proxy
from urllib3 import HTTPHeaderDict
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.response import HTTPResponse

from .call import current_call
from .http import CALL, BoundedResponse, Bounds, ClientSession, set_timeout, shut_down
from .urls import BaseURL

__all__ = ["Answer", "Lane", "PlainAnswer"]

AT_ONCE = 64 * 1024
"""Bytes asked of the socket in one step, and of a body that leaves in one write with its head."""

METHODS = frozenset({"DELETE", "GET", "PATCH", "POST", "PUT"})

_TARGET = re.compile(r"/[\w.~!$&'()*+,;=:@%?/-]*\Z", re.ASCII)
_LINE = re.compile(r"[\x20-\x7e]*\Z")
_HEAD = re.compile(rb"HTTP/1\.1 ([245]\d\d) [\x20-\x7e]*\r\n((?:[\w!#$%&'*+.^`|~-]+:[\x20-\x7e]*\r\n)*)\r\n", re.ASCII)
_LENGTH = re.compile(r"\d{1,12}\Z", re.ASCII)

_NO_LENGTH = frozenset({204, 205})
"""Answers whose body, if a length is announced all the same, different programs see differently."""

_UNUSUAL = frozenset({"content-encoding", "trailer", "transfer-encoding", "upgrade"})
"""Headers of an answer that need more than its length to read it."""

_OURS = frozenset(
    {"authorization", "connection", "content-length", "content-type", "cookie", "expect", "host", "idempotency-key"}
    | {"proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade"}
)
"""Headers of a request that are not constant, or that change how it is sent."""

_STACK = (
    (HTTPAdapter, "send"),
    (requests.Session, "send"),
    (requests.Session, "get_adapter"),
    (HTTPConnectionPool, "urlopen"),
    (HTTPConnection, "request"),
    (HTTPConnection, "getresponse"),
    (http.client.HTTPConnection, "putrequest"),
    (http.client.HTTPConnection, "getresponse"),
)
"""What mocks, recorders and instrumentation replace: they have to see every call."""


def _genuine(owner: type, name: str) -> Any:
    """The function itself if it is the library's own, else nothing that it could be equal to."""
    function: Any = vars(owner).get(name)
    own = isinstance(function, FunctionType) and not hasattr(function, "__wrapped__")
    home: Any = vars(owner)["__init__"]
    return function if own and function.__code__.co_filename == home.__code__.co_filename else object()


_ORIGINALS = tuple((owner, name, _genuine(owner, name)) for owner, name in _STACK)

# As the environment keeps them: its own way of reading encodes, decodes and raises, for each name and each call.
_environment: Mapping[Any, Any] = getattr(os.environ, "_data", os.environ)
_PROXY_VARIABLES = tuple(
    os.environ.encodekey(name)
    for scheme in ("http", "https", "all", "no")
    for name in (f"{scheme}_proxy", f"{scheme}_PROXY".upper())
)


class Headers(Mapping[str, str]):
    """The headers of an answer by name in any case. Immutable."""

    __slots__ = ("_fields",)

    def __init__(self, fields: dict[str, tuple[str, str]]) -> None:
        self._fields = fields

    def __getitem__(self, name: str) -> str:
        return self._fields[name.lower()][1]

    def get(self, name: str, default: Any = None) -> Any:
        """The value of ``name``, or ``default``."""
        found = self._fields.get(name.lower())
        return default if found is None else found[1]

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._fields.values())

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return repr(dict(self._fields.values()))


class PlainAnswer:
    """An answer that has come whole; as much of a `requests.Response` as an exchange asks for."""

    __slots__ = ("content", "headers", "status_code")

    def __init__(self, status_code: int, headers: Headers, content: bytes) -> None:
        self.status_code = status_code
        self.headers = headers
        self.content = content

    def iter_content(self, size: int) -> Iterator[bytes]:
        """All of it."""
        yield self.content

    def close(self) -> None:
        """Nothing: its connection is back in the pool."""

    def __enter__(self) -> PlainAnswer:
        return self

    def __exit__(self, *exception: object) -> None:
        pass


Answer = Union[requests.Response, PlainAnswer]


class Lane:
    """The short way to one server over the connections of one session. May be shared by threads."""

    def __init__(self, session: ClientSession, base: BaseURL) -> None:
        self._session = session
        self._base = base
        origin = str(base.origin)
        self._host = origin.partition("://")[2]
        self._plain = bool(_LINE.match(origin)) and base.text == origin + base.prefix == requote_uri(base.text)
        self._pool: Any = None
        self._seen: tuple[Any, ...] = ()
        self._direct = False

    def free(self) -> bool:
        """Whether nothing stands between: no proxy for this server, and no one who has to see every call."""
        for owner, name, original in _ORIGINALS:
            if vars(owner).get(name) is not original:
                return False
        seen = tuple(map(_environment.get, _PROXY_VARIABLES))
        if seen != self._seen:
            self._direct = self._plain and self._has_no_proxy()
            self._seen = seen
        return self._direct

    def _has_no_proxy(self) -> bool:
        settings = self._session.merge_environment_settings(self._base.text, {}, True, None, None)
        return select_proxy(self._base.text, settings["proxies"]) is None

    def lines(self, headers: Mapping[str, str]) -> str | None:
        """The lines of a request's head that are the same for every call; ``None`` if one of them is unusual."""
        merged: CaseInsensitiveDict[Any] = CaseInsensitiveDict(self._session.headers)
        del merged["Connection"]
        merged.update(headers)
        lines = [f"Host: {self._host}", "Connection: keep-alive"]
        lines += [f"{name}: {value}" for name, value in merged.items()]
        if not _OURS.isdisjoint(name.lower() for name in merged) or not all(map(_LINE.match, lines)):
            return None
        return "".join(f"{line}\r\n" for line in lines)

    def send(
        self, method: str, target: str, lines: str, body: bytes | None, bounds: Bounds, limit: int
    ) -> Answer | None:
        """Send one request and read its answer; ``None``, and nothing was sent, if it is not one for this lane.

        :param target: path and query.
        :param lines: the head's other lines, each with its end.
        :param limit: bytes of a body that are read here.
        :raises Exception: what the socket and `http.client` raise.
        """
        if not _TARGET.match(target) or "/." in target or not lines.isascii():
            return None
        if body is None and method == "GET":
            message = f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("ascii")
        else:
            body = body or b""
            message = f"{method} {target} HTTP/1.1\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode("ascii")
            if len(body) <= AT_ONCE:
                message += body
                body = None
        outer, CALL.now = CALL.now, bounds
        try:
            return self._exchange(method, message, body, bounds, limit)
        finally:
            CALL.now, CALL.last = outer, bounds

    def _exchange(self, method: str, message: bytes, body: bytes | None, bounds: Bounds, limit: int) -> Answer:
        pool = self._pool
        if pool is None:
            pool = self._pool = self._session.pool_of(self._base.text)
        bounds.tracked = True
        connection = pool._get_conn()
        try:
            if connection.sock is None:
                connection.connect()
            pool._validate_conn(connection)  # which warns where nobody is verified
            try:
                connection.send(message)
                if body is not None:
                    connection.send(body)
            except (BrokenPipeError, ConnectionResetError):
                pass  # an answer may have come before the end of the request, and says why
            sock = connection.sock
            began = _received(sock, AT_ONCE, bounds)
            head = _HEAD.match(began)
            fields = None if head is None else _fields_of(head)
            if head is None or fields is None:
                return self._handed_over(method, connection, began)
            status, length = int(head[1]), int(fields["content-length"][1])
            content = began[head.end() :]
            missing = length - len(content)
            if length > limit or (missing > 0 and status >= 400):
                # Too long; or an error, whose status counts even if what it says breaks off.
                return self._handed_over(method, connection, began)
            if missing > 0:
                content = _whole(sock, content, length, bounds)
            elif missing < 0:
                content = content[:length]
            pending = getattr(sock, "pending", None)
            if missing < 0 or (pending is not None and pending()):
                connection.close()  # what came unasked would be taken for the next answer
        except BaseException:
            connection.close()
            pool._put_conn(connection)
            raise
        pool._put_conn(connection)
        return PlainAnswer(status, Headers(fields), content)

    def _handed_over(self, method: str, connection: Any, began: bytes) -> requests.Response:
        """The ordinary answer that ``began`` is the beginning of."""
        response = BoundedResponse(connection.sock, method=method, ahead=began)
        try:
            response.begin()
        except BaseException:
            response.close()
            raise
        if response.will_close:
            connection.close()  # the answer keeps the socket until it is read
        raw = HTTPResponse(
            body=response,
            headers=HTTPHeaderDict(response.msg.items()),
            status=response.status,
            version=response.version,
            reason=response.reason,
            preload_content=False,
            decode_content=False,
            original_response=response,
            pool=self._pool,
            connection=connection,
            enforce_content_length=True,
            request_method=method,
        )
        request = requests.PreparedRequest()
        request.method, request.url, request.headers = method, self._base.text, CaseInsensitiveDict()
        return self._session.answer_of(request, raw)


def _fields_of(head: re.Match[bytes]) -> dict[str, tuple[str, str]] | None:
    """The headers of an answer whose body is as long as it says; ``None`` if it is another."""
    if int(head[1]) in _NO_LENGTH:
        return None
    fields = {}
    lines = head[2].decode("ascii").split("\r\n")
    for line in lines:
        name, _, value = line.partition(":")
        fields[name.lower()] = name, value.strip(" ")
    del fields[""]  # behind the last line
    if len(fields) != len(lines) - 1 or not _UNUSUAL.isdisjoint(fields):
        return None
    connection = fields.get("connection")
    if connection is not None and connection[1].lower() != "keep-alive":
        return None
    length = fields.get("content-length")
    if length is None or not _LENGTH.match(length[1]):
        return None
    return fields


def _whole(sock: Any, content: bytes, length: int, bounds: Bounds) -> bytes:
    """``content`` and what follows it up to ``length`` bytes.

    :raises http.client.IncompleteRead: if there is less.
    """
    blocks, size = [content], len(content)
    while size < length:
        block = _received(sock, min(length - size, 4 * AT_ONCE), bounds)
        if not block:
            raise http.client.IncompleteRead(b"", length - size)
        blocks.append(block)
        size += len(block)
    return b"".join(blocks)


def _received(sock: Any, size: int, bounds: Bounds) -> bytes:
    """Up to ``size`` bytes; none at the end. The wait keeps the bounds, and ends if the call is given up."""
    set_timeout(sock, bounds.read, bounds.deadline)
    call = current_call()
    if call is None:
        return sock.recv(size)  # type: ignore[no-any-return]
    end = partial(shut_down, sock)
    call.begin(end)
    try:
        return sock.recv(size)  # type: ignore[no-any-return]
    finally:
        call.over(end)
        call.check()
