"""OpenTelemetry's own instrumentation of `requests`: a span an attempt, the trace on the wire, nothing secret."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest
import requests

from selfdb import SelfDB
from selfdb.exceptions import APIConnectionError, AuthenticationError, SelfDBError
from tests import soak
from tests.client.conftest import pair
from tests.client.seed_case import user_json
from tests.client.seed_run import MADE_UP
from tests.faults.instrumented import RequestsInstrumentor, instrument, text_of
from tests.servers.process import free_port
from tests.servers.replies import ReplyServer
from tests.soak import figure

ROOT = Path(__file__).resolve().parents[2]
KEY, ACCESS, REFRESH, PASSWORD = "the-key-Zq81", "the-access-Zq82", "the-refresh-Zq83", "the-password-Zq84"
ME = user_json(MADE_UP)
NOW = {"Retry-After": "0"}

HERE = ["tests/core/test_redirects.py", "tests/core/test_identity.py"]
HERE += ["tests/client/test_seed_calls.py::test_on_the_wire", "tests/client/test_idempotency.py"]

NOT_ITS_OWN = [
    # A hook that raises an error without an answer: the instrumentation's frame and the error hold each other, and
    # with them the connection, until the collector comes by. Nobody else can reach it.
    "tests/core/test_own_session.py::test_an_http_error_without_an_answer_is_a_failure",
]


@pytest.fixture
def spans() -> Iterator[Any]:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    exporter.provider = instrument(exporter)  # type: ignore[attr-defined]
    yield exporter
    RequestsInstrumentor().uninstrument()


@pytest.fixture(params=[False, True], ids=["our session", "their session"])
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[..., SelfDB]]:
    made: List[Any] = []

    def new(url: str, **options: Any) -> SelfDB:
        session = None
        if request.param:
            session = requests.Session()
            made.append(session)
        made.insert(0, SelfDB(url, KEY, session=session, **options))
        made[0].access_token, made[0].refresh_token = ACCESS, REFRESH
        return made[0]  # type: ignore[no-any-return]

    yield new
    for one in made:
        one.close()


def test_g24_a_span_an_attempt_under_the_span_of_the_caller(
    spans: Any, connect: Callable[..., SelfDB], replies: Callable[..., ReplyServer]
) -> None:
    server = replies([(503, NOW, {}), (429, NOW, {}), (200, {}, ME)])
    tracer = spans.provider.get_tracer("the user's")
    with tracer.start_as_current_span("theirs") as parent:
        assert connect(server.url).auth.me().email == ME["email"]
    *attempts, outer = spans.get_finished_spans()
    assert outer.name == "theirs"
    assert [span.attributes["http.status_code"] for span in attempts] == [503, 429, 200]
    assert {span.parent.span_id for span in attempts} == {parent.get_span_context().span_id}
    on_the_wire = [request.header("traceparent") for request in server.requests]
    assert on_the_wire == [f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-03" for span in attempts] or (
        on_the_wire == [f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-01" for span in attempts]
    )


def test_g24_no_span_tells_a_secret(
    spans: Any, connect: Callable[..., SelfDB], replies: Callable[..., ReplyServer]
) -> None:
    server = replies([(401, {}, {"detail": "expired"}), pair(ACCESS + "2", REFRESH + "2"), (200, {}, ME)])
    db = connect(server.url, max_retries=1)
    db.auth.me()
    server.replies += [(401, {}, {"detail": f"no: {PASSWORD}"}), pair(ACCESS, REFRESH), (307, {"Location": "/b"}, b"")]
    server.replies += [(200, {}, ME)]
    with pytest.raises(AuthenticationError):
        db.auth.login(email="a@example.com", password=PASSWORD)
    db.auth.login(email="a@example.com", password=PASSWORD)
    db.auth.me()
    nobody = connect(f"http://127.0.0.1:{free_port()}", max_retries=1)
    with pytest.raises(APIConnectionError):
        nobody.auth.me()
    proxied = requests.Session()
    proxied.trust_env = False
    proxied.proxies["http"] = f"http://user:{PASSWORD}@127.0.0.1:{free_port()}"
    with proxied, SelfDB(server.url, KEY, session=proxied, max_retries=0) as client, pytest.raises(SelfDBError):
        client.auth.count()
    texts = [text_of(span) for span in spans.get_finished_spans()]
    assert len(texts) == 7 + 2 + 1
    for secret in (KEY, ACCESS, REFRESH, PASSWORD):
        assert [text for text in texts if secret in text] == []


def test_g24_who_replaces_send_sees_each_attempt(
    connect: Callable[..., SelfDB], replies: Callable[..., ReplyServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is measured to be quick here goes the way that others patch."""
    seen: List[Tuple[str, str]] = []
    plain = requests.Session.send

    def send(self: requests.Session, request: Any, **options: Any) -> requests.Response:
        seen.append((request.method, request.url))
        return plain(self, request, **options)

    server = replies([(200, {}, ME), (503, NOW, {}), (200, {}, ME), (200, {}, b"abc"), (201, {}, {"id": "1"})])
    db = connect(server.url)
    db.auth.me()  # made before it is patched, as by a program that instruments itself late
    monkeypatch.setattr(requests.Session, "send", send)
    db.auth.me()
    db.storage.files.download("public", "a")
    db.tables.data.insert("t", {"a": 1})
    assert [method for method, _ in seen] == ["GET", "GET", "GET", "POST"]
    assert [f"{method} {url[len(server.url) :]}" for method, url in seen] == server.lines[1:]


def test_g24_nothing_of_it_is_imported_by_itself() -> None:
    script = "import sys, selfdb; selfdb.SelfDB('http://127.0.0.1:9', 'k', max_retries=0).close()\n"
    script += "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=150)


@pytest.mark.timeout(3600 if soak.LONG else 300)
def test_g24_the_suite_passes_while_it_is_traced(tmp_path: Path) -> None:
    """Some of the kernel's and the client's tests here, all of them in a soak."""
    found = tmp_path / "spans.json"
    files = ["tests/core", "tests/client"] if soak.amount("SELFDB_TRACED", here=0, long=1) else HERE
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.faults.instrumented"]
    for name in NOT_ITS_OWN:
        command += ["--deselect", name]
    own = ("PYTEST_", "COV_", "SELFDB_FIGURES")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    environment["SELFDB_SPANS"] = str(found)
    done = subprocess.run([*command, *files], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    result: Dict[str, Any] = json.loads(found.read_text(encoding="utf-8"))
    assert result["spans"] > 100
    assert result["telling"] == []
    said = done.stdout.strip().splitlines()[-1].strip("= ")
    figure("G24", f"under OpenTelemetry's requests instrumentation: {said}; {result['spans']} spans, no secret in any")
