"""The types of the wing, as a type checker sees them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_types_are_known_statically() -> None:
    """Right uses pass ``mypy --strict``, wrong ones do not: it complains of an ignored error that is none."""
    use = Path(__file__).with_name("typed_use.py")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", str(use)],
        cwd=use.parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
