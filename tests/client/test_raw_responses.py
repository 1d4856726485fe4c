"""``with_raw_response``: every call of the namespaces that makes one exchange, with its whole answer."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Set, Tuple

import pytest

from selfdb import NotFoundError, RawResponse, SelfDB, SelfDBError
from selfdb.models import TableRead
from tests.client.conftest import ACCESS, Recorded, pair
from tests.client.seed_calls import SEED_CALLS
from tests.client.seed_case import SeedCall
from tests.client.test_seed_calls import MADE_UP

# Several exchanges, or none, or an answer that is not whole: there is no one answer to show.
WITHOUT = {
    "auth.users.iter",
    "tables.iter",
    "tables.get_by_name",
    "tables.data.query",
    "tables.data.insert_many",
    "tables.data.delete_many",
    "storage.buckets.iter",
    "storage.buckets.get_by_name",
    "storage.files.iter",
    "storage.files.stream",
    "storage.files.download_to",
}
NAMESPACES = ("auth", "auth.users", "tables", "tables.columns", "tables.data", "storage.buckets", "storage.files")


def _part(root: Any, path: str) -> Any:
    for name in path.split("."):
        root = getattr(root, name)
    return root


def _methods(namespace: Any) -> Iterator[str]:
    for name in dir(namespace):
        if not name.startswith("_") and inspect.isroutine(getattr(namespace, name)):
            yield name


@pytest.fixture(scope="module")
def offline() -> SelfDB:
    return SelfDB("http://127.0.0.1:9", "key")


def test_every_call_of_one_exchange_is_there(offline: SelfDB) -> None:
    plain: Set[str] = set()
    raw: Set[str] = set()
    for path in NAMESPACES:
        plain |= {f"{path}.{name}" for name in _methods(_part(offline, path))}
        raw |= {f"{path}.{name}" for name in _methods(_part(offline.with_raw_response, path))}
    assert raw == plain - WITHOUT
    assert plain >= WITHOUT
    assert len(raw) == 39


@pytest.mark.parametrize("path", NAMESPACES)
def test_signatures_are_those_of_the_plain_calls(offline: SelfDB, path: str) -> None:
    plain, raw = _part(offline, path), _part(offline.with_raw_response, path)
    for name in _methods(raw):
        assert inspect.signature(getattr(raw, name)) == inspect.signature(getattr(plain, name))


PLAIN_CALLS = [case for case in SEED_CALLS if not case.realtime and not case.id.startswith("query")]


@pytest.mark.parametrize("case", PLAIN_CALLS, ids=[case.id for case in PLAIN_CALLS])
def test_each_call_of_the_specification(case: SeedCall, recorded: Recorded) -> None:
    status, body = case.reply(MADE_UP)
    recorded.will((status, {"X-Request-ID": "r-1", "X-More": "yes"}, body))
    answer = case.call(recorded.db.with_raw_response, MADE_UP)
    assert isinstance(answer, RawResponse)
    assert (answer.status_code, answer.request_id, answer.headers["x-more"]) == (status, "r-1", "yes")
    assert answer.elapsed > 0
    assert isinstance(answer.content, bytes)
    assert case.expect(answer.parse(), MADE_UP)
    assert recorded.lines == [case.wire.format_map(vars(MADE_UP))]


def test_what_it_shows(recorded: Recorded) -> None:
    recorded.will({"id": "t", "name": "secret name"})
    answer = recorded.db.with_raw_response.tables.get("t")
    table: TableRead = answer.parse()
    assert table.name == "secret name"
    assert answer.json() == {"id": "t", "name": "secret name"}
    assert repr(answer) == f"<RawResponse 200, {len(answer.content)} bytes>"


@pytest.mark.timeout(300)
def test_types_are_known_statically() -> None:
    """Right uses pass ``mypy --strict``, wrong ones do not: it complains of an ignored error that is none."""
    use = Path(__file__).with_name("typed_use.py")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", str(use)],
        cwd=use.parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_errors_are_raised_all_the_same(recorded: Recorded) -> None:
    recorded.will((404, {}, {"detail": "Table not found"}))
    with pytest.raises(NotFoundError):
        recorded.db.with_raw_response.tables.get("t")


def test_an_unusable_answer_can_still_be_looked_at(recorded: Recorded) -> None:
    recorded.will((200, {}, b"<html>"))
    answer = recorded.db.with_raw_response.tables.get("t")
    assert answer.content == b"<html>"
    with pytest.raises(SelfDBError):
        answer.parse()


SESSION_CALLS: Dict[str, Tuple[Callable[[Any], Any], Any, Any]] = {
    "login": (lambda raw: raw.auth.login("a@b.c", "password"), pair("new", "new-refresh"), "new"),
    "refresh": (lambda raw: raw.auth.refresh(), pair("new", "new-refresh"), "new"),
    "refresh of another": (lambda raw: raw.auth.refresh("other"), pair("new", "new-refresh"), "new"),
    "logout": (lambda raw: raw.auth.logout(), (200, {}, {"message": "m"}), None),
    "logout_all": (lambda raw: raw.auth.logout_all(), (204, {}, b""), None),
    "logout without route": (lambda raw: raw.auth.logout(), (404, {}, b""), None),
}


@pytest.mark.parametrize("call", SESSION_CALLS)
def test_sessions_begin_and_end_without_parse(recorded: Recorded, call: str) -> None:
    make, reply, access = SESSION_CALLS[call]
    recorded.will(reply)
    assert recorded.db.access_token == ACCESS
    answer = make(recorded.db.with_raw_response)
    assert recorded.db.access_token == access
    assert answer.parse() is not None


def test_tokens_are_not_in_the_representation(recorded: Recorded) -> None:
    recorded.will(pair("shown-nowhere"), (200, {}, b'{"access_token": "shown-nowhere", '))
    assert "shown-nowhere" not in repr(recorded.db.with_raw_response.auth.login("a@b.c", "password"))
    with pytest.raises(SelfDBError) as caught:
        recorded.db.with_raw_response.auth.login("a@b.c", "password")
    assert "shown-nowhere" not in repr(vars(caught.value)) + str(caught.value)
