"""Faces at their edges: blocks that wait when entered, cancelled steps, questions to a class, callbacks by name."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from contextvars import ContextVar
from typing import Any, Callable, List, Sequence, Tuple

import pytest

from selfdb.core.asynchronous import awaitable
from selfdb.core.call import carry
from selfdb.core.loops import LoopCallback
from selfdb.core.marks import blocking, inner, inner_names, passing
from selfdb.core.waits import Waiting, ask, waiting, work
from tests.core.kit import BOUND

told: ContextVar[str] = ContextVar("told", default="nothing")
seen: ContextVar[str] = carry(ContextVar("seen", default="nothing"))


class Block:
    """Sets a variable for whoever is in it, and opens and closes something that may block."""

    def __init__(self, log: List[str]) -> None:
        self.log = log
        self.opening = threading.Event()
        self.may_open = threading.Event()
        self.may_open.set()

    def open(self) -> None:
        self.opening.set()
        assert self.may_open.wait(BOUND)
        self.log.append("open")

    def close(self, how: str) -> None:
        self.log.append(how)

    @waiting
    def __enter__(self) -> Waiting[Block]:
        try:
            yield from work(self.open)
        except BaseException:
            yield from work(lambda: self.close("undone"), shield=True)
            raise
        told.set("inside")
        return self

    @waiting
    def __exit__(self, kind: Any, error: Any, trace: Any) -> Waiting[None]:
        told.set("outside")
        yield from work(lambda: self.close("closed" if kind is None else kind.__name__), shield=True)


@blocking
class Holder:
    """Has no call that waits, and leads to some that do."""

    def __init__(self, log: List[str]) -> None:
        self.log = log

    def block(self) -> Block:
        return Block(self.log)

    def __call__(self, number: int) -> int:
        return number + 1


class Client:
    def __init__(self) -> None:
        self.log: List[str] = []
        self.kept: List[Any] = []

    @property
    def holder(self) -> Holder:
        return Holder(self.log)

    @classmethod
    @blocking
    def exists(cls, name: str) -> bool:
        return name == "there"

    @passing(callbacks=("callback",))
    def keep(self, callback: Callable[..., Any]) -> Callable[..., Any]:
        self.kept.append(callback)
        return callback

    @blocking
    def ring(self) -> List[Any]:
        token = seen.set("the ringing thread's")
        try:
            return [callback() for callback in self.kept]
        finally:
            seen.reset(token)

    @blocking
    def kinds(self, things: Sequence[Any]) -> Tuple[type, List[str]]:
        return type(things), [type(thing).__module__ for thing in things]

    @waiting(asks=("function",))
    def within(self, function: Callable[[], Any]) -> Waiting[Any]:
        told.set("in the task")
        try:
            return (yield from ask(function))
        except asyncio.CancelledError:
            self.log.append("cancelled")
            yield from work(lambda: self.log.append("cleaned up"), shield=True)
            raise
        finally:
            told.set("over")

    @waiting
    def asked(self, function: Callable[[Client], Any]) -> Waiting[Any]:
        return (yield from ask(function, self))

    @blocking(closes=True)
    def close(self) -> None: ...


Face = awaitable(Client)


def run(main: Any) -> Any:
    return asyncio.run(asyncio.wait_for(main, BOUND))


def test_a_block_is_entered_in_the_callers_task() -> None:
    async def main() -> None:
        db = Face()
        async with db.holder.block() as block:
            assert told.get() == "inside"
            assert block.log == ["open"]
        assert told.get() == "outside"
        with pytest.raises(ZeroDivisionError):
            async with db.holder.block():
                1 / 0
        assert db.log == ["open", "closed", "open", "ZeroDivisionError"]
        assert db.holder(3) == 4
        await db.close()

    run(main())


def test_threads_enter_it_too() -> None:
    block = Block([])
    with block as entered:
        assert entered is block
        assert told.get() == "inside"
    assert block.log == ["open", "closed"]


def test_an_entry_that_is_cancelled_undoes_what_it_may_have_done() -> None:
    async def main() -> None:
        db = Face()
        block = db.holder.block()
        block.may_open.clear()
        entering = asyncio.ensure_future(block.__aenter__())
        while not block.opening.is_set():
            await asyncio.sleep(0.001)
        entering.cancel()
        block.may_open.set()
        with pytest.raises(asyncio.CancelledError):
            await entering
        while len(db.log) < 2:  # two threads, where nothing says that they are one
            await asyncio.sleep(0.001)
        assert sorted(db.log) == ["open", "undone"]
        await db.close()

    run(main())


def test_a_question_that_is_cancelled_may_clean_up() -> None:
    async def main() -> None:
        db = Face()
        begun = asyncio.Event()

        async def stands() -> None:
            assert told.get() == "in the task"
            begun.set()
            await asyncio.sleep(3600)

        task = asyncio.ensure_future(db.within(stands))
        await asyncio.wait_for(begun.wait(), BOUND)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert db.log == ["cancelled", "cleaned up"]
        assert await db.within(lambda: told.get()) == "in the task"
        assert told.get() == "over"
        await db.close()

    run(main())


def test_a_shielded_step_goes_on_though_nobody_waits_any_more() -> None:
    begun, go, log = threading.Event(), threading.Event(), []

    class Slow:
        @waiting
        def do(self) -> Waiting[None]:
            yield from work(self._do, shield=True)

        def _do(self) -> None:
            begun.set()
            assert go.wait(BOUND)
            log.append("done")

        @blocking
        def look(self) -> List[str]:
            return log

    async def main() -> None:
        face = awaitable(Slow)()
        task = asyncio.ensure_future(face.do())
        while not begun.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go.set()
        while not await face.look():
            await asyncio.sleep(0.001)
        face._bridge.close()

    run(main())


def test_a_class_may_be_asked_without_a_client() -> None:
    async def main() -> None:
        assert await Face.exists("there") is True
        assert await Face.exists("elsewhere") is False

    run(main())


def test_faces_in_a_list_are_their_objects() -> None:
    async def main() -> None:
        db = Face()
        here = Holder.__module__
        assert await db.kinds(["a", db.holder]) == (list, ["builtins", here])
        assert await db.kinds((db.holder,)) == (list, [here])
        assert await db.kinds(("a", "b")) == (tuple, ["builtins", "builtins"])
        await db.close()

    run(main())


def test_callbacks_have_the_names_of_their_functions_and_come_back_as_them() -> None:
    async def main() -> None:
        db = Face()

        def named(one: int, two: int = 2) -> None:
            """What it says."""

        assert db.keep(named) is named
        nameless = functools.partial(named, 1)
        assert db.keep(nameless) is nameless
        first, second = db._blocking.kept
        assert isinstance(first, LoopCallback)
        assert (first.__name__, first.__module__, first.__doc__) == ("named", __name__, "What it says.")
        assert first.__qualname__ == named.__qualname__
        assert list(inspect.signature(first).parameters) == ["one", "two"]
        assert not hasattr(second, "__name__")
        await db.close()

    run(main())


def test_what_is_carried_goes_along_and_the_rest_is_of_the_moment() -> None:
    async def main() -> None:
        db = Face()
        told.set("when it was given")
        seen.set("when it was given")
        db.keep(lambda: (told.get(), seen.get()))
        told.set("later")
        assert await db.ring() == [("when it was given", "the ringing thread's")]
        assert seen.get() == "when it was given"
        await db.close()

    run(main())


def test_callbacks_are_given_faces() -> None:
    async def main() -> None:
        db = Face()
        seen: List[Any] = []

        async def callback(*arguments: Any) -> None:
            seen.extend(arguments)

        db.keep(callback)
        await asyncio.get_running_loop().run_in_executor(None, db._blocking.kept[0], db._blocking, {"a": 1})
        assert seen[0] is db
        assert seen[1] == {"a": 1}
        assert await db.asked(lambda client: client) is db
        await db.close()

    run(main())


def test_a_block_learns_that_its_loop_has_ended() -> None:
    async def enter(face: Any) -> Any:
        block = face.holder.block()
        await block.__aenter__()
        return block

    face = Face()
    leaving = run(enter(face)).__aexit__(None, None, None)
    with pytest.raises(RuntimeError, match="no running event loop"):
        leaving.send(None)
    assert face._blocking.log == ["open"]
    face._bridge.close()


@inner
class Parts:
    """What the package alone knows of those that derive from it."""

    hidden: int
    kind = "part"

    def __init__(self) -> None:
        self.hidden = 1
        self.shown = 2

    def work(self) -> None:
        raise AssertionError("only the package calls it")


class Whole(Parts):
    def name(self) -> str:
        return f"{self.kind} {self.hidden}"

    @blocking
    def ask(self) -> int:
        return self.hidden


def test_what_a_base_has_for_the_package_alone_is_not_on_the_face() -> None:
    async def main() -> None:
        whole = awaitable(Whole)()
        assert (whole.shown, whole.name(), await whole.ask()) == (2, "part 1", 1)
        for name in ("hidden", "kind", "work"):
            assert name not in dir(whole)
            with pytest.raises(AttributeError, match=name):
                getattr(whole, name)
        whole._bridge.close()

    run(main())
    assert inner_names(Whole) == {"hidden", "kind", "work"}
    assert inner_names(Client) == frozenset()
    with pytest.raises(TypeError, match="no blocking methods"):
        awaitable(Parts)
