"""What is shipped: one version, the promised dependencies, and archives that hold what they should."""

from __future__ import annotations

import configparser
import email.message
import email.parser
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from typing import Dict, List, NamedTuple

import pytest

from tests.house.test_file_sizes import ROOT, committed

RUN = 'python3 -m venv .venv && .venv/bin/pip install ".[server]" && .venv/bin/python examples/quickstart.py'
TEST = 'python3 -m venv .venv && .venv/bin/pip install -e ".[all,test]" && .venv/bin/python -m pytest -n 2 --cov'

BUILD = """
import sys
from setuptools import build_meta
out = sys.argv[1]  # read first: the hooks set arguments of their own
build_meta.build_sdist(out)
build_meta.build_wheel(out)
"""


def version() -> str:
    found = re.findall(r'^__version__ = "([^"]+)"$', (ROOT / "selfdb/_version.py").read_text(), re.MULTILINE)
    assert len(found) == 1
    return str(found[0])


def config(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / name)
    return parser


def test_the_version_stands_in_one_place() -> None:
    import selfdb

    assert selfdb.__version__ == version()
    assert config("setup.cfg")["metadata"]["version"] == "attr: selfdb._version.__version__"
    again = [
        path
        for path in committed()
        if path.suffix in (".py", ".cfg", ".toml", ".ini")
        and path.name != "_version.py"
        and re.search(rf"version[\"']?\s*[:=]+\s*[\"']?{re.escape(version())}\b", path.read_text(encoding="utf-8"))
    ]
    assert again == []
    assert version() in (ROOT / "CHANGELOG.rst").read_text(encoding="utf-8")


def test_the_readme_opens_with_two_commands() -> None:
    commands = [
        line.strip()
        for line in (ROOT / "README.rst").read_text(encoding="utf-8").splitlines()
        if "python3 -m venv" in line
    ]
    assert commands == [RUN, TEST]


def test_ci_runs_the_second_of_them() -> None:
    lines = (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
    assert lines[-1] == TEST
    assert "set -euo pipefail" in lines
    assert "export CI=true" in lines
    assert (ROOT / ".ci/run").stat().st_mode & 0o111
    subprocess.run(["bash", "-n", ".ci/run"], cwd=ROOT, check=True)


def test_setup_py_is_a_shim() -> None:
    statements = [line for line in (ROOT / "setup.py").read_text().splitlines() if line]
    assert statements == ["from setuptools import setup", "setup()"]
    assert not (ROOT / "pyproject.toml").exists()


class Built(NamedTuple):
    sdist: List[str]
    wheel: List[str]
    metadata: email.message.Message
    entry_points: str


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Both archives, built by setuptools from a copy of what is under version control."""
    folder = tmp_path_factory.mktemp("build")
    source, out = folder / "source", folder / "out"
    out.mkdir()
    for path in committed():
        target = source / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(out)], cwd=source, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    with tarfile.open(sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    with zipfile.ZipFile(wheel) as archive:
        members = archive.namelist()
        information = f"selfdb-{version()}.dist-info"
        metadata = email.parser.Parser().parsestr(archive.read(f"{information}/METADATA").decode())
        entry_points = archive.read(f"{information}/entry_points.txt").decode()
    return Built(names, members, metadata, entry_points)


def test_the_wheel_holds_the_package_and_nothing_else(built: Built) -> None:
    modules = {str(path.relative_to(ROOT)) for path in committed() if path.is_relative_to(ROOT / "selfdb")}
    shipped = {name for name in built.wheel if ".dist-info/" not in name}
    assert shipped == modules
    assert "selfdb/py.typed" in shipped


def test_the_sdist_can_be_tested(built: Built) -> None:
    wanted = {
        str(path.relative_to(ROOT))
        for path in committed()
        if path.relative_to(ROOT).parts[0] in ("selfdb", "tests", "examples")
    }
    wanted |= {"README.rst", "CHANGELOG.rst", "LICENSE", "setup.cfg", "setup.py", "tox.ini", "ruff.toml", ".ci/run"}
    assert wanted - set(built.sdist) == set()
    assert [name for name in built.sdist if "__pycache__" in name or name.endswith(".pyc")] == []


def requirements(built: Built) -> Dict[str, List[str]]:
    """Requirements by extra; "" is the run-time."""
    found: Dict[str, List[str]] = {}
    for line in built.metadata.get_all("Requires-Dist", []):
        requirement, _, marker = line.partition(";")
        extra = re.search(r"extra == [\"'](\w+)[\"']", marker)
        found.setdefault(extra.group(1) if extra else "", []).append(requirement.strip())
    return found


def test_what_it_needs_at_run_time_is_little(built: Built) -> None:
    needs = requirements(built)[""]
    names = sorted(re.split(r"[<>=!~ \[]", need)[0] for need in needs)
    assert names == ["pydantic", "requests", "urllib3", "websocket-client"]


def test_requirements_have_lower_bounds_only(built: Built) -> None:
    for needs in requirements(built).values():
        assert [need for need in needs if re.search(r"<|==|~=|!=", need)] == []


def test_the_extras(built: Built) -> None:
    extras = requirements(built)
    assert {"server", "all", "test", "docs"} <= set(built.metadata.get_all("Provides-Extra", []))
    assert set(extras["server"]) <= set(extras["all"])
    assert any(need.startswith("psycopg") for need in extras["all"])
    assert not {need for need in extras["all"] if re.match("pytest|mypy|ruff|sphinx", need)}


def test_the_command_is_installed(built: Built) -> None:
    assert "selfdb = selfdb.cli:main" in built.entry_points


def test_the_index_page(built: Built) -> None:
    assert built.metadata["Name"] == "selfdb"
    assert built.metadata["Version"] == version()
    assert built.metadata["Requires-Python"] == ">=3.9"
    assert "MIT" in (built.metadata["License"] or built.metadata["License-Expression"])
    assert any(name.endswith("LICENSE") for name in built.wheel)
    readme = (ROOT / "README.rst").read_text(encoding="utf-8")
    assert readme.strip().splitlines()[0] in str(built.metadata.get_payload())


def test_classifiers_name_interpreters_that_ran(built: Built) -> None:
    """The suite runs on 3.11; the others are checked statically and by setup.cfg's lower bound only."""
    named = [line for line in built.metadata.get_all("Classifier", []) if re.search(r"Python :: 3\.\d", line)]
    assert named == ["Programming Language :: Python :: 3.11"]
