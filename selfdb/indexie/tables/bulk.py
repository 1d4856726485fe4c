"""Writes of many rows: all or nothing where the call is its own transaction, good rows and a report inside another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from math import floor
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional, Tuple, TypeVar

from ..errors import (
    BulkError,
    ConstraintError,
    DatabaseCorruptError,
    DataCloneError,
    DataError,
    InvalidArgumentError,
    ModifyError,
    StorageError,
)
from ..keys.keys import decode, encode
from ..ports import Row, Sink
from ..queries import evaluation
from ..queries.plan import Query, placed
from ..schema.specs import EncodedKey, StoreSpec
from . import mutations
from .changes import Changes, check
from .mutations import LAST_GENERATED, Prepared

if TYPE_CHECKING:
    from .table import Table

__all__ = ["add_or_put", "delete_found", "delete_keys", "listed", "modify", "update_many"]

T = TypeVar("T")

_OF_THE_ROW = (ConstraintError, DataError, DataCloneError, InvalidArgumentError)
"""What is wrong with one row and leaves the others as they are; so is the failure of its validation."""


class _Outcome(NamedTuple):
    """What a call for many rows did.

    :ivar result: what it returns if nothing failed.
    :ivar failures: by position.
    """

    result: Any
    failures: Dict[int, Exception]
    done: int


def _of_the_row(error: Exception) -> bool:
    if isinstance(error, DatabaseCorruptError):
        return error.table is not None
    return isinstance(error, _OF_THE_ROW) or type(error) is StorageError


def _carried_out(
    table: Table[Any],
    work: Callable[[Sink, StoreSpec], _Outcome],
    silent: bool,
    report: Callable[[_Outcome], Exception],
    partial: bool = False,
) -> Any:
    """What ``work`` comes to. Rows that fail undo the others, unless the transaction is the caller's, or ``partial``.

    Any other exception undoes all of this call, wherever it is made.
    """
    store = table._store()

    def all_of_it(sink: Sink) -> _Outcome:
        with sink.savepoint() if sink.explicit else nullcontext():
            outcome = work(sink, store)
        if outcome.failures and not (partial or sink.explicit):
            raise report(outcome)
        return outcome

    outcome: _Outcome = table.db._write((store,), all_of_it, silent=silent)
    if outcome.failures:
        raise report(outcome)
    return outcome.result


def _bulk_error(name: str, table: Table[Any]) -> Callable[[_Outcome], Exception]:
    def error(outcome: _Outcome) -> BulkError:
        failures = list(outcome.failures.values())
        return BulkError(
            f"{len(failures)} of {len(failures) + outcome.done} rows of {table.name}.{name}() failed; "
            f"the first: {failures[0]}",
            failures=failures,
            failures_by_pos=outcome.failures,
            success_count=outcome.done,
        )

    return error


def listed(values: Iterable[Any], what: str) -> List[Any]:
    """What a call for many is given; a text or a dict would be taken for its letters or its names.

    :raises InvalidArgumentError: when it is one of these, or nothing that can be iterated.
    """
    if isinstance(values, (str, bytes, bytearray, Mapping)) or not isinstance(values, Iterable):
        raise InvalidArgumentError(f"a list of {what} is wanted, not a {type(values).__name__}")
    return list(values)


# bulk_add, bulk_put


def add_or_put(
    table: Table[Any],
    items: Iterable[Any],
    keys: Optional[Iterable[Any]],
    *,
    replace: bool,
    all_keys: bool,
    partial: bool,
    silent: bool,
) -> Any:
    """Add rows, or put them if ``replace``; the last key, or a list of all."""
    items = listed(items, "rows")
    given: Sequence[Any] = [None] * len(items) if keys is None else listed(keys, "keys")
    if len(given) != len(items):
        raise InvalidArgumentError(f"there are {len(items)} rows and {len(given)} keys: give one for each")
    store = table._store()
    validate = table._check(silent)
    ready: List[Optional[Prepared]] = []
    refused: Dict[int, Exception] = {}
    prepare = mutations.prepared
    for position, (item, key) in enumerate(zip(items, given)):
        try:
            ready.append(prepare(store, item, key, validate))
        except StorageError as error:
            if not _of_the_row(error):
                raise
            refused[position] = error
            ready.append(None)

    def work(sink: Sink, store: StoreSpec) -> _Outcome:
        # What is refused anyhow is not worth the writing of the others.
        if refused and not (partial or sink.explicit):
            return _Outcome(None, refused, len(items) - len(refused))
        failures = dict(refused)
        stored = (
            _put_all(sink, store, ready, failures, silent)
            if replace
            else _add_all(sink, store, ready, failures, silent)
        )
        in_order = dict(sorted(failures.items()))
        done = [decode(key) for key in stored] if all_keys else decode(stored[-1]) if stored else None
        return _Outcome(done, in_order, len(stored))

    return _carried_out(table, work, silent, _bulk_error("bulk_put" if replace else "bulk_add", table), partial)


def _add_all(
    sink: Sink, store: StoreSpec, ready: Sequence[Optional[Prepared]], failures: Dict[int, Exception], silent: bool
) -> List[EncodedKey]:
    stored = _add_at_once(sink, store, ready, failures, silent)
    if stored is None:  # one by one, to find out which
        stored = _each(ready, failures, lambda row: mutations.insert(sink, store, row, silent))
    return stored


def _add_at_once(
    sink: Sink, store: StoreSpec, ready: Sequence[Optional[Prepared]], failures: Dict[int, Exception], silent: bool
) -> Optional[List[EncodedKey]]:
    """Add all rows with few statements; ``None`` where that cannot be, or one of them clashes.

    Nothing was changed then, but the transaction may have begun anew.
    """
    insert_many = getattr(sink, "insert_many", None)
    if insert_many is None or not ready or failures or not (silent or not sink.wants(store, "add")):
        return None
    try:
        return _numbered_and_added(sink, store, ready, insert_many)  # type: ignore[arg-type]
    except ConstraintError:
        return None


def _numbered_and_added(
    sink: Sink, store: StoreSpec, ready: Sequence[Prepared], insert_many: Callable[..., None]
) -> List[EncodedKey]:
    if not store.auto:
        insert_many(store, ready)
        return [key for _, _, key in ready]  # type: ignore[misc]
    keys = [key for _, _, key in ready]
    number = sink.next_key(store) if None in keys else 1
    last = number + len(keys) - 1
    if keys.count(None) == len(keys) and last <= LAST_GENERATED:
        rows = mutations.numbered_from(store, ready, number)
    else:
        rows, last = _numbered(store, ready, number)
    insert_many(store, rows)
    sink.saw_key(store, last)
    return [key for _, _, key in rows]  # type: ignore[misc]


def _numbered(store: StoreSpec, ready: Sequence[Prepared], number: int) -> Tuple[List[Prepared], int]:
    """The rows, some of which have a key, with generated ones for the others; and above which number to go on."""
    rows = list(ready)
    for place, row in enumerate(rows):
        key = row[2]
        if key is None:
            if number > LAST_GENERATED:
                raise ConstraintError("no more keys", table=store.name)
            rows[place] = mutations.numbered(store, row, number)
            number += 1
        elif type(key) is not bytes and key >= number:  # type: ignore[operator]
            number = floor(min(key, LAST_GENERATED)) + 1  # type: ignore[arg-type]
    return rows, number - 1


def _put_all(
    sink: Sink, store: StoreSpec, ready: Sequence[Optional[Prepared]], failures: Dict[int, Exception], silent: bool
) -> List[EncodedKey]:
    keys = list({row[2] for row in ready if row is not None and row[2] is not None})
    present: Dict[EncodedKey, Row] = sink.many(store, keys) if keys else {}
    if not present and (not keys or len(keys) == len(ready)):  # they are all new, and no two are the same
        stored = _add_at_once(sink, store, ready, failures, silent)
        if stored is not None:
            return stored
        present = sink.many(store, keys) if keys else {}
    touched: set[EncodedKey] = set()

    def put(row: Prepared) -> EncodedKey:
        _, _, key = row
        if key is None:
            key = mutations.insert(sink, store, row, silent)
            touched.add(key)
            return key
        # A key that comes twice in one call has been written by its first row.
        old = sink.get(store, key) if key in touched else present.get(key)
        touched.add(key)
        return mutations.put_over(sink, store, old, row, silent)

    return _each(ready, failures, put)


def _each(
    ready: Sequence[Optional[Prepared]], failures: Dict[int, Exception], write: Callable[[Prepared], EncodedKey]
) -> List[EncodedKey]:
    stored: List[EncodedKey] = []
    for position, row in enumerate(ready):
        if row is None:
            continue
        try:
            stored.append(write(row))
        except StorageError as error:
            if not _of_the_row(error):
                raise
            failures[position] = error
    return stored


# bulk_update, bulk_delete


def update_many(table: Table[Any], updates: Iterable[Tuple[Any, Changes]], silent: bool) -> int:
    """Change rows by key; how many were there."""
    pairs = listed(updates, "pairs of a key and changes")
    for pair in pairs:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise InvalidArgumentError("bulk_update() takes pairs of a key and changes")
        check(pair[1])
    validate = table._check(silent)

    def work(sink: Sink, store: StoreSpec) -> _Outcome:
        failures: Dict[int, Exception] = {}
        rows = 0
        for position, (key, changes) in enumerate(pairs):
            try:
                old = sink.get(store, encode(key))
                if old is not None:
                    mutations.revise(sink, store, old, changes, silent, validate)
                    rows += 1
            except StorageError as error:
                if not _of_the_row(error):
                    raise
                failures[position] = error
        return _Outcome(rows, failures, rows)

    return int(_carried_out(table, work, silent, _bulk_error("bulk_update", table)))


def delete_keys(table: Table[Any], keys: Iterable[Any], silent: bool) -> int:
    """Delete rows by key; how many there were."""
    encoded = list(dict.fromkeys(map(encode, listed(keys, "keys"))))

    def work(sink: Sink, store: StoreSpec) -> _Outcome:
        present = sink.many(store, encoded) if encoded else {}
        for key in encoded:
            old = present.get(key)
            if old is not None:
                mutations.remove(sink, store, old, silent)
        return _Outcome(len(present), {}, len(present))

    return int(_carried_out(table, work, silent, _bulk_error("bulk_delete", table)))


# What a collection finds


def _modify_error(name: str, keys: List[Any]) -> Callable[[_Outcome], Exception]:
    def error(outcome: _Outcome) -> ModifyError:
        failures = list(outcome.failures.values())
        return ModifyError(
            f"{len(failures)} of {len(failures) + outcome.done} rows of {name}() failed; the first: {failures[0]}",
            failures=failures,
            failed_keys=[keys[position] for position in outcome.failures],
            success_count=outcome.done,
        )

    return error


def _rows_of(sink: Sink, store: StoreSpec, query: Query) -> List[Row]:
    """The rows that a query finds, each once: all of them before the first is written."""
    found = evaluation.found(sink, store, placed(query, store), documents=False)
    keys = list(dict.fromkeys([item.key for item in found]))
    rows = sink.many(store, keys) if keys else {}
    return [rows[key] for key in keys]


def modify(table: Table[Any], query: Query, changes: Changes, silent: Optional[bool]) -> int:
    """Change all rows that a query finds; how many it found."""
    quiet = table.db._hooks.silent(silent)
    validate = table._check(quiet)
    keys: List[Any] = []

    def work(sink: Sink, store: StoreSpec) -> _Outcome:
        rows = _rows_of(sink, store, query)
        keys[:] = [decode(row.key) for row in rows]
        failures: Dict[int, Exception] = {}
        for position, row in enumerate(rows):
            try:
                mutations.revise(sink, store, row, changes, quiet, validate)
            except StorageError as error:
                if not _of_the_row(error):
                    raise
                failures[position] = error
        return _Outcome(len(rows), failures, len(rows) - len(failures))

    return int(_carried_out(table, work, quiet, _modify_error("modify", keys)))


def delete_found(table: Table[Any], query: Query, silent: Optional[bool]) -> int:
    """Delete all rows that a query finds; how many it found."""
    quiet = table.db._hooks.silent(silent)
    keys: List[Any] = []

    def work(sink: Sink, store: StoreSpec) -> _Outcome:
        rows = _rows_of(sink, store, query)
        for row in rows:
            mutations.remove(sink, store, row, quiet)
        return _Outcome(len(rows), {}, len(rows))

    return int(_carried_out(table, work, quiet, _modify_error("delete", keys)))
