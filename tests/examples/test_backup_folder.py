"""The backup: what changed goes there, everything comes back, nothing is deleted."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Dict

import pytest

from selfdb import SelfDB
from tests.examples.conftest import Reader

BACKUP = "backup_folder.py"
CONTENT = {
    "empty": b"",
    "a.txt": b"one",
    "docs/a.txt": bytes(range(256)) * 2000,
    "docs/docs": b"named like its folder",
    "docs/deep er/\u00fc \u2713 100%.md": b"# names",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "folder"
    for name, content in CONTENT.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret").write_bytes(b"not part of it")
    (path / "link").symlink_to(tmp_path / "elsewhere" / "secret")
    (path / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    return path


@pytest.fixture
def bucket(db: SelfDB, unique: Callable[..., str]) -> str:
    name = unique("b")
    db.storage.buckets.create({"name": name})
    return name


def content_of(folder: Path) -> Dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_there_and_back(reader: Reader, db: SelfDB, folder: Path, bucket: str, tmp_path: Path) -> None:
    done = reader.run(BACKUP, folder, bucket)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == sorted(CONTENT)
    assert "512,000 of 512,000 bytes" in done.stderr
    stored = db.storage.files.list(bucket_id=db.storage.buckets.get_by_name(bucket).id)
    assert {file.path for file in stored.data} == {f"/{name}" for name in CONTENT}

    done = reader.run(BACKUP, "--restore", tmp_path / "new" / "place", bucket)
    assert done.returncode == 0, done.stderr
    assert content_of(tmp_path / "new" / "place") == CONTENT


def test_only_what_changed_is_sent_and_nothing_is_deleted(
    reader: Reader, db: SelfDB, folder: Path, bucket: str
) -> None:
    assert reader.run(BACKUP, folder, bucket).returncode == 0
    (folder / "a.txt").write_bytes(b"two")  # of the same size
    (folder / "docs" / "docs").unlink()
    (folder / "new").write_bytes(b"new")
    done = reader.run(BACKUP, folder, bucket)
    assert (done.returncode, sorted(done.stdout.splitlines())) == (0, ["a.txt", "new"])
    assert reader.run(BACKUP, folder, bucket).stdout == ""
    assert db.storage.files.download(bucket, "a.txt") == b"two"
    assert db.storage.files.download(bucket, "docs/docs") == CONTENT["docs/docs"]


def test_a_restore_replaces_what_is_there_and_leaves_the_rest(reader: Reader, folder: Path, bucket: str) -> None:
    assert reader.run(BACKUP, folder, bucket).returncode == 0
    (folder / "a.txt").write_bytes(b"spoilt")
    (folder / "more").write_bytes(b"more")
    assert reader.run(BACKUP, folder, bucket, "--restore").returncode == 0
    assert (folder / "a.txt").read_bytes() == CONTENT["a.txt"]
    assert (folder / "more").read_bytes() == b"more"


def test_what_stops_it(reader: Reader, folder: Path, bucket: str, nowhere: str) -> None:
    for arguments, changes, said in [
        ((folder, bucket), {"SELFDB_URL": nowhere}, "refused the connection"),
        ((folder, bucket), {"SELFDB_PASSWORD": "wrong-secret"}, "Incorrect email or password"),
        ((folder, "no-such-bucket"), {}, "no bucket called 'no-such-bucket'"),
    ]:
        done = reader.run(BACKUP, *arguments, **changes)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("backup_folder: ")
        assert said in done.stderr
        assert "wrong-secret" not in done.stderr
    assert reader.run(BACKUP, folder).returncode == 2
