"""The lock on a folder: who serves it, told truly also after a crash."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import List

import pytest

from selfdb.server.folderlock import FolderInUse, FolderLock, Serving, serving

HOLD = """
import sys
from pathlib import Path
from selfdb.server.folderlock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
lock.announce("http://127.0.0.1:1", "key")
print("held", flush=True)
sys.stdin.read()
"""


def test_the_note_is_there_while_the_lock_is_held(tmp_path: Path) -> None:
    assert serving(tmp_path) is None
    assert serving(tmp_path / "nowhere") is None
    lock = FolderLock(tmp_path)
    assert serving(tmp_path) is None, "starting, not yet serving"
    lock.announce("http://127.0.0.1:8000", "key")
    assert serving(tmp_path) == Serving(os.getpid(), "http://127.0.0.1:8000", "key")
    assert "key" not in repr(serving(tmp_path)).replace("api_key", "")
    assert (tmp_path / "serving.json").stat().st_mode & 0o777 == 0o600
    lock.release()
    lock.release()
    assert serving(tmp_path) is None
    assert not (tmp_path / "serving.json").exists()


def test_only_one_holds_it_in_a_process_too(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    lock.announce("http://127.0.0.1:8000", "key")
    with pytest.raises(FolderInUse) as refused:
        FolderLock(tmp_path)
    assert (refused.value.pid, refused.value.url) == (os.getpid(), "http://127.0.0.1:8000")
    assert f"process {os.getpid()} at http://127.0.0.1:8000" in str(refused.value)
    assert "key" not in str(refused.value)
    lock.release()
    FolderLock(tmp_path).release()


def test_a_killed_holder_holds_nothing_and_its_note_is_not_believed(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        held = serving(tmp_path)
        assert held is not None
        assert held.pid == process.pid
        with pytest.raises(FolderInUse):
            FolderLock(tmp_path)
    finally:
        process.kill()
        process.communicate()
    assert (tmp_path / "serving.json").exists()
    assert serving(tmp_path) is None
    lock = FolderLock(tmp_path)
    assert serving(tmp_path) is None, "the note of the dead is gone"
    lock.release()


def test_looking_does_not_keep_a_server_from_starting(tmp_path: Path) -> None:
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            serving(tmp_path)

    FolderLock(tmp_path).release()
    lookers = [threading.Thread(target=look) for _ in range(4)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(20):
            FolderLock(tmp_path).release()
    finally:
        stop.set()
        for looker in lookers:
            looker.join()


@pytest.mark.parametrize("note", ["", "{", "[]", '{"pid": "x"}', '{"pid": 1, "url": "u"}'])
def test_a_damaged_note_names_nobody(tmp_path: Path, note: str) -> None:
    lock = FolderLock(tmp_path)
    (tmp_path / "serving.json").write_text(note)
    assert serving(tmp_path) is None
    with pytest.raises(FolderInUse, match="another process"):
        FolderLock(tmp_path)
    lock.release()


def test_of_many_at_once_one_gets_it(tmp_path: Path) -> None:
    outcomes: List[object] = []
    start = threading.Barrier(8)

    def take() -> None:
        start.wait()
        try:
            outcomes.append(FolderLock(tmp_path))
        except FolderInUse as refused:
            outcomes.append(refused)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held = [outcome for outcome in outcomes if isinstance(outcome, FolderLock)]
    assert len(outcomes) == 8
    assert len(held) == 1
    held[0].announce("http://127.0.0.1:8000", "key")
    assert json.loads((tmp_path / "serving.json").read_text())["pid"] == os.getpid()
    held[0].release()
