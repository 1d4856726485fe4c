"""What has to be made anew in a forked child: locks that a vanished thread held, sockets of the parent."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Protocol

__all__ = ["ForkAware", "load_before_fork", "renew_after_fork"]


class ForkAware(Protocol):
    """An object that knows how to go on in a forked child. It may have a ``_prepare_fork`` too, which is called
    before, on the thread that forks: it must not wait for anything."""

    def _renew_in_child(self) -> None: ...


_aware: weakref.WeakSet[ForkAware] = weakref.WeakSet()
_aware_lock = threading.RLock()  # a signal handler may fork, or make such an object, where its own thread makes one


def renew_after_fork(thing: ForkAware) -> None:
    """Call ``thing._renew_in_child()`` in every child that this process forks while ``thing`` lives."""
    with _aware_lock:
        _aware.add(thing)


_load: list[Callable[[], object]] = []


def load_before_fork(load: Callable[[], object]) -> None:
    """Have ``load()`` import whatever may be imported later, before this process forks with several threads.

    A child whose parent was just importing something on another thread waits for that import for ever.
    """
    _load.append(load)


def _present() -> list[ForkAware]:
    while True:
        try:
            return list(_aware)
        except RuntimeError:  # another thread made one meanwhile; its lock may be held for as long as it likes
            continue


def _before() -> None:
    if threading.active_count() > 1:
        for load in _load:
            load()
    for thing in _present():
        prepare = getattr(thing, "_prepare_fork", None)
        if prepare is not None:
            prepare()


def _in_child() -> None:
    # The only thread of the child runs this before anything else does: no lock is needed, and the one
    # that another thread of the parent may have held at the fork would never be released.
    global _aware_lock
    _aware_lock = threading.RLock()
    for thing in list(_aware):
        thing._renew_in_child()


if hasattr(os, "register_at_fork"):  # pragma: no branch - absent on Windows, which does not fork
    os.register_at_fork(before=_before, after_in_child=_in_child)
