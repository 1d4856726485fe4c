"""Members of JSON objects that may be missing, or of another type than was agreed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Dict, Optional

__all__ = ["mapping_at", "number_at", "object_of", "text_at"]


def object_of(body: Any) -> Mapping[str, Any]:
    """``body`` if it is an object; one without members if not."""
    return body if isinstance(body, dict) else {}


def text_at(fields: Mapping[str, Any], *names: str) -> Optional[str]:
    """The first member of ``names`` that is a text."""
    return next((fields[name] for name in names if isinstance(fields.get(name), str)), None)


def number_at(fields: Mapping[str, Any], *names: str) -> Optional[int]:
    """The first member of ``names`` that is a number, as a whole one."""
    for name in names:
        value = fields.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15:
            return int(value)
    return None


def mapping_at(fields: Mapping[str, Any], name: str) -> Optional[Dict[str, Any]]:
    """The member ``name`` if it is an object."""
    value = fields.get(name)
    return value if isinstance(value, dict) else None
