"""One client under measurement, in a process of its own: ``python aio_peer.py NAME URL``.

Reads lines of "CONCURRENCY SECONDS" and answers each with a line of JSON: calls that were done and that failed, seconds
of wall and of CPU time, and the 99th percentile of how late the event loop came to a timer meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from typing import Any, AsyncIterator, Awaitable, Callable, Dict, List

Call = Callable[[], Awaitable[Any]]


@contextlib.asynccontextmanager
async def call_of(name: str, url: str) -> AsyncIterator[Call]:
    """A call of ``GET /users/me`` as the client ``name`` makes it, whose connections live as long as the block."""
    if name == "selfdb.aio":
        from selfdb.aio import SelfDB

        async with SelfDB(url, "bench-key") as db:
            db.access_token = "bench-token"
            yield db.auth.me
    elif name == "sdk-0.0.5":
        from selfdb import SelfDB as Published  # its own environment has this one

        client = Published(base_url=url, api_key="bench-key")
        yield client.auth.me  # type: ignore[misc]
    elif name == "httpx":
        import httpx

        limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
        async with httpx.AsyncClient(base_url=url, limits=limits, timeout=None) as client:

            async def get() -> Any:
                return (await client.get("/users/me", headers={"X-API-Key": "bench-key"})).json()

            yield get
    elif name == "aiohttp":
        import aiohttp

        connector = aiohttp.TCPConnector(limit=64)
        async with aiohttp.ClientSession(connector=connector, headers={"X-API-Key": "bench-key"}) as session:

            async def get() -> Any:
                async with session.get(url + "/users/me") as answer:
                    return await answer.json()

            yield get
    else:
        raise SystemExit(f"unknown client {name}")


async def measure(call: Call, concurrency: int, seconds: float) -> Dict[str, float]:
    """``concurrency`` callers who each call again and again until the time is over; all calls come to their end."""
    lags: List[float] = []
    done = failed = 0
    wall, cpu = time.perf_counter(), time.process_time()
    end = wall + seconds

    async def caller() -> None:
        nonlocal done, failed
        while True:
            try:
                await call()
                done += 1
            except Exception:
                failed += 1
            if time.perf_counter() >= end:
                return

    async def watch() -> None:
        while True:
            due = time.perf_counter() + 0.005
            await asyncio.sleep(0.005)
            lags.append(time.perf_counter() - due)

    watching = asyncio.ensure_future(watch())
    await asyncio.gather(*(caller() for _ in range(concurrency)))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    watching.cancel()
    lags.sort()
    late = lags[int(len(lags) * 0.99)] if lags else wall
    return {"done": done, "failed": failed, "wall": wall, "cpu": cpu, "lag_p99": late}


async def main(name: str, url: str) -> None:
    """One client, or what lies between it and its threads."""
    if name.startswith("hop"):
        submit = hop_of(name)
        await serve(lambda concurrency, seconds: hops(submit, concurrency, seconds))
        return
    async with call_of(name, url) as call:
        await serve(lambda concurrency, seconds: measure(call, concurrency, seconds))


async def hops(submit: Callable[[], Awaitable[Any]], concurrency: int, seconds: float) -> Dict[str, float]:
    """An empty function on another thread and back: ``concurrency`` asked for, then all waited for."""
    done = 0
    wall, cpu = time.perf_counter(), time.process_time()
    while time.perf_counter() - wall < seconds:
        for future in [submit() for _ in range(concurrency)]:
            await future
        done += concurrency
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"done": done, "failed": 0, "wall": wall, "cpu": cpu, "lag_p99": 0.0}


def hop_of(name: str) -> Callable[[], Awaitable[Any]]:
    """What makes one hop: on our own worker threads, or on asyncio's."""
    loop = asyncio.get_running_loop()
    if name == "hop asyncio":
        return lambda: loop.run_in_executor(None, _nothing)
    from selfdb.core.executor import Executor

    executor = Executor(loop)
    return lambda: executor.submit(_nothing, (), {}).future


def _nothing() -> None:
    """What a hop does where it has come to."""


async def serve(answer: Callable[[int, float], Awaitable[Dict[str, float]]]) -> None:
    """Serve measurements until standard input ends."""
    await answer(10, 0.2)
    print("ready", flush=True)
    while True:
        line = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        if not line.strip():
            return
        concurrency, seconds = line.split()
        print(json.dumps(await answer(int(concurrency), float(seconds))), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
