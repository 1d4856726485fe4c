"""Every call of the specification with its ``await``, from the table that the blocking client's tests are made of."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any, Awaitable, Callable, Dict, Iterator, List

import pytest

import selfdb
from selfdb.aio import Channel, SelfDB
from selfdb.models import TableUpdate
from tests.client.conftest import ACCESS, REFRESH
from tests.client.seed_calls import SEED_CALLS
from tests.client.seed_case import SeedCall
from tests.client.seed_run import MADE_UP, Living, check_exchange
from tests.client.test_seed_calls import RUN
from tests.realtime import seed_run as realtime
from tests.realtime.clients import KEY
from tests.realtime.phoenix import Phoenix
from tests.servers.replies import ReplyServer, Request
from tests.servers.scripted import Peer
from tests.support import Http

BOUND = 60.0

each_call = pytest.mark.parametrize("case", RUN, ids=[case.id for case in RUN])
each_realtime_call = pytest.mark.parametrize("case", realtime.CASES, ids=[case.id for case in realtime.CASES])


@pytest.fixture(scope="module")
def local(_shared_servers: Dict[str, Any]) -> Any:
    """The shared server on SQLite; what the server does on both databases, the blocking client shows."""
    if "sqlite" not in _shared_servers:
        _shared_servers["sqlite"] = _shared_servers["start"](backend="sqlite")
    return _shared_servers["sqlite"]


class Held:
    """A server's answer, held back until the event loop lets it go: a call that blocked the loop would never end."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self._let_go = threading.Event()
        self.open()

    def open(self) -> None:
        self._let_go.set()

    def wait(self) -> None:
        """On the server's thread."""
        self.asked.set()
        assert self._let_go.wait(BOUND), "the loop was blocked by the call"

    async def through(self, call: Callable[[], Awaitable[Any]], *, answered: bool = True) -> Any:
        """What ``call`` gives, while the loop shows that it is free."""
        self.asked.clear()
        self._let_go.clear()

        async def made() -> Any:
            return await call()

        task = asyncio.ensure_future(made())
        try:
            while not self.asked.is_set() and not task.done():
                await asyncio.sleep(0.001)
            assert not (answered and task.done()), "it came back before it was answered"
        finally:
            self.open()
        return await task


def test_the_table_is_that_of_the_blocking_client_and_whole() -> None:
    assert len(SEED_CALLS) == len({case.id for case in [*RUN, *realtime.CASES]}) == 56
    assert (len(RUN), len(realtime.CASES)) == (48, 8)


# Exchanges


@each_call
def test_c100_on_the_wire_while_the_loop_is_free(case: SeedCall, replies: Callable[..., ReplyServer]) -> None:
    held = Held()

    def answer(request: Request) -> Any:
        held.wait()
        status, body = case.reply(MADE_UP)
        return status, {}, body

    server = replies(answer)

    async def main() -> Any:
        async with SelfDB(server.url, server.api_key, max_retries=0) as db:
            db.access_token, db.refresh_token = ACCESS, REFRESH
            return await held.through(lambda: case.call(db, MADE_UP))

    result = asyncio.run(main())
    assert case.expect(result, MADE_UP), result
    check_exchange(case, server)


@pytest.fixture
def helper(local: Any) -> Iterator[selfdb.SelfDB]:
    """A blocking client that makes what the calls need."""
    with selfdb.SelfDB(local.url, local.api_key, max_retries=0) as db:
        yield db


@each_call
def test_c100_on_the_embedded_server(case: SeedCall, local: Any, helper: selfdb.SelfDB) -> None:
    user, _ = Http(local).new_user()

    async def main() -> None:
        async with SelfDB(local.url, local.api_key, max_retries=0) as db:
            await db.auth.login(email=user["email"], password="password123")
            helper.access_token, helper.refresh_token = db.access_token, db.refresh_token
            things = Living(helper, user["email"], user["id"])
            assert things.refresh_token
            things.prepare(case)
            result = await case.call(db, things)
            assert case.expect(result, things), result

    asyncio.run(main())


# Realtime


class HeldPhoenix(Phoenix):
    """A channel server whose answers are held back."""

    def __init__(self, held: Held) -> None:
        self.held = held
        super().__init__()

    def _handle(self, peer: Peer) -> None:
        self.held.wait()
        super()._handle(peer)

    def _answer(self, ws: Any, frame: List[Any]) -> None:
        self.held.wait()
        super()._answer(ws, frame)


@each_realtime_call
def test_c100_frames_while_the_loop_is_free(case: SeedCall) -> None:
    held = Held()
    server = HeldPhoenix(held)

    async def main() -> None:
        async with SelfDB(server.url, KEY, max_retries=0) as db:
            db.access_token = "a-token"
            for call in realtime.before(case):
                await call(db)
            result = await held.through(lambda: case.call(db, SimpleNamespace()), answered=case.wire != "close")
            realtime.check(case, db, result, Channel)
            # Off the loop, for it waits; and before the client's own end, which closes too.
            await asyncio.get_running_loop().run_in_executor(None, realtime.check_frames, case, server)

    server.start()
    try:
        asyncio.run(main())
    finally:
        server.stop()


@pytest.fixture(scope="module")
def enabled(local: Any) -> Iterator[Any]:
    """The server with the tables of the specification's channels."""
    with selfdb.SelfDB(local.url, local.api_key) as db:
        db.access_token = Http(local).admin
        made = []
        for name in ("users", "orders"):
            table = db.tables.create({"name": name, "table_schema": {"name": {"type": "text"}}, "public": True})
            db.tables.update(table.id, TableUpdate(realtime_enabled=True))
            made.append(table)
        yield local
        for table in made:
            db.tables.delete(table.id)


@each_realtime_call
def test_c100_realtime_on_the_embedded_server(case: SeedCall, enabled: Any) -> None:
    user, _ = Http(enabled).new_user()

    async def main() -> None:
        async with SelfDB(enabled.url, enabled.api_key) as db:
            await db.auth.login(email=user["email"], password="password123")
            for call in realtime.before(case):
                await call(db)
            result = await case.call(db, SimpleNamespace())
            realtime.check(case, db, result, Channel)

    asyncio.run(main())
