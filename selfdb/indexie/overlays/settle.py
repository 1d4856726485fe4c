"""Making an overlay real: the checks, the hooks that come first, and the transaction that stores its rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Dict, FrozenSet, List, NamedTuple, Optional, Tuple

from ..errors import DataError, HookError, IndexedDBError, WriteConflictError
from ..hooks import payload
from ..hooks.hooks import Hook, call
from ..hooks.registry import Listening
from ..keys.keys import decode
from ..keys.paths import MISSING
from ..keys.values import dump, load
from ..ports import Effect, Row
from ..schema.specs import EncodedKey, StoreSpec
from ..tables.mutations import key_in
from .merge import OverlayRow
from .overlay import Operation, Overlay

if TYPE_CHECKING:
    from ..file.writer import Writer

__all__ = ["Edits", "Settlement", "settle"]

Edits = Dict[Tuple[str, EncodedKey], str]
"""By store and key, the document to store in the place of the overlay's: hooks have changed it."""

_Inline = Sequence[Tuple[Hook, ...]]
"""For each operation, the hooks that come before the rows."""


class Settlement(NamedTuple):
    """What is to be made real, and how.

    :param writer: makes a write transaction, which has not begun.
    :param publish: called at the moment of the commit.
    :param inline: whether the hooks of a store come before its rows.
    :param overwrite: whether rows that were changed elsewhere are replaced all the same.
    :param optimistic: what payloads say of it.
    """

    overlay: Overlay
    writer: Callable[[], Writer]
    publish: Callable[[], object]
    inline: Callable[[StoreSpec], bool]
    overwrite: bool
    optimistic: bool
    validate: Callable[[StoreSpec, Any], object]


def settle(settlement: Settlement) -> Tuple[Listening, List[Operation], List[Operation], Edits]:
    """Store the rows, having told the hooks that come first, or raise and leave everything as it was.

    Returns who listened, the operations whose hooks have not been called, all of them as they were stored, and which
    rows hooks have changed.

    :raises WriteConflictError: when a row was changed elsewhere.
    :raises ConstraintError: when a unique index forbids it.
    :raises HookError: when a hook raises.
    """
    overlay = settlement.overlay
    writer = settlement.writer()
    try:
        writer.begin()
        inline = _inline(settlement, writer.listening)
        _store(settlement, writer, {})
        if not any(inline):
            return _commit(settlement, writer, inline, overlay.operations, {})
    except BaseException:
        writer.rollback()
        raise
    # Seen to be possible, and undone again: a hook may take its time, and nobody else should have to wait for it.
    writer.rollback()
    operations, edits = _call_hooks(settlement, inline)
    try:
        writer = settlement.writer()
        try:
            writer.begin()
            _store(settlement, writer, edits)
            return _commit(settlement, writer, inline, operations, edits)
        except BaseException:
            writer.rollback()
            raise
    except IndexedDBError as error:
        error.hooks_succeeded = True
        raise


def _inline(settlement: Settlement, listening: Listening) -> _Inline:
    return [
        listening.inline.get((effect.store.name, effect.op), ()) if settlement.inline(effect.store) else ()
        for _, effect, _ in settlement.overlay.operations
    ]


# The rows


def _store(settlement: Settlement, writer: Writer, edits: Mapping[Tuple[str, EncodedKey], str]) -> None:
    overlay = settlement.overlay
    present = {name: writer.many(store, list(overlay.rows(name))) for name, store in overlay.stores.items()}
    if not settlement.overwrite:
        for name, rows in present.items():
            _check(name, overlay.touched[name], overlay.rows(name), rows)
    for name, store in overlay.stores.items():
        _store_rows(writer, store, overlay.rows(name), present[name], edits)


def _check(
    store: str,
    touched: Mapping[EncodedKey, int],
    rows: Mapping[EncodedKey, OverlayRow],
    present: Mapping[EncodedKey, Row],
) -> None:
    moved = [key for key in rows if (present[key].version if key in present else 0) != touched[key]]
    if moved:
        keys = [decode(key) for key in moved]
        raise WriteConflictError(
            f"{len(keys)} rows of {store!r} were changed elsewhere since this transaction first changed them, among "
            f"them {keys[0]!r}; nothing was stored",
            table=store,
            keys=keys,
        )


def _store_rows(
    writer: Writer,
    store: StoreSpec,
    rows: Mapping[EncodedKey, OverlayRow],
    present: Mapping[EncodedKey, Row],
    edits: Mapping[Tuple[str, EncodedKey], str],
) -> None:
    uniques = any(index.unique for index in store.indexes)
    replaced: List[Tuple[Row, str]] = []
    added: List[Tuple[EncodedKey, str]] = []
    for key, row in rows.items():
        old = present.get(key)
        text = edits.get((store.name, key), row.text) if row.text is not None else None
        if text is None:
            if old is not None:
                writer.remove(store, old)
        elif old is None:
            added.append((key, text))
        elif old.text != text:
            replaced.append((old, text))
    if uniques and len(replaced) + len(added) > 1:
        # Two rows may have changed places in a unique index: neither can be the first to take the other's.
        for old, text in replaced:
            writer.remove(store, old)
            added.append((old.key, text))
        replaced = []
    for old, text in replaced:
        writer.replace(store, old, load(text), text)
    for key, text in added:
        writer.insert(store, key, load(text), text)
        if store.auto and not isinstance(key, bytes):
            writer.saw_key(store, key)


def _commit(
    settlement: Settlement, writer: Writer, inline: _Inline, operations: Sequence[Operation], edits: Edits
) -> Tuple[Listening, List[Operation], List[Operation], Edits]:
    listening: Listening = writer.listening
    done: List[FrozenSet[str]] = [frozenset(hook.name for hook in hooks if hook.durable) for hooks in inline]
    writer.database._hooks.enqueue(
        writer.connection,
        listening,
        [operation.effect for operation in operations],
        operations=[(operation.id, operation.created) for operation in operations],
        done=done,
        optimistic=settlement.optimistic,
    )
    writer.commit(settlement.publish)
    untold = [operation for operation, hooks in zip(operations, inline) if not hooks]
    return listening, untold, list(operations), edits


# The hooks that come first


class _Carried:
    """What hooks have changed in the documents of one row: it holds for the row's later documents too, where they say
    nothing else of the same field."""

    def __init__(self) -> None:
        self._fields: Dict[str, Tuple[Any, Any]] = {}
        self._whole: Optional[Tuple[str, str]] = None

    def note(self, before: Any, after: Any) -> None:
        """A hook was given ``before`` and left ``after``."""
        if not isinstance(before, dict) or not isinstance(after, dict):
            self._whole = dump(before)[1], dump(after)[1]
            return
        for name in {**before, **after}:
            old, new = before.get(name, MISSING), after.get(name, MISSING)
            if not _same(old, new):
                self._fields[name] = self._fields.get(name, (old, new))[0], new

    def apply(self, text: str) -> str:
        """The document with those changes."""
        if self._whole is not None and text == self._whole[0]:
            return self._whole[1]
        if not self._fields:
            return text
        document = load(text)
        for name, (old, new) in self._fields.items():
            if _same(document.get(name, MISSING), old):
                if new is MISSING:
                    document.pop(name, None)
                else:
                    document[name] = new
        return dump(document)[1]


def _same(one: Any, other: Any) -> bool:
    if one is MISSING or other is MISSING:
        return one is other
    return bool(dump(one)[1] == dump(other)[1])


def _call_hooks(settlement: Settlement, inline: _Inline) -> Tuple[List[Operation], Edits]:
    """Call the hooks of all operations, in their order; the operations as the hooks leave them, and the rows that come
    of it."""
    overlay = settlement.overlay
    completed: List[str] = []
    carried: Dict[Tuple[str, EncodedKey], _Carried] = {}
    operations: List[Operation] = []
    for operation, hooks in zip(overlay.operations, inline):
        effect = operation.effect
        place = effect.store.name, effect.key
        if effect.op == "add":
            carried.pop(place, None)
        if effect.new is not None and place in carried:
            effect = effect._replace(new=carried[place].apply(effect.new))
        if hooks:
            given = payload.build(
                operation=operation.id,
                store=effect.store.name,
                op=effect.op,
                key=effect.key,
                item=effect.new,
                old=effect.old,
                cleared=effect.all,
                created=operation.created,
                optimistic=settlement.optimistic,
                attempt=1,
            )
            for hook in hooks:
                _call(hook, effect, given, completed)
            completed.append(operation.id)
            if effect.new is not None and "item" in given:
                text = _edited(settlement, effect, given["item"])
                if text != effect.new:
                    carried.setdefault(place, _Carried()).note(load(effect.new), load(text))
                    effect = effect._replace(new=text)
        operations.append(operation._replace(effect=effect))
    return operations, _edits(overlay, carried)


def _call(hook: Hook, effect: Effect, given: Dict[str, Any], completed: List[str]) -> None:
    try:
        call(hook, given)
    except Exception as error:
        key = None if effect.all else decode(effect.key)
        raise HookError(
            f"the hook {hook.name} raised {type(error).__name__} for {effect.op!r} of {key!r} in "
            f"{effect.store.name!r}; nothing was stored",
            table=effect.store.name,
            op=effect.op,
            key=key,
            hook=hook.name,
            completed=list(completed),
        ) from error


def _edited(settlement: Settlement, effect: Effect, item: Any) -> str:
    """The document that a hook left in the payload.

    :raises DataError: when it has another key.
    """
    document, text = dump(item)
    if text == effect.new:
        return text
    store = effect.store
    if store.key_paths and (not isinstance(document, dict) or key_in(store, document) != effect.key):
        raise DataError(
            f"a hook has changed the key of {decode(effect.key)!r} in {store.name!r}; only the rest may be changed",
            key=decode(effect.key),
        )
    settlement.validate(store, document)
    return text


def _edits(overlay: Overlay, carried: Mapping[Tuple[str, EncodedKey], _Carried]) -> Edits:
    edits: Edits = {}
    for (store, key), changes in carried.items():
        row = overlay.rows(store).get(key)
        if row is not None and row.text is not None:
            text = changes.apply(row.text)
            if text != row.text:
                edits[store, key] = text
    return edits
