"""Failures, and servers that answer in other words, through the awaitable face."""

from __future__ import annotations

from tests.aio.again import again

globals().update(
    again(
        "tests.client.test_failures",
        "tests.client.test_dialects",
    )
)
