"""What a query asks for, as a value: the sources and ranges it reads, and all that is done to what they give."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Union

from ..errors import InvalidArgumentError, SchemaError
from ..keys.extraction import entries_of, index_key_of
from ..keys.keys import encode
from ..keys.ranges import EVERYTHING, Range
from ..schema.specs import EncodedKey, IndexSpec, StoreSpec

__all__ = ["Branch", "Filter", "Query", "Source", "criteria", "keys_at", "placed", "source_of"]

Filter = Callable[[Any], Any]


class Source(NamedTuple):
    """What a clause ranges over.

    :ivar spec: the index; ``None`` for the key.
    :ivar leading: how many leading parts of a compound index or key it is; 0 for the whole of it.
    :ivar path: as the caller named it.
    """

    spec: Optional[IndexSpec]
    leading: int
    path: str

    def shown(self, decoded: Any) -> Any:
        """The index key that the caller sees."""
        if not self.leading:
            return decoded
        return decoded[0] if self.leading == 1 else decoded[: self.leading]


class Branch(NamedTuple):
    """Ranges of one source; sorted, and no two of them touch."""

    source: Source
    ranges: Tuple[Range, ...]


class Query(NamedTuple):
    """A whole query. Everything in it is immutable, so that it can be shared and gone on from.

    :ivar until: functions that end it, each with whether the row that it ends at is part of it.
    """

    branches: Tuple[Branch, ...]
    filters: Tuple[Filter, ...] = ()
    reverse: bool = False
    order: Optional[str] = None
    limit: Optional[int] = None
    offset: int = 0
    until: Tuple[Tuple[Filter, bool], ...] = ()
    distinct: bool = False

    @property
    def plain(self) -> bool:
        """Whether it is one scan from beginning to end: ranges, direction, offset and limit."""
        return (
            len(self.branches) == 1 and not self.filters and self.order is None and not self.until and not self._doubles
        )

    @property
    def _doubles(self) -> bool:
        """Whether rows could come twice and are to come once."""
        index = self.branches[0].source.spec
        return self.distinct and index is not None and index.multi


ALL = Query((Branch(Source(None, 0, ":id"), (EVERYTHING,)),))
"""All rows, in the order of their keys."""


def source_of(store: StoreSpec, path: Union[str, Sequence[str]]) -> Source:
    """The index, the key, or the leading parts of one of them that ``path`` names.

    :raises SchemaError: when nothing of the kind is declared.
    :raises InvalidArgumentError: when it is neither a path nor a list of paths.
    """
    if isinstance(path, str):
        known: Optional[Dict[str, Source]] = store.__dict__.get("_sources")
        if known is None:
            known = store.__dict__.setdefault("_sources", {})
        source = known.get(path)
        if source is None:
            source = known[path] = _find(store, _parts(path) if path.startswith("[") else (path,), path)
        return source
    parts = tuple(path) if isinstance(path, (list, tuple)) else ()
    if not parts or not all(isinstance(part, str) for part in parts):
        raise InvalidArgumentError(f"where(), order_by() and or_() take a path or a list of paths, not {path!r}")
    return _find(store, parts, parts[0] if len(parts) == 1 else f"[{'+'.join(parts)}]")


def _find(store: StoreSpec, parts: Tuple[str, ...], name: str) -> Source:
    if name == ":id" or (store.key_paths == parts and store.compound_key == (len(parts) > 1)):
        return Source(None, 0, name)
    index = store.index(name)
    if index is not None:
        return Source(index, 0, name)
    for each in store.indexes:
        if each.compound and each.paths[: len(parts)] == parts:
            return Source(each, len(parts) % len(each.paths), name)
    if store.compound_key and store.key_paths[: len(parts)] == parts:
        return Source(None, len(parts), name)
    raise SchemaError(
        f"{name!r} is not indexed in {store.name!r} (its schema is {str(store)!r}): "
        "declare an index in a new version, or use filter()",
        table=store.name,
        path=name,
    )


def placed(query: Query, store: StoreSpec) -> Query:
    """The query on the store as it stands in the file, whatever it was when the query was built.

    :raises SchemaError: when it has such an index no more.
    """
    branches = tuple(
        branch if branch.source.spec is None else branch._replace(source=_placed(branch.source, store))
        for branch in query.branches
    )
    return query._replace(branches=branches)


def _placed(source: Source, store: StoreSpec) -> Source:
    assert source.spec is not None
    index = store.index(source.spec.name)
    if index != source.spec:
        raise SchemaError(
            f"{source.path!r} is not indexed in {store.name!r} as it was when the query was made",
            table=store.name,
            path=source.path,
        )
    return source._replace(spec=index)


# where({...})


def criteria(store: StoreSpec, wanted: Mapping[str, Any]) -> Query:
    """The query for rows whose paths have these values.

    :raises InvalidArgumentError: when there are no criteria.
    :raises DataError: when a value is no key.
    :raises SchemaError: when no index serves any of the paths.
    """
    if not wanted:
        raise InvalidArgumentError("there are no criteria: where() and get() take at least one path and its value")
    if not all(isinstance(path, str) for path in wanted):
        raise InvalidArgumentError("criteria are a dict of paths and values")
    keys = {path: encode(value) for path, value in wanted.items()}
    if len(wanted) > 1:
        branch = _compound(store, wanted)
        if branch is not None:
            return Query((branch,))
    path, source = _single(store, wanted)
    rest = [_equality(store, other, key) for other, key in keys.items() if other != path]
    return Query((Branch(source, (exactly(source, wanted[path]),)),), filters=tuple(rest))


def exactly(source: Source, value: Any) -> Range:
    """The range of one value in a source; of the leading parts of a compound one, all arrays that begin with it."""
    if not source.leading:
        return Range.only(encode(value))
    start = encode([value] if source.leading == 1 else list(value))
    assert isinstance(start, bytes)
    return Range(start[:-1], start[:-1] + b"\xff", False, True)


def _compound(store: StoreSpec, wanted: Mapping[str, Any]) -> Optional[Branch]:
    """Of a compound index (or key) that begins with exactly these paths, in any order."""
    candidates: List[Tuple[Optional[IndexSpec], Tuple[str, ...]]] = [
        (index, index.paths) for index in store.indexes if index.compound
    ]
    if store.compound_key:
        candidates.append((None, store.key_paths))
    for index, paths in sorted(candidates, key=lambda candidate: len(candidate[1])):
        parts = paths[: len(wanted)]
        if len(paths) >= len(wanted) and set(parts) == set(wanted):
            source = Source(index, len(parts) % len(paths), f"[{'+'.join(parts)}]")
            return Branch(source, (exactly(source, [wanted[part] for part in parts]),))
    return None


def _single(store: StoreSpec, wanted: Mapping[str, Any]) -> Tuple[str, Source]:
    found: List[Tuple[int, str, Source]] = []
    for path in wanted:
        try:
            source = source_of(store, path)
        except SchemaError:
            continue
        index = source.spec
        # What narrows most comes first.
        rank = 0 if index is None and not source.leading else 1 if index is not None and index.unique else 2
        found.append((rank + (source.leading > 0), path, source))
    if not found:
        names = ", ".join(map(repr, wanted))
        raise SchemaError(
            f"none of {names} is indexed in {store.name!r} (its schema is {str(store)!r}): "
            "declare an index in a new version, or use filter()",
            table=store.name,
            path=next(iter(wanted)),
        )
    _, path, source = min(found, key=lambda each: each[0])
    return path, source


def _equality(store: StoreSpec, path: str, key: EncodedKey) -> Filter:
    keys_of = keys_at(store, path)
    return lambda document: key in keys_of(document)


def keys_at(store: StoreSpec, path: str) -> Callable[[Any], Sequence[EncodedKey]]:
    """What gives the keys that a document has at a path, indexed or not: as an index of it would, where there is one.

    :raises InvalidArgumentError: for ``":id"`` of a store that keeps its keys out of its documents.
    """
    if path == ":id":
        if not store.key_paths:
            raise InvalidArgumentError(f"the rows of {store.name!r} do not hold their keys: name ':id' alone, or first")
        path = store.key_name
    index = store.index(path)
    if index is not None and index.multi:
        entries = entries_of(index)
        return lambda document: entries(document) if isinstance(document, dict) else ()
    compound = path.startswith("[")
    key_of = index_key_of(IndexSpec(path, _parts(path) if compound else (path,), compound))

    def keys_of(document: Any) -> Sequence[EncodedKey]:
        key = key_of(document) if isinstance(document, dict) else None
        return () if key is None else (key,)

    return keys_of


def _parts(path: str) -> Tuple[str, ...]:
    return tuple(part.strip() for part in path[1:-1].split("+"))
