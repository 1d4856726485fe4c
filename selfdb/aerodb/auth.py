"""Signing up, in and out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.arguments import is_token
from ..core.clock import Deadline
from ..core.encoding import encode_json
from ..core.marks import blocking
from ..core.tokens import Tokens
from ..exceptions import APIConnectionError, InvalidRequestError, RedirectError, SelfDBError
from .calls import Answer, Calls, problem
from .envelope import AeroDBResponse
from .parsing import mapping_at, object_of, text_at
from .session import SessionBook, end_of, session_in
from .types import AuthData, Session, User

__all__ = ["AuthClient"]


class AuthClient:
    """Who the client is. Tokens are kept in memory only. May be shared by threads.

    A call that meets an expired access token refreshes the session once, for all threads, and is made once more.

    :param calls: makes the exchanges.
    :param book: keeps the session.
    """

    def __init__(self, calls: Calls, book: SessionBook) -> None:
        self._calls = calls
        self._book = book

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._calls.url}>"

    @blocking
    def sign_up(self, email: str, password: str, metadata: Mapping[str, Any] | None = None) -> AeroDBResponse[AuthData]:
        """Register, and be signed in if the server does not want a confirmation first (``session`` is ``None`` then).

        :param metadata: kept with the user.

        ``POST /auth/signup``
        """

        def work() -> AeroDBResponse[AuthData]:
            body: dict[str, Any] = _credentials(email, password)
            if metadata is not None and not isinstance(metadata, Mapping):
                raise InvalidRequestError(f"metadata must be a mapping, not {type(metadata).__name__}")
            if metadata:
                body["metadata"] = dict(metadata)
            return self._enter("/auth/signup", body, password, optional=True)

        return self._calls.enveloped(work)

    @blocking
    def sign_in(self, email: str, password: str) -> AeroDBResponse[AuthData]:
        """Be signed in from now on. If it fails, whoever was signed in stays so.

        ``POST /auth/login``
        """
        return self._calls.enveloped(
            lambda: self._enter("/auth/login", _credentials(email, password), password, optional=False)
        )

    def _enter(self, path: str, body: dict[str, Any], password: str, *, optional: bool) -> AeroDBResponse[AuthData]:
        answer = self._calls.send(
            "POST",
            path,
            body=encode_json(body),
            content_type="application/json",
            bearer=False,
            renewable=False,
            patient=False,
            secrets=(password,),
        )
        given = answer.json()
        user = _user_in(answer, given.get("user") if isinstance(given, dict) else None)
        session = None
        if not optional or given.get("access_token") is not None:
            session = session_in(answer, given, self._book.now())
            self._book.take(session, user.id)
        return AeroDBResponse(AuthData(user, session), None, status=answer.status)

    @blocking
    def sign_out(self) -> AeroDBResponse[None]:
        """End the session. Signed out here whatever the server says; only if it cannot be reached, that is told.

        ``POST /auth/logout``
        """

        def work() -> AeroDBResponse[None]:
            held, identities = self._book.keeper.current(), self._book.identities()
            status = None
            try:
                if held is not None and held.refresh is not None:
                    status = self._end_session(held.refresh)
            finally:
                self._book.clear()
                if self._calls.cache is not None and held is not None:
                    for identity in identities:
                        self._calls.cache.forget_user(self._calls.url, identity)
            return AeroDBResponse(None, None, status=status)

        return self._calls.enveloped(work)

    def _end_session(self, refresh_token: str) -> int | None:
        try:
            answer = self._calls.send(
                "POST",
                "/auth/logout",
                body=encode_json({"refresh_token": refresh_token}),
                content_type="application/json",
                renewable=False,
                secrets=(refresh_token,),
            )
        except RedirectError as error:
            return error.status_code
        except APIConnectionError:
            raise
        except SelfDBError as error:
            if error.status_code is None:
                raise
            return error.status_code
        return answer.status

    @blocking
    def get_user(self) -> AeroDBResponse[User]:
        """The signed-in user as the server knows him.

        ``GET /auth/user``
        """

        def work() -> AeroDBResponse[User]:
            before = self._book.keeper.current()
            if before is None:
                raise problem("NOT_AUTHENTICATED", "nobody is signed in; call auth.sign_in() first")
            answer = self._calls.send("GET", "/auth/user")
            user = _user_in(answer, answer.json())
            self._book.know(before.access, user.id)
            return AeroDBResponse(user, None, status=answer.status)

        return self._calls.enveloped(work)

    @blocking
    def refresh_session(self) -> AeroDBResponse[Session]:
        """Exchange the refresh token, which is used up, for a new session. There is seldom a need to.

        If the server refuses it (400, 401, 403) nobody is signed in any more; after any other failure it is kept.

        ``POST /auth/refresh``
        """

        def work() -> AeroDBResponse[Session]:
            held = self._book.keeper.current()
            if held is None or held.refresh is None:
                raise problem("NO_REFRESH_TOKEN", "there is no refresh token; call auth.sign_in() first")
            before = self._book.identity()
            try:
                self._renew(held)
            finally:
                self._book.tell(before)
            session = self._book.current()
            if session is None:
                raise problem("NOT_AUTHENTICATED", "the session has ended; call auth.sign_in()")
            return AeroDBResponse(session, None)

        return self._calls.enveloped(work)

    def _renew(self, held: Tokens) -> None:
        """In turn with the calls that do so by themselves."""
        transport = self._calls.transport
        refused: list[SelfDBError] = []

        def renew(refresh_token: str, deadline: Deadline) -> Tokens:
            try:
                return self._book.renew(transport, refresh_token, deadline)
            except SelfDBError as error:
                refused.append(error)
                raise

        deadline = Deadline(transport.options.deadline, transport.pool.clock)
        self._book.keeper.renew(held.access, renew, deadline)
        if refused:
            raise refused[0]

    def get_session(self) -> Session | None:
        """The session that the client holds, or ``None``. Asks nobody."""
        return self._book.current()

    def get_token(self) -> str | None:
        """The access token that the client holds, or ``None``. Secret. Asks nobody."""
        tokens = self._book.keeper.current()
        return None if tokens is None else tokens.access

    def set_session(self, access_token: str, refresh_token: str | None = None) -> AeroDBResponse[Session]:
        """Go on with a session that was begun elsewhere. Asks nobody.

        :param refresh_token: without one the session is not renewed when it ends.
        """

        def work() -> AeroDBResponse[Session]:
            _check_token(access_token, "access_token")
            if refresh_token is not None:
                _check_token(refresh_token, "refresh_token")
            session = Session(access_token, refresh_token, end_of(access_token))
            self._book.take(session, None)
            return AeroDBResponse(session, None)

        return self._calls.enveloped(work)


def _credentials(email: str, password: str) -> dict[str, Any]:
    for value, what in ((email, "email"), (password, "password")):
        if not isinstance(value, str) or not value:
            raise InvalidRequestError(f"{what} must be a str that is not empty")
    return {"email": email, "password": password}


def _check_token(value: Any, what: str) -> None:
    if not is_token(value):
        raise InvalidRequestError(f"{what} must be a token: printable ASCII without blanks, and not empty")


def _user_in(answer: Answer, body: Any) -> User:
    fields = object_of(body)
    id_, email = fields.get("id"), fields.get("email")
    if isinstance(id_, bool) or not isinstance(id_, (str, int)) or not isinstance(email, str):
        raise answer.unusable("holds no user")
    return User(
        str(id_),
        email,
        fields.get("email_verified") is True,
        text_at(fields, "created_at") or "",
        text_at(fields, "updated_at"),
        mapping_at(fields, "metadata"),
    )
