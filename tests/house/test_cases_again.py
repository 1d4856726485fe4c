"""Every conformance case of the client is run a second time through the awaitable face, or it is said why not."""

from __future__ import annotations

import ast
import functools
from pathlib import Path
from typing import Dict, Set

from tests.aio.again.left_out import CASES_NOT_AGAIN, LEFT_OUT, NOT_AGAIN
from tests.house.test_cases_covered import NUMBER, TESTS

SERVER_SIDE = "test_server_"
"""How modules begin that prove the server by raw sockets."""


@functools.cache
def names_of(module: str) -> Set[str]:
    path = TESTS.parent.joinpath(*module.split(".")).with_suffix(".py")
    return {node.name for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if _is_test(node)}


def _is_test(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name.startswith("test_")


def numbered(module: str) -> Dict[str, int]:
    """The tests of ``module`` that bear the number of a case."""
    return {name: int(found[1]) for name in names_of(module) if (found := NUMBER.match(name))}


def of_the_client() -> Set[str]:
    """The modules with numbered tests of the client."""
    paths = [*(TESTS / "client").glob("test_*.py"), *(TESTS / "realtime").glob("test_*.py")]
    names = {f"tests.{path.parent.name}.{path.stem}" for path in paths if not path.name.startswith(SERVER_SIDE)}
    return {name for name in names if numbered(name)}


def run_again() -> Set[str]:
    """The modules that the modules of ``tests/aio/again`` load a second time."""
    found: Set[str] = set()
    for path in Path(TESTS, "aio", "again").glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "again":
                names = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
                assert len(names) == len(node.args), f"{path.name} does not name its modules"
                found.update(name for name in names if "conftest" not in name)
    return found


def test_every_module_with_cases_is_run_again_or_it_is_said_why_not() -> None:
    assert of_the_client() == {*(run_again() & of_the_client()), *NOT_AGAIN}
    assert not run_again() & set(NOT_AGAIN)
    assert all(NOT_AGAIN.values())


def test_what_is_left_out_is_there_and_has_its_reason() -> None:
    assert set(LEFT_OUT) <= run_again()
    for module, tests in LEFT_OUT.items():
        assert set(tests) <= names_of(module), module
        assert all(tests.values()), module


def test_the_cases_run_again_and_those_that_are_not_are_all_cases_of_the_client() -> None:
    cases = {case for module in of_the_client() for case in numbered(module).values()}
    again = {
        case
        for module in run_again()
        for name, case in numbered(module).items()
        if name not in LEFT_OUT.get(module, {})
    }
    assert len(cases) > 80
    assert again | set(CASES_NOT_AGAIN) == cases
    assert not again & set(CASES_NOT_AGAIN), "these are run again after all"
    assert all(CASES_NOT_AGAIN.values())
