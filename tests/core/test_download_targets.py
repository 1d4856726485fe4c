"""Downloads under a path or into a file object: whole or not at all, with what a disk may do to them."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest

from selfdb.core.download import check_target, save
from selfdb.exceptions import (
    APIConnectionError,
    InvalidRequestError,
)
from tests.core.downloading import CONTENT, OTHER, Object, Scripted, WriteOnly, fetch
from tests.core.kit import transport_to

# Paths


@pytest.mark.parametrize("mask, mode", [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_a_downloaded_file_has_an_ordinary_mode(mask: int, mode: int, scripted: Scripted, tmp_path: Path) -> None:
    server = scripted(default=Object())
    before = os.umask(mask)
    try:
        with transport_to(server.url) as transport:
            save(fetch(transport), str(tmp_path / "target"))
    finally:
        os.umask(before)
    assert (tmp_path / "target").stat().st_mode & 0o777 == mode


def test_a_part_never_stands_under_the_final_name(scripted: Scripted, tmp_path: Path) -> None:
    target = tmp_path / "target"
    for old in (None, b"what was there"):
        if old is not None:
            target.write_bytes(old)
        seen: List[Optional[bytes]] = []

        def look(done: int, total: Optional[int], seen: List[Optional[bytes]] = seen) -> None:
            seen.append(target.read_bytes() if target.exists() else None)

        server = scripted(default=Object(cuts=[5]))
        with transport_to(server.url) as transport:
            save(fetch(transport, block_size=1, progress=look), target)
        assert seen == [old] * 12
        assert target.read_bytes() == CONTENT
        target.unlink()


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), ZeroDivisionError()], ids=repr)
def test_an_interrupted_download_leaves_what_was_there(
    failure: BaseException, scripted: Scripted, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"what was there")

    def interrupt(done: int, total: Optional[int]) -> None:
        raise failure

    server = scripted(default=Object())
    with transport_to(server.url) as transport, pytest.raises(type(failure)):
        save(fetch(transport, block_size=1, progress=interrupt), target)
    assert [file.name for file in tmp_path.iterdir()] == ["target"]
    assert target.read_bytes() == b"what was there"


def test_a_full_disk_leaves_what_was_there(scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"what was there")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    server = scripted(default=Object())
    with transport_to(server.url) as transport, pytest.raises(OSError, match="No space left"):
        save(fetch(transport), target)
    assert [file.name for file in tmp_path.iterdir()] == ["target"]
    assert target.read_bytes() == b"what was there"


def test_a_file_object_on_a_full_disk(scripted: Scripted) -> None:
    server = scripted(default=Object())
    full = pytest.raises(OSError, match="No space left")
    with open("/dev/full", "wb", buffering=0) as file, transport_to(server.url) as transport, full:
        save(fetch(transport), file)
    assert len(server.requests) == 1, "the fault is not the net's, so nothing is tried again"


def test_a_part_that_somebody_removed_is_an_error(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sweep(handle: int) -> None:
        for file in tmp_path.iterdir():
            file.unlink()

    monkeypatch.setattr(os, "fsync", sweep)
    server = scripted(default=Object())
    with transport_to(server.url) as transport, pytest.raises(FileNotFoundError):
        save(fetch(transport), tmp_path / "target")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_missing_or_a_file(scripted: Scripted, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    server = scripted(default=Object())
    with transport_to(server.url) as transport:
        for folder in ("missing", "file"):
            with pytest.raises(InvalidRequestError, match=f"cannot write into .*{folder}: N"):
                save(fetch(transport), tmp_path / folder / "target")


def test_a_name_may_be_as_long_as_the_file_system_allows(scripted: Scripted, tmp_path: Path) -> None:
    server = scripted(default=Object())
    with transport_to(server.url) as transport:
        for name in ("n" * 255, "\u20ac" * 85):
            save(fetch(transport), tmp_path / name)
            assert (tmp_path / name).read_bytes() == CONTENT


NO_TARGETS: Dict[str, Any] = {
    "empty": "",
    "this folder": ".",
    "root": "/",
    "nul": "a\0b",
    "none": None,
    "number": 5,
    "bytes": b"bytes",
    "text file": io.StringIO(),
}


@pytest.mark.parametrize("target", NO_TARGETS.values(), ids=NO_TARGETS)
def test_what_is_no_target_is_refused(target: Any, scripted: Scripted) -> None:
    with pytest.raises(InvalidRequestError, match="target"):
        check_target(target)
    server = scripted(default=Object())
    with transport_to(server.url) as transport, pytest.raises(InvalidRequestError, match="target"):
        save(fetch(transport), target)


def test_a_folder_is_no_target(tmp_path: Path) -> None:
    for target in (tmp_path, str(tmp_path)):
        with pytest.raises(InvalidRequestError, match="no path of a file"):
            check_target(target)
    for sound in (tmp_path / "new", io.BytesIO(), WriteOnly()):
        check_target(sound)


def test_a_file_object_that_does_not_know_where_it_stands_is_not_rewound(scripted: Scripted) -> None:
    class Lost(WriteOnly):
        def seekable(self) -> bool:
            return True

        def tell(self) -> int:
            raise OSError("somewhere")

    thing = Object(cuts=[7])
    server = scripted(default=thing)
    lost = Lost()
    with transport_to(server.url) as transport, pytest.raises(APIConnectionError, match="object changed"):
        save(fetch(transport, block_size=7, progress=thing.becomes(OTHER, '"v2"')), lost)
    assert lost.written == CONTENT[:7]


def test_a_pipe_takes_a_download(scripted: Scripted) -> None:
    reading, writing = os.pipe()
    server = scripted(default=Object(cuts=[5]))
    with os.fdopen(reading, "rb") as source:
        with os.fdopen(writing, "wb") as pipe, transport_to(server.url) as transport:
            assert save(fetch(transport, block_size=1), pipe) == 12
        assert source.read() == CONTENT
