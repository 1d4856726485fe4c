"""Clones, raw answers and mistakes, through the awaitable face."""

from __future__ import annotations

from tests.aio.again import again

globals().update(
    again(
        "tests.client.test_clones",
        "tests.client.test_raw_responses",
        "tests.client.test_mistakes",
        every=True,
    )
)
