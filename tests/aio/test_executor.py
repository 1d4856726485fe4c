"""The worker threads of a loop: how many, since when, until when, and how what they did comes back."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import time
import weakref
from typing import Any, Callable, List

import pytest

from selfdb import ClientClosedError
from selfdb.aio import SelfDB
from selfdb.core import executor as executors
from selfdb.core.call import CallAbandoned
from selfdb.core.executor import Executor
from selfdb.core.places import MAX_THREADS
from tests.aio.kit import (
    BOUND,
    Program,
    Run,
    bounded,
    echo,
    on_both,
    run_plain,
    threads_of_ours,
    until,
    wait_until,
    workers,
)

NAME: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")

EXIT_SECONDS = 1.0
SLACK = 5.0
"""Upper bounds that users rely on are tested with this factor."""


@on_both
def test_threads_start_with_calls_are_daemons_and_at_most_64(run: Run) -> None:
    async def main() -> None:
        executor = Executor(asyncio.get_running_loop())
        release = threading.Event()
        assert workers() == []
        try:
            jobs = [executor.submit(release.wait, (BOUND,), {}) for _ in range(1)]
            await until(lambda: len(workers()) == 1)
            jobs += [executor.submit(release.wait, (BOUND,), {}) for _ in range(200)]
            await until(lambda: len(workers()) == MAX_THREADS == 64)
            assert all(thread.daemon for thread in workers())
        finally:
            release.set()
        assert await bounded(asyncio.gather(*(job.future for job in jobs))) == [True] * 201
        assert len(workers()) <= MAX_THREADS
        executor.close()
        await until(lambda: not workers())

    run(main())


def test_calls_one_after_another_need_few_threads() -> None:
    async def main() -> None:
        executor = Executor(asyncio.get_running_loop())
        idents = {await bounded(executor.submit(threading.get_ident, (), {}).future) for _ in range(200)}
        assert len(idents) < 8  # one that is just about to be idle is not waited for
        executor.close()

    run_plain(main())


@on_both
def test_threads_go_when_the_client_is_closed(run: Run, replies: Callable[..., Any]) -> None:
    server = replies(echo)

    async def main() -> None:
        db = SelfDB(server.url, "key")
        await bounded(asyncio.gather(*(db.auth.count(str(number)) for number in range(20))))
        assert workers()
        await bounded(db.close())
        await until(lambda: not workers())

    run(main())


def test_threads_go_when_they_had_nothing_to_do_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "IDLE_SECONDS", 0.02)

    async def main() -> None:
        executor = Executor(asyncio.get_running_loop())
        for _ in range(3):
            assert await bounded(executor.submit(len, ("abc",), {}).future) == 3
            await until(lambda: not workers())

    run_plain(main())


def test_no_call_is_lost_to_a_thread_that_is_about_to_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "IDLE_SECONDS", 0.0)

    async def main() -> None:
        executor = Executor(asyncio.get_running_loop())
        for number in range(3000):
            assert await bounded(executor.submit(int, (number,), {}).future) == number
        executor.close()

    run_plain(main())


def test_no_call_is_lost_while_the_threads_go_because_it_is_closed() -> None:
    async def main() -> None:
        for number in range(300):
            executor = Executor(asyncio.get_running_loop())
            futures = [executor.submit(int, (number,), {}).future for _ in range(3)]
            executor.close()
            futures += [executor.submit(int, (number,), {}).future for _ in range(3)]
            assert await bounded(asyncio.gather(*futures)) == [number] * 6
        await until(lambda: not workers())

    run_plain(main())


def test_the_results_of_one_batch_come_back_in_one_wake_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        executor = Executor(loop)
        release = threading.Event()
        wakes: List[Any] = []
        plain = loop.call_soon_threadsafe
        monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *given: (wakes.append(given), plain(*given))[1])
        jobs = [executor.submit(release.wait, (BOUND,), {}) for _ in range(50)]
        await until(lambda: len(workers()) == 50)
        release.set()
        # The loop is busy here until all are done, and hears of them together afterwards.
        wait_until(lambda: all(job.finished for job in jobs) and len(executor._done) == 50)
        assert len(wakes) == 1
        await bounded(asyncio.gather(*(job.future for job in jobs)))
        assert len(wakes) == 1
        executor.close()

    run_plain(main())


def test_a_result_that_is_too_late_for_one_wake_up_makes_another() -> None:
    async def main() -> None:
        executor = Executor(asyncio.get_running_loop())
        for _ in range(20):
            futures = [executor.submit(time.sleep, (pause / 2000,), {}).future for pause in range(10)]
            await bounded(asyncio.gather(*futures))
        executor.close()

    run_plain(main())


@on_both
def test_context_travels_along_and_nothing_leaks_back(run: Run, replies: Callable[..., Any]) -> None:
    server = replies(
        lambda request: (200, {}, {"success": True, "bucket": "b", "path": "/f", "size": 3, "file_id": "i"})
    )
    seen: List[Any] = []

    class Body:
        """Read by the worker thread."""

        def read(self, size: int = -1) -> bytes:
            seen.append((NAME.get(), threading.current_thread().name))
            NAME.set("the worker")
            return b"" if len(seen) > 1 else b"abc"

    async def progress(done: int, total: Any) -> None:
        seen.append((NAME.get(), asyncio.current_task() is not None))
        NAME.set("the callback")

    async def main() -> None:
        NAME.set("the caller")
        db = SelfDB(server.url, "key")
        await bounded(db.storage.files.upload("b", "f", Body()))
        assert seen[0] == ("the caller", "selfdb-aio")
        assert NAME.get() == "the caller"
        seen.clear()
        await bounded(db.storage.files.upload("b", "f", b"abc", progress=progress))
        assert seen == [("the caller", True)]
        assert NAME.get() == "the caller"
        await db.close()

    run(main())


def test_each_call_has_the_context_of_who_made_it() -> None:
    async def one(executor: Executor, name: str) -> None:
        NAME.set(name)
        assert await bounded(executor.submit(NAME.get, (), {}).future) == name

    async def main() -> None:
        executor = Executor(asyncio.get_running_loop())
        await asyncio.gather(*(asyncio.ensure_future(one(executor, str(number))) for number in range(100)))
        executor.close()

    run_plain(main())


@on_both
def test_calls_after_close_say_that_it_is_closed(run: Run, replies: Callable[..., Any]) -> None:
    server = replies(echo)

    async def main() -> None:
        db = SelfDB(server.url, "key")
        assert await bounded(db.auth.count("1")) == 1
        await bounded(db.close())
        for _ in range(3):
            with pytest.raises(ClientClosedError):
                await bounded(db.auth.count("2"))
        await bounded(db.close())
        await until(lambda: not workers())

    run(main())


def test_a_client_that_was_never_used_closes() -> None:
    async def main() -> None:
        await bounded(SelfDB("http://127.0.0.1:9", "key").close())
        await until(lambda: not workers())

    run_plain(main())


def test_a_call_under_way_when_the_client_is_closed_ends(replies: Callable[..., Any]) -> None:
    busy, release = threading.Event(), threading.Event()

    def slow(request: Any) -> Any:
        busy.set()
        release.wait(BOUND)
        return echo(request)

    server = replies(slow)

    async def main() -> None:
        db = SelfDB(server.url, "key")
        call = asyncio.ensure_future(db.auth.count("7"))
        await until(busy.is_set)
        await bounded(db.close())
        release.set()
        assert await bounded(call) == 7
        await until(lambda: not workers())

    run_plain(main())


def test_without_a_thread_a_call_says_so_and_with_one_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        executor = Executor(asyncio.get_running_loop())
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", _no_more_threads)
            with pytest.raises(RuntimeError, match="can't start"):
                executor.submit(len, ("a",), {})
        busy, release = threading.Event(), threading.Event()
        first = executor.submit(lambda: (busy.set(), release.wait(BOUND))[1], (), {})
        await until(busy.is_set)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", _no_more_threads)
            second = executor.submit(len, ("ab",), {})
        release.set()
        assert await bounded(first.future) is True
        assert await bounded(second.future) == 2
        executor.close()

    run_plain(main())


def _no_more_threads(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_what_a_worker_raises_reaches_who_waits_and_is_not_kept() -> None:
    class Particular(Exception):
        pass

    async def main() -> None:
        executor = Executor(asyncio.get_running_loop())

        def fails() -> None:
            raise Particular

        with pytest.raises(Particular) as caught:
            await bounded(executor.submit(fails, (), {}).future)
        kept = weakref.ref(caught.value)
        del caught
        await until(lambda: gc.collect() >= 0 and kept() is None)  # its thread may not have let go of it yet
        assert workers()
        executor.close()

    run_plain(main())


def test_an_idle_thread_keeps_no_answer_alive() -> None:
    class Answer:
        pass

    async def main() -> None:
        executor = Executor(asyncio.get_running_loop())
        answer = await bounded(executor.submit(Answer, (), {}).future)
        kept = weakref.ref(answer)
        del answer
        await until(lambda: kept() is None)
        assert workers()
        executor.close()

    run_plain(main())


def test_a_call_that_gives_itself_up_is_cancelled() -> None:
    async def main() -> None:
        executor = Executor(asyncio.get_running_loop())

        def gives_up() -> None:
            raise CallAbandoned

        with pytest.raises(asyncio.CancelledError):
            await bounded(executor.submit(gives_up, (), {}).future)
        executor.close()

    run_plain(main())


def test_a_loop_that_was_closed_meanwhile_hears_nothing_and_nobody_minds() -> None:
    release = threading.Event()
    kept: List[Executor] = []

    async def main() -> None:
        kept.append(Executor(asyncio.get_running_loop()))
        kept[0].submit(release.wait, (BOUND,), {})
        await until(lambda: len(workers()) == 1)

    run_plain(main())
    release.set()
    kept[0].close()
    wait_until(lambda: not workers())
    assert not kept[0]._done


IN_FLIGHT = """
import asyncio, sys, time
from selfdb.aio import SelfDB

async def main():
    db = SelfDB(sys.stdin.readline().strip(), "key", timeout=60)
    for _ in range({calls}):
        asyncio.ensure_future(db.auth.count("1"))
    await asyncio.sleep({pause})
    print("ready", flush=True)
    sys.stdin.readline()
    print(time.time(), flush=True)
    {end}

asyncio.run(main())
"""


@pytest.mark.parametrize(
    "end", ["return", "import os; sys.exit(3)", "raise KeyboardInterrupt"], ids=["return", "exit", "interrupt"]
)
def test_the_interpreter_ends_within_a_second_with_calls_in_flight(end: str, scripted: Callable[..., Any]) -> None:
    server = scripted(default=[lambda peer: peer.read_request(), lambda peer: peer.wait_for_close()])
    with Program(IN_FLIGHT.format(calls=30, pause=0.0, end=end)) as program:
        stdin = program.process.stdin
        assert stdin is not None
        stdin.write(server.url + "\n")
        stdin.flush()
        assert program.line() == "ready"
        stdin.write("\n")
        stdin.flush()
        begun = float(program.line())
        program.process.wait(BOUND)
        assert time.time() - begun < EXIT_SECONDS * SLACK
        _, _, err = program.end()
        assert err == "" or end == "raise KeyboardInterrupt", err


NEVER_CLOSED = """
import asyncio, sys
from selfdb.aio import SelfDB

async def main():
    asyncio.get_running_loop().slow_callback_duration = 60  # how fast the machine is, is another matter
    db = SelfDB(sys.argv[1] if len(sys.argv) > 1 else sys.stdin.readline().strip(), "key")
    numbers = await asyncio.gather(*(db.auth.count(str(number)) for number in range(100)))
    assert numbers == list(range(100)), numbers
    async for _ in db.tables.iter():
        raise AssertionError

asyncio.run(main())
print("done")
"""


def test_a_client_that_is_never_closed_ends_without_a_word(replies: Callable[..., Any]) -> None:
    server = replies(lambda request: echo(request) if "search" in request.target else (200, {}, []))
    with Program(NEVER_CLOSED, "-W", "error", "-X", "dev") as program:
        stdin = program.process.stdin
        assert stdin is not None
        stdin.write(server.url + "\n")
        stdin.flush()
        assert program.end() == (0, "done\n", "")


def test_a_client_that_is_forgotten_leaves_no_thread(
    monkeypatch: pytest.MonkeyPatch, replies: Callable[..., Any]
) -> None:
    monkeypatch.setattr(executors, "IDLE_SECONDS", 0.05)
    server = replies(echo)

    async def main() -> None:
        assert await bounded(SelfDB(server.url, "key").auth.count("5")) == 5
        await until(lambda: not threads_of_ours())

    run_plain(main())
    gc.collect()
