"""A report over a table of any size: how many readings each weather station sent, and how warm it was there.

AERODB_URL=... AERODB_KEY=... python station_report.py [--since DAY] [--page ROWS]
The table readings has the columns id, station, at and celsius. Rows are read in the order of their ids with one page in
memory, so that neither the length of the table matters nor what is written to it meanwhile.
Exit codes: 0 the report is whole; 1 it could not be made, and nothing of it was printed.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections import defaultdict
from dataclasses import dataclass
from datetime import date

from selfdb.aerodb import AeroDBClient, AeroDBRequestError, RetryPolicy


@dataclass
class Summary:
    readings: int = 0
    total: float = 0.0
    coldest: float = math.inf
    warmest: float = -math.inf

    def add(self, celsius: float) -> None:
        self.readings += 1
        self.total += celsius
        self.coldest, self.warmest = min(self.coldest, celsius), max(self.warmest, celsius)


def summaries(client: AeroDBClient, since: date | None, page: int) -> dict[str, Summary]:
    readings = client.from_("readings").select("id,station,celsius").not_("celsius", "is", None)
    if since is not None:
        readings = readings.gte("at", since)
    stations: dict[str, Summary] = defaultdict(Summary)
    for reading in readings.stream(page, key="id"):
        stations[reading["station"]].add(reading["celsius"])
    return stations


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--since", metavar="DAY", type=date.fromisoformat)
    parser.add_argument("--page", metavar="ROWS", type=int, default=1000)
    given = parser.parse_args()
    url, key = os.environ.get("AERODB_URL", ""), os.environ.get("AERODB_KEY") or None
    try:
        with AeroDBClient(url, key, retry=RetryPolicy()) as client:
            found = summaries(client, given.since, given.page)
    except (AeroDBRequestError, ValueError) as error:
        sys.exit(f"station_report: {error}")
    print("station\treadings\tcoldest\tmean\twarmest")
    for station, each in sorted(found.items()):
        mean = each.total / each.readings
        print(f"{station}\t{each.readings}\t{each.coldest:.1f}\t{mean:.1f}\t{each.warmest:.1f}")
