"""What the log says: one line an attempt at DEBUG, and nothing of what was asked, sent or answered."""

from __future__ import annotations

import logging
import re
from typing import Any, Callable, List

import pytest

from selfdb.core.clock import Deadline
from selfdb.core.http import Bounds, bounded
from selfdb.core.transport import Transport
from selfdb.core.upload import Upload
from selfdb.exceptions import APIConnectionError, SelfDBError
from tests.core.calls import GET, POST, SECRETS
from tests.servers.process import free_port
from tests.servers.replies import ReplyServer

pytestmark = pytest.mark.usefixtures("lane")

LINE = re.compile(r"(GET|POST) /things -> (\d{3}|failed) in \d+\.\d ms\Z")


def ours(caplog: pytest.LogCaptureFixture) -> List[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("selfdb")]


def test_c019_one_line_an_attempt(
    replies: Callable[..., ReplyServer], connect: Callable[..., Transport], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "selfdb")
    server = replies([(503, {}, "canary-of-the-answer"), (200, {"X-Canary": "canary-of-a-header"}, {"a": "canary"})])
    transport = connect(server, headers={"X-Mine": "canary-of-my-header"})
    transport.exchange(GET)
    assert [LINE.match(line) and line.split()[3] for line in ours(caplog)] == ["503", "200"]
    server.replies.append((422, {}, {"detail": [{"msg": "canary-of-the-finding"}]}))
    with pytest.raises(SelfDBError):
        transport.exchange(POST)
    server.replies.append((201, {}, {}))
    transport.exchange(POST._replace(body=Upload(b"canary-of-the-body")))
    with pytest.raises(APIConnectionError):
        connect(f"http://127.0.0.1:{free_port()}", max_retries=0).exchange(GET)
    lines = ours(caplog)
    assert all(LINE.match(line) for line in lines), lines
    assert [line.split()[3] for line in lines] == ["503", "200", "422", "201", "failed"]
    assert {record.levelno for record in caplog.records if record.name == "selfdb"} == {logging.DEBUG}
    shown = "\n".join(lines)
    assert "canary" not in shown
    everything = "\n".join(f"{record.getMessage()} {record.args}" for record in caplog.records)
    for secret in SECRETS:
        assert secret not in everything


def test_without_debug_there_is_nothing(
    replies: Callable[..., ReplyServer], connect: Callable[..., Transport], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    transport = connect(replies([(503, {}, {}), (200, {}, {})]))
    transport.exchange(GET)
    assert ours(caplog) == []


def test_nothing_is_printed(replies: Callable[..., ReplyServer], connect: Callable[..., Transport], capfd: Any) -> None:
    """With no handler installed a library is silent, also about what goes wrong."""
    with pytest.raises(SelfDBError):
        connect(replies([(500, {}, {})])).exchange(GET)
    assert capfd.readouterr() == ("", "")


def test_what_urllib3_says_of_our_calls_shows_nothing_of_them(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "urllib3")
    log = logging.getLogger("urllib3.connectionpool")

    def say() -> None:
        try:
            raise ValueError("canary-of-the-answer")
        except ValueError as error:
            log.warning("%s %s %d", "/things?search=canary-of-the-query", error, 3, exc_info=True)

    with bounded(Bounds(None, None, Deadline(None))):
        say()
        log.warning("%(only)s", {"only": "a mapping is no list of arguments"})
    assert [record.getMessage() for record in caplog.records] == [
        "/things ValueError 3",
        "a mapping is no list of arguments",
    ]
    assert "canary" not in caplog.text
    say()  # what others do with it is theirs
    assert "canary-of-the-query" in caplog.text
