"""A body on its way to the caller: in blocks, resumed where it broke off, whole or not at all under its final name."""

from __future__ import annotations

import contextlib
import io
import os
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, Union

from ..exceptions import APIConnectionError, InvalidRequestError, ResponseTooLargeError, SelfDBError
from .arguments import whole_number
from .call import away
from .clock import Deadline
from .exchange import MAX_ANSWER
from .forks import renew_after_fork
from .marks import inner
from .request import Request
from .retry import RetryBudget
from .stream import Stream
from .transport import Transport
from .upload import Progress
from .waits import END, Waiting, waiting, work

__all__ = ["BLOCK_SIZE", "Download", "DownloadTarget", "SupportsWrite", "check_target", "read_all", "save"]

BLOCK_SIZE = 256 * 1024
"""Bytes that a loop over a stream gets at a time, unless it asks for others."""

LARGE_BLOCK_SIZE = 1024 * 1024
"""Bytes at a time where nobody sees them but who writes them away: fewer steps for as many bytes."""

_LENGTH = r"[0-9]{1,18}\Z"
_CONTENT_RANGE = r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)\Z"


class SupportsWrite(Protocol):
    """A binary file, or anything that is written like one."""

    def write(self, data: bytes, /) -> Any:
        """Take ``data``, all of it."""


DownloadTarget = Union[str, "os.PathLike[str]", SupportsWrite]
"""Where a download goes: a path, or a binary file that stays open."""


class _Changed(Exception):
    """The object behind the address is another one than the one that was begun."""


class Download:
    """An iterator over the blocks of a body; a context manager that lets go of the connection.

    A connection that breaks is opened again for the rest (``Range``), provided the object is still the
    same (``If-Range``). A step that is interrupted loses no byte: the next one goes on where it was. Belongs to one
    thread.

    :ivar total: bytes to come in all, or ``None`` while unknown.
    :ivar done: bytes handed out.
    :ivar status_code: of the first answer.
    :ivar headers: of the first answer.
    """

    def __init__(
        self,
        transport: Transport,
        request: Request,
        *,
        block_size: int = LARGE_BLOCK_SIZE,
        max_bytes: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._transport = transport
        self._request = request
        self._block_size = whole_number(block_size, "chunk_size", 1)
        self._max_bytes = None if max_bytes is None else whole_number(max_bytes, "max_bytes", 0)
        self._progress = progress
        self._failures = 0
        # One for the whole download: a resumed one does not get its time anew.
        self._deadline = Deadline(transport.options.stream_deadline, transport.pool.clock)
        self._stream: Stream | None = None
        self._interrupted = self._over = False
        self._block: bytes | None = None
        """Fetched, and not handed out so far."""
        renew_after_fork(self)
        self._renew_in_child()
        self._begin()

    def _renew_in_child(self) -> None:
        self._turn = threading.RLock()  # a step that was given up may still be on its way out

    def _begin(self) -> None:
        self.done = 0
        self._stream = self._open({"Accept-Encoding": "identity"})
        self.status_code: int = self._stream.status_code
        if self.status_code == 206:  # to a request for all of it
            self.close()
            raise self._signed(APIConnectionError("the server gave a part of the object where all of it was asked for"))
        self.headers: Mapping[str, str] = self._stream.headers
        encoded = self.headers.get("Content-Encoding", "identity").lower() != "identity"
        length = self.headers.get("Content-Length", "")
        self.total: int | None = int(length) if re.match(_LENGTH, length) and not encoded else None
        tag = self.headers.get("ETag", "")
        # A weak tag promises the same meaning, not the same bytes.
        self._tag = tag if tag.startswith('"') and not encoded else None
        # What comes compressed although we asked for it plain could be a bomb.
        self._limit = MAX_ANSWER if encoded and self._max_bytes is None else self._max_bytes
        if self._limit is not None and self.total is not None and self.total > self._limit:
            raise self._too_large()

    def _open(self, headers: dict[str, str]) -> Stream:
        return self._transport.open(self._request._replace(headers=headers), self._deadline)

    def __enter__(self) -> Download:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[bytes]:
        return self

    @waiting
    def __next__(self) -> Waiting[bytes]:
        """The next block.

        :raises APIConnectionError: if it broke off and could not be resumed, or the object has changed meanwhile.
        :raises ResponseTooLargeError: beyond ``max_bytes``.
        """
        if self._block is None:
            yield from work(self._fetch)
        block, self._block = self._block, None
        return END if block is None else block

    def _fetch(self) -> None:
        """Have a block in ``_block``, unless there is none any more."""
        with self._turn:
            done = self.done
            try:
                if self._block is None:
                    self._block = self.next_block()
            except StopIteration:
                return
            except _Changed:
                raise self._signed(
                    APIConnectionError("the object changed while it was downloaded; download it again")
                ) from None
            except Exception:
                raise
            except BaseException:  # given up, or Ctrl-C: what had been read is fetched again
                self.done, self._interrupted = done, True
                self._let_go()
                raise
            finally:
                if self._over:  # closed meanwhile
                    self._let_go()

    def _go_on(self) -> None:
        """Open the connection again after a step that was interrupted."""
        if self.total is not None and self.done >= self.total:
            return  # there is no more
        if self._tag is None:
            raise self._signed(APIConnectionError("the download was interrupted, and this one cannot be resumed"))
        self._reopen(self._tag)
        self._interrupted = False

    @inner
    def next_block(self) -> bytes:
        """As ``next``, but a changed object is told apart so that the target can begin anew."""
        while True:
            if self._interrupted and not self._over:
                self._go_on()
            if self._stream is None or self._over:
                raise StopIteration
            try:
                block = self._stream.read(self._block_size)
            except APIConnectionError as error:
                self._resume(error)
                continue
            if not block:
                if self.total is not None and self.done < self.total:
                    # A resumed answer may hold less than the rest, and say so.
                    self._resume(APIConnectionError(f"the answer ended after {self.done} of {self.total} bytes"))
                    continue
                self.close()
                raise StopIteration
            self.done += len(block)
            if self._limit is not None and self.done > self._limit:
                raise self._too_large()
            self._failures = 0
            if self._progress is not None:
                self._progress(self.done, self.total)
            return block

    def _resume(self, error: APIConnectionError) -> None:
        """Go on behind the last byte that came, or raise ``error``."""
        self._let_go()
        retry, budget = self._transport.options.retry, self._transport.pool.budget
        pause = retry.delay(self._failures)
        self._signed(error)
        if self._tag is None or self._failures >= retry.max_retries or not self._deadline.allows(pause):
            raise error
        if not budget.take(RetryBudget.COST):
            raise error
        self._transport.lifeline.sleep(pause)
        self._failures += 1
        self._reopen(self._tag)

    def _reopen(self, tag: str) -> None:
        headers = {"Accept-Encoding": "identity", "Range": f"bytes={self.done}-", "If-Range": tag}
        try:
            stream = self._open(headers)
        except SelfDBError as refused:
            # 416: there is nothing behind what came, so it cannot be the same object.
            if refused.status_code in (404, 416):
                raise _Changed from refused
            raise
        span = re.match(_CONTENT_RANGE, stream.headers.get("Content-Range", ""))
        whole = None if span is None or span[2] == "*" else int(span[2])
        if stream.status_code != 206 or span is None or int(span[1]) != self.done or whole not in (None, self.total):
            stream.close()
            raise _Changed
        self._stream = stream

    @inner
    def restart(self) -> None:
        """Begin anew with what is there now."""
        self._let_go()
        self._begin()

    def _too_large(self) -> ResponseTooLargeError:
        self.close()
        error = ResponseTooLargeError(f"the object is larger than the {self._limit} bytes allowed for it")
        self._signed(error)
        return error

    def _signed(self, error: SelfDBError) -> SelfDBError:
        error.method, error.path = self._request.method, self._request.path
        return error

    def close(self) -> None:
        """End the loop and let go of the connection. Idempotent."""
        self._over = True
        self._block = None
        self._let_go()

    def _let_go(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()


MAX_RESTARTS = 3
"""How often a target begins anew because the object keeps changing."""


def _pour(download: Download, write: Any, rewind: Any) -> int:
    """Everything of ``download`` into ``write``, from the start again if the object changes on the way."""
    for restarts in range(MAX_RESTARTS + 1):
        try:
            while True:
                try:
                    block = download.next_block()
                except StopIteration:
                    return download.done
                write(block)
        except _Changed:
            if restarts == MAX_RESTARTS or rewind is None:
                raise download._signed(
                    APIConnectionError("the object changed while it was downloaded; download it again")
                ) from None
            rewind()
            download.restart()
    raise AssertionError("unreachable")  # pragma: no cover - the loop above returns or raises


def read_all(download: Download) -> bytes:
    """The whole body in memory."""
    blocks: list[bytes] = []
    with download:
        _pour(download, blocks.append, blocks.clear)
    return b"".join(blocks)


def check_target(target: Any) -> None:
    """Return if a download can go to ``target`` as far as can be told before it begins.

    :raises InvalidRequestError: if it is neither a path nor a binary file, or a path that is empty or a folder.
    """
    if isinstance(target, (str, os.PathLike)):
        path = Path(target)
        if not path.name or "\0" in str(path) or path.is_dir():
            raise InvalidRequestError(f"target: {str(path)!r} is no path of a file")
    elif isinstance(target, io.TextIOBase):
        raise InvalidRequestError('target is a text file; open it in binary mode, open(path, "wb")')
    elif not hasattr(target, "write"):
        raise InvalidRequestError(f"target must be a path or a binary file, not {type(target).__name__}")


def save(download: Download, target: DownloadTarget) -> int:
    """The whole body to ``target``; returns its size in bytes.

    Under a path it appears whole or not at all: it is written beside it and renamed when it is complete. A
    file object is written from where it stands; if the object changes on the way and the file can seek, it
    is rewound and cut off there.

    :raises InvalidRequestError: see :func:`check_target`; also if the folder of the path does not exist or
        cannot be written to.
    :raises OSError: if the disk does not take it, or whatever else the file object raises.
    """
    with download:
        check_target(target)
        if not isinstance(target, (str, os.PathLike)):
            return _pour(download, target.write, _rewinder(target))
        path = Path(target)
        # Part of the name only: with ours around it, a long one would be too long.
        beside = path.with_name(f".{path.name[:50]}.{os.urandom(6).hex()}.part")
        try:
            # Not by `tempfile`: that makes files for their owner only, and a download is an ordinary file.
            handle = os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o666)
        except OSError as error:
            raise InvalidRequestError(f"cannot write into {path.parent}: {error.strerror}") from error
        try:
            with os.fdopen(handle, "wb") as file:
                size = _pour(download, file.write, _rewinder(file))
                file.flush()
                with away():
                    os.fsync(file.fileno())
            beside.replace(path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                beside.unlink()
            raise
        return size


def _rewinder(file: Any) -> Any:
    try:
        start = file.tell() if file.seekable() else None
    except (AttributeError, OSError, ValueError):
        start = None
    if start is None:
        return None

    def rewind() -> None:
        file.seek(start)
        file.truncate()

    return rewind
