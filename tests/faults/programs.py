"""Programs of their own for what a whole process does: forks, exits, signals, hosts that take the process over."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Iterator, List, Mapping, Sequence

ROOT = Path(__file__).parents[2]
BOUND = 60.0  # seconds that nothing here may take longer than, on a machine that is busy

STRICT = ("-W", "error", "-X", "dev")
"""So that whatever the interpreter has to complain about is on the standard error output, or ends the program."""


def environment(**more: str) -> Mapping[str, str]:
    """The present one without what would lead a client elsewhere, with ``more``."""
    kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    kept = {name: value for name, value in kept.items() if not name.startswith(("SELFDB_", "COV_", "PYTEST_"))}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


class Program:
    """One running program; ``errors`` is what it wrote to its standard error output."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._errors: List[str] = []
        self._reader = threading.Thread(target=self._read_errors, daemon=True)
        self._reader.start()

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self._errors.extend(self.process.stderr)

    @property
    def errors(self) -> str:
        return "".join(self._errors)

    def line(self) -> str:
        """The next line of its output; empty at the end."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def expect(self, line: str) -> None:
        said = self.line()
        if said != line:
            self.process.kill()
            self.process.wait(BOUND)
            self._reader.join(BOUND)
        assert said == line, self.errors

    def tell(self, line: str = "") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def wait(self) -> int:
        """Its exit code."""
        code = self.process.wait(BOUND)
        self._reader.join(BOUND)
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(BOUND)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()  # a forked child that waits for it ends now
        self._reader.join(BOUND)
        self.process.stdout.close()
        self.process.stderr.close()


@contextlib.contextmanager
def program(text: str, *arguments: str, flags: Sequence[str] = STRICT, **env: str) -> Iterator[Program]:
    """``text`` as a program; killed and waited for at the end, if it is still there."""
    running = Program([sys.executable, *flags, "-c", text, *arguments], environment(**env))
    try:
        yield running
    finally:
        running.close()


def told(server: Any, **more: str) -> Mapping[str, str]:
    """What `SelfDB()` in a program needs to reach ``server``."""
    return {"SELFDB_URL": server.url, "SELFDB_API_KEY": server.api_key, **more}
