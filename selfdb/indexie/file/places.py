"""Where databases lie: the file of a name, and the names of the files."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, List, Optional, Union

from ..errors import InvalidArgumentError, OpenFailedError

__all__ = ["MEMORY", "SUFFIX", "companions", "default_directory", "file_of", "names_in"]

MEMORY = ":memory:"
"""The name of a database that nobody else can open, and that is gone when it is closed."""

SUFFIX = ".indexie.db"

_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")


def default_directory() -> Path:
    """``SELFDB_INDEXIE_DIR``, else the platform's place for a user's data."""
    said = os.environ.get("SELFDB_INDEXIE_DIR")
    if said:
        return Path(said)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Application Support")
    else:
        base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "selfdb" / "indexie"


def _folder(directory: Any) -> Path:
    if directory is None:
        return default_directory()
    path = os.fspath(directory) if isinstance(directory, (str, os.PathLike)) else None
    if not isinstance(path, str) or "\0" in path:
        raise InvalidArgumentError(f"directory is a path, as text without NUL, not {directory!r}")
    return Path(path)


def file_of(name: Union[str, os.PathLike[str]], directory: Optional[Union[str, os.PathLike[str]]]) -> Path:
    """The file of a database. A name becomes a file of that name in the directory; a path is the file itself.

    :raises InvalidArgumentError: when ``name`` is neither, or ``directory`` no path.
    """
    if isinstance(name, str):
        if not name or "\0" in name:
            raise InvalidArgumentError("the name of a database must not be empty, nor contain NUL")
        return _folder(directory).absolute() / (_quoted(name) + SUFFIX)
    if isinstance(name, os.PathLike):
        path: Any = os.fspath(name)
        if isinstance(path, str) and "\0" not in path:
            # What a relative path means must not change with the working directory.
            return Path(path).absolute()
        raise InvalidArgumentError(f"the path of a database is text without NUL, not {path!r}")
    raise InvalidArgumentError(f"the name of a database is a str or a path, not a {type(name).__name__}")


def is_there(path: Path) -> bool:
    """Whether there is such a file.

    :raises OpenFailedError: when that cannot be seen.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise OpenFailedError(f"{path} cannot be looked at: {error.strerror}") from error
    return True


def _quoted(name: str) -> str:
    # Whatever a file system might take for something else is written out: separators, dots, letters beyond ASCII.
    try:
        return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in name.encode())
    except UnicodeEncodeError:
        raise InvalidArgumentError("the name of a database must not contain lone surrogates") from None


def _unquoted(quoted: str) -> Optional[str]:
    first, *rest = quoted.split("%")
    try:
        data = first.encode("ascii") + b"".join(bytes((int(each[:2], 16),)) + each[2:].encode("ascii") for each in rest)
        name = data.decode()
        return name if _quoted(name) == quoted else None
    except ValueError:
        return None


def names_in(directory: Optional[Union[str, os.PathLike[str]]]) -> List[str]:
    """The names of the databases in a directory, sorted.

    :raises InvalidArgumentError: when ``directory`` is no path.
    """
    folder = _folder(directory)
    try:
        files = [entry.name for entry in os.scandir(folder) if entry.name.endswith(SUFFIX)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise OpenFailedError(f"{folder} cannot be looked into: {error.strerror}") from error
    names = (_unquoted(file[: -len(SUFFIX)]) for file in files)
    return sorted(name for name in names if name)


def companions(path: Path) -> List[Path]:
    """The files that SQLite keeps beside a database."""
    return [path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal")]
