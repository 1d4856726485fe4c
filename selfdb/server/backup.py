"""Copying a data folder into one archive while it is served, and making a folder of such an archive again.

The archive is a ``tar.gz`` of regular files, in this order::

    manifest.json        {"format": 1, "created_at": ..., "files": n, "bytes": n}
    selfdb.sqlite3       a consistent snapshot, taken by SQLite's own online backup
    <secrets>            the generated API key and whatever else the folder keeps in files of its own
    objects/ab/ab...     the content of every file that the snapshot names

It holds keys and password hashes, so it is written with mode 0600.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import re
import shutil
import sqlite3
import tarfile
import tempfile
import time
import zlib
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Dict, Iterator, List, Optional, Tuple, Union

from .folderlock import FolderInUse, FolderLock, serving
from .objects import CAN_PIN, ObjectStore, is_version, sync_directory

__all__ = ["BackupError", "backup", "restore"]

DATABASE = "selfdb.sqlite3"
MANIFEST = "manifest.json"
FORMAT = 1
_SECRETS = ("api-key",)
#: What an empty folder may hold: the locks, and folders.
_EMPTY = frozenset((".lock", "objects/.pin"))
_OBJECT = re.compile(r"objects/([0-9a-f]{2})/([0-9a-f]{32})\Z")
_BLOCK = 1024 * 1024


class BackupError(Exception):
    """A backup or a restore that cannot be done; the text says why and what to do. Nothing was changed."""


def backup(data_folder: Union[str, Path], target_tar_gz: Union[str, Path], *, database: Optional[str] = None) -> None:
    """Write everything a data folder holds into one archive. The folder may be served meanwhile.

    The archive appears under its name only when it is whole; an older one of that name is replaced.

    :param data_folder: the folder given to ``selfdb serve --data``, on SQLite.
    :param target_tar_gz: the archive; its folder must exist and lie outside the data folder.
    :param database: the ``postgresql://`` URL that the server is configured with, if any.
    :raises BackupError: the rows are in PostgreSQL, there is no SQLite database in the folder, the archive
        cannot be written there, a file's content is missing, or the folder is served on a platform without
        the locks for that.
    """
    source = Path(data_folder).resolve()
    target = Path(target_tar_gz).resolve()
    on_postgresql = "copy the database with pg_dump, and the folder's 'objects' after it"
    if database is not None:
        raise BackupError(f"This server keeps its rows in PostgreSQL: {on_postgresql}")
    if not (source / DATABASE).is_file():
        raise BackupError(
            f"{source} holds no SelfDB database ({DATABASE}). "
            f"If the server keeps its rows in PostgreSQL: {on_postgresql}"
        )
    if target.is_dir() or not target.parent.is_dir():
        raise BackupError(f"{target} must be the name of a file in an existing folder")
    if target.is_relative_to(source):
        raise BackupError(f"The archive {target} must not lie inside the data folder {source}")
    try:
        with _removals_held(source), tempfile.TemporaryDirectory(prefix=".selfdb-", dir=target.parent) as work:
            snapshot = Path(work) / DATABASE
            _snapshot(source / DATABASE, snapshot)
            archive = Path(work) / "archive"
            _write_archive(archive, source, snapshot)
            archive.replace(target)
            sync_directory(target.parent)
    except OSError as error:
        raise BackupError(f"The backup of {source} failed: {error}") from error
    except sqlite3.Error as error:
        raise BackupError(f"The database in {source} could not be copied: {error}") from error


def restore(archive: Union[str, Path], data_folder: Union[str, Path]) -> None:
    """Make a data folder of an archive that ``backup`` wrote.

    Everything is unpacked beside its final place and checked (SQLite's integrity check, each file's content
    and size) before anything of it appears in the folder.

    :param archive: what ``backup`` wrote.
    :param data_folder: a folder that is not there, is empty or holds nothing but an empty layout.
    :raises BackupError: the folder is served or not empty, the archive is damaged or holds what no backup
        would hold.
    """
    source = Path(archive).resolve()
    target = Path(data_folder).resolve()
    if not source.is_file():
        raise BackupError(f"There is no archive {source}")
    if target.exists() and not target.is_dir():
        raise BackupError(f"{target} is not a folder")
    if target.exists():
        # Looked at before anything is touched: the lock would close the folder to others.
        other = serving(target)
        if other is not None:
            raise BackupError(f"{target} is served by process {other.pid} at {other.url}; stop it first")
        _refuse_unless_empty(target)
    try:
        with _folder_held(target):
            _refuse_unless_empty(target)
            with tempfile.TemporaryDirectory(prefix=".restore-", dir=target) as work:
                staged = Path(work)
                _unpack(source, staged)
                _check(staged)
                _move_in(staged, target)
    except OSError as error:
        raise BackupError(f"The restore of {source} failed: {error}") from error


@contextlib.contextmanager
def _removals_held(source: Path) -> Iterator[None]:
    """Keep every server of this folder from removing contents until the archive holds them."""
    if CAN_PIN:
        with ObjectStore(source / "objects").pinned():
            yield
        return
    with _folder_held(source):  # pragma: no cover - Windows: nobody may serve it meanwhile
        yield


@contextlib.contextmanager
def _folder_held(folder: Path) -> Iterator[None]:
    """Keep servers out of a folder."""
    try:
        lock = FolderLock(folder)
    except FolderInUse as error:
        raise BackupError(f"{error}; stop it first") from None
    try:
        yield
    finally:
        lock.release()


def _snapshot(database: Path, target: Path) -> None:
    with contextlib.ExitStack() as open_files:
        origin = sqlite3.connect(database.as_uri() + "?mode=rw", uri=True, timeout=60)
        open_files.callback(origin.close)
        copy = sqlite3.connect(target)
        open_files.callback(copy.close)
        origin.backup(copy)
        # One file that needs no log beside it.
        copy.execute("PRAGMA journal_mode=DELETE")


def _contents(database: Path) -> List[Tuple[str, int]]:
    """Version and size of each file that a database names."""
    with contextlib.closing(sqlite3.connect(database.as_uri() + "?mode=ro", uri=True)) as connection:
        return list(connection.execute("SELECT version, size FROM _selfdb_files ORDER BY version"))


def _write_archive(archive: Path, source: Path, snapshot: Path) -> None:
    contents = _contents(snapshot)
    manifest = {
        "format": FORMAT,
        "created_at": datetime.now(timezone.utc).isoformat(),
        "files": len(contents),
        "bytes": sum(size for _, size in contents),
    }
    descriptor = os.open(archive, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as plain:
        with (
            gzip.GzipFile(filename="", mode="wb", compresslevel=4, fileobj=plain) as packed,
            tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
        ):
            _add(tar, MANIFEST, io.BytesIO(json.dumps(manifest).encode()))
            with snapshot.open("rb") as file:
                _add(tar, DATABASE, file)
            for name in _SECRETS:
                with contextlib.suppress(FileNotFoundError), (source / name).open("rb") as file:
                    _add(tar, name, file)
            for version, size in contents:
                _add_content(tar, source, version, size)
        plain.flush()
        os.fsync(plain.fileno())


def _add_content(tar: tarfile.TarFile, source: Path, version: str, size: int) -> None:
    name = f"objects/{version[:2]}/{version}"
    try:
        file = (source / name).open("rb")
    except FileNotFoundError:
        raise BackupError(f"The content of a stored file is missing: {source / name}") from None
    with file:
        if os.fstat(file.fileno()).st_size != size:
            raise BackupError(f"The content of a stored file has not the size that was stored: {source / name}")
        _add(tar, name, file)


def _add(tar: tarfile.TarFile, name: str, file: IO[bytes]) -> None:
    member = tarfile.TarInfo(name)
    member.size = file.seek(0, os.SEEK_END)
    file.seek(0)
    member.mode = 0o600
    member.mtime = int(time.time())
    tar.addfile(member, file)


def _refuse_unless_empty(target: Path) -> None:
    for path in target.rglob("*"):
        name = path.relative_to(target).as_posix()
        layout = path.is_dir() and not path.is_symlink() and (name == "objects" or name.startswith("objects/"))
        if name not in _EMPTY and not layout:
            raise BackupError(f"{target} is not empty (it holds {name!r}). Restore into a new folder.")


def _unpack(archive: Path, staged: Path) -> None:
    """Unpack what a backup may hold, and refuse an archive with anything else in it."""
    seen: Dict[str, bool] = {}
    try:
        with gzip.open(archive) as packed, tarfile.open(fileobj=packed, mode="r|") as tar:
            for member in tar:
                target = _place(member, staged)
                if member.name in seen:
                    raise BackupError(f"{archive} holds {member.name!r} twice")
                seen[member.name] = True
                content = tar.extractfile(member)
                if content is None:
                    raise BackupError(f"{archive} holds {member.name!r} without content")
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    shutil.copyfileobj(content, file, _BLOCK)
                    file.flush()
                    os.fsync(file.fileno())
            while packed.read(_BLOCK):
                continue  # to its end, where the checksum stands
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BackupError(f"{archive} is not a whole SelfDB backup: {error}") from error
    for name in (MANIFEST, DATABASE):
        if name not in seen:
            raise BackupError(f"{archive} is not a SelfDB backup: it holds no {name}")


def _place(member: tarfile.TarInfo, staged: Path) -> Path:
    """Where a member goes. Only names that a backup writes are known, so none can lead out of the folder."""
    known = member.name in (MANIFEST, DATABASE, *_SECRETS)
    found = _OBJECT.match(member.name)
    if found is not None:
        known = found.group(2).startswith(found.group(1))
    if not known or not member.isreg():
        raise BackupError(
            f"The archive holds {member.name[:100]!r}, which no SelfDB backup holds; nothing was restored"
        )
    return staged / member.name


def _check(staged: Path) -> None:
    manifest = _manifest(staged / MANIFEST)
    if manifest.get("format") != FORMAT:
        raise BackupError(
            f"The archive has format {manifest.get('format')!r}; this version reads {FORMAT}. "
            "Restore it with the version that wrote it."
        )
    try:
        with contextlib.closing(sqlite3.connect(staged / DATABASE)) as connection:
            verdict = connection.execute("PRAGMA integrity_check").fetchone()
        if verdict != ("ok",):
            raise BackupError("The archive's database is damaged; nothing was restored")
        contents = _contents(staged / DATABASE)
    except sqlite3.Error as error:
        raise BackupError(f"The archive's database cannot be read: {error}") from error
    for version, size in contents:
        content = staged / "objects" / version[:2] / version
        if not is_version(version) or not content.is_file() or content.stat().st_size != size:
            raise BackupError("The archive lacks the content of a file; nothing was restored")


def _manifest(path: Path) -> Dict[str, object]:
    try:
        manifest = json.loads(path.read_bytes())
    except ValueError as error:
        raise BackupError("The archive's manifest cannot be read") from error
    if not isinstance(manifest, dict):
        raise BackupError("The archive's manifest cannot be read")
    return manifest


def _move_in(staged: Path, target: Path) -> None:
    """The database comes last: a folder without it never looks like one that can be served."""
    (staged / MANIFEST).unlink()
    objects = target / "objects"
    objects.mkdir(mode=0o700, exist_ok=True)
    if (staged / "objects").is_dir():
        for shard in (staged / "objects").iterdir():
            with contextlib.suppress(FileNotFoundError):
                (objects / shard.name).rmdir()
            shard.rename(objects / shard.name)
    sync_directory(objects)
    for name in _SECRETS:
        with contextlib.suppress(FileNotFoundError):
            (staged / name).rename(target / name)
    (staged / DATABASE).rename(target / DATABASE)
    sync_directory(target)
