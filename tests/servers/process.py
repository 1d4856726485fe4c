"""``selfdb serve`` as a child process: what an operator starts, ended by its own process id."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Optional, Sequence

import requests

ROOT = Path(__file__).parents[2]
START_SECONDS = 150.0
STOP_SECONDS = 60.0


def first_of_any() -> int:
    """Where those ports begin that the system gives to whoever asks for any."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        return 49152  # not Linux


def free_port() -> int:
    """A port that nobody listens on; nobody else is given it by chance, who asks for any, so that it stays so."""
    end = first_of_any()
    chance = random.SystemRandom()  # another port in each process
    while True:
        port = chance.randrange(end - 10_000, end) if end > 12_000 else 0
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue  # somebody has it
            return int(probe.getsockname()[1])


class ServeProcess:
    """A context manager: ready inside, ended and waited for outside. ``output`` is what it printed."""

    def __init__(
        self, data: Path, *, api_key: str, database: Optional[str] = None, arguments: Sequence[str] = ()
    ) -> None:
        self.api_key = api_key
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = data.with_name(data.name + ".log")
        self.command = [sys.executable, "-m", "selfdb", "serve", "--port", str(self.port), "--data", str(data)]
        self.command += ["--api-key", api_key]
        if database is not None:
            self.command += ["--database", database]
        self.command += arguments
        self.process: Optional[subprocess.Popen[bytes]] = None

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def start(self) -> ServeProcess:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SELFDB_")}
        environment["PYTHONPATH"] = str(ROOT)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment
            )
        end = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self.process.poll() is None, f"`selfdb serve` ended at once:\n{self.output}"
            if time.monotonic() > end:
                self.stop()
                raise AssertionError(f"`selfdb serve` did not get ready:\n{self.output}")
            time.sleep(0.05)
        return self

    def _answers(self) -> bool:
        # A session for each try: what a refused one leaves in memory would keep the good one's socket open.
        with requests.Session() as session:
            session.trust_env = False
            try:
                session.get(self.url + "/system/status", headers={"X-API-Key": self.api_key}, timeout=5)
            except (requests.ConnectionError, requests.Timeout):
                return False
            return True

    def stop(self, with_signal: int = signal.SIGTERM) -> int:
        """Ask it to end and return its exit code; killed when it takes too long, which is a failure."""
        assert self.process is not None
        process = self.process
        if process.poll() is None:
            process.send_signal(with_signal)
        try:
            return process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)
            raise AssertionError(f"`selfdb serve` ignored signal {with_signal}:\n{self.output}") from None

    def __enter__(self) -> ServeProcess:
        return self.start()

    def __exit__(self, *exception: Any) -> None:
        self.stop()
