"""Walking queries and writing many rows, through the awaitable face."""

from __future__ import annotations

from tests.aio.again import again

globals().update(
    again(
        "tests.client.test_iterating",
        "tests.client.test_bulk",
        every=True,
    )
)
