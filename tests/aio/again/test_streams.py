"""Streams of events, through the awaitable face."""

from __future__ import annotations

from tests.aio.again import again

globals().update(
    again(
        "tests.realtime.test_events",
        "tests.realtime.test_streams_asked",
        every=True,
    )
)
