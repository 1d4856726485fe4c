"""Test modules of the blocking client, loaded a second time so that their tests run through the awaitable face.

``globals().update(again("tests.client.test_tables"))`` in a test module of this folder gives it the tests and fixtures
of that one, with every class of the client replaced by its `plain` one. Nothing of them is written a second time.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import re
import sys
import types
from typing import Any, Dict, Iterator, Sequence

import pytest

from tests.aio.again.left_out import LEFT_OUT, NEVER_AWAITED
from tests.aio.again.plain import Loop, is_blocking, plain_class
from tests.conftest import _FAILED
from tests.core.kit import wait_until

HELPERS = (
    "tests.client.conftest",
    "tests.realtime.conftest",
    "tests.realtime.clients",
    "tests.realtime.delivery",
)
"""Modules that tests get their clients from, and that are loaded a second time for them."""

_helpers: Dict[str, types.ModuleType] = {}


NUMBERED = re.compile(r"test_c\d{3}(_|\Z)")


def again(*names: str, every: bool = False, keep: Sequence[str] = ()) -> Dict[str, Any]:
    """The tests of the modules ``names`` that bear the number of a case, with all their fixtures, and one more that
    sees to it that each test goes through the awaitable face.

    :param every: take the tests without a number too.
    :param keep: classes that stay the blocking ones, since the tests give them to such.
    :raises ValueError: if two of them have tests of the same name, or one that is to be left out is not there.
    """
    found: Dict[str, Any] = {}
    for name in names:
        module = load(name, keep)
        left_out = LEFT_OUT.get(name, {})
        unknown = set(left_out) - set(vars(module))
        if unknown:
            raise ValueError(f"{name} has no {sorted(unknown)}")
        for key, value in vars(module).items():
            if key.startswith("__") or key in left_out:
                continue
            if key.startswith("test_") and not (every or NUMBERED.match(key)):
                continue
            if found.get(key, value) is not value and (key.startswith("test_") or _is_fixture(value)):
                raise ValueError(f"{key} is in two of {names}")
            found[key] = value
    found["_awaits"] = _awaits
    return found


def load(name: str, keep: Sequence[str] = ()) -> types.ModuleType:
    """The module ``name`` once more, in which the client is the awaitable one behind a blocking front."""
    if name in _helpers:
        return _helpers[name]
    importlib.import_module(name)  # what it does to others, it does once, and to the real ones
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    others = {helper: load(helper) for helper in HELPERS if helper != name} if name not in HELPERS else {}
    with _in_place(others):
        spec.loader.exec_module(module)
    for key, value in list(vars(module).items()):
        if key not in keep and is_blocking(value):
            setattr(module, key, plain_class(value))
    if name in HELPERS:
        _helpers[name] = module
    return module


def _is_fixture(value: Any) -> bool:
    return isinstance(value, type(_awaits))


@contextlib.contextmanager
def _in_place(modules: Dict[str, types.ModuleType]) -> Iterator[None]:
    before = {name: sys.modules[name] for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        sys.modules.update(before)


@pytest.fixture(autouse=True)
def _awaits(request: pytest.FixtureRequest, the_loop: Loop) -> Iterator[None]:
    """Fail where a test was run again and did not go through the awaitable face, or left something on its loop."""
    asked, awaited = the_loop.asked, the_loop.awaited
    yield
    the_loop.let_go()
    if request.node.stash.get(_FAILED, False):
        return
    assert the_loop.asked > asked, "this test never came to the awaitable face"
    assert the_loop.awaited > awaited or request.node.originalname in NEVER_AWAITED, "this test awaited nothing"
    wait_until(lambda: not the_loop.tasks())
