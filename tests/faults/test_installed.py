"""What is published, installed where nothing else is: with the oldest and the newest dependencies, extras or none."""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path
from typing import List

import pytest

from tests import soak
from tests.faults.installing import (
    TOOLS,
    Archives,
    Environment,
    build,
    contents,
    copy_of_the_checkout,
    interpreters,
    lowest,
    need_registry,
    run,
)
from tests.soak import figure

HERE = [
    "tests/core/test_answers.py",
    "tests/core/test_tls.py",
    "tests/core/test_wsopen.py",
    "tests/core/test_arguments.py",
    "tests/client/test_models.py",
    "tests/client/test_seed_calls.py::test_on_the_wire",
]
"""The tests that fell with older dependencies than are allowed, and some of each kind."""

NEEDS_A_TYPE_CHECKER = "tests/client/test_raw_responses.py::test_types_are_known_statically"

CLIENT = """
import importlib, pkgutil, sys, selfdb
left_out = ("selfdb.server", "selfdb.cli", "selfdb.__main__")
for module in pkgutil.walk_packages(selfdb.__path__, "selfdb."):
    if not module.name.startswith(left_out):
        importlib.import_module(module.name)
for name in selfdb.__all__:
    getattr(selfdb, name)
assert not {"fastapi", "sqlalchemy", "uvicorn", "psycopg"} & set(sys.modules)
try:
    selfdb.SelfDB.local()
except selfdb.SelfDBError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Archives:
    folder = tmp_path_factory.mktemp("archives")
    source = copy_of_the_checkout(folder / "source")
    return Archives(build(source, folder / "sdist", "sdist"), build(source, folder / "wheel", "wheel"))


def test_g22_the_sdist_makes_the_same_wheel(archives: Archives, tmp_path: Path) -> None:
    with tarfile.open(archives.sdist) as archive:
        archive.extractall(tmp_path)
    (source,) = [path for path in tmp_path.iterdir() if path.is_dir()]
    again = contents(build(source, tmp_path / "out", "wheel"))
    assert again == contents(archives.wheel)
    tops = {name.split("/")[0] for name in again}
    assert tops == {"selfdb", archives.wheel.name.split("-py3")[0] + ".dist-info"}
    assert "selfdb/py.typed" in again
    assert any(name.endswith(".pyi") for name in again)


@pytest.mark.timeout(300)
def test_g22_the_client_alone_needs_no_extra_and_says_so(archives: Archives, tmp_path: Path) -> None:
    need_registry()
    environment = Environment(tmp_path / "environment")
    environment.install(archives.wheel)
    assert environment.check() == "No broken requirements found."
    said = run(environment.python, "-W", "error", "-c", CLIENT, cwd=tmp_path)
    assert "server" in said
    assert "pip install" in said
    told = run(environment.bin / "selfdb", "--version", cwd=tmp_path)
    assert archives.wheel.name.split("-")[1] in told
    # The same environment, then: with everything, as new as there is.
    environment.install(f"{archives.wheel}[all]")
    assert environment.check() == "No broken requirements found."
    folder = copy_of_the_checkout(tmp_path / "away", "examples")
    run(environment.python, "-W", "error", "examples/quickstart.py", cwd=folder)
    run(environment.bin / "selfdb", "serve", "--help", cwd=folder)


RUNS = [(sys.executable, "lowest"), *([(path, "latest") for path in interpreters()] if soak.LONG else [])]
"""Interpreters, and how old what they depend on is."""


@pytest.mark.timeout(3600 if soak.LONG else 300)  # of which pip takes what the registry takes
@pytest.mark.parametrize("interpreter, age", RUNS, ids=[f"{number}-{age}" for number, (_, age) in enumerate(RUNS)])
def test_g22_the_installed_package_passes(interpreter: str, age: str, archives: Archives, tmp_path: Path) -> None:
    """Some tests with the running interpreter here; all of the kernel's and the client's, on each, in a soak."""
    need_registry()
    environment = Environment(tmp_path / "environment", interpreter)
    wanted: List[object] = [f"{archives.wheel}[all]", *TOOLS]
    environment.install(*wanted, *(lowest(archives.wheel) if age == "lowest" else []))
    assert environment.check() == "No broken requirements found."
    folder = copy_of_the_checkout(tmp_path / "away", "tests", "examples", "setup.cfg")
    run(environment.python, "examples/quickstart.py", cwd=folder)
    names = ["tests/core", "tests/client"] if soak.LONG else HERE
    said = environment.pytest(folder, [*names, "--deselect", NEEDS_A_TYPE_CHECKER], seconds=3000)
    version = run(environment.python, "--version").strip()
    figure("G22", f"{version}, {age} dependencies, pip check clean: {said}")
