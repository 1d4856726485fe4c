"""Faces of classes made for the purpose: what passes through, what is awaited, and what becomes of it at the edges."""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading
from typing import Any, Callable, Iterator, List, Optional

import pytest

from selfdb.core import executor as executor_module
from selfdb.core.asynchronous import Bridge, Opened, awaitable
from selfdb.core.call import away, current_call
from selfdb.core.executor import PLACES, Executor
from selfdb.core.loops import _Errand
from selfdb.core.marks import blocking, inner, passing
from selfdb.core.waits import Signal, Waiting, ask, until, waiting, work
from tests.core.kit import BOUND, in_forked_child, wait_until


class Numbers(Iterator[int]):
    """Counts down; each step waits for somebody else."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.closed = threading.Event()

    @blocking
    def __next__(self) -> int:
        if not self.left:
            raise StopIteration
        self.left -= 1
        return self.left

    def __enter__(self) -> Numbers:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self.closed.set()


class Client:
    """A client as the package's are."""

    LIMIT = 7

    def __init__(self, name: str = "toy") -> None:
        self.name = name
        self.signal = Signal()
        self.rung = False
        self.made: Optional[Numbers] = None
        self.making = threading.Event()
        self.hold: Optional[threading.Event] = None

    @classmethod
    def named(cls, name: str) -> Client:
        return cls(name)

    @classmethod
    @blocking(opens=True)
    def opened(cls, name: str) -> Client:
        if name == "broken":
            raise ValueError("it cannot be opened")
        return cls(name)

    @classmethod
    @blocking
    def made_slowly(cls, name: str) -> Client:
        return cls(name)

    @property
    def title(self) -> str:
        return self.name.title()

    @title.setter
    def title(self, value: str) -> None:
        self.name = value.lower()

    @property
    def numbers(self) -> Numbers:
        return Numbers(2)

    def itself(self) -> Client:
        return self

    def plain(self, value: Any) -> Any:
        return value

    @blocking
    def thread(self) -> str:
        return threading.current_thread().name

    @blocking
    def echo(self, *values: Any, **named: Any) -> Any:
        return values, named

    @blocking
    def itself_slowly(self) -> Client:
        return self

    @blocking(opens=True)
    def count(self, number: int) -> Numbers:
        self.made = Numbers(number)
        self.making.set()
        if self.hold is not None:
            assert self.hold.wait(BOUND)
        return self.made

    @blocking(callbacks=("callback",))
    def call(self, callback: Callable[[int], int]) -> int:
        return callback(20) + 1

    @passing(callbacks=("callback",))
    def keep(self, callback: Callable[..., Any]) -> Callable[..., Any]:
        return callback

    @waiting
    def ring(self, seconds: Optional[float] = None) -> Waiting[bool]:
        return (yield from until(self.signal, lambda: self.rung, seconds))

    @waiting
    def asks(self, function: Callable[[int], Any]) -> Waiting[Any]:
        doubled = yield from work(lambda: 21 * 2)
        try:
            return (yield from ask(function, doubled))
        except ValueError:
            return "refused"

    @inner
    def secret(self) -> None:
        raise AssertionError("only the package calls it")

    @blocking(closes=True)
    def close(self) -> None:
        self.rung = True


Face = awaitable(Client)


def run(main: Any) -> Any:
    return asyncio.run(asyncio.wait_for(main, BOUND))


def test_what_passes_and_what_is_awaited() -> None:
    async def main() -> None:
        db = Face("ada")
        assert (db.LIMIT, db.name, db.title, repr(db).startswith("<tests.")) == (7, "ada", "Ada", True)
        db.title = "EVE"
        db.name = db.name + "!"
        assert (db.plain(3), db.title) == (3, "Eve!")
        assert db.itself() is db
        assert await db.itself_slowly() is db
        assert await db.thread() == "selfdb-aio"
        assert await db.echo(1, 2, 3, four=4) == ((1, 2, 3), {"four": 4})
        assert await db.echo() == ((), {})
        assert await db.echo(db) == ((db._blocking,), {})
        assert await db.call(lambda number: number * 2) == 41
        assert db.keep(len) == db.keep(len) != db.keep(max)
        assert len({db.keep(len), db.keep(len)}) == 1
        assert "len" in repr(db.keep(len))
        assert "secret" not in dir(db)
        assert {"echo", "title", "name"} <= set(dir(db))
        for name in ("secret", "_private", "nothing"):
            with pytest.raises(AttributeError):
                getattr(db, name)
        assert [number async for number in db.numbers] == [1, 0]
        await db.close()

    run(main())


def test_faces_of_one_object_are_one() -> None:
    client = Client()
    one, other, third = Bridge().face(client), Bridge().face(client), Face("x")
    assert one == other != third
    assert hash(one) == hash(other)
    assert one != client
    for make in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError, match="cannot be pickled"):
            make(one)


def test_only_a_class_that_waits_has_a_face() -> None:
    with pytest.raises(TypeError, match="str has no blocking methods"):
        awaitable(str)
    assert awaitable(Client) is Face
    assert Bridge().face("text") == "text"
    assert awaitable(Numbers, "some.where").__module__ == "some.where"


def test_alternative_constructors() -> None:
    async def main() -> None:
        assert isinstance(Face.named("plain"), Client)
        db = await Face.made_slowly("slow")
        assert (type(db), db.name) == (Face, "slow")
        await db.close()
        with pytest.raises(ValueError, match="cannot be opened"):
            await Face.opened("broken")
        opening = Face.opened("quick")
        assert isinstance(opening, Opened)
        db = await asyncio.ensure_future(opening)
        assert db.name == "quick"
        await db.close()

    run(main())


def test_what_is_opened_may_be_entered_or_looped_over() -> None:
    async def main() -> None:
        db = Face()
        async with db.count(3) as numbers:
            assert [number async for number in numbers] == [2, 1, 0]
        assert db.made.closed.is_set()
        assert [number async for number in db.count(2)] == [1, 0]
        unused = db.count(1)
        unused.close()
        refused = db.count(1)
        with pytest.raises(ZeroDivisionError):
            refused.throw(ZeroDivisionError())
        await db.close()

    run(main())


def test_what_was_made_when_nobody_waits_any_more_is_closed() -> None:
    async def main() -> None:
        db = Face()
        late = db._blocking
        for hold in (None, threading.Event()):
            late.hold = hold
            late.making.clear()
            making = asyncio.ensure_future(db.count(1))
            await asyncio.sleep(0)
            assert late.making.wait(BOUND)  # on the loop's own thread: what was made cannot land meanwhile
            if hold is None:
                executor = db._bridge.executor()
                wait_until(lambda executor=executor: len(executor._done) == 1)
            making.cancel()
            with pytest.raises(asyncio.CancelledError):
                await making
            if hold is not None:
                hold.set()
            made = late.made
            while not made.closed.is_set():
                await asyncio.sleep(0.001)
        await db.close()

    run(main())


def test_waits_are_made_on_the_loop() -> None:
    async def main() -> None:
        db = Face()
        ringing = asyncio.ensure_future(db.ring())
        assert await db.ring(0.01) is False
        db._blocking.rung = True
        db._blocking.signal.ring()
        assert await ringing is True
        assert await db.asks(lambda number: number + 1) == 43

        async def slow(number: int) -> int:
            await asyncio.sleep(0)
            return number + 2

        def refuse(number: int) -> int:
            raise ValueError(number)

        assert await db.asks(slow) == 44
        assert await db.asks(refuse) == "refused"
        await db.close()

    run(main())


def test_a_signal_that_rang_before_anybody_waited() -> None:
    class Hasty(Signal):
        """Rings while it is asked to be watched."""

        def watch(self, wake: Callable[[], object]) -> None:
            super().watch(wake)
            self.ring()

    signal, looks = Hasty(), iter([False, True])

    async def main() -> None:
        assert await Bridge().steps(until(signal, lambda: next(looks), None)) is True

    run(main())


def test_a_signal_that_rings_for_a_loop_that_has_ended() -> None:
    signal = Signal()
    loop = asyncio.new_event_loop()
    task = loop.create_task(Bridge().steps(until(signal, lambda: False, None)))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    signal.ring()
    assert not task.done()
    task.get_coro().close()
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # it is meant to be


def test_a_forked_child_begins_with_threads_of_its_own() -> None:
    async def use(db: Any) -> str:
        return str(await db.thread())

    db = Face()
    assert asyncio.run(use(db)) == "selfdb-aio"
    assert in_forked_child(lambda: asyncio.run(use(db)).encode()) == b"selfdb-aio"
    asyncio.run(db.close())


def test_a_job_without_a_thread_is_not_done_later(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoThread:
        def __init__(self, **_: Any) -> None: ...

        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    done: List[str] = []

    async def main() -> None:
        executor = Executor(asyncio.get_running_loop())
        with monkeypatch.context() as patch:
            patch.setattr(executor_module.threading, "Thread", NoThread)
            with pytest.raises(RuntimeError, match="new thread"):
                executor.submit(done.append, ("refused",), {})
        await executor.submit(done.append, ("taken",), {}).future
        with monkeypatch.context() as patch:
            patch.setattr(executor_module.threading, "Thread", NoThread)
            await executor.submit(done.append, ("by the other",), {}).future
        executor.close()

    run(main())
    assert done == ["taken", "by the other"]


def test_a_thread_of_the_calls_own_takes_no_place() -> None:
    async def main() -> None:
        executor = Executor(asyncio.get_running_loop())

        def work_with_another() -> None:
            job = current_call()
            assert job is not None
            thread = threading.Thread(target=lambda: (job.leave(), job.come_back()))
            thread.start()
            thread.join(BOUND)

        job = executor.submit(work_with_another, (), {})
        await job.future
        assert job._away == 0
        executor.close()

    run(main())


def test_a_place_is_left_once_however_deep_one_waits() -> None:
    async def main() -> None:
        executor = Executor(asyncio.get_running_loop())
        free = []

        def wait_within_a_wait() -> None:
            free.append(executor._places._free)
            with away():
                free.append(executor._places._free)
                with away():
                    free.append(executor._places._free)
                free.append(executor._places._free)
            free.append(executor._places._free)

        await executor.submit(wait_within_a_wait, (), {}).future
        assert free == [PLACES - 1, PLACES, PLACES, PLACES, PLACES - 1]
        wait_until(lambda: executor._places._free == PLACES)  # its thread is done a moment after the call
        executor.close()

    run(main())


def test_a_callback_is_given_up_though_its_loop_has_ended() -> None:
    errand = _Errand(print, ())
    loop = asyncio.new_event_loop()
    loop.close()
    errand._give_up(loop)
    assert errand._outcome.get(timeout=BOUND) == (None, None)
