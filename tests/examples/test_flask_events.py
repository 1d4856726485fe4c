"""The stream to browsers: each visitor sees what he may, and what he held is let go of when he leaves."""

from __future__ import annotations

import json
import threading
import time
from types import ModuleType
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest
import requests
from werkzeug.serving import make_server as make_wsgi_server

from selfdb import SelfDB
from tests.servers.process import free_port
from tests.support import ADMIN_EMAIL, ADMIN_PASSWORD, Http, unique

APP = "flask_events.py"
PASSWORD = "password123"
SECONDS = 90.0
Event = List[Any]


class Browser:
    """Somebody who looks at the page; cookies and all."""

    def __init__(self, address: str, email: str) -> None:
        self._session = requests.Session()
        self._session.trust_env = False
        self._address = address
        answer = self._session.post(
            address + "/login", data={"email": email, "password": PASSWORD}, allow_redirects=False, timeout=SECONDS
        )
        assert (answer.status_code, answer.headers["Location"]) == (303, "/")

    def look(self) -> requests.Response:
        self.answer = self._session.get(self._address + "/events", stream=True, timeout=SECONDS)
        self.lines = self.answer.iter_lines(chunk_size=1, decode_unicode=True)
        return self.answer

    def next_event(self) -> Event:
        """The next one, over whatever is sent to keep the connection alive."""
        return next(json.loads(line[6:]) for line in self.lines if line.startswith("data: "))

    def leave(self) -> None:
        self.answer.close()
        self._session.close()


class Site:
    """The application behind a real server with a thread for each request."""

    def __init__(self, app: Any, backend: Any) -> None:
        self.http = Http(backend)
        self._server = make_wsgi_server("127.0.0.1", 0, app, threaded=True)
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.address = f"http://127.0.0.1:{self._server.port}"
        self._browsers: List[Browser] = []

    def browser(self, email: str) -> Browser:
        self._browsers.append(Browser(self.address, email))
        return self._browsers[-1]

    def user(self) -> Tuple[str, str]:
        """Address and token of a new user."""
        body, token = self.http.new_user(password=PASSWORD)
        return body["email"], token

    def stop(self) -> None:
        for browser in self._browsers:
            browser.leave()
        self._server.shutdown()
        self._thread.join(SECONDS)
        self._server.server_close()  # waits for the threads of those who look


def threads_of_viewers() -> int:
    return sum(thread.name == "selfdb-link" for thread in threading.enumerate())


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def table() -> str:
    return unique("orders")


@pytest.fixture
def open_site(load: Callable[[str], ModuleType], table: str) -> Iterator[Callable[..., Site]]:
    """``open_site(server)``: a running `Site` with the table of this test."""
    opened: List[Tuple[SelfDB, Site]] = []

    def open_one(server: Any) -> Site:
        db = SelfDB(server.url, server.api_key)
        opened.append((db, Site(load(APP).create_app(db, table, silence=0.1), server)))
        return opened[-1][1]

    yield open_one
    for db, site in opened:
        site.stop()
        assert db.access_token is None  # nobody signed in on the client of all
        db.close()


@pytest.fixture
def site(open_site: Callable[..., Site], small_server: Any) -> Site:
    return open_site(small_server)


SCHEMA: Dict[str, Any] = {name: {"type": "text"} for name in ("item", "state", "margin")}


def make_table(db: SelfDB, name: str, *, public: bool) -> Any:
    table = db.tables.create({"name": name, "table_schema": SCHEMA, "public": public})
    return db.tables.update(table.id, {"realtime_enabled": True})


def test_viewers_see_the_chosen_columns_and_one_who_leaves_is_let_go(site: Site, db: SelfDB, table: str) -> None:
    made = make_table(db, table, public=True)
    before = threads_of_viewers()
    first, second = site.browser(site.user()[0]), site.browser(site.user()[0])
    for browser in (first, second):
        answer = browser.look()
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
    row = db.tables.data.insert(made.id, {"item": "tea\n\ndata: x", "state": "new", "margin": "a secret"})
    db.tables.data.update_row(made.id, row["id"], {"margin": "another secret", "state": "paid"})
    for browser in (first, second):
        assert browser.next_event() == ["INSERT", row["id"], "tea\n\ndata: x", "new"]
        assert browser.next_event() == ["UPDATE", row["id"], "tea\n\ndata: x", "paid"]

    assert threads_of_viewers() == before + 2
    first.leave()
    wait_until(lambda: threads_of_viewers() == before + 1)
    db.tables.data.delete_row(made.id, row["id"])
    assert second.next_event() == ["DELETE", row["id"], "tea\n\ndata: x", "paid"]
    second.leave()
    wait_until(lambda: threads_of_viewers() == before)


def test_who_may_not_read_the_table_is_refused_and_leaves_nothing_behind(site: Site, db: SelfDB, table: str) -> None:
    make_table(db, table, public=False)
    before = threads_of_viewers()
    answer = site.browser(site.user()[0]).look()
    assert (answer.status_code, answer.text) == (403, "not yours to read")
    wait_until(lambda: threads_of_viewers() == before)


def test_who_is_not_signed_in_is_asked_to(site: Site, db: SelfDB, table: str) -> None:
    make_table(db, table, public=True)
    assert requests.get(site.address + "/events", timeout=SECONDS).status_code == 401
    page = requests.get(site.address + "/", timeout=SECONDS)
    assert 'new EventSource("/events")' in page.text
    email = site.user()[0]
    wrong = requests.post(site.address + "/login", data={"email": email, "password": "wrong-secret"}, timeout=SECONDS)
    assert wrong.status_code == 401


def test_the_stream_ends_when_the_table_is_taken_away_and_is_refused_then(site: Site, db: SelfDB, table: str) -> None:
    made = make_table(db, table, public=True)
    browser = site.browser(site.user()[0])
    assert browser.look().status_code == 200
    db.tables.update(made.id, {"public": False})
    assert [line for line in browser.lines if line.startswith("data: ")] == []
    assert browser.look().status_code == 403


def test_a_viewer_stays_across_a_restart_of_the_server_and_is_told_of_the_gap(
    make_server: Callable[..., Any], open_site: Callable[..., Site], table: str, tmp_path: Any
) -> None:
    server = make_server(path=tmp_path / "data", port=free_port())
    with SelfDB(server.url, server.api_key) as db:
        db.auth.login(ADMIN_EMAIL, ADMIN_PASSWORD)
        made = make_table(db, table, public=True)
        site = open_site(server)
        browser = site.browser(site.user()[0])
        browser.look()
        db.tables.data.insert(made.id, {"item": "tea"})
        assert browser.next_event()[0] == "INSERT"
        server.stop()
        server.start()
        assert browser.next_event() == ["resync", None, None, None]
        db.tables.data.insert(made.id, {"item": "more tea"})
        assert browser.next_event()[2] == "more tea"
        site.stop()
