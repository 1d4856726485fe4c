"""How a refusal becomes an HTTP answer: one error class and the handlers of the application."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

__all__ = ["ApiError", "install_error_handlers", "invalid", "refusal_of"]


class ApiError(Exception):
    """Ends a request with ``{"detail": detail}``. Raised anywhere below a route; a transaction rolls back.

    :param status: HTTP status, 400 and above.
    :param detail: what the caller is told; never holds a secret.
    :param headers: added to the answer.
    """

    def __init__(self, status: int, detail: str, headers: Optional[Mapping[str, str]] = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers: Dict[str, str] = dict(headers or {})

    def __reduce__(self) -> Tuple[Any, ...]:
        return type(self), (self.status, self.detail, self.headers)


def invalid(loc: Sequence[Any], msg: str, kind: str = "value_error") -> RequestValidationError:
    """A 422 in FastAPI's list form for a rule that pydantic does not know; ``loc`` such as ``("body", "name")``."""
    return RequestValidationError([{"type": kind, "loc": tuple(loc), "msg": msg}])


async def _api_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return refusal_of(error)


def refusal_of(error: ApiError) -> JSONResponse:
    """The answer that ``error`` ends a request with."""
    return JSONResponse({"detail": error.detail}, status_code=error.status, headers=error.headers)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    allowed = _methods_at(request) if error.status_code == 405 else set()
    if allowed:
        headers["Allow"] = ", ".join(sorted(allowed))
    return JSONResponse({"detail": error.detail}, status_code=error.status_code, headers=headers)


def _methods_at(request: Request) -> Set[str]:
    """Every method of the path that was asked for. The router itself names those of the first route only.

    Of a more general path that would match too nothing is told: ``/tables/count`` is no table that could be deleted.
    """
    routes = request.app.state.routes
    matching = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return {method for route in matching if route.path == matching[0].path for method in route.methods}


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    # Only these keys: pydantic also reports the input (which may be a password) and its own documentation.
    findings: List[Dict[str, Any]] = [
        {"loc": [_plain(part) for part in item["loc"]], "msg": _plain(_readable(item)), "type": item["type"]}
        for item in error.errors()
    ]
    headers = getattr(error, "headers", None)
    return JSONResponse({"detail": findings}, status_code=422, headers=headers)


def _readable(item: Mapping[str, Any]) -> Any:
    """What pydantic says, but for an e-mail address: there it would say a regular expression of two lines."""
    if item["type"] == "string_pattern_mismatch" and item["loc"][-1] == "email":
        return "is not a valid e-mail address"
    return item["msg"]


def _plain(part: Any) -> Any:
    """A key of the caller's may be text that UTF-8 cannot carry."""
    return part.encode("utf-8", "replace").decode("utf-8") if isinstance(part, str) else part


def install_error_handlers(app: FastAPI) -> None:
    """Give ``app`` the server's error answers."""
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
