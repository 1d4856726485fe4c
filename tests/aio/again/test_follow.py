"""Following a query, through the awaitable face."""

from __future__ import annotations

from tests.aio.again import again

globals().update(
    again(
        "tests.realtime.test_follow",
        every=True,
        keep=("EventStream",),
    )
)
