"""Who is there: a mapping kept by ``presence_state`` and ``presence_diff``. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["Presence"]

Entry = dict[str, Any]


MAX_WAITING = 1000
"""Differences that are kept for a state to come."""


class Presence:
    """The presence of one channel. Not for sharing between threads; ``snapshot`` may be given away.

    A difference that comes before the first state is kept until the state has come.
    """

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._synced = False
        self._waiting: list[Any] = []

    def rejoined(self) -> None:
        """The channel was joined (again): a state is to come."""
        self._synced = False
        self._waiting = []

    def snapshot(self) -> dict[str, Entry]:
        """Entries by key; each has ``metas``, a list with one mapping for every connection of that key."""
        return {key: {**entry, "metas": list(entry.get("metas", ()))} for key, entry in self._entries.items()}

    def take(self, event: str, payload: Any) -> bool:
        """Apply ``payload`` if ``event`` is about presence; returns whether it was."""
        if event == "presence_state":
            self._entries = _entries(payload)
            self._synced = True
            waiting, self._waiting = self._waiting, []
            for diff in waiting:
                self._apply(diff)
            return True
        if event == "presence_diff":
            if self._synced:
                self._apply(payload)
            elif len(self._waiting) < MAX_WAITING:
                self._waiting.append(payload)
            return True
        return False

    def _apply(self, diff: Any) -> None:
        if not isinstance(diff, Mapping):
            return
        for key, joined in _entries(diff.get("joins")).items():
            known = self._entries.get(key, {}).get("metas", [])
            new_refs = {meta.get("phx_ref") for meta in joined["metas"]}
            kept = [meta for meta in known if meta.get("phx_ref") not in new_refs]
            self._entries[key] = {**joined, "metas": kept + joined["metas"]}
        for key, left in _entries(diff.get("leaves")).items():
            if key not in self._entries:
                continue
            gone = {meta.get("phx_ref") for meta in left["metas"]}
            rest = [meta for meta in self._entries[key]["metas"] if meta.get("phx_ref") not in gone]
            if rest:
                self._entries[key] = {**self._entries[key], "metas": rest}
            else:
                del self._entries[key]


def _entries(value: Any) -> dict[str, Entry]:
    if not isinstance(value, Mapping):
        return {}
    entries = {}
    for key, entry in value.items():
        if isinstance(entry, Mapping):
            metas = entry.get("metas")
            listed = [dict(meta) for meta in metas if isinstance(meta, Mapping)] if isinstance(metas, list) else []
            entries[str(key)] = {**entry, "metas": listed}
    return entries
