"""Hooks: what ``table.hook`` takes, and how one is called."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import Any, Dict, List, NamedTuple, Optional, Protocol, Tuple, TypeVar, overload

from ...core.call import carry
from ...core.marks import passing
from ..errors import InvalidArgumentError

__all__ = ["Drop", "Hook", "Retry", "TableHooks", "call", "in_hook", "make_hook"]

CallbackT = TypeVar("CallbackT", bound=Callable[..., Any])

_inside: ContextVar[bool] = carry(ContextVar("selfdb_indexie_hook", default=False))


_LONGEST_WAIT = 1e9
"""30 years; what is much longer leads to no date any more."""


# Words to the outbox, and no errors of the store: a hook that catches those of its own calls, ``except SelfDBError``,
# must not swallow them.


class Retry(Exception):
    """Raised by a durable hook: try again, but not before ``after`` seconds have passed, a thousand million at most.

    The outbox takes it; nobody else ever gets it. Where a hook runs within the call it is a failure like any other: the
    cause of a :class:`~selfdb.indexie.HookError`.
    """

    def __init__(self, after: float = 0.0, reason: str = "") -> None:
        if isinstance(after, bool) or not isinstance(after, (int, float)) or not 0 <= after <= _LONGEST_WAIT:
            raise InvalidArgumentError(f"Retry(after=...) is a number of seconds from 0 to {_LONGEST_WAIT:g}")
        super().__init__(reason or f"to be tried again after {after} s")
        self.after = after
        self.reason = reason

    def __reduce__(self) -> Tuple[Any, ...]:
        return type(self), (self.after, self.reason)


class Drop(Exception):
    """Raised by a durable hook: this will never succeed. The outbox keeps the entry as a dead one.

    What is said of :class:`Retry` holds for it too.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class Hook(NamedTuple):
    """One registration."""

    name: str
    callback: Callable[..., Any]
    durable: bool


def _name_of(callback: Callable[..., Any]) -> Optional[str]:
    """A name that the callback has in every run, if there is one."""
    module, qualname = getattr(callback, "__module__", None), getattr(callback, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(qualname, str) or "<lambda>" in qualname:
        return None
    return f"{module}.{qualname}"


async def _await(awaitable: Any) -> None:
    await awaitable


def _run(coroutine: Any) -> None:
    import asyncio  # only who has coroutine functions pays for it

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(coroutine)
        return
    # Somebody calls the blocking store from a coroutine: its loop cannot run another one inside.
    outcome: List[BaseException] = []

    def apart() -> None:
        try:
            asyncio.run(coroutine)
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            outcome.append(error)

    thread = threading.Thread(target=copy_context().run, args=(apart,), name="selfdb-indexie-hook", daemon=True)
    thread.start()
    thread.join()
    if outcome:
        raise outcome.pop()


def call(hook: Hook, given: Dict[str, Any], run: Callable[[Any], None] = _run) -> None:
    """Call a hook and return when it has ended; what it gives is ignored, an awaitable is awaited.

    :param run: what runs a coroutine to its end.
    :raises BaseException: whatever the hook raises.
    """

    def there() -> None:
        _inside.set(True)
        result = hook.callback(given)
        if inspect.isawaitable(result):
            run(_await(result))

    copy_context().run(there)


def make_hook(op: str, callback: Callable[..., Any], name: Optional[str], durable: bool) -> Hook:
    """A registration of ``callback``.

    :raises InvalidArgumentError: when it cannot be called, or is durable and has no name.
    """
    if not callable(callback):
        raise InvalidArgumentError(f"a hook is a function of one argument, not {callback!r}")
    if name is not None and (not isinstance(name, str) or not name):
        raise InvalidArgumentError(f"name={name!r}: a hook's name is a text that is not empty")
    found = name or _name_of(callback)
    if found is None:
        if durable:
            raise InvalidArgumentError(
                f"a durable hook needs a name that is the same in every run, and {callback!r} has none: "
                f'on_{op}(callback, name="push"), or durable=False to be told once and from memory'
            )
        found = repr(callback)
    return Hook(found, callback, durable)


def in_hook() -> bool:
    """Whether this code is part of a hook."""
    return _inside.get()


class Registry(Protocol):
    """Where hooks are kept."""

    def register(
        self, table: str, op: str, callback: Callable[..., Any], name: Optional[str], durable: bool
    ) -> object: ...

    def unregister(self, table: str, callback: Callable[..., Any]) -> bool: ...


class TableHooks:
    """Who is told of one table's changes: ``table.hook``. May be shared by threads.

    A hook is called with one argument, a dict: ``table``, ``op`` (``"add"``, ``"update"``, ``"delete"``), ``key``,
    ``item`` (the new document; ``None`` when deleted), ``old`` (the one before), ``changes`` (of an update: by dotted
    path), ``all`` (the whole table was cleared), ``operation_id`` (the same at every attempt: use it as idempotency
    key), ``attempt`` (from 1), ``created_at`` (UTC), ``optimistic``. What it returns is ignored; a coroutine function
    is run to its end.

    Writes inside a hook are silent, unless they say ``silent=False``.
    """

    def __init__(self, hooks: Registry, table: str) -> None:
        self._hooks = hooks
        self._table = table

    @overload
    def on_add(self, callback: CallbackT, *, name: Optional[str] = ..., durable: bool = ...) -> CallbackT: ...

    @overload
    def on_add(
        self, callback: None = ..., *, name: Optional[str] = ..., durable: bool = ...
    ) -> Callable[[CallbackT], CallbackT]: ...

    @passing(callbacks=("callback",))
    def on_add(
        self, callback: Optional[Callable[..., Any]] = None, *, name: Optional[str] = None, durable: bool = True
    ) -> Any:
        """Call ``callback(payload)`` for each row that is new. Also a decorator, with or without arguments.

        :param name: what the outbox knows a durable hook by, the same in every run of the program and unlike that of
            any other hook of this table and operation; by default the function's module and qualified name.
        :param durable: keep an entry in the file until the hook has succeeded, in this run or a later one. Otherwise
            it is called once, in the background, and forgotten when the program ends.
        :raises InvalidArgumentError: when a durable hook has no such name, or another has it.
        """
        return self._register("add", callback, name, durable)

    @overload
    def on_update(self, callback: CallbackT, *, name: Optional[str] = ..., durable: bool = ...) -> CallbackT: ...

    @overload
    def on_update(
        self, callback: None = ..., *, name: Optional[str] = ..., durable: bool = ...
    ) -> Callable[[CallbackT], CallbackT]: ...

    @passing(callbacks=("callback",))
    def on_update(
        self, callback: Optional[Callable[..., Any]] = None, *, name: Optional[str] = None, durable: bool = True
    ) -> Any:
        """Call ``callback(payload)`` for each row whose document was changed. Otherwise as :meth:`on_add`."""
        return self._register("update", callback, name, durable)

    @overload
    def on_delete(self, callback: CallbackT, *, name: Optional[str] = ..., durable: bool = ...) -> CallbackT: ...

    @overload
    def on_delete(
        self, callback: None = ..., *, name: Optional[str] = ..., durable: bool = ...
    ) -> Callable[[CallbackT], CallbackT]: ...

    @passing(callbacks=("callback",))
    def on_delete(
        self, callback: Optional[Callable[..., Any]] = None, *, name: Optional[str] = None, durable: bool = True
    ) -> Any:
        """Call ``callback(payload)`` for each row that is deleted, and once, with ``all``, when the table is cleared.

        Otherwise as :meth:`on_add`.
        """
        return self._register("delete", callback, name, durable)

    @passing(callbacks=("callback",))
    def off(self, callback: Callable[..., Any]) -> bool:
        """Call it no more in this process; whether it was registered.

        Entries that need a durable hook are made as before, for other processes and for the next run:
        ``outbox.retire()`` ends that.
        """
        return self._hooks.unregister(self._table, callback)

    def _register(self, op: str, callback: Optional[Callable[..., Any]], name: Optional[str], durable: bool) -> Any:
        if callback is None:
            return lambda given: self._register(op, given, name, durable)
        self._hooks.register(self._table, op, callback, name, durable)
        return callback

    def __reduce__(self) -> Any:
        raise TypeError("a table's hooks cannot be pickled or copied; they belong to its database")

    def __repr__(self) -> str:
        return f"<TableHooks of {self._table!r}>"
