"""Who makes exchanges: one user's view of a server, with the options and the shared parts that every call stands on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..exceptions import SelfDBError
from .clock import Deadline
from .exchange import Exchange, leave_open, read_whole
from .lane import Lane
from .lifeline import Lifeline
from .options import CallOptions
from .pool import Pool
from .redaction import secret_headers
from .refusals import ORDINARY, Refusals
from .request import Request
from .response import Response
from .stream import Stream
from .tokens import TokenKeeper, Tokens
from .upload import Upload
from .urls import BaseURL

__all__ = ["Renewer", "Transport"]

Renewer = Callable[["Transport", str, Deadline], Tokens]
"""Exchanges a refresh token for a new pair over the transport that needs it, within a deadline."""


MAX_HEADS = 64
"""Sets of headers of calls whose lines are kept."""


class Transport:
    """Makes exchanges for one user with one set of options. Immutable; may be shared by threads.

    :param pool: what is shared with the clones.
    :param base: where the server lives.
    :param identity: headers that say who the application is, such as its API key; secret.
    :param keeper: who the user is.
    :param options: time-outs, retries, headers.
    :param renewer: how to renew a session; ``None`` never renews one.
    :param lifeline: what ends this client; the pool's, or one derived from it.
    :param refusals: how its server says no.
    """

    def __init__(
        self,
        pool: Pool,
        base: BaseURL,
        identity: Mapping[str, str],
        keeper: TokenKeeper,
        options: CallOptions,
        renewer: Renewer | None = None,
        lifeline: Lifeline | None = None,
        refusals: Refusals = ORDINARY,
    ) -> None:
        self.pool = pool
        self.base = base
        self.identity = identity
        self.keeper = keeper
        self.options = options
        self.renewer = renewer
        self.lifeline = lifeline or pool.lifeline
        self.refusals = refusals
        self.headers = {"Accept": "application/json", **options.headers, **identity}
        self._lines: tuple[Lane, str | None] | None = None
        self._more_lines: dict[tuple[tuple[str, str], ...], tuple[Lane, str | None]] = {}

    def exchange(self, request: Request, deadline: Deadline | None = None) -> Response:
        """Send ``request``, as often as is right, and return the whole answer.

        :param deadline: by when all of it has to be over; that of the options by default.
        :raises SelfDBError: see :mod:`selfdb.exceptions`; nothing else, but for what the caller's own body raises.
        """
        if deadline is None:
            seconds = self.options.stream_deadline if isinstance(request.body, Upload) else self.options.deadline
            deadline = Deadline(seconds, self.pool.clock)
        return Exchange(self, request, deadline).run(read_whole)

    def open(self, request: Request, deadline: Deadline | None = None) -> Stream:
        """Send ``request`` and return its answer with the body still on the wire.

        :param deadline: by when all of it has to be over; that of the options for streams by default.
        :raises SelfDBError: as :meth:`exchange`.
        """
        if deadline is None:
            deadline = Deadline(self.options.stream_deadline, self.pool.clock)
        return Exchange(self, request, deadline).run(leave_open)

    def renew(self, access: str) -> Tokens | None:
        """Renew the session of the access token ``access`` within the deadline of a call; see ``TokenKeeper``."""
        renewer = self.renewer
        if renewer is None:
            return None
        return self.keeper.renew(
            access,
            lambda refresh_token, deadline: renewer(self, refresh_token, deadline),
            Deadline(self.options.deadline, self.pool.clock),
        )

    def lane(self, more: Mapping[str, str] | None = None) -> tuple[Lane, str] | None:
        """The short way for plain calls, if it is free, and the lines that stand in the head of each of them.

        :param more: headers of the call's own.
        """
        lane = self.pool.lane(self.base)
        if lane is None:
            return None
        if more:
            return self._lane_with(lane, more)
        known = self._lines
        if known is None or known[0] is not lane:  # another one after a fork
            known = self._lines = lane, lane.lines(self.headers)
        return None if known[1] is None else (lane, known[1])

    def _lane_with(self, lane: Lane, more: Mapping[str, str]) -> tuple[Lane, str] | None:
        key = tuple(more.items())
        known = self._more_lines.get(key)
        if known is None or known[0] is not lane:
            known = lane, lane.lines({**self.headers, **more})
            if len(self._more_lines) >= MAX_HEADS:  # they seem to be others every time
                self._more_lines.clear()
            self._more_lines[key] = known
        return None if known[1] is None else (lane, known[1])

    def secrets(self) -> tuple[str, ...]:
        """What must never be shown."""
        try:
            tokens = self.keeper.current()
        except SelfDBError:
            tokens = None  # a store that cannot be read has shown none, and must not hide the error at hand
        return (
            *self.identity.values(),
            *(token for token in tokens or () if token),
            *secret_headers(self.options.headers),
            *self.pool.secrets(self.base.text),
        )
