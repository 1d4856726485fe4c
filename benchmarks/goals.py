"""What the report asks, how each figure comes from what was measured, and what it is to be."""

from __future__ import annotations

from typing import Callable, Dict, List, NamedTuple, Optional

from .measure import SDK, Results, ratios

Figure = Callable[[Results], List[float]]
"""A value for each round; `KeyError` if that was not measured."""

MILLISECONDS = 1000.0
MICROSECONDS = 1e6
MIB = 1024.0 * 1024.0


class Goal(NamedTuple):
    """One line of the report; its median is judged.

    :ivar script: the benchmark that it comes from.
    :ivar at_most: whether less is better.
    :ivar goal: what the median is to reach; ``None`` where there is only more to wish for.
    :ivar beyond: what would be better still.
    """

    script: str
    question: str
    what: str
    figure: Figure
    at_most: bool
    goal: Optional[float]
    beyond: Optional[float] = None


def _ratio(question: str, theirs: str, figure: str, ours: str = "selfdb") -> Figure:
    return lambda results: ratios(results[question], ours, theirs, figure)


def _aio(at_a_time: int, theirs: str) -> Figure:
    return _ratio(f"aio: {at_a_time} at a time", theirs, "rate", "selfdb.aio")


def _value(question: str, figure: str, scale: float = 1.0, of: str = "selfdb") -> Figure:
    return lambda results: [each[figure] * scale for each in results[question][of]]


def _largest(question: str, figure: str, scale: float = 1.0) -> Figure:
    return lambda results: [max(each[figure] * scale for each in results[question]["selfdb"])]


def _import(results: Results) -> List[float]:
    rounds = results["start"]
    pairs = zip(rounds["import selfdb"], rounds["interpreter"])
    return [(ours["cpu"] - bare["cpu"]) * MILLISECONDS for ours, bare in pairs]


_GET = "typed GET, 200 B, keep-alive: CPU"
_PAGE = "page of 100 rows to TableDataResponse; 100 models: CPU"
_THREADS = "64 threads on one client, server of 5 ms"
_AIO = "selfdb.aio at 1, 10, 100, 1000 calls at a time, server of 0 ms: calls/s"
_EVENTS = "realtime, 265-byte frames to a callback on the dispatcher's thread: events/s"
_LATE = "frame sent to callback, 1000 events/s"
_MOVE = "upload and download of 1 GiB"
_START = "a client in a fresh process: CPU"
_CRON = "a script: start, log in, insert one row, end: wall"
_SERVER = "embedded server on SQLite: answers/s"

_MODELS = "x requests + model_validate"
_HTTPX: Dict[int, float] = {1: 3.5, 10: 4.0, 100: 20.0, 1000: 20.0}

GOALS: List[Goal] = [
    Goal("calls", _GET, "x requests", _ratio("get", "requests", "cpu"), True, 0.25, 0.15),
    Goal("calls", _GET, "x urllib3's pool", _ratio("get", "urllib3 pool", "cpu"), True, 0.65),
    Goal("calls", _GET, "x published SDK", _ratio("get", SDK, "cpu"), True, 0.20),
    Goal("calls", _PAGE, f"page {_MODELS}", _ratio("page", "requests + model_validate", "cpu"), True, 0.35, 0.25),
    Goal("calls", _PAGE, f"models {_MODELS}", _ratio("models", "requests + model_validate", "cpu"), True, 0.35, 0.25),
    Goal("calls", "POST insert, 200 B: CPU", "x requests", _ratio("insert", "requests", "cpu"), True, 0.25, 0.15),
    Goal("calls", "new HTTPS connection: CPU", "x requests", _ratio("https", "requests", "cpu"), True, 0.15, 0.10),
    Goal("threads", _THREADS, "calls/s x requests", _ratio("threads", "requests", "rate"), False, 4.0, 5.0),
    Goal("threads", _THREADS, "p99 x server's time", _value("threads", "p99", 1 / 0.005), True, 4.0, 3.0),
    Goal("threads", _THREADS, "connections opened anew", _largest("threads", "opened"), True, 0.0),
    *(Goal("aio", _AIO, f"{n}: x httpx", _aio(n, "httpx"), False, least) for n, least in _HTTPX.items()),
    *(
        Goal(
            "aio",
            _AIO,
            f"{n}: x aiohttp",
            _ratio(f"aio: {n} at a time", "aiohttp", "rate", "selfdb.aio"),
            False,
            0.5,
            1,
        )
        for n in (10, 100, 1000)
    ),
    Goal("aio", _AIO, "hop, loaded, us", _value("aio: hop", "cpu", MICROSECONDS, "selfdb, 1000 at a time"), True, 4.0),
    Goal("realtime", _EVENTS, "x published SDK", _ratio("realtime", SDK, "rate"), False, 2.5, 4.0),
    Goal("realtime", _EVENTS, "x websockets", _ratio("realtime", "websockets", "rate"), False, 2.0),
    Goal("latency", _LATE, "p50 x published SDK", _ratio("latency", SDK, "p50"), True, 0.7, 0.6),
    Goal("latency", _LATE, "p99 x published SDK", _ratio("latency", SDK, "p99"), True, 1.0),
    Goal("transfer", _MOVE, "upload, MB/s x curl", _ratio("transfer up", "curl", "rate"), False, 0.9),
    Goal("transfer", _MOVE, "download, MB/s x curl", _ratio("transfer down", "curl", "rate"), False, 0.9),
    Goal("transfer", _MOVE, "upload, peak memory +MiB", _largest("transfer up", "grown", 1 / MIB), True, 8.0),
    Goal("transfer", _MOVE, "download, peak memory +MiB", _largest("transfer down", "grown", 1 / MIB), True, 8.0),
    Goal("start", _START, "x import requests", _ratio("start", "import requests", "cpu"), True, 1.15),
    Goal("start", _START, "threads", _value("start: threads", "threads"), True, 1.0),
    Goal("start", _START, "import selfdb alone, +ms", _import, True, None, 5.0),
    Goal("cron", _CRON, "x published SDK", _ratio("cron", SDK, "wall"), True, 0.75, 0.65),
    Goal("cron", _CRON, "x requests", _ratio("cron", "requests", "wall"), True, 1.15),
    Goal("server", _SERVER, "page, x bare route", _ratio("server: page of 100 rows", "bare", "rate"), False, 0.5, 0.7),
    Goal("server", _SERVER, "insert, x bare route", _ratio("server: insert", "bare", "rate"), False, 0.5, 0.7),
]
