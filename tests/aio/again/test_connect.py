"""Connecting and tokens, through the awaitable face."""

from __future__ import annotations

from tests.aio.again import again

globals().update(
    again(
        "tests.realtime.test_client_connect",
        "tests.realtime.test_client_tokens",
        every=True,
    )
)
