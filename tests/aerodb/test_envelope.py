"""The envelope and its error: what they hold, how they unwrap, and that they cross process boundaries whole."""

from __future__ import annotations

import copy
import pickle
from typing import Any, List

import pytest

from selfdb.aerodb.envelope import AeroDBError, AeroDBRequestError, AeroDBResponse
from selfdb.exceptions import SelfDBError

ERROR = AeroDBError("gone", 409, "23505", {"key": ["x"]}, "look", may_have_been_applied=True)


def test_data_alone() -> None:
    response: AeroDBResponse[List[int]] = AeroDBResponse([1], None)
    assert (response.data, response.error, response.ok, response.unwrap()) == ([1], None, True, [1])
    assert (response.count, response.status, response.from_cache) == (None, None, False)


def test_an_error_unwraps_into_an_exception() -> None:
    response: AeroDBResponse[Any] = AeroDBResponse(None, ERROR, status=409)
    assert response.ok is False
    with pytest.raises(AeroDBRequestError, match=r"\[409\] gone; look") as caught:
        response.unwrap()
    raised = caught.value
    assert isinstance(raised, SelfDBError)
    assert (raised.status_code, raised.code, raised.details, raised.hint) == (409, "23505", {"key": ["x"]}, "look")
    assert raised.may_have_been_applied is True
    assert raised.error == ERROR


def test_an_error_without_anything() -> None:
    raised = AeroDBRequestError.of(AeroDBError("no"))
    assert str(raised) == "no"
    assert raised.error == AeroDBError("no")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "thing", [ERROR, AeroDBResponse([{"id": 1}], None, 5, 206, True), AeroDBResponse(None, ERROR, status=409)]
)
def test_they_travel_whole(thing: Any, protocol: int) -> None:
    assert pickle.loads(pickle.dumps(thing, protocol)) == thing
    assert copy.deepcopy(thing) == thing == copy.copy(thing)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_the_exception_travels_whole(protocol: int) -> None:
    raised = pickle.loads(pickle.dumps(AeroDBRequestError.of(ERROR), protocol))
    assert type(raised) is AeroDBRequestError
    assert (raised.error, str(raised)) == (ERROR, "[409] gone; look")
    assert copy.copy(raised).error == ERROR


def test_they_are_not_changed() -> None:
    with pytest.raises(AttributeError):
        ERROR.message = "other"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        AeroDBResponse(1, None).data = 2  # type: ignore[misc]
