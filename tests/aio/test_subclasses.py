"""A class of the user's over the awaitable client: its clones are of it too, and its methods go on top of ours."""

from __future__ import annotations

import asyncio
from typing import Any, List

from selfdb.aio import SelfDB
from selfdb.models import SystemStatus


class Counting(SelfDB):
    """Counts how often it asked."""

    def __init__(self, *arguments: Any, asked: List[str], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.asked = asked

    async def status(self) -> SystemStatus:
        self.asked.append("status")
        return await super().status()


def test_subclasses_stay_what_they_are(server: Any) -> None:
    asked: List[str] = []

    async def main() -> None:
        async with Counting(server.url, server.api_key, asked=asked) as db:
            assert (await db.status()).version
            for clone in (db.with_options(timeout=9), db.as_guest(), db.as_user("some-token")):
                assert type(clone) is Counting
                clone.asked = asked
                assert (await clone.status()).version
            assert type(db.auth).__name__ == "Auth"

    asyncio.run(main())
    assert asked == ["status"] * 4
