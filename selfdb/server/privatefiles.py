"""Folders and files that only their owner can read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

__all__ = ["make_private_folder", "write_secret"]


def make_private_folder(path: Path) -> None:
    """Make ``path`` (and its parents) if need be and close it to other users."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.chmod(0o700)


def write_secret(path: Path, text: str) -> None:
    """Put ``text`` into a file with mode 0600, at once or not at all."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
