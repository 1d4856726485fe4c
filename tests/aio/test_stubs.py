"""The types of ``selfdb.aio`` are in step with the sources and true of what there is at run time."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Union

import pytest

from tests.aio import stubs
from tests.aio.faces import HOMES, faces, public
from tests.aio.stubs import DUNDERS, KEPT_DUNDERS
from tests.aio.test_typing import ROOT

ALLOWED = Path(__file__).with_name("stubtest_allowed.txt")

# Names, arguments and kinds are compared here, so that what others define is not needed, and takes long to read.
CONFIGURATION = """
[mypy]
[mypy-selfdb.server.*,pydantic.*,requests.*,urllib3.*,websocket.*]
follow_imports = skip
"""

Function = Union[ast.FunctionDef, ast.AsyncFunctionDef]


@pytest.fixture(scope="module")
def made() -> Dict[str, Any]:
    return faces()


each_package = pytest.mark.parametrize("package", stubs.PACKAGES, ids=[one.face.__name__ for one in stubs.PACKAGES])


@pytest.fixture(scope="module")
def written() -> Dict[str, ast.ClassDef]:
    """The classes of the stubs."""
    trees = [ast.parse(package.stub.read_text(encoding="utf-8")) for package in stubs.PACKAGES]
    return {node.name: node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}


@each_package
def test_the_stub_is_what_the_sources_say(package: stubs.Package) -> None:
    assert package.stub.read_text(encoding="utf-8") == stubs.text(package), "run python -m tests.aio.stubs"


def test_every_face_has_a_stub(written: Dict[str, ast.ClassDef]) -> None:
    assert sorted(written) == sorted(HOMES)


def functions(node: ast.ClassDef) -> Dict[str, Function]:
    found: Dict[str, Function] = {}
    for item in node.body:
        if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef)):
            longest = found.get(item.name, item)  # of overloads the one that takes most
            found[item.name] = item if len(ast.unparse(item.args)) >= len(ast.unparse(longest.args)) else longest
    return found


def attributes(node: ast.ClassDef) -> List[str]:
    constants = [ast.unparse(item.targets[0]) for item in node.body if isinstance(item, ast.Assign)]
    return [*constants, *(ast.unparse(item.target) for item in node.body if isinstance(item, ast.AnnAssign))]


@pytest.mark.parametrize("name", sorted(HOMES))
def test_it_names_what_an_object_has_and_nothing_else(
    name: str, made: Dict[str, Any], written: Dict[str, ast.ClassDef]
) -> None:
    named = {*functions(written[name]), *attributes(written[name])}
    statements = {member for member in DUNDERS.values() if hasattr(type(made[name]), member)}
    kept = {member for member in KEPT_DUNDERS if member in vars(stubs.blocking_class(name))}
    assert all(hasattr(type(made[name]), member) for member in kept)
    assert named - {"__init__"} == set(public(made[name])) | statements | kept


@pytest.mark.parametrize("name", sorted(HOMES))
def test_it_awaits_what_is_awaited(name: str, made: Dict[str, Any], written: Dict[str, ast.ClassDef]) -> None:
    """On the object, where the calls that give raw answers are found too."""
    for member, node in functions(written[name]).items():
        if any(
            ast.unparse(decorator) == "property" or ".setter" in ast.unparse(decorator)
            for decorator in node.decorator_list
        ):
            continue
        found = getattr(made[name], member)
        assert isinstance(node, ast.AsyncFunctionDef) == inspect.iscoroutinefunction(found), member
        taken = [arg.arg for arg in (*node.args.args[1:], *node.args.kwonlyargs)]
        given = inspect.signature(found).parameters
        assert taken == [arg for arg in given if given[arg].kind not in (2, 4)], member


@each_package
def test_it_exports_the_same_names_and_the_same_things(package: stubs.Package) -> None:
    tree = ast.parse(package.stub.read_text(encoding="utf-8"))
    (exported,) = [
        ast.literal_eval(n.value) for n in tree.body if isinstance(n, ast.Assign) and "__all__" in ast.unparse(n)
    ]
    assert exported == package.face.__all__
    for name in set(package.blocking.__all__) - set(package.homes) - set(package.functions):
        assert getattr(package.face, name) is getattr(package.blocking, name)


@pytest.mark.timeout(300)
def test_stubtest_finds_no_difference(tmp_path: Path) -> None:
    """The judge that type checkers' own stubs have to pass: it imports the package and compares."""
    (tmp_path / "mypy.ini").write_text(CONFIGURATION)
    command = [sys.executable, "-m", "mypy.stubtest", "selfdb.aio", "--allowlist", str(ALLOWED)]
    command += ["--mypy-config-file", str(tmp_path / "mypy.ini")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
