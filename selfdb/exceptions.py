"""Every error that this package raises on purpose, and nothing else.

::

    SelfDBError
    |-- APIConnectionError            (also ConnectionError) no usable answer came back
    |   |-- APITimeoutError           (also TimeoutError) a time-out or the deadline passed
    |   `-- RedirectError             the server sent us where we do not follow
    |-- BadRequestError               400
    |   |-- UnprocessableEntityError  422
    |   `-- InvalidRequestError       (also ValueError) refused before any I/O
    |-- AuthenticationError           401
    |   |-- MissingAPIKeyError        406
    |   `-- NotSignedInError          (also ValueError) a session is needed and none is held
    |-- PermissionDeniedError         403
    |-- NotFoundError                 404
    |-- ConflictError                 409
    |-- RateLimitError                429
    |-- InternalServerError           500 and above
    |-- ResponseTooLargeError         an answer beyond the limit for it
    |-- ClientClosedError             (also RuntimeError) the client was closed
    `-- RealtimeError                 a channel was refused or lost

Catch by kind (``except NotFoundError``) or by built-in (``except TimeoutError``). All of them can be
pickled and copied, so they cross process boundaries (Celery, ``multiprocessing``) whole. None of them
holds a request, a header, a key or a token; what the HTTP stack said is the ``__cause__``.

``selfdb.aerodb`` and ``selfdb.indexie`` have errors of their own, which are `SelfDBError` too.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple, Type

__all__ = [
    "APIConnectionError",
    "APITimeoutError",
    "AuthenticationError",
    "BadRequestError",
    "ClientClosedError",
    "ConflictError",
    "InternalServerError",
    "InvalidRequestError",
    "MissingAPIKeyError",
    "NotFoundError",
    "NotSignedInError",
    "PermissionDeniedError",
    "RateLimitError",
    "RealtimeError",
    "RedirectError",
    "ResponseTooLargeError",
    "SelfDBError",
    "UnprocessableEntityError",
    "error_class_for_status",
]


class SelfDBError(Exception):
    """Base of every error of this package.

    :param message: what happened and, where we know it, what to do.
    :param status_code: the HTTP status that the server answered with; ``None`` when no answer came.
    :param response_body: the decoded JSON body of the answer, else its text (at most 2 KiB), else ``None``.
        Never kept for calls whose bodies carry passwords or tokens.
    :param method: HTTP method of the exchange that failed.
    :param path: its path without query, as it was sent.
    :param request_id: the answer's ``X-Request-ID``, for the server's operator.
    :param attempts: how many times the request was sent or tried.
    :ivar may_have_been_applied: true when the call may have changed something although it failed: an attempt of it
        was lost on the way, or met a server that failed (500 and above), or its answer of success could not be read.
        Look before you send a write again. False means that nothing was changed.
    """

    may_have_been_applied: bool = False

    hint: str = ""
    """What to do about it, where that can be said."""

    def __init__(
        self,
        message: str,
        status_code: Optional[int] = None,
        response_body: Any = None,
        *,
        method: Optional[str] = None,
        path: Optional[str] = None,
        request_id: Optional[str] = None,
        attempts: int = 0,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status_code = status_code
        self.response_body = response_body
        self.method = method
        self.path = path
        self.request_id = request_id
        self.attempts = attempts

    def __str__(self) -> str:
        text = self.message if self.status_code is None else f"[{self.status_code}] {self.message}"
        if self.hint:
            text = f"{text}; {self.hint}"
        return f"{text} ({self.method} {self.path})" if self.method and self.path else text

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> Tuple[Any, ...]:
        return type(self), (self.message, self.status_code, self.response_body), self.__dict__.copy()


class APIConnectionError(SelfDBError, ConnectionError):
    """No usable answer: DNS, refused, reset, TLS, proxy, a truncated or undecodable body."""


class APITimeoutError(APIConnectionError, TimeoutError):
    """The connect or read time-out, or the deadline of the whole call, passed."""


class RedirectError(APIConnectionError):
    """The server redirected to another origin, in a loop, or in a way that would change the request."""


class BadRequestError(SelfDBError):
    """400: the server understood the request and refuses its content."""


class UnprocessableEntityError(BadRequestError):
    """422: the server's validation refused the request; ``errors`` lists its findings."""

    @property
    def errors(self) -> List[Dict[str, Any]]:
        """The ``detail`` list of the answer: one mapping with ``loc``, ``msg`` and ``type`` a finding."""
        detail = self.response_body.get("detail") if isinstance(self.response_body, dict) else None
        return [item for item in detail if isinstance(item, dict)] if isinstance(detail, list) else []


class InvalidRequestError(BadRequestError, ValueError):
    """An argument or a model is wrong; nothing was sent."""


class AuthenticationError(SelfDBError):
    """401: no valid session or key; log in (again) or check the API key."""


class MissingAPIKeyError(AuthenticationError):
    """406: the server saw no ``X-API-Key`` header (a proxy may have removed it)."""


class NotSignedInError(AuthenticationError, ValueError):
    """The call needs a session and the client holds none; nothing was sent. Log in first."""


class PermissionDeniedError(SelfDBError):
    """403: signed in, but not allowed."""


class NotFoundError(SelfDBError):
    """404: no such thing, or not visible to you."""


class ConflictError(SelfDBError):
    """409: it exists already, or several things match where one is meant."""


class RateLimitError(SelfDBError):
    """429: too many requests; ``retry_after`` is the server's wish in seconds, or ``None``."""

    retry_after: Optional[float] = None


class InternalServerError(SelfDBError):
    """500 and above: the server failed; the real status stands in ``status_code``."""


class ResponseTooLargeError(SelfDBError):
    """The answer is larger than the limit for it, compressed or not; reading stopped there."""


class ClientClosedError(SelfDBError, RuntimeError):
    """The client was closed; make a new one."""


class RealtimeError(SelfDBError):
    """A channel was refused, timed out or lost for a reason that has no class of its own.

    ``close_code`` is the WebSocket close code where the server gave one, or was given one.
    """

    close_code: Optional[int] = None


_BY_STATUS: Dict[int, Type[SelfDBError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    406: MissingAPIKeyError,
    409: ConflictError,
    422: UnprocessableEntityError,
    429: RateLimitError,
}


def error_class_for_status(status_code: int) -> Type[SelfDBError]:
    """The class that an HTTP answer of ``status_code`` (400 and above) is raised as."""
    if status_code >= 500:
        return InternalServerError
    return _BY_STATUS.get(status_code, SelfDBError)
