"""Client and embedded server together, through the awaitable face."""

from __future__ import annotations

from tests.aio.again import again

globals().update(
    again(
        "tests.realtime.conftest",
        "tests.realtime.test_end_to_end",
    )
)
