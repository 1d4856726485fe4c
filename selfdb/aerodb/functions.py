"""Functions that run on the server."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from typing import Any

from ..core.encoding import encode_json, encode_text
from ..core.marks import blocking
from ..core.options import check_headers
from ..core.urls import key_of
from ..exceptions import InvalidRequestError
from .calls import Answer, Calls
from .envelope import AeroDBResponse

__all__ = ["FunctionsClient"]

PREFIX = "/functions/v1"

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_BODILESS = ("GET", "HEAD")
_RESERVED = frozenset({"host", "content-length", "transfer-encoding", "connection", "cookie"})


class FunctionsClient:
    """Calls functions on the server by name. May be shared by threads.

    :param calls: makes the exchanges.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._calls.url}>"

    @blocking
    def invoke(
        self,
        function_name: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        method: str = "POST",
        *,
        timeout: float | None = None,
    ) -> AeroDBResponse[Any]:
        """Call a function.

        :param body: text goes as ``text/plain``, bytes as ``application/octet-stream``, everything else but ``None`` as
            JSON. ``GET`` and ``HEAD`` have none.
        :param headers: win over those of the client, even over ``apikey`` and ``Authorization``.
        :param timeout: seconds for this call.
        :returns: decoded JSON, text or bytes, by the media type of the answer; ``None`` for an empty one.

        ``{method} /functions/v1/{function_name}``
        """

        def work() -> AeroDBResponse[Any]:
            verb = method.upper() if isinstance(method, str) else ""
            if verb not in _METHODS:
                raise InvalidRequestError(f"method must be one of {', '.join(_METHODS)}")
            path = f"{PREFIX}/{_function(function_name)}"
            given = {} if headers is None else check_headers(headers, _RESERVED)
            content, kind = (None, None) if verb in _BODILESS else _content(body)
            if any(name.lower() == "content-type" for name in given):
                kind = None
            calls = self._calls if timeout is None else self._calls.within(timeout)
            answer = calls.send(
                verb,
                path,
                headers=given,
                body=content,
                content_type=kind,
                bearer=not any(name.lower() == "authorization" for name in given),
            )
            return AeroDBResponse(_result(answer), None, status=answer.status)

        return self._calls.enveloped(work)

    @blocking
    def list(self) -> AeroDBResponse[builtins.list[dict[str, Any]]]:
        """The functions that there are.

        ``GET /functions/v1``
        """

        def work() -> AeroDBResponse[builtins.list[dict[str, Any]]]:
            answer = self._calls.send("GET", PREFIX)
            found = answer.json()
            if isinstance(found, dict):
                found = found.get("functions")
            if not isinstance(found, list):
                raise answer.unusable("is no list")
            return AeroDBResponse(found, None, status=answer.status)

        return self._calls.enveloped(work)


def _function(name: Any) -> str:
    if not isinstance(name, str):
        raise InvalidRequestError(f"function_name must be a str, not {type(name).__name__}")
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        raise InvalidRequestError("function_name must not contain control characters")
    return key_of(name, "function_name")


def _content(body: Any) -> tuple[bytes | None, str | None]:
    if body is None:
        return None, None
    if isinstance(body, str):
        return encode_text(body, "body"), "text/plain"
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body), "application/octet-stream"
    return encode_json(body), "application/json"


def _result(answer: Answer) -> Any:
    if answer.status == 204 or not answer.content:
        return None
    kind, _, parameters = answer.headers.get("Content-Type", "").partition(";")
    kind = kind.strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        return answer.json()
    if kind and not kind.startswith("text/"):
        return answer.content
    return _decoded(answer.content, parameters)


def _decoded(content: bytes, parameters: str) -> str:
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            try:
                return content.decode(value.strip().strip("\"'"), "replace")
            except LookupError:
                break
    return content.decode("utf-8", "replace")
