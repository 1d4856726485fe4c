"""The calls of the specification, blocking and awaited, from one table."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from typing import Any, Callable, List

import pytest

import selfdb.aerodb
import selfdb.aio.aerodb as aio
from selfdb.aerodb import AeroDBClient, AeroDBError, AeroDBResponse, AuthData, RealtimePayload
from tests.aerodb.seed_calls import EVENT, OPERATORS, SEED_CALLS, SEED_STEPS, SeedCall
from tests.aerodb.services import EMAIL, KEY, PASSWORD, data
from tests.servers.aerodb.realtime import AeroRealtime
from tests.servers.aerodb.server import AeroServer

CALLS = [*SEED_CALLS, *OPERATORS]
each_call = pytest.mark.parametrize("case", CALLS, ids=[case.id for case in CALLS])


def test_the_table_is_whole() -> None:
    assert (len(SEED_CALLS), len(OPERATORS), len(SEED_STEPS)) == (3, 9, 3)
    assert len({case.id for case in [*CALLS, *SEED_STEPS]}) == 15


def checked(case: SeedCall, aero: AeroServer, response: Any) -> None:
    assert type(response) is AeroDBResponse
    given = data(response)
    if case.id == "signing in":
        assert isinstance(given, AuthData)
        assert given.session is not None
    else:
        assert given == aero.rows
    (request,) = aero.requests
    case.check(request)


@each_call
def test_blocking(case: SeedCall, aero: AeroServer, client: AeroDBClient) -> None:
    checked(case, aero, case.call(client))


@each_call
def test_awaited(case: SeedCall, aero: AeroServer) -> None:
    async def call() -> Any:
        async with aio.AeroDBClient(url=aero.url, key=KEY) as client:
            awaitable = case.call(client)
            assert inspect.isawaitable(awaitable)
            return await awaitable

    checked(case, aero, asyncio.run(call()))


@each_call
def test_the_loop_goes_on_meanwhile(case: SeedCall, aero: AeroServer) -> None:
    asked, go = threading.Event(), threading.Event()

    def hold(request: Any) -> None:
        asked.set()
        assert go.wait(15), "the loop was blocked by the call"

    aero.before = hold

    async def call() -> Any:
        async with aio.AeroDBClient(aero.url, KEY) as client:
            task = asyncio.ensure_future(_of(case, client))
            while not asked.is_set():
                await asyncio.sleep(0.001)
            assert not task.done()
            go.set()
            return await task

    checked(case, aero, asyncio.run(call()))


async def _of(case: SeedCall, client: Any) -> Any:
    return await case.call(client)


# What it says of envelopes and sessions


@pytest.mark.parametrize("awaited", [False, True])
@pytest.mark.parametrize(
    "status, body, error",
    [
        (404, {"error": "no table"}, AeroDBError("no table", 404)),
        (500, {}, AeroDBError("Unknown error", 500)),
    ],
)
def test_a_refusal_is_an_envelope(aero: AeroServer, awaited: bool, status: int, body: Any, error: AeroDBError) -> None:
    aero.instead = [(status, {}, body)]
    response = _run(aero.url, lambda client: client.from_("users").select("*").execute(), awaited)
    assert (response.data, response.error) == (None, error)


@pytest.mark.parametrize("awaited", [False, True])
def test_so_is_a_server_that_is_not_there(aero: AeroServer, awaited: bool) -> None:
    aero.stop()
    response = _run(aero.url, lambda client: client.from_("users").select("*").execute(), awaited)
    assert response.data is None
    assert response.error.code == "NETWORK_ERROR"


@pytest.mark.parametrize("awaited", [False, True])
def test_later_calls_carry_the_token_and_a_401_refreshes_it(aero: AeroServer, awaited: bool) -> None:
    steps: List[Callable[[Any], Any]] = [
        lambda client: client.auth.sign_in(EMAIL, PASSWORD),
        lambda client: client.from_("users").select("*").execute(),
    ]
    aero.guarded = True

    def expire(request: Any) -> None:
        if len(aero.lines) == 2:
            aero.auth.expire((request.header("Authorization") or "").partition(" ")[2])

    aero.before = expire
    responses = _run_all(aero.url, steps, awaited)
    assert data(responses[1]) == aero.rows
    assert [line.partition("?")[0] for line in aero.lines] == [
        "POST /auth/login", "GET /rest/v1/users", "POST /auth/refresh", "GET /rest/v1/users",
    ]  # fmt: skip


@pytest.mark.parametrize("awaited", [False, True])
def test_the_constructor_takes_what_it_lists(aero: AeroServer, awaited: bool) -> None:
    options = {"url": aero.url, "key": KEY, "schema": "api2", "headers": {"X-App": "x"}, "realtime_url": aero.url}
    _run(options, lambda client: client.from_("users").select("*").execute(), awaited)
    assert aero.last.header("Accept-Profile") == "api2"
    assert aero.last.header("X-App") == "x"


def _run(options: Any, call: Callable[[Any], Any], awaited: bool) -> Any:
    return _run_all(options, [call], awaited)[0]


def _run_all(options: Any, calls: List[Callable[[Any], Any]], awaited: bool) -> List[Any]:
    given = options if isinstance(options, dict) else {"url": options, "key": KEY}
    if not awaited:
        with selfdb.aerodb.AeroDBClient(**given) as client:
            return [call(client) for call in calls]

    async def run() -> List[Any]:
        async with aio.AeroDBClient(**given) as client:
            return [await call(client) for call in calls]

    return asyncio.run(run())


# Channels


def test_channels_blocking(events: AeroRealtime) -> None:
    heard: List[RealtimePayload] = []
    came = threading.Event()

    def handler(payload: RealtimePayload) -> None:
        heard.append(payload)
        came.set()

    with AeroDBClient(events.url, KEY) as client:
        for step in SEED_STEPS:
            step.call(client, handler)
            events.wait(lambda step=step: len(events.frames) >= len(step.frames), step.id)  # type: ignore[misc]
            assert tuple(events.frames) == step.frames
            if step.id == "subscribe":
                events.say(EVENT)
                assert came.wait(15)
    assert heard == [RealtimePayload("INSERT", new={"id": 1, "title": "Hello"})]


@pytest.mark.parametrize("coroutine", [False, True])
def test_channels_awaited(events: AeroRealtime, coroutine: bool) -> None:
    heard: List[Any] = []

    async def run() -> None:
        loop, came = asyncio.get_running_loop(), asyncio.Event()

        def plain(payload: RealtimePayload) -> None:
            heard.append((payload, asyncio.get_running_loop() is loop))
            came.set()

        async def slow(payload: RealtimePayload) -> None:
            await asyncio.sleep(0)
            plain(payload)

        async with aio.AeroDBClient(events.url, KEY) as client:
            for step in SEED_STEPS:
                awaitable = step.call(client, slow if coroutine else plain)
                assert inspect.isawaitable(awaitable)
                result = await awaitable
                end = time.monotonic() + 15
                while len(events.frames) < len(step.frames):
                    assert time.monotonic() < end
                    await asyncio.sleep(0.005)
                assert tuple(events.frames) == step.frames
                if step.id == "subscribe":
                    assert result is client.channel("posts")
                    events.say(EVENT)
                    await asyncio.wait_for(came.wait(), 15)

    asyncio.run(run())
    assert heard == [(RealtimePayload("INSERT", new={"id": 1, "title": "Hello"}), True)]


def test_health_changes_come_to_the_loop(aero: AeroServer) -> None:
    async def run() -> Any:
        came: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def change(old: str, new: str) -> None:
            came.set_result((old, new))

        async with aio.AeroDBClient(aero.url, KEY) as client:
            assert client.health.start(5, on_change=change).ok
            return await asyncio.wait_for(came, 15)

    assert asyncio.run(run()) == ("unknown", "up")


def test_an_upload_may_come_from_the_loop(aero: AeroServer) -> None:
    async def chunks() -> Any:
        for chunk in (b"a", b"b"):
            await asyncio.sleep(0)
            yield chunk

    async def run() -> Any:
        async with aio.AeroDBClient(aero.url, KEY) as client:
            return await client.storage.from_("photos").upload("x", chunks())

    assert data(asyncio.run(run())).size == 2
    assert aero.storage.objects["photos"]["x"][0] == b"ab"


def test_every_name_of_the_face_is_there() -> None:
    for name in aio.__all__:
        assert getattr(aio, name) is not None
    assert set(aio.__all__) <= set(dir(aio))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        aio.nothing
