"""Broken links and servers that go away, through the awaitable face."""

from __future__ import annotations

from tests.aio.again import again

globals().update(again("tests.realtime.conftest", "tests.realtime.test_chaos"))
