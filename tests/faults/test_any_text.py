"""Any text, wherever a caller may put one, reaches the server as data or is refused before anything is sent."""

# ruff: noqa: PT017 - that a text is refused is one of two outcomes here, and not the expected one

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from selfdb import InvalidRequestError, SelfDB, SelfDBError
from tests.servers.replies import ReplyServer, Request
from tests.soak import LONG, amount, figure
from tests.support import unique

EXAMPLES = amount("SELFDB_ANY_TEXT", here=10, long=100)

AWKWARD = [
    "", ".", "..", "...", "/", "//", "a/b", "a/../b", "../../etc/passwd", "%2e%2e", "%2F", "%", "%zz", "\\", "..\\",
    "?", "a?b=c", "#", "a#b", ";", "a;b=c", "&", "a=b&c=d", "+", " ", " lead", "trail ", "\t", "\r\n",
    "a\r\nX-Injected: yes", "\n", "\0", "a\0b", "\x7f", "\x85", "\ud800", "a\udfffb", "\ufeff", "\u2028", "\u202e",
    "\u05d0\u05d1", "e\u0301", "\u00e9", "\U0001f980", "'", '"', "''", "'; DROP TABLE users; --", "1 OR 1=1", "*",
    "{id}", "{{7*7}}", "${x}", "count", "me", "data", "columns", "null", "None", "true", "0", "-1",
    "http://other.example/", "//other.example", "@other.example", "x" * 300, "x" * 100_000, "\u20ac" * 40_000,
    "C:\\x", "CON", "~", "a:b", "|", "<script>", "\x1b[31m",
]  # fmt: skip
TEXT = st.text(alphabet=st.characters(), max_size=40) | st.sampled_from(AWKWARD)

Call = Callable[[SelfDB, str], Any]

PATHS: Dict[str, Tuple[str, Call]] = {
    "user_id": ("/users/*", lambda db, text: db.auth.users.get(text)),
    "user_id of an update": ("/users/*", lambda db, text: db.auth.users.update(text, {"firstName": "x"})),
    "user_id of a delete": ("/users/*", lambda db, text: db.auth.users.delete(text)),
    "table_id": ("/tables/*", lambda db, text: db.tables.get(text)),
    "table_id of an update": ("/tables/*", lambda db, text: db.tables.update(text, {"public": True})),
    "table_id of a delete": ("/tables/*", lambda db, text: db.tables.delete(text)),
    "table_id of rows": ("/tables/*/data", lambda db, text: db.tables.data.fetch(text)),
    "table_id of a query": ("/tables/*/data", lambda db, text: db.tables.data.query(text).execute()),
    "table_id of an insert": ("/tables/*/data", lambda db, text: db.tables.data.insert(text, {"a": 1})),
    "column_name": ("/tables/t/columns/*", lambda db, text: db.tables.columns.remove("t", text)),
    "column_name of an update": (
        "/tables/t/columns/*",
        lambda db, text: db.tables.columns.update("t", text, {"type": "text"}),
    ),
    "row_id": ("/tables/t/data/*", lambda db, text: db.tables.data.delete_row("t", text)),
    "row_id of an update": ("/tables/t/data/*", lambda db, text: db.tables.data.update_row("t", text, {"a": 1})),
    "bucket_id": ("/storage/buckets/*", lambda db, text: db.storage.buckets.get(text)),
    "bucket_id of a delete": ("/storage/buckets/*", lambda db, text: db.storage.buckets.delete(text)),
    "bucket_id of an upload": ("/storage/buckets/*/files", lambda db, text: db.storage.files.upload(text, "f", b"x")),
    "file_id": ("/storage/files/*", lambda db, text: db.storage.files.get(text)),
    "file_id of a delete": ("/storage/files/*", lambda db, text: db.storage.files.delete(text)),
    "bucket_name": ("/storage/files/download/*/f", lambda db, text: db.storage.files.download(text, "f")),
    "path": ("/storage/files/download/b/**", lambda db, text: db.storage.files.download("b", text)),
}
QUERIES: Dict[str, Tuple[str, str, Call]] = {
    "search": ("/tables/", "search", lambda db, text: db.tables.list(search=text)),
    "search of rows": ("/tables/t/data", "search", lambda db, text: db.tables.data.fetch("t", search=text)),
    "search of a query": (
        "/tables/t/data",
        "search",
        lambda db, text: db.tables.data.query("t").search(text).execute(),
    ),
    "search of users": ("/users/count", "search", lambda db, text: db.auth.count(search=text)),
    "sort_by": ("/tables/t/data", "sort_by", lambda db, text: db.tables.data.fetch("t", sort_by=text)),
    "sort_by of a query": (
        "/tables/t/data",
        "sort_by",
        lambda db, text: db.tables.data.query("t").sort(text).execute(),
    ),
    "id_column": (
        "/tables/t/data/r",
        "id_column",
        lambda db, text: db.tables.data.delete_row("t", "r", id_column=text),
    ),
    "bucket_id": ("/storage/files/", "bucket_id", lambda db, text: db.storage.files.list(bucket_id=text)),
    "filename": ("/storage/buckets/b/files", "filename", lambda db, text: db.storage.files.upload("b", text, b"x")),
    "path": ("/storage/buckets/b/files", "path", lambda db, text: db.storage.files.upload("b", "f", b"x", path=text)),
}
BODIES: Dict[str, Tuple[str, Callable[[Any], Any], Call]] = {
    "email": ("/users/token", lambda body: body["email"], lambda db, text: db.auth.login(text, "password123")),
    "password": ("/users/token", lambda body: body["password"], lambda db, text: db.auth.login("a@example.com", text)),
    "name": (
        "/tables/",
        lambda body: body["name"],
        lambda db, text: db.tables.create({"name": text, "table_schema": {}}),
    ),
    "table_schema": (
        "/tables/",
        lambda body: next(iter(body["table_schema"])),
        lambda db, text: db.tables.create({"name": "t", "table_schema": {text: {"type": "text"}}}),
    ),
    "name of a column": (
        "/tables/t/columns",
        lambda body: body["name"],
        lambda db, text: db.tables.columns.add("t", {"name": text, "type": "text"}),
    ),
    "name of a bucket": (
        "/storage/buckets/",
        lambda body: body["name"],
        lambda db, text: db.storage.buckets.create({"name": text}),
    ),
    "row": ("/tables/t/data", lambda body: body["a"], lambda db, text: db.tables.data.insert("t", {"a": text})),
    "a column of row": (
        "/tables/t/data",
        lambda body: next(iter(body)),
        lambda db, text: db.tables.data.insert("t", {text: 1}),
    ),
    "metadata": (
        "/storage/files/f",
        lambda body: body["metadata"]["a"],
        lambda db, text: db.storage.files.update_metadata("f", {"a": text}),
    ),
}
HEADERS: Dict[str, Tuple[str, Call]] = {
    "idempotency_key": ("Idempotency-Key", lambda db, text: db.tables.data.insert("t", {}, idempotency_key=text)),
    "api_key": ("X-API-Key", lambda db, text: _of_key(db, text)),
    "token": ("Authorization", lambda db, text: db.as_user(text).auth.me()),
    "header X-Mine": ("X-Mine", lambda db, text: db.with_options(headers={"X-Mine": text}).auth.me()),
    "content_type": ("Content-Type", lambda db, text: db.storage.files.upload("b", "f", b"x", content_type=text)),
}


def _of_key(db: SelfDB, text: str) -> None:
    other = SelfDB(db.base_url, text, max_retries=0)
    try:
        other.status()
    finally:
        other.close()


class Echo:
    """A server that takes everything, and a client of it."""

    def __init__(self) -> None:
        self.server = ReplyServer(lambda request: (200, {}, {})).start()
        self.db = SelfDB(self.server.url, "the-key", max_retries=0)
        self.db.access_token = "a.b.c"

    def sent(self, call: Call, text: str, name: str) -> Optional[Request]:
        """The one request that ``call`` made; ``None`` if it was refused before, by a word about ``name``."""
        del self.server._requests[:]
        self.db._transport.keeper.forget("never")
        self.db.storage.files._route.legacy = False
        try:
            call(self.db, text)
        except InvalidRequestError as error:
            assert self.server.requests == [], f"{error} came too late"
            field = name.partition(" of ")[0].rpartition(" ")[2]
            said = str(error).replace("a text ", "text ")
            assert (
                field in said
                or (field == "row" and "a holds" in said)
                or (name.startswith("a column") and "a name" in said)
            ), said
            str(error).encode("utf-8")
            return None
        except SelfDBError:
            pass  # what came back is no user, no table; what was sent is what matters
        self.db.access_token = "a.b.c"
        request, *later = self.server.requests  # a column call may ask for its table afterwards
        assert [one.method for one in later] in ([], ["GET"])
        names = [header.lower() for header, _ in request.headers]
        assert len(names) == len(set(names)), "a header was split or doubled"
        assert "x-injected" not in names
        return request


@pytest.fixture
def echo() -> Iterator[Echo]:
    echo = Echo()
    yield echo
    echo.db.close()
    echo.server.stop()


def _each(function: Any) -> Any:
    for text in AWKWARD:
        function = example(text)(function)
    return settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))(
        given(TEXT)(function)
    )


@pytest.mark.parametrize("name", PATHS)
def test_g18_in_a_path(echo: Echo, name: str) -> None:
    pattern, call = PATHS[name]

    @_each
    def check(text: str) -> None:
        request = echo.sent(call, text, name)
        if request is None:
            return
        assert "?" not in text or "%3F" in request.target
        segments, wanted = request.path.split("/"), pattern.split("/")
        if wanted[-1] == "**":
            at = len(wanted) - 1
            segments[at:] = ["/".join(segments[at:])]
            text = text[text.startswith("/") :]
        assert len(segments) == len(wanted), request.target
        for got, want in zip(segments, wanted):
            assert unquote(got, errors="strict") == (text if want.startswith("*") else want)

    check()


@pytest.mark.parametrize("name", QUERIES)
def test_g18_in_a_query(echo: Echo, name: str) -> None:
    path, key, call = QUERIES[name]

    @_each
    def check(text: str) -> None:
        request = echo.sent(call, text, name)
        if request is not None:
            assert request.path == path
            got = dict(request.query).get(key, "")
            assert got == text or (key == "path" and not text.strip("/") and not got)
            assert len(request.query) <= 2

    check()


@pytest.mark.parametrize("name", BODIES)
def test_g18_in_a_body(echo: Echo, name: str) -> None:
    path, of, call = BODIES[name]

    @_each
    def check(text: str) -> None:
        request = echo.sent(call, text, name)
        if request is not None:
            assert request.path == path
            assert of(json.loads(request.body)) == text

    check()


@pytest.mark.parametrize("name", HEADERS)
def test_g18_in_a_header(echo: Echo, name: str) -> None:
    header, call = HEADERS[name]

    @_each
    def check(text: str) -> None:
        request = echo.sent(call, text, name)
        if request is not None:
            got = request.header(header) or ""
            # Of the wire's characters; an empty content type means a guess.
            assert got.rpartition("Bearer ")[2] == text or (header == "Content-Type" and not text)

    check()
    count = len(PATHS) + len(QUERIES) + len(BODIES) + len(HEADERS)
    if name == "content_type":
        figure(
            "G18",
            f"{count} places x ({len(AWKWARD)} awkward texts + {EXAMPLES} of any): as data, or refused before I/O",
        )


@settings(max_examples=EXAMPLES * 4, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.text(max_size=30) | st.sampled_from(AWKWARD))
def test_g18_an_address_is_one_or_is_refused(text: str) -> None:
    for url in (text, f"http://{text}", f"http://127.0.0.1:1/{text}", f"http://127.0.0.1:1{text}"):
        try:
            db = SelfDB(url, "the-key", max_retries=0)
        except InvalidRequestError as error:
            assert "base_url" in str(error)
            continue
        assert repr(db).encode("utf-8")
        if url.startswith("http://127.0.0.1:1/"):
            assert db._transport.base.origin[1:] == ("127.0.0.1", 1)
        db.close()


@settings(max_examples=EXAMPLES * 2, deadline=None, suppress_health_check=list(HealthCheck))
@given(TEXT)
def test_g18_a_topic_is_text_or_is_refused(text: str) -> None:
    db = SelfDB("http://127.0.0.1:1", "the-key")
    try:
        channel = db.realtime.channel(text)
    except InvalidRequestError as error:
        assert "topic" in str(error)
    else:
        assert repr(channel).encode("utf-8")
        assert channel.topic == text
    db.close()


@pytest.fixture
def place(server: Any) -> Iterator[Any]:
    stage = SimpleStage(server)
    yield stage
    stage.db.close()


class SimpleStage:
    """A table and a bucket on the embedded server."""

    def __init__(self, server: Any) -> None:
        self.db = SelfDB(server.url, server.api_key, max_retries=0)
        self.db.auth.login("admin@example.com", "password")
        self.table = self.db.tables.create({"name": unique("t"), "table_schema": {"a": {"type": "text"}}}).id
        self.bucket = self.db.storage.buckets.create({"name": unique("b")})


def test_g18_the_embedded_server_gives_back_what_it_was_given(place: SimpleStage, server: Any) -> None:
    """Rows, searches, names and files; on both databases, and nothing is hit but what was meant."""
    db, kept = place.db, 0
    for text in [*AWKWARD[:: 1 if LONG else 3], unicodedata.normalize("NFC", "Å"), unicodedata.normalize("NFD", "Å")]:
        if len(text) > 1000:
            text = text[:1000]
        try:
            row = db.tables.data.insert(place.table, {"a": text})
        except SelfDBError as error:
            assert error.status_code in (None, 400)  # half a character, or NUL
            assert "\0" in text or any("\ud800" <= character <= "\udfff" for character in text)
            continue
        kept += 1
        assert row["a"] == text
        found = db.tables.data.fetch(place.table, search=text[:100]) if text else None
        assert found is None or row["id"] in [one["id"] for one in found.data]
        for hostile in (
            lambda text=text: db.tables.data.fetch(place.table, sort_by=text),
            lambda text=text: db.tables.data.delete_row(place.table, text),
            lambda text=text: db.tables.data.update_row(place.table, "r", {"a": "x"}, id_column=text),
            lambda text=text: db.tables.columns.remove(place.table, text),
            lambda text=text: db.tables.delete(text),
            lambda text=text: db.tables.data.insert(place.table, {text: "x"}),
        ):
            try:
                hostile()
            except SelfDBError as error:
                assert (error.status_code or 400) in (400, 404, 405, 409, 422), error
    assert db.tables.data.fetch(place.table).total >= kept
    assert "a" in db.tables.get(place.table).table_schema


def test_g18_files_stay_within_the_store(make_server: Any, tmp_path: Path) -> None:
    folder = tmp_path / "below" / "data"
    server = make_server(path=folder)
    around = sorted(path.name for path in tmp_path.iterdir())
    db = SelfDB(server.url, server.api_key, max_retries=0)
    db.auth.login("admin@example.com", "password")
    bucket = db.storage.buckets.create({"name": "photos"})
    kept: List[str] = []
    for number, text in enumerate(AWKWARD):
        for name, path in ((text, None), ("f", text)):
            content = f"{number} {path is None}".encode()
            try:
                stored = db.storage.files.upload(bucket.id, name, content, path=path)
            except SelfDBError as error:
                assert error.status_code in (None, 400, 422), error
                continue
            kept.append(stored.path)
            assert db.storage.files.download("photos", stored.path) == content
    assert len(kept) > 60
    assert sorted(path.name for path in tmp_path.iterdir()) == around
    assert [path.name for path in (tmp_path / "below").iterdir()] == ["data"]
    db.close()
