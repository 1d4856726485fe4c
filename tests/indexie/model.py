"""The store's whole language in plain Python: what writes and queries have to come to, without SQLite or encodings."""

from __future__ import annotations

import copy
import functools
from typing import Any, Callable, Dict, List, Optional, Tuple

MISSING = object()


def is_key(value: Any) -> bool:
    """Whether it is a key, of the kinds that the tests use."""
    if isinstance(value, (list, tuple)):
        return all(map(is_key, value))
    return isinstance(value, (bool, int, float, str, bytes)) and value == value


def _rank(value: Any) -> int:
    if isinstance(value, bool):
        return 1
    return next(
        rank for rank, kind in enumerate([(int, float), (), str, bytes, (list, tuple)]) if isinstance(value, kind)
    )


def compare(one: Any, other: Any) -> int:
    """The order of keys: by kind, then by value; lists element by element, the shorter one first."""
    if _rank(one) != _rank(other):
        return -1 if _rank(one) < _rank(other) else 1
    if isinstance(one, (list, tuple)):
        for left, right in zip(one, other):
            if compare(left, right):
                return compare(left, right)
        return (len(one) > len(other)) - (len(one) < len(other))
    return (one > other) - (one < other)


KEY = functools.cmp_to_key(compare)


def at(document: Any, path: str) -> Any:
    """What stands at a dotted path."""
    if path in document:
        return document[path]
    for part in path.split("."):
        if not isinstance(document, dict) or part not in document:
            return MISSING
        document = document[part]
    return document


class Clash(Exception):
    """A unique key exists: of the primary key (``":id"``) or of an index."""


class Store:
    """Rows in a list, looked through from end to end for everything.

    :ivar rows: by key, as ``(key, document)``.
    """

    UNIQUE = ("email",)
    SINGLE = ("name", "age", "address.city", "email")
    PAIR = ("name", "age")

    def __init__(self) -> None:
        self.rows: List[Tuple[Any, Any]] = []
        self.next = 1

    def copy(self) -> Store:
        """The same, apart from this one."""
        return copy.deepcopy(self)

    # Writing

    def get(self, key: Any) -> Optional[Any]:
        """The document with this key."""
        return next((document for other, document in self.rows if compare(other, key) == 0), None)

    def _check(self, document: Any, own: Any = MISSING) -> None:
        for path in self.UNIQUE:
            value = at(document, path)
            if value is MISSING or not is_key(value):
                continue
            others = [at(other, path) for key, other in self.rows if own is MISSING or compare(key, own)]
            if any(taken is not MISSING and is_key(taken) and compare(taken, value) == 0 for taken in others):
                raise Clash(path)

    def add(self, document: Any) -> Any:
        """Add a row; its key."""
        document = copy.deepcopy(document)
        generated = document.get("id") is None
        key = self.next if generated else document["id"]
        if self.get(key) is not None:
            raise Clash(":id")
        self._check(document)
        document["id"] = key
        self.rows.append((key, document))
        if isinstance(key, (int, float)) and not isinstance(key, bool) and key >= self.next:
            self.next = int(key // 1) + 1
        return key

    def put(self, document: Any) -> Any:
        """Add or replace a row; its key."""
        key = document.get("id")
        if key is None or self.get(key) is None:
            return self.add(document)
        self._check(document, key)
        self._set(key, copy.deepcopy(document))
        return key

    def _set(self, key: Any, document: Any) -> None:
        place = next(n for n, (other, _) in enumerate(self.rows) if compare(other, key) == 0)
        self.rows[place] = (self.rows[place][0], document)

    def update(self, key: Any, change: Callable[[Any], Any]) -> bool:
        """Have ``change`` edit a row; whether there was one."""
        document = copy.deepcopy(self.get(key))
        if document is None:
            return False
        change(document)
        self._check(document, key)
        self._set(key, document)
        return True

    def delete(self, key: Any) -> bool:
        """Delete a row; whether there was one."""
        before = len(self.rows)
        self.rows = [row for row in self.rows if compare(row[0], key)]
        return len(self.rows) < before

    # Reading

    def entries(self, path: str) -> List[Tuple[Any, Any, Any]]:
        """Index key, key and document of all entries of an index, in its order."""
        found: List[Tuple[Any, Any, Any]] = []
        for key, document in self.rows:
            for value in self._values(path, key, document):
                found.append((value, key, document))
        return sorted(found, key=lambda entry: (KEY(entry[0]), KEY(entry[1])))

    def _values(self, path: str, key: Any, document: Any) -> List[Any]:
        if path in (":id", "id"):
            return [key]
        if path == "[name+age]":
            pair = [at(document, part) for part in self.PAIR]
            return [pair] if all(value is not MISSING and is_key(value) for value in pair) else []
        value = at(document, path)
        if path == "tags":
            members: List[Any] = []
            for each in value if isinstance(value, list) else [value]:
                if each is not MISSING and is_key(each) and not any(compare(each, other) == 0 for other in members):
                    members.append(each)
            return members
        return [value] if value is not MISSING and is_key(value) else []

    def find(self, query: Dict[str, Any]) -> List[Tuple[Any, Any, Any]]:
        """What a query gives: its branches (path and test of the index key), and the steps by their names."""
        branches = query["branches"]
        if len(branches) == 1:
            path, accept = branches[0]
            found = [entry for entry in self.entries(path) if accept(entry[0])]
        else:
            found = [
                (key, key, document)
                for key, document in sorted(self.rows, key=lambda row: KEY(row[0]))
                if any(any(map(accept, self._values(path, key, document))) for path, accept in branches)
            ]
        for accept in query["filters"]:
            found = [entry for entry in found if accept(entry[2])]
        if query["order"] is None and query["reverse"]:
            found.reverse()
        if query["distinct"]:
            seen: List[Any] = []
            found = [entry for entry in found if not _seen(seen, entry[1])]
        if query["order"] is not None:
            found = self._ordered(found, query["order"], query["reverse"])
        found = found[query["offset"] :]
        return found if query["limit"] is None else found[: query["limit"]]

    def _ordered(self, found: List[Tuple[Any, Any, Any]], path: str, reverse: bool) -> List[Tuple[Any, Any, Any]]:
        present = [entry for entry in found if at(entry[2], path) is not MISSING and is_key(at(entry[2], path))]
        absent = [entry for entry in found if not any(entry is other for other in present)]
        present.sort(key=lambda entry: (KEY(at(entry[2], path)), KEY(entry[1])), reverse=reverse)
        absent.sort(key=lambda entry: KEY(entry[1]), reverse=reverse)
        return present + absent


def _seen(seen: List[Any], key: Any) -> bool:
    if any(compare(key, other) == 0 for other in seen):
        return True
    seen.append(key)
    return False
