"""Who is signed in: the session beside its tokens, how it is renewed, and under which name the cache knows it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Optional

from ..core.arguments import is_token
from ..core.clock import Deadline
from ..core.encoding import encode_json
from ..core.forks import renew_after_fork
from ..core.request import Request
from ..core.tokens import TokenKeeper, Tokens, expiry_of, subject_of
from ..core.transport import Transport
from .calls import Answer
from .parsing import number_at, object_of, text_at
from .types import Session

__all__ = ["REFUSALS", "SessionBook", "end_of", "session_in"]

REFUSALS = frozenset({400, 401, 403})
"""With which a refresh token is refused for good."""


class _Known(NamedTuple):
    session: Session
    user: Optional[str]
    first: str
    """The access token that it began with; names who nobody has said more of."""
    replaced: Optional[str] = None
    """The access token in whose place it comes, which is in use until everybody has the new one."""


def session_in(answer: Answer, body: Any, now: float, refresh_token: str | None = None) -> Session:
    """The session that the ``body`` of ``answer`` gives.

    :param refresh_token: the one that was used, which a server that does not rotate goes on with.
    :raises AeroDBRequestError: ``INVALID_RESPONSE`` if there is none in it.
    """
    fields = object_of(body)
    access, refresh = fields.get("access_token"), fields.get("refresh_token")
    if not isinstance(access, str) or not is_token(access) or not (refresh is None or is_token(refresh)):
        raise answer.unusable("holds no session")
    expires_in, expires_at = number_at(fields, "expires_in"), number_at(fields, "expires_at")
    if expires_at is None:
        expires_at = end_of(access) if expires_in is None else int(now) + expires_in
    return Session(access, refresh or refresh_token, expires_at, expires_in, text_at(fields, "token_type"))


def end_of(access: str) -> int | None:
    """When an access token says that it ends."""
    return number_at({"exp": expiry_of(access)}, "exp")


class SessionBook:
    """Keeps the session of one client. May be shared by threads.

    :param key: the client's own, which decides what is seen as well.
    :param headers: sent with every request; so may these.
    """

    def __init__(
        self, keeper: TokenKeeper, key: str | None, now: Callable[[], float], headers: Mapping[str, str]
    ) -> None:
        self.keeper = keeper
        self.now = now
        self.on_user: Callable[[], object] | None = None
        """Called when somebody else is signed in, or nobody."""
        self._key = key
        self._headers = sorted((name.lower(), value) for name, value in headers.items())
        self._known: _Known | None = None
        renew_after_fork(self)
        self._renew_in_child()

    def _renew_in_child(self) -> None:
        self._lock = threading.RLock()  # what is known and the tokens that it is known of change together

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def current(self) -> Session | None:
        """The session, or ``None`` when nobody is signed in."""
        tokens, known = self.keeper.current(), self._known
        if tokens is None:
            return None
        if known is not None and known.session.access_token == tokens.access:
            return known.session
        return Session(tokens.access, tokens.refresh, end_of(tokens.access))

    def take(self, session: Session, user: str | None) -> None:
        """Go on with ``session``, of the user with the id ``user`` if that is known."""
        before = self.identity()
        with self._lock:
            self._known = _Known(session, user, session.access_token)
            self.keeper.set(Tokens(session.access_token, session.refresh_token))
        self.tell(before)

    def know(self, access: str, user: str) -> None:
        """The access token ``access`` turned out to be of the user with the id ``user``."""
        with self._lock:
            session = self.current()
            if session is not None and session.access_token == access:
                self._known = _Known(session, user, self._first(access))

    def clear(self) -> None:
        """Nobody is signed in any more."""
        before = self.identity()
        with self._lock:
            self.keeper.set(None)
            self._known = None
        self.tell(before)

    def tell(self, before: str) -> None:
        """Tell if somebody else is signed in than when ``identity`` gave ``before``."""
        if self.on_user is not None and self.identity() != before:
            self.on_user()

    def identity(self) -> str:
        """Says whose rows a read gives: the same after each renewal, another for everybody else. Secret."""
        return self.identities()[0]

    def identities(self) -> list[str]:
        """As ``identity``, and behind it those under which the cache may know the user from before. Secret."""
        tokens = self.keeper.current()
        names: list[tuple[str, ...]] = [()]
        if tokens is not None:
            known = self._known_of(tokens.access)
            names = [("token", tokens.access if known is None else known.first)]
            user = subject_of(tokens.access)
            if user is None and known is not None:
                user = known.user
            if user is not None:
                names.insert(0, ("user", user))
        return [json.dumps((self._key, self._headers, name)) for name in names]

    def _known_of(self, access: str) -> _Known | None:
        known = self._known
        return None if known is None or access not in (known.session.access_token, known.replaced) else known

    def _first(self, access: str) -> str:
        known = self._known_of(access)
        return access if known is None else known.first

    def renew(self, transport: Transport, refresh_token: str, deadline: Deadline) -> Tokens:
        """Exchange a refresh token for a new pair (``POST /auth/refresh``); what the transport renews with."""
        held = self.keeper.current()
        request = Request(
            "POST",
            "/auth/refresh",
            body=encode_json({"refresh_token": refresh_token}),
            content_type="application/json",
            bearer=False,
            renewable=False,
            secrets=(refresh_token,),
            patient=False,
            keyable=False,
        )
        response = transport.exchange(request, deadline)
        answer = Answer(response.status_code, response.headers, response.content)
        session = session_in(answer, answer.json(), self.now(), refresh_token)
        with self._lock:
            if held is not None and self.keeper.current() == held:  # else somebody signed in, or out, meanwhile
                known = self._known_of(held.access)
                user, first = (None, held.access) if known is None else (known.user, known.first)
                self._known = _Known(session, user, first, held.access)
        return Tokens(session.access_token, session.refresh_token)
