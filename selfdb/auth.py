"""Users and sessions: ``client.auth`` and ``client.auth.users``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Union

from . import models
from .core.arguments import is_token
from .core.clock import Deadline
from .core.encoding import encode_json
from .core.marks import blocking
from .core.namespace import Caller, Namespace, raw, reading, search_term, walk, window, writing
from .core.parsing import count_in, deletion, list_of, one
from .core.request import Request
from .core.response import Response
from .core.tokens import Tokens
from .core.transport import Transport
from .core.unread import unread
from .core.urls import Id, key_of
from .exceptions import AuthenticationError, InvalidRequestError, NotSignedInError, SelfDBError

if TYPE_CHECKING:
    from .models import LogoutResponse, TokenPair, UserCreate, UserDeleteResponse, UserRead, UserUpdate

__all__ = ["Auth", "RawAuth", "RawUsers", "Users", "renew_session"]

_USER = one(lambda: models.UserRead, "user")
_USERS = list_of(lambda: models.UserRead, "data", "items", "users")
_PAIR = one(lambda: models.TokenPair)
_LOGGED_OUT = one(lambda: models.LogoutResponse)

_NO_LOGOUT_ROUTE = frozenset({404, 405})


def _pair(response: Response) -> TokenPair:
    """The pair as the model that users get.

    Most never look at it, and pydantic takes as long to import as the HTTP stack does. So a program that has not
    imported it, and thus has no class that it could compare with, gets a pair that is made when it is looked at.
    """
    _tokens(response)
    if "pydantic" in sys.modules or _ordinary(response) is None:
        return _PAIR(response)
    return unread(lambda: _PAIR(response))


def _tokens(response: Response) -> Tokens:
    """The pair, whose access token every later request is to carry in its head."""
    tokens = _ordinary(response)
    if tokens is None:
        pair = _PAIR(response)
        tokens = Tokens(pair.access_token, pair.refresh_token)
    for token in tokens:
        if token is not None and not is_token(token):
            del tokens, token  # tools that show the variables of a traceback find no token in ours
            raise response.unusable("holds a token that is none")
    return tokens


def _ordinary(response: Response) -> Tokens | None:
    """The pair in an answer of just the types that the model has; ``None`` for any other, which it has to judge."""
    body = response.json()
    if not isinstance(body, dict):
        return None
    access, refresh, user = body.get("access_token"), body.get("refresh_token"), body.get("user")
    kind, seconds = body.get("token_type", ""), body.get("expires_in")
    if not isinstance(access, str) or not isinstance(refresh, (str, type(None))):
        return None
    # Half a character, which JSON can hold, is no text to pydantic.
    texts = [kind, *(user if isinstance(user, dict) else ())]
    if not all(isinstance(text, str) and text.isascii() for text in texts):
        return None
    fits = type(seconds) in (int, type(None)) and isinstance(user, (dict, type(None)))
    return Tokens(access, refresh) if fits else None


def _logged_out(response: Response) -> LogoutResponse:
    return _LOGGED_OUT(response) if response.content else models.LogoutResponse()


def _token_request(path: str, body: Mapping[str, str], secret: str) -> Request:
    """An exchange that gives tokens: without a bearer (a stale one must never break a login), and kept in no error."""
    return writing("POST", path, body, secrets=(secret,))._replace(
        bearer=False, renewable=False, patient=False, keep_body=False, keyable=False
    )


def _refresh_request(refresh_token: str) -> Request:
    # A 429 of a refresh may be waited out: the call that needs it has a deadline of its own.
    request = _token_request("/users/token/refresh", {"refresh_token": refresh_token}, refresh_token)
    return request._replace(patient=True)


def renew_session(transport: Transport, refresh_token: str, deadline: Deadline) -> Tokens:
    """Exchange a refresh token for a new pair (``POST /users/token/refresh``); what the transport renews with."""
    return _tokens(transport.exchange(_refresh_request(refresh_token), deadline))


def _secret_text(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidRequestError(f"{what} must be a str that is not empty")
    return value


class Users(Namespace):
    """The users of the server. May be shared by threads."""

    @blocking
    def create(self, payload: Union[UserCreate, Mapping[str, Any]], *, idempotency_key: str | None = None) -> UserRead:
        """Register a user.

        :param payload: a :class:`~selfdb.models.UserCreate` or a dict of its fields.
        :param idempotency_key: 1 to 255 characters; the server does the write once for all calls with the same key.
        :returns: the new user.
        :raises InvalidRequestError: if ``payload`` does not fit; nothing is sent.
        :raises ConflictError: if the e-mail address is taken.
        :raises UnprocessableEntityError: if the server refuses a value.

        ``POST /users/``
        """
        user = models.UserCreate.of(payload)
        del payload  # as in `Auth.login`
        request = writing("POST", "/users/", user.wire(), key=idempotency_key, secrets=(user.password,))
        return self._call(request, _USER)

    @blocking
    def list(
        self,
        *,
        skip: int | None = None,
        limit: int | None = None,
        search: str | None = None,
        sort_by: str | None = None,
        sort_order: str | None = None,
    ) -> list[UserRead]:
        """One slice of the users that the caller may see.

        :param skip: users to leave out at the start, 0 or more.
        :param limit: users at most, 1 or more; the server's default is 100.
        :param search: part of the e-mail address, first or last name, at most 100 characters, any case.
        :param sort_by: ``created_at``, ``email``, ``first_name`` or ``last_name``.
        :param sort_order: ``asc`` or ``desc`` (the server's default).
        :raises InvalidRequestError: for an argument out of range; nothing is sent.

        ``GET /users/``
        """
        return self._call(reading("/users/", *window(skip, limit, search, sort_by, sort_order)), _USERS)

    def iter(
        self,
        *,
        search: str | None = None,
        sort_by: str = "created_at",
        sort_order: str = "asc",
        page_size: int = 100,
    ) -> Iterator[UserRead]:
        """Every user that :meth:`list` would show, fetched ``page_size`` at a time as the loop goes on.

        Sorted, oldest first unless told otherwise, so that pages do not overlap.
        """
        parsed = Users(self._transport)  # whatever this one gives, a loop needs the items
        return walk(parsed.list, page_size, search=search, sort_by=sort_by, sort_order=sort_order)

    @blocking
    def get(self, user_id: Id) -> UserRead:
        """One user.

        :raises NotFoundError: if there is none of that id.
        :raises PermissionDeniedError: if the caller may not see him.

        ``GET /users/{user_id}``
        """
        return self._call(reading(f"/users/{key_of(user_id, 'user_id', 'me', 'count')}"), _USER)

    @blocking
    def update(
        self, user_id: Id, payload: Union[UserUpdate, Mapping[str, Any]], *, idempotency_key: str | None = None
    ) -> UserRead:
        """Change a user: exactly the fields that are set in ``payload``; an explicit ``None`` goes as null.

        :raises PermissionDeniedError: if the caller is neither that user nor an ADMIN, or changes what only an
            ADMIN may.
        :raises ConflictError: if the e-mail address is taken.

        ``PATCH /users/{user_id}``
        """
        changes = models.UserUpdate.of(payload)
        del payload  # as in `Auth.login`
        request = writing(
            "PATCH",
            f"/users/{key_of(user_id, 'user_id', 'me', 'count')}",
            changes.wire(),
            key=idempotency_key,
            secrets=(changes.password or "",),
        )
        return self._call(request, _USER)

    @blocking
    def delete(self, user_id: Id, *, idempotency_key: str | None = None) -> UserDeleteResponse:
        """Delete a user with his tables, buckets and files.

        :raises ConflictError: if he is the last ADMIN.

        ``DELETE /users/{user_id}``
        """
        request = writing("DELETE", f"/users/{key_of(user_id, 'user_id', 'me', 'count')}", key=idempotency_key)
        return self._call(request, deletion(lambda: models.UserDeleteResponse, "User", user_id))


class Auth(Namespace):
    """Signing in and out, and who is signed in. May be shared by threads.

    :ivar users: the users of the server.
    """

    def __init__(self, transport: Transport, call: Caller | None = None) -> None:
        super().__init__(transport, call)
        self.users = Users(transport, call)

    @blocking
    def login(self, email: str, password: str) -> TokenPair:
        """Sign in; every later call of this client is made as that user.

        :raises AuthenticationError: if e-mail address and password do not fit.
        :raises RateLimitError: at once, after too many failures; ``retry_after`` says when to come back.
        :raises UnprocessableEntityError: if ``email`` is no e-mail address.

        ``POST /users/token``
        """
        body = {"email": email, "password": _secret_text(password, "password")}
        request = _token_request("/users/token", body, password)
        del body, password  # tools that show the variables of a traceback find no secret in ours
        return self._sign_in(request)

    def _sign_in(self, request: Request) -> TokenPair:
        response = self._transport.exchange(request)
        self._transport.keeper.set(_tokens(response))
        return self._call.result(response, _pair)

    @blocking
    def refresh(self, refresh_token: str | None = None) -> TokenPair:
        """Exchange a refresh token for a new pair, and go on with it.

        There is seldom a need to: a call that meets an expired token does this by itself.

        :param refresh_token: that of the client's session by default; it is used up.
        :raises NotSignedInError: if none is given and none is held; nothing is sent.
        :raises AuthenticationError: if the server refuses it; a session that it belonged to is forgotten.

        ``POST /users/token/refresh``
        """
        keeper = self._transport.keeper
        held = keeper.current()
        token = refresh_token if refresh_token is not None else held.refresh if held is not None else None
        if token is None:
            raise NotSignedInError("there is no refresh token; log in first")
        request = _refresh_request(_secret_text(token, "refresh_token"))
        foreign = held is None or token != held.refresh
        del token, refresh_token  # as in `login`
        if held is None or foreign:
            return self._sign_in(request)
        return self._call.result(self._renew(held, request), _pair)

    def _renew(self, held: Tokens, request: Request) -> Response:
        """Refresh the client's own session, in turn with the calls that do so by themselves."""
        came: list[Response] = []
        refused: list[SelfDBError] = []

        def renew(_: str, deadline: Deadline) -> Tokens:
            try:
                response = self._transport.exchange(request, deadline)
            except SelfDBError as error:
                refused.append(error)
                raise
            fresh = _tokens(response)
            came.append(response)
            return fresh

        seconds = self._transport.options.deadline
        try:
            fresh = self._transport.keeper.renew(held.access, renew, Deadline(seconds, self._transport.pool.clock))
        except SelfDBError as error:
            raise error.with_traceback(None) from error.__cause__  # the frames below hold tokens
        if came:
            return came[0]
        if refused:
            raise refused[0].with_traceback(None)
        if fresh is None:
            raise AuthenticationError("the session has ended; log in again")
        # Another thread, or another process on the same store, was faster.
        body = encode_json({"access_token": fresh.access, "refresh_token": fresh.refresh})
        return Response(200, {}, body, private=True)

    @blocking
    def logout(self, refresh_token: str | None = None) -> LogoutResponse:
        """End a session on the server and sign out.

        :param refresh_token: names the session to end; that of the client by default.
        :raises AuthenticationError: if the server refuses; signed out here all the same.
        :raises APIConnectionError: if the server cannot be reached; still signed in.

        ``POST /users/logout``
        """
        held = self._transport.keeper.current()
        token = refresh_token if refresh_token is not None else held.refresh if held is not None else None
        body = {} if token is None else {"refresh_token": _secret_text(token, "refresh_token")}
        request = writing("POST", "/users/logout", body, secrets=(token or "",))
        del body, token, refresh_token  # as in `login`
        return self._sign_out(request._replace(renewable=False, keyable=False, keep_body=False))

    @blocking
    def logout_all(self) -> LogoutResponse:
        """End every session of the signed-in user, this one included.

        :raises AuthenticationError: if nobody is signed in; signed out here all the same.
        :raises APIConnectionError: if the server cannot be reached; still signed in.

        ``POST /users/logout/all``
        """
        return self._sign_out(writing("POST", "/users/logout/all")._replace(keyable=False))

    def _sign_out(self, request: Request) -> LogoutResponse:
        keeper = self._transport.keeper
        try:
            response = self._transport.exchange(request)
        except AuthenticationError:
            keeper.set(None)
            raise
        except SelfDBError as error:
            if error.status_code not in _NO_LOGOUT_ROUTE:
                raise
            # A server without sessions of its own: forgetting the tokens is all there is to do.
            response = Response(error.status_code or 0, {}, b'{"message":"Logged out locally"}')
        keeper.set(None)
        return self._call.result(response, _logged_out)

    @blocking
    def me(self) -> UserRead:
        """The signed-in user.

        :raises AuthenticationError: if nobody is signed in.

        ``GET /users/me``
        """
        return self._call(reading("/users/me"), _USER)

    @blocking
    def count(self, search: str | None = None) -> int:
        """How many users the caller may see.

        :param search: part of the e-mail address, first or last name, at most 100 characters, any case.

        ``GET /users/count``
        """
        return self._call(reading("/users/count", ("search", search_term(search))), count_in)


@blocking
class RawUsers:
    """The calls of :class:`Users` with their whole answers."""

    def __init__(self, users: Users) -> None:
        self.create = raw(users.create)
        self.list = raw(users.list)
        self.get = raw(users.get)
        self.update = raw(users.update)
        self.delete = raw(users.delete)


@blocking
class RawAuth:
    """The calls of :class:`Auth` with their whole answers."""

    def __init__(self, auth: Auth) -> None:
        self.users = RawUsers(auth.users)
        self.login = raw(auth.login)
        self.refresh = raw(auth.refresh)
        self.logout = raw(auth.logout)
        self.logout_all = raw(auth.logout_all)
        self.me = raw(auth.me)
        self.count = raw(auth.count)
