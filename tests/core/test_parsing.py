"""Answers to typed values: every wrapping that servers use, and an error of ours, without secrets, for any other."""

from __future__ import annotations

import json
import traceback
from typing import Any, Dict, List, Optional

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError
from requests.structures import CaseInsensitiveDict

from selfdb.core.parsing import count_in, deletion, describe, list_of, one
from selfdb.core.response import RawResponse, Response
from selfdb.exceptions import SelfDBError
from selfdb.models import TokenPair, UserDeleteResponse

SECRET = "token-hunter2-token"


class Thing(BaseModel):
    id: str
    size: int = 0
    extra: Optional[Dict[str, Any]] = None


def response_of(content: Any, *, private: bool = False, status: int = 200) -> Response:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    headers = CaseInsensitiveDict({"X-Request-ID": "r-7"})
    return Response(status, headers, body, 0.1, "GET", "/things", private)


# One thing


@pytest.mark.parametrize(
    "content",
    [
        {"id": "a", "size": 2},
        {"id": "a", "size": 2, "unknown": True},
        {"thing": {"id": "a", "size": 2}},
        {"success": True, "item": {"id": "a", "size": 2}},
        b'\xef\xbb\xbf{"id": "a", "size": 2}',
        b'\xef\xbb\xbf{"thing": {"id": "a", "size": 2}}',
        '{"id": "a", "size": 2}'.encode("utf-16"),
    ],
    ids=repr,
)
def test_one_thing_bare_or_wrapped(content: Any) -> None:
    assert one(lambda: Thing, "thing", "item")(response_of(content)) == Thing(id="a", size=2)


def test_a_thing_that_has_a_key_of_a_wrapper_is_bare() -> None:
    class Wrapping(BaseModel):
        id: str
        thing: Dict[str, Any]

    parsed = one(lambda: Wrapping, "thing")(response_of({"id": "a", "thing": {"id": "b"}}))
    assert (parsed.id, parsed.thing) == ("a", {"id": "b"})


def test_a_lone_surrogate_in_free_form_data_does_no_harm() -> None:
    parsed = one(lambda: Thing)(response_of(b'{"id": "a", "extra": {"x": "\\ud800"}}'))
    assert parsed.extra == {"x": "\ud800"}


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"size": 1},
        {"id": "a", "size": "many"},
        {"thing": {"size": 1}},
        {"thing": [{"id": "a"}]},
        {"other": {"id": "a"}},
        [],
        [{"id": "a"}],
        None,
        5,
        "text",
    ],
    ids=repr,
)
def test_another_shape_is_an_error_that_names_the_model(content: Any) -> None:
    with pytest.raises(SelfDBError, match=r"the answer is not a Thing \(.*\); is base_url") as caught:
        one(lambda: Thing, "thing")(response_of(content))
    assert type(caught.value) is SelfDBError
    assert (caught.value.status_code, caught.value.method, caught.value.path) == (200, "GET", "/things")
    assert caught.value.request_id == "r-7"
    assert caught.value.response_body == json.dumps(content)


@pytest.mark.parametrize("content", [b"", b"<html>welcome</html>", b'{"id": ', b"\xff\xff", b"[" * 100_000])
@pytest.mark.parametrize("parse", [one(lambda: Thing, "thing"), list_of(lambda: Thing, "data"), count_in])
def test_c097_what_is_no_json_is_an_error(content: bytes, parse: Any) -> None:
    with pytest.raises(SelfDBError, match="not the JSON that was promised") as caught:
        parse(response_of(content))
    assert len(caught.value.response_body or "") <= 2048
    assert caught.value.__cause__ is None


# Many


@pytest.mark.parametrize(
    "content",
    [
        [{"id": "a"}, {"id": "b"}],
        {"data": [{"id": "a"}, {"id": "b"}], "total": 2},
        {"success": True, "things": [{"id": "a"}, {"id": "b"}]},
        {"data": None, "things": [{"id": "a"}, {"id": "b"}]},
        b'\xef\xbb\xbf[{"id": "a"}, {"id": "b"}]',
    ],
    ids=repr,
)
def test_a_list_bare_or_wrapped(content: Any) -> None:
    assert list_of(lambda: Thing, "data", "things")(response_of(content)) == [Thing(id="a"), Thing(id="b")]


def test_an_empty_list() -> None:
    assert list_of(lambda: Thing, "data")(response_of([])) == []
    assert list_of(lambda: Thing, "data")(response_of({"data": []})) == []


@pytest.mark.parametrize("content", [{}, {"data": {}}, {"id": "a"}, [{"id": 1}], ["a"], None, 3, "a"], ids=repr)
def test_no_list(content: Any) -> None:
    with pytest.raises(SelfDBError, match=r"the answer is not a list of Thing \("):
        list_of(lambda: Thing, "data")(response_of(content))


# Counts


@pytest.mark.parametrize("content", [3, {"count": 3}, {"total": 3}, {"count": 3, "total": 9}, b"\xef\xbb\xbf3"])
def test_c030_a_count(content: Any) -> None:
    assert count_in(response_of(content)) == 3


@pytest.mark.parametrize("content", [True, 3.0, "3", None, [], {}, {"count": None, "total": 3}, {"count": "3"}])
def test_no_count(content: Any) -> None:
    with pytest.raises(SelfDBError, match="the answer is not a count"):
        count_in(response_of(content))


# Deletes


@pytest.mark.parametrize(
    "content, message, named",
    [
        (b"", "User deleted", "asked"),
        ({}, "User deleted", "asked"),
        ({"message": "Gone", "deleted_id": "d"}, "Gone", "d"),
        ({"message": "Gone", "user_id": "u", "soft_deleted": True}, "Gone", "u"),
        ({"message": "", "table_id": "t"}, "User deleted", "t"),
        ({"row_id": 7}, "User deleted", "7"),
        ({"bucket_id": "b"}, "User deleted", "b"),
        ({"file_id": "f", "deleted_id": None}, "User deleted", "f"),
        ([1], "User deleted", "asked"),
        (None, "User deleted", "asked"),
    ],
    ids=repr,
)
def test_what_a_delete_answers(content: Any, message: str, named: str) -> None:
    deleted = deletion(lambda: UserDeleteResponse, "User", "asked")(response_of(content))
    assert (deleted.message, deleted.deleted_id, deleted.user_id) == (message, named, named)


def test_an_id_that_is_no_text_is_named_as_one() -> None:
    assert deletion(lambda: UserDeleteResponse, "User", 5)(response_of(b"")).deleted_id == "5"


def test_a_delete_that_answers_no_json() -> None:
    with pytest.raises(SelfDBError, match="not the JSON"):
        deletion(lambda: UserDeleteResponse, "User", 5)(response_of(b"OK"))


# Secrets


@pytest.mark.parametrize(
    "content",
    [
        {"access_token": {"token": SECRET}},
        {"refresh_token": SECRET},
        {"access_token": [SECRET]},
        [SECRET],
        SECRET,
        {"access_token": "a", "expires_in": SECRET},
        f'{{"access_token": "{SECRET}"'.encode(),
        f"access_token={SECRET}".encode(),
        b"\xff" + SECRET.encode(),
    ],
    ids=range(9),
)
def test_c019_an_unusable_private_answer_shows_no_token_anywhere(content: Any) -> None:
    with pytest.raises(SelfDBError) as caught:
        one(lambda: TokenPair)(response_of(content, private=True))
    error: Optional[BaseException] = caught.value
    assert caught.value.response_body is None
    seen: List[BaseException] = []
    while error is not None:
        assert SECRET not in str(error)
        assert SECRET not in repr(error)
        assert SECRET not in repr(getattr(error, "doc", ""))
        seen.append(error)
        error = error.__cause__ or error.__context__
    assert len(seen) == 1, "nothing of the reader comes along"
    shown = "".join(traceback.format_exception(type(caught.value), caught.value, caught.value.__traceback__))
    assert SECRET not in shown.replace(repr(content), "")


def test_a_raw_answer_parses_with_its_own_reader_and_stays_private() -> None:
    raw = RawResponse(response_of({"refresh_token": SECRET}, private=True), one(lambda: TokenPair))
    assert raw.private
    with pytest.raises(SelfDBError) as caught:
        raw.parse()
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(raw)


# Findings


def test_findings_are_named_by_field_and_without_values() -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(List[Thing]).validate_python([{"id": 5}, {"id": "a", "size": SECRET}])
    described = describe(caught.value)
    assert described.startswith("0.id: Input should be a valid string; 1.size: Input should be a valid integer")
    assert SECRET not in described


def test_a_finding_without_a_field() -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(int).validate_python("x")
    assert describe(caught.value).startswith("value: Input should be a valid integer")
