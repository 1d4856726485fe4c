"""What a realtime call of the specification is run against, on either face of the client, and what is checked there."""

from __future__ import annotations

from typing import Any, Callable, List

from tests.client.seed_calls import REALTIME
from tests.client.seed_case import SeedCall
from tests.realtime.phoenix import Phoenix

CASES = [case for case in REALTIME if case.realtime]


def before(case: SeedCall) -> List[Callable[[Any], Any]]:
    """The calls that come before the call in the specification."""
    calls: List[Callable[[Any], Any]] = []
    if "phx" in case.wire or case.wire == "close":
        calls.append(lambda db: db.realtime.connect())
    if case.wire.startswith("phx_leave"):
        calls.append(lambda db: db.realtime.channel(case.wire.split()[1]).subscribe())
    return calls


def check(case: SeedCall, db: Any, result: Any, channel: type) -> None:
    """Whether the call of ``case`` gave what it should, and left ``db`` as it should; ``channel`` is the class."""
    if case.wire == "open":
        assert result is None
        assert db.realtime.connected
    elif case.wire == "close":
        assert result is None
        assert db.realtime.get_state() == "disconnected"
    elif case.wire.startswith("phx_join"):
        assert isinstance(result, channel)
        assert result.state == "joined"
    else:
        assert result is None
        assert db.realtime.channel(case.wire.split()[1]).state == "closed"


def check_frames(case: SeedCall, server: Phoenix) -> None:
    """Whether what came to ``server``, with the access token ``a-token``, is what the call of ``case`` sends."""
    if case.wire == "open":
        assert server.targets[0].startswith("/realtime/socket/websocket?vsn=2.0.0&X-API-Key=")
        assert server.targets[0].endswith("&token=a-token")
    elif case.wire == "close":
        server.wait(lambda: server.sockets[0].closed_with == 1000)
    else:
        event, topic = case.wire.split()
        (frame,) = server.seen(event, topic)
        join_ref = server.join_ref(topic)
        assert frame == [join_ref, join_ref if event == "phx_join" else frame[1], topic, event, {}]
