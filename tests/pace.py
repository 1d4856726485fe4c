"""How the suite stays fast: what is traced for coverage, which tests come first, who gets which, who ends one."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import pkgutil
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import Any, Callable, Generator, List, Optional, Tuple

import pytest
from hypothesis import strategies

UNTRACED = frozenset(
    {"aerodb", "aio/again", "client", "examples", "faults", "house", "indexie", "peers", "realtime", "server"}
)
UNTRACED |= {f"aio/test_{name}.py" for name in ("docs", "seed_calls", "signatures", "typing")}
"""Families and files that run without tracing, at half the price: the kernel is covered without them.

Anything else is traced, what is new as well, so that nothing is left out by mistake.
"""

NO_KERNEL = ("selfdb.server", "selfdb.cli", "selfdb.__main__")
"""How the names of modules begin that have nothing to do with it."""

SERVERS = ("AnyIO worker", "selfdb-server", "selfdb-notices", "selfdb-realtime_", "scripted-", "repl", "tcp-proxy")
"""How the names of servers' threads begin: none of them runs the kernel, whose coverage is measured."""

LONG = (
    "tests/faults/test_installed.py",
    "tests/faults/test_traced.py::test_g24_the_suite_passes",
    "tests/server/test_schemathesis.py",
    "tests/faults/test_permissions.py::test_g19_every_cell_of_the_permission_table",
    # One behind the other: the type checker keeps what it has read for the next of them.
    "tests/client/test_raw_responses.py::test_types_are_known_statically",
    "tests/aerodb/test_typing.py",
    "tests/house/test_static.py",
    "tests/aio/test_typing.py",
    "tests/realtime/test_machine_stateful.py",
    "tests/realtime/test_server_order.py::test_one_insert_reaches_every_socket",
    "tests/realtime/test_volume.py",
    "tests/realtime/test_chaos.py",
    "tests/examples/test_offline_todo.py",
    "tests/examples/test_order_board.py",
    "tests/examples/test_flask_app.py",
    "tests/server/test_serve_command.py",
    "tests/server/test_objects.py",
    "tests/aio/test_cancellation.py",
    "tests/aio/test_stubs.py",
    "tests/aio/again/test_chaos.py",
    "tests/faults/test_realtime_deaths.py",
    "tests/faults/test_realtime_lives.py",
    "tests/faults/test_realtime_messages.py::test_g17_no_message",
    "tests/faults/test_writes_cut.py",
    "tests/faults/test_answers_uncrossed.py",
    "tests/faults/test_memory.py",
    "tests/faults/test_leaks.py",
    "tests/indexie/test_any_writes_and_queries.py",
)
"""What takes long begins first: at the end there is little to wait for while the other processes are done."""


def traced(name: str) -> bool:
    """Whether the test or the file of that name, as pytest gives it, is one that coverage is taken from."""
    return not any(f"{name}/".startswith((f"tests/{part}/", f"tests/{part}::")) for part in UNTRACED)


class Tracing:
    """Turns the coverage measurement of this process, if there is one, off and on again.

    :param current: gives the measurement that was started last and still runs.
    """

    def __init__(self, current: Callable[[], Any]) -> None:
        self._current = current
        self._stopped: List[Any] = []
        self._spared = False

    def set(self, wanted: bool) -> None:
        """Trace from now on or do not; threads that are under way follow when it is turned off."""
        if not wanted:
            # One may lie below another, as in a process of xdist's, and go on when that one ends.
            while (measured := self._current()) is not None:
                measured.stop()
                self._stopped.append(measured)
        elif self._stopped or not self._spared:
            while self._stopped:
                self._stopped.pop().start()
            spare_servers()
            self._spared = True


def measured_now() -> Any:
    """The coverage measurement that was started last and still runs, or None."""
    coverage = sys.modules.get("coverage")
    return coverage.Coverage.current() if coverage is not None else None


def spare_servers() -> None:
    """Let threads of servers begin without the tracer that all new threads get."""
    tracer = threading.gettrace() if sys.version_info >= (3, 10) else None
    if tracer is None:
        return

    def begin(frame: Any, event: str, argument: Any) -> Any:
        if threading.current_thread().name.startswith(SERVERS):
            sys.settrace(None)
            return None
        return tracer(frame, event, argument)

    threading.settrace(begin)


TRACING = Tracing(measured_now)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """The tests themselves are traced, but neither their fixtures nor what pytest does around them."""
    TRACING.set(traced(item.nodeid))
    try:
        return (yield)
    finally:
        TRACING.set(False)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection(session: pytest.Session) -> Generator[None, Any, Any]:
    """What the kernel does when the package is imported is measured as well."""
    if session.config.pluginmanager.hasplugin("dsession"):  # other processes collect, and run what they collect
        TRACING.set(False)
        return (yield)
    gc.disable()  # nearly all that is made now stays
    if measured_now() is not None:
        import selfdb

        for module in pkgutil.walk_packages(selfdb.__path__, "selfdb."):
            if not module.name.startswith(NO_KERNEL):
                importlib.import_module(module.name)
    if session.config.args == ["tests"]:
        read_ahead(Path("tests"), os.environ.get("PYTEST_XDIST_WORKER", "gw0"))
    TRACING.set(False)
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
    """A file of tests is read as its tests are run: with tracing or without."""
    TRACING.set(isinstance(collector, pytest.Module) and traced(collector.nodeid))
    try:
        return (yield)
    finally:
        TRACING.set(False)


def read_ahead(folder: Path, process: str) -> None:
    """Import a share of the test files, another in each process, so that no two of them compile the same one.

    Where they are fresh that takes longest of all before the first test; what was compiled is kept for the others.
    """
    number, count = int(process[2:]), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    paths = sorted(folder.rglob("test_*.py"))
    for path in paths[number * len(paths) // count : (number + 1) * len(paths) // count]:
        TRACING.set(traced(path.as_posix()))
        with contextlib.suppress(Exception, pytest.skip.Exception):  # told when it is collected
            importlib.import_module(".".join(path.with_suffix("").parts))
    TRACING.set(False)
    prepare_hypothesis(number, count)


def prepare_hypothesis(number: int, count: int) -> None:
    """Let Hypothesis keep in its folder, for all processes, which characters there are and the package's constants.

    It would find them out in each process, in the middle of its first test of a text, which may be traced.
    """
    if number == 0:
        strategies.text().validate()
    with contextlib.suppress(ImportError):  # older ones take none
        from hypothesis.internal.constants_ast import constants_from_module

        for name, module in list(sys.modules.items()):
            if name.startswith("selfdb") and zlib.crc32(name.encode()) % count == number:
                constants_from_module(module)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: List[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        name = item.nodeid  # put together anew each time that it is asked for
        if not name.startswith(LONG):
            return len(LONG)
        return next(place for place, long in enumerate(LONG) if name.startswith(long))

    items.sort(key=rank)  # stable: the others keep their order


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Thousands of tests stay until the end: the garbage collector need not look at them again and again."""
    gc.collect()
    gc.freeze()


class Watchdog:
    """Ends this process, and shows what its threads are doing, when a test takes too long.

    One thread for all tests. pytest-timeout starts and joins one for each, which takes longer than many a test.
    """

    def __init__(self, look: float = 1.0) -> None:
        self._look = look
        self._due: Optional[Tuple[float, Callable[[], None]]] = None
        self._thread: Optional[threading.Thread] = None
        self._over = threading.Event()
        self._now = time.monotonic  # kept here: tests may replace that of the module

    def set(self, seconds: float, end: Callable[[], None]) -> None:
        """Call ``end`` when that many seconds have passed."""
        self._due = (self._now() + seconds, end)
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
            self._thread.start()

    def cancel(self) -> None:
        """It is done in time."""
        self._due = None

    def stop(self) -> None:
        """Watch no more."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(self._look):
            due = self._due
            if due is not None and self._now() >= due[0]:
                self._due = None
                due[1]()


WATCHDOG = Watchdog()


@pytest.hookimpl(optionalhook=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> Optional[bool]:
    if settings.method != "thread":
        return None
    import pytest_timeout

    WATCHDOG.set(settings.timeout, lambda: pytest_timeout.timeout_timer(item, settings))
    return True


@pytest.hookimpl(optionalhook=True)
def pytest_timeout_cancel_timer(item: pytest.Item) -> None:
    WATCHDOG.cancel()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Who has nothing left takes from who has; any other ``--dist`` stays as it is."""
    if config.getoption("dist") != "load":
        return None
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)
