"""Backs a folder up to a bucket: sends what has changed, deletes nothing. With --restore, brings it back.

SELFDB_URL=... SELFDB_API_KEY=... SELFDB_EMAIL=... SELFDB_PASSWORD=... python backup_folder.py FOLDER BUCKET
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from pathlib import Path

from selfdb import SelfDB, SelfDBError
from selfdb.models import BucketResponse


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def show(done: int, total: int | None) -> None:
    print(f"\r{done:,} of {total or done:,} bytes ", end="", file=sys.stderr)


def back_up(db: SelfDB, folder: Path, bucket: BucketResponse) -> None:
    stored = {file.path: (file.size, file.metadata) for file in db.storage.files.iter(bucket_id=bucket.id)}
    for path in (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()):
        name, kept = path.relative_to(folder).as_posix(), {"sha256": sha256(path)}
        if stored.get(f"/{name}") != (path.stat().st_size, kept):
            sent = db.storage.files.upload(bucket.id, name, path, progress=show)
            db.storage.files.update_metadata(sent.file_id, kept)
            print(name)


def restore(db: SelfDB, folder: Path, bucket: BucketResponse) -> None:
    for file in db.storage.files.iter(bucket_id=bucket.id):
        name = (file.path or file.name).lstrip("/")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        db.storage.files.download_to(bucket.name, name, folder / name, progress=show)
        print(name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--restore", action="store_const", dest="work", const=restore, default=back_up)
    parser.add_argument("folder", metavar="FOLDER", type=Path)
    parser.add_argument("bucket", metavar="BUCKET")
    given = parser.parse_args()
    try:
        with SelfDB() as db:
            db.auth.login(os.environ.get("SELFDB_EMAIL", ""), os.environ.get("SELFDB_PASSWORD", ""))
            given.work(db, given.folder, db.storage.buckets.get_by_name(given.bucket))
    except (SelfDBError, OSError) as error:
        sys.exit(f"backup_folder: {error}")
