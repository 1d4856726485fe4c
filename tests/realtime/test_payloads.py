"""Whatever shape a server uses, a callback is given the same payload."""

from __future__ import annotations

import json
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
