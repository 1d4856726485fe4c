"""Channels, through the awaitable face."""

from __future__ import annotations

from tests.aio.again import again

globals().update(
    again(
        "tests.realtime.test_client_channels",
        every=True,
    )
)
