"""What is shown by tools that nobody told to keep quiet: reprs in tracebacks, logs of the stack, a million findings."""

from __future__ import annotations

import json
import logging
from typing import List

import pytest
import requests
from pydantic import BaseModel, Field

from selfdb.core.parsing import MAX_FINDINGS, deletion, one
from selfdb.core.pool import Pool
from selfdb.core.request import Request
from selfdb.core.response import Response
from selfdb.core.urls import BaseURL
from selfdb.core.wsopen import Address
from selfdb.exceptions import SelfDBError


def test_a_request_shows_neither_its_query_nor_its_body() -> None:
    request = Request("POST", "/things", "?search=canary", b"canary", secrets=("canary",))
    assert repr(request) == "<Request POST /things>"


def test_the_address_of_a_socket_shows_no_secret() -> None:
    address = Address("ws://127.0.0.1:1/socket?token=canary", "http://127.0.0.1:1", ["X: canary"], secrets=["canary"])
    assert repr(address) == "<Address at http://127.0.0.1:1>"


class Numbers(BaseModel):
    numbers: List[int]


class Terse(BaseModel):
    message: str = Field(max_length=3)
    deleted_id: str


@pytest.mark.parametrize("count", [MAX_FINDINGS, MAX_FINDINGS + 1])
def test_many_findings_are_counted(count: int) -> None:
    with pytest.raises(SelfDBError) as caught:
        one(lambda: Numbers)(Response(200, {}, json.dumps({"numbers": ["x"] * count}).encode()))
    assert (f"{count} values are not what they should be" in str(caught.value)) is (count > MAX_FINDINGS)


def test_an_answer_to_a_deletion_that_fits_no_model_is_unusable() -> None:
    with pytest.raises(SelfDBError, match="does not say in text that the row was deleted"):
        deletion(lambda: Terse, "Row", "1")(Response(200, {}, b'{"message":"deleted"}'))


@pytest.mark.parametrize("location", ["http://a/\r\nX: y", "/a\x00b", "/\x7f"])
def test_a_redirect_with_control_characters_leads_nowhere(location: str) -> None:
    with pytest.raises(ValueError, match="control characters"):
        BaseURL("http://127.0.0.1:1").redirect("http://127.0.0.1:1/a", location)


def test_the_password_of_a_session_of_the_users_is_a_secret() -> None:
    with requests.Session() as session:
        session.auth = ("somebody", "canary")
        session.cookies.set("sid", "a canary too")
        assert {"canary", "a canary too"} <= set(Pool(session=session).secrets("http://127.0.0.1:1"))


def test_a_log_of_other_calls_is_left_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "urllib3.connectionpool"):
        logging.getLogger("urllib3.connectionpool").debug("%s", "/path?query")
    assert caplog.messages == ["/path?query"]
