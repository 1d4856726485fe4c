"""What came back: an answer read whole, and the same with the call's own way of reading it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

from ..exceptions import SelfDBError
from .encoding import decode_json
from .redaction import redact
from .retry import SAFE_METHODS

__all__ = ["RawResponse", "Response"]

T = TypeVar("T")


class Response:
    """A successful answer. Immutable by convention; may be shared by threads.

    :ivar status_code: the HTTP status, 200 to 299.
    :ivar headers: the answer's headers, by name in any case.
    :ivar content: the body, decompressed; empty for 204.
    :ivar elapsed: seconds from the first attempt to the last byte, waits between attempts included.
    :ivar private: whether the body holds tokens, so that no error may show it.
    :ivar request_id: the answer's ``X-Request-ID``, or ``None``.
    """

    __slots__ = ("_secrets", "content", "elapsed", "headers", "method", "path", "private", "request_id", "status_code")

    def __init__(
        self,
        status_code: int,
        headers: Mapping[str, str],
        content: bytes,
        elapsed: float = 0.0,
        method: str = "",
        path: str = "",
        private: bool = False,
        secrets: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self.status_code = status_code
        self.headers = headers
        self.content = content
        self.elapsed = elapsed
        self.method = method
        self.path = path
        self.private = private
        self._secrets = secrets
        self.request_id = headers.get("X-Request-ID")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status_code}, {len(self.content)} bytes>"

    def json(self) -> Any:
        """The decoded body.

        :raises SelfDBError: if it is not JSON.
        """
        with contextlib.suppress(ValueError):
            return decode_json(self.content)
        # Raised outside: what the reader raises carries the whole body, which may be tokens.
        raise self.unusable("is not the JSON that was promised")

    def unusable(self, why: str) -> SelfDBError:
        """An error for an answer that says success and cannot be used."""
        secrets = tuple(self._secrets())
        error = SelfDBError(
            redact(f"the answer {why}; is base_url the address of the API itself?", secrets),
            self.status_code,
            None if self.private else redact(self.content[:2048].decode("utf-8", "replace"), secrets) or None,
            method=self.method,
            path=self.path,
            request_id=self.request_id and redact(self.request_id, secrets),
            attempts=1,
        )
        error.may_have_been_applied = self.method not in SAFE_METHODS
        return error


class RawResponse(Response, Generic[T]):
    """An answer as ``client.with_raw_response`` gives it: with headers, status and times, and still typed."""

    __slots__ = ("_parser",)

    def __init__(self, response: Response, parser: Callable[[Response], T]) -> None:
        super().__init__(
            response.status_code,
            response.headers,
            response.content,
            response.elapsed,
            response.method,
            response.path,
            response.private,
            response._secrets,
        )
        self._parser = parser

    def parse(self) -> T:
        """What the call returns without ``with_raw_response``.

        :raises SelfDBError: if the body is not what was promised.
        """
        return self._parser(self)
