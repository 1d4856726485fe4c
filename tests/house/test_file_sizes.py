"""A file holds one noun, says which in its first line, and can be read in one sitting."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path
from typing import List

ROOT = Path(__file__).parents[2]
LONGEST = 600


def sources(*folders: str) -> List[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def test_no_file_is_longer_than_can_be_read() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in sources("selfdb", "tests", "examples")
    }
    assert lengths
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST} == {}


def test_every_module_says_what_lives_there() -> None:
    without = [
        str(path.relative_to(ROOT))
        for path in sources("selfdb", "tests", "examples")
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert without == []


def test_examples_are_short() -> None:
    longer = [path.name for path in sources("examples") if len(path.read_text(encoding="utf-8").splitlines()) >= 60]
    assert longer == []


def test_every_coverage_pragma_has_its_reason() -> None:
    """``# pragma: no cover - why``, on the same line."""
    bare = []
    for path in sources("selfdb/core"):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if "pragma: no" in line and not re.search(r"# pragma: no (cover|branch) - \w.{8,}", line):
                bare.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert bare == []


def committed() -> List[Path]:
    """The files under version control; all files where this is not a checkout (an unpacked sdist)."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    return [path for path in ROOT.rglob("*") if path.is_file()]


# Put together here, so that this file does not contain them itself.
FORBIDDEN = {
    "a path of one machine": re.compile("/wo" + "rk/|/roo" + "t/|/opt/d" + "ev"),
    "a file beside the repository": re.compile(r"\.\./sha" + "red"),
    "the host of a package registry": re.compile("pypi" + r"\.org/simple|index-" + "url|registry" + r"\.npmjs"),
    "a command that installs another project of our name": re.compile(
        r"pip install (-\S+ )*[\"']?self" + r"db(\[|\b)(?!==)"
    ),
}


def test_nothing_in_the_repository_depends_on_a_place() -> None:
    found = []
    for path in committed():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # no text
        for what, pattern in FORBIDDEN.items():
            for match in pattern.finditer(text):
                line = text.count("\n", 0, match.start()) + 1
                found.append(f"{path.relative_to(ROOT)}:{line}: {what}: {match.group()}")
    assert found == []


def test_what_is_forbidden_would_be_found() -> None:
    for text, what in [
        ("see /wo" + "rk/main", "a path of one machine"),
        ("../sha" + "red/x", "a file beside the repository"),
        ("--index-" + "url=x", "the host of a package registry"),
        ('pip install "self' + 'db[server]"', "a command that installs another project of our name"),
        ("pip install -U self" + "db", "a command that installs another project of our name"),
    ]:
        assert FORBIDDEN[what].search(text)
    assert not FORBIDDEN["a command that installs another project of our name"].search("pip install self" + "db==0.0.5")
