"""What tests of realtime share: raw sockets that are cut at the end of the test."""

from __future__ import annotations

from typing import Any, Callable, Iterator, List

import pytest

from tests.realtime.raw import Raw


@pytest.fixture
def connect() -> Iterator[Callable[..., Raw]]:
    """``connect(server, token, path=, vsn=)``: a `Raw` socket."""
    opened: List[Raw] = []

    def start(*arguments: Any, **options: Any) -> Raw:
        opened.append(Raw(*arguments, **options))
        return opened[-1]

    yield start
    for each in opened:
        each.stop()
