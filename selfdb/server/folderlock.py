"""One process a folder: the lock that says so, and the note that tells others whom to ask instead.

The lock is the operating system's, on ``<data>/.lock``, and dies with its holder however that ends; the note
``<data>/serving.json`` (mode 0600, it holds the API key) is believed only while the lock is held.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, Tuple

from .privatefiles import make_private_folder, write_secret

if sys.platform == "win32":  # pragma: no cover - proven on POSIX only
    import msvcrt
else:
    import fcntl

__all__ = ["FolderInUse", "FolderLock", "Serving", "serving"]

_LOCK = ".lock"
_NOTE = "serving.json"
#: Whoever merely looks holds the lock for an instant; whoever wants it tries again for this long.
_PATIENCE_SECONDS = 1.0


@dataclass(frozen=True)
class Serving:
    """The server that serves a folder right now."""

    pid: int
    url: str
    api_key: str = field(repr=False)


class FolderInUse(RuntimeError):
    """Another server serves this folder; ``pid`` and ``url`` say which, if it has got that far."""

    def __init__(self, path: Path, other: Optional[Serving]) -> None:
        self.path = path
        self.pid = None if other is None else other.pid
        self.url = None if other is None else other.url
        where = "another process" if other is None else f"process {other.pid} at {other.url}"
        super().__init__(f"{path} is already served by {where}; use it there, or stop it first")

    def __reduce__(self) -> Tuple[Any, ...]:
        other = None if self.pid is None or self.url is None else Serving(self.pid, self.url, "")
        return type(self), (self.path, other)


class FolderLock:
    """The right to serve one folder. Not for sharing between threads.

    :raises FolderInUse: another process, or another server of this one, has it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        make_private_folder(path)
        self._handle = os.open(path / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not _take(self._handle):
            if time.monotonic() >= deadline:
                os.close(self._handle)
                raise FolderInUse(path, _note(path))
            time.sleep(0.02)
        # What an earlier holder left when it was killed must not be taken for ours.
        (path / _NOTE).unlink(missing_ok=True)

    def announce(self, url: str, api_key: str) -> None:
        """Tell where this folder is served from now on."""
        note = {"pid": os.getpid(), "url": url, "api_key": api_key}
        write_secret(self._path / _NOTE, json.dumps(note) + "\n")

    def release(self) -> None:
        """Give the right back; harmless when done twice."""
        if self._handle < 0:
            return
        with contextlib.suppress(OSError):
            (self._path / _NOTE).unlink(missing_ok=True)
        os.close(self._handle)
        self._handle = -1


def serving(path: Path) -> Optional[Serving]:
    """The server that serves ``path`` right now, or ``None`` when nobody does (or it is only just starting)."""
    path = Path(path)
    try:
        handle = os.open(path / _LOCK, os.O_RDWR)
    except OSError:
        return None
    try:
        if _take(handle):
            return None
    finally:
        os.close(handle)
    return _note(path)


def _take(handle: int) -> bool:
    try:
        if sys.platform == "win32":  # pragma: no cover
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _note(path: Path) -> Optional[Serving]:
    try:
        note = json.loads((path / _NOTE).read_text(encoding="utf-8"))
        return Serving(pid=int(note["pid"]), url=str(note["url"]), api_key=str(note["api_key"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
