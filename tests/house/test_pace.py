"""What keeps the suite fast may not weaken it: one watchdog for all tests ends what hangs, and says where."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

from tests.pace import Watchdog

ROOT = Path(__file__).parents[2]

HANGS = """
import threading

def test_in_time():
    pass

def test_where_it_hangs():
    threading.Event().wait(60)
"""


def test_a_test_that_hangs_ends_the_run_and_shows_where(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("from tests.pace import *\n")
    (tmp_path / "test_hangs.py").write_text(HANGS)
    command = [sys.executable, "-m", "pytest", "-p", "pytest_timeout", "-p", "no:cacheprovider", "--timeout", "0.2"]
    command += ["--timeout-method", "thread", "--rootdir", str(tmp_path), str(tmp_path)]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert "Timeout" in said
    assert "in test_where_it_hangs" in said
    assert "in test_in_time" not in said


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
