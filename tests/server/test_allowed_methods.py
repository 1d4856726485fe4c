"""A method that a path does not know: 405, and ``Allow`` names every method that it does know."""

from __future__ import annotations

from typing import Any, Callable, Dict, Set, Tuple

import pytest

from tests.support import Http

METHODS = {"get", "post", "patch", "put", "delete"}


@pytest.fixture
def described(make_server: Callable[..., Any]) -> Tuple[Http, Dict[str, Set[str]]]:
    """A server and the methods that it documents, by path with ids filled in."""
    http = Http(make_server())
    paths = http.get("/openapi.json").json()["paths"]
    known: Dict[str, Set[str]] = {}
    for template, operations in paths.items():
        path = "/".join("x" if part.startswith("{") else part for part in template.split("/"))
        known[path] = {method for method in operations if method in METHODS}
    return http, known


def test_every_path_says_what_it_allows(described: Tuple[Http, Dict[str, Set[str]]]) -> None:
    http, known = described
    checked = 0
    for path, methods in known.items():
        for method in sorted(METHODS - methods):
            answer = http.request(method.upper(), path, bearer=http.admin)
            if answer.status_code != 405:
                continue  # a more general path takes it: /users/count is also a /users/{user_id}
            checked += 1
            allowed = {name.strip().lower() for name in answer.headers["Allow"].split(",")}
            assert methods <= allowed, f"{method} {path}"
            assert method not in allowed
            assert answer.json() == {"detail": "Method Not Allowed"}
    assert checked >= 2 * len(known)


def test_a_method_nobody_knows(http: Http) -> None:
    answer = http.request("TRACE", "/tables/x", bearer=http.admin)
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "DELETE, GET, PATCH"
