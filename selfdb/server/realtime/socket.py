"""One socket: what its client says, one thing after the other, and a bounded queue of what it is told."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from datetime import datetime
from typing import TYPE_CHECKING, Any, Callable, Deque, Dict, Optional, Union

from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Send

from ...realtime.frames import Frame
from ..access import Principal, authenticate
from ..bearer import ACCESS
from ..errors import ApiError
from . import wire
from .channel import Channel, table_name

if TYPE_CHECKING:
    from .hub import Hub

__all__ = ["IDLE_SECONDS", "MAX_CHANNELS", "Socket"]

logger = logging.getLogger("selfdb.server.realtime")

MAX_CHANNELS = 100
IDLE_SECONDS = 60.0
#: What may wait for a client that does not read; one event alone may be larger.
MAX_QUEUED = 4096
MAX_QUEUED_CHARACTERS = 32 * 1024 * 1024
_SENT_AT_A_STRETCH = 64

#: Ends a socket below the application: sends a close frame behind what is on its way, then cuts the line.
Cut = Callable[[int, str], None]


class Socket:
    """One open socket. Lives on the hub's loop; nothing in it is for other threads.

    :param version: in which version it is spoken to.
    :param mirrors: whether that follows the version of what it says.
    :param expires_at: when the token by which it was opened ends.
    """

    def __init__(
        self,
        hub: Hub,
        send: Send,
        cut: Optional[Cut],
        *,
        version: int,
        mirrors: bool,
        principal: Principal,
        expires_at: datetime,
    ) -> None:
        self.user_id = principal.user_id
        self.role = principal.role
        self.session_id = principal.session_id
        self.expires_at = expires_at
        self.version = version
        self.channels: Dict[str, Channel] = {}
        self.last_heard = hub.services.clock.monotonic()
        self.closing: Optional[tuple[int, str]] = None
        self._hub = hub
        self._send = send
        self._cut = cut
        self._mirrors = mirrors
        self._queue: Deque[str] = deque()
        self._queued = 0
        self._more = asyncio.Event()

    # -- telling -----------------------------------------------------------------------------------------

    def tell(self, text: str) -> None:
        """Queue a frame. Never waits: a client that lets too much pile up is put out."""
        if self.closing is not None:
            return
        full = len(self._queue) >= MAX_QUEUED or self._queued + len(text) > MAX_QUEUED_CHARACTERS
        if full and self._queue:
            self.close(1013, "too slow")
            return
        self._queue.append(text)
        self._queued += len(text)
        self._more.set()

    def close(self, code: int, reason: str) -> None:
        """End the socket; what is queued is not sent any more."""
        if self.closing is not None:
            return
        self.closing = (code, reason)
        self._queue.clear()
        self._queued = 0
        self._hub.forget(self)
        if self._cut is not None:
            self._cut(code, reason)
        self._more.set()

    async def _tell_all(self) -> None:
        """The task that sends what is queued."""
        try:
            await self._tell_until_closed()
        except (OSError, RuntimeError):
            pass  # the client has gone; the reader hears of it too
        except Exception:
            logger.exception("a socket could not be told")
            self.close(1011, "internal error")

    async def _tell_until_closed(self) -> None:
        sent = 0
        while self.closing is None:
            while self._queue:
                text = self._queue.popleft()
                self._queued -= len(text)
                await self._send({"type": "websocket.send", "text": text})
                sent += 1
                if sent % _SENT_AT_A_STRETCH == 0:
                    await asyncio.sleep(0)
            if self.closing is None:
                self._more.clear()
                await self._more.wait()
        if self._cut is None:
            code, reason = self.closing
            await self._send({"type": "websocket.close", "code": code, "reason": reason})

    # -- hearing -----------------------------------------------------------------------------------------

    async def run(self, receive: Receive) -> None:
        """Serve the client until the socket ends."""
        if self.closing is not None and self._cut is not None:
            self._cut(*self.closing)  # it was closed while it was being opened
        teller = asyncio.create_task(self._tell_all())
        try:
            while True:
                message = await receive()
                if message["type"] == "websocket.disconnect":
                    return
                if self.closing is None and message["type"] == "websocket.receive":
                    self.last_heard = self._hub.services.clock.monotonic()
                    data = message.get("text")
                    await self._hear(message["bytes"] if data is None else data)
        finally:
            self._hub.forget(self)
            teller.cancel()
            await asyncio.gather(teller, return_exceptions=True)

    async def _hear(self, data: Union[str, bytes]) -> None:
        try:
            frame = wire.hear(data)
        except ValueError as problem:
            # What it said is not logged: it may hold a token.
            logger.debug("a malformed frame of %d was ignored: %s", len(data), type(problem).__name__)
            return
        if self._mirrors:
            self.version = wire.version_of(data)
        channel = self.channels.get(frame.topic)
        if frame.topic == "phoenix" and frame.event == "heartbeat":
            self._reply(None, frame, "ok", {})
        elif frame.event == "phx_join":
            await self._join(frame, channel)
        elif channel is None:
            if frame.event == "phx_leave":
                self._reply(frame.join_ref, frame, "ok", {})
            else:
                self._refuse(None, frame, "unmatched topic")
        elif frame.join_ref is not None and frame.join_ref != channel.join_ref:
            pass  # meant for a channel that was closed meanwhile
        elif frame.event == "phx_leave":
            self._hub.remove(channel)
            self._reply(frame.join_ref, frame, "ok", {})
            self.tell(wire.closed(self.version, channel.join_ref, frame.topic))
        elif frame.event == "access_token":
            await self._renew(frame)
        else:
            self._refuse(frame.join_ref, frame, "unknown event")

    async def _join(self, frame: Frame, old: Optional[Channel]) -> None:
        name = table_name(frame.topic)
        if name is None:
            # A name that no table can have is answered like one that none has.
            if frame.topic.startswith("table:"):
                self._refuse(frame.join_ref, frame, "table not found")
            else:
                self._refuse(None, frame, "unmatched topic")
            return
        if old is None and len(self.channels) >= MAX_CHANNELS:
            self._refuse(frame.join_ref, frame, "too many channels joined")
            return
        await self._hub.join(self, frame, name)

    def joined(self, frame: Frame, channel: Channel) -> None:
        """The hub has admitted us: from the reply on, the channel is told of every commit."""
        old = self.channels.get(channel.topic)
        if old is not None:
            self._hub.remove(old)
        self.channels[channel.topic] = channel
        self._reply(frame.join_ref, frame, "ok", wire.ACCEPTS)
        if old is not None:
            self.tell(wire.closed(self.version, old.join_ref, old.topic))

    def refused(self, frame: Frame, reason: str) -> None:
        """The hub has not admitted us; a join also ends the channel that it was to replace."""
        self._refuse(frame.join_ref, frame, reason)
        old = self.channels.get(frame.topic)
        if old is not None:
            self.drop(old)

    def drop(self, channel: Channel) -> None:
        """Close a channel that the client did not leave."""
        self._hub.remove(channel)
        self.tell(wire.closed(self.version, channel.join_ref, channel.topic))

    async def _renew(self, frame: Frame) -> None:
        """Take a fresh token of the same user; the socket then lives as long as that."""
        token = frame.payload.get("access_token") if isinstance(frame.payload, dict) else None
        if not isinstance(token, str) or not await self._accept(token):
            self._refuse(frame.join_ref, frame, "unauthorized")
            return
        self._reply(frame.join_ref, frame, "ok", {})

    async def _accept(self, token: str) -> bool:
        services = self._hub.services
        claims = services.tokens.read(token, ACCESS, services.clock.now())
        if claims is None or claims.user_id != self.user_id:
            return False
        try:
            principal = await run_in_threadpool(authenticate, services, token)
        except ApiError:
            return False
        if self.closing is not None or self._hub.has_ended(principal.session_id):
            return False
        same = principal.session_id == self.session_id
        self.expires_at = max(claims.expires_at, self.expires_at) if same else claims.expires_at
        self._hub.change_session(self, principal.session_id)
        self._hub.set_role(self, principal.role)
        return True

    def _reply(self, join_ref: Optional[str], to: Frame, status: str, response: Dict[str, Any]) -> None:
        self.tell(wire.reply(self.version, join_ref, to, status, response))

    def _refuse(self, join_ref: Optional[str], to: Frame, reason: str) -> None:
        self._reply(join_ref, to, "error", {"reason": reason})
