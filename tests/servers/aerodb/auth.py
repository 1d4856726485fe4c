"""Accounts and sessions: refresh tokens are used once, access tokens until they expire."""

from __future__ import annotations

import itertools
import threading
from typing import Any, Dict, List, Optional, Set

from tests.servers.replies import Reply, Request

LIFETIME = 900


def refusal(status: int, message: str) -> Reply:
    """An error as these routes write it."""
    return status, {}, {"error": message, "code": status}


class FakeAuth:
    """The routes below ``/auth``. For any thread.

    :ivar pending: whether new users have to be confirmed before they get tokens.
    :ivar instead: what the next requests to a path are answered, by path.
    """

    def __init__(self) -> None:
        self.pending = False
        self.instead: Dict[str, List[Reply]] = {}
        self._users: Dict[str, Dict[str, Any]] = {}
        self._access: Dict[str, str] = {}
        self._expired: Set[str] = set()
        self._refresh: Dict[str, str] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def add(self, email: str, password: str, **more: Any) -> Dict[str, Any]:
        """A user."""
        number = next(self._numbers)
        user = {"id": f"user-{number}", "email": email, "created_at": "2026-01-02T03:04:05Z", **more}
        self._users[email] = {**user, "password": password}
        return user

    def expire(self, access: str) -> None:
        """Accept ``access`` no more."""
        with self._lock:
            self._expired.add(access)

    def user_of(self, request: Request) -> Optional[Dict[str, Any]]:
        """Whose bearer token goes with ``request``, if it is a good one."""
        kind, _, token = (request.header("Authorization") or "").partition(" ")
        with self._lock:
            email = self._access.get(token) if kind == "Bearer" and token not in self._expired else None
            return None if email is None else self._shown(email)

    def answer(self, request: Request) -> Reply:
        """What a request below ``/auth`` is answered."""
        queued = self.instead.get(request.path)
        if queued:
            return queued.pop(0)
        route = getattr(self, f"_{request.method.lower()}_{request.path.rpartition('/')[2]}", None)
        if route is None:
            return refusal(404, "no such route")
        reply: Reply = route(request)
        return reply

    def _shown(self, email: str) -> Dict[str, Any]:
        return {name: value for name, value in self._users[email].items() if name != "password"}

    def _tokens(self, email: str) -> Dict[str, Any]:
        number = next(self._numbers)
        access, refresh = f"access-token-{number:04}", f"refresh-token-{number:04}"
        self._access[access] = self._refresh[refresh] = email
        return {"access_token": access, "refresh_token": refresh, "expires_in": LIFETIME}

    def _post_signup(self, request: Request) -> Reply:
        body = request.json
        if body["email"] in self._users:
            return refusal(409, "email already registered")
        if len(body["password"]) < 8:
            return refusal(400, "weak password")
        user = self.add(
            body["email"], body["password"], **({"metadata": body["metadata"]} if "metadata" in body else {})
        )
        if self.pending:
            return 201, {}, {"user": user}
        with self._lock:
            return 201, {}, {"user": user, **self._tokens(body["email"])}

    def _post_login(self, request: Request) -> Reply:
        body = request.json
        user = self._users.get(body["email"])
        if user is None or user["password"] != body["password"]:
            return refusal(401, "wrong credentials")
        with self._lock:
            return 200, {}, {"user": self._shown(body["email"]), **self._tokens(body["email"])}

    def _post_refresh(self, request: Request) -> Reply:
        with self._lock:
            email = self._refresh.pop(request.json["refresh_token"], None)
            return refusal(401, "reused refresh token") if email is None else (200, {}, self._tokens(email))

    def _post_logout(self, request: Request) -> Reply:
        with self._lock:
            self._refresh.pop(request.json["refresh_token"], None)
        return 204, {}, b""

    def _get_user(self, request: Request) -> Reply:
        user = self.user_of(request)
        return refusal(401, "expired session") if user is None else (200, {}, user)
