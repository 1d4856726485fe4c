"""Whatever is written, wherever: no live query misses a change of its range, and none runs for another one."""

from __future__ import annotations

import gc
import tempfile
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test

from selfdb.indexie import Indexie, use_live_query
from tests import soak
from tests.indexie import memory
from tests.indexie.conftest import SCHEMA, Peer
from tests.indexie.kit import SOON, Calls, Counted, wait_until
from tests.indexie.operations import Document, Operation, Read, apply, operations, reads, single

REWRITING = ("put", "bulk_put", "update", "modify")


class Followed:
    """A live query, and what its subscriber was told."""

    def __init__(self, db: Any, read: Read) -> None:
        self.db = db
        self.read = read
        self.function = Counted(lambda: read.read(db))
        self.query = use_live_query(self.function)
        self.calls = Calls()
        self.query.subscribe(self.calls)
        self.calls.wait(1)
        self.untold = 0
        self.unsure = read.what.startswith("one that")

    def fresh(self) -> Any:
        result = self.read.read(self.db)
        return result.to_array() if hasattr(result, "to_array") else result

    def __repr__(self) -> str:
        return self.read.what


def elsewhere(do: Callable[[], Any]) -> Any:
    """What ``do`` gives on a thread of its own, which is in nobody's overlay."""
    found: List[Any] = []
    errors: List[BaseException] = []

    def run() -> None:
        try:
            found.append(do())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return found[0]


class AnyWrites(RuleBasedStateMachine):
    peer: Peer

    followed = Bundle("followed")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=memory.FOLDER)
        path = Path(self.folder.name) / "any.indexie.db"
        self.db = Indexie(path)
        self.db.version(1).stores(SCHEMA)
        self.db.open()
        self.all: List[Followed] = []
        self.peer.run(
            "from selfdb.indexie import Indexie\nfrom tests.indexie.operations import apply\n"
            "db = Indexie(file)\ndb.version(1).stores(stores)\ndb.open()",
            file=path,
            stores=SCHEMA,
        )

    def teardown(self) -> None:
        self.peer.run("problems = db.integrity_check()\ndb.close()")
        problems = self.db.integrity_check()
        self.db.close()
        self.all.clear()
        self.folder.cleanup()
        assert problems == []

    # What is done

    def there(self, operation: Operation) -> None:
        self.peer.run("apply(db, operation)", operation=operation)

    def rows(self) -> Dict[Any, Document]:
        return {row["id"]: row for row in elsewhere(self.db.users.to_array)}

    def settled(self) -> None:
        for each in self.all:
            assert each.query.settle(SOON), each

    def at_rest(self) -> None:
        """All queries have caught up, and show what a fresh run gives; each value was told once."""
        self.settled()
        for each in self.all:
            assert each.query.value == elsewhere(each.fresh), each
            wait_until(lambda each=each: len(each.calls.values) + each.untold >= each.query.version)
            assert len(each.calls.values) + each.untold == each.query.version, each
            assert each.calls.values[-1] == each.query.value

    def expect(self, runs: Dict[Followed, int], before: Dict[Any, Document], operation: Operation) -> None:
        """Those in whose range a row was touched have run again, once, and only those."""
        self.at_rest()
        after = self.rows()
        touched = [key for key in {*before, *after} if before.get(key) != after.get(key)]
        versions = [row for key in touched for row in (before.get(key), after.get(key)) if row is not None]
        # A row that was written as it was is touched too; in a transaction, what it was in between.
        perhaps = [*before.values(), *after.values()] if operation[0] in REWRITING else []
        for each in self.all:
            again = each.function.runs - runs[each]
            assert again <= 1, f"{each} ran {again} times"
            if again:
                unknown = each.unsure or operation[0] in ("together", "clear")
                assert unknown or any(map(each.read.of, [*versions, *perhaps])), f"{each} ran for {versions}"
            else:
                assert each.unsure or not any(map(each.read.of, versions)), f"{each} did not run for {versions}"

    def counts(self) -> Dict[Followed, int]:
        self.settled()
        return {each: each.function.runs for each in self.all}

    @rule(target=followed, read=reads)
    def follow(self, read: Read) -> Followed:
        self.all.append(Followed(self.db, read))
        return self.all[-1]

    @rule(each=consumes(followed))
    def close(self, each: Followed) -> None:
        self.all.remove(each)
        each.query.close()
        calls = len(each.calls.values)
        self.at_rest()
        assert len(each.calls.values) == calls

    @rule(each=consumes(followed))
    def refresh(self, each: Followed) -> None:
        """And let it go: it has a subscriber, and is told on."""
        self.all.remove(each)
        each.query.refresh()
        assert each.query.settle(SOON)
        runs = each.function.runs
        version = each.query.version
        wait_until(lambda: len(each.calls.values) >= version)
        del each.query
        gc.collect()
        assert each.function.runs == runs

    @rule(operation=operations, where=st.sampled_from(["here", "on a thread", "in a process"]))
    def write(self, operation: Operation, where: str) -> None:
        runs, before = self.counts(), self.rows()
        if where == "here":
            apply(self.db, operation)
        elif where == "on a thread":
            elsewhere(lambda: apply(self.db, operation))
        else:
            self.there(operation)
        self.expect(runs, before, operation)

    @rule(where=st.sampled_from(["here", "in a process"]))
    def clear(self, where: str) -> None:
        runs, before = self.counts(), self.rows()
        apply(self.db, ("clear",)) if where == "here" else self.there(("clear",))
        self.expect(runs, before, ("clear",))

    @rule(
        mine=st.lists(operations, max_size=6),
        other=st.lists(operations, max_size=6),
        theirs=st.lists(operations, max_size=6),
        read=reads,
    )
    def all_at_once(self, mine: List[Operation], other: List[Operation], theirs: List[Operation], read: Read) -> None:
        """Two threads and a process write, while another query begins."""
        thread = threading.Thread(target=lambda: [apply(self.db, each) for each in other])
        begun: List[Followed] = []
        follower = threading.Thread(target=lambda: begun.append(Followed(self.db, read)))
        self.peer.start("for each in theirs: apply(db, each)", theirs=theirs)
        thread.start()
        follower.start()
        for each in mine:
            apply(self.db, each)
        thread.join()
        follower.join()
        self.peer.finish()
        for each in begun:  # its subscriber may have come after its second value
            assert each.query.settle(SOON)
            last = Calls()
            end = each.query.subscribe(last)
            last.wait(1)  # which is called after all that were there before
            end()
            each.untold = each.query.version - len(each.calls.values)
        self.all += begun
        self.at_rest()

    @rule(
        inside=st.lists(single, min_size=1, max_size=3),
        optimistic=st.booleans(),
        commit=st.booleans(),
        meanwhile=st.one_of(st.none(), operations),
    )
    def overlay(self, inside: List[Operation], optimistic: bool, commit: bool, meanwhile: Any) -> None:
        """What an overlay shows is followed on each write, and again when it is gone."""
        from selfdb.indexie import WriteConflictError

        runs, before = self.counts(), self.rows()
        try:
            with self.db.users.start_transaction(optimistic=optimistic) as transaction:
                for operation in inside:
                    apply(self.db, operation)
                    self.at_rest()
                if not optimistic:
                    assert {each: each.function.runs for each in self.all} == runs
                if meanwhile is not None:
                    self.there(meanwhile)
                    self.at_rest()
                if commit:
                    transaction.commit()
        except WriteConflictError:
            assert meanwhile is not None
        self.at_rest()
        if meanwhile is None and not commit:
            assert self.rows() == before

    @invariant()
    def nobody_fails(self) -> None:
        for each in self.all:
            assert each.query.error is None


@pytest.fixture(scope="module")
def shared_peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    peer = Peer(tmp_path_factory.mktemp("peer") / "unused")
    yield peer
    peer.stop()


@pytest.mark.timeout(3600 if soak.LONG else 300)
def test_no_change_is_missed_and_an_unrelated_one_runs_nothing(shared_peer: Peer) -> None:
    class Machine(AnyWrites):
        peer = shared_peer

    lives = soak.amount("SELFDB_IX_ANY_WRITES", here=12, long=600)
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=lives,
            stateful_step_count=25,
            deadline=None,
            # Each step waits for threads and a process: to look for a shorter life would take longer than a test may.
            phases=(Phase.explicit, Phase.reuse, Phase.generate),
            suppress_health_check=list(HealthCheck),
        ),
    )
    soak.figure("I2", f"{lives} lives of live queries while threads and a process wrote: no change was missed")
