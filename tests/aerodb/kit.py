"""What tests of tables share: what was sent, decoded, and what came back, in short."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple
from urllib.parse import parse_qsl

from selfdb.aerodb.envelope import AeroDBError, AeroDBResponse
from tests.servers.postgrest import PostgRest

AWKWARD = ("Bob, Jr.", "(paren)", 'Say "hi"', "back\\slash", "a&b=c+d #é")
"""Names that mean something else if they are quoted, encoded or split in a wrong way."""


def parameters(rest: PostgRest, number: int = -1) -> List[Tuple[str, str]]:
    """Those of a request, decoded as a server does."""
    return parse_qsl(rest.requests[number].query, keep_blank_values=True, strict_parsing=True)


def sent(rest: PostgRest, number: int = -1) -> Dict[str, str]:
    """The same by name; none may come twice."""
    pairs = parameters(rest, number)
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def rows(response: AeroDBResponse[Any]) -> Any:
    """The data of a success."""
    assert response.error is None, response.error
    return response.data


def names(response: AeroDBResponse[Any]) -> List[str]:
    """The names of the rows, in alphabetical order."""
    return sorted(row["name"] for row in rows(response))


def refused(response: AeroDBResponse[Any]) -> AeroDBError:
    """The error, beside which there are no data."""
    assert response.error is not None
    assert response.data is None
    assert response.ok is False
    return response.error


def invalid(rest: PostgRest, response: AeroDBResponse[Any]) -> str:
    """The message of a ``VALIDATION_ERROR``, for which nothing was sent."""
    error = refused(response)
    assert (error.code, error.status, response.status) == ("VALIDATION_ERROR", None, None)
    assert rest.requests == []
    return error.message
