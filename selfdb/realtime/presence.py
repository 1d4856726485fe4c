"""Who is there: a mapping kept by ``presence_state`` and ``presence_diff``. Pure."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

__all__ = ["Presence"]

log = logging.getLogger("selfdb.realtime")

Entry = dict[str, Any]

MAX_WAITING = 1000
"""Differences that are kept for a state to come."""

MAX_BYTES = 64 * 1024 * 1024
"""Bytes of messages that one channel's presence may be made of; what would join beyond them is left out."""


class _Present:
    """One key: what is said of it, and its connections by their ref, so that a difference costs what it is worth."""

    def __init__(self, entry: Entry) -> None:
        self.said = entry
        self.by_ref: dict[str | None, list[Entry]] = {}
        for meta in entry["metas"]:
            self.by_ref.setdefault(_ref(meta), []).append(meta)

    def join(self, joined: _Present) -> None:
        self.said = joined.said
        for ref, metas in joined.by_ref.items():
            self.by_ref.pop(ref, None)
            self.by_ref[ref] = metas

    def leave(self, left: _Present) -> None:
        for ref in left.by_ref:
            self.by_ref.pop(ref, None)

    def entry(self) -> Entry:
        return {**self.said, "metas": [meta for metas in self.by_ref.values() for meta in metas]}


class Presence:
    """The presence of one channel. Not for sharing between threads; ``snapshot`` may be given away.

    A difference that comes before the first state is kept until the state has come.
    """

    def __init__(self) -> None:
        self._present: dict[str, _Present] = {}
        self._synced = False
        self._bytes = 0
        """Of messages since the entries were measured, and what they were then."""
        self._unmeasured = 0
        self._waiting: list[tuple[Any, int]] = []

    def rejoined(self) -> None:
        """The channel was joined (again): a state is to come."""
        self._synced = False
        self._waiting = []

    def snapshot(self) -> dict[str, Entry]:
        """Entries by key; each has ``metas``, a list with one mapping for every connection of that key."""
        return {key: present.entry() for key, present in self._present.items()}

    def take(self, event: str, payload: Any, size: int = 0) -> bool:
        """Apply ``payload`` if ``event`` is about presence; returns whether it was.

        :param size: bytes of the message.
        """
        if event == "presence_state":
            self._present = _entries(payload)
            self._bytes = size
            self._synced = True
            waiting, self._waiting = self._waiting, []
            for diff, bytes_of_it in waiting:
                self._apply(diff, bytes_of_it)
            return True
        if event == "presence_diff":
            if self._synced:
                self._apply(payload, size)
            elif len(self._waiting) < MAX_WAITING and size + sum(held for _, held in self._waiting) <= MAX_BYTES:
                self._waiting.append((payload, size))
            return True
        return False

    def _apply(self, diff: Any, size: int) -> None:
        if not isinstance(diff, Mapping):
            return
        if self._room_for(size):
            for key, joined in _entries(diff.get("joins")).items():
                if key in self._present:
                    self._present[key].join(joined)
                else:
                    self._present[key] = joined
        for key, left in _entries(diff.get("leaves")).items():
            present = self._present.get(key)
            if present is not None:
                present.leave(left)
                if not present.by_ref:
                    del self._present[key]

    def _room_for(self, size: int) -> bool:
        self._unmeasured += size
        if self._bytes + size > MAX_BYTES and self._unmeasured > MAX_BYTES // 8:  # measuring has its price
            self._bytes, self._unmeasured = self._measured(), 0  # many have left since, perhaps
            if self._bytes + size > MAX_BYTES:
                log.warning("more are present than %d bytes can tell of; who joins now is left out", MAX_BYTES)
        if self._bytes + size > MAX_BYTES:
            return False
        self._bytes += size
        return True

    def _measured(self) -> int:
        try:
            return len(json.dumps(self.snapshot()))
        except RecursionError:
            return MAX_BYTES


def _ref(meta: Entry) -> str | None:
    ref = meta.get("phx_ref")
    return ref if isinstance(ref, str) else None


def _entries(value: Any) -> dict[str, _Present]:
    if not isinstance(value, Mapping):
        return {}
    entries = {}
    for key, entry in value.items():
        if isinstance(entry, Mapping):
            metas = entry.get("metas")
            listed = [dict(meta) for meta in metas if isinstance(meta, Mapping)] if isinstance(metas, list) else []
            entries[str(key)] = _Present({**entry, "metas": listed})
    return entries
