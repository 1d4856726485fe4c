"""Schemas: reading their strings, what several versions come to, and whether a file has what was declared."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Dict, List, Optional, Tuple

from ..errors import SchemaError
from ..file.log import NEWEST
from .specs import IndexSpec, StoreSpec

__all__ = ["Declared", "Schema", "differences", "merged", "read_schema", "same_key"]

Declared = Mapping[str, Optional[StoreSpec]]
"""What one version says: stores by name, ``None`` for one that it deletes."""

_SPACE = re.compile(r"\s+")
_MARKS = set("&*+[]")


@dataclass(frozen=True)
class Schema:
    """The stores that a file has. Never changed; an upgrade makes another one.

    :ivar verno: the version of the file.
    :ivar guard: a condition in SQL that is always true, and costs nothing, and that SQLite refuses to compile once
        another process has upgraded the file.
    :ivar cache: what parts of the store keep for as long as the schema is this one.
    """

    verno: int
    stores: Mapping[str, StoreSpec]
    guard: str
    cache: Dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def newest(self) -> str:
        """What a write transaction begins with: the newest commit, and what goes on from it."""
        return NEWEST.replace(" ORDER", f" WHERE {self.guard} ORDER")

    @classmethod
    def of(cls, verno: int, stores: Mapping[str, StoreSpec]) -> Schema:
        """The one of a file of that version."""
        return cls(verno, dict(stores), f"(1 OR EXISTS(SELECT 1 FROM {guard_table(verno)}))")


def guard_table(verno: int) -> str:
    """The empty table that only a file of this version has."""
    return f"_ix_v{verno}"


def read_schema(name: str, schema: Any) -> StoreSpec:
    """What a schema string declares.

    :raises SchemaError: when it is wrong; the message says in which part.
    """
    if not isinstance(name, str) or not name or "\0" in name or not _writable(name):
        raise SchemaError(f"a store's name is a string that is not empty, not {name!r}")
    if name.startswith("_ix"):
        raise SchemaError(f"{name!r}: names that begin with _ix are the store's own", table=name)
    if not isinstance(schema, str):
        raise SchemaError(f"{name!r}: a schema is a string or None, not a {type(schema).__name__}", table=name)
    first, *rest = _SPACE.sub("", schema).split(",")
    auto, paths, compound = _key(name, first)
    indexes: List[IndexSpec] = []
    taken = {_joined(paths, compound)} if paths else set()
    for part in rest:
        index = _index(name, part)
        if index.name in taken:
            raise SchemaError(f"{name!r}: {index.name!r} stands there twice", table=name, path=index.name)
        taken.add(index.name)
        indexes.append(index)
    return StoreSpec(name, paths, compound, auto, tuple(indexes))


def _writable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _key(name: str, part: str) -> Tuple[bool, Tuple[str, ...], bool]:
    auto = part.startswith("++")
    path = part[2:] if auto else part.lstrip("&")
    if path.startswith("*"):
        raise SchemaError(f"{name!r}: a primary key cannot be multi-entry ({part!r})", table=name, path=part)
    if not path:
        return auto, (), False
    if path.startswith("["):
        if auto:
            raise SchemaError(f"{name!r}: a compound key cannot be generated ({part!r})", table=name, path=part)
        return False, _parts(name, path), True
    return auto, (_path(name, path),), False


def _index(name: str, part: str) -> IndexSpec:
    if not part:
        raise SchemaError(f"{name!r}: an index has no path (is there a comma too many?)", table=name)
    if part.startswith("++"):
        raise SchemaError(
            f"{name!r}: only a primary key can be generated, and it comes first ({part!r})", table=name, path=part
        )
    marks = part[: len(part) - len(part.lstrip("&*"))]
    path = part[len(marks) :]
    if len(set(marks)) != len(marks):
        raise SchemaError(f"{name!r}: {part!r} has a mark twice", table=name, path=part)
    unique, multi = "&" in marks, "*" in marks
    if path.startswith("["):
        if multi:
            raise SchemaError(f"{name!r}: a compound index cannot be multi-entry ({part!r})", table=name, path=part)
        paths = _parts(name, path)
        return IndexSpec(_joined(paths, True), paths, True, unique, False)
    path = _path(name, path)
    return IndexSpec(path, (path,), False, unique, multi)


def _joined(paths: Tuple[str, ...], compound: bool) -> str:
    return f"[{'+'.join(paths)}]" if compound else paths[0]


def _parts(name: str, path: str) -> Tuple[str, ...]:
    if not path.endswith("]"):
        raise SchemaError(f"{name!r}: {path!r} lacks its closing bracket", table=name, path=path)
    parts = tuple(_path(name, part) for part in path[1:-1].split("+"))
    if len(set(parts)) != len(parts):
        raise SchemaError(f"{name!r}: {path!r} has a path twice", table=name, path=path)
    return parts


def _path(name: str, path: str) -> str:
    if not all(path.split(".")) or _MARKS & set(path) or "\0" in path or path == ":id" or not _writable(path):
        raise SchemaError(f"{name!r}: {path!r} is no path", table=name, path=path)
    return path


def merged(versions: Mapping[int, Declared], upto: int) -> Dict[str, Optional[StoreSpec]]:
    """What all versions up to one come to: the last word on each store; ``None`` for a deleted one."""
    last: Dict[str, Optional[StoreSpec]] = {}
    for number in sorted(versions):
        if number <= upto:
            last.update(versions[number])
    return last


def same_key(one: StoreSpec, other: StoreSpec) -> bool:
    """Whether the primary keys are defined alike."""
    return (one.key_paths, one.compound_key, one.auto) == (other.key_paths, other.compound_key, other.auto)


def differences(declared: Declared, stored: Mapping[str, StoreSpec]) -> List[str]:
    """What a file lacks, or has too much, of what was declared; a sentence each. Other stores are no difference."""
    found = []
    for name, spec in declared.items():
        there = stored.get(name)
        if spec is None:
            if there is not None:
                found.append(f"the file has {name!r}")
        elif there is None:
            found.append(f"the file lacks {name!r}")
        elif not same_key(spec, there) or set(spec.indexes) != set(there.indexes):
            found.append(f"{name!r} is {str(there)!r} in the file and {str(spec)!r} here")
    return found
