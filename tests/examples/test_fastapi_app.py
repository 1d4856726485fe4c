"""The application on the awaitable face: visitors never meet, and streams end with who reads them."""

from __future__ import annotations

import asyncio
import json
import threading
from types import ModuleType
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest
import requests
import uvicorn

from selfdb import SelfDB as Blocking
from selfdb.aio import SelfDB
from tests.support import Http, unique

APP = "fastapi_app.py"
PASSWORD = "password123"
SECONDS = 90.0


class Site:
    """The application behind a real server, on an event loop in a thread of its own."""

    def __init__(self, module: ModuleType, backend: Any) -> None:
        self.backend = backend
        self.http = Http(backend)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(module)))
        self._thread.start()
        assert self._ready.wait(SECONDS)

    async def _serve(self, module: ModuleType) -> None:
        async with SelfDB(self.backend.url, self.backend.api_key) as db:
            config = uvicorn.Config(module.create_app(db), port=0, log_config=None, lifespan="off")
            self._server = uvicorn.Server(config)
            serving = asyncio.ensure_future(self._server.serve())
            while not self._server.started:
                await asyncio.sleep(0.01)
            self.address = f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"
            self._ready.set()
            await serving

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()

    def user_with_table(self) -> Tuple[str, str]:
        """The e-mail address of a new user and the name of a private table of theirs, with realtime on."""
        user, token = self.http.new_user(password=PASSWORD)
        with Blocking(self.backend.url, self.backend.api_key) as db:
            tables = db.as_user(token).tables
            table = tables.create({"name": unique("t"), "table_schema": {"text": {"type": "text", "nullable": False}}})
            tables.update(table.id, {"realtime_enabled": True})
        return user["email"], table.name

    def browser(self, email: str) -> requests.Session:
        """Somebody who has signed in."""
        session = requests.Session()
        session.trust_env = False
        answer = session.post(self.address + "/login", json={"email": email, "password": PASSWORD}, timeout=SECONDS)
        assert answer.status_code == 200, answer.text
        session.headers["Authorization"] = f"Bearer {answer.json()}"
        return session


@pytest.fixture
def site(small_server: Any, load: Callable[[str], ModuleType]) -> Iterator[Site]:
    made = Site(load(APP), small_server)
    try:
        yield made
    finally:
        made.close()


def test_two_users_at_once_never_meet(site: Site) -> None:
    users = [site.user_with_table() for _ in range(2)]
    browsers = [site.browser(email) for email, _ in users]
    start, failures = threading.Barrier(8), []

    def visit(number: int) -> None:
        email, table = users[number % 2]
        headers = browsers[number % 2].headers
        try:
            start.wait(SECONDS)
            for turn in range(3):
                text = f"{email} {number} {turn}"
                mine, other = (f"{site.address}/notes/{name}" for name in (table, users[1 - number % 2][1]))
                answer = requests.post(mine, json={"text": text}, headers=headers, timeout=SECONDS)
                assert (answer.status_code, answer.json()["text"]) == (201, text)
                answer = requests.get(mine, headers=headers, timeout=SECONDS)
                assert answer.json()["visitor"] == email
                texts = [note["text"] for note in answer.json()["notes"]]
                assert text in texts
                assert all(text.startswith(f"{email} ") for text in texts)
                assert requests.get(other, headers=headers, timeout=SECONDS).status_code == 404
        except BaseException as error:
            start.abort()
            failures.append(error)

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_each_error_has_its_status(site: Site) -> None:
    email, table = site.user_with_table()
    browser = site.browser(email)
    assert browser.get(f"{site.address}/notes/{unique('t')}", timeout=SECONDS).status_code == 404
    assert browser.get(f"{site.address}/notes/{'x' * 101}", timeout=SECONDS).status_code == 400
    assert browser.get(f"{site.address}/notes/{unique('t')}/live", timeout=SECONDS).status_code == 404
    answer = requests.get(f"{site.address}/notes/{table}", timeout=SECONDS)
    assert (answer.status_code, answer.json()["detail"]) == (401, "log in, and send the token as a bearer")
    wrong = {"email": email, "password": "wrong-secret"}
    answer = requests.post(site.address + "/login", json=wrong, timeout=SECONDS)
    assert (answer.status_code, answer.json()) == (401, {"error": "Incorrect email or password"})
    headers = {"Authorization": "Bearer nonsense"}
    assert requests.get(f"{site.address}/notes/{table}", headers=headers, timeout=SECONDS).status_code == 401


def test_changes_are_streamed_until_the_reader_goes(site: Site) -> None:
    email, table = site.user_with_table()
    browser, notes = site.browser(email), f"{site.address}/notes/{table}"
    browser.post(notes, json={"text": "before"}, timeout=SECONDS)
    seen: List[Any] = []
    with browser.get(notes + "/live", stream=True, timeout=SECONDS) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        lines = answer.iter_lines(chunk_size=1, decode_unicode=True)

        def next_change() -> Tuple[str, str]:
            event, row = next(json.loads(line[6:]) for line in lines if line.startswith("data: "))
            return event, row["text"]

        seen.append(next_change())
        writer: Dict[str, Any] = {"json": {"text": "after"}, "headers": browser.headers, "timeout": SECONDS}
        assert requests.post(notes, **writer).status_code == 201
        seen.append(next_change())
    assert seen == [("INSERT", "before"), ("INSERT", "after")]
    names = {thread.name for thread in threading.enumerate()}
    end = threading.Event()
    for _ in range(int(SECONDS / 0.05)):
        names = {thread.name for thread in threading.enumerate()}
        if "selfdb-link" not in names:
            break
        end.wait(0.05)
    assert "selfdb-link" not in names, "the connection of one who has gone is closed"
