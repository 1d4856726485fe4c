"""One supervised WebSocket on one daemon thread: it opens, beats, notices a dead peer, reopens and closes.

It knows no protocol: a :class:`LinkProtocol` says where to connect, what to do with messages and when it wants to be
asked again. Once a connection stands its socket does not block, so that neither a slow reader nor a slow sender at the
other end can hold up a heartbeat or a close.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import random
import selectors
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Optional, Protocol, Union

import websocket

from ..exceptions import APIConnectionError, RealtimeError, SelfDBError
from .clock import SYSTEM_CLOCK, Clock
from .flags import Flag
from .forks import renew_after_fork
from .http import shut_down
from .messages import redact
from .wsframes import BINARY, CLOSE, PING, PONG, TEXT, FrameDecoder, FrameError, Message
from .wsopen import Address, Opening

__all__ = ["Address", "After", "Link", "LinkProtocol", "LinkState"]

log = logging.getLogger("selfdb.websocket")

RECONNECT_STEPS = (0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0)
"""Seconds before each attempt to reopen; the last goes on for ever."""

MAX_MESSAGE = 16 * 1024 * 1024
MAX_UNSENT = 1024 * 1024
LONGEST_WAIT = 1.0
"""Seconds that the thread waits for the socket at most before it looks around."""

_READ_SIZE = 64 * 1024


class LinkState(str, enum.Enum):
    """Where a link stands."""

    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    CLOSING = "closing"


class After(enum.Enum):
    """What to do after an attempt that failed."""

    STOP = "stop"
    LATER = "later"
    AT_ONCE = "at once"


class LinkProtocol(Protocol):
    """What a link asks its owner. Everything is called on the link's thread, one at a time.

    What it raises by mistake costs the connection, not the link.
    """

    def address(self) -> Address:
        """Where to connect; asked before each attempt. What it raises counts as a failed attempt."""

    def opened(self) -> None:
        """The connection stands."""

    def received(self, messages: Sequence[Message]) -> bool:
        """Whole messages came, texts or bytes; returns whether ``tick`` is to be asked again before it is due."""

    def ready_to_read(self) -> bool:
        """Whether there is room for more messages; while not, reading pauses."""

    def tick(self) -> Optional[float]:
        """Something may be due; returns seconds until the next time, or ``None``."""

    def lost(self, error: SelfDBError) -> None:
        """The connection that stood is gone; another will be tried."""

    def refused(self, error: SelfDBError) -> After:
        """An attempt to connect failed; returns whether to go on trying, and when."""


class _Stop(Exception):
    """The link is to end."""


class _Lost(Exception):
    """The connection is gone."""

    def __init__(self, error: SelfDBError) -> None:
        self.error = error


class _Outgoing(NamedTuple):
    frame: bytes
    message: bool


class Link:
    """A supervised connection. Its methods may be called from any thread; from callbacks and signal handlers too.

    :param protocol: see :class:`LinkProtocol`.
    :param connect_timeout: seconds for one attempt, look-up and handshake included.
    :param steps: seconds before each attempt to reopen. They begin anew once a connection has brought a message.
    :param jitter: by which part of itself a step of 1 s and more may be shorter or longer.
    :param trusting: whether the steps begin anew as soon as a connection stands: for servers that are silent until
        there is something to tell. The first step has to be long enough for one that accepts and drops.
    :param on_state: called with each new state, in their order, on any thread, with a lock held: it must not wait.
    :param random: a source of floats in [0, 1).
    :param max_unsent: bytes that may wait to be sent.
    :param max_message: bytes that one received message may have.
    """

    CLOSE_SECONDS = 2.0

    def __init__(
        self,
        protocol: LinkProtocol,
        *,
        connect_timeout: float = 10.0,
        steps: Sequence[float] = RECONNECT_STEPS,
        jitter: float = 0.2,
        trusting: bool = False,
        on_state: Callable[[LinkState], object] | None = None,
        random: Callable[[], float] = random.random,
        clock: Clock = SYSTEM_CLOCK,
        max_unsent: int = MAX_UNSENT,
        max_message: int = MAX_MESSAGE,
    ) -> None:
        self._protocol = protocol
        self._connect_timeout = connect_timeout
        self._steps = steps
        self._jitter = jitter
        self._trusting = trusting
        self._on_state = on_state
        self._random = random
        self._clock = clock
        self._max_unsent = max_unsent
        self._max_message = max_message
        self.last_message_at: float | None = None
        """When the server was heard of last, in seconds since the epoch."""
        self._heard_at = 0.0
        self._run: _Run | None = None
        renew_after_fork(self)
        self._renew_in_child()

    def _renew_in_child(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            run.let_go()  # the child's copies only; the connection is the parent's
        self._lock = threading.RLock()  # a signal handler may close what its own thread is sending on
        self._unsent: deque[_Outgoing] = deque()
        self._unsent_bytes = 0
        self._begun = 0
        """Bytes of the first frame that are on their way."""
        self._thread: threading.Thread | None = None
        self.state = LinkState.DISCONNECTED

    def start(self) -> None:
        """Begin to connect, on a daemon thread. Harmless while it runs.

        :raises RuntimeError: if no thread can be started; the link is as it was then.
        """
        with self._lock:
            if self._run is not None and not self._run.stopped.is_set():
                return
            self._run = run = _Run()
            self._thread = threading.Thread(target=self._supervise, args=(run,), name="selfdb-link", daemon=True)
            self._set_state(run, LinkState.CONNECTING)
            try:
                self._thread.start()
            except RuntimeError:
                self._end(run)
                raise

    def send(self, data: Union[str, bytes]) -> None:
        """Queue one message; ``str`` as text, ``bytes`` as binary. Returns at once.

        :raises RealtimeError: if the queue is full, because the peer does not read.
        """
        text = isinstance(data, str)
        raw = data.encode("utf-8") if isinstance(data, str) else data
        frame = websocket.ABNF.create_frame(raw, TEXT if text else BINARY).format()
        with self._lock:
            if self._unsent and self._unsent_bytes + len(frame) > self._max_unsent:
                raise RealtimeError("the send queue is full: the server does not read what it is sent")
            self._enqueue(_Outgoing(frame, True))
        self.wake()

    def _enqueue(self, outgoing: _Outgoing) -> None:
        self._unsent.append(outgoing)
        self._unsent_bytes += len(outgoing.frame)

    def ping(self) -> None:
        """Queue a ping of the WebSocket protocol, which any live server answers. Returns at once."""
        frame = websocket.ABNF.create_frame(b"", PING).format()
        with self._lock:
            self._enqueue(_Outgoing(frame, False))
        self.wake()

    @property
    def silence(self) -> float:
        """Seconds since the server was heard of, or the connection stands, whichever is less."""
        return self._clock.monotonic() - self._heard_at

    def wake(self) -> None:
        """Have the protocol's ``tick`` called soon."""
        run = self._run
        if run is not None:
            run.wake()

    def drop(self, reason: str) -> None:
        """Give the connection up and open another one at once."""
        run = self._run
        if run is not None:
            run.drop = reason
            run.wake()

    def discard_unsent(self) -> int:
        """Forget the messages that wait to be sent, but for one that is half on its way; returns how many those are."""
        with self._lock:
            kept = [self._unsent[0]] if self._begun and self._unsent else []
            count = sum(waiting.message for waiting in self._unsent) - sum(waiting.message for waiting in kept)
            self._unsent = deque(kept)
            self._unsent_bytes = sum(len(waiting.frame) for waiting in kept)
        return count

    def runs_here(self) -> bool:
        """Whether the calling thread is the link's own."""
        return threading.current_thread() is self._thread

    def stop(self) -> None:
        """Begin to close; returns at once. Nothing but :meth:`close` is to be called after it."""
        with self._lock:
            run = self._run
            if run is None or run.stopped.is_set():
                return
            self._set_state(run, LinkState.CLOSING)
            run.stopped.set()
        run.wake()
        opening = run.opening
        if opening is not None:
            opening.abort()

    def close(self, timeout: float | None = None) -> int:
        """End the connection for good; returns how many messages could not be sent any more.

        Returns within ``timeout`` (2 s by default) even if the peer is silent: the thread is left behind then, and
        ends when its socket does. Called on the link's own thread it does not wait for itself.
        """
        self.stop()
        run = self._run
        if run is None:
            return 0
        if not self.runs_here() and not run.ended.wait(self.CLOSE_SECONDS if timeout is None else timeout):
            sock = run.sock
            if sock is not None:
                shut_down(sock)
        with self._lock:
            if self._run is not run:
                return 0  # somebody else closed it at the same time, and started it anew perhaps
            self._begun = 0
            unsent = self.discard_unsent()
            self._set_state(run, LinkState.DISCONNECTED)
            self._run = None
        return unsent

    def _set_state(self, run: _Run, state: LinkState) -> None:
        with self._lock:
            if self._run is not run or self.state is state:
                return  # a run that was closed has no say any more
            if run.stopped.is_set() and state is not LinkState.DISCONNECTED:
                return
            self.state = state
            if self._on_state is not None:
                self._on_state(state)

    # The thread

    def _supervise(self, run: _Run) -> None:
        attempt = 0
        try:
            while True:
                try:
                    sock = self._open(run)
                except SelfDBError as error:
                    log.debug("connecting failed: %s", error)
                    if run.stopped.is_set():
                        return
                    after = self._protocol.refused(error)
                    if after is After.STOP:
                        return
                    if after is After.AT_ONCE:
                        attempt = 0
                else:
                    try:
                        self._serve(run, sock)
                    except _Lost as lost:
                        log.debug("connection lost: %s", lost.error)
                        # One that is closed before it brought anything is no success: else a server that accepts and
                        # drops would be called a hundred times a second.
                        if run.heard or run.drop is not None or self._trusting:
                            attempt = 0
                        self._lose(run, lost.error)
                    except _Stop:
                        raise
                    except Exception as error:
                        log.exception("the owner of the connection failed; it is opened anew")
                        self._lose(run, RealtimeError(f"the client failed: {type(error).__name__}"))
                    finally:
                        run.sock = None
                        sock.close()
                seconds = self._steps[min(attempt, len(self._steps) - 1)]
                if seconds >= 1:
                    seconds *= 1.0 - self._jitter + 2.0 * self._jitter * self._random()
                attempt += 1
                self._pause(run, seconds)
        except _Stop:
            return
        except Exception:
            log.exception("the connection's thread failed")
        finally:
            self._end(run)

    def _end(self, run: _Run) -> None:
        with self._lock:
            self._set_state(run, LinkState.DISCONNECTED)
            if self._run is run and not run.stopped.is_set():
                self._run = None
        run.end()

    def _lose(self, run: _Run, error: SelfDBError) -> None:
        self._begun = 0
        self._set_state(run, LinkState.RECONNECTING)
        self._protocol.lost(error)

    def _pause(self, run: _Run, seconds: float) -> None:
        """Wait before the next attempt; the protocol's own times go on."""
        end = self._clock.monotonic() + seconds
        while True:
            if run.stopped.is_set():
                raise _Stop
            left = end - self._clock.monotonic()
            if left <= 0:
                return
            due = self._protocol.tick()
            wait = min(left, LONGEST_WAIT)
            self._clock.wait(run.stopped, wait if due is None else max(0.001, min(wait, due)))

    def _open(self, run: _Run) -> Any:
        run.drop = None
        run.heard = False
        address = self._protocol.address()
        run.secrets = address.secrets
        run.opening = opening = Opening(address, self._connect_timeout, self._clock)
        try:
            if run.stopped.is_set():
                raise _Stop
            sock = opening.run()
        finally:
            run.opening = None
        run.sock = sock
        return sock

    def _serve(self, run: _Run, sock: Any) -> None:
        """Until the connection is lost or the link stopped."""
        decoder = FrameDecoder(self._max_message)
        with contextlib.closing(selectors.DefaultSelector()) as selector:
            run.selector = selector
            self._heard_at = self._clock.monotonic()
            selector.register(run.waking, selectors.EVENT_READ)
            self._set_state(run, LinkState.CONNECTED)
            if not run.stopped.is_set():
                self._protocol.opened()
            watched, reading = 0, False
            ask, due = True, 0.0
            # What TLS has decrypted already does not make the socket readable.
            pending = sock.pending if isinstance(sock, ssl.SSLSocket) else None
            while True:
                if run.stopped.is_set():
                    self._say_goodbye(sock, 1000)
                    raise _Stop
                if run.drop is not None:
                    raise _Lost(APIConnectionError(run.drop))
                # What is due has not changed since it was asked, unless somebody says so: nothing has to be asked
                # between one event and the next.
                now = self._clock.monotonic()
                if ask or not reading or now >= due:
                    seconds = self._protocol.tick()
                    due = now + (LONGEST_WAIT if seconds is None else min(seconds, LONGEST_WAIT))
                full = bool(self._unsent) and self._write(sock)
                reading = self._protocol.ready_to_read()
                wanted = (selectors.EVENT_READ * reading) | (selectors.EVENT_WRITE * full)
                if wanted != watched:
                    self._watch(selector, sock, wanted)
                    watched = wanted
                readable = pending is not None and reading and pending() > 0
                wait = 0.0 if readable else max(0.0, due - now)
                ready = selector.select(wait if reading else min(wait, 0.05))
                ask = not ready
                for key, events in ready:
                    if key.fileobj is run.waking:
                        run.clear()
                        ask = True
                    elif events & selectors.EVENT_READ:
                        readable = True
                if readable and self._read(run, sock, decoder):
                    ask = True

    @staticmethod
    def _watch(selector: selectors.BaseSelector, sock: Any, wanted: int) -> None:
        known = selector.get_map().get(sock)
        if known is not None and known.events != wanted:
            selector.unregister(sock)
            known = None
        if wanted and known is None:
            selector.register(sock, wanted)

    def _write(self, sock: Any) -> bool:
        """Send what waits; returns whether the socket took no more before the end."""
        while True:
            with self._lock:
                if not self._unsent:
                    return False
                first = self._unsent[0]
            try:
                # A frame that TLS did not take must be offered again as it was.
                self._begun += sock.send(memoryview(first.frame)[self._begun :])
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return True
            except OSError as error:
                raise _Lost(_broken(error)) from None
            if self._begun < len(first.frame):
                continue
            with self._lock:
                self._begun = 0
                if self._unsent and self._unsent[0] is first:
                    self._unsent.popleft()
                    self._unsent_bytes -= len(first.frame)

    def _read(self, run: _Run, sock: Any, decoder: FrameDecoder) -> bool:
        """Hand over what one reading brings; returns whether what is due may have changed."""
        try:
            data = sock.recv(_READ_SIZE)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except OSError as error:
            raise _Lost(_broken(error)) from None
        if not data:
            raise _Lost(APIConnectionError("the server closed the connection"))
        self.last_message_at, self._heard_at = self._clock.time(), self._clock.monotonic()
        try:
            messages = decoder.feed(data)
        except FrameError as error:
            self._say_goodbye(sock, error.code)
            broken = RealtimeError(f"the server broke the WebSocket protocol: {error}")
            broken.close_code = error.code
            raise _Lost(broken) from None
        brought: list[Message] = []
        goodbye: bytes | None = None
        for message in messages:
            opcode = message[0]
            if opcode < CLOSE:
                brought.append(message)
            elif opcode == PING:
                self._pong(message[1])
            elif opcode == CLOSE:
                goodbye = message[1]
                break
        ask = False
        if brought:
            run.heard = True
            ask = self._protocol.received(brought)
        if goodbye is not None:
            self._say_goodbye(sock, 1000)
            raise _Lost(_closed_by_server(goodbye, run.secrets))
        return ask

    def _pong(self, payload: bytes) -> None:
        frame = websocket.ABNF.create_frame(payload, PONG).format()
        with self._lock:
            if self._unsent_bytes + len(frame) <= self._max_unsent:  # else it does not read, and needs no answer
                self._enqueue(_Outgoing(frame, False))

    def _say_goodbye(self, sock: Any, code: int) -> None:
        """Send what waits and a close frame, for as long as the peer takes it at once."""
        frame = websocket.ABNF.create_frame(code.to_bytes(2, "big"), CLOSE).format()
        with contextlib.suppress(_Lost, OSError):
            if not self._write(sock):
                sock.send(frame)


class _Run:
    """One life of a link, from ``start`` to ``close``: what is said to one does not reach the next."""

    def __init__(self) -> None:
        self.stopped = Flag()
        self.ended = Flag()
        self.drop: str | None = None
        self.heard = False
        """Whether the open connection has brought a message."""
        self.secrets: Sequence[str] = ()
        self.opening: Opening | None = None
        self.sock: Any = None
        self.selector: Any = None
        self.waking, self._waker = socket.socketpair()
        self.waking.setblocking(False)
        self._waker.setblocking(False)

    def wake(self) -> None:
        # A full buffer, or a pair that the ended thread has closed, means that nobody has to be woken.
        with contextlib.suppress(OSError):
            self._waker.send(b"\0")

    def clear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self.waking.recv(65536)

    def end(self) -> None:
        self.waking.close()
        self._waker.close()
        self.ended.set()

    def let_go(self) -> None:
        """Close this process's copies of everything, without a word to the peer."""
        for held in (self.sock, self.selector, self.waking, self._waker):
            if held is not None:
                held.close()
        if self.opening is not None:
            self.opening.close_here()


def _broken(error: OSError) -> APIConnectionError:
    return APIConnectionError(f"the connection broke: {error.strerror or type(error).__name__}")


def _closed_by_server(payload: bytes, secrets: Sequence[str]) -> SelfDBError:
    code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
    reason = redact(payload[2:].decode("utf-8", "replace"), secrets)
    error = RealtimeError(f"the server closed the connection with code {code}" + (f": {reason}" if reason else ""))
    error.close_code = code
    return error
