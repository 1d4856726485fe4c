"""Whatever shape a server uses, a callback is given the same payload."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import weakref
from typing import Any

import pytest

from selfdb.models import RealtimePayload
from selfdb.realtime.payloads import normalised, resync_mark, without_secrets

NEW, OLD = {"id": 1, "a": None}, {"id": 1, "a": 0}


@pytest.mark.parametrize("name", ["INSERT", "insert", "Insert"])
@pytest.mark.parametrize(
    "event, payload",
    [
        ("{name}", {"event": "{name}", "table": "orders", "new": NEW, "old": OLD}),
        ("{name}", {"new": NEW, "old": OLD}),
        ("{name}", {"record": NEW, "old_record": OLD}),
        ("other", {"event": "{name}", "new": NEW, "old": OLD}),
        ("change", {"action": "{name}", "table": "orders", "new_data": NEW, "old_data": OLD, "timestamp": "now"}),
        ("CHANGE", {"event": "{name}", "new": NEW, "old": OLD}),
        ("broadcast", {"payload": {"action": "{name}", "table": "orders", "new_data": NEW, "old_data": OLD}}),
        ("broadcast", {"payload": json.dumps({"event": "{name}", "new": NEW, "old": OLD})}),
    ],
)
def test_c106_every_shape(name: str, event: str, payload: Any) -> None:
    payload = json.loads(json.dumps(payload).replace("{name}", name))
    found = normalised("table:orders", event.replace("{name}", name), payload)
    assert found == RealtimePayload("INSERT", "orders", NEW, OLD, payload)


@pytest.mark.parametrize("topic, table", [("table:orders", "orders"), ("users_events", "users_events")])
def test_the_table_falls_back_to_the_topic(topic: str, table: str) -> None:
    for payload in ({}, {"table": None}, {"table": 5}, {"table": ""}):
        found = normalised(topic, "DELETE", payload)
        assert found == RealtimePayload("DELETE", table, None, None, payload)
    assert resync_mark(topic) == RealtimePayload("resync", table, None, None, {})


@pytest.mark.parametrize("payload", [b"\x00", 5, "text", None, [1]])
def test_payloads_that_are_no_objects_come_through(payload: Any) -> None:
    assert normalised("t", "shout", payload) == RealtimePayload("SHOUT", "t", None, None, {"payload": payload})


def test_rows_that_are_no_objects_are_none() -> None:
    found = normalised("t", "INSERT", {"new": [1], "old": "x"})
    assert (found.new, found.old) == (None, None) if found else False


@pytest.mark.parametrize("text", ["not json", "", "[" * 100_000])
def test_a_broadcast_that_cannot_be_read_is_none(text: str) -> None:
    assert normalised("t", "broadcast", {"payload": text}) is None


def test_odd_broadcasts() -> None:
    assert normalised("t", "broadcast", {"payload": "5"}) == RealtimePayload(
        "CHANGE", "t", None, None, {"payload": "5"}
    )
    assert normalised("t", "broadcast", [1]) == RealtimePayload("BROADCAST", "t", None, None, {"payload": [1]})
    assert normalised("t", "change", {}) == RealtimePayload("CHANGE", "t", None, None, {})


def test_what_a_refusal_echoes_is_taken_out_of_it() -> None:
    said = {"status": "error", "response": {"reason": 'no such key: a"secret/one', "tried": ['a"secret/one', 5]}}
    clean = without_secrets(said, ['a"secret/one'])
    assert clean == {"status": "error", "response": {"reason": "no such key: ***", "tried": ["***", 5]}}
    assert without_secrets(said, ["another secret"]) == said


def test_a_refusal_that_cannot_be_looked_through_is_not_shown() -> None:
    deep: object = []
    for _ in range(100_000):
        deep = [deep]
    for payload in ({"status": "error", "response": b"secret-one"}, {"response": deep}):
        assert without_secrets(payload, ["secret-one"]) == {}


@pytest.mark.parametrize("value", [None, 5, "text", ["INSERT"], [], "", False])
def test_what_is_no_row_and_no_name_is_passed_over(value: Any) -> None:
    payload = {"event": value if value != "text" else 7, "table": 7, "new": value, "old": value}
    assert normalised("table:t", "UPDATE", payload) == RealtimePayload("UPDATE", "t", None, None, payload)
    for usual, other in (("new_data", "record"), ("new", "record"), ("new", "new_data")):
        found = normalised("table:t", "UPDATE", {usual: value, other: NEW, "old_data": value, "old_record": OLD})
        assert found is not None
        assert (found.new, found.old) == (NEW, OLD)


def test_the_usual_name_of_a_row_comes_first() -> None:
    rows = {"new": {"id": 1}, "new_data": {"id": 2}, "record": {"id": 3}}
    olds = {"old": {"id": 4}, "old_data": {"id": 5}, "old_record": {"id": 6}}
    found = normalised("t", "UPDATE", {**rows, **olds})
    assert found is not None
    assert (found.new, found.old) == ({"id": 1}, {"id": 4})
    del rows["new"], olds["old"]
    found = normalised("t", "UPDATE", {**rows, **olds})
    assert found is not None
    assert (found.new, found.old) == ({"id": 2}, {"id": 5})


def test_a_payload_is_a_value() -> None:
    first = RealtimePayload(event="INSERT", table="t", new=NEW, old=None, raw={"a": 1})
    assert pickle.loads(pickle.dumps(first)) == first == copy.deepcopy(first)
    assert dataclasses.replace(first, event="UPDATE") == RealtimePayload("UPDATE", "t", NEW, None, {"a": 1}) != first
    assert list(dataclasses.asdict(first)) == ["event", "table", "new", "old", "raw"]
    assert repr(first) == f"RealtimePayload(event='INSERT', table='t', new={NEW!r}, old=None, raw={{'a': 1}})"
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.table = "other"  # type: ignore[misc]
    with pytest.raises((dataclasses.FrozenInstanceError, AttributeError, TypeError)):
        first.more = 1  # type: ignore[attr-defined]
    assert weakref.ref(first)() is first
