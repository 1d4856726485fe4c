"""The report: every row once, page by page, on PostgREST; nothing rather than a part of it."""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, List, Optional

import pytest

from tests.examples.conftest import Reader
from tests.servers.postgrest import PostgRest, Seen

REPORT = "station_report.py"
ROWS = 10_000
NO_RIGHT = b'{"code": "42501", "message": "permission denied for table readings", "details": null, "hint": null}'


def parsed(output: str) -> Dict[str, List[str]]:
    heading, *lines = output.splitlines()
    assert heading.split("\t") == ["station", "readings", "coldest", "mean", "warmest"]
    return {line.split("\t")[0]: line.split("\t")[1:] for line in lines}


def expected(sql: Callable[..., Any], since: str = "2000-01-01") -> Dict[str, List[str]]:
    """The same by one statement of the database."""
    rows = sql(
        "SELECT station, count(celsius), min(celsius), avg(celsius)::float, max(celsius) FROM readings "
        'WHERE at >= %s AND celsius IS NOT NULL GROUP BY station ORDER BY station COLLATE "C"',
        since,
    )
    for row in rows:
        assert abs(row[3] * 10 % 1 - 0.5) > 1e-6  # or what it is rounded to would be chance
    return {row[0]: [str(row[1])] + [f"{value:.1f}" for value in row[2:]] for row in rows}


@pytest.mark.parametrize("page", [None, 999])
def test_the_report_is_what_the_database_says(
    page: Optional[int], rest_reader: Reader, rest: PostgRest, sql: Callable[..., Any]
) -> None:
    done = rest_reader.run(REPORT, *(["--page", page] if page else []))
    assert (done.returncode, done.stderr) == (0, "")
    found = parsed(done.stdout)
    assert found == expected(sql)
    assert list(found) == ["Faro", "Porto", "Évora"]
    readings = sum(int(each[0]) for each in found.values())
    assert readings == ROWS - ROWS // 11
    size = page or 1000
    assert len(rest.requests) == math.ceil(readings / size)  # the last one is short: no page behind it is asked for
    assert all(f"limit={size}" in request.query and "order=id.asc" in request.query for request in rest.requests)
    assert all("offset=" not in request.query for request in rest.requests)
    assert sum("id=gt." in request.query for request in rest.requests) == len(rest.requests) - 1


def test_a_later_day_to_begin_with(rest_reader: Reader, sql: Callable[..., Any]) -> None:
    done = rest_reader.run(REPORT, "--since", "2026-01-05")
    assert done.returncode == 0
    assert parsed(done.stdout) == expected(sql, "2026-01-05") != expected(sql)


def test_nothing_is_a_report_of_nothing(rest_reader: Reader) -> None:
    done = rest_reader.run(REPORT, "--since", "2030-01-01")
    assert (done.returncode, done.stderr, parsed(done.stdout)) == (0, "", {})


def test_a_page_that_fails_for_a_moment_is_asked_for_again(
    rest_reader: Reader, rest: PostgRest, sql: Callable[..., Any]
) -> None:
    def overloaded_once(request: Seen) -> Any:
        if len(rest.requests) == 3:
            return 503, {"Retry-After": "0"}, b""
        return None

    rest.instead = overloaded_once
    done = rest_reader.run(REPORT)
    assert (done.returncode, done.stderr) == (0, "")
    assert parsed(done.stdout) == expected(sql)
    assert rest.requests[2].target == rest.requests[3].target


def test_half_a_report_is_none(rest_reader: Reader, rest: PostgRest) -> None:
    rest.instead = lambda request: (403, {}, NO_RIGHT) if len(rest.requests) == 3 else None
    done = rest_reader.run(REPORT)
    assert (done.returncode, done.stdout) == (1, "")
    assert "permission denied for table readings" in done.stderr
    assert len(rest.requests) == 3


@pytest.mark.parametrize("url", ["", "the moon"])
def test_without_an_address_it_says_so(url: str, rest_reader: Reader) -> None:
    done = rest_reader.run(REPORT, AERODB_URL=url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("station_report: url ")
