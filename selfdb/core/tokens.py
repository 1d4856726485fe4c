"""Who am I: the token pair of one user, safe to share between threads, renewed by one of them at a time."""

from __future__ import annotations

import base64
import binascii
import copy
import hashlib
import json
import math
import threading
from collections.abc import Callable
from typing import NamedTuple

from ..exceptions import APITimeoutError, ClientClosedError, SelfDBError
from .call import shielded
from .clock import SYSTEM_CLOCK, Clock, Deadline
from .forks import renew_after_fork
from .stores import MemoryStore, SessionStore
from .waits import Signal, finish, until

__all__ = ["TokenKeeper", "Tokens", "binding_of", "expiry_of"]


class Tokens(NamedTuple):
    """An access token and, if the session can be renewed, its refresh token."""

    access: str
    refresh: str | None = None

    def __repr__(self) -> str:
        return f"Tokens(access=***, refresh={'***' if self.refresh else None})"


_REFUSALS = frozenset({400, 401, 422})
"""A definite no to a refresh token. Anything else (no answer, 403 of a proxy, 429, 5xx) says nothing about it."""

_NO_SUCH_ROUTE = frozenset({404, 405})
"""A server that does not know how to refresh: the session ends when its access token does."""

Renewer = Callable[[str, Deadline], Tokens]
"""Exchanges a refresh token for a new pair, within a deadline; raises as a call does."""


def binding_of(origin: str, api_key: str) -> str:
    """What a stored session is bound to: a digest, so that the key itself is not written down."""
    return hashlib.sha256(f"{origin}\n{api_key}".encode()).hexdigest()


def expiry_of(access: str) -> float | None:
    """When a JWT says that it ends, in seconds since the epoch; ``None`` if it does not say.

    Nothing is verified: the answer only helps to renew in time, the server decides.
    """
    try:
        payload = access.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        end = float(claims["exp"])
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, binascii.Error, RecursionError):
        return None
    return end if math.isfinite(end) else None


class _Flight:
    """One renewal under way; the threads that need it too wait here."""

    def __init__(self) -> None:
        self.landed = False
        self.changed = Signal()
        self.tokens: Tokens | None = None
        self.error: SelfDBError | None = None


class TokenKeeper:
    """Holds the current pair and mirrors it to a store.

    May be shared by threads. No lock is held while the store or the server is asked.

    :param store: where the session is kept besides; in memory by default.
    :param binding: what a stored session must be bound to; a session of another server or key is ignored.
    """

    def __init__(self, store: SessionStore | None = None, binding: str = "", clock: Clock = SYSTEM_CLOCK) -> None:
        self._store: SessionStore = MemoryStore() if store is None else store
        self._binding = binding
        self._clock = clock
        self._lock = threading.Lock()
        self._flight: _Flight | None = None
        self._version = 0
        self._tokens: Tokens | None = None
        self._loaded = False
        renew_after_fork(self)

    def _renew_in_child(self) -> None:
        self._lock = threading.Lock()
        self._flight = None  # the thread that led it stayed in the parent

    def current(self) -> Tokens | None:
        """The pair in use, or ``None`` when signed out. Reads the store on the first call.

        :raises SelfDBError: if the store cannot be read.
        """
        if not self._loaded:
            stored = self._stored()
            with self._lock:
                if not self._loaded:
                    self._tokens, self._loaded = stored, True
        return self._tokens

    def set(self, tokens: Tokens | None) -> None:
        """Use ``tokens`` from now on; ``None`` signs out."""
        with self._lock:
            self._put(tokens)
        self._mirror()

    def forget(self, access: str) -> None:
        """Sign out, unless the pair of ``access`` has been replaced in the meantime."""
        self._replace(access, None)

    def expires_within(self, seconds: float) -> bool:
        """Whether the access token says that it ends in less than ``seconds``."""
        tokens = self.current()
        end = None if tokens is None else expiry_of(tokens.access)
        return end is not None and end - self._clock.time() < seconds

    def renew(self, used: str, renewer: Renewer, deadline: Deadline) -> Tokens | None:
        """Replace the pair of the access token ``used``, once for all threads and processes that want it.

        :returns: the pair to go on with, which somebody else may have fetched; ``None`` if there is no
            session (any more): then the caller's own error stands.
        :raises SelfDBError: what kept the server from answering; the session is kept, a later call tries again.
        """
        with self._lock:
            tokens, flight = self._tokens, self._flight
            if tokens is None or tokens.access != used:
                return tokens
            leads = flight is None
            if flight is None:
                flight = self._flight = _Flight()
        if leads:
            return self._lead(flight, tokens, renewer, deadline)
        if not finish(until(flight.changed, lambda: flight.landed, deadline.remaining())):
            raise APITimeoutError("the deadline passed while another thread was refreshing the session")
        if flight.error is not None:
            raise copy.copy(flight.error)  # an exception object belongs to one thread
        return flight.tokens

    def _lead(self, flight: _Flight, tokens: Tokens, renewer: Renewer, deadline: Deadline) -> Tokens | None:
        try:
            # Others wait for it, and an answer that nobody reads would use the refresh token up.
            with shielded(), self._store.lock(deadline.remaining()):
                flight.tokens = self._renew_once(tokens, renewer, deadline)
            return flight.tokens
        except BaseException as error:
            if isinstance(error, SelfDBError) and not isinstance(error, ClientClosedError):
                flight.error = copy.copy(error)
            else:
                # Ctrl-C in this thread, or the end of its clone, is nothing that happened to the others.
                flight.error = SelfDBError("the session could not be refreshed; call again")
            raise
        finally:
            with self._lock:
                self._flight = None
            flight.landed = True
            flight.changed.ring()

    def _renew_once(self, tokens: Tokens, renewer: Renewer, deadline: Deadline) -> Tokens | None:
        if self._was_replaced_elsewhere(tokens):
            return self._adopt(tokens)
        if tokens.refresh is None:
            return None
        try:
            fresh: Tokens | None = renewer(tokens.refresh, deadline)
        except SelfDBError as error:
            if error.status_code in _NO_SUCH_ROUTE:
                return None
            if error.status_code not in _REFUSALS:
                raise
            fresh = None
        if self._was_replaced_elsewhere(tokens):
            return self._adopt(tokens)  # a login meanwhile: it is newer than what we asked for
        return self._replace(tokens.access, fresh)

    def _was_replaced_elsewhere(self, tokens: Tokens) -> bool:
        """Whether another process on the same store renewed the session of ``tokens``, or signed in or out."""
        if isinstance(self._store, MemoryStore):
            return False
        stored = self._stored()
        return stored is None or stored.access != tokens.access

    def _adopt(self, tokens: Tokens) -> Tokens | None:
        return self._replace(tokens.access, self._stored(), mirror=False)

    def _replace(self, access: str, tokens: Tokens | None, *, mirror: bool = True) -> Tokens | None:
        """Put ``tokens`` in the place of the pair of ``access`` unless that is gone; return what is in use then."""
        with self._lock:
            if self._tokens is None or self._tokens.access != access:
                return self._tokens
            self._put(tokens)
        if mirror:
            self._mirror()
        return tokens

    def _put(self, tokens: Tokens | None) -> None:
        self._tokens, self._loaded = tokens, True
        self._version += 1

    def _mirror(self) -> None:
        """Write what is current to the store. Writers that overtake one another write again until the last is right."""
        while True:
            with self._lock:
                version, tokens = self._version, self._tokens
            if tokens is None:
                self._store.remove()
            else:
                record = {
                    "binding": self._binding,
                    "access_token": tokens.access,
                    "refresh_token": tokens.refresh,
                }
                self._store.set(json.dumps(record))
            if version == self._version:
                return

    def _stored(self) -> Tokens | None:
        text = self._store.get()
        try:
            record = json.loads(text) if text else None
            if not isinstance(record, dict) or record["binding"] != self._binding:
                return None
            access, refresh = record["access_token"], record["refresh_token"]
        except (ValueError, KeyError, RecursionError):
            return None  # a file that somebody else wrote is no session of ours; the next login replaces it
        return Tokens(access, refresh) if isinstance(access, str) and isinstance(refresh, (str, type(None))) else None
