"""Events of 265 bytes, decoded, normalised and delivered, by the second: ``python -m benchmarks realtime``."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Mapping

from .measure import HERE, SDK, Figures, Results, ask, elsewhere, in_turns, peer, run, running, show

PEERS = ("selfdb", SDK, "websockets", "websocket-client", "raw socket")
WINDOW = 8000
"""Events that are sent before the client has told that all have come: fewer than its bounded queue holds."""

WINDOWS = {"websocket-client": 1}
"""How many of them make a turn, by peer; 4 unless said."""

COLUMNS = (("rate", "events/s", 1, ".0f"), ("cpu", "CPU us/event", 1e6, ".2f"))


@contextlib.contextmanager
def turns_of(peers: Mapping[str, str], environments: Path) -> Iterator[Dict[str, Callable[[], Figures]]]:
    """A turn of each of ``peers``, which all have joined a topic of one server, with what it is asked."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running([sys.executable, str(HERE / "events.py")]))
        port = ask(server, "")
        turns: Dict[str, Callable[[], Figures]] = {}
        for number, (name, question) in enumerate(peers.items()):
            process = stack.enter_context(
                peer(name, "realtime_peer.py", environments, name, port, f"table:orders{number}")
            )
            turns[name] = elsewhere(process, question)
        yield turns


def measure(rounds: int, environments: Path) -> Results:
    """The rounds of every client."""
    peers = {name: f"rate {WINDOW} {WINDOWS.get(name, 4)}" for name in PEERS}
    with turns_of(peers, environments) as turns:
        results = {"realtime": in_turns(turns, rounds)}
    print(show("realtime: events as fast as they are taken", results["realtime"], COLUMNS), flush=True)
    return results


def main(arguments: List[str]) -> None:
    """Measure and print."""
    run("realtime", __doc__, arguments, measure)
