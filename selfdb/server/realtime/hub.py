"""The hub of a server process: it reads each event once and tells every socket that has joined its table.

Reading happens in one thread, all else on the loop. Joins are decided by the same reading as events, and
admitted right after these were told: so it is known exactly from which commit on a channel has been there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Optional

from starlette.concurrency import run_in_threadpool

from ...realtime.frames import Frame
from ..services import Services
from .channel import Channel, may_read
from .journal import KEEP, Batch, Event, Journal
from .notices import Notices
from .outbox import ROLE, ROW_KINDS, SESSIONS, TABLE
from .socket import IDLE_SECONDS, Socket
from .wire import Broadcast

__all__ = ["Hub"]

logger = logging.getLogger("selfdb.server.realtime")

_TICK_SECONDS = 0.25
#: Servers that share a database look this often even when nothing woke them.
_LOOK_SECONDS = 1.0
_RETRY_SECONDS = 0.5
_PRUNE_SECONDS = 60.0
#: Whoever could not read for so long may have missed events that were removed.
_STALE_SECONDS = KEEP.total_seconds() / 2
#: How long an ended session is remembered; opening a socket takes less.
_REMEMBER_SECONDS = 120.0
_TOLD_AT_A_STRETCH = 2000


@dataclass
class _Join:
    socket: Socket
    frame: Frame
    name: str
    done: asyncio.Future[None]


class Hub:
    """Knows all sockets and channels of this process. Belongs to one loop; see ``start``."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.running = False
        self._journal = Journal(services.database)
        self._sockets: Dict[Socket, None] = {}
        self._sessions: Dict[str, Dict[Socket, None]] = {}
        self._tables: Dict[str, Dict[Channel, None]] = {}
        self._public: Dict[str, bool] = {}
        self._ended: Dict[str, float] = {}
        self._joins: List[_Join] = []
        self._cursor = 0
        self._read_at = 0.0
        self._troubled = False
        self._tasks: List[asyncio.Task[None]] = []
        self._notices: Optional[Notices] = None

    async def start(self) -> None:
        """Begin to read events; sockets may come when it returns."""
        loop = asyncio.get_running_loop()
        self._awake = asyncio.Event()
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="selfdb-realtime")
        self._cursor = await loop.run_in_executor(self._reader, self._journal.newest)
        self._read_at = time.time()
        self.services.doorbell.attach(loop, self._awake.set)
        if self.services.database.dialect == "postgresql":
            self._notices = Notices(self.services.database, self.services.doorbell)
            self._notices.start()
        self._tasks = [loop.create_task(work) for work in (self._pump(), self._watch(), self._prune())]
        self.running = True

    async def stop(self) -> None:
        """End all of it. Harmless when it does not run."""
        if not self.running:
            return
        self.running = False
        self.services.doorbell.detach()
        for socket in list(self._sockets):
            socket.close(1012, "restart")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._fail_joins(self._joins)
        if self._notices is not None:
            await asyncio.get_running_loop().run_in_executor(self._reader, self._notices.stop)
        self._reader.shutdown()

    # -- sockets and channels ----------------------------------------------------------------------------

    def add(self, socket: Socket) -> None:
        """A socket was opened."""
        self._sockets[socket] = None
        self._sessions.setdefault(socket.session_id, {})[socket] = None

    def forget(self, socket: Socket) -> None:
        """A socket has ended. Harmless when done twice."""
        for channel in list(socket.channels.values()):
            self.remove(channel)
        if socket in self._sockets:
            del self._sockets[socket]
            self._leave_session(socket)

    def change_session(self, socket: Socket, session_id: str) -> None:
        """A socket goes on under another session of the same user."""
        if session_id != socket.session_id:
            self._leave_session(socket)
            socket.session_id = session_id
            self._sessions.setdefault(session_id, {})[socket] = None

    def _leave_session(self, socket: Socket) -> None:
        others = self._sessions[socket.session_id]
        del others[socket]
        if not others:
            del self._sessions[socket.session_id]

    def has_ended(self, session_id: str) -> bool:
        """Whether this session was seen to end a short while ago."""
        return session_id in self._ended

    async def join(self, socket: Socket, frame: Frame, name: str) -> None:
        """Decide a join; ``socket.joined`` or ``socket.refused`` was called when it returns."""
        done = asyncio.get_running_loop().create_future()
        self._joins.append(_Join(socket, frame, name, done))
        self._awake.set()
        await done

    def remove(self, channel: Channel) -> None:
        """A channel is no more. Harmless when done twice."""
        if channel.socket.channels.get(channel.topic) is channel:
            del channel.socket.channels[channel.topic]
        others = self._tables.get(channel.table_id)
        if others is not None and channel in others:
            del others[channel]
            if not others:
                del self._tables[channel.table_id]
                del self._public[channel.table_id]

    # -- reading and telling -----------------------------------------------------------------------------

    async def _pump(self) -> None:
        loop = asyncio.get_running_loop()
        look = _LOOK_SECONDS if self._notices is not None else None
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._awake.wait(), look)
            self._awake.clear()
            joins, self._joins = self._joins, []
            names = [join.name for join in joins]
            ids = [join.socket.session_id for join in joins]
            try:
                batch = await loop.run_in_executor(
                    self._reader, self._journal.read, self._cursor, frozenset(self._tables), names, ids
                )
                self._check_for_gaps()
                await self._tell(batch.events)
                self._cursor = batch.cursor
                self._admit(joins, batch)
            except Exception:
                if not self._troubled:  # once, not twice a second
                    logger.exception("the events could not be read; trying again")
                self._troubled = True
                self._awake.set()
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            finally:
                self._fail_joins(joins)
            self._troubled = False
            if batch.more:
                self._awake.set()

    def _check_for_gaps(self) -> None:
        now = time.time()
        if self._notices is not None and now - self._read_at > _STALE_SECONDS:
            # Another server may have removed events that were not read here: let the clients begin anew.
            for socket in list(self._sockets):
                socket.close(1012, "restart")
        self._read_at = now

    async def _tell(self, events: List[Event]) -> None:
        told = 0
        for event in events:
            # First, so that one that cannot be told does not hold up the rest for ever.
            self._cursor = event.id
            if event.kind in ROW_KINDS:
                broadcast = Broadcast(event.topic or "", event.kind, event.payload)
                for channel in self._channels(event):
                    channel.socket.tell(broadcast.text(channel.socket.version))
                    told += 1
            else:
                self._heed(event)
            if told >= _TOLD_AT_A_STRETCH:
                told = 0
                await asyncio.sleep(0)  # let them be sent

    def _channels(self, event: Event) -> Iterator[Channel]:
        for channel in list(self._tables.get(event.table_id or "", ())):
            if event.id > channel.after:
                yield channel

    def _heed(self, event: Event) -> None:
        """An event for servers."""
        payload: Any = json.loads(event.payload)
        if event.kind == SESSIONS:
            for session_id in payload:
                self._ended[session_id] = time.monotonic()
                for socket in list(self._sessions.get(session_id, ())):
                    socket.close(1008, "token expired")
        elif event.kind == ROLE:
            for socket in list(self._sockets):
                if socket.user_id == payload["user_id"]:
                    self.set_role(socket, payload["role"])
        elif event.kind == TABLE:
            for channel in self._channels(event):
                self._public[channel.table_id] = payload["public"]
                renamed = channel.topic != f"table:{payload['name']}"
                if renamed or not self._may_stay(channel):
                    channel.socket.drop(channel)

    def set_role(self, socket: Socket, role: str) -> None:
        """A user's role is this now; he may lose channels by it."""
        if role != socket.role:
            socket.role = role
            for channel in list(socket.channels.values()):
                if not self._may_stay(channel):
                    socket.drop(channel)

    def _may_stay(self, channel: Channel) -> bool:
        public = self._public[channel.table_id]
        return may_read(
            public=public, owner_id=channel.owner_id, user_id=channel.socket.user_id, role=channel.socket.role
        )

    def _admit(self, joins: List[_Join], batch: Batch) -> None:
        now = self.services.clock.now()
        for join in joins:
            socket, facts = join.socket, batch.tables.get(join.name)
            role = batch.roles.get(socket.session_id)
            if socket.closing is not None or socket not in self._sockets:
                pass
            elif role is None or now >= socket.expires_at:
                socket.close(1008, "token expired")
            elif facts is None:
                socket.refused(join.frame, "table not found")
            elif not may_read(public=facts.public, owner_id=facts.owner_id, user_id=socket.user_id, role=role):
                socket.refused(join.frame, "unauthorized")
            else:
                join_ref = join.frame.ref if join.frame.join_ref is None else join.frame.join_ref
                channel = Channel(socket, join.frame.topic, join_ref, facts, batch.newest)
                socket.joined(join.frame, channel)
                self._tables.setdefault(facts.id, {})[channel] = None
                self._public[facts.id] = facts.public
                self.set_role(socket, role)
            if not join.done.done():
                join.done.set_result(None)

    def _fail_joins(self, joins: List[_Join]) -> None:
        """Whoever still waits is not going to be admitted."""
        for join in joins:
            if not join.done.done():
                join.socket.refused(join.frame, "join crashed")
                join.done.set_result(None)

    # -- time --------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            try:
                self._tick()
            except Exception:
                logger.exception("looking after the sockets failed; going on")

    def _tick(self) -> None:
        now, moment = self.services.clock.now(), self.services.clock.monotonic()
        for socket in list(self._sockets):
            if now >= socket.expires_at:
                socket.close(1008, "token expired")
            elif moment - socket.last_heard >= IDLE_SECONDS:
                socket.close(1001, "idle")
        forgotten = time.monotonic() - _REMEMBER_SECONDS
        for session_id in [name for name, at in self._ended.items() if at < forgotten]:
            del self._ended[session_id]

    async def _prune(self) -> None:
        while True:
            await asyncio.sleep(_PRUNE_SECONDS)
            # What is not shared may not be removed before it was read here.
            below = self._cursor if self._notices is None else None
            try:
                await run_in_threadpool(self._journal.prune, self.services.clock.now(), below)
            except Exception:
                logger.exception("old events could not be removed; trying again later")
