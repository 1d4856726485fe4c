"""Every error travels whole: pickled, copied, and shown the same way."""

from __future__ import annotations

import copy
import pickle
from typing import Any, Dict, List, Type

import pytest

from selfdb import exceptions
from selfdb.exceptions import SelfDBError, error_class_for_status


def classes() -> List[Type[SelfDBError]]:
    found: List[Type[SelfDBError]] = []
    waiting = [SelfDBError]
    while waiting:
        kind = waiting.pop()
        found.append(kind)
        waiting.extend(sub for sub in kind.__subclasses__() if sub.__module__ == exceptions.__name__)
    return sorted(set(found), key=lambda kind: kind.__name__)


def state(error: SelfDBError) -> Dict[str, Any]:
    return {**vars(error), "args": error.args, "text": str(error), "repr": repr(error), "class": type(error)}


def made(kind: Type[SelfDBError]) -> SelfDBError:
    error = kind(
        "gone",
        404,
        {"detail": ["x", {"y": None}]},
        method="GET",
        path="/tables/a%2Fb",
        request_id="r-1",
        attempts=3,
    )
    error.retry_after = 1.5  # type: ignore[attr-defined]
    error.may_have_been_applied = True  # type: ignore[attr-defined]
    error.__cause__ = OSError("the HTTP stack's")
    return error


def test_all_are_exported() -> None:
    assert sorted(exceptions.__all__) == sorted([kind.__name__ for kind in classes()] + ["error_class_for_status"])


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", classes())
def test_pickling_keeps_everything(kind: Type[SelfDBError], protocol: int) -> None:
    error = made(kind)
    assert state(pickle.loads(pickle.dumps(error, protocol))) == state(error)


@pytest.mark.parametrize("kind", classes())
def test_copying_keeps_everything(kind: Type[SelfDBError]) -> None:
    error = made(kind)
    deep = copy.deepcopy(error)
    assert state(deep) == state(error) == state(copy.copy(error))
    assert deep.response_body is not error.response_body


@pytest.mark.parametrize("kind", classes())
def test_the_text(kind: Type[SelfDBError]) -> None:
    assert str(kind("plain")) == "plain"
    assert str(kind("gone", 404)) == "[404] gone"
    assert str(kind("gone", 404, method="GET", path="/x")) == "[404] gone (GET /x)"
    assert repr(kind("gone", 404)) == f"{kind.__name__}('[404] gone')"


@pytest.mark.parametrize("kind", classes())
def test_positional_arguments_are_those_of_the_specification(kind: Type[SelfDBError]) -> None:
    error = kind("gone", 404, {"detail": "gone"})
    assert (error.message, error.status_code, error.response_body) == ("gone", 404, {"detail": "gone"})
    assert (error.method, error.path, error.request_id, error.attempts) == (None, None, None, 0)


@pytest.mark.parametrize("kind", classes())
def test_each_says_what_it_means(kind: Type[SelfDBError]) -> None:
    assert kind.__doc__


@pytest.mark.parametrize(
    "name, bases",
    [
        ("APIConnectionError", (SelfDBError, ConnectionError)),
        ("APITimeoutError", (exceptions.APIConnectionError, TimeoutError)),
        ("RedirectError", (exceptions.APIConnectionError,)),
        ("UnprocessableEntityError", (exceptions.BadRequestError,)),
        ("InvalidRequestError", (exceptions.BadRequestError, ValueError)),
        ("MissingAPIKeyError", (exceptions.AuthenticationError,)),
        ("ClientClosedError", (SelfDBError, RuntimeError)),
        ("RealtimeError", (SelfDBError,)),
    ],
)
def test_catching_by_kind_and_by_builtin(name: str, bases: Any) -> None:
    for base in bases:
        assert issubclass(getattr(exceptions, name), base)


def test_a_plain_error_is_no_builtin_of_another_kind() -> None:
    assert not issubclass(exceptions.NotFoundError, (OSError, ValueError, LookupError))


@pytest.mark.parametrize(
    "status, name",
    [
        (400, "BadRequestError"),
        (401, "AuthenticationError"),
        (403, "PermissionDeniedError"),
        (404, "NotFoundError"),
        (405, "SelfDBError"),
        (406, "MissingAPIKeyError"),
        (409, "ConflictError"),
        (413, "SelfDBError"),
        (416, "SelfDBError"),
        (418, "SelfDBError"),
        (422, "UnprocessableEntityError"),
        (429, "RateLimitError"),
        (500, "InternalServerError"),
        (502, "InternalServerError"),
        (503, "InternalServerError"),
        (599, "InternalServerError"),
    ],
)
def test_the_class_of_a_status(status: int, name: str) -> None:
    assert error_class_for_status(status).__name__ == name


@pytest.mark.parametrize(
    "body, errors",
    [
        (
            {"detail": [{"loc": ["body", "a"], "msg": "m", "type": "t"}, "odd"]},
            [{"loc": ["body", "a"], "msg": "m", "type": "t"}],
        ),
        ({"detail": "text"}, []),
        ("text", []),
        (None, []),
    ],
)
def test_the_findings_of_a_422(body: Any, errors: Any) -> None:
    assert exceptions.UnprocessableEntityError("x", 422, body).errors == errors
