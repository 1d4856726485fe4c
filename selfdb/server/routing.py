"""How a request reaches its handler: who asks is settled first, then the body is read within bounds.

FastAPI by itself would read and judge the body before it knows who is asking.
"""

from __future__ import annotations

import json
import math
from email.message import Message
from typing import Any, AsyncGenerator, Callable, Coroutine, Dict, List, Set

from fastapi import APIRouter, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from .access import caller, lenient_caller, signed_in
from .bodies import read_body
from .documented import API_KEY_SCHEME, BEARER_SCHEME, responses
from .errors import ApiError, invalid
from .writes import write_unit

__all__ = ["GuardedRoute", "new_router", "parsed"]

#: Deeper JSON than this is refused; everything that handles it later may recurse.
_DEEPEST = 100

_Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def new_router(**options: Any) -> APIRouter:
    """An ``APIRouter`` whose routes authenticate before they look at the body."""
    return APIRouter(route_class=GuardedRoute, **options)


class GuardedRoute(APIRoute):
    """A route that settles the caller, then reads a JSON body within bounds, then validates.

    What follows from that for every route (its refusals, the credentials it takes) it adds to the route's
    description by itself.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        calls = _calls(self.dependant)
        self.responses = {**responses(*_refusals(calls, has_body=self.body_field is not None)), **self.responses}
        self.openapi_extra = {"security": _credentials(calls), **(self.openapi_extra or {})}

    def get_route_handler(self) -> _Handler:
        handle = super().get_route_handler()
        calls = _calls(self.dependant)
        # The strictest that the handler asks for; the others find what it found.
        guard = next((known for known in (signed_in, caller, lenient_caller) if known in calls), None)
        has_body = self.body_field is not None

        async def guarded(request: Request) -> Response:
            if guard is not None:
                await guard(request)
            if has_body:
                request = await _with_body(request)
            return await handle(request)

        return guarded


def _calls(dependant: Dependant) -> List[Any]:
    found: List[Any] = [dependant.call]
    for inner in dependant.dependencies:
        found.extend(_calls(inner))
    return found


def _refusals(calls: List[Any], *, has_body: bool) -> Set[int]:
    statuses: Set[int] = set()
    if signed_in in calls or caller in calls:
        statuses |= {400, 401}
    if write_unit in calls:
        statuses |= {401, 409, 413, 422}
    if has_body:
        statuses |= {400, 413, 422}
    return statuses


def _credentials(calls: List[Any]) -> List[Dict[str, List[str]]]:
    key: Dict[str, List[str]] = {API_KEY_SCHEME: []}
    both: Dict[str, List[str]] = {API_KEY_SCHEME: [], BEARER_SCHEME: []}
    if signed_in in calls:
        return [both]
    return [key, both] if caller in calls or lenient_caller in calls else [key]


class _ReadRequest(Request):
    """A request whose body was read and parsed already."""

    def __init__(self, request: Request, content: bytes, document: Any) -> None:
        super().__init__(request.scope, request.receive)
        self._content = content
        self._document = document

    async def body(self) -> bytes:
        return self._content

    async def json(self) -> Any:
        return self._document

    async def stream(self) -> AsyncGenerator[bytes, None]:
        yield self._content


async def _with_body(request: Request) -> Request:
    content = await read_body(request)
    document = parsed(content) if content and _is_json(request) else None
    return _ReadRequest(request, content, document)


def _is_json(request: Request) -> bool:
    message = Message()
    message["content-type"] = request.headers.get("content-type", "")
    subtype = message.get_content_subtype()
    return message.get_content_maintype() == "application" and (subtype == "json" or subtype.endswith("+json"))


def parsed(content: bytes) -> Any:
    """The JSON value of a body.

    :raises RequestValidationError: it is none, or nested too deeply.
    :raises ApiError: 400 for text that no database can keep.
    """
    try:
        document = json.loads(content, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        raise _not_json("nested too deeply") from None
    except ValueError:
        raise _not_json("not valid JSON in UTF-8") from None
    _check_values(document)
    return document


def _no_constant(text: str) -> Any:
    raise ValueError(text)


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(text)
    return number


def _check_values(document: Any) -> None:
    """Refuse what JSON can spell but the databases cannot hold alike."""
    level: List[Any] = [document]
    for _ in range(_DEEPEST):
        below: List[Any] = []
        for value in level:
            if isinstance(value, str):
                _check_text(value)
            elif isinstance(value, dict):
                for key in value:
                    _check_text(key)
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
        if not below:
            return
        level = below
    raise _not_json("nested too deeply")


def _check_text(text: str) -> None:
    if "\0" in text:
        raise ApiError(400, "Text must not contain NUL characters")
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise ApiError(400, "Text must not contain unpaired surrogates") from None


def _not_json(msg: str) -> RequestValidationError:
    return invalid(("body",), msg, "json_invalid")
