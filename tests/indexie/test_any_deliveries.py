"""Any sequence of writes, successes, failures, deaths and lost leases, in two processes: no entry ends before each hook
that it requires has succeeded or was retired, none is lost, and the line of each key is kept."""

from __future__ import annotations

import functools
from collections import deque
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Deque, Dict, List, Optional, Set

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from selfdb.indexie.database import Indexie
from selfdb.indexie.hooks.delivery import Delivery, _Loop
from selfdb.indexie.hooks.outbox import Outbox
from selfdb.indexie.hooks.outbox_tables import Stored
from selfdb.indexie.timing import Timing
from tests import soak
from tests.indexie import memory
from tests.indexie.kit import Hands

LEASE = 60.0
WHO: List[Set[str]] = [{"a", "b"}, {"b", "c"}]
"""Which hooks each of the processes has: one of them is in both."""


class Death(BaseException):
    """The process ends here, and writes nothing down any more."""


class Manual(Delivery):
    """A delivery without threads: each round is made by a test."""

    dies_after = False

    def start(self) -> None:
        pass

    def _keep(self) -> None:
        pass

    def _failed(self, stored: Stored, name: str, error: BaseException) -> None:
        if isinstance(error, Death):
            raise error
        super()._failed(stored, name, error)

    def _settle(self, *arguments: Any, **keywords: Any) -> bool:
        if self.dies_after:
            self.dies_after = False
            raise Death
        return super()._settle(*arguments, **keywords)


class Known(Dict[str, Any]):
    """What the model knows of an entry: key (None: all), required, succeeded."""


OUTCOMES = ["ok", "ok", "ok", "fail", "retry", "drop", "die", "die after", "slow"]


class AnyDeliveries(RuleBasedStateMachine):
    """One file, two processes that deliver from it, and everything that can befall them."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory(dir=memory.FOLDER)
        self.clock = Hands()
        self.script: Deque[str] = deque()
        self.known: Dict[int, Known] = {}
        self.retired: Set[str] = set()
        # What a hook finds wrong: what it raises is only another failure to the outbox.
        self.wrong: List[Any] = []
        self.under_way: Set[Any] = set()
        self.catalogue: Set[str] = {"a", "b", "c"}
        self.depth = 0
        self.late = False
        self.databases: List[Any] = []
        for process in range(2):
            database = Indexie(
                Path(self.folder.name) / "x.indexie.db", timing=Timing(lease=LEASE, lease_renewal=20.0, retry_limit=8.0)
            )
            database.version(1).stores({"rows": "id"})
            database._hooks._clock = self.clock
            outbox = database.outbox
            outbox._clock = self.clock
            outbox._new_delivery = functools.partial(self.new_delivery, outbox._new_delivery)
            database.open()
            self.databases.append(database)
            self.register(process)
        self.reader = self.databases[0].outbox

    def new_delivery(self, real: Any) -> Manual:
        like: Delivery = real()
        return Manual(like._store, like._timing, self.clock)

    def register(self, process: int) -> None:
        hook = self.databases[process].rows.hook
        for name in sorted(WHO[process]):
            for on in (hook.on_add, hook.on_update, hook.on_delete):
                on(functools.partial(self.called, process, name), name=name)

    def teardown(self) -> None:
        """However it went, it goes well in the end if nothing else happens."""
        for outbox in (database.outbox for database in self.databases):
            outbox._delivery.dies_after = False
        self.script.clear()
        for _ in range(300):
            if self.reader.pending() == 0:
                break
            self.clock.now += 30
            for process in range(2):
                self.round(process)
        assert self.reader.pending() == 0
        self.nothing_ends_too_early_or_is_lost()
        for database in self.databases:
            assert database.integrity_check() == []
            database.close()
        self.folder.cleanup()

    # A hook

    def called(self, process: int, name: str, payload: Dict[str, Any]) -> None:
        entries = {entry.operation_id: entry for entry in self.reader.entries()}
        entry = entries[payload["operation_id"]]
        if entry.attempts != payload["attempt"]:
            self.wrong.append((entry, payload))
        self.check_line(process, entry, list(entries.values()))
        if (entry.id, name) in self.under_way and not self.late:
            self.wrong.append((entry, "twice at a time"))
        outcome = self.script.popleft() if self.script else "ok"
        if outcome == "slow" and self.depth == 1:
            # The other one comes by meanwhile, and once more when the lease is over.
            self.under_way.add((entry.id, name))
            self.round(1 - process)
            self.late = True
            self.clock.now += LEASE + 1
            self.round(1 - process)
            self.late = False
            self.under_way.clear()
            # Whatever became of it, its success counts; but it holds no lease any more to write it down by.
            outcome = self.script.popleft() if self.script else "ok"
        if outcome == "die":
            raise Death
        if outcome == "fail":
            raise OSError("no network")
        if outcome == "retry":
            raise Outbox.Retry(after=5)
        if outcome == "drop":
            raise Outbox.Drop("not wanted")
        if outcome == "die after":
            self.databases[process].outbox._delivery.dies_after = True
        self.known[entry.id]["succeeded"].add(name)

    def check_line(self, process: int, entry: Any, entries: List[Any]) -> None:
        for other in entries:
            same_line = other.key == entry.key or other.all or entry.all
            ahead = other.id < entry.id and other.state == "ready" and same_line
            if ahead and set(other.hooks) & (WHO[process] - self.retired):
                self.wrong.append((other, entry))

    def round(self, process: int) -> None:
        delivery = self.databases[process].outbox._delivery
        self.depth += 1
        try:
            delivery._round(_Loop(), object())
        except Death:
            pass
        finally:
            self.depth -= 1

    # What happens

    @rule(process=st.integers(0, 1), key=st.integers(1, 3), kind=st.sampled_from(["put", "put", "delete", "clear"]))
    def write(self, process: int, key: int, kind: str) -> None:
        rows = self.databases[process].rows
        before = {entry.id for entry in self.reader.entries()}
        if kind == "put":
            rows.put({"id": key, "n": self.clock.now, "m": len(self.known)})
            changed: Optional[bool] = True
        elif kind == "delete":
            changed = rows.delete(key)
        else:
            changed = rows.clear() > 0
        new = [entry for entry in self.reader.entries() if entry.id not in before]
        assert len(new) == (1 if changed and self.catalogue else 0)
        for entry in new:
            assert set(entry.hooks) == self.catalogue
            assert entry.id > max(self.known, default=0)
            self.known[entry.id] = Known(required=set(self.catalogue), succeeded=set(), retired=set())

    @rule(process=st.integers(0, 1), outcomes=st.lists(st.sampled_from(OUTCOMES), max_size=4))
    def deliver(self, process: int, outcomes: List[str]) -> None:
        self.script = deque(outcomes)
        self.round(process)
        self.script.clear()

    @rule(seconds=st.sampled_from([0.5, 6.0, LEASE / 2, LEASE + 1]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(process=st.integers(0, 1), which=st.integers(0, 20))
    def try_again(self, process: int, which: int) -> None:
        dead = self.reader.entries("dead")
        if dead:
            assert self.databases[process].outbox.retry(dead[which % len(dead)].id)

    @rule(process=st.integers(0, 1), name=st.sampled_from("abc"))
    def retire(self, process: int, name: str) -> None:
        if len(self.catalogue) == 1:
            return  # something is left to be told of
        self.databases[process].outbox.retire("rows", name)
        self.catalogue.discard(name)
        self.retired.add(name)
        for entry in self.known.values():
            entry["retired"].add(name)

    # What has to hold

    @invariant()
    def nothing_ends_too_early_or_is_lost(self) -> None:
        assert not self.wrong
        present = {entry.id: entry for entry in self.reader.entries()}
        for number, known in self.known.items():
            lacking = known["required"] - known["succeeded"] - known["retired"]
            entry = present.get(number)
            if entry is None:
                assert not lacking, f"entry {number} is gone, and lacks {lacking}"
            elif entry.state == "ready":
                assert lacking <= set(entry.hooks) <= known["required"] - known["retired"]
            else:
                assert lacking <= set(entry.hooks)
        assert set(present) <= set(self.known)


def test_i4_no_entry_ends_before_its_hooks_have_succeeded_or_were_retired() -> None:
    lives = soak.amount("SELFDB_IX_ANY_DELIVERIES", here=25, long=2000)
    run_state_machine_as_test(
        AnyDeliveries,
        settings=settings(
            max_examples=lives,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    soak.figure("I4", f"{lives} lives of an outbox that two processes deliver: no entry ended before its hooks")
