"""What a route says about its refusals in ``/openapi.json``."""

from __future__ import annotations

from typing import Any, Dict, List, Type, Union

from pydantic import BaseModel

__all__ = [
    "API_KEY_SCHEME",
    "BEARER_SCHEME",
    "REFUSED",
    "SECURITY_SCHEMES",
    "ErrorBody",
    "ValidationBody",
    "ValidationFinding",
    "components",
    "responses",
]


API_KEY_SCHEME = "ApiKey"
BEARER_SCHEME = "Bearer"
SECURITY_SCHEMES: Dict[str, Any] = {
    API_KEY_SCHEME: {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    BEARER_SCHEME: {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
}


class ErrorBody(BaseModel):
    """Every refusal but a failed validation."""

    detail: str


class ValidationFinding(BaseModel):
    """One thing wrong with a request."""

    loc: List[Union[str, int]]
    msg: str
    type: str


class ValidationBody(BaseModel):
    """A failed validation: where and what, never the value that was sent."""

    detail: List[ValidationFinding]


def _body(model: Type[BaseModel]) -> Dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}


#: The ``content`` of a refusal; named to FastAPI as a model, it would make a validator for each status of each route.
REFUSED = _body(ErrorBody)
_INVALID = _body(ValidationBody)


def components(schemas: Dict[str, Any]) -> Dict[str, Any]:
    """What ``/openapi.json`` has under ``components``, put together with what it has to say of every refusal.

    :param schemas: what the routes name.
    """
    template = "#/components/schemas/{model}"
    found = {**schemas, ErrorBody.__name__: ErrorBody.model_json_schema(ref_template=template)}
    invalid = ValidationBody.model_json_schema(ref_template=template)
    found.update(invalid.pop("$defs"))
    found[ValidationBody.__name__] = invalid
    return {"schemas": dict(sorted(found.items())), "securitySchemes": SECURITY_SCHEMES}


_MEANING = {
    400: "Understood and refused",
    401: "Not signed in, or a wrong API key",
    403: "Not allowed",
    404: "Not there",
    405: "Method not allowed",
    406: "The X-API-Key header is missing",
    409: "In conflict with what exists",
    413: "Too large",
    415: "Media type not accepted",
    416: "Range not satisfiable",
    422: "Validation failed",
    429: "Too many requests",
    503: "Not possible at the moment",
    507: "No room left on the server",
}


def responses(*statuses: int) -> Dict[Union[int, str], Dict[str, Any]]:
    """The ``responses=`` of a route that may refuse with ``statuses``; the API key's 401 and 406 always belong."""
    documented: Dict[Union[int, str], Dict[str, Any]] = {}
    for status in sorted({401, 406, *statuses}):
        entry: Dict[str, Any] = {
            "description": _MEANING[status],
            "content": _INVALID if status == 422 else REFUSED,
        }
        if status in (429, 503):
            entry["headers"] = {"Retry-After": {"description": "Seconds to wait", "schema": {"type": "integer"}}}
        documented[status] = entry
    return documented
