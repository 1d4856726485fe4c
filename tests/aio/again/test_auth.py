"""Signing in and users, through the awaitable face."""

from __future__ import annotations

from tests.aio.again import again

globals().update(
    again(
        "tests.client.test_sign_in",
        "tests.client.test_users",
    )
)
