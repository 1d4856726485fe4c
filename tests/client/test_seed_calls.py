"""Every call of the specification: byte for byte on a recording server, then on the embedded one."""

from __future__ import annotations

from typing import Any, Callable, List

import pytest

from selfdb import SelfDB
from tests.client.conftest import Recorded
from tests.client.seed_calls import SEED_CALLS
from tests.client.seed_case import SeedCall
from tests.client.seed_run import MADE_UP, Living, check_exchange
from tests.support import Http

RUN = [case for case in SEED_CALLS if not case.realtime]
each_call = pytest.mark.parametrize("case", RUN, ids=[case.id for case in RUN])


def test_the_table_holds_every_call_of_the_specification_once() -> None:
    assert len(SEED_CALLS) == 56
    assert len([case for case in SEED_CALLS if case.realtime]) == 8
    assert len(RUN) == 48
    assert len({case.id for case in SEED_CALLS}) == 56


@each_call
def test_on_the_wire(case: SeedCall, recorded: Recorded) -> None:
    status, body = case.reply(MADE_UP)
    recorded.will((status, {}, body))
    result = case.call(recorded.db, MADE_UP)
    assert case.expect(result, MADE_UP), result
    check_exchange(case, recorded.server)


@each_call
def test_on_the_embedded_server(case: SeedCall, server: Any, http: Http, connect: Callable[..., SelfDB]) -> None:
    user, _ = http.new_user()
    db = connect(server)
    db.auth.login(email=user["email"], password="password123")
    things = Living(db, user["email"], user["id"])
    assert things.refresh_token
    things.prepare(case)
    result = case.call(db, things)
    assert case.expect(result, things), result


def test_a_base_query_makes_both_pages(recorded: Recorded) -> None:
    """As the specification writes it: one base, two pages."""
    empty: List[Any] = []
    recorded.will(*[{"data": empty, "total": 0, "page": number, "page_size": 100} for number in (1, 2)])
    base = recorded.db.tables.data.query("t").sort("created_at", "desc")
    first, second = base.page(1).execute(), base.page(2).execute()
    assert (first.page, second.page) == (1, 2)
    assert recorded.lines == [
        "GET /tables/t/data?sort_by=created_at&sort_order=desc&page=1",
        "GET /tables/t/data?sort_by=created_at&sort_order=desc&page=2",
    ]
