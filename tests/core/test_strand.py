"""Strands: calls one after the other, on one thread where that is wanted, and never waiting for themselves."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, Callable, List, Optional

import pytest

from selfdb.core import executor as executor_module
from selfdb.core.asynchronous import awaitable
from selfdb.core.call import current_call
from selfdb.core.executor import PLACES, Executor, Job
from selfdb.core.marks import blocking
from selfdb.core.strand import Strand, Stranded
from tests.core.kit import BOUND, in_forked_child, wait_until


class Client(Stranded):
    """Its calls belong to the strand that it holds."""

    def __init__(self) -> None:
        self.current: Optional[Strand] = None

    def strand(self) -> Optional[Strand]:
        return self.current

    @blocking
    def thread(self) -> threading.Thread:
        return threading.current_thread()

    @blocking(callbacks=("callback",))
    def call(self, callback: Callable[[], Any]) -> Any:
        return callback()

    @blocking
    def wait(self, event: threading.Event) -> bool:
        return event.wait(BOUND)

    @blocking(closes=True)
    def close(self) -> None: ...


Face = awaitable(Client)


def run(main: Any) -> Any:
    return asyncio.run(asyncio.wait_for(main, BOUND))


def test_a_client_says_which_strand() -> None:
    with pytest.raises(NotImplementedError):
        Stranded().strand()


@pytest.mark.parametrize("keeps", [False, True])
def test_calls_are_made_in_the_order_in_which_they_were_asked_for(keeps: bool) -> None:
    done: List[int] = []
    threads = set()

    def job(number: int) -> None:
        if number >= 0:
            threads.add(threading.current_thread())
        done.append(number)

    async def main() -> None:
        executor, strand = Executor(asyncio.get_running_loop()), Strand(keeps=keeps)
        assert not strand.closed
        for _ in range(3):
            jobs = [executor.submit(job, (number,), {}, strand) for number in range(100)]
            await asyncio.gather(*(job.future for job in jobs))
        strand.close()
        assert strand.closed
        wait_until(lambda: not executor._strands)
        await executor.submit(job, (-1,), {}, strand).future
        executor.close()

    run(main())
    assert done == [*range(100)] * 3 + [-1]
    assert len(threads) == 1 or not keeps


def test_a_kept_thread_is_nobody_elses_and_counts_for_none() -> None:
    async def main() -> None:
        executor, strand = Executor(asyncio.get_running_loop()), Strand(keeps=True)
        first = executor.submit(threading.current_thread, (), {}, strand)
        kept = await first.future
        wait_until(lambda: strand._parked is not None and executor._places._workers == 0)
        assert executor._places._free == PLACES
        other = await executor.submit(threading.current_thread, (), {}).future
        assert other is not kept
        assert await executor.submit(threading.current_thread, (), {}, strand).future is kept
        strand.close()
        wait_until(lambda: executor._places._workers == 2)
        executor.close()
        wait_until(lambda: not kept.is_alive() and not other.is_alive())

    run(main())


def test_an_executor_that_is_closed_lets_its_strands_go() -> None:
    async def main() -> None:
        executor, strand = Executor(asyncio.get_running_loop()), Strand(keeps=True)
        kept = await executor.submit(threading.current_thread, (), {}, strand).future
        executor.close()
        wait_until(lambda: not kept.is_alive())

    run(main())


def test_who_comes_back_from_a_wait_goes_before_the_next_of_a_strand() -> None:
    order: List[str] = []
    gate, begun = threading.Event(), threading.Event()

    async def main() -> None:
        executor, strand = Executor(asyncio.get_running_loop()), Strand()
        places = executor._places
        places._free = 1

        def waits() -> None:
            job = current_call()
            assert isinstance(job, Job)
            job.leave()
            begun.set()
            assert gate.wait(BOUND)
            job.come_back()
            order.append("back")

        def first() -> None:
            gate.set()
            wait_until(lambda: bool(places._returning))
            order.append("first")

        away = executor.submit(waits, (), {})
        assert begun.wait(BOUND)
        jobs = [executor.submit(first, (), {}, strand), executor.submit(order.append, ("second",), {}, strand)]
        await asyncio.gather(away.future, *(job.future for job in jobs))
        executor.close()

    run(main())
    assert order == ["first", "back", "second"]


def test_a_strand_without_a_place_waits_for_one() -> None:
    async def main() -> None:
        executor, strand = Executor(asyncio.get_running_loop()), Strand()
        begun, go = threading.Event(), threading.Event()

        def hold() -> bool:
            begun.set()
            return go.wait(BOUND)

        executor._places._free = 1
        holds = executor.submit(hold, (), {})
        assert begun.wait(BOUND)
        placeless = [executor.submit(len, ("ab",), {}, strand), executor.submit(len, ("abc",), {}, strand)]
        assert await placeless[0].future == 2, "begun without a place, since nobody gives one back"
        go.set()
        assert await placeless[1].future == 3
        assert await holds.future is True
        executor.close()

    run(main())


def test_a_callback_on_the_loop_may_call_what_waits_for_it() -> None:
    async def main() -> None:
        db = Face()
        client = db._blocking
        strand = client.current = Strand(keeps=True)
        threads = [await db.thread()]

        async def inner() -> None:
            threads.append(await db.thread())

        async def outer() -> None:
            threads.append(await db.thread())
            await db.call(inner)

        await db.call(outer)
        await db.call(lambda: None)
        threads.append(await db.thread())
        assert threads[0] is threads[3]
        assert threads[0] not in threads[1:3]
        strand.close()
        await db.close()

    run(main())


def test_calls_of_two_loops_on_one_strand() -> None:
    strand, done = Strand(keeps=True), []
    blocked, go = threading.Event(), threading.Event()

    def hold() -> bool:
        blocked.set()
        return go.wait(BOUND)

    async def other() -> None:
        executor = Executor(asyncio.get_running_loop())
        job = executor.submit(threading.current_thread, (), {}, strand)
        go.set()
        done.append(await job.future)
        executor.close()

    async def main() -> None:
        executor = Executor(asyncio.get_running_loop())
        done.append(await executor.submit(threading.current_thread, (), {}, strand).future)
        held = executor.submit(hold, (), {}, strand)
        assert blocked.wait(BOUND)
        await asyncio.get_running_loop().run_in_executor(None, lambda: asyncio.run(other()))
        assert await held.future is True
        strand.close()
        executor.close()

    run(main())
    assert done[0] is done[1]


def test_where_no_thread_can_be_started_nothing_is_left_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    strand, done = Strand(), []
    later: List[Any] = []

    async def main() -> None:
        executor = Executor(asyncio.get_running_loop())

        class NoThread:
            def __init__(self, **_: Any) -> None: ...

            def start(self) -> None:
                later.append(executor.submit(done.append, ("behind",), {}, strand))
                raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(executor_module.threading, "Thread", NoThread)
            with pytest.raises(RuntimeError, match="new thread"):
                executor.submit(done.append, ("first",), {}, strand)
        with pytest.raises(RuntimeError, match="new thread"):
            await later[0].future
        await executor.submit(done.append, ("again",), {}, strand).future
        executor.close()

    run(main())
    assert done == ["again"]


def test_a_call_that_is_given_up_before_its_turn_is_not_made() -> None:
    async def main() -> None:
        db = Face()
        strand = db._blocking.current = Strand(keeps=True)
        go, made = threading.Event(), []
        holds = asyncio.ensure_future(db.wait(go))
        behind = asyncio.ensure_future(db.call(lambda: made.append(1)))
        await asyncio.sleep(0)
        behind.cancel()
        with pytest.raises(asyncio.CancelledError):
            await behind
        go.set()
        assert await holds is True
        await db.thread()
        assert made == []
        strand.close()
        await db.close()

    run(main())


@pytest.mark.parametrize("state", ["never used", "between two calls", "closed"])
def test_a_child_that_was_forked_while_a_call_was_being_queued_goes_on(state: str) -> None:
    strand = Strand(keeps=True)

    async def use() -> List[str]:
        executor = Executor(asyncio.get_running_loop())
        names = [await executor.submit(lambda: threading.current_thread().name, (), {}, strand).future for _ in "ab"]
        executor.close()
        return names

    async def main() -> None:
        executor = Executor(asyncio.get_running_loop())
        if state != "never used":
            await executor.submit(len, ("a",), {}, strand).future
            wait_until(lambda: strand._parked is not None)
        if state == "closed":
            strand.close()

        def child() -> bytes:
            asyncio.events._set_running_loop(None)
            return b" ".join(name.encode() for name in asyncio.run(use()))

        with strand._lock:
            assert in_forked_child(child) == b"selfdb-aio selfdb-aio"
        assert strand.closed == (state == "closed")
        strand.close()
        executor.close()

    run(main())
