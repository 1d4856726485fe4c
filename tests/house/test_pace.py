"""What keeps the suite fast may not weaken it: one watchdog for all tests ends what hangs, and says where."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import List

import pytest

from tests import pace
from tests.pace import Watchdog

ROOT = Path(__file__).parents[2]

HANGS = """
import pytest
import threading

def test_in_time():
    pass

@pytest.mark.timeout(0.2)
def test_where_it_hangs():
    threading.Event().wait(60)
"""


def test_a_test_that_hangs_ends_the_run_and_shows_where(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("from tests.pace import *\n")
    (tmp_path / "test_hangs.py").write_text(HANGS)
    command = [sys.executable, "-m", "pytest", "-p", "pytest_timeout", "-p", "no:cacheprovider", "--timeout", "50"]
    command += ["--timeout-method", "thread", "--rootdir", str(tmp_path), str(tmp_path)]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert "Timeout" in said
    assert "in test_where_it_hangs" in said
    assert "in test_in_time" not in said


def test_each_file_is_read_ahead_by_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"test_{number}" for number in range(7)]
    for name in names:
        (tmp_path / f"{name}.py").touch()
    read: List[str] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pace, "TRACING", pace.Tracing(lambda: None))
    monkeypatch.setattr(importlib, "import_module", read.append)
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "3")
    for process in ("gw0", "gw1", "gw2"):
        pace.read_ahead(Path(), process)
    assert read == names


def test_it_minds_the_test_that_runs_and_no_other() -> None:
    ended = threading.Event()
    wrong = threading.Event()
    watchdog = Watchdog(look=0.005)
    watchdog.set(0.0, wrong.set)
    watchdog.cancel()
    wrong.clear()  # it may have looked in between
    watchdog.set(3600.0, wrong.set)
    watchdog.set(0.01, ended.set)
    assert ended.wait(30)
    watchdog.stop()
    assert not wrong.is_set()
