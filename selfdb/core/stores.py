"""Where a session outlives a call: in memory, or in a file that processes share."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, Union

from ..exceptions import APITimeoutError, InvalidRequestError, SelfDBError
from .call import away
from .forks import renew_after_fork

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows, which locks bytes of a file instead
    fcntl = None  # type: ignore[assignment]

__all__ = ["FileStore", "MemoryStore", "SessionStore"]


class SessionStore(Protocol):
    """One string kept under no name: what a client needs to go on being signed in.

    An implementation has to be safe to call from several threads. Its methods may block; they are never
    called while a lock of ours is held.
    """

    def get(self) -> str | None:
        """What was set last, or ``None``."""

    def set(self, value: str) -> None:
        """Keep ``value`` in place of what was there; whole or not at all."""

    def remove(self) -> None:
        """Keep nothing; harmless when nothing is there."""

    def lock(self, timeout: float | None) -> AbstractContextManager[object]:
        """Hold off every other holder of the same store, in other processes above all, while a session is renewed.

        :param timeout: seconds to wait for it; ``None`` waits for ever.
        :raises APITimeoutError: when ``timeout`` passes first.
        """


class MemoryStore:
    """Keeps a session for the life of the process. The default."""

    def __init__(self) -> None:
        self._value: str | None = None

    def get(self) -> str | None:
        """What was set last, or ``None``."""
        return self._value

    def set(self, value: str) -> None:
        """Keep ``value``."""
        self._value = value

    def remove(self) -> None:
        """Keep nothing."""
        self._value = None

    def lock(self, timeout: float | None) -> AbstractContextManager[object]:
        """Nothing to hold: the threads of one process already wait for one another."""
        return contextlib.nullcontext()


class FileStore:
    """Keeps a session in a file, for cron jobs and command lines that start again and again.

    The file is readable by its owner only (0600), is replaced in one step, and stands beside a ``.lock``
    file by which processes take turns in renewing the session. May be shared by threads.

    :param path: the file; its folder is made (0700) when it is missing.
    :raises InvalidRequestError: if ``path`` is empty, is a folder or is no path at all.
    """

    _POLL = 0.02
    """Seconds between two looks at a lock that another process holds."""

    def __init__(self, path: Union[str, os.PathLike[str]]) -> None:
        try:
            given = os.fspath(path)
            if not given or "\0" in given:
                raise InvalidRequestError("the path of a session file must not be empty or contain NUL")
            self._path = Path(given).expanduser().absolute()
        except (TypeError, RuntimeError) as error:  # RuntimeError: "~" of a user who has no home
            raise InvalidRequestError(f"the path of a session file is not usable: {error}") from None
        if self._path.is_dir():
            raise InvalidRequestError(f"{self._path} is a folder; name a file in it")
        self._handles: set[int] = set()
        """Open files by which a lock is held or waited for."""
        renew_after_fork(self)

    def _renew_in_child(self) -> None:
        # A lock lives as long as any copy of its file is open: ours would outlive a parent that is killed.
        for handle in list(self._handles):
            self._let_go(handle)

    def __repr__(self) -> str:
        return f"FileStore({str(self._path)!r})"

    def get(self) -> str | None:
        """The text of the file, or ``None`` if there is none. Of bytes that are no text something is made that is.

        :raises SelfDBError: if it exists and cannot be read.
        """
        try:
            return self._path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SelfDBError(f"the session file {self._path} cannot be read: {error}") from error

    def set(self, value: str) -> None:
        """Replace the file in one step, so that a reader sees the old text or the new one.

        :raises SelfDBError: if it cannot be written.
        """
        try:
            self._replace(value)
        except (OSError, UnicodeError) as error:
            raise SelfDBError(f"the session file {self._path} cannot be written: {error}") from error

    def _replace(self, value: str) -> None:
        self._make_folder()
        # mkstemp makes the file 0600 from the first moment.
        handle, name = tempfile.mkstemp(prefix=f".{self._path.name}.", dir=self._path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(value)
                file.flush()
                with away():
                    os.fsync(file.fileno())
            Path(name).replace(self._path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                Path(name).unlink()
            raise

    def remove(self) -> None:
        """Delete the file; harmless when there is none.

        :raises SelfDBError: if it is there and cannot be deleted.
        """
        try:
            self._path.unlink()
        except FileNotFoundError:
            return
        except OSError as error:
            raise SelfDBError(f"the session file {self._path} cannot be deleted: {error}") from error

    @contextlib.contextmanager
    def lock(self, timeout: float | None) -> Iterator[None]:
        """Hold the lock of this file against every other process and every other ``FileStore`` on it.

        It ends with the process that holds it, however that ends.

        :raises APITimeoutError: when another holder keeps it for longer than ``timeout`` seconds.
        :raises SelfDBError: if there can be no lock beside the file.
        """
        with away():
            handle = self._locked(timeout)
        try:
            yield
        finally:
            if handle in self._handles:  # not in a child that was forked meanwhile: the lock is its parent's
                try:
                    _unlock(handle)
                finally:
                    self._let_go(handle)

    def _locked(self, timeout: float | None) -> int:
        path = self._path.with_name(self._path.name + ".lock")
        end = None if timeout is None else time.monotonic() + timeout
        try:
            self._make_folder()
            handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
            self._handles.add(handle)
            try:
                while not _try_lock(handle):
                    if end is not None and time.monotonic() >= end:
                        raise APITimeoutError(f"another process holds the session lock {path}")
                    time.sleep(self._POLL)
            except BaseException:
                self._let_go(handle)
                raise
        except SelfDBError:  # an OSError too: time-outs are
            raise
        except OSError as error:
            raise SelfDBError(f"the session lock {path} cannot be taken: {error}") from error
        return handle

    def _let_go(self, handle: int) -> None:
        self._handles.discard(handle)
        os.close(handle)

    def _make_folder(self) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)


if fcntl is not None:

    def _try_lock(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _unlock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_UN)

else:  # pragma: no cover - Windows only; the suite runs on POSIX
    import msvcrt

    def _try_lock(handle: int) -> bool:
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)
