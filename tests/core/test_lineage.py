"""A session that a process and its forked children have in common: what one renews, the others take over."""

from __future__ import annotations

import threading
from typing import Any, Optional

import pytest

from selfdb.core import tokens as tokens_module
from selfdb.core.clock import Deadline
from selfdb.core.forks import renew_after_fork
from selfdb.core.lineage import SIZE, Lineage
from selfdb.core.tokens import TokenKeeper, Tokens
from selfdb.exceptions import error_class_for_status
from tests.core.kit import BOUND, Background, in_forked_child, in_threads, wait_until
from tests.core.test_tokens import NEW, OLD, OTHER, Renewals, Shared, keeper_of

# Forks


def test_a_child_forked_during_a_renewal_does_not_wait_for_the_thread_that_stayed_behind() -> None:
    keeper = keeper_of()
    begun, let_go = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        let_go.wait(BOUND)

    leader = Background(lambda: keeper.renew(OLD.access, Renewals(NEW, slow), Deadline(BOUND)))
    assert begun.wait(BOUND)

    def in_child() -> bytes:
        tokens = keeper.renew(OLD.access, Renewals(OTHER), Deadline(None))
        return tokens.access.encode() if tokens else b"signed out"

    try:
        assert in_forked_child(in_child) == OTHER.access.encode()
    finally:
        let_go.set()
    assert leader.result() == OTHER, "it is one session, and the pair of who was faster is as good as ours"
    assert keeper.current() == OTHER


def test_a_child_forked_while_the_lock_is_held_can_take_it() -> None:
    keeper = keeper_of()

    def in_child() -> bytes:
        keeper.set(NEW)
        return b"set"

    with keeper._lock:
        assert in_forked_child(in_child) == b"set"
    assert keeper.current() == OLD


def test_what_the_child_makes_anew() -> None:
    keeper = keeper_of()
    in_threads(1, keeper._lock.acquire)
    keeper._renew_in_child()
    assert keeper.renew(OLD.access, Renewals(NEW), Deadline(1)) == NEW


def test_what_one_side_of_a_fork_renewed_the_other_takes_over() -> None:
    keeper, forked, renewed = keeper_of(), threading.Event(), threading.Event()

    def in_child() -> bytes:
        wait_until(lambda: keeper._elsewhere(OLD)[0])
        unused = Renewals(OTHER)
        tokens = keeper.renew(OLD.access, unused, Deadline(BOUND))
        assert unused.given == []
        return tokens.access.encode() if tokens else b"signed out"

    class Preparing:
        def _renew_in_child(self) -> None:
            """Nothing."""

        def _prepare_fork(self) -> None:
            forked.set()

    preparing = Preparing()
    renew_after_fork(preparing)
    parent = Background(lambda: forked.wait(BOUND) and _renewed_by(keeper, renewed))
    assert in_forked_child(in_child) == NEW.access.encode()
    assert parent.result() == NEW
    assert renewed.is_set()


def _renewed_by(keeper: TokenKeeper, renewed: threading.Event) -> Optional[Tokens]:
    wait_until(lambda: keeper._lineage is not None)
    renewed.set()
    return keeper.renew(OLD.access, Renewals(NEW), Deadline(BOUND))


def related(keeper: TokenKeeper) -> TokenKeeper:
    """What a forked child has of ``keeper``."""
    keeper._prepare_fork()
    child = keeper_of(keeper.current())
    child._lineage = keeper._lineage
    return child


def test_relatives_take_over_what_the_other_renewed_and_nothing_else() -> None:
    parent = keeper_of()
    child = related(parent)
    assert child.renew(OLD.access, Renewals(NEW), Deadline(1)) == NEW
    unused = Renewals(OTHER)
    assert parent.renew(OLD.access, unused, Deadline(1)) == NEW
    assert unused.given == []
    child.set(OTHER)
    assert parent.renew(NEW.access, Renewals(Tokens("third", "third-refresh")), Deadline(1)) is not None
    later = Renewals(Tokens("another"))
    assert child.renew(OTHER.access, later, Deadline(1)) == Tokens("another"), "a login is nothing to the relatives"


def test_a_relative_that_renewed_at_the_same_time_is_followed() -> None:
    parent = keeper_of()
    child = related(parent)
    at_once = Renewals(OTHER, lambda: child.renew(OLD.access, Renewals(NEW), Deadline(1)))
    assert parent.renew(OLD.access, at_once, Deadline(1)) == NEW


def test_a_session_that_the_server_refuses_is_not_told_to_relatives() -> None:
    parent = keeper_of()
    child = related(parent)
    assert child.renew(OLD.access, Renewals(error_class_for_status(401)("no", 401)), Deadline(1)) is None
    assert parent.renew(OLD.access, Renewals(NEW), Deadline(1)) == NEW


def test_what_needs_no_shared_memory_for_a_fork_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for keeper in (keeper_of(None), keeper_of(Tokens("only")), keeper_of(store=Shared())):
        keeper._prepare_fork()
        assert keeper._lineage is None
    keeper = keeper_of()
    keeper._prepare_fork()
    first = keeper._lineage
    keeper._prepare_fork()
    assert keeper._lineage is first is not None

    def none_left() -> Any:
        raise OSError("no memory")

    monkeypatch.setattr(tokens_module, "Lineage", none_left)
    keeper = keeper_of()
    keeper._prepare_fork()
    assert keeper._lineage is None


# Memory that processes share


def test_a_lineage_holds_the_last_text_whole_or_none() -> None:
    lineage = Lineage()
    assert lineage.read() is None
    for text in ("one", "", "zw\u00f6lf" * 100, "x"):
        lineage.write(text)
        assert lineage.read() == text
    lineage.write("y" * SIZE)
    assert lineage.read() == ""
    lineage.write("torn")
    lineage._memory[0:1] = bytes([lineage._memory[0] ^ 1])
    assert lineage.read() is None
