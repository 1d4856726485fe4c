"""The whole run has 20 minutes: each family of tests has its part of them, and what keeps the run short works."""

from __future__ import annotations

import re
import sys
import threading
from typing import Any, Callable, Dict, List, Tuple

import pytest

from tests import pace
from tests.house.test_file_sizes import ROOT
from tests.support import Http

TESTS = ROOT / "tests"
LIMIT = 20 * 60
#: On CI the packages have to be fetched first.
INSTALLATION = "installation"


def rows(heading: str) -> List[Tuple[str, ...]]:
    """The rows of the table of the README whose first column is called ``heading``; a cell is one line."""
    lines = (TESTS / "README.rst").read_text(encoding="utf-8").splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.split("  ")[0] == heading]
    spans = [match.span() for match in re.finditer("=+", lines[at - 1])]
    assert len(spans) > 1
    found = []
    for line in lines[at + 2 :]:
        if line.startswith("="):
            return found
        cells = [line[start : end if start != spans[-1][0] else None].strip() for start, end in spans]
        assert all(cells), line
        found.append(tuple(cells))
    raise AssertionError("the table has no end")


def families() -> List[str]:
    """The folders of tests; what lies deeper in one belongs to it."""
    return sorted({"tests/" + path.relative_to(TESTS).parts[0] for path in TESTS.glob("*/**/test_*.py")})


def budgets() -> Dict[str, int]:
    return {name.strip("`"): int(seconds) for name, seconds, _ in rows("Family")}


def test_every_family_has_its_budget() -> None:
    assert {INSTALLATION, *families()} - set(budgets()) == set()


def test_the_budgets_fit_into_the_time_that_there_is() -> None:
    assert all(seconds > 0 for seconds in budgets().values())
    assert sum(budgets().values()) < LIMIT


def asked() -> Dict[Tuple[str, str], Tuple[int, int]]:
    """Variable and file of every amount that a test asks for, with how much is asked here and in a soak."""
    pattern = re.compile(r'amount\(\s*"(SELFDB_\w+)",\s*here=([\d_]+),\s*long=([\d_]+)')
    found = {}
    for path in TESTS.glob("*/**/test_*.py"):
        for variable, here, long in pattern.findall(path.read_text(encoding="utf-8")):
            found[variable, path.relative_to(TESTS).as_posix()] = int(here), int(long)
    return found


def test_every_longer_run_is_in_the_table_with_its_amounts() -> None:
    table = {
        (variable.strip("`"), said.split("`")[2]): (int(here), int(long))
        for variable, here, long, said in rows("Variable")
    }
    assert table == asked()
    assert len(table) >= 5


# What keeps it short


def test_what_is_left_out_or_put_first_is_there() -> None:
    assert all((TESTS / name).exists() for name in pace.UNTRACED)
    for name in pace.LONG:
        path, _, test = name.partition("::")
        assert (ROOT / path).is_file()
        assert not test or f"def {test}" in (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "place, traced",
    [
        ("tests/core/test_urls.py::test_a", True),
        ("tests/aio/test_loops.py::test_a", True),
        ("tests/aio/test_loops.py", True),
        ("tests/aio/test_docs.py::test_a", False),
        ("tests/aio/test_docs.py", False),
        ("tests/aio/again/test_rows.py::test_a", False),
        ("tests/server/deep/test_a.py::test_b[x/y]", False),
        ("tests/test_a.py::test_b[tests/server/x]", True),
        ("elsewhere/server/test_a.py::test_b", True),
    ],
)
def test_what_is_traced(place: str, traced: bool) -> None:
    assert pace.traced(place) is traced


def test_measuring_is_turned_off_and_on_only_when_that_changes_something(monkeypatch: pytest.MonkeyPatch) -> None:
    said: List[str] = []
    running: List[Measured] = []

    class Measured:
        def __init__(self, name: str) -> None:
            self.name = name
            running.append(self)

        def start(self) -> None:
            said.append(f"start {self.name}")
            running.append(self)

        def stop(self) -> None:
            said.append(f"stop {self.name}")
            assert running.pop() is self

    monkeypatch.setattr(pace, "spare_servers", lambda: said.append("spare"))
    tracing = pace.Tracing(lambda: running[-1] if running else None)
    tracing.set(False)  # nothing is measured
    Measured("a")
    Measured("b")
    for wanted in (True, True, False, False, True, True):
        tracing.set(wanted)
    assert said == ["spare", "stop b", "stop a", "start a", "start b", "spare"]
    assert [each.name for each in running] == ["a", "b"]


def test_nothing_is_traced_here() -> None:
    """This family is one that coverage is not taken from."""
    assert pace.measured_now() is None
    assert not type(sys.gettrace()).__module__.startswith("coverage")


def test_threads_of_servers_begin_without_the_tracer() -> None:
    traced: List[str] = []

    def tracer(frame: Any, event: str, argument: Any) -> None:
        traced.append(threading.current_thread().name)

    former = threading.gettrace()
    threading.settrace(tracer)
    try:
        pace.spare_servers()
        for name in ("selfdb-server", "selfdb-realtime", "AnyIO worker thread"):
            thread = threading.Thread(target=len, args=("",), name=name)
            thread.start()
            thread.join(30)
    finally:
        threading.settrace(former)  # type: ignore[arg-type]
    assert set(traced) == {"selfdb-realtime"}


def test_the_threads_of_an_embedded_server_are_known_as_such(make_server: Callable[..., Any]) -> None:
    before = set(threading.enumerate())
    http = Http(make_server())
    assert http.get("/users/me", bearer=http.admin).status_code == 200
    names = [thread.name for thread in set(threading.enumerate()) - before]
    assert len(names) > 1
    assert [name for name in names if not name.startswith(pace.SERVERS)] == []
