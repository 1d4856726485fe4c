"""How a mutant comes to run: forked, imported in the module's place or put into functions that are there already."""

from __future__ import annotations

import gc
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, Callable, Dict, Generator, List, NoReturn, Optional, Sequence, Set, Tuple

import pytest

from .mutations import Mutant

BROKEN = 70
"""The exit code of a process that failed before pytest had its word."""

Place = Tuple[Tuple[str, int], ...]
"""Names of what a piece of code is nested in, each with its number among those of the same name."""


class Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives one module from the source at hand instead of its file."""

    def __init__(self, module: str, path: Path, source: str) -> None:
        self._module, self._path, self._source = module, path, source

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Optional[importlib.machinery.ModuleSpec]:
        if fullname != self._module:
            return None
        return importlib.util.spec_from_file_location(fullname, self._path, loader=self)

    def exec_module(self, module: Any) -> None:
        exec(compile(self._source, str(self._path), "exec"), module.__dict__)  # noqa: S102 - as any importer does


class Watched:
    """What was seen of the tests while nothing was changed, as it is left in ``folder``.

    :ivar entered: seconds and functions entered, of each test that passed.
    :ivar failed: the tests that did not, whose word counts for nothing.
    :ivar limit: seconds after which a run goes on for ever: no measurement, for a machine may become slow.
    """

    def __init__(self, folder: Path) -> None:
        self.entered: Dict[str, Tuple[float, List[str]]]
        self.entered, self.failed = json.loads((folder / "watched").read_text(encoding="utf-8"))
        self.limit = 30.0 + 5 * sum(seconds for seconds, _ in self.entered.values())


class Loop:
    """A plugin of pytest: what was collected is run once for each mutant, in a child each."""

    def __init__(
        self, module: str, path: Path, source: str, every: Sequence[Mutant], folder: Path, *, twice: bool
    ) -> None:
        self._module, self._path, self._source = module, path, source
        self._every, self._folder, self._twice = every, folder, twice
        self._watching = False
        self._entered: Dict[str, Tuple[float, List[str]]] = {}
        self._failed: List[str] = []

    def pytest_runtestloop(self, session: Any) -> bool:
        from _pytest.main import pytest_runtestloop as run_all

        def watch() -> int:
            self._watching = True
            session.config.option.maxfail = 0
            run_all(session)
            for name in self._failed:
                self._entered.pop(name, None)
            (self._folder / "watched").write_text(json.dumps([self._entered, self._failed]), encoding="utf-8")
            return 0

        def run() -> int:
            for item in chosen:  # rather than wait for what will not happen until the test gives up
                item.add_marker(pytest.mark.timeout(5 + 5 * watched.entered[item.nodeid][0]))
            exchange(self._path, self._source, mutant.source)
            session.items = chosen
            try:
                run_all(session)
            except session.Failed:
                pass  # at the first test that did
            return 1 if session.testsfailed else 0

        importlib.import_module(self._module)  # which a test may do for itself, too late for an exchange
        output = self._folder / "output"
        if in_child(watch, output, 1800.0):
            raise RuntimeError("the tests come to no end even unchanged")
        watched = Watched(self._folder)
        if not watched.entered:
            raise RuntimeError("no test passes even unchanged")
        passed = [item for item in session.items if item.nodeid in watched.entered]
        passed.sort(key=lambda item: float(watched.entered[item.nodeid][0]))
        for mutant in self._every:
            # What only a forked process enters is entered by nobody here: then all of them are asked.
            chosen = [item for item in passed if enters(watched.entered[item.nodeid][1], mutant.place)] or passed
            by = in_child(run, output, watched.limit)
            if by and self._twice:
                by = in_child(run, output, watched.limit)
            with (self._folder / "results").open("a", encoding="utf-8") as file:
                file.write(json.dumps(by) + "\n")
        return True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: Any) -> Generator[None, Any, Any]:
        """Where watched, note which functions of the module a test enters, and how long it takes."""
        if not self._watching:
            return (yield)
        names: Set[str] = set()
        file = str(self._path)

        def note(frame: Any, event: str, argument: Any) -> None:
            if event == "call" and frame.f_code.co_filename == file:
                names.add(frame.f_code.co_qualname.replace(".<locals>", ""))

        began = time.monotonic()
        threading.setprofile(note)
        sys.setprofile(note)
        try:
            return (yield)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]
            self._entered[item.nodeid] = (time.monotonic() - began, sorted(names))

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self._failed.append(report.nodeid)
            print(f"\nFAILED {report.nodeid}", flush=True)


def run_pytest(files: Sequence[str], plugins: List[Any]) -> int:
    """Run ``files`` until the first test that fails."""
    # Not captured: children of a session would share the file that it captures to.
    arguments = ["-x", "-q", "-s", "-p", "no:cacheprovider", "-p", "pytest_timeout", "--timeout", "120"]
    return int(pytest.main([*arguments, "-W", "ignore::pytest.PytestAssertRewriteWarning", *files], plugins))


# Processes


def in_child(run: Callable[[], int], output: Path, limit: float) -> str:
    """Empty if ``run`` gives 0 in a forked process; else which test failed, or how the process ended."""
    child = os.fork()
    if not child:
        be_child(run, output)
    end = time.monotonic() + limit
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            break
        if time.monotonic() > end:
            _end_group(child)
            os.waitpid(child, 0)
            return "it does not come to an end"
        time.sleep(0.01)
    _end_group(child)  # what its tests had started
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return ""
    said = output.read_text(encoding="utf-8", errors="replace")
    if code == BROKEN:
        raise RuntimeError(f"a process did not come to its tests:\n{said}")
    failed = [line for line in said.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return failed[0].split(" - ")[0].partition(" ")[2] if failed else f"the process ended with {code}"


def be_child(run: Callable[[], int], output: Path) -> NoReturn:
    """Do ``run`` with all that is said going to ``output``, and end."""
    code = BROKEN
    try:
        os.setpgid(0, 0)
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, 1)
        os.dup2(file, 2)
        code = run()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _end_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass  # nothing of it is left


# Code


def enters(names: Sequence[str], place: str) -> bool:
    """Whether one who entered the functions ``names`` came through ``place``, or something that is defined in it."""
    return any(name == place or name.startswith(place + ".") for name in names)


def pieces(source: str, path: Path) -> Dict[Place, CodeType]:
    """The code of every function, class and lambda of ``source`` by its place; the module's own is at ()."""
    found: Dict[Place, CodeType] = {}

    def walk(code: CodeType, place: Place) -> None:
        found[place] = code
        numbers: Dict[str, int] = {}
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                number = numbers[constant.co_name] = numbers.get(constant.co_name, 0) + 1
                walk(constant, (*place, (constant.co_name, number)))

    walk(compile(source, str(path), "exec", dont_inherit=True), ())
    return found


def _same_but_for_what_is_inside(one: CodeType, other: CodeType) -> bool:
    def own(code: CodeType) -> Tuple[Any, ...]:
        constants = [(type(constant), constant) for constant in code.co_consts if not isinstance(constant, CodeType)]
        return code.co_code, code.co_names, constants, code.co_varnames, code.co_freevars, code.co_cellvars

    return own(one) == own(other)


def within_functions(before: str, after: str) -> bool:
    """Whether only code of functions that exist once the module is imported differs: nothing that importing runs."""
    old, new = pieces(before, Path("m")), pieces(after, Path("m"))
    if old.keys() != new.keys():
        return False
    changed = [place for place, code in old.items() if not _same_but_for_what_is_inside(code, new[place])]
    is_function = 0x2  # CO_NEWLOCALS: a class body and a module have it not
    return bool(changed) and all(
        old[place].co_flags & is_function
        and not place[-1][0].startswith("<genexpr")
        and old[place].co_freevars == new[place].co_freevars
        and any(old[place[:depth]].co_flags & is_function for depth in range(1, len(place) + 1))
        for place in changed
    )


def exchange(path: Path, before: str, source: str) -> None:
    """Give the functions of the module at ``path`` that this process has from ``before`` their code of ``source``."""
    old = pieces(before, path)
    new = pieces(source, path)
    live: Dict[CodeType, List[FunctionType]] = {}
    for function in gc.get_objects():
        if isinstance(function, FunctionType) and function.__code__.co_filename == str(path):
            live.setdefault(function.__code__, []).append(function)
    exchanged = 0
    for place, code in old.items():
        if code != new[place]:
            for function in live.get(code, []):
                function.__code__ = new[place]
                exchanged += 1
    if not exchanged:
        raise RuntimeError("no function of this process has the code that was changed")
