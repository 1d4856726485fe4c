"""Tables, columns, rows and queries, through the awaitable face."""

from __future__ import annotations

from tests.aio.again import again

globals().update(
    again(
        "tests.client.test_tables",
        "tests.client.test_rows",
        "tests.client.test_query_builder",
    )
)
