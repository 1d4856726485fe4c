"""What a report was made on: the machine, and what was installed there."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import List

from .measure import RELEASES, environment_of

OURS = ("requests", "urllib3", "pydantic", "pydantic_core", "websocket-client", "fastapi", "uvicorn", "uvloop")
ASKED = """
import importlib.metadata, sys
for name in sys.argv[1:]:
    try:
        print(name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        pass
"""


def processor() -> str:
    """Its model, as far as the system tells."""
    told = Path("/proc/cpuinfo")
    if told.exists():
        for line in told.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def installed(python: Path, names: List[str]) -> str:
    """The versions of ``names`` that ``python`` has."""
    command = [str(python), "-I", "-c", ASKED, *names]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return ", ".join(said.splitlines())


def program(*command: str) -> str:
    """The first line in which a program tells its version."""
    found = shutil.which(command[0]) or shutil.which(command[0], path="/usr/sbin")
    if found is None:
        return f"no {command[0]}"
    done = subprocess.run(
        [found, *command[1:]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
    )
    return done.stdout.splitlines()[0].strip()


def load() -> str:
    """How busy the machine was."""
    return " ".join(f"{value:.1f}" for value in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown"


def described(environments: Path) -> List[str]:
    """A line each."""
    lines = [
        f"{platform.system()} {platform.release()}, {processor()}, {os.cpu_count()} cores",
        f"{platform.python_implementation()} {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"{program('nginx', '-v')}, {' '.join(program('curl', '--version').split()[:2])}",
        f"here: {installed(Path(sys.executable), list(OURS))}",
    ]
    for name, packages in RELEASES.items():
        plain = [package.partition(">")[0].partition("=")[0] for package in packages]
        if name not in plain:
            plain += ["httpx", "websockets"] if name.startswith("sdk") else []
        lines.append(f"{name}: {installed(environment_of(name, environments), plain)}")
    return lines
