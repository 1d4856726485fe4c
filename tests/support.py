"""What tests of the server share: raw HTTP without our client, and names that never collide."""

from __future__ import annotations

import threading
import uuid
from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple

import requests

ADMIN_EMAIL = "admin@example.com"
ADMIN_PASSWORD = "password"
TIMEOUT = (10.0, 60.0)


def unique(prefix: str = "n") -> str:
    """A new name of lower-case letters and digits (11 more than ``prefix``), which must start with a letter.

    It is valid as the name of a table, of a column, of a bucket and as the local part of an e-mail address.
    """
    return f"{prefix}{uuid.uuid4().hex[:11]}"


class Pair(NamedTuple):
    """What a login answered."""

    access: str
    refresh: str


class _Default:
    """Stands for "the server's own key", so that ``key=None`` can mean "send none"."""


DEFAULT = _Default()


class Http:
    """Raw HTTP to one server: ``server`` needs ``url`` and ``api_key``.

    Each call has a connection of its own, follows no redirect, reads no environment and sends the API key
    unless told otherwise (``key=None``: no key; ``key="..."``: that one). ``bearer=`` is an access token.
    Everything else goes to `requests.request`. Safe to share between threads.
    """

    def __init__(self, server: Any) -> None:
        self.url: str = server.url.rstrip("/")
        self.api_key: str = server.api_key
        self._lock = threading.Lock()
        self._admin: Optional[Pair] = None

    def request(
        self,
        method: str,
        path: str,
        *,
        bearer: Optional[str] = None,
        key: Any = DEFAULT,
        headers: Optional[Mapping[str, Optional[str]]] = None,
        **options: Any,
    ) -> requests.Response:
        sent: Dict[str, Any] = {}
        if key is DEFAULT:
            sent["X-API-Key"] = self.api_key
        elif key is not None:
            sent["X-API-Key"] = key
        if bearer is not None:
            sent["Authorization"] = f"Bearer {bearer}"
        sent.update(headers or {})
        options.setdefault("timeout", TIMEOUT)
        options.setdefault("allow_redirects", False)
        with requests.Session() as session:
            session.trust_env = False
            return session.request(method, self.url + path, headers=sent, **options)

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.request("GET", path, **options)

    def head(self, path: str, **options: Any) -> requests.Response:
        return self.request("HEAD", path, **options)

    def options(self, path: str, **options: Any) -> requests.Response:
        return self.request("OPTIONS", path, **options)

    def post(self, path: str, **options: Any) -> requests.Response:
        return self.request("POST", path, **options)

    def patch(self, path: str, **options: Any) -> requests.Response:
        return self.request("PATCH", path, **options)

    def put(self, path: str, **options: Any) -> requests.Response:
        return self.request("PUT", path, **options)

    def delete(self, path: str, **options: Any) -> requests.Response:
        return self.request("DELETE", path, **options)

    def login(self, email: str = ADMIN_EMAIL, password: str = ADMIN_PASSWORD) -> Pair:
        """A new session of that user."""
        answer = self.post("/users/token", json={"email": email, "password": password})
        assert answer.status_code == 200, f"login of {email}: {answer.status_code} {answer.text}"
        body = answer.json()
        return Pair(body["access_token"], body["refresh_token"])

    @property
    def admin(self) -> str:
        """The seeded administrator's access token; one login for the life of this object."""
        with self._lock:
            if self._admin is None:
                self._admin = self.login()
            return self._admin.access

    def new_user(self, *, password: str = "password123", **fields: Any) -> Tuple[Dict[str, Any], str]:
        """Register a user; ``(the user's JSON, an access token of theirs)``."""
        body = {
            "email": f"{unique('u')}@example.com",
            "password": password,
            "firstName": "Ada",
            "lastName": "Byron",
            **fields,
        }
        # As the administrator: it works under every registration policy.
        answer = self.post("/users/", json=body, bearer=self.admin)
        assert answer.status_code == 201, f"registration: {answer.status_code} {answer.text}"
        return answer.json(), self.login(body["email"], password).access
