"""What each test of the awaitable face begins with."""

from __future__ import annotations

import pytest

from tests.aio.kit import remember_threads


@pytest.fixture(autouse=True)
def _threads_of_others() -> None:
    remember_threads()
