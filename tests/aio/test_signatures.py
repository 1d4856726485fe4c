"""The two faces of every class, compared: names, signatures, what is awaited, and that no mark was forgotten."""

from __future__ import annotations

import inspect
from typing import Any, Dict, Iterator, List, Tuple

import pytest

import selfdb
import selfdb.aio
from selfdb.core.marks import Mark, inner_names, mark_of
from tests.aio.faces import HOMES, faces, is_inner, public
from tests.aio.reach import reaches
from tests.aio.sources import defined_in
from tests.aio.stubs import DUNDERS, KEPT_DUNDERS, blocking_class, class_method

NAMES = sorted(HOMES)
AWAITED = ("blocking", "waiting")


@pytest.fixture(scope="module")
def made() -> Dict[str, Any]:
    return faces()


def methods(name: str) -> Iterator[Tuple[str, Any]]:
    """The public methods of a blocking class, and those behind its statements."""
    cls = blocking_class(name)
    for member in sorted({*dir(cls)} - inner_names(cls)):
        value = inspect.getattr_static(cls, member)
        function = getattr(value, "__func__", value)
        wanted = not member.startswith("_") or member in (*DUNDERS, *KEPT_DUNDERS)
        if wanted and inspect.isfunction(function) and function.__module__.startswith("selfdb."):
            yield member, function


def properties(name: str) -> List[str]:
    cls = blocking_class(name)
    return [
        member
        for member, value in inspect.getmembers(cls)
        if isinstance(value, property) and not member.startswith("_") and member not in inner_names(cls)
    ]


def mark(function: Any) -> Mark:
    return mark_of(function) or Mark("passing")


ALL = [(name, member) for name in NAMES for member in dict(methods(name))]


def method(name: str, member: str) -> Any:
    return dict(methods(name))[member]


def test_every_class_is_here(made: Dict[str, Any]) -> None:
    assert sorted(made) == NAMES
    assert len(ALL) > 100


@pytest.mark.parametrize("name", NAMES)
def test_both_faces_have_the_same_public_names(name: str, made: Dict[str, Any]) -> None:
    blocking = made[name]._blocking
    assert type(blocking) is blocking_class(name)
    hidden = inner_names(type(blocking))
    mine = {member for member, value in public(blocking).items() if not is_inner(value)} - hidden
    assert set(public(made[name])) == mine
    for member in set(public(blocking)) - mine:
        with pytest.raises(AttributeError, match=member):
            getattr(made[name], member)


@pytest.mark.parametrize("name", NAMES)
def test_signatures_are_equal(name: str, made: Dict[str, Any]) -> None:
    for member, value in public(made[name]._blocking).items():
        if callable(value) and not is_inner(value) and member not in inner_names(blocking_class(name)):
            face, own = inspect.signature(getattr(made[name], member)), inspect.signature(value)
            assert list(face.parameters.values()) == list(own.parameters.values()), member
            assert face.return_annotation == own.return_annotation, member
    for member, value in methods(name):
        if member in DUNDERS:
            assert inspect.signature(getattr(type(made[name]), DUNDERS[member])) == inspect.signature(value), member


def test_the_client_is_made_with_the_same_arguments() -> None:
    assert inspect.signature(selfdb.aio.SelfDB.__init__) == inspect.signature(selfdb.SelfDB.__init__)


def is_awaited(function: Any) -> str:
    """How a method of a face is called."""
    if inspect.iscoroutinefunction(function):
        return "awaited"
    inside = getattr(function, "__wrapped__", None)
    return "opened" if inspect.iscoroutinefunction(inside) else "called"


def how(own: Mark) -> str:
    """How a method with this mark should be called."""
    if own.kind not in AWAITED:
        return "called"
    return "opened" if own.opens else "awaited"


@pytest.mark.parametrize("name", NAMES)
def test_what_is_marked_is_awaited_and_nothing_else(name: str, made: Dict[str, Any]) -> None:
    face = made[name]
    wrong = {
        member: (is_awaited(getattr(face, member)), how(mark(getattr(value, "__func__", value))))
        for member, value in public(face._blocking).items()
        if callable(value)
        and not is_inner(value)
        and member not in inner_names(blocking_class(name))
        and is_awaited(getattr(face, member)) != how(mark(getattr(value, "__func__", value)))
    }
    assert wrong == {}


@pytest.mark.parametrize("name", NAMES)
def test_statements_have_their_awaitable_form(name: str, made: Dict[str, Any]) -> None:
    face = type(made[name])
    for member, _ in methods(name):
        if member in DUNDERS:
            assert (is_awaited(getattr(face, DUNDERS[member])) == "awaited") is (member != "__iter__"), member
    # A face must not take part in statements that would block.
    assert [member for member in DUNDERS if hasattr(face, member)] == []


@pytest.mark.parametrize("name", NAMES)
def test_docstrings_are_there(name: str, made: Dict[str, Any]) -> None:
    face = made[name]
    assert type(face).__doc__ == blocking_class(name).__doc__
    assert type(face).__doc__
    for member, value in methods(name):
        if member in vars(type(face)):
            assert getattr(type(face), member).__doc__ == value.__doc__, member
    for member in properties(name):
        assert getattr(type(face), member).__doc__ == getattr(blocking_class(name), member).__doc__, member


def settable(thing: type) -> List[str]:
    return [name for name, value in inspect.getmembers(thing) if isinstance(value, property) and value.fset]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_properties_may_be_set(name: str, made: Dict[str, Any]) -> None:
    assert settable(type(made[name])) == settable(blocking_class(name))


def test_setting_a_property_sets_it(made: Dict[str, Any]) -> None:
    db = made["SelfDB"]
    db.access_token = "one"
    assert db._blocking.access_token == "one"
    type(db).access_token.fset(db, "two")
    assert db.access_token == db._blocking.access_token == "two"


# Marks

PLAIN = {"accept", "changes", "stop", "updates"}
"""What the store calls for each row while it reads or writes, and which must be plain functions for that reason."""

OPENS = {("Indexie", "table"), ("Indexie", "tables"), ("Indexie", "__getitem__"), ("Indexie", "__getattr__")}
"""What opens the file of a database that declares no version: such a one is opened by ``await db.open()`` first."""


@pytest.mark.parametrize(("name", "member"), [pair for pair in ALL if mark(method(*pair)).kind == "passing"])
def test_what_is_not_marked_does_not_wait(name: str, member: str) -> None:
    """A new method whose mark was forgotten would hold the event loop: it fails here."""
    if (name, member) in OPENS:
        assert reaches(blocking_class(name), member) == "self._opened"
        return
    assert reaches(blocking_class(name), member) is None


@pytest.mark.parametrize(("name", "member"), [pair for pair in ALL if mark(method(*pair)).kind in AWAITED])
def test_a_forgotten_mark_would_be_found(name: str, member: str) -> None:
    """The test above finds each method that is marked today, had its mark been left out."""
    assert reaches(blocking_class(name), member) is not None


@pytest.mark.parametrize("name", NAMES)
def test_properties_do_not_wait(name: str) -> None:
    found = [member for member in properties(name) if (name, member) not in OPENS]
    assert {member: reaches(blocking_class(name), member) for member in found} == dict.fromkeys(found)


@pytest.mark.parametrize(("name", "member"), ALL)
def test_callbacks_and_sources_are_marked(name: str, member: str) -> None:
    """Every parameter that is called may be a coroutine function, every iterable an asynchronous one."""
    own = mark(method(name, member))
    written = class_method(blocking_class(name), member)
    assert written is not None
    source = defined_in(written.function.__module__)
    arguments = [arg for arg in (*written.node.args.args, *written.node.args.kwonlyargs) if arg.annotation is not None]
    called = {arg.arg for arg in arguments if arg.annotation and source.expanded(arg.annotation, "Callable")}
    iterated = {arg.arg for arg in arguments if arg.annotation and source.expanded(arg.annotation, "Iterable")}
    if own.kind != "inner":
        if written.function.__module__.startswith("selfdb.indexie."):
            called -= PLAIN
        assert called == {*own.callbacks, *own.asks}
        assert iterated == set(own.sources)
