"""The blob store: contents of files under ``<data>/objects``, one immutable file a version; no database.

A version is a file named by a fresh UUID (32 hex digits) in a directory named by the first two of them. It is
written once, under ``incoming/``, and renamed to its place when it is whole and on the disk; it is never
changed after. The catalogue row names the version, so the commit of the row is what publishes a file. A
process killed at any point leaves at worst a version that no row names, and the sweep at the next start
removes it.

Who may remove what, among processes that share the folder, is told by advisory locks, which die with their
holder:

* an upload holds a lock on its own file from creation until its row is committed; the sweep leaves such a
  file alone;
* a backup holds ``objects/.pin`` alone for as long as it copies; whoever would remove a version shares that
  lock, or puts the removal off while it cannot.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import threading
import uuid
from pathlib import Path
from types import TracebackType
from typing import IO, AbstractSet, Callable, Iterable, Iterator, List, Optional, Tuple, Type, Union

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows: one process a folder, and no backup of a served one
    fcntl = None  # type: ignore[assignment]

__all__ = ["CAN_PIN", "Incoming", "ObjectStore", "UploadAbandoned", "is_version", "sync_directory"]

_log = logging.getLogger("selfdb.server.objects")

CAN_PIN = fcntl is not None
"""Whether this platform has the locks that let a backup run beside a server."""

_VERSION = re.compile(r"[0-9a-f]{32}\Z")
_SHARD = re.compile(r"[0-9a-f]{2}\Z")


def is_version(text: str) -> bool:
    """Whether ``text`` may name a version. Everything that becomes a path is checked by this first."""
    return _VERSION.match(text) is not None


def sync_directory(path: Path) -> None:
    """Put a directory's entries on the disk; a rename is not durable before."""
    if os.name == "nt":  # pragma: no cover - directories cannot be opened there
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class UploadAbandoned(Exception):
    """The upload was given up while somebody went on with it."""


class Incoming:
    """One version being written. Thread-safe: the loop may abandon it while a worker still writes.

    Leaving the ``with`` block removes what was not published; a published version stays, and ``withdraw``
    removes it.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._claimed = False
        self.version, self._path, self._file = store._create()
        self.size = 0

    def write(self, block: Union[bytes, bytearray]) -> None:
        """Append a block.

        :raises OSError: the disk is full, or worse.
        :raises UploadAbandoned: it was abandoned meanwhile.
        """
        with self._lock:
            if self._file.closed:
                raise UploadAbandoned()
            rest = memoryview(block)
            while rest:
                written = self._file.write(rest)
                rest = rest[written:]
            self.size += len(block)

    def claim(self) -> None:
        """Take it over from whoever receives: from here on ``abandon`` leaves it alone, ``withdraw`` must be
        called.

        :raises UploadAbandoned: it was abandoned already.
        """
        with self._lock:
            if self._file.closed:
                raise UploadAbandoned()
            self._claimed = True

    def publish(self) -> None:
        """Put the content on the disk and give it its place. It is visible only once a committed row names
        it.
        """
        os.fsync(self._file.fileno())
        self._path = self._store._place(self._path, self.version)

    def keep(self) -> None:
        """The row is committed: let go of the lock that kept the sweep away."""
        self._file.close()

    def withdraw(self) -> None:
        """Remove what was written, published or not."""
        self._file.close()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    def abandon(self) -> None:
        """Remove what was written, unless it was claimed. Harmless when repeated."""
        with self._lock:
            if not self._claimed and not self._file.closed:
                self.withdraw()

    def __enter__(self) -> Incoming:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.abandon()


class ObjectStore:
    """Versions under one folder. Thread-safe, and safe among processes that share the folder.

    :param folder: ``<data>/objects``; created with mode 0700 if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._incoming = folder / "incoming"
        self._deferred_lock = threading.Lock()
        self._deferred: List[str] = []
        self._incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)

    def receive(self) -> Incoming:
        """Begin a new version."""
        return Incoming(self)

    def open(self, version: str) -> io.FileIO:
        """Open a version for reading, unbuffered. What is open stays readable after its removal.

        :raises FileNotFoundError: it is not there (any more).
        """
        return io.FileIO(self.path(version), "rb")

    def path(self, version: str) -> Path:
        """Where a version lives.

        :raises ValueError: the text cannot name one.
        """
        if not is_version(version):
            raise ValueError("not the name of a stored version")
        return self.folder / version[:2] / version

    def discard(self, versions: Iterable[str]) -> None:
        """Remove versions that no committed row names any more. Never fails: the sweep of the next start is
        behind it.

        While a backup runs the removal is put off to the next call.
        """
        doomed = list(versions)
        with self._deferred_lock:
            doomed += self._deferred
            self._deferred = []
        if not doomed:
            return
        try:
            with self._removing() as allowed:
                while allowed and doomed:
                    with contextlib.suppress(FileNotFoundError):
                        self.path(doomed[-1]).unlink()
                    doomed.pop()
        except OSError as error:
            _log.warning("The content of a removed file could not be removed yet: %s", error.strerror)
        with self._deferred_lock:
            self._deferred += doomed

    def sweep(self, named: Callable[[str], AbstractSet[str]], started: float) -> int:
        """Remove what earlier processes left behind; returns the number of files removed.

        :param named: gives the versions that the catalogue names among those that begin with these two
            digits.
        :param started: Unix time in seconds; younger files are left alone.
        """
        removed = 0
        with self._removing() as allowed:
            if not allowed:
                return 0
            for path in list(self._incoming.iterdir()):
                removed += self._sweep_one(path, started, lambda _: frozenset())
            for shard in sorted(self.folder.iterdir()):
                if not (_SHARD.match(shard.name) and shard.is_dir()):
                    continue
                present = [path for path in shard.iterdir() if is_version(path.name)]
                kept = named(shard.name) if present else frozenset()
                for path in present:
                    if path.name not in kept:
                        # Asked again under the file's lock: its upload may have committed between the two
                        # looks.
                        removed += self._sweep_one(path, started, named)
        if removed:
            _log.info("Removed %d unfinished or unnamed objects of an earlier run", removed)
        return removed

    @contextlib.contextmanager
    def pinned(self) -> Iterator[None]:
        """Hold all versions: while this lasts, no process removes one. Waits for removals that are under way.

        :raises OSError: the platform has no such locks.
        """
        if fcntl is None:  # pragma: no cover - Windows
            raise OSError("this platform has no advisory locks")
        with self._pin_file() as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _pin_file(self) -> IO[bytes]:
        handle = os.open(self.folder / ".pin", os.O_RDWR | os.O_CREAT, 0o600)
        return os.fdopen(handle, "r+b")

    @contextlib.contextmanager
    def _removing(self) -> Iterator[bool]:
        if fcntl is None:  # pragma: no cover - Windows
            yield True
            return
        with self._pin_file() as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def _create(self) -> Tuple[str, Path, io.FileIO]:
        while True:
            version = uuid.uuid4().hex
            path = self._incoming / version
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
            file = io.FileIO(handle, "r+b")
            if fcntl is None:  # pragma: no cover - Windows
                return version, path, file
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                if path.exists():
                    return version, path, file
            except BaseException:
                file.close()
                raise
            file.close()  # the sweep of a starting process came between creating and locking

    def _place(self, source: Path, version: str) -> Path:
        target = self.path(version)
        if not target.parent.is_dir():
            target.parent.mkdir(mode=0o700, exist_ok=True)
            sync_directory(self.folder)
        source.rename(target)
        sync_directory(target.parent)
        return target

    def _sweep_one(self, path: Path, started: float, named: Callable[[str], AbstractSet[str]]) -> int:
        try:
            with contextlib.ExitStack() as held:
                if fcntl is not None:
                    handle = held.enter_context(path.open("rb"))
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if path.stat().st_mtime >= started or path.name in named(path.name):
                    return 0
                path.unlink()
        except (BlockingIOError, FileNotFoundError):
            return 0
        except OSError as error:
            _log.warning("An unfinished object could not be removed: %s", error.strerror)
            return 0
        return 1
