"""Every conformance case is a test that bears its number."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path
from typing import Dict, List, Set

import pytest

TESTS = Path(__file__).parents[1]

CASES: Dict[str, Set[int]] = {
    "": set(range(1, 126)),
    "aerodb": set(range(1, 88)) - {86},
    "indexie": set(range(1, 100)) - {63},
}
"""By wing, whose tests have a folder of its name; the client itself, and all that has none, is "". The queue of writes
of AeroDB's case 86 is not part of the package, nor are Indexie's clauses that ignore case (63), and its sources of rows
from elsewhere (100 and on)."""

ELSEWHERE: Dict[int, str] = {}
"""Cases of the client that are proven only in part so far, with the reason."""

each_wing = pytest.mark.parametrize("wing", CASES)

NUMBER = re.compile(r"test_c(\d{3})(?:_|\Z)")


def numbers_in(source: str) -> Set[int]:
    """The cases whose number is in the name of a test of ``source``."""
    names = [
        node.name for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    return {int(found[1]) for name in names if (found := NUMBER.match(name))}


@functools.cache
def borne(wing: str) -> Dict[int, List[str]]:
    """For each case of ``wing`` the files with a test of its number."""
    found: Dict[int, List[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        room = path.relative_to(TESTS).parts[0]
        if (room if room in CASES else "") != wing:
            continue
        for number in numbers_in(path.read_text(encoding="utf-8")):
            found.setdefault(number, []).append(str(path.relative_to(TESTS)))
    return found


@each_wing
def test_every_case_has_its_test(wing: str) -> None:
    missing = sorted(CASES[wing] - set(borne(wing)) - set("" if wing else ELSEWHERE))
    assert missing == [], f"no test bears the numbers {missing}"


@each_wing
def test_no_test_bears_a_number_that_is_no_case(wing: str) -> None:
    strange = {number: files for number, files in borne(wing).items() if number not in CASES[wing]}
    assert strange == {}


def test_the_exceptions_are_cases() -> None:
    assert set(ELSEWHERE) <= CASES[""]
    assert all(ELSEWHERE.values())


@pytest.mark.parametrize(
    "source, numbers",
    [
        ("def test_c042_a() -> None: ...", {42}),
        ("class A:\n    async def test_c001(self) -> None: ...", {1}),
        ("def test_c42_a() -> None: ...", set()),
        ("def c042_a() -> None: ...", set()),
        ("# def test_c042_a() -> None: ...", set()),
        ('"""test_c042_a"""', set()),
        ("def test_c0421() -> None: ...", set()),
    ],
)
def test_how_numbers_are_read(source: str, numbers: Set[int]) -> None:
    assert numbers_in(source) == numbers
