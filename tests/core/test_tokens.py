"""The token pair: one renewal for all, what ends a session and what does not, forks, and nothing secret shown."""

from __future__ import annotations

import contextlib
import copy
import json
import threading
from typing import Any, Callable, Iterator, List, Optional

import pytest

from selfdb.core.clock import Deadline
from selfdb.core.stores import MemoryStore
from selfdb.core.tokens import TokenKeeper, Tokens, binding_of
from selfdb.exceptions import (
    APIConnectionError,
    APITimeoutError,
    ClientClosedError,
    InternalServerError,
    PermissionDeniedError,
    RateLimitError,
    SelfDBError,
    error_class_for_status,
)
from tests.core.kit import BOUND, Background, in_threads, wait_until

OLD = Tokens("access-zero", "refresh-zero")
NEW = Tokens("access-one", "refresh-one")
OTHER = Tokens("access-of-a-login", "refresh-of-a-login")


class AskedDeadline(Deadline):
    """Counts the looks at it: a thread has the renewal in hand before it asks how long it may wait for it."""

    def __init__(self, seconds: float = BOUND) -> None:
        super().__init__(seconds)
        self.asked = 0
        self._lock = threading.Lock()

    def remaining(self) -> Optional[float]:
        with self._lock:
            self.asked += 1
        return super().remaining()


class Renewals:
    """A renewer that records what it was given and ends with what ``outcome`` says."""

    def __init__(self, outcome: Any, before: Callable[[], Any] = lambda: None) -> None:
        self.outcome = outcome
        self.before = before
        self.given: List[str] = []

    def __call__(self, refresh_token: str, deadline: Deadline) -> Tokens:
        self.given.append(refresh_token)
        self.before()
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome  # type: ignore[no-any-return]


def keeper_of(tokens: Optional[Tokens] = OLD, **options: Any) -> TokenKeeper:
    keeper = TokenKeeper(**options)
    keeper.set(tokens)
    return keeper


def together(keeper: TokenKeeper, outcome: Any, count: int) -> tuple[List[Any], Renewals]:
    """``count`` threads want the pair of OLD renewed, and all of them wait when the answer comes."""
    deadline = AskedDeadline()
    renewals = Renewals(outcome, lambda: wait_until(lambda: deadline.asked >= count))
    return in_threads(count, lambda: keeper.renew(OLD.access, renewals, deadline)), renewals


# One renewal for all


def test_c020_fifty_threads_that_meet_the_same_401_make_one_renewal_and_go_on_with_its_result() -> None:
    keeper = keeper_of()
    outcomes, renewals = together(keeper, NEW, 50)
    assert outcomes == [NEW] * 50
    assert renewals.given == [OLD.refresh]
    assert keeper.current() == NEW


def test_who_comes_late_gets_the_pair_that_is_there_without_a_renewal() -> None:
    keeper = keeper_of(NEW)
    renewals = Renewals(OTHER)
    assert keeper.renew(OLD.access, renewals, Deadline(1)) == NEW
    assert renewals.given == []


def test_who_is_signed_out_gets_nothing_without_a_renewal() -> None:
    renewals = Renewals(NEW)
    assert keeper_of(None).renew(OLD.access, renewals, Deadline(1)) is None
    assert renewals.given == []


def test_a_session_without_refresh_token_is_kept_and_not_renewed() -> None:
    keeper = keeper_of(Tokens(OLD.access))
    renewals = Renewals(NEW)
    assert keeper.renew(OLD.access, renewals, Deadline(1)) is None
    assert renewals.given == []
    assert keeper.current() == Tokens(OLD.access)


def test_the_deadline_of_the_call_reaches_the_renewer() -> None:
    deadline = Deadline(7)
    seen = []

    def renewer(refresh_token: str, given_deadline: Deadline) -> Tokens:
        seen.append(given_deadline)
        return NEW

    keeper_of().renew(OLD.access, renewer, deadline)
    assert seen == [deadline]


# When it fails


@pytest.mark.parametrize(
    "failure",
    [
        APIConnectionError("no answer"),
        APITimeoutError("no answer in time"),
        InternalServerError("down", 500),
        InternalServerError("down", 503),
        RateLimitError("slowly", 429),
        PermissionDeniedError("a proxy says no", 403),
        SelfDBError("the answer is not the JSON that was promised", 200),
    ],
    ids=lambda failure: f"{type(failure).__name__}-{failure.status_code}",
)
def test_a_failure_that_says_nothing_of_the_session_keeps_it_and_reaches_each_waiter(failure: SelfDBError) -> None:
    failure.attempts = 3
    keeper = keeper_of()
    outcomes, renewals = together(keeper, failure, 12)
    assert renewals.given == [OLD.refresh]
    assert {type(outcome) for outcome in outcomes} == {type(failure)}
    assert {str(outcome) for outcome in outcomes} == {str(failure)}
    assert {outcome.attempts for outcome in outcomes} == {3}
    assert len({id(outcome) for outcome in outcomes}) == 12, "an exception object belongs to one thread"
    assert keeper.current() == OLD

    again = Renewals(NEW)
    assert keeper.renew(OLD.access, again, Deadline(1)) == NEW
    assert again.given == [OLD.refresh]


@pytest.mark.parametrize("status", [400, 401, 422])
def test_a_definite_no_forgets_the_session(status: int) -> None:
    store = MemoryStore()
    keeper = keeper_of(store=store)
    assert store.get() is not None
    outcomes, renewals = together(keeper, error_class_for_status(status)("no", status), 12)
    assert outcomes == [None] * 12
    assert len(renewals.given) == 1
    assert keeper.current() is None
    assert store.get() is None


@pytest.mark.parametrize("status", [404, 405])
def test_a_server_that_cannot_refresh_ends_no_session(status: int) -> None:
    keeper = keeper_of()
    outcomes, renewals = together(keeper, error_class_for_status(status)("no such route", status), 12)
    assert outcomes == [None] * 12
    assert len(renewals.given) == 1, "nobody who waited asks again"
    assert keeper.current() == OLD


@pytest.mark.parametrize("outcome", [NEW, error_class_for_status(401)("no", 401)], ids=["renewed", "refused"])
def test_a_login_during_a_renewal_is_not_overwritten(outcome: Any) -> None:
    store = MemoryStore()
    keeper = keeper_of(store=store)
    renewals = Renewals(outcome, lambda: in_threads(1, lambda: keeper.set(OTHER)))
    assert keeper.renew(OLD.access, renewals, Deadline(BOUND)) == OTHER
    assert keeper.current() == OTHER
    assert OTHER.access in (store.get() or "")


@pytest.mark.parametrize("outcome", [NEW, error_class_for_status(401)("no", 401)], ids=["renewed", "refused"])
def test_a_logout_during_a_renewal_stays_one(outcome: Any) -> None:
    keeper = keeper_of()
    assert keeper.renew(OLD.access, Renewals(outcome, lambda: keeper.set(None)), Deadline(BOUND)) is None
    assert keeper.current() is None


def test_a_waiting_thread_keeps_its_own_deadline() -> None:
    keeper = keeper_of()
    begun, let_go = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        let_go.wait(BOUND)

    leader = Background(lambda: keeper.renew(OLD.access, Renewals(NEW, slow), Deadline(BOUND)))
    assert begun.wait(BOUND)
    try:
        with pytest.raises(APITimeoutError, match=r"^the deadline passed while another thread was refreshing"):
            keeper.renew(OLD.access, Renewals(NEW), Deadline(0.02))
    finally:
        let_go.set()
    assert leader.result() == NEW


def test_a_waiting_thread_without_deadline_waits_to_the_end() -> None:
    keeper = keeper_of()
    waiting = Deadline(None)
    begun, let_go = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        let_go.wait(BOUND)

    leader = Background(lambda: keeper.renew(OLD.access, Renewals(NEW, slow), Deadline(BOUND)))
    assert begun.wait(BOUND)
    follower = Background(lambda: keeper.renew(OLD.access, Renewals(OTHER), waiting))
    let_go.set()
    assert leader.result() == NEW
    assert follower.result() == NEW


class Once:
    """The first who asks ends as ``first`` says, when all the others wait for him; the next gets NEW."""

    def __init__(self, first: BaseException, deadline: AskedDeadline, count: int) -> None:
        self.first: Optional[BaseException] = first
        self.deadline = deadline
        self.count = count
        self.given: List[str] = []

    def __call__(self, refresh_token: str, deadline: Deadline) -> Tokens:
        self.given.append(refresh_token)
        first, self.first = self.first, None
        if first is not None:
            wait_until(lambda: self.deadline.asked >= self.count)
            raise first
        return NEW


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), ClientClosedError("this client is closed")])
def test_what_ends_the_leader_alone_has_another_lead(interruption: BaseException) -> None:
    keeper, deadline = keeper_of(), AskedDeadline()
    once = Once(interruption, deadline, 8)
    outcomes = in_threads(8, lambda: keeper.renew(OLD.access, once, deadline))
    assert outcomes.count(NEW) == 7
    assert [type(outcome) for outcome in outcomes if outcome != NEW] == [type(interruption)]
    assert once.given == [OLD.refresh] * 2
    assert keeper.current() == NEW
    assert keeper.renewals == 1


def test_a_leader_whose_own_time_is_up_has_another_lead() -> None:
    keeper, deadline = keeper_of(), AskedDeadline()
    begun = threading.Event()

    def slow(refresh_token: str, own: Deadline) -> Tokens:
        begun.set()
        wait_until(lambda: own.passed and deadline.asked >= 1)
        raise APITimeoutError("the deadline passed")

    leader = Background(lambda: keeper.renew(OLD.access, slow, Deadline(0.05)))
    assert begun.wait(BOUND)
    assert keeper.renew(OLD.access, Renewals(NEW), deadline) == NEW
    assert isinstance(leader.result(), APITimeoutError)


def test_an_interruption_before_it_leads_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = keeper_of()

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(keeper, "_lead", interrupted)
        with pytest.raises(KeyboardInterrupt):
            keeper.renew(OLD.access, Renewals(OTHER), Deadline(1))
    assert keeper.renew(OLD.access, Renewals(NEW), Deadline(None)) == NEW


def test_a_store_that_cannot_be_locked_in_time_fails_the_call_and_keeps_the_session() -> None:
    class Busy(MemoryStore):
        def lock(self, timeout: Optional[float]) -> Any:
            raise APITimeoutError(f"held for more than {timeout}")

    keeper = keeper_of(store=Busy())
    renewals = Renewals(NEW)
    with pytest.raises(APITimeoutError):
        keeper.renew(OLD.access, renewals, Deadline(1))
    assert renewals.given == []
    assert keeper.current() == OLD


# Signing in and out


def test_forget_signs_out_of_that_session_only() -> None:
    keeper = keeper_of(NEW)
    keeper.forget(OLD.access)
    assert keeper.current() == NEW
    keeper.forget(NEW.access)
    assert keeper.current() is None
    keeper.forget(NEW.access)
    assert keeper.current() is None


def test_the_store_is_read_once_and_on_the_first_call() -> None:
    class Counting(MemoryStore):
        reads = 0

        def get(self) -> Optional[str]:
            self.reads += 1
            return super().get()

    store = Counting()
    keeper_of(store=store, binding="b")
    assert store.reads == 0
    keeper = TokenKeeper(store, "b")
    assert store.reads == 0
    assert (keeper.current(), keeper.current(), store.reads) == (OLD, OLD, 1)


def test_a_login_while_the_store_is_read_wins() -> None:
    class Slow(MemoryStore):
        def get(self) -> Optional[str]:
            found = super().get()
            keeper.set(OTHER)
            return found

    store = Slow()
    keeper_of(store=store)
    keeper = TokenKeeper(store)
    assert keeper.current() == OTHER


def test_of_two_writers_that_overtake_one_another_the_later_pair_ends_in_the_store() -> None:
    entered, let_go = threading.Event(), threading.Event()

    class Slow(MemoryStore):
        def set(self, value: str) -> None:
            if OLD.access in value and not entered.is_set():
                entered.set()
                assert let_go.wait(BOUND)
            super().set(value)

    store = Slow()
    keeper = TokenKeeper(store, "b")
    early = Background(lambda: keeper.set(OLD))
    assert entered.wait(BOUND)
    keeper.set(NEW)
    let_go.set()
    assert early.result() is None
    assert TokenKeeper(store, "b").current() == NEW


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        "[]",
        "{}",
        "[" * 100_000,
        json.dumps({"binding": "another", "access_token": "a", "refresh_token": "r"}),
        json.dumps({"binding": "b", "access_token": "a"}),
        json.dumps({"binding": "b", "access_token": 5, "refresh_token": "r"}),
        json.dumps({"binding": "b", "access_token": None, "refresh_token": None}),
        json.dumps({"binding": "b", "access_token": "a", "refresh_token": 5}),
        json.dumps({"access_token": "a", "refresh_token": "r"}),
    ],
)
def test_what_is_no_session_of_ours_is_none(text: str) -> None:
    store = MemoryStore()
    store.set(text)
    assert TokenKeeper(store, "b").current() is None


def test_a_session_without_refresh_token_comes_back_from_the_store() -> None:
    store = MemoryStore()
    keeper_of(Tokens("only"), store=store, binding="b")
    assert TokenKeeper(store, "b").current() == Tokens("only", None)


def test_the_binding_tells_servers_and_keys_apart_and_shows_neither() -> None:
    bindings = {
        binding_of(origin, key) for origin in ("http://one", "http://two") for key in ("first-key", "second-key")
    }
    assert len(bindings) == 4
    assert not any("key" in binding or "one" in binding for binding in bindings)


# A store that other processes share


class Shared:
    """A session store as another process may change it."""

    def __init__(self) -> None:
        self.value: Optional[str] = None
        self.writes = 0
        self.locks: List[Optional[float]] = []

    def get(self) -> Optional[str]:
        return self.value

    def set(self, value: str) -> None:
        self.writes += 1
        self.value = value

    def remove(self) -> None:
        self.value = None

    @contextlib.contextmanager
    def lock(self, timeout: Optional[float]) -> Iterator[None]:
        self.locks.append(timeout)
        yield


def test_what_another_process_renewed_is_taken_over_without_a_renewal() -> None:
    store = Shared()
    keeper = keeper_of(store=store)
    keeper_of(NEW, store=store)
    renewals = Renewals(OTHER)
    assert keeper.renew(OLD.access, renewals, Deadline(BOUND)) == NEW
    assert keeper.current() == NEW
    assert renewals.given == []
    assert store.writes == 2, "what was read is not written again"
    assert 0 < (store.locks[0] or 0) <= BOUND


@pytest.mark.parametrize("outcome", [NEW, error_class_for_status(401)("no", 401)], ids=["renewed", "refused"])
def test_a_login_of_another_process_during_a_renewal_stands(outcome: Any) -> None:
    store = Shared()
    keeper = keeper_of(store=store)
    renewals = Renewals(outcome, before=lambda: keeper_of(OTHER, store=store))
    assert keeper.renew(OLD.access, renewals, Deadline(BOUND)) == OTHER
    assert keeper.current() == OTHER
    assert TokenKeeper(store).current() == OTHER
    assert store.writes == 2, "what was read is not written again"


def test_what_another_process_signed_out_of_is_not_renewed() -> None:
    store = Shared()
    keeper = keeper_of(store=store)
    keeper_of(None, store=store)
    renewals = Renewals(NEW)
    assert keeper.renew(OLD.access, renewals, Deadline(None)) is None
    assert keeper.current() is None
    assert renewals.given == []
    assert store.locks == [None]


def test_an_unchanged_shared_session_is_renewed_and_written() -> None:
    store = Shared()
    keeper = keeper_of(store=store)
    assert keeper.renew(OLD.access, Renewals(NEW), Deadline(BOUND)) == NEW
    assert TokenKeeper(store).current() == NEW


class Failing(Shared):
    """A store that cannot be written for a while."""

    full = False

    def set(self, value: str) -> None:
        if self.full:
            raise SelfDBError("no space left")
        super().set(value)


def test_what_could_not_be_written_is_not_given_up_for_what_is_there_still() -> None:
    store = Failing()
    keeper = keeper_of(store=store)
    store.full = True
    with pytest.raises(SelfDBError, match="no space left"):
        keeper.renew(OLD.access, Renewals(NEW), Deadline(1))
    assert keeper.current() == NEW
    store.full = False
    renewals = Renewals(OTHER)
    assert keeper.renew(NEW.access, renewals, Deadline(1)) == OTHER
    assert renewals.given == [NEW.refresh]
    assert TokenKeeper(store).current() == OTHER


def test_a_login_that_could_not_be_written_is_not_given_up_for_the_session_of_another_user() -> None:
    store = Failing()
    keeper_of(OTHER, store=store)
    store.full = True
    keeper = TokenKeeper(store)
    with pytest.raises(SelfDBError, match="no space left"):
        keeper.set(OLD)
    store.full = False
    assert keeper.renew(OLD.access, Renewals(NEW), Deadline(1)) == NEW


class Gone(Failing):
    """A store that can be neither read nor written for a while."""

    def get(self) -> Optional[str]:
        if self.full:
            raise SelfDBError("no such disk")
        return super().get()


@pytest.mark.parametrize("adopted", [False, True], ids=["read", "adopted"])
def test_what_was_in_a_store_that_was_gone_for_a_while_is_nobody_elses_doing(adopted: bool) -> None:
    """The session that was there before is there again, for the newer one could not be written."""
    store = Gone()
    keeper_of(OLD, store=store)
    keeper = TokenKeeper(store)
    there = keeper.current()
    if adopted:
        keeper_of(OTHER, store=store)
        there = keeper.renew(OLD.access, Renewals(NEW), Deadline(BOUND))
        assert there == OTHER
    mine = Tokens("access-of-mine", "refresh-of-mine")
    store.full = True
    with pytest.raises(SelfDBError, match="no space left"):
        keeper.set(mine)
    store.full = False
    renewals = Renewals(NEW)
    assert keeper.renew(mine.access, renewals, Deadline(BOUND)) == NEW
    assert renewals.given == [mine.refresh]


def test_how_often_the_server_gave_a_new_pair_is_counted() -> None:
    keeper = keeper_of()
    keeper.renew(OLD.access, Renewals(NEW), Deadline(BOUND))
    keeper.renew(NEW.access, Renewals(OTHER), Deadline(BOUND))
    keeper.renew(OTHER.access, Renewals(error_class_for_status(404)("no", 404)), Deadline(BOUND))
    assert keeper.renewals == 2


def test_without_memory_to_share_a_fork_is_told_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none() -> None:
        raise OSError("no memory")

    monkeypatch.setattr("selfdb.core.tokens.Lineage", none)
    keeper = keeper_of()
    keeper._prepare_fork()
    (record,) = caplog.records
    assert record.name == "selfdb.tokens"
    assert record.getMessage().startswith("no memory to share with a forked process")
    assert keeper.renew(OLD.access, Renewals(NEW), Deadline(BOUND)) == NEW


def test_a_pair_that_is_too_long_for_the_shared_memory_is_renewed_all_the_same() -> None:
    keeper = keeper_of(Tokens("long", "r" * 40_000))
    keeper._prepare_fork()
    assert keeper.renew("long", Renewals(NEW), Deadline(BOUND)) == NEW


@pytest.mark.parametrize("text", ["", "half a", "{}", "[]", '{"binding": "", "access_token": "", "refresh_token": ""}'])
def test_nonsense_in_the_store_signs_nobody_out(text: str) -> None:
    store = Shared()
    keeper = keeper_of(store=store)
    store.value = text
    assert keeper.renew(OLD.access, Renewals(NEW), Deadline(1)) == NEW
    assert TokenKeeper(store).current() == NEW


# Nothing secret is shown


def test_c019_tokens_show_neither_of_the_two() -> None:
    for shown in (repr(OLD), str(OLD), f"{OLD}", f"{[OLD]}", repr(copy.copy(OLD))):
        assert OLD.access not in shown
        assert "refresh-zero" not in shown
    assert repr(Tokens("access-zero")) == "Tokens(access=***, refresh=None)"
    assert repr(OLD) == "Tokens(access=***, refresh=***)"
    assert OLD.access not in repr(keeper_of())
