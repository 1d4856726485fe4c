"""By which access token the server knows a realtime connection, and when that has to change."""

from __future__ import annotations

import logging
import threading

from ..core.tokens import expiry_of, lifetime_of
from ..core.transport import Transport
from ..exceptions import SelfDBError

__all__ = ["Credentials"]

log = logging.getLogger("selfdb.realtime")

RENEW_BEFORE = 60.0
"""Seconds before its end that an access token is renewed while events flow; a quarter of its time, if that is less."""

REOPEN_BEFORE = 2.0
"""Seconds before its end that a connection is opened anew with the next token, on servers that take it no other way;
an eighth of its time, if that is less."""


class Credentials:
    """For one connection after another. Not for sharing between threads, but for ``renew_refused``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._clock = transport.pool.clock
        self.known: str | None = None
        """The token that the server knows us by. Secret."""
        self._renew_at: float | None = None
        self._reopen_at: float | None = None
        self._renewing: str | None = None
        self._fresh: str | None = None
        self._renewed = self._adopted = False

    def current(self) -> str | None:
        """The token of this moment. Secret."""
        tokens = self._transport.keeper.current()
        return None if tokens is None else tokens.access

    def take(self, token: str | None) -> None:
        """``token`` is what the server knows us by from now on."""
        self.known = token
        end = None if token is None else expiry_of(token)
        if token is None or end is None:
            self._renew_at = self._reopen_at = None
        else:
            now = self._clock.time()
            left = end - now
            if token == self._fresh:
                # All its time is before it, whatever our clock makes of its end: with one that is fast, each token
                # would have to be renewed the moment that it comes.
                left = lifetime_of(token) or left
            self._renew_at = now + left - min(RENEW_BEFORE, left / 4)
            self._reopen_at = now + left - min(REOPEN_BEFORE, left / 8)

    def accepted(self) -> None:
        """The server took what it was given: a later refusal is worth a renewal again."""
        self._renewed = self._adopted = False

    def renew_refused(self) -> bool:
        """Whether what was refused gave way to another token; to one of the server once between two acceptances.

        :raises SelfDBError: if that cannot be said at the moment.
        """
        token = self.known
        if token is None or self._renewed:
            return False
        keeper = self._transport.keeper
        before = keeper.renewals
        fresh = self._transport.renew(token)
        self._renewed = self._adopted or keeper.renewals != before
        self._adopted = True  # what another process fetched may have ended as well
        return fresh is not None and fresh.access != token

    def newer(self) -> str | None:
        """The token of this moment, if the server does not know it yet. Secret."""
        token = self.current()
        return None if token == self.known else token

    def ends_soon(self) -> bool:
        """Whether what the server knows is about to end."""
        return self._reopen_at is not None and self._clock.time() >= self._reopen_at

    def renew_in_time(self) -> None:
        """Have the token renewed, in the background, if it is time for that; once for each token."""
        token = self.known
        if self._renew_at is None or self._clock.time() < self._renew_at or self._renewing == token:
            return
        tokens = self._transport.keeper.current()
        if self._transport.renewer is None or tokens is None or tokens.refresh is None or tokens.access != token:
            return
        self._renewing = token
        # Not here: the answer may take its time, and the heartbeat must not wait for it.
        threading.Thread(target=self._renew, args=(tokens.access,), name="selfdb-realtime-renew", daemon=True).start()

    def _renew(self, token: str) -> None:
        try:
            fresh = self._transport.renew(token)
            self._fresh = None if fresh is None else fresh.access
        except SelfDBError as error:
            log.debug("the session could not be refreshed: %s", error)

    def next_due(self) -> float | None:
        """Seconds until there is something to do, or ``None``."""
        now = self._clock.time()
        times = [time - now for time in (self._renew_at, self._reopen_at) if time is not None and time > now]
        return min(times) if times else None
