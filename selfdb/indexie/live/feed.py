"""The database's changes as they come, from this process and others, and the thread that acts on them."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from contextvars import Context
from typing import Any, Deque, Dict, List, NamedTuple, Optional, Protocol, Tuple

from ...core.call import acting_thread
from ...core.forks import renew_after_fork
from ...core.waits import Signal, Waiting, until
from ..errors import DatabaseClosedError, InvalidStateError, StorageError
from ..file.log import EVERYTHING, NEWEST, SINCE, Changes, ChangeSet, decode
from .interests import Interests
from .tracking import Reads

__all__ = ["Feed", "Listener"]

log = logging.getLogger("selfdb.indexie")

_BATCH = 500
_MISSED = 1000

_REST = 3
"""How many times as long as it was busy the feed rests, at most ``poll_interval``."""


class Listener(Protocol):
    """Who depends on what it has read. A hashable object that is equal to itself only.

    :ivar reads: what it has read; replaced, never changed.
    :ivar seq: commit seq of the state that it has read.
    :ivar epoch: the newest change of an overlay in that state.
    """

    reads: Reads
    seq: int
    epoch: int

    def run(self) -> None:
        """Read again, because something of ``reads`` was changed. On the feed's thread; raises nothing."""

    def tell(self) -> None:
        """Tell others of what is new. On the feed's thread; raises nothing."""

    def orphan(self) -> bool:
        """Nobody holds it any more; whether it may go. On the feed's thread."""

    def end(self) -> None:
        """The database was closed."""


class _Event(NamedTuple):
    """A commit, or (``seq`` -1) a change of an overlay."""

    seq: int
    epoch: int
    changes: Changes

    def is_news_for(self, listener: Listener) -> bool:
        return self.epoch > listener.epoch if self.seq < 0 else self.seq > listener.seq


class _Start:
    """A listener between its registration and the end of its first run."""

    def __init__(self, blind: bool) -> None:
        self.blind = blind
        self.missed: List[_Event] = []
        self.everything = False

    def add(self, event: _Event) -> None:
        if len(self.missed) < _MISSED:
            self.missed.append(event)
        else:
            self.everything = True


class Feed:
    """One reader of the log for all live queries of a database, on a daemon thread that lives while there are any.

    A commit of this process only wakes it; what was changed, it learns from the log, as with commits of others, for
    which it asks the file every ``poll_interval``. All methods may be called from any thread.

    A listener is registered before its first run, and is told of what happened since the state that it has read: so
    nothing can fall between. Later runs happen on this thread, which reads the log only between them.
    """

    def __init__(self, database: Any) -> None:
        self._database = database
        renew_after_fork(self)
        self._renew_in_child()

    def _renew_in_child(self) -> None:
        self._lock = threading.RLock()
        self.settled = Signal()
        self._forget_all()

    def _forget_all(self) -> None:
        self._thread: Optional[threading.Thread] = None
        self._gate: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._rung = False
        self._listeners: Dict[Listener, None] = {}
        self._starting: Dict[Listener, _Start] = {}
        self._interests: Interests[Listener] = Interests()
        self._dirty: Dict[Listener, None] = {}
        self._running: Optional[Listener] = None
        self._untold: Dict[Listener, None] = {}
        self._orphans: Deque[Listener] = deque()
        self._overlays: Deque[_Event] = deque()
        self._epoch = 0
        self._epoch_told = 0
        self._cursor = -1
        self._looked_at: Tuple[Any, int] = (None, 0)
        self._failing = False

    # What others tell

    @property
    def listening(self) -> bool:
        """Whether anybody depends on anything."""
        return bool(self._listeners)

    def wake(self) -> None:
        """This process has committed. Costs next to nothing, whether anybody listens or not, and never waits."""
        if self._listeners:
            self._ring()

    def _ring(self) -> None:
        if not self._rung:
            self._rung = True
            self._gate.put(None)

    def overlay_changed(self, changes: ChangeSet, epoch: int) -> None:
        """A visible overlay was written to, or taken away; readers see it since ``epoch``."""
        if self._listeners:
            event = _Event(-1, epoch, changes.changes())
            with self._lock:
                self._overlays.append(event)
                self._epoch_told = max(self._epoch_told, epoch)
            self._ring()

    # Listeners

    def begin(self, listener: Listener) -> None:
        """From now on changes are kept for it. Called before it reads for the first time."""
        with self._lock:
            self._listeners[listener] = None
            self._starting[listener] = _Start(blind=self._thread is None)

    def ready(self, listener: Listener) -> None:
        """It has read: from now on it is run whenever something of that is changed.

        :raises DatabaseClosedError: if the database was closed meanwhile.
        """
        with self._lock:
            start = self._starting.pop(listener, None)
            if start is None:
                raise DatabaseClosedError("the database was closed while the live query ran for the first time")
            self._interests.put(listener, listener.reads)
            behind = start.blind and self._thread is not None and listener.seq < self._cursor
            if behind or start.everything or any(_concerns(event, listener) for event in start.missed):
                self._dirty[listener] = None
            self._untold[listener] = None
            if self._thread is None:
                self._cursor = listener.seq
                self._begin_thread()
            self._ring()

    def _begin_thread(self) -> None:
        # In a context of its own: the thread is in nobody's transaction, whoever begins it.
        thread = threading.Thread(
            target=Context().run, args=(self._work, self._gate), name="selfdb-indexie-live", daemon=True
        )
        self._thread = thread
        try:
            thread.start()
        except RuntimeError as error:  # there are too many, or the interpreter is about to end
            self._thread = None
            raise InvalidStateError("no thread for live queries could be started") from error

    def discard(self, listener: Listener) -> None:
        """It is told of nothing any more. Harmless when repeated."""
        with self._lock:
            for register in (self._listeners, self._starting, self._dirty, self._untold):
                register.pop(listener, None)
            self._interests.discard(listener)
            self._ring()
        self.settled.ring()

    def abandon(self, listener: Listener) -> None:
        """Nobody holds it any more. Takes no lock, for the garbage collector may call it anywhere."""
        self._orphans.append(listener)
        self._ring()

    def run_again(self, listener: Listener) -> None:
        """Run it, whether anything was changed or not."""
        with self._lock:
            if listener in self._interests:
                self._dirty[listener] = None
                self._ring()

    def tell(self, listener: Listener) -> None:
        """Call its ``tell`` soon."""
        with self._lock:
            if listener in self._interests:
                self._untold[listener] = None
                self._ring()

    def runs_here(self) -> bool:
        """Whether this is part of a callback or a run, so that no other can begin before it has ended."""
        return acting_thread() is self._thread

    def newest(self) -> Tuple[int, int]:
        """The newest commit, and the newest change of an overlay."""
        epoch = self._epoch_told
        return int(self._database._connections.reader().one(NEWEST)[0]), epoch

    def reflected(self, listener: Listener, seq: int, epoch: int, timeout: Optional[float]) -> Waiting[bool]:
        """Wait until it has read all up to ``seq`` and ``epoch`` that concerns it; false if not in time."""
        self._ring()

        def reached() -> bool:
            with self._lock:
                if listener not in self._listeners:
                    return True
                return (
                    self._cursor >= seq
                    and self._epoch >= epoch
                    and listener not in self._dirty
                    and listener not in self._starting
                    and listener not in self._untold
                    and listener is not self._running
                )

        return (yield from until(self.settled, reached, timeout))

    def close(self) -> None:
        """End all listeners, and the thread: it is waited for, unless this is one of its callbacks."""
        with self._lock:
            listeners, thread, gate = list(self._listeners), self._thread, self._gate
            self._forget_all()
        gate.put(None)
        for listener in listeners:
            listener.end()
        self.settled.ring()
        if thread is not None and acting_thread() is not thread:
            thread.join(self._database._timing.join)

    # The thread

    def _work(self, gate: queue.SimpleQueue[None]) -> None:
        me = threading.current_thread()
        poll_interval = self._database._timing.poll_interval
        rest = 0.0
        while True:
            _wait(gate, poll_interval)
            _wait(gate, rest - time.monotonic())
            with self._lock:
                if self._thread is not me:
                    return
                self._rung = False  # before the log is read: who commits from here on rings again
                self._bury()
                if not self._listeners:
                    self._thread = None
                    return
            begun = time.monotonic()
            try:
                acted = self._turn(me)
            except Exception:
                log.exception("the thread for live queries goes on after an error of its own")
                acted = True
            if acted:
                # A single change is acted on at once. Of many in a row the writers keep the better part of the time,
                # and those that come meanwhile cost one run.
                now = time.monotonic()
                rest = now + min((now - begun) * _REST, poll_interval)
            self.settled.ring()

    def _turn(self, me: threading.Thread) -> bool:
        """Take in what was changed, and act on it. Whether there was anything to do."""
        found = False
        try:
            found = self._look()
        except DatabaseClosedError:
            # It was closed on the way here, or has closed itself since another process upgraded the file.
            if self._thread is me:
                self.close()
            return False
        except StorageError:
            if not self._failing:
                log.exception("the change log could not be read; it is tried again with each poll")
            self._failing = True
        else:
            self._failing = False
        return self._act(me) or found

    def _bury(self) -> None:
        while self._orphans:
            listener = self._orphans.popleft()
            if listener.orphan():
                self.discard(listener)

    def _look(self) -> bool:
        """Take in what was changed since the last look. Whether there was anything."""
        found = bool(self._overlays)
        with self._lock:  # all of them: two threads may have told in another order than that of their epochs
            while self._overlays:
                event = self._overlays.popleft()
                self._take_in(event)
                self._epoch = max(self._epoch, event.epoch)
        connection = self._database._connections.reader()
        with connection.lock:  # so that it is one of SQLite's connections that is asked; each has a count of its own
            look = (connection.raw, int(connection.one("PRAGMA data_version")[0]))
        if look == self._looked_at:
            return found
        while True:
            rows = connection.all(SINCE, (self._cursor, _BATCH))
            events = [_Event(seq, 0, decode(body)) for seq, body, _ in rows]
            with self._lock:
                if self._thread is not threading.current_thread():
                    return found  # closed meanwhile, and perhaps opened again, with another thread's notes
                if rows and (rows[0][2] or 0) > self._cursor:
                    self._take_in(_Event(int(rows[0][2]), 0, {EVERYTHING: None}))
                for event in events:
                    self._take_in(event)
                if rows:
                    self._cursor = events[-1].seq
            found = found or bool(rows)
            if len(rows) < _BATCH:
                break
        self._looked_at = look
        return found

    def _take_in(self, event: _Event) -> None:
        for start in self._starting.values():
            start.add(event)
        for listener in self._interests.concerned(event.changes):
            if event.is_news_for(listener):
                self._dirty[listener] = None

    def _act(self, me: threading.Thread) -> bool:
        """Run each listener that has to be, once, and let it tell. Whether there was any."""
        with self._lock:
            waiting = list(self._dirty)
        for listener in waiting:
            self._tell_untold(me)  # a new subscriber has what there is before what comes next
            with self._lock:
                if self._thread is not me:
                    return False
                if listener not in self._dirty:
                    continue  # it was discarded meanwhile
                del self._dirty[listener]
                self._running = listener
            listener.run()
            with self._lock:
                if self._thread is not me:
                    return False
                if listener in self._interests:
                    self._interests.put(listener, listener.reads)
                self._untold.pop(listener, None)
            listener.tell()
            with self._lock:
                if self._thread is not me:
                    return False
                self._running = None  # only now: who waits for what is new finds it told, too
            self.settled.ring()
        self._tell_untold(me)
        return bool(waiting)

    def _tell_untold(self, me: threading.Thread) -> None:
        if not self._untold:
            return
        with self._lock:
            untold = list(self._untold)
        for listener in untold:
            with self._lock:
                if self._thread is not me:
                    return
                if listener not in self._untold:
                    continue
                del self._untold[listener]
                self._running = listener
            listener.tell()
            with self._lock:
                if self._thread is not me:
                    return
                self._running = None
            self.settled.ring()


def _wait(gate: queue.SimpleQueue[None], seconds: float) -> None:
    """Until somebody opens the gate, or for ``seconds``."""
    if seconds > 0:
        try:
            gate.get(timeout=seconds)
        except queue.Empty:
            return


def _concerns(event: _Event, listener: Listener) -> bool:
    return event.is_news_for(listener) and listener.reads.touched_by(event.changes)
