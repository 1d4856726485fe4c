"""Calls given up at any moment: at once, without a trace, and without harm to the others."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from typing import Any, AsyncIterator, Callable, Dict, List, Tuple

import pytest

import selfdb as blocking
from selfdb import APIConnectionError, AuthenticationError, SelfDBError
from selfdb.aio import SelfDB
from tests import soak
from tests.aio.kit import BOUND, Run, bounded, on_both, run_plain, threads_of_ours, until, wait_until, workers
from tests.aio.moody import ROWS, Moody, content
from tests.conftest import _sockets
from tests.realtime.phoenix import Phoenix
from tests.servers.scripted import Peer, Received, ScriptedServer

CALLS = 10_000
AT_ONCE = 80
AT_ONCE_SECONDS = 1.0
"""Within this a cancelled call has to be over; the bound is the noise of a busy machine, not the client's."""

SLACK = 5.0


async def pieces(number: int) -> AsyncIterator[bytes]:
    whole = content(number)
    for at in range(0, len(whole), 10_000):
        await asyncio.sleep(random.random() / 500)
        yield whole[at : at + 10_000]


async def rows_of(number: int) -> AsyncIterator[Dict[str, int]]:
    for offset in range(5):
        await asyncio.sleep(random.random() / 500)
        yield {"n": number + offset}


class Wrong(Exception):
    """An answer that was another call's."""


def same(given: Any, wanted: Any) -> None:
    if given != wanted:
        raise Wrong(f"{given!r} instead of {wanted!r}")


class Calls:
    """Every kind of call; each takes a number of its own and checks that what comes back is that number's."""

    def __init__(self, db: Any, live: Any, deaf: Any) -> None:
        self.db = db
        self.live = live
        self.deaf = deaf

    async def _count(self, number: int, mood: str) -> None:
        same(await self.db.auth.count(f"{number} {mood}"), number)

    async def get(self, number: int) -> None:
        await self._count(number, "quick")

    async def slow(self, number: int) -> None:
        await self._count(number, "slow")

    async def dripping(self, number: int) -> None:
        await self._count(number, "drip")

    async def retried(self, number: int) -> None:
        try:
            await self._count(number, "busy")
        except SelfDBError as error:
            if error.status_code not in (401, 503):  # others may have used the budget of retries up
                raise

    async def silent(self, number: int) -> None:
        await self._count(number, "silent")

    async def insert(self, number: int) -> None:
        same((await self.db.tables.data.insert("t", {"n": number}))["n"], number)

    async def insert_many(self, number: int) -> None:
        report = await self.db.tables.data.insert_many("t", rows_of(number), concurrency=2)
        for outcome in report:  # the token that the server forgets is forgotten twice, if seldom
            if not isinstance(outcome.error, AuthenticationError):
                same(outcome.result and outcome.result["n"], number + outcome.index)

    async def upload(self, number: int) -> None:
        try:
            answer = await self.db.storage.files.upload("b", str(number), pieces(number))
        except SelfDBError as error:
            same(error.status_code, 401)  # a body like this cannot be sent a second time
        else:
            same(answer.file_id, str(number))

    async def download(self, number: int) -> None:
        same(await self.db.storage.files.download("b", str(number)), content(number))

    async def stream(self, number: int) -> None:
        whole = b""
        async with self.db.storage.files.stream("b", str(number), chunk_size=7000) as blocks:
            async for block in blocks:
                whole += block
        same(whole, content(number))

    async def rows(self, number: int) -> None:
        found = [row["n"] async for row in self.db.tables.data.query(str(number)).page_size(2)]
        same(found, [number] * ROWS)

    async def connect(self, number: int) -> None:
        await self.deaf.auth.count(str(number))

    async def subscribe(self, number: int) -> None:
        await self.live.realtime.channel(f"deaf:{number % 50}").subscribe()

    async def events(self, number: int) -> None:
        async with self.live.realtime.channel("table:quiet").events() as stream:
            await stream.__anext__()

    async def wait_for(self, number: int) -> None:
        await self.live.realtime.channel("table:quiet").wait_for("INSERT", timeout=60)


KINDS = (
    *("get", "slow", "dripping", "retried", "silent", "insert", "insert", "insert_many", "upload", "download"),
    *("stream", "rows", "connect", "subscribe", "events", "wait_for"),
)


def result_of(task: Any) -> None:
    """Raise what ``task`` raised, unless the server has forgotten its token for a second time at once."""
    try:
        task.result()
    except AuthenticationError:
        return


async def give_up(call: Any, after: float) -> Tuple[bool, float]:
    """Cancel ``call`` after a while: whether it was still under way, and how long it took to end then."""
    task = asyncio.ensure_future(call)
    await asyncio.wait([task], timeout=after)
    if task.done():
        result_of(task)
        return False, 0.0
    begun = time.perf_counter()
    task.cancel()
    await asyncio.wait([task], timeout=BOUND)
    took = time.perf_counter() - begun
    if not task.done():
        raise Wrong("it goes on although it was cancelled")
    if task.cancelled():
        return True, took
    result_of(task)
    return False, took  # it was done in that very moment


@pytest.mark.timeout(300)
def test_ten_thousand_calls_cancelled_at_random_points() -> None:
    chance = soak.chance("calls cancelled")
    moody, phoenix = Moody(chance.randrange(1 << 32), forgetful=0.01), Phoenix()
    deaf = ScriptedServer(default=lambda peer: peer.wait_for_close())
    for topic in range(50):
        phoenix.joins[f"deaf:{topic}"] = [None] * CALLS
    threads = threads_of_ours()
    cancelled: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    times: List[float] = []

    async def drive(calls: Calls, numbers: Any) -> None:
        for number in numbers:
            kind = chance.choice(KINDS)
            gave_up, took = await give_up(getattr(calls, kind)(number), chance.random() ** 3 * 0.5)
            (cancelled if gave_up else whole)[kind] += 1
            if gave_up:
                times.append(took)

    complaints: List[Any] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        db = SelfDB(moody.url, "key", timeout=60, max_retries=3)
        live = SelfDB(phoenix.url, "key")
        dead = SelfDB(deaf.url.replace("http:", "https:"), "key", timeout=60)
        db.access_token = moody.tokens["access_token"]
        db.refresh_token = moody.tokens["refresh_token"]
        await live.realtime.connect()
        await live.realtime.channel("table:quiet").subscribe()
        calls = Calls(db, live, dead)
        await calls.upload(CALLS * 100)  # so that the route of uploads is known
        source = iter(range(0, CALLS * 10, 10))
        await asyncio.gather(*(drive(calls, source) for _ in range(AT_ONCE)))
        # Nobody else's answer waits on any connection, and the session is still there.
        moody.forgetful = 0.0  # a token that is forgotten twice at once is an error
        for number in range(CALLS * 10, CALLS * 10 + 200):
            await bounded(calls.get(number))
        assert db.refresh_token == moody.tokens["refresh_token"]
        for client in (db, live, dead):
            await bounded(client.close())
        await until(lambda: threads_of_ours() == threads)

    with moody.server, phoenix.server, deaf:
        sockets = _sockets()
        begun = time.perf_counter()
        run_plain(main())
        took = time.perf_counter() - begun
        wait_until(lambda: sockets is None or (_sockets() or 0) <= sockets)
    assert complaints == []
    times.sort()
    print(
        f"{CALLS} calls in {took:.1f} s; cancelled: {dict(cancelled)}; whole: {dict(whole)}; "
        f"renewals: {moody.renewals}; a cancelled call ended after {times[-1] * 1000:.0f} ms at most, "
        f"p99 {times[int(len(times) * 0.99)] * 1000:.1f} ms, median {times[len(times) // 2] * 1000:.2f} ms"
    )
    assert sum(cancelled.values()) + sum(whole.values()) == CALLS
    assert times[-1] < AT_ONCE_SECONDS * SLACK
    assert moody.reused == []
    assert moody.renewals > 0
    assert max(moody.done.values()) == 1
    assert set(cancelled) == set(KINDS)


async def patiently(step: Callable[[], Any], chance: random.Random) -> Any:
    """What ``step()`` gives in the end, interrupted by as many time-outs as it takes, each longer than the last."""
    limit = 0.001
    while True:
        try:
            return await asyncio.wait_for(step(), chance.random() * limit)
        except asyncio.TimeoutError:
            limit *= 1.5
            assert limit < BOUND


async def all_of(items: Any, chance: random.Random) -> List[Any]:
    found = []
    while True:
        try:
            found.append(await patiently(items.__anext__, chance))
        except StopAsyncIteration:
            return found


@on_both
def test_time_outs_of_the_caller_end_a_call_at_once(run: Run, scripted: Callable[..., Any]) -> None:
    server = scripted(default=lambda peer: peer.wait_for_close())

    async def main() -> None:
        async with SelfDB(server.url, "key", timeout=60) as db:
            for _ in range(5):
                begun = time.perf_counter()
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(db.auth.count("1"), 0.02)
                assert time.perf_counter() - begun < AT_ONCE_SECONDS * SLACK

    run(main())


@on_both
def test_rows_go_on_behind_a_time_out_without_losing_one(run: Run, replies: Callable[..., Any]) -> None:
    def page(request: Any) -> Any:
        number = int(dict(request.query)["page"])
        time.sleep(random.random() / 500)  # so that answers and time-outs cross at any point
        rows = [{"id": number * 2 - 2}, {"id": number * 2 - 1}] if number <= 30 else []
        return 200, {}, {"data": rows, "total": 60, "page": number, "page_size": 2}

    server = replies(page)
    chance = random.Random(4)

    async def main() -> None:
        async with SelfDB(server.url, "key") as db:
            for _ in range(3):
                rows = db.tables.data.query("t").page_size(2).__aiter__()
                assert [row["id"] for row in await all_of(rows, chance)] == list(range(60))
                assert rows.total == 60
                assert not rows.total_changed

    run(main())


@on_both
def test_lists_go_on_behind_a_time_out(run: Run, replies: Callable[..., Any]) -> None:
    def users(request: Any) -> Any:
        skip = int(dict(request.query)["skip"])
        return 200, {}, [{"id": str(number), "email": "a@b.c"} for number in range(skip, min(skip + 3, 40))]

    server = replies(users)

    async def main() -> None:
        async with SelfDB(server.url, "key") as db:
            found = await all_of(db.auth.users.iter(), random.Random(5))
            assert [user.id for user in found] == [str(number) for number in range(40)]

    run(main())


@on_both
def test_a_download_goes_on_behind_a_time_out_without_losing_a_byte(run: Run) -> None:
    moody = Moody(6)

    async def main() -> None:
        async with SelfDB(moody.url, "key") as db:
            db.access_token = moody.tokens["access_token"]
            for number in range(3):
                async with db.storage.files.stream("b", str(number), chunk_size=9000) as blocks:
                    assert b"".join(await all_of(blocks, random.Random(number))) == content(number)
                    assert blocks.done == len(content(number))
                with pytest.raises(StopAsyncIteration):
                    await blocks.__anext__()

    with moody.server:
        run(main())


@on_both
def test_a_download_that_cannot_be_resumed_says_so(run: Run, scripted: Callable[..., Any]) -> None:
    def half(peer: Any) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        peer.wait_for_close()

    server = scripted(half)

    async def main() -> None:
        db = SelfDB(server.url, "key", max_retries=0)
        async with db, db.storage.files.stream("b", "f", chunk_size=4) as blocks:
            assert await bounded(blocks.__anext__()) == b"half"
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(blocks.__anext__(), 0.05)
            for _ in range(2):
                with pytest.raises(APIConnectionError, match="interrupted"):
                    await bounded(blocks.__anext__())

    run(main())


@on_both
def test_events_go_on_behind_a_time_out_and_none_is_lost(run: Run) -> None:
    phoenix = Phoenix()

    async def main() -> None:
        async with SelfDB(phoenix.url, "key") as db:
            await bounded(db.realtime.connect())
            channel = await bounded(db.realtime.channel("table:t").subscribe())
            chance = random.Random(7)
            async with channel.events() as stream:
                for number in range(0, 300, 3):
                    for offset in range(3):
                        phoenix.insert("table:t", number + offset)
                    found = [(await patiently(stream.__anext__, chance)).new["id"] for _ in range(3)]
                    assert found == [number, number + 1, number + 2]

    with phoenix.server:
        run(main())


@on_both
def test_following_goes_on_behind_a_time_out_and_nothing_is_lost(run: Run, replies: Callable[..., Any]) -> None:
    phoenix = Phoenix()
    rows = [{"id": number} for number in range(10)]

    def page(request: Any) -> Any:
        number = int(dict(request.query)["page"])
        time.sleep(random.random() / 500)
        return 200, {}, {"data": rows[number * 5 - 5 : number * 5], "total": 10, "page": number, "page_size": 5}

    server = replies(page)

    async def main() -> None:
        async with SelfDB(phoenix.url, "key") as db, SelfDB(server.url, "key") as other:
            await bounded(db.realtime.connect())
            query = other.tables.data.query("t").page_size(5)
            chance = random.Random(8)
            async with db.realtime.channel("table:t").follow(query) as changes:
                found = [(await patiently(changes.__anext__, chance)).new["id"] for _ in range(10)]
                for number in range(10, 100):
                    phoenix.insert("table:t", number)
                    found.append((await patiently(changes.__anext__, chance)).new["id"])
                assert found == list(range(100))

    with phoenix.server:
        run(main())


def test_a_cancelled_call_that_leads_a_renewal_lets_it_finish() -> None:
    moody = Moody(9)
    moody._expired = True
    held, renew = threading.Event(), moody._renew

    def renew_later(peer: Peer, request: Received) -> None:
        assert held.wait(BOUND)
        renew(peer, request)

    moody._renew = renew_later  # type: ignore[method-assign]

    async def main() -> None:
        async with SelfDB(moody.url, "key") as db:
            db.access_token = moody.tokens["access_token"]
            db.refresh_token = moody.tokens["refresh_token"]
            call = asyncio.ensure_future(db.auth.count("1 quick"))
            await until(lambda: any("refresh" in request.target for request in moody.server.requests))
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            held.set()
            assert await bounded(db.auth.count("2 quick")) == 2
            assert (moody.renewals, moody.reused) == (1, [])
            assert db.refresh_token == moody.tokens["refresh_token"]

    with moody.server:
        run_plain(main())


def test_a_call_that_waits_for_anothers_renewal_can_be_cancelled() -> None:
    moody = Moody(10)
    moody._expired = True

    async def main() -> None:
        async with SelfDB(moody.url, "key") as db:
            db.access_token = moody.tokens["access_token"]
            db.refresh_token = moody.tokens["refresh_token"]
            calls = [asyncio.ensure_future(db.auth.count(f"{number} quick")) for number in range(20)]
            await until(lambda: any("refresh" in request.target for request in moody.server.requests))
            for call in calls[::2]:
                call.cancel()
            outcomes = await bounded(asyncio.gather(*calls, return_exceptions=True))
            for number, outcome in enumerate(outcomes):
                assert outcome == number or (number % 2 == 0 and isinstance(outcome, asyncio.CancelledError))
            assert (moody.renewals, moody.reused) == (1, [])

    with moody.server:
        run_plain(main())


def test_closing_is_not_interrupted() -> None:
    async def main() -> None:
        db = SelfDB("http://127.0.0.1:9", "key")
        closing = asyncio.ensure_future(db.close())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await until(lambda: db._blocking._transport.lifeline.closed)
        await until(lambda: not threads_of_ours())

    run_plain(main())


def test_a_cancelled_local_server_is_gone() -> None:
    """Whenever it is given up: while it starts, while it signs in, when it has just been made."""
    pytest.importorskip("fastapi")
    blocking.SelfDB.local().close()  # an import of all that a server needs is not given up in the middle
    chance = random.Random(11)

    async def main() -> None:
        for _ in range(4):
            making = asyncio.ensure_future(asyncio.wait_for(SelfDB.local(), BOUND * 4))
            await asyncio.wait([making], timeout=chance.random() * 0.6)
            making.cancel()
            await asyncio.wait([making], timeout=BOUND)
            if not making.cancelled():
                await making.result().close()
        await until(lambda: threads_of_ours() == len(workers()))

    run_plain(main())
