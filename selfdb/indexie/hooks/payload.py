"""What a hook is given: one operation, in the user's own values."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, Dict, Optional

from ..keys.keys import decode
from ..keys.markers import DELETE_FIELD
from ..keys.stored import known
from ..keys.values import load
from ..schema.specs import EncodedKey

__all__ = ["build", "difference"]


def build(
    *,
    operation: str,
    store: str,
    op: str,
    key: Optional[EncodedKey],
    item: Optional[str],
    old: Optional[str],
    cleared: bool,
    created: float,
    optimistic: bool,
    attempt: int,
) -> Dict[str, Any]:
    """The payload of one operation: a dict that the hook may keep.

    ``changes`` is what an update set, by (dotted) path, with ``DELETE_FIELD`` for a field that is gone; as ``changes``
    of ``update()`` it makes the new document of the old one.
    """
    after = None if item is None else load(item)
    before = None if old is None else known(old)
    return {
        "table": store,
        "op": op,
        "key": None if key is None or cleared else decode(key),
        "item": after,
        "old": before,
        "changes": difference(before, after) if op == "update" else {},
        "all": cleared,
        "operation_id": operation,
        "attempt": attempt,
        "created_at": datetime.fromtimestamp(created, timezone.utc),
        "optimistic": optimistic,
    }


def difference(old: Any, new: Any) -> Dict[str, Any]:
    """What has to be set, by path, to make ``new`` of ``old``; empty where one of them is not a dict."""
    changes: Dict[str, Any] = {}
    if isinstance(old, dict) and isinstance(new, dict):
        _compare(old, new, "", changes)
    return changes


def _compare(old: Dict[str, Any], new: Dict[str, Any], prefix: str, changes: Dict[str, Any]) -> None:
    steps = _are_steps(old, new)
    for name in old:
        if name not in new:
            changes[prefix + name] = DELETE_FIELD
    for name, value in new.items():
        if name not in old:
            changes[prefix + name] = value
        elif not _same(old[name], value):
            before = old[name]
            # An empty dict has no path to be set by.
            if isinstance(before, dict) and isinstance(value, dict) and value and steps and _are_steps(before, value):
                _compare(before, value, f"{prefix}{name}.", changes)
            else:
                changes[prefix + name] = value


def _are_steps(*documents: Dict[str, Any]) -> bool:
    """Whether a path can be made of their names: one with a dot in it would be taken for several, or for another's."""
    return all(name and "." not in name for document in documents for name in document)


def _same(one: Any, other: Any) -> bool:
    """Equal, and of the same kind: 1, 1.0 and True are different values to store."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(_same(value, other[name]) for name, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other) or (one != one and other != other)
