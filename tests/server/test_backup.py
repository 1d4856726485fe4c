"""Backups of a served folder, and what may become a folder again."""

from __future__ import annotations

import gzip
import io
import json
import os
import sqlite3
import subprocess
import sys
import tarfile
import threading
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import pytest
import requests

from selfdb.server.backup import BackupError, backup, restore
from selfdb.server.objects import ObjectStore
from tests.server.storage import download, new_bucket, stored, upload
from tests.support import Http, unique

ROOT = Path(__file__).parents[2]
MakeServer = Callable[..., Any]


def members(archive: Path) -> Dict[str, bytes]:
    with tarfile.open(archive) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def pack(target: Path, contents: Dict[str, bytes], extra: Optional[List[tarfile.TarInfo]] = None) -> Path:
    with tarfile.open(target, "w:gz") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in extra or []:
            tar.addfile(member)
    return target


def files_in(folder: Path) -> List[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def archive(make_server: MakeServer, tmp_path: Path) -> Path:
    """A backup of a small folder that is no longer served."""
    server = make_server(path=tmp_path / "first")
    http = Http(server)
    bucket = new_bucket(http)
    stored(http, bucket, "a.txt", b"content of a")
    target = tmp_path / "small.tar.gz"
    backup(server.data, target)
    server.stop()
    return target


def test_a_restored_folder_serves_what_was_saved(make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server(path=tmp_path / "data", api_key=None)
    http = Http(server)
    user, bearer = http.new_user()
    bucket = new_bucket(http, bearer, public=False)
    for number in range(5):
        stored(http, bucket, f"f{number}", b"%d" % number * 1000, path="/dir", bearer=bearer)
    stored(http, bucket, "f0", b"overwritten", path="/dir", bearer=bearer)
    target = tmp_path / "backup.tar.gz"
    backup(server.data, target)
    assert target.stat().st_mode & 0o777 == 0o600
    assert [name for name in os.listdir(tmp_path) if name.startswith(".")] == []

    # What comes after the backup is not in it.
    stored(http, bucket, "f0", b"later", path="/dir", bearer=bearer)
    stored(http, bucket, "f9", b"later", path="/dir", bearer=bearer)

    restore(target, tmp_path / "copy")
    copy = make_server(path=tmp_path / "copy", api_key=None)
    assert copy.api_key == server.api_key
    other = Http(copy)
    assert other.get("/users/me", bearer=bearer).json() == user
    page = other.get("/storage/files/", params={"bucket_id": bucket["id"]}, bearer=bearer).json()
    assert page["total"] == 5
    assert download(other, bucket, "dir/f0", bearer=bearer).content == b"overwritten"
    for number in range(1, 5):
        assert download(other, bucket, f"dir/f{number}", bearer=bearer).content == b"%d" % number * 1000
    assert upload(other, bucket, "f0", b"new", path="/dir", bearer=bearer).status_code == 200
    for path in (tmp_path / "copy").rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_a_backup_beside_writers_is_consistent(make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server(path=tmp_path / "data")
    http = Http(server)
    bearer = http.admin
    bucket = new_bucket(http)
    schema = {"name": unique("t"), "table_schema": {"n": {"type": "integer"}}, "public": True}
    table = http.post("/tables/", json=schema, bearer=bearer).json()
    done = threading.Event()
    failures: List[str] = []
    rounds = [0]

    def write(worker: int) -> None:
        number = 0
        while not done.is_set():
            number += 1
            # Overwritten and deleted all the time: the contents of the snapshot are gone a moment later.
            body = bytes([number % 256]) * (20_000 + number)
            reply = upload(http, bucket, f"f{worker}-{number % 3}", body, bearer=bearer)
            row = http.post(f"/tables/{table['id']}/data", json={"n": number}, bearer=bearer)
            if reply.status_code not in (200, 201) or row.status_code != 201:
                failures.append(f"{reply.status_code} {row.status_code}")
            elif number % 5 == 0:
                http.delete(f"/storage/files/{reply.json()['file_id']}", bearer=bearer)
            rounds[0] += 1

    writers = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for writer in writers:
        writer.start()
    try:
        archives = []
        for number in range(4):
            seen = rounds[0]
            while rounds[0] < seen + 10 and not failures:
                done.wait(0.01)
            archives.append(tmp_path / f"backup{number}.tar.gz")
            backup(server.data, archives[-1])
    finally:
        done.set()
        for writer in writers:
            writer.join(60)
    assert failures == []
    # What the backups kept from being removed goes with the next removal.
    file_id = stored(http, bucket, "last", b"x", bearer=bearer)["file_id"]
    assert http.delete(f"/storage/files/{file_id}", bearer=bearer).status_code == 204
    total = http.get("/storage/files/total-count", bearer=bearer).json()["count"]
    assert len([name for name in files_in(server.data / "objects") if name != ".pin"]) == total
    server.stop()

    for number, saved in enumerate(archives):
        copy = tmp_path / f"copy{number}"
        restore(saved, copy)
        _check_sound(copy)
    served = Http(make_server(path=tmp_path / "copy3"))
    for file in served.get("/storage/files/", bearer=served.admin).json()["data"]:
        content = download(served, bucket, file["path"]).content
        assert (len(content), len(set(content))) == (file["size"], 1)
    rows = served.get(f"/tables/{table['id']}/data").json()
    assert rows["total"] == served.get(f"/tables/{table['id']}").json()["row_count"] > 0


def _check_sound(folder: Path) -> None:
    connection = sqlite3.connect(folder / "selfdb.sqlite3")
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = connection.execute("SELECT version, size FROM _selfdb_files").fetchall()
        counted = connection.execute("SELECT total(file_count), total(total_size) FROM _selfdb_buckets").fetchone()
    finally:
        connection.close()
    for version, size in rows:
        assert (folder / "objects" / version[:2] / version).stat().st_size == size
    assert len(files_in(folder / "objects")) == len(rows)
    assert counted == (len(rows), sum(size for _, size in rows))


def test_an_older_archive_is_replaced_only_by_a_whole_one(
    make_server: MakeServer, tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = archive.read_bytes()
    data = tmp_path / "first"
    with monkeypatch.context() as patch:

        def fail(*arguments: Any) -> None:
            raise OSError("injected")

        patch.setattr(os, "fsync", fail)
        with pytest.raises(BackupError, match="injected"):
            backup(data, archive)
    assert archive.read_bytes() == before
    assert [name for name in os.listdir(tmp_path) if name.startswith(".")] == []
    backup(data, archive)
    assert members(archive).keys() == {"manifest.json", "selfdb.sqlite3", *_object_names(archive)}


def _object_names(archive: Path) -> List[str]:
    return [name for name in members(archive) if name.startswith("objects/")]


def test_a_missing_content_fails_the_backup(tmp_path: Path, archive: Path) -> None:
    data = tmp_path / "first"
    [content] = [path for path in (data / "objects").rglob("*") if path.is_file() and path.name != ".pin"]
    content.write_bytes(b"short")
    with pytest.raises(BackupError, match="size"):
        backup(data, tmp_path / "other.tar.gz")
    content.unlink()
    with pytest.raises(BackupError, match="missing"):
        backup(data, tmp_path / "other.tar.gz")
    assert not (tmp_path / "other.tar.gz").exists()


def test_a_backup_needs_a_place_outside_and_a_database(tmp_path: Path, archive: Path) -> None:
    data = tmp_path / "first"
    (tmp_path / "empty").mkdir()
    for source, target, said in (
        (data, data / "inside.tar.gz", "inside"),
        (data, tmp_path / "nowhere" / "a.tar.gz", "existing folder"),
        (data, tmp_path, "existing folder"),
        (tmp_path / "empty", tmp_path / "a.tar.gz", "pg_dump"),
        (tmp_path / "nowhere", tmp_path / "a.tar.gz", "pg_dump"),
    ):
        with pytest.raises(BackupError, match=said):
            backup(source, target)
        assert not target.is_file()
    assert files_in(tmp_path / "empty") == []
    with pytest.raises(BackupError, match="pg_dump"):
        backup(data, tmp_path / "a.tar.gz", database="postgresql://somewhere/db")


def test_a_served_folder_is_not_restored_into(make_server: MakeServer, tmp_path: Path, archive: Path) -> None:
    server = make_server(path=tmp_path / "busy")
    with pytest.raises(BackupError, match=str(os.getpid())) as caught:
        restore(archive, server.data)
    assert server.url in str(caught.value)
    assert Http(server).login()


def test_a_folder_with_anything_in_it_is_not_restored_into(tmp_path: Path, archive: Path) -> None:
    before = files_in(tmp_path / "first")
    with pytest.raises(BackupError, match="not empty"):
        restore(archive, tmp_path / "first")
    assert files_in(tmp_path / "first") == before
    other = tmp_path / "other"
    other.mkdir(mode=0o755)
    (other / "precious.txt").write_text("mine")
    with pytest.raises(BackupError, match=r"precious\.txt"):
        restore(archive, other)
    assert files_in(other) == ["precious.txt"]
    assert other.stat().st_mode & 0o777 == 0o755
    with pytest.raises(BackupError, match="not a folder"):
        restore(archive, other / "precious.txt")
    with pytest.raises(BackupError, match="no archive"):
        restore(tmp_path / "nothing.tar.gz", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_an_empty_layout_is_restored_into(tmp_path: Path, archive: Path) -> None:
    target = tmp_path / "layout"
    ObjectStore(target / "objects").discard(["0" * 32])
    (target / ".lock").touch()
    for number in range(256):
        (target / "objects" / f"{number:02x}").mkdir()
    restore(archive, target)
    _check_sound_but_locks(target)


def _check_sound_but_locks(folder: Path) -> None:
    (folder / "objects" / ".pin").unlink(missing_ok=True)
    _check_sound(folder)


LINK = tarfile.TarInfo("objects/aa/" + "a" * 32)
LINK.type, LINK.linkname = tarfile.SYMTYPE, "/etc/passwd"
HARD = tarfile.TarInfo("api-key")
HARD.type, HARD.linkname = tarfile.LNKTYPE, "manifest.json"
FOLDER = tarfile.TarInfo("objects/aa")
FOLDER.type = tarfile.DIRTYPE
DEVICE = tarfile.TarInfo("api-key")
DEVICE.type = tarfile.CHRTYPE


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/tmp/evil",
        "objects/../../evil",
        "objects/aa/../../../evil",
        "objects/bb/" + "a" * 32,
        "objects/aa/" + "A" * 32,
        "objects/aa/" + "a" * 32 + "\n",
        "./selfdb.sqlite3",
        "selfdb.sqlite3-wal",
        "serving.json",
        "evil.py",
    ],
)
def test_an_archive_with_a_strange_member_is_refused_whole(tmp_path: Path, archive: Path, name: str) -> None:
    bad = pack(tmp_path / "bad.tar.gz", {**members(archive), name: b"evil"})
    _refused(bad, tmp_path, "no SelfDB backup holds")


@pytest.mark.parametrize("member", [LINK, HARD, FOLDER, DEVICE], ids=["symlink", "hard link", "folder", "device"])
def test_an_archive_with_other_than_files_is_refused_whole(
    tmp_path: Path, archive: Path, member: tarfile.TarInfo
) -> None:
    _refused(pack(tmp_path / "bad.tar.gz", members(archive), [member]), tmp_path, "no SelfDB backup holds")


def test_an_archive_that_lacks_something_is_refused(tmp_path: Path, archive: Path) -> None:
    whole = members(archive)
    [content] = _object_names(archive)
    manifest = json.loads(whole["manifest.json"])
    for changed, said in (
        ({"manifest.json": None}, "holds no manifest"),
        ({"selfdb.sqlite3": None}, r"holds no selfdb\.sqlite3"),
        ({content: None}, "lacks the content"),
        ({content: b"short"}, "lacks the content"),
        ({"manifest.json": json.dumps({**manifest, "format": 2}).encode()}, "format 2"),
        ({"manifest.json": b"{"}, "manifest"),
        ({"manifest.json": b"[]"}, "manifest"),
        ({"selfdb.sqlite3": b"not a database" * 100}, "database"),
        ({"selfdb.sqlite3": whole["selfdb.sqlite3"][:-5000]}, "database"),
    ):
        contents = {name: value for name, value in {**whole, **changed}.items() if value is not None}
        _refused(pack(tmp_path / "bad.tar.gz", contents), tmp_path, said)
    twice = pack(tmp_path / "bad.tar.gz", whole)
    with tarfile.open(tmp_path / "plain.tar", "w") as tar:
        for name in [*whole, "manifest.json"]:
            member = tarfile.TarInfo(name)
            member.size = len(whole[name])
            tar.addfile(member, io.BytesIO(whole[name]))
    twice.write_bytes(gzip.compress((tmp_path / "plain.tar").read_bytes()))
    _refused(twice, tmp_path, "twice")


def test_a_damaged_archive_is_refused(tmp_path: Path, archive: Path) -> None:
    whole = archive.read_bytes()
    bad = tmp_path / "bad.tar.gz"
    for content in (b"", b"nonsense", whole[: len(whole) // 2], whole[:-4], gzip.compress(b"nonsense")):
        bad.write_bytes(content)
        _refused(bad, tmp_path, "not a (whole )?SelfDB backup")
    # One bit wrong in what the checksum covers.
    plain = bytearray(gzip.decompress(whole))
    plain[plain.index(b"content of a")] ^= 1
    bad.write_bytes(gzip.compress(bytes(plain))[:-8] + whole[-8:])
    _refused(bad, tmp_path, "not a whole SelfDB backup")


def _refused(bad: Path, tmp_path: Path, said: str) -> None:
    target = tmp_path / "refused"
    with pytest.raises(BackupError, match=said):
        restore(bad, target)
    assert files_in(target) in ([], [".lock"])
    assert not (tmp_path / "evil").exists()


def _cli(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SELFDB_")}
    return subprocess.run(
        [sys.executable, "-m", "selfdb", *arguments],
        env={**kept, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=150,
    )


def test_the_commands_say_what_they_did(make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server(path=tmp_path / "data")
    target = tmp_path / "b.tar.gz"
    done = _cli("backup", str(target), "--data", str(server.data))
    assert (done.returncode, done.stderr) == (0, "")
    assert str(target) in done.stdout
    refused = _cli("restore", str(target), "--data", str(server.data))
    assert refused.returncode == 1
    assert server.url in refused.stderr
    back = _cli("restore", str(target), "--data", str(tmp_path / "copy"))
    assert (back.returncode, back.stderr) == (0, "")
    _check_sound_but_locks(tmp_path / "copy")
    postgres = _cli("backup", str(target), "--data", str(server.data), SELFDB_DATABASE="postgresql://u:secret@host/db")
    assert postgres.returncode == 1
    assert "pg_dump" in postgres.stderr
    assert "secret" not in postgres.stderr


def test_restoring_is_never_offered_over_http(http: Http) -> None:
    paths = http.get("/openapi.json").json()["paths"]
    assert [path for path in paths if "backup" in path or "restore" in path] == []
    answers: List[requests.Response] = [
        http.post("/backups/restore", bearer=http.admin),
        http.get("/backups", bearer=http.admin),
    ]
    assert [answer.status_code for answer in answers] == [404, 404]
