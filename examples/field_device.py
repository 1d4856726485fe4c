"""A device in a field: opens valves by a plan that it reads from a table; while the network is gone, by the last one.

AERODB_URL=... AERODB_KEY=... python field_device.py FIELD [--every SECONDS]
The table plan has the columns field, valve, opens and minutes. What was read lies in ~/.field-device for a week, for a
device that starts without a network. Ctrl+C ends it. Exit code 1: the server refuses, so that waiting would not help.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from selfdb.aerodb import AeroDBClient, AeroDBResponse, OfflineCache

WEEK = 7 * 24 * 3600.0
WITHOUT_NETWORK = ("NETWORK_ERROR", "TIMEOUT")


def read_plan(client: AeroDBClient, field: str) -> AeroDBResponse[list[dict[str, Any]]]:
    return client.from_("plan").select("valve,opens,minutes").eq("field", field).order("opens").order("valve").execute()


def show(response: AeroDBResponse[list[dict[str, Any]]]) -> None:
    """Here a device would set its valves."""
    steps = [f"valve {step['valve']} at {step['opens'][:5]} for {step['minutes']} min" for step in response.data or ()]
    print("offline:" if response.from_cache else "online:", "; ".join(steps) or "nothing to do", flush=True)


def work(client: AeroDBClient, field: str, seconds: float) -> None:
    while True:
        response = read_plan(client, field)
        if response.error is None:
            show(response)
        elif response.error.code in WITHOUT_NETWORK or (response.status or 0) >= 500:
            print(f"field_device: the plan cannot be read: {response.error.message}", file=sys.stderr, flush=True)
        else:
            sys.exit(f"field_device: {response.error.message}")
        time.sleep(seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("FIELD")
    parser.add_argument("--every", metavar="SECONDS", type=float, default=60.0)
    given = parser.parse_args()
    try:
        url, key = os.environ.get("AERODB_URL", ""), os.environ.get("AERODB_KEY") or None
        cache = OfflineCache(Path.home() / ".field-device" / "plan.db", ttl=WEEK)
        with closing(cache), AeroDBClient(url, key, timeout=5.0, cache=cache) as client:
            work(client, given.FIELD, given.every)
    except KeyboardInterrupt:
        pass
    except ValueError as error:
        sys.exit(f"field_device: {error}")
