"""The first look: what it prints, and that it leaves nothing behind."""

from __future__ import annotations

import re
from pathlib import Path

from tests.examples.conftest import Reader


def test_quickstart_says_what_happened_and_cleans_up(reader: Reader, tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    for name in [name for name in reader.variables if name.startswith("SELFDB_")]:
        del reader.variables[name]  # it needs no settings
    done = reader.run("quickstart.py", TMPDIR=str(temporary))
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"A server is up at http://127\.0\.0\.1:\d+\.", lines[0])
    assert lines[1:] == [
        "Ada has an account and is signed in.",
        "Her table 'sightings' holds 4 rows. The owls among them:",
        "    04:40  barn owl, over the meadow",
        "    21:50  tawny owl, behind the church",
        "Uploaded /2025/may.txt to 'field-notes': 30 bytes.",
        "Downloaded it again: Two owls in a day. A good day.",
        "The server has stopped and its folder is gone. Goodbye!",
    ]
    assert list(temporary.iterdir()) == []
    assert list(reader.home.iterdir()) == []
