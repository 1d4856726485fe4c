"""One channel: who listens to it, and how its subscription stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...core.marks import blocking, passing
from ...core.waits import Signal, Waiting, until, waiting
from ...exceptions import InvalidRequestError
from ..envelope import AeroDBError
from .handlers import Callback, Handlers

if TYPE_CHECKING:
    from .client import RealtimeClient

__all__ = ["RealtimeChannel"]

CLOSED, CONNECTING, JOINED, RECONNECTING, ERRORED = "closed", "connecting", "joined", "reconnecting", "errored"


class RealtimeChannel:
    """The events of one channel. May be shared by threads; callbacks run one at a time, in the order of arrival.

    No method raises: what fails shows in :attr:`last_error` and :attr:`state`. Made by ``client.channel(name)``.
    """

    def __init__(self, realtime: RealtimeClient, name: str, error: InvalidRequestError | None = None) -> None:
        self._realtime = realtime
        self._name = name
        self._error = error
        self._handlers = Handlers(name if error is None else "?")
        self._changed = Signal()
        self._acknowledged = False
        self._subscribed = False
        self._state = CLOSED
        self._last_error: AeroDBError | None = None
        self._ever_joined = False
        self._resync_at: float | None = None
        """By when handlers are told that events may have been missed, if nothing gives reason to before."""
        if error is not None:
            self._note(error)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name!r} {self._state}>"

    @property
    def name(self) -> str:
        """The channel's name."""
        return self._name

    @property
    def state(self) -> str:
        """``closed``, ``connecting``, ``joined``, ``reconnecting`` or ``errored``."""
        return self._state

    @property
    def subscribed(self) -> bool:
        """Whether events are wanted: from :meth:`subscribe` to :meth:`unsubscribe`."""
        return self._subscribed

    @property
    def acknowledged(self) -> bool:
        """Whether the server has said that the subscription stands. Not every server says so."""
        return self._acknowledged

    @property
    def last_error(self) -> AeroDBError | None:
        """What went wrong last; ``None`` again once the subscription stands."""
        return self._last_error

    @passing(callbacks=("callback",))
    def on(self, event: str, callback: Callback) -> RealtimeChannel:
        """Call ``callback(payload)`` for ``event``: ``INSERT``, ``UPDATE``, ``DELETE``, another one of the server's,
        ``*`` for all of these; in any case of letters. ``resync`` says that events may have been missed (after each
        reconnection, or because callbacks are too slow), and is not one of all.

        A callback that raises is logged, and stops no other. One that gives an awaitable has it run to its end.
        """
        try:
            if not callable(callback):
                raise InvalidRequestError("callback must be callable")
            self._handlers.add(_event(event), callback)
        except InvalidRequestError as error:
            self._note(error)
        return self

    @passing(callbacks=("callback",))
    def off(self, event: str, callback: Callback | None = None) -> RealtimeChannel:
        """Call ``callback``, or any, for ``event`` no more; harmless if it was not there."""
        try:
            self._handlers.remove(_event(event), callback)
        except InvalidRequestError as error:
            self._note(error)
        return self

    @waiting
    def subscribe(self, timeout: float | None = None) -> Waiting[RealtimeChannel]:
        """Have events come from now on; the connection is opened by the first channel. Does nothing while subscribed.

        Returns at once, before the subscription stands, unless ``timeout`` is given.

        :param timeout: seconds to wait for the server's word that it stands, or that it does not.
        """
        wrong = isinstance(timeout, bool) or not isinstance(timeout, (int, float, type(None)))
        if wrong or (timeout is not None and not timeout >= 0):
            self._note(InvalidRequestError("timeout must be a number of seconds or None"))
            return self
        if self._error is not None:
            self._note(self._error)
            self._state = ERRORED
            return self
        self._realtime._subscribe(self)
        if timeout is not None and not (yield from until(self._changed, self._settled, timeout)):
            with self._realtime._lock:
                if not self._settled():  # what came in the last moment is not overwritten
                    self._last_error = AeroDBError(
                        f"the server did not answer the subscription to {self._name!r} within {timeout:g} s",
                        None,
                        "TIMEOUT",
                    )
        return self

    def _settled(self) -> bool:
        return self._acknowledged or self._state in (ERRORED, CLOSED)

    @blocking
    def unsubscribe(self) -> None:
        """Have no more events, and forget all callbacks. ``client.channel(name)`` gives a new object then.

        The last channel closes the connection.
        """
        self._realtime._unsubscribe(self)

    def _note(self, error: Any) -> None:
        self._last_error = self._realtime._calls.error_of(error)

    def _enter(self, state: str) -> None:
        self._state = state
        self._changed.ring()


def _event(event: Any) -> str:
    if not isinstance(event, str) or not event:
        raise InvalidRequestError("event must be a str that is not empty")
    return event.upper()
