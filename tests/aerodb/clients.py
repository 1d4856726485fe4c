"""Clients for the tests of the wing."""

from __future__ import annotations

from typing import Any

from selfdb.aerodb.calls import Calls, WaysToRefuse
from selfdb.aerodb.database import DatabaseClient
from selfdb.core.options import CallOptions
from selfdb.core.pool import Pool
from selfdb.core.tokens import TokenKeeper
from selfdb.core.transport import Transport
from selfdb.core.urls import BaseURL


class open_client(DatabaseClient):
    def __init__(self, url: str, schema: str = "public", **options: Any) -> None:
        self._pool = Pool(None, None)
        opts = CallOptions().changed(
            timeout=30, deadline=60, max_retries=0, headers={}, idempotent_writes=False, reserved=frozenset()
        )
        transport = Transport(self._pool, BaseURL(url), {}, TokenKeeper(), opts, None, refusals=WaysToRefuse())
        super().__init__(Calls(transport, schema))

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: Any) -> None:
        self._pool.lifeline.close()
        self._pool.close() if hasattr(self._pool, "close") else None
