"""Names, order and defaults of every call's arguments, as they were agreed."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any, Dict

import pytest

import selfdb.aerodb
from selfdb.aerodb import RetryPolicy, filters

CALLS: Dict[str, str] = {
    "AeroDBClient": (
        "(url, key=None, schema='public', headers=None, realtime_url=None, *, timeout=30.0, retry=None, "
        "auto_refresh=True, cache=None, require_https=None, session=None, verify=None)"
    ),
    "AeroDBClient.from_": "(table, model=None)",
    "AeroDBClient.table": "(table, model=None)",
    "AeroDBClient.rpc": "(name, params=None)",
    "AeroDBClient.channel": "(name)",
    "AeroDBClient.close": "()",
    "AuthClient.sign_up": "(email, password, metadata=None)",
    "AuthClient.sign_in": "(email, password)",
    "AuthClient.sign_out": "()",
    "AuthClient.get_user": "()",
    "AuthClient.refresh_session": "()",
    "AuthClient.get_session": "()",
    "AuthClient.get_token": "()",
    "AuthClient.set_session": "(access_token, refresh_token=None)",
    "QueryBuilder.select": "(columns='*', *, count=None, head=False)",
    **{f"QueryBuilder.{step}": "(column, value)" for step in ("eq", "neq", "gt", "gte", "lt", "lte", "is_")},
    **{f"QueryBuilder.{step}": "(column, pattern)" for step in ("like", "ilike")},
    **{f"QueryBuilder.{step}": "(column, value)" for step in ("contains", "contained_by", "overlaps")},
    "QueryBuilder.in_": "(column, values)",
    "QueryBuilder.not_": "(column, op, value)",
    "QueryBuilder.filter": "(column, op, value)",
    "QueryBuilder.or_": "(*conditions, on=None)",
    "QueryBuilder.and_": "(*conditions, on=None)",
    "QueryBuilder.match": "(values)",
    "QueryBuilder.order": "(column, ascending=True, nulls_first=None, *, on=None)",
    "QueryBuilder.limit": "(n, *, on=None)",
    "QueryBuilder.offset": "(n)",
    "QueryBuilder.range": "(start, end)",
    "QueryBuilder.single": "()",
    "QueryBuilder.maybe_single": "()",
    "QueryBuilder.all_rows": "()",
    "QueryBuilder.execute": "()",
    "QueryBuilder.insert": ("(data, *, returning='representation', count=None, columns=None, missing_default=False)"),
    "QueryBuilder.upsert": (
        "(data, *, on_conflict=None, ignore_duplicates=False, returning='representation', count=None, columns=None, "
        "missing_default=False)"
    ),
    "QueryBuilder.update": "(data, *, returning='representation', count=None)",
    "QueryBuilder.delete": "(*, returning='representation', count=None)",
    "QueryBuilder.pages": "(size=1000, key=None)",
    "QueryBuilder.stream": "(size=1000, key=None)",
    "StorageClient.from_": "(bucket)",
    "StorageClient.list_buckets": "()",
    "StorageClient.create_bucket": "(name, public=False)",
    "StorageBucket.upload": (
        "(path, data, content_type='application/octet-stream', upsert=False, *, cache_control=None, metadata=None)"
    ),
    "StorageBucket.download": "(path)",
    "StorageBucket.download_to": "(path, file, chunk_size=65536)",
    "StorageBucket.remove": "(paths)",
    "StorageBucket.list": "(path='', limit=100, offset=0)",
    "StorageBucket.list_": "(path='', limit=100, offset=0)",
    "StorageBucket.get_public_url": "(path)",
    "StorageBucket.create_signed_url": "(path, expires_in=3600)",
    "FunctionsClient.invoke": "(function_name, body=None, headers=None, method='POST', *, timeout=None)",
    "FunctionsClient.list": "()",
    "RealtimeClient.disconnect": "()",
    "RealtimeChannel.on": "(event, callback)",
    "RealtimeChannel.off": "(event, callback=None)",
    "RealtimeChannel.subscribe": "(timeout=None)",
    "RealtimeChannel.unsubscribe": "()",
    "HealthClient.check": "()",
    "HealthClient.start": "(interval=30, on_change=None)",
    "HealthClient.stop": "()",
}

FIELDS: Dict[str, str] = {
    "AeroDBResponse": "data error count=None status=None from_cache=False",
    "AeroDBError": "message status=None code=None details=None hint=None may_have_been_applied=False",
    "User": "id email email_verified=False created_at='' updated_at=None metadata=None",
    "Session": "access_token refresh_token=None expires_at=None expires_in=None token_type=None",
    "AuthData": "user session=None",
    "FileObject": (
        "id name bucket path size=None content_type=None created_at='' updated_at=None metadata=None"
    ),
    "SignedUrl": "url expires_at=None",
    "RealtimePayload": "type table='' schema='' commit_timestamp='' new=None old=None",
    "HealthStatus": "ok status version latency_ms checked_at",
}  # fmt: skip


def shown(function: Any) -> str:
    """The signature without types and without ``self``."""
    kept = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name != "self"
    ]
    return str(inspect.Signature(kept))


@pytest.mark.parametrize("name", CALLS)
def test_the_arguments_of_a_call(name: str) -> None:
    owner, _, member = name.partition(".")
    found = getattr(selfdb.aerodb, owner)
    assert shown(getattr(found, member) if member else found.__init__) == CALLS[name]


@pytest.mark.parametrize("name", FIELDS)
def test_the_members_of_a_type(name: str) -> None:
    kind = getattr(selfdb.aerodb, name)
    empty = inspect.Parameter.empty
    parameters = inspect.signature(kind).parameters.values()
    said = [one.name + ("" if one.default is empty else f"={one.default!r}") for one in parameters]
    assert " ".join(said) == FIELDS[name]
    assert [field.name for field in fields(kind)] == [one.name for one in parameters]


@pytest.mark.parametrize("name", sorted(set(filters.__all__) - {"Condition", "escape_like", "not_or", "not_and"}))
def test_a_condition_takes_what_its_step_takes(name: str) -> None:
    step = CALLS[f"QueryBuilder.{name}"]
    assert shown(getattr(filters, name)) == step.replace("(*conditions, on=None)", "(*conditions)")


def test_a_policy_of_nothing_is_the_usual_one() -> None:
    usual = RetryPolicy(
        max_attempts=3,
        initial_delay=1.0,
        max_delay=30.0,
        multiplier=2.0,
        jitter=0.5,
        statuses=frozenset({408, 429, 500, 502, 503, 504}),
        methods=frozenset({"GET", "HEAD"}),
        on_retry=None,
    )
    assert RetryPolicy() == usual
