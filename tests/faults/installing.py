"""Archives of the package, and clean environments that they are installed into with the dependencies asked for."""

from __future__ import annotations

import email.parser
import functools
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence

from tests.conftest import unavailable
from tests.house.test_file_sizes import ROOT, committed

BUILD = "import sys; from setuptools import build_meta; out = sys.argv[1]; build_meta.build_{kind}(out)"

TOOLS = ("pytest>=8", "pytest-timeout", "hypothesis", "responses", "requests-mock", "trustme", "tqdm")
"""What the tests themselves need."""

SECONDS = 600


class Archives(NamedTuple):
    """The two that are published, from what is under version control."""

    sdist: Path
    wheel: Path


def run(*command: object, cwd: Optional[Path] = None, seconds: float = SECONDS) -> str:
    """What ``command`` said, if it came to a good end."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "PYTEST_", "COV_", "SELFDB_"))
    }
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**environment, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=seconds,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-12_000:]}"
    return done.stdout


def copy_of_the_checkout(folder: Path, *parts: str) -> Path:
    """What is under version control, or only what begins with one of ``parts``, at ``folder``."""
    for path in committed():
        name = path.relative_to(ROOT)
        if not parts or name.parts[0] in parts:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, folder / name)
    return folder


def build(source: Path, out: Path, kind: str) -> Path:
    """The sdist or the wheel of ``source``, made by setuptools."""
    out.mkdir(parents=True, exist_ok=True)
    run(sys.executable, "-c", BUILD.format(kind=kind), out, cwd=source)
    (made,) = out.glob("*.tar.gz" if kind == "sdist" else "*.whl")
    return made


def contents(wheel: Path) -> Dict[str, bytes]:
    """By name; what a builder says of itself, and of the other files, left out."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith(("/RECORD", "/WHEEL"))}


def lowest(wheel: Path) -> List[str]:
    """Each requirement of ``wheel`` with all its extras for users, as the oldest version that it allows."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
        metadata = email.parser.Parser().parsestr(archive.read(name).decode())
    found = []
    for line in metadata.get_all("Requires-Dist", []):
        requirement, _, marker = line.partition(";")
        extra = re.search(r"extra == [\"'](\w+)[\"']", marker)
        if extra is None or extra.group(1) == "all":
            match = re.fullmatch(r"([\w.-]+(?:\[\w+\])?)\s*>=\s*([\w.]+)", requirement.strip())
            assert match, f"a requirement without a plain lower bound: {line}"
            found.append(f"{match.group(1)}=={match.group(2)}")
    return sorted(found)


def interpreters() -> List[str]:
    """The one that runs first, then all others of this machine that the package is for."""
    found = {f"{sys.version_info[0]}.{sys.version_info[1]}": sys.executable}
    for minor in range(9, 15):
        name = f"3.{minor}"
        kept = sorted((Path.home() / ".pyenv" / "versions").glob(f"{name}.*/bin/python3"))
        at = shutil.which(f"python{name}") if not kept else str(kept[-1])
        if (
            at
            and subprocess.run([at, "-c", "import venv, ensurepip"], capture_output=True, check=False).returncode == 0
        ):
            found.setdefault(name, at)
    return list(found.values())


class Environment:
    """A virtual environment at ``folder``, which nothing of this process's own is to be seen in."""

    def __init__(self, folder: Path, interpreter: str = sys.executable) -> None:
        self.bin = folder / ("Scripts" if os.name == "nt" else "bin")
        self.python = self.bin / "python"
        # The pip that is here does for the interpreter that is here: another would have to be installed and compiled.
        own = interpreter != sys.executable
        run(interpreter, "-m", "venv", *([] if own else ["--without-pip"]), folder)
        self._pip = [self.python, "-m", "pip"] if own else [sys.executable, "-m", "pip", "--python", self.python]

    def pip(self, *arguments: object) -> str:
        """What pip did there."""
        return run(*self._pip, *arguments)

    def install(self, *requirements: object) -> None:
        """Only what is published as a wheel: nothing is built, on no machine."""
        self.pip("install", "--quiet", "--no-compile", "--only-binary", ":all:", *requirements)

    def check(self) -> str:
        """What pip says of what fits together."""
        return self.pip("check").strip().splitlines()[-1]

    def pytest(self, folder: Path, names: Sequence[str], seconds: float = SECONDS) -> str:
        """Run tests of ``folder`` and return the last line of the report."""
        where = run(self.python, "-c", "import selfdb; print(selfdb.__file__)", cwd=folder).strip()
        assert Path(where).is_relative_to(self.bin.parent), f"the installed package is what is tested, not {where}"
        said = run(self.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *names, cwd=folder, seconds=seconds)
        return said.strip().splitlines()[-1].strip("= ")


def need_registry() -> None:
    """Skip, or fail on CI, where pip reaches no package registry."""
    if not _registry_answers():
        unavailable("pip reaches no package registry")


@functools.cache
def _registry_answers() -> bool:
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "index", "versions", "requests"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return asked.returncode == 0
