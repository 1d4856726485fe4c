"""Buckets and files, through the awaitable face."""

from __future__ import annotations

from tests.aio.again import again

globals().update(
    again(
        "tests.client.test_buckets",
        "tests.client.test_files",
    )
)
