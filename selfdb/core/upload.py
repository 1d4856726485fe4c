"""What callers give as a body, made into one thing that can be measured, sent and, if its source allows, resent."""

from __future__ import annotations

import io
import os
import stat
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Optional, Protocol, Union

from ..exceptions import InvalidRequestError
from .encoding import encode_text

__all__ = ["Progress", "SupportsRead", "Upload", "UploadData"]

Progress = Callable[[int, Optional[int]], object]
"""Called as ``progress(done, total)`` in bytes after each block; ``total`` is ``None`` while it is unknown."""

SPOOL_IN_MEMORY = 1024 * 1024
"""Bytes of a spooled body that stay in memory before it moves to an unnamed file."""


class SupportsRead(Protocol):
    """A binary file, or anything that reads like one."""

    def read(self, size: int = ..., /) -> bytes:
        """Up to ``size`` bytes; empty at the end."""


UploadData = Union[bytes, bytearray, memoryview, str, "os.PathLike[str]", SupportsRead, Iterable[bytes]]
"""Bytes; text (sent as UTF-8); a path; a binary file, read from where it stands; or an iterable of bytes."""


class Upload:
    """A body with its source.

    :param data: see :data:`UploadData`. A file object of the caller's is never closed.
    :param progress: told how far it is; starts again from zero when the body is sent again.
    :raises InvalidRequestError: for another type, a text file, a missing or unreadable path, a lone surrogate.

    Belongs to one call; not to be shared between threads.
    """

    def __init__(self, data: UploadData, progress: Progress | None = None) -> None:
        self.progress = progress
        self.length: int | None = None
        """Bytes to send, or ``None`` if only the end will tell."""
        self.replayable = True
        """Whether ``open`` may be called more than once."""
        self._open: Callable[[], SupportsRead]
        self._owned = True
        self._reader: UploadReader | None = None
        if isinstance(data, str):
            data = encode_text(data, "data")
        if isinstance(data, (bytes, bytearray, memoryview)):
            view = _flat(data)
            self.length = view.nbytes
            self._open = lambda: _ViewReader(view)
        elif isinstance(data, os.PathLike):
            self._take_path(Path(data))
        elif isinstance(data, io.TextIOBase):
            raise InvalidRequestError('data is a text file; open it in binary mode, open(path, "rb")')
        elif hasattr(data, "read"):
            self._take_file(data)
        elif isinstance(data, Iterable):
            chunks = iter(data)
            self.replayable = False
            self._open = lambda: _ChunkReader(chunks)
        else:
            raise InvalidRequestError(
                f"data must be bytes, str, a path, a binary file or an iterable of bytes, not {type(data).__name__}"
            )

    def _take_path(self, path: Path) -> None:
        try:
            if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
                # Opening a pipe would wait for its writer, and its size says nothing.
                raise InvalidRequestError(f"data: {path} is no regular file; open it and pass the file object")
            with path.open("rb") as file:
                self.length = os.fstat(file.fileno()).st_size
        except OSError as error:
            raise InvalidRequestError(f"data: {path} cannot be read: {error.strerror}") from error
        self._open = lambda: path.open("rb")

    def _take_file(self, file: Any) -> None:
        self._owned = False
        try:
            # Not every file has `seekable`: a spooled one lacks it before Python 3.11.
            seekable = getattr(file, "seekable", None)
            start = file.tell() if seekable is None or seekable() else None
            if start is not None:
                file.seek(0, os.SEEK_END)
                self.length = max(0, file.tell() - start)
                file.seek(start)
        except (AttributeError, OSError, TypeError, ValueError):
            start = None
        if start is None:
            self.length, self.replayable = None, False
            self._open = lambda: file
            return

        def rewound() -> SupportsRead:
            file.seek(start)
            return file  # type: ignore[no-any-return]

        self._open = rewound

    def spooled(self) -> Upload:
        """A body of the same bytes that can be sent more than once: this one, or a copy on disk.

        Reads the source to its end if it cannot be rewound: up to 1 MiB stays in memory, more goes to a
        file without a name, which goes with the returned object.
        """
        if self.replayable:
            return self
        spool: BinaryIO = tempfile.SpooledTemporaryFile(SPOOL_IN_MEMORY)  # type: ignore[assignment]  # noqa: SIM115
        try:
            source = self.open()
            source.progress = None  # nothing has been sent yet
            while True:
                block = source.read(io.DEFAULT_BUFFER_SIZE * 8)
                if not block:
                    break
                spool.write(block)
            spool.seek(0)
        except BaseException:
            spool.close()
            raise
        copy = Upload(spool, self.progress)
        weakref.finalize(copy, spool.close)
        return copy

    def open(self) -> UploadReader:
        """A reader from the first byte on. May be called again only if ``replayable``."""
        self._reader = UploadReader(self._open(), self.length, self.progress, self._owned)
        return self._reader

    @property
    def touched(self) -> bool:
        """Whether anything of the source has been asked for: then one that cannot be rewound is spent."""
        return self._reader is not None and self._reader.started


class UploadReader:
    """Reads a body for one attempt, and remembers what its source raised: that is the caller's error, not the net's."""

    def __init__(self, source: SupportsRead, length: int | None, progress: Progress | None, owned: bool) -> None:
        self._source = source
        self._length = length
        self._owned = owned
        self.progress = progress
        self.started = False
        self.done = 0
        self.error: BaseException | None = None

    def read(self, size: int = -1) -> bytes:
        """The next bytes; never more than were announced, and an error rather than fewer."""
        self.started = True
        try:
            return self._read(size)
        except BaseException as error:
            self.error = error
            raise

    def _read(self, size: int) -> bytes:
        if self._length is not None:
            left = self._length - self.done
            size = left if size < 0 else min(size, left)
            if size == 0:
                return b""
        block = _as_bytes(self._source.read(size))
        if self._length is not None:
            if not block:
                raise InvalidRequestError(
                    f"data ended after {self.done} of {self._length} bytes; it shrank while it was sent"
                )
            block = block[:left]  # a source may give more than it was asked for
        self.done += len(block)
        if self.progress is not None and block:
            self.progress(self.done, self._length)
        return block

    def close(self) -> None:
        """Close what we opened ourselves."""
        if self._owned and hasattr(self._source, "close"):
            self._source.close()


def _flat(data: bytes | bytearray | memoryview) -> memoryview:
    """``data`` byte by byte; a view with gaps is copied, any other is not."""
    view = memoryview(data)
    return view.cast("B") if view.c_contiguous and view.nbytes else memoryview(view.tobytes())


def _as_bytes(block: Any) -> bytes:
    if not isinstance(block, (bytes, bytearray, memoryview)):
        raise InvalidRequestError(f"data gave {type(block).__name__} instead of bytes")
    return block if isinstance(block, bytes) else bytes(block)


class _ViewReader:
    """Reads memory in blocks, so that a large body is neither copied whole nor sent in one call."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        end = len(self._view) if size < 0 else self._at + size
        block = self._view[self._at : end].tobytes()
        self._at += len(block)
        return block


class _ChunkReader:
    """Reads an iterator of bytes; what one chunk holds beyond the size asked for waits for the next read."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        while not self._rest:
            try:
                chunk = next(self._chunks)
            except StopIteration:
                return b""
            self._rest = memoryview(_as_bytes(chunk))
        end = len(self._rest) if size < 0 else size
        block, self._rest = self._rest[:end].tobytes(), self._rest[end:]
        return block
