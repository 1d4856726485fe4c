"""Who am I: the token pair of one user, safe to share between threads, renewed by one of them at a time."""

from __future__ import annotations

import base64
import contextlib
import copy
import hashlib
import json
import logging
import math
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from ..exceptions import APITimeoutError, ClientClosedError, SelfDBError
from .call import shielded
from .clock import SYSTEM_CLOCK, Clock, Deadline
from .forks import renew_after_fork
from .lineage import Lineage
from .stores import MemoryStore, SessionStore
from .waits import Signal, finish, until

__all__ = ["TokenKeeper", "Tokens", "binding_of", "expiry_of", "lifetime_of", "subject_of"]


log = logging.getLogger("selfdb.tokens")


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
    return _claim(access, "exp")


def lifetime_of(access: str) -> float | None:
    """Seconds for which a JWT was given out, by the clock of who did; ``None`` if it does not say."""
    begun, end = _claim(access, "iat"), _claim(access, "exp")
    return None if begun is None or end is None or end <= begun else end - begun


def subject_of(access: str) -> str | None:
    """Whose a JWT says that it is; ``None`` if it does not say. Nothing is verified."""
    subject = _claims(access).get("sub")
    return subject if isinstance(subject, str) and subject else None


def _claim(access: str, name: str) -> float | None:
    try:
        moment = float(_claims(access)[name])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return moment if math.isfinite(moment) else None


def _claims(access: str) -> dict[str, Any]:
    try:
        payload = access.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=="))  # as many as can be missing; more do no harm
    except (IndexError, ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


class _Flight:
    """One renewal under way; the threads that need it too wait here.

    :ivar landed: whether it is over.
    :ivar settled: whether it came to something that holds for all; if its leader was interrupted, it did not.
    """

    def __init__(self) -> None:
        self.landed = self.settled = False
        self.changed = Signal()
        self.tokens: Tokens | None = None
        self.error: SelfDBError | None = None

    def land(self) -> None:
        """Let the others go on."""
        self.landed = True  # before anything that could be interrupted
        self.changed.ring()


_NO_SESSION = Tokens("")
"""Stands for something in the store that is no session: nobody signed out, for that would have removed it."""


class TokenKeeper:
    """Holds the current pair and mirrors it to a store.

    May be shared by threads. No lock is held while the store or the server is asked.

    :param store: where the session is kept besides; in memory by default.
    :param binding: what a stored session must be bound to; a session of another server or key is ignored.
    :param refusals: statuses with which the server says no to a refresh token for good.
    """

    def __init__(
        self,
        store: SessionStore | None = None,
        binding: str = "",
        clock: Clock = SYSTEM_CLOCK,
        refusals: frozenset[int] = _REFUSALS,
    ) -> None:
        self._refusals = refusals
        self._store: SessionStore = MemoryStore() if store is None else store
        self._binding = binding
        self._clock = clock
        self._lock = threading.RLock()  # a signal handler may make a call where its own thread just looks at these
        self._flight: _Flight | None = None
        self._version = 0
        self._tokens: Tokens | None = None
        self._loaded = False
        self._in_store: Tokens | None = None
        """What the store held when it was read or written last."""
        self._lineage: Lineage | None = None
        """By which a forked child learns that its parent renewed the session that both have, or the other way round."""
        self.renewals = 0
        """How often the server gave a new pair."""
        renew_after_fork(self)

    def _prepare_fork(self) -> None:
        # Without locks: the thread that forks may hold them.
        tokens = self._tokens
        if self._lineage is None and tokens is not None and tokens.refresh is not None and self._alone:
            try:
                lineage = Lineage()
            except OSError:
                log.warning("no memory to share with a forked process: it will have to sign in for itself")
                return
            lineage.write(self._record(tokens))
            self._lineage = lineage

    def _renew_in_child(self) -> None:
        self._lock = threading.RLock()
        self._flight = None  # the thread that led it stayed in the parent

    @property
    def _alone(self) -> bool:
        """Whether no other process sees the store."""
        return isinstance(self._store, MemoryStore)

    def current(self) -> Tokens | None:
        """The pair in use, or ``None`` when signed out. Reads the store on the first call.

        :raises SelfDBError: if the store cannot be read.
        """
        if not self._loaded:
            stored = self._stored()
            with self._lock:
                if not self._loaded:
                    self._in_store = stored
                    self._tokens, self._loaded = None if stored is _NO_SESSION else stored, True
        return self._tokens

    def set(self, tokens: Tokens | None) -> None:
        """Use ``tokens`` from now on; ``None`` signs out."""
        with self._lock:
            self._put(tokens)
            self._lineage = None  # another session, or none: nothing to our relatives
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
        while True:
            mine = _Flight()
            try:
                with self._lock:
                    tokens = self._tokens
                    if tokens is None or tokens.access != used:
                        return tokens
                    flight = self._flight
                    if flight is None or flight.landed:
                        flight = self._flight = mine
                if flight is mine:
                    return self._lead(mine, tokens, renewer, deadline)
            finally:
                mine.land()
            if not finish(until(flight.changed, lambda flight=flight: flight.landed, deadline.remaining())):  # type: ignore[misc]
                raise APITimeoutError("the deadline passed while another thread was refreshing the session")
            if flight.error is not None:
                raise copy.copy(flight.error)  # an exception object belongs to one thread
            if flight.settled:
                return flight.tokens

    def _lead(self, flight: _Flight, tokens: Tokens, renewer: Renewer, deadline: Deadline) -> Tokens | None:
        try:
            # Others wait for it, and an answer that nobody reads would use the refresh token up.
            with shielded(), self._store.lock(deadline.remaining()):
                flight.tokens = self._renew_once(tokens, renewer, deadline)
            flight.settled = True
            return flight.tokens
        except SelfDBError as error:
            # The end of this thread's clone, or of its time, is nothing that happened to the others.
            if not isinstance(error, ClientClosedError) and not deadline.passed:
                flight.error = copy.copy(error)
            raise

    def _renew_once(self, tokens: Tokens, renewer: Renewer, deadline: Deadline) -> Tokens | None:
        changed, newer = self._elsewhere(tokens)
        if changed:
            return self._replace(tokens.access, newer, mirror=False)
        if tokens.refresh is None:
            return None
        lineage = self._lineage
        try:
            fresh: Tokens | None = renewer(tokens.refresh, deadline)
        except SelfDBError as error:
            if error.status_code in _NO_SUCH_ROUTE:
                return None
            if error.status_code not in self._refusals:
                raise
            fresh = None
        else:
            self.renewals += 1
        changed, newer = self._elsewhere(tokens)
        if changed:  # a login meanwhile: it is newer than what we asked for
            return self._replace(tokens.access, newer, mirror=False)
        if lineage is not None and fresh is not None:
            lineage.write(self._record(fresh))
        return self._replace(tokens.access, fresh)

    def _elsewhere(self, tokens: Tokens) -> tuple[bool, Tokens | None]:
        """Whether another process changed the session of ``tokens``, and to what; ``None`` if it signed out."""
        if self._alone:
            lineage = self._lineage
            newest = None if lineage is None else self._read(lineage.read())
            return newest is not None and newest.access not in ("", tokens.access), newest
        stored = self._stored()
        if stored is _NO_SESSION or stored == tokens:
            return False, None
        # What is there still because we could not write is not what somebody else put there.
        return stored != self._in_store, stored

    def _replace(self, access: str, tokens: Tokens | None, *, mirror: bool = True) -> Tokens | None:
        """Put ``tokens`` in the place of the pair of ``access`` unless that is gone; return what is in use then."""
        with self._lock:
            if self._tokens is None or self._tokens.access != access:
                return self._tokens
            self._put(tokens)
            if not mirror:
                self._in_store = tokens
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
            try:
                if tokens is None:
                    self._store.remove()
                else:
                    self._store.set(self._record(tokens))
            except SelfDBError:
                with contextlib.suppress(SelfDBError):
                    self._in_store = self._stored()
                raise
            self._in_store = tokens
            if version == self._version:
                return

    def _record(self, tokens: Tokens) -> str:
        record = {"binding": self._binding, "access_token": tokens.access, "refresh_token": tokens.refresh}
        return json.dumps(record)

    def _stored(self) -> Tokens | None:
        return self._read(self._store.get())

    def _read(self, text: str | None) -> Tokens | None:
        """The session that a stored text holds; ``None`` for another one's or no text, `_NO_SESSION` for nonsense."""
        if text is None:
            return None
        try:
            record = json.loads(text)
            if record["binding"] != self._binding:
                return None
            access, refresh = record["access_token"], record["refresh_token"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return _NO_SESSION  # somebody else wrote it, or it broke off: the next pair of ours replaces it
        sound = isinstance(access, str) and bool(access) and isinstance(refresh, (str, type(None)))
        return Tokens(access, refresh) if sound else _NO_SESSION
