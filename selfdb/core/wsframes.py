"""WebSocket frames of a server, cut out of a stream of bytes (RFC 6455, section 5). Pure: no socket, no thread."""

from __future__ import annotations

from typing import Tuple

__all__ = ["BINARY", "CLOSE", "PING", "PONG", "TEXT", "FrameDecoder", "FrameError", "Message"]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
"""The opcodes."""

_KNOWN = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})


BROKEN, TOO_BIG = 1002, 1009
"""The codes of close frames that say why the stream was given up."""


class FrameError(ValueError):
    """The stream is not what the protocol allows, or larger than we do; nothing after it can be read.

    :ivar code: what the peer is told.
    """

    def __init__(self, message: str, code: int = BROKEN) -> None:
        super().__init__(message)
        self.code = code


Message = Tuple[int, bytes]
"""The opcode and the bytes of a whole message: fragments are joined, and a text is not decoded yet."""


class FrameDecoder:
    """Takes bytes as they come and gives messages as they are complete. Belongs to one thread.

    :param limit: bytes that one message may have.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()
        """The beginning of a frame whose end has not come yet."""
        self._wanted = 0
        """Bytes that it has to have before it is worth a look; nothing where the length of the frame is not known."""
        self._opcode: int | None = None
        # Not a list of them: each small one would take the room of fifty bytes.
        self._fragments = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The messages that ``data`` completes.

        :raises FrameError: at the first frame that breaks the rules.
        """
        rest = self._buffer
        if rest:
            rest += data
            if len(rest) < self._wanted:
                return []
            data = bytes(rest)
            rest.clear()
        self._wanted = 0
        messages: list[Message] = []
        limit = self._limit
        at, end = 0, len(data)
        while end - at >= 2:
            first, length, start = data[at], data[at + 1], at + 2
            if length == 126:
                start += 2
                if end < start:
                    break
                length = data[at + 2] << 8 | data[at + 3]
            elif length > 126:
                if length > 127:
                    raise FrameError("a server must not mask its frames")
                start += 8
                if end < start:
                    break
                length = int.from_bytes(data[at + 2 : start], "big")
            if length > limit:
                raise FrameError(f"a frame of {length} bytes is larger than the {limit} allowed", TOO_BIG)
            stop = start + length
            if end < stop:
                self._wanted = stop - at
                break
            payload = data[start:stop]
            at = stop
            if first == 0x81 and self._opcode is None:  # a whole text: nearly all there is
                messages.append((TEXT, payload))
            else:
                message = self._unusual(first, payload)
                if message is not None:
                    messages.append(message)
        if at < end:
            rest += data[at:]
        return messages

    def _unusual(self, first: int, payload: bytes) -> Message | None:
        opcode, final = first & 0x0F, bool(first & 0x80)
        if first & 0x70:
            raise FrameError("a reserved bit is set, and no extension was agreed on")
        if opcode not in _KNOWN:
            raise FrameError(f"the opcode {opcode:#x} is not defined")
        if opcode >= CLOSE:
            if not final or len(payload) > 125:
                raise FrameError("a control frame is fragmented or too long")
            return opcode, payload
        if (opcode == CONTINUATION) is (self._opcode is None):
            raise FrameError("fragments of a message are out of order")
        if opcode != CONTINUATION:
            self._opcode = opcode
        self._fragments += payload
        if len(self._fragments) > self._limit:
            raise FrameError(f"a message is larger than the {self._limit} bytes allowed", TOO_BIG)
        if not final:
            return None
        assert self._opcode is not None
        message = self._opcode, bytes(self._fragments)
        self._opcode, self._fragments = None, bytearray()
        return message
