"""Calls over links that break by chance, before a server that is well: they succeed, each with its own answer."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import Counter
from typing import Any, Callable, List, Optional

import pytest
import requests

from selfdb import APIConnectionError, SelfDB, SelfDBError
from tests import soak
from tests.faults.ledger import Ledger
from tests.servers.cutting import ENDINGS, WAYS, Cut, CuttingProxy
from tests.support import Http

THREADS = 16
TABLES = 12
LONGEST = 60_000  # bytes that a connection lives for, at most: about fifty exchanges, so that one in twenty-five breaks


@pytest.mark.timeout(3600 if soak.LONG else 300)
def test_g02_no_answer_is_lost_or_crossed(
    theirs: bool, make_server: Callable[..., Any], tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    # On their session `urllib3` tells of each head that breaks off, with a traceback that holds the socket.
    caplog.set_level(logging.ERROR, "urllib3")
    chance = soak.chance("broken links")
    calls = soak.amount("SELFDB_CROSSED_CALLS", here=500, long=10_000)
    server = make_server(path=tmp_path / "data")
    token = Http(server).admin
    with SelfDB(server.url, server.api_key) as db:
        db.access_token = token
        schema = {"logical": {"type": "text"}}
        tables = [db.tables.create({"name": f"t_{n}", "table_schema": schema}).id for n in range(TABLES)]
        ledger = Ledger(server)
        for table in tables:
            ledger.rows_of(db.tables.get(table), "logical")
    lock = threading.Lock()

    def fate() -> Cut:
        return Cut(chance.choice(WAYS), chance.randrange(LONGEST), chance.choice(ENDINGS[:2]))

    work = list(range(calls))
    lost: List[SelfDBError] = []
    wrong: List[Any] = []
    kept: List[str] = []

    def labour(db: SelfDB) -> None:
        while True:
            with lock:
                if not work:
                    return
                number = work.pop()
            table, logical = tables[number % TABLES], f"call-{number:06d}"
            try:
                if number % 2:
                    if db.tables.get(table).id != table:
                        wrong.append(number)
                else:
                    if (
                        db.tables.data.insert(table, {"logical": logical}, idempotency_key=logical)["logical"]
                        != logical
                    ):
                        wrong.append(number)
                    kept.append(logical)
            except SelfDBError as error:
                lost.append(error.with_traceback(None))
            except BaseException as fault:
                wrong.append(fault)

    session: Optional[requests.Session] = None
    if theirs:
        session = requests.Session()
        session.trust_env = False
        session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=THREADS))
    port = int(server.url.rsplit(":", 1)[1])
    with CuttingProxy(port, fate) as proxy, SelfDB(proxy.url, server.api_key, session=session) as db:
        db.access_token = token
        while not db._transport.pool.acknowledges_keys:
            labour_one(db, tables[0])
        threads = [threading.Thread(target=labour, args=(db,), daemon=True) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(3000 if soak.LONG else 250)
        assert not any(thread.is_alive() for thread in threads)
        cuts = proxy.cuts
    if session is not None:
        session.close()
    server.stop()
    effects = ledger.close()
    assert not wrong, f"crossed, or not one of our errors: {wrong[:3]}"
    assert len(lost) <= calls // 1000, f"{len(lost)} of {calls} were lost: {lost[:3]}"
    doubled = [logical for (_, logical), count in effects.items() if count > 1 and logical.startswith("call-")]
    assert not doubled
    assert all(effects["INSERT", logical] == 1 for logical in kept)
    assert cuts, "no link broke"
    kinds = Counter(type(error).__name__ for error in lost)
    soak.figure(
        "G02",
        f"{calls} reads and keyed writes, {THREADS} threads, {'their' if theirs else 'our'} session, {cuts} links cut: "
        f"{100 * (calls - len(lost)) / calls:.2f} % succeeded {dict(kinds) or ''}, 0 crossed, 0 done twice",
    )


def labour_one(db: SelfDB, table: Any) -> None:
    """One keyed write, so that the client learns that this server honours keys; its link may break too."""
    with contextlib.suppress(APIConnectionError):
        db.tables.data.insert(table, {"logical": "to begin with"}, idempotency_key="to-begin-with")
