"""How the suite stays fast: what is traced for coverage, which tests come first, who gets which."""

from __future__ import annotations

import sys
import threading
from typing import Any, Callable, Generator, List

import pytest

UNTRACED = frozenset({"aerodb", "aio/again", "client", "examples", "faults", "house", "indexie", "peers", "realtime", "server"})
"""Families that run without tracing, at half the price: the kernel is covered without them.

Any other folder is traced, a new one as well, so that nothing is left out by mistake.
"""

SERVERS = ("AnyIO worker", "selfdb-server", "selfdb-notices", "selfdb-realtime_", "scripted-", "repl", "tcp-proxy")
"""How the names of servers' threads begin: none of them runs the kernel, whose coverage is measured."""

LONG = (
    "tests/faults/test_installed.py",
    "tests/faults/test_traced.py::test_g24_the_suite_passes",
    "tests/server/test_schemathesis.py",
    "tests/faults/test_permissions.py::test_g19_every_cell_of_the_permission_table",
    "tests/client/test_raw_responses.py::test_types_are_known_statically",
    "tests/house/test_static.py",
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
    "tests/aio/test_typing.py",
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


def traced(item: pytest.Item) -> bool:
    """Whether ``item`` is in a folder that coverage is taken from."""
    return not any(item.nodeid.startswith(f"tests/{folder}/") for folder in UNTRACED)


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


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    TRACING.set(traced(item))
    return (yield)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: List[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        return next((place for place, name in enumerate(LONG) if item.nodeid.startswith(name)), len(LONG))

    items.sort(key=rank)  # stable: the others keep their order


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Who has nothing left takes from who has; any other ``--dist`` stays as it is."""
    if config.getoption("dist") != "load":
        return None
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)
