"""A live query as the feed knows it: its runs, its latest value, and whom to tell."""

from __future__ import annotations

import itertools
import logging
import threading
import weakref
from collections.abc import Callable, Mapping
from contextvars import Context, ContextVar
from typing import Any, Optional, Tuple

from ...core.call import on_a_loop
from ...core.forks import renew_after_fork
from ...core.waits import Signal, Waiting, finish, until
from ..errors import DatabaseClosedError, InvalidStateError
from ..functions import no_coroutine
from .feed import Feed, Listener
from .sameness import same
from .tracking import LiveRun, Reads

__all__ = ["Subscription", "Watch"]

log = logging.getLogger("selfdb.indexie")

_ENOUGH = 1.0
"""Seconds after which a callback that was about to begin has done so, however busy the machine is."""

_numbers = itertools.count(1)
_watches: weakref.WeakValueDictionary[int, Watch] = weakref.WeakValueDictionary()

# What a context has seen last of each live query. A mapping that is never changed, but replaced: a task or a callback
# that begins with a copy of the context begins with what that had seen, and goes its own way from there.
_seen: ContextVar[Mapping[int, int]] = ContextVar("selfdb_indexie_seen", default={})  # noqa: B039


class Subscription:
    """Who is told of a live query's values.

    :ivar sent: the version that it was told last.
    """

    __slots__ = ("active", "callback", "on_error", "sent")

    def __init__(
        self,
        callback: Callable[[Any], object],
        on_error: Optional[Callable[[BaseException], object]],
        sent: int,
    ) -> None:
        self.callback = callback
        self.on_error = on_error
        self.sent = sent
        self.active = True


class Watch(Listener):
    """A function, what it gave last, and whom to tell when that changes. For any thread.

    It does not know the object in the user's hand, so that this can be noticed to be gone.

    :ivar number: its own in this process.
    :ivar latest: version and value, replaced together; version 0 before the first run has ended.
    :ivar error: why the last run failed, if it did.
    :ivar changed: rung with each new value, and at the end.
    :ivar starting: whether the first run is under way.
    """

    def __init__(self, function: Callable[[], Any], distinct: bool, name: str) -> None:
        self._function = function
        self._distinct = distinct
        self.name = name
        self.number = next(_numbers)
        self._feed: Optional[Feed] = None
        self._database: Any = None
        self._lock = threading.RLock()
        self._subscriptions: Tuple[Subscription, ...] = ()
        self._called: Optional[Subscription] = None
        self._quiet = Signal()
        self._untold: Optional[BaseException] = None
        self._abandoned = False
        self.reads = Reads()
        self.seq = -1
        self.epoch = 0
        self.latest: Tuple[int, Any] = (0, None)
        self.error: Optional[BaseException] = None
        self.changed = Signal()
        self.starting = False
        self.closed = False
        _watches[self.number] = self
        renew_after_fork(self)

    def _renew_in_child(self) -> None:
        # Another thread of the parent may have held the lock, or have been in a callback. It is not here.
        self._lock = threading.RLock()
        self._subscriptions = ()
        self._called = None
        self.changed, self._quiet = Signal(), Signal()
        self.closed = self.closed or self.starting or self._feed is not None

    @property
    def version(self) -> int:
        """How many values there have been."""
        return self.latest[0]

    def seen(self) -> int:
        """The version that was seen last in this context; 0 if none was."""
        return _seen.get().get(self.number, 0)

    def see(self, version: int) -> None:
        """It was seen in this context."""
        seen = _seen.get()
        if seen.get(self.number, 0) < version:
            _seen.set({**{number: last for number, last in seen.items() if number in _watches}, self.number: version})

    @property
    def feed(self) -> Feed:
        """The feed of the database that it reads.

        :raises InvalidStateError: before the first run.
        """
        if self._feed is None:
            raise InvalidStateError("this live query has not run yet; await its ready() first")
        return self._feed

    def check_open(self) -> None:
        """Return if it was not closed.

        :raises DatabaseClosedError: if it was.
        """
        if self.closed:
            raise DatabaseClosedError("the live query was closed, or its database was")

    def newer_than(self, version: int, timeout: Optional[float]) -> Waiting[bool]:
        """Wait for a value after ``version``, or the end; false if neither came in time."""
        return (yield from until(self.changed, lambda: self.version > version or self.closed, timeout))

    def waits_for_itself(self) -> bool:
        """Whether the caller is what the feed's thread is busy with, so that nothing new can come before it ends."""
        return self._feed is not None and self._feed.runs_here()

    # Runs

    def _claim(self) -> bool:
        with self._lock:
            if self.starting or self.version:
                return False
            self.starting = True
            return True

    def first_run(self) -> bool:
        """Make the first run, on the calling thread, and be a listener from then on; false if another makes it, or has.

        :raises InvalidStateError: if the function read nothing.
        """
        # Here and not where it is asked for: a task may be cancelled before a thread gets so far.
        if not self._claim():
            return False
        run = LiveRun(None, self._begin)
        try:
            value = self._executed(run)
            if run.seq < 0:
                raise InvalidStateError("the function of a live query has to read something of a database")
            self.reads, self.seq, self.epoch = run.reads, run.seq, run.epoch
            self._publish(value)
            self.feed.ready(self)
            self.check_open()  # whoever closed it before the feed knew of it could not take it out there
            return True
        except BaseException:
            if self._feed is not None:
                self._feed.discard(self)
                self._feed = self._database = None
            self.latest = (0, None)
            raise
        finally:
            self.starting = False
            self.changed.ring()

    def _begin(self, database: Any) -> None:
        self._database = database
        self._feed = database._feed
        self._feed.begin(self)

    def _executed(self, run: LiveRun) -> Any:
        run.enter()
        try:
            value = no_coroutine(self._function(), "use_live_query()")
            # A query that was not executed is: outside of the run nobody would note what it reads.
            read_all = getattr(value, "to_array", None) if _is_query(value) else None
            return value if read_all is None else read_all()
        finally:
            run.finish()

    def run(self) -> None:
        """Run again, on the feed's thread."""
        if self.closed:
            return
        run = LiveRun(self._database, lambda database: None)
        try:
            value = Context().run(self._executed, run)
        except BaseException as error:  # noqa: BLE001 - the thread has others to run, too
            self._failed(run, error)
            return
        self.reads = run.reads
        if run.seq >= 0:
            self.seq, self.epoch = run.seq, run.epoch
        self._publish(value)

    def _failed(self, run: LiveRun, error: BaseException) -> None:
        if self.closed:
            return
        log.warning(
            "%s failed; it keeps its value until something else of what it reads is changed", self, exc_info=True
        )
        reads = Reads()
        reads.merge(self.reads)
        reads.merge(run.reads)
        self.reads = reads
        if run.seq >= 0:
            self.seq, self.epoch = run.seq, run.epoch
        self.error = self._untold = error

    def _publish(self, value: Any) -> None:
        self.error = self._untold = None
        version, known = self.latest
        if version and self._distinct and same(known, value):
            return
        with self._lock:
            if self.closed:
                return
            self.latest = (version + 1, value)
        self.changed.ring()

    # Subscribers

    def subscribe(self, subscription: Subscription) -> Callable[[], None]:
        """Tell it of each value; returns what ends that."""
        with self._lock:
            self.check_open()
            self._subscriptions = (*self._subscriptions, subscription)
        if self.version > subscription.sent:
            self.feed.tell(self)
        return lambda: self._unsubscribe(subscription)

    def _unsubscribe(self, subscription: Subscription) -> None:
        with self._lock:
            subscription.active = False
            self._subscriptions = tuple(each for each in self._subscriptions if each is not subscription)
            over = self._abandoned and not self._subscriptions
        if over:
            self.end()
        if not on_a_loop() and not self.waits_for_itself():
            finish(until(self._quiet, lambda: self._called is not subscription, _ENOUGH))

    def tell(self) -> None:
        """Tell each subscriber what it has not been told yet."""
        error, self._untold = self._untold, None
        for subscription in self._subscriptions:
            if error is not None and subscription.on_error is not None:
                self._call(subscription, subscription.on_error, error)
            version, value = self.latest
            if version > subscription.sent:
                subscription.sent = version
                self._call(subscription, subscription.callback, value)

    def _call(self, subscription: Subscription, function: Callable[[Any], object], argument: Any) -> None:
        with self._lock:
            if self.closed or not subscription.active:
                return
            self._called = subscription  # who closes from here on waits
        try:
            # In a context of its own: what one callback enters, and does not leave, is not the next one's business.
            Context().run(self._called_with, subscription.sent, function, argument)
        except BaseException as error:
            log.exception("a callback of %s failed", self)
            self._report(subscription, function, error)
        finally:
            self._called = None
            self._quiet.ring()

    def _called_with(self, version: int, function: Callable[[Any], object], argument: Any) -> None:
        self.see(version)
        function(argument)

    def _report(self, subscription: Subscription, function: Callable[[Any], object], error: BaseException) -> None:
        if subscription.on_error is None or function is subscription.on_error or not subscription.active:
            return
        try:
            Context().run(subscription.on_error, error)
        except BaseException:
            log.exception("an error callback of %s failed", self)

    # The end

    def abandon(self) -> None:
        """Nobody holds the live query any more. Takes no lock, for the garbage collector may call it anywhere."""
        feed = self._feed
        if feed is not None:
            feed.abandon(self)

    def orphan(self) -> bool:
        """Nobody holds it any more; it goes on for its subscribers, while there are any."""
        with self._lock:
            self._abandoned = True
            if self._subscriptions:
                return False
        self.end()
        return True

    def end(self) -> None:
        """Tell nobody of anything any more. Harmless when repeated."""
        with self._lock:
            self.closed = True
            for subscription in self._subscriptions:
                subscription.active = False
            self._subscriptions = ()
        if self._feed is not None:
            self._feed.discard(self)
        self.changed.ring()

    def quiet(self) -> Waiting[bool]:
        """Wait until the callback that is under way, if one is, has ended, or has certainly begun."""
        if self.waits_for_itself():
            return True
        return (yield from until(self._quiet, lambda: self._called is None, _ENOUGH))

    def __str__(self) -> str:
        return f"live query {self.name}"


def _is_query(value: Any) -> bool:
    from ..queries.collection import Collection
    from ..tables.table import Table

    return isinstance(value, (Collection, Table))
