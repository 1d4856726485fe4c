"""What tests on real event loops share: the loops, echoing servers, bounds, and counts of what a client left behind."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Awaitable, Callable, Coroutine, Dict, List, Set, Tuple

import pytest

from tests.servers.replies import Request

BOUND = 60.0
"""Seconds that nothing here may take longer than; it only ends what hangs."""

ROOT = Path(__file__).parents[2]


def run_on(loop: asyncio.AbstractEventLoop, main: Coroutine[Any, Any, Any]) -> Any:
    """As `asyncio.run`, which before 3.12 takes no loop of another make."""
    try:
        return loop.run_until_complete(main)
    finally:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def run_plain(main: Coroutine[Any, Any, Any]) -> Any:
    return run_on(asyncio.new_event_loop(), main)


def run_uvloop(main: Coroutine[Any, Any, Any]) -> Any:
    try:
        import uvloop
    except ImportError:
        main.close()
        pytest.skip("uvloop is not installed, or not made for this system")
    return run_on(uvloop.new_event_loop(), main)


Run = Callable[[Coroutine[Any, Any, Any]], Any]

on_both = pytest.mark.parametrize("run", [run_plain, run_uvloop], ids=["asyncio", "uvloop"])
"""The test on the loop of the standard library, then on uvloop."""


async def bounded(awaitable: Awaitable[Any], seconds: float = BOUND) -> Any:
    """What ``awaitable`` gives; a failure if it takes too long."""
    return await asyncio.wait_for(awaitable, seconds)


async def until(condition: Callable[[], Any]) -> None:
    """Wait on the loop until ``condition()``."""
    end = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < end, "what was waited for did not happen"
        await asyncio.sleep(0.002)


_before: Set[threading.Thread] = set()


def remember_threads() -> None:
    """Leave out what runs now, such as servers that tests share, from what is counted later."""
    _before.clear()
    _before.update(threading.enumerate())


def _ours() -> List[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("selfdb") and thread not in _before]


def workers() -> List[threading.Thread]:
    """The worker threads that the test has started."""
    return [thread for thread in _ours() if thread.name == "selfdb-aio"]


def threads_of_ours() -> int:
    """How many threads the test has started, those of a server within it too."""
    return len(_ours())


def wait_until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < end, "what was waited for did not happen"
        time.sleep(0.002)


def echo(request: Request) -> Tuple[int, Dict[str, str], Any]:
    """For a `ReplyServer`: to ``auth.count(str(n))`` the answer n."""
    return 200, {}, int(dict(request.query)["search"])


ECHO_SERVER = """
import sys
from tests.aio.kit import echo
from tests.servers.replies import ReplyServer
with ReplyServer(echo) as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""


class Program:
    """A Python program in a process of its own, in the folder of the repository."""

    def __init__(self, source: str, *options: str, **variables: str) -> None:
        environment = {**os.environ, **variables, "PYTHONPATH": os.fspath(ROOT)}
        for name in [name for name in environment if name.startswith(("COV_", "PYTHONWARNINGS"))]:
            del environment[name]
        self.process = subprocess.Popen(
            [sys.executable, *options, "-c", source],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
        )

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            self.process.communicate(timeout=BOUND)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise

    def line(self) -> str:
        """What it prints next."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self, seconds: float = BOUND) -> Tuple[int, str, str]:
        """Its status, and what else it wrote."""
        out, err = self.process.communicate(timeout=seconds)
        return self.process.returncode, out, err
