"""Where an answer ends, told more strictly than `http.client` does: what two readers could read in two ways is refused.

A length that is no plain number, a transfer coding beside ``chunked``, a header line that is none: each of them makes
one reader see another end of the answer than the next, and what lies between is lost, or taken for the next answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http.client import HTTPException, IncompleteRead
from typing import Any

import urllib3
from urllib3.exceptions import DecodeError

__all__ = ["Chunks", "Head", "Misframed", "check_coding", "check_complete", "framing_of", "settle"]

MAX_HEAD = 256 * 1024
"""Bytes of the status line and the headers, those of interim answers included."""

MAX_LINE = 16 * 1024
"""Bytes of a line between the chunks of a body."""

MAX_TRAILERS = 64 * 1024
"""Bytes of what may follow the last chunk."""

_IGNORES_THE_REST = 2
"""State of a decoder of `urllib3` behind the end of gzip, where something else follows it."""

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:")
_LENGTH = re.compile(r"[0-9]{1,18}\Z")
_SIZE = re.compile(rb"[ \t]*[0-9A-Fa-f]{1,15}[ \t]*(?:;|\r?\n\Z)")


class Misframed(HTTPException):
    """The answer is not HTTP, or does not say clearly where it ends."""


class Head:
    """The lines of an answer's head. `http.client` takes the end of the stream for the end of the head, and so an
    answer that was cut off there for a whole one without a body; and the first line that it does not understand for
    the end of the headers, so that all that follow it are lost."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._size = 0
        self._headers = self._folds = False
        self._begun = False

    def readline(self, limit: int) -> bytes:
        """The next line, checked."""
        line: bytes = self._file.readline(limit)
        if not line and self._begun:
            raise IncompleteRead(line)
        self._begun = True
        self._size += len(line)
        if self._size > MAX_HEAD:
            raise Misframed("the head of the answer does not end")
        text = line.rstrip(b"\r\n")
        if b"\r" in text or b"\0" in text:
            raise Misframed("control characters in the head of the answer")
        if not self._headers:
            self._headers = True  # this was the status line
            self._folds = False
        elif not text:
            self._headers = False  # of an interim answer perhaps: then a status line comes next
        elif text[:1] not in b" \t":
            self._folds = True
            if not _NAME.match(text):
                raise Misframed("a header line that is none")
        elif not self._folds:
            raise Misframed("a header that goes on before it began")
        return line

    def flush(self) -> None:
        """As of a file."""
        self._file.flush()

    def close(self) -> None:
        """As of a file."""
        self._file.close()


class Chunks:
    """The file of a body that comes in chunks, whose lines `http.client` and `urllib3` read without an end to them, and
    whose sizes they take as Python reads numbers: a negative one makes them read all that comes."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._trailers: int | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def readline(self, limit: int = -1) -> bytes:
        """The line before a chunk, or one behind the last."""
        line: bytes = self._file.readline(MAX_LINE + 1)
        if len(line) > MAX_LINE:
            raise Misframed("a line between chunks does not end")
        if self._trailers is not None:
            self._trailers += len(line)
            if self._trailers > MAX_TRAILERS:
                raise Misframed("what follows the last chunk does not end")
            return line
        if not line.endswith(b"\n"):
            raise IncompleteRead(line)
        if not _SIZE.match(line):
            raise Misframed("the size of a chunk is no number")
        if int(line.split(b";", 1)[0], 16) == 0:
            self._trailers = 0
        return line


def _unfolded(value: str) -> str:
    return " ".join(filter(None, (line.strip(" \t\r") for line in value.split("\n"))))


def framing_of(headers: Any) -> tuple[bool, int | None]:
    """Whether a body with ``headers`` comes in chunks, and how long it is if they say so.

    :raises Misframed: if they do not say so clearly.
    """
    codings = [coding.strip().lower() for coding in headers.get_all("Transfer-Encoding", [])]
    lengths = headers.get_all("Content-Length")
    if codings and codings != ["identity"]:  # as old servers say that there is none
        if codings != ["chunked"]:
            raise Misframed("a transfer coding that was not asked for")
        return True, None
    if not lengths:
        return False, None
    said = {length.strip() for joined in lengths for length in joined.split(",")}
    length = said.pop()
    if said or not _LENGTH.match(length):
        raise Misframed("a length that is none, or several")
    return False, int(length)


def check_coding(headers: Mapping[str, str]) -> None:
    """Return if a body with ``headers`` is plain, or compressed once in a way that can be undone.

    :raises DecodeError: if not. `urllib3` would hand out what it cannot undo as it is, and undo layer upon layer.
    """
    coding = headers.get("Content-Encoding", "").lower()
    if coding not in ("", "identity") and coding not in urllib3.HTTPResponse.CONTENT_DECODERS:
        raise DecodeError("compressed in a way that was not asked for")


def check_complete(raw: Any) -> None:
    """Return unless the body of ``raw``, a `urllib3` answer read to its end, ends in the middle of its compression.

    :raises IncompleteRead: if it does; `urllib3` takes what could be undone so far for all of it.
    """
    decoder = getattr(raw, "_decoder", None)
    unfinished = getattr(getattr(decoder, "_obj", None), "eof", True) is False
    if unfinished and raw.tell() and getattr(decoder, "_state", 0) != _IGNORES_THE_REST:
        raise IncompleteRead(b"")


def settle(answer: Any) -> None:
    """Make ``answer``, an `HTTPResponse` whose head has been read, end where its headers say and nowhere else.

    :raises Misframed: if they do not say so clearly.
    """
    headers = answer.headers
    if any("\n" in value for _, value in headers.items()):
        headers._headers = [(name, _unfolded(value)) for name, value in headers.items()]
    chunked, length = framing_of(headers)
    if answer._method == "HEAD" or answer.status in (204, 304):
        if chunked and answer._method != "HEAD":
            # It has no body whatever it says; what may still come is not to be taken for the next answer.
            del headers["Transfer-Encoding"]
            answer.chunked, answer.will_close = False, True
        elif answer._method == "HEAD" and not chunked and length is None:
            # Some servers, of which PostgREST is one, end the connection behind it without a word.
            answer.will_close = True
        return
    if chunked:
        answer.chunked, answer.chunk_left, answer.length = True, None, None
        answer.will_close = answer._check_close() or "Content-Length" in headers
        answer.fp = Chunks(answer.fp)
    elif length is not None:
        answer.length = length
        answer.will_close = answer._check_close()
