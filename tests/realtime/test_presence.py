"""Presence: the state, its differences in any order, and copies that are the caller's own."""

from __future__ import annotations

import time
from typing import Any

import pytest

from selfdb.realtime import presence
from selfdb.realtime.presence import Presence


def metas(*refs: str, **more: Any) -> Any:
    return {"metas": [{"phx_ref": ref} for ref in refs], **more}


def test_a_state_and_its_differences() -> None:
    here = Presence()
    assert here.take("presence_state", {"ann": metas("1"), "bob": metas("2", "3", name="Bob")})
    assert here.take("presence_diff", {"joins": {"cy": metas("4"), "ann": metas("5")}, "leaves": {"bob": metas("2")}})
    assert here.snapshot() == {"ann": metas("1", "5"), "bob": metas("3", name="Bob"), "cy": metas("4")}
    here.take("presence_diff", {"joins": {}, "leaves": {"bob": metas("3"), "nobody": metas("9")}})
    assert set(here.snapshot()) == {"ann", "cy"}


def test_a_meta_that_comes_again_is_replaced() -> None:
    here = Presence()
    here.take("presence_state", {"ann": {"metas": [{"phx_ref": "1", "mood": "low"}]}})
    here.take("presence_diff", {"joins": {"ann": {"metas": [{"phx_ref": "1", "mood": "high"}]}}})
    assert here.snapshot() == {"ann": {"metas": [{"phx_ref": "1", "mood": "high"}]}}


def test_differences_before_the_state_wait_for_it() -> None:
    here = Presence()
    here.take("presence_diff", {"joins": {"ann": metas("1")}})
    here.take("presence_diff", {"leaves": {"bob": metas("2")}})
    assert here.snapshot() == {}
    here.take("presence_state", {"bob": metas("2")})
    assert here.snapshot() == {"ann": metas("1")}


def test_after_joining_again_the_next_state_counts() -> None:
    here = Presence()
    here.take("presence_state", {"ann": metas("1")})
    here.rejoined()
    here.take("presence_diff", {"joins": {"bob": metas("2")}})
    assert set(here.snapshot()) == {"ann"}
    here.take("presence_state", {"cy": metas("3")})
    assert set(here.snapshot()) == {"bob", "cy"}


def test_differences_without_a_state_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "MAX_WAITING", 2)
    here = Presence()
    for key in "abc":
        here.take("presence_diff", {"joins": {key: metas(key)}})
    here.take("presence_state", {})
    assert set(here.snapshot()) == {"a", "b"}


@pytest.mark.parametrize("junk", [None, 5, "x", [1], {"k": 5}, {"joins": 5, "leaves": [1]}, {"joins": {"k": {}}}])
def test_nonsense_of_a_server_breaks_nothing(junk: Any) -> None:
    here = Presence()
    assert here.take("presence_state", junk)
    assert here.take("presence_diff", junk)
    here.snapshot()


def test_a_snapshot_is_the_callers_own() -> None:
    here = Presence()
    here.take("presence_state", {"ann": metas("1")})
    here.snapshot()["ann"]["metas"].clear()
    assert here.snapshot() == {"ann": metas("1")}


def test_other_events_are_none_of_its_business() -> None:
    assert not Presence().take("INSERT", {})


@pytest.mark.parametrize("ref", [[], {}, [["x"]], None, 5])
def test_refs_that_are_none_break_nothing(ref: Any) -> None:
    here = Presence()
    odd = {"metas": [{"phx_ref": ref, "n": 1}]}
    here.take("presence_state", {"ann": odd})
    here.take("presence_diff", {"joins": {"ann": odd, "bob": odd}, "leaves": {"ann": odd}})
    assert here.snapshot() == {"bob": odd}


def test_the_bytes_that_wait_for_a_state_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "MAX_BYTES", 100)
    here = Presence()
    for key in "abc":
        here.take("presence_diff", {"joins": {key: metas(key)}}, 50)
    here.take("presence_state", {})
    assert set(here.snapshot()) == {"a", "b"}


def test_who_is_there_takes_a_bounded_room(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(presence, "MAX_BYTES", 2000)
    here = Presence()
    here.take("presence_state", {}, 2)
    for number in range(1000):
        here.take("presence_diff", {"joins": {str(number): metas(str(number))}}, 60)
    full = len(here.snapshot())
    assert 20 < full < 60
    assert "left out" in caplog.text
    assert len(caplog.records) < 1000 / 3  # it is not measured at each of them
    for number in range(full):
        here.take("presence_diff", {"leaves": {str(number): metas(str(number))}}, 60)
    assert here.snapshot() == {}
    here.take("presence_diff", {"joins": {"ann": metas("1")}}, 60)
    assert here.snapshot() == {"ann": metas("1")}


def test_what_is_nested_too_deeply_to_be_measured_counts_as_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "MAX_BYTES", 100)
    here = Presence()
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    here.take("presence_state", {"ann": {"metas": [{"phx_ref": "1", "deep": deep}]}}, 90)
    here.take("presence_diff", {"joins": {"bob": metas("2")}}, 60)
    assert set(here.snapshot()) == {"ann"}


def test_many_differences_of_one_key_take_linear_time() -> None:
    here = Presence()
    here.take("presence_state", {})
    began = time.process_time()
    for number in range(30_000):
        here.take("presence_diff", {"joins": {"guest": metas(str(number))}, "leaves": {}}, 60)
    # A copy of the list for each of them took 20 s.
    assert time.process_time() - began < 5.0
    assert len(here.snapshot()["guest"]["metas"]) == 30_000
