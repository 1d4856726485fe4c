"""Live queries: the result of a function that reads the store, kept up to date while the store changes."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from typing import Any, Generic, Optional, TypeVar, cast

from ...core.marks import passing
from ...core.waits import END, Waiting, ask, until, waiting, work
from ..errors import IndexieTimeoutError, InvalidArgumentError, InvalidStateError
from ..functions import function_for, no_coroutine
from .watch import Subscription, Watch

__all__ = ["LiveQuery", "LiveValues", "use_live_query"]

T = TypeVar("T")


class LiveQuery(Generic[T]):
    """A function's result that follows the database. Made by :func:`use_live_query`; may be shared by threads.

    Values are handed out as they are, to everybody who asks: do not change them.

    One that nobody holds any more and that has no subscribers closes itself.

    :param fn: see :func:`use_live_query`; it runs for the first time in :meth:`ready`.
    :param distinct: whether an equal result is kept from everybody.
    :param name: what logs call it; by default what the function is called.
    """

    def __init__(self, fn: Callable[[], Any], distinct: bool = True, name: Optional[str] = None) -> None:
        function_for(fn, "use_live_query()")
        self._watch = Watch(fn, distinct, name or getattr(fn, "__qualname__", None) or repr(fn))
        # Not at the interpreter's exit: then there is nothing left that it would be good for.
        self._finalizer = weakref.finalize(self, self._watch.abandon)
        self._finalizer.atexit = False

    def __reduce__(self) -> Any:
        raise TypeError("a LiveQuery cannot be pickled or copied; make another one with use_live_query()")

    def __repr__(self) -> str:
        state = ", closed" if self.closed else ""
        return f"<LiveQuery {self._watch.name}, version {self._watch.version}{state}>"

    @waiting
    def ready(self) -> Waiting[T]:
        """The first value, for which the function is run if it was not yet. At once for one of ``use_live_query``.

        :raises InvalidStateError: if the function read nothing, or of more than one database.
        :raises DatabaseClosedError: if it was closed before.

        What the function raises comes out as it is, and nothing is registered then.
        """
        yield from self._started()
        return self.value

    def _started(self) -> Waiting[None]:
        watch = self._watch
        while not watch.version:
            watch.check_open()
            if not (yield from work(watch.first_run)):
                yield from until(watch.changed, lambda: not watch.starting, None)

    @property
    def value(self) -> T:
        """The latest result. Never waits. ``None`` before the first run, and the last one after :meth:`close`."""
        version, value = self._watch.latest
        self._watch.see(version)
        return cast(T, value)

    def __call__(self) -> T:
        """The same as :attr:`value`."""
        return self.value

    @property
    def version(self) -> int:
        """1 for the first value, and one more for each one published since; 0 before the first run."""
        version = self._watch.version
        self._watch.see(version)
        return version

    @property
    def error(self) -> Optional[BaseException]:
        """What the function raised when it ran last; ``None`` when it did not."""
        return self._watch.error

    @property
    def closed(self) -> bool:
        """Whether it was closed, by itself or with its database; always so in a forked child."""
        return self._watch.closed

    @property
    def name(self) -> str:
        """What logs call it."""
        return self._watch.name

    @passing(callbacks=("cb", "on_error"))
    def subscribe(
        self,
        cb: Callable[[T], object],
        *,
        on_error: Optional[Callable[[BaseException], object]] = None,
        immediate: bool = True,
    ) -> Callable[[], None]:
        """Call ``cb(value)`` on the database's own thread: with the current value, then with each later one.

        Callbacks run one at a time for all live queries of a database, and hold up no writer. One may write, subscribe,
        unsubscribe and close. What it raises is logged and given to ``on_error``; others are called all the same.

        :param on_error: given what the callback raised, and what the function raised when it was run again.
        :param immediate: whether it is called with the current value.
        :returns: a function that ends it. The callback does not begin after that has returned; if it is under way on
            another thread, its end is waited for, for up to a second (not on an event loop).
        :raises DatabaseClosedError: if the live query was closed.
        """
        function_for(cb, "subscribe()")
        if on_error is not None:
            function_for(on_error, "on_error")
        return self._watch.subscribe(Subscription(cb, on_error, 0 if immediate else self._watch.version))

    @waiting
    def wait_for_change(self, timeout: Optional[float] = None, since: Optional[int] = None) -> Waiting[bool]:
        """Wait for a newer value than the caller has seen; false if none came within ``timeout`` seconds.

        :param since: a version that the caller knows. By default the last that was seen in this context (thread or
            task) through :attr:`value`, :attr:`version`, ``use_live_query``, an iteration or this method: what was
            published between that and this call is not missed. Who has seen none yet has nothing to wait for.
        :raises DatabaseClosedError: if it is closed, and there is nothing newer.
        :raises InvalidStateError: in a callback or in a live query's function, before whose end nothing newer comes.
        """
        watch = self._watch
        _check_seconds(timeout)
        yield from self._started()
        known = watch.seen() if since is None else since
        if watch.version <= known:
            self._check_may_wait(timeout)
        yield from watch.newer_than(known, timeout)
        version = watch.version
        if version <= known:
            watch.check_open()
            return False
        watch.see(version)
        return True

    @waiting(asks=("pred",))
    def wait_until(self, pred: Callable[[T], object], timeout: Optional[float] = None) -> Waiting[T]:
        """The first value, from the current one on, for which ``pred(value)`` is true; it is called by this thread.

        :raises IndexieTimeoutError: if there was none within ``timeout`` seconds.
        :raises DatabaseClosedError: if it is closed before.
        :raises InvalidStateError: where :meth:`wait_for_change` does.
        """
        watch = self._watch
        _check_seconds(timeout)
        if not callable(pred):
            raise InvalidArgumentError(f"wait_until() takes a function of the value, not {pred!r}")
        yield from self._started()
        end = None if timeout is None else time.monotonic() + timeout
        tried = 0
        while True:
            version, value = watch.latest
            if version > tried:
                tried = version
                watch.see(version)
                if no_coroutine((yield from ask(pred, value)), "wait_until()"):
                    return cast(T, value)
                continue
            watch.check_open()
            self._check_may_wait(timeout)
            left = None if end is None else end - time.monotonic()
            if not (yield from watch.newer_than(tried, left)):
                raise IndexieTimeoutError(f"{watch} had no such value within {timeout:g} s")

    def _check_may_wait(self, timeout: Optional[float]) -> None:
        if (timeout is None or timeout > 0) and self._watch.waits_for_itself():
            raise InvalidStateError(
                "a callback of a live query cannot wait for a newer value: there is none before its end"
            )

    def __iter__(self) -> LiveValues[T]:
        """The current value, then each newer one; one that was overtaken is left out. Ends with :meth:`close`."""
        return LiveValues(self)

    def refresh(self) -> None:
        """Have the function run again, whether anything was changed or not. Does not wait; :meth:`settle` does.

        :raises DatabaseClosedError: if it was closed.
        """
        self._watch.check_open()
        self._watch.feed.run_again(self._watch)

    @waiting
    def settle(self, timeout: Optional[float] = None) -> Waiting[bool]:
        """Wait until :attr:`value` shows everything that was committed before this call, by whichever process, and
        subscribers have been told of it.

        :returns: false if it does not within ``timeout`` seconds, or since the function failed: see :attr:`error`.
        :raises DatabaseClosedError: if it is closed before.
        :raises InvalidStateError: where :meth:`wait_for_change` does.
        """
        watch = self._watch
        _check_seconds(timeout)
        watch.check_open()
        self._check_may_wait(timeout)
        yield from self._started()
        feed = watch.feed
        seq, epoch = yield from work(feed.newest)
        reached = yield from feed.reflected(watch, seq, epoch, timeout)
        watch.check_open()
        return reached and watch.error is None

    @waiting
    def close(self) -> Waiting[None]:
        """Follow the database no more. Harmless when repeated; from any thread, and from a callback.

        No callback begins after it has returned: if one is under way its end is waited for, for up to a second. Who
        waits for a change gets a :class:`DatabaseClosedError`; iterations end.
        """
        self._finalizer.detach()
        self._watch.end()
        yield from self._watch.quiet()

    def __enter__(self) -> LiveQuery[T]:
        return self

    @waiting
    def __exit__(self, *exc_info: object) -> Waiting[None]:
        self._watch.end()
        yield from self._watch.quiet()


def _check_seconds(timeout: Any) -> None:
    """Refuse what would wait for ever, or fail in the middle; what is below 0 is over already."""
    if timeout is None or (isinstance(timeout, (int, float)) and timeout == timeout):
        return
    raise InvalidArgumentError(
        f"timeout={timeout!r}: it is a number of seconds, or None to wait for as long as it takes"
    )


class LiveValues(Generic[T]):
    """An iteration over a live query's values. Independent of any other; for one thread at a time."""

    def __init__(self, query: LiveQuery[T]) -> None:
        self._query = query  # which must not close itself while somebody iterates
        self._last = 0

    def __iter__(self) -> LiveValues[T]:
        return self

    @waiting
    def __next__(self) -> Waiting[T]:
        """Wait for a value that was not yielded yet.

        :raises StopIteration: when the live query was closed.
        :raises InvalidStateError: in a callback of a live query, before whose end nothing newer comes.
        """
        watch = self._query._watch
        if not watch.version and not watch.closed:
            yield from self._query._started()
        if watch.version <= self._last and not watch.closed:
            self._query._check_may_wait(None)
        yield from watch.newer_than(self._last, None)
        version, value = watch.latest
        if watch.closed or version <= self._last:
            return cast(T, END)
        self._last = version
        watch.see(version)
        return cast(T, value)


@passing(callbacks=("fn",))
def use_live_query(fn: Callable[[], Any], *, distinct: bool = True, name: Optional[str] = None) -> LiveQuery[Any]:
    """Run ``fn()`` now, and again whenever something of what it has read is changed, by whichever process.

    What it reads is known by index and range: ``where("age").above(60)`` is not run again for a row of 20. It reads one
    database, from one snapshot, outside of any transaction of the caller, and must not write. A query or table that it
    returns is read as with ``to_array()``. The first run happens here; what it raises comes out as it is, and nothing
    is registered then. Later ones happen on the database's thread for live queries; one that fails keeps the value and
    is told by :attr:`LiveQuery.error` and to ``on_error`` callbacks.

    ::

        adults = use_live_query(lambda: db.users.where("age").above(18).to_array())
        for rows in adults:
            draw(rows)

    :param distinct: whether a result that equals the one before is not published.
    :param name: what logs call it.
    :raises InvalidArgumentError: if ``fn`` is no function, or one whose result would have to be awaited.
    :raises InvalidStateError: if it read nothing, or of more than one database.
    :raises ReadOnlyError: if it wrote.
    """
    query: LiveQuery[Any] = LiveQuery(fn, distinct, name)
    query.ready()
    return query
