"""uvicorn's websocket protocol, made fit for a server that strangers reach: it keeps secrets and can cut a line."""

from __future__ import annotations

import logging
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from .endpoint import CUT

__all__ = ["SocketProtocol"]

#: How long a peer may take to read what is on its way when the line is to be closed.
_LINGER_SECONDS = 2.0

_quiet = logging.getLogger("selfdb.server.realtime.protocol")
_quiet.setLevel(logging.CRITICAL)


class SocketProtocol(WebSocketsSansIOProtocol):
    """One connection.

    uvicorn's logger is told the whole address of a socket, which holds key and token, and at its finest also
    each frame; here it is told nothing.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = _quiet
        self.conn.logger = _quiet
        self.conn.debug = False
        self._failed = False

    async def run_asgi(self) -> None:
        self.scope["extensions"][CUT] = {"call": self.cut}
        await super().run_asgi()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def cut(self, code: int, reason: str) -> None:
        """Close, whether the peer reads or not: it finds the close frame behind all that was on its way."""
        if self.close_sent or not self.handshake_complete or self.transport.is_closing():
            return
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        # Whoever waits to send learns that it is over.
        self.writable.set()
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        # As in uvicorn's own closing: with a timer the line stays until the peer has answered.
        self.close_timer = self.loop.call_later(_LINGER_SECONDS, self.transport.abort)

    def data_received(self, data: bytes) -> None:
        if not self._failed:
            super().data_received(data)

    def handle_parser_exception(self) -> None:
        """What came is against the rules of websockets; the close frame is written already.

        The line stays for a moment: closing one on which the peer still sends would take that frame away.
        """
        self._failed = True
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.queue.put_nowait({"type": "websocket.disconnect", "code": 1006, "reason": ""})
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(_LINGER_SECONDS, self.transport.abort)

    def shutdown(self) -> None:
        super().shutdown()
        self.loop.call_later(_LINGER_SECONDS, self.transport.abort)
