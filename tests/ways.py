"""The ways that a call takes: a session of ours and its short lane, the same without the lane, a session of a user's.

A test that asks for ``theirs`` runs over all three. One that uses ``lane`` runs over both ways of our own session; a
module says ``pytestmark = pytest.mark.usefixtures("lane")``.
"""

from __future__ import annotations

import pytest

from selfdb.core.pool import Pool

SHORT, ORDINARY, THEIRS = "short lane", "ordinary way", "their session"
LANES = (SHORT, ORDINARY)
WAYS = (*LANES, THEIRS)


def take(way: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Let calls take ``way``; gives whether the test has to bring a session."""
    if way == ORDINARY:
        monkeypatch.setattr(Pool, "lane", lambda self, base: None)
    return way == THEIRS


@pytest.fixture(params=LANES)
def lane(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The way that calls of our own session take."""
    way = str(request.param)
    take(way, monkeypatch)
    return way


@pytest.fixture(params=WAYS)
def theirs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether to bring a session of a user's; if not, calls take one of the ways of ours."""
    return take(str(request.param), monkeypatch)
