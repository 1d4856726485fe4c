"""The web application: two users on fifty threads never meet, and each error has its status."""

from __future__ import annotations

import threading
from types import ModuleType
from typing import Any, Callable, Dict, Iterator, List, NamedTuple

import pytest

from selfdb import SelfDB
from tests.servers.clock import FakeClock
from tests.support import Http, unique

APP = "flask_app.py"
PASSWORD = "password123"


class Site(NamedTuple):
    module: ModuleType
    app: Any
    db: SelfDB
    http: Http

    def visitor(self, email: str) -> Any:
        """A browser of its own, signed in."""
        browser = self.app.test_client()
        answer = browser.post("/login", data={"email": email, "password": PASSWORD})
        assert (answer.status_code, answer.json) == (200, {"hello": email})
        return browser

    def user_with_table(self) -> tuple[str, str]:
        """The e-mail address of a new user and the name of a private table of theirs."""
        user, token = self.http.new_user(password=PASSWORD)
        table = self.db.as_user(token).tables.create(
            {"name": unique("t"), "table_schema": {"text": {"type": "text", "nullable": False}}}
        )
        return user["email"], table.name


@pytest.fixture
def site(small_server: Any, load: Callable[[str], ModuleType]) -> Iterator[Site]:
    module = load(APP)
    with SelfDB(small_server.url, small_server.api_key) as db:
        yield Site(module, module.create_app(db), db, Http(small_server))


def test_two_users_on_fifty_threads_never_meet(site: Site) -> None:
    users = [site.user_with_table() for _ in range(2)]
    start, failures = threading.Barrier(50), []

    def visit(number: int) -> None:
        email, table = users[number % 2]
        _, table_of_the_other = users[1 - number % 2]
        try:
            browser = site.visitor(email)
            start.wait(60)
            for turn in range(3):
                text = f"{email} {number} {turn}"
                answer = browser.post(f"/notes/{table}", data={"text": text})
                assert answer.status_code == 200, answer.text
                assert answer.json["visitor"] == email
                texts = [note["text"] for note in answer.json["notes"]]
                assert text in texts
                assert all(text.startswith(f"{email} ") for text in texts)
                assert browser.get(f"/notes/{table_of_the_other}").status_code == 404
        except BaseException as error:
            start.abort()
            failures.append(error)

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert site.db.access_token is None  # nobody signed in on the client of all
    for email, table in users:
        notes = site.visitor(email).get(f"/notes/{table}").json["notes"]
        assert len({note["text"] for note in notes}) == len(notes) == 75


def test_tokens_stay_in_the_process(site: Site) -> None:
    browser = site.visitor(site.user_with_table()[0])
    serializer = site.app.session_interface.get_signing_serializer(site.app)
    seen: Dict[str, str] = serializer.loads(browser.get_cookie("session").value)
    assert seen.keys() == {"visitor"}
    assert seen["visitor"] in site.module.TOKENS
    assert seen["visitor"] not in str(site.module.TOKENS.values())


def test_each_error_has_its_status(site: Site) -> None:
    email, table = site.user_with_table()
    browser = site.visitor(email)
    assert browser.post(f"/notes/{table}", data={}).status_code == 400
    assert browser.get(f"/notes/{unique('t')}").status_code == 404
    assert browser.get("/notes/" + "x" * 101).status_code == 400  # refused before anything is sent
    stranger = site.app.test_client()
    assert stranger.get(f"/notes/{table}").status_code == 401
    answer = stranger.post("/login", data={"email": email, "password": "wrong-secret"})
    assert (answer.status_code, answer.json) == (401, {"error": "Incorrect email or password"})
    assert stranger.get(f"/notes/{table}").status_code == 401


def test_without_a_server_visitors_are_asked_to_come_back(nowhere: str, load: Callable[[str], ModuleType]) -> None:
    with SelfDB(nowhere, "some-key") as db:
        answer = load(APP).create_app(db).test_client().post("/login", data={"email": "a@b.example", "password": "x"})
    assert (answer.status_code, answer.json) == (503, {"error": "try again later"})


def test_a_session_outlives_its_access_token_and_ends_with_its_user(
    make_server: Callable[..., Any], clock: FakeClock, load: Callable[[str], ModuleType]
) -> None:
    server, module = make_server(clock=clock), load(APP)
    with SelfDB(server.url, server.api_key) as db:
        site = Site(module, module.create_app(db), db, Http(server))
        email, table = site.user_with_table()
        browser = site.visitor(email)
        pairs: List[Any] = list(module.TOKENS.values())
        for _ in range(3):
            clock.advance(3600)
            assert browser.get(f"/notes/{table}").status_code == 200
            pairs += module.TOKENS.values()
        assert len(set(pairs)) == 4
        db.as_user(*pairs[-1]).auth.logout_all()
        assert browser.get(f"/notes/{table}").status_code == 401
        assert browser.get(f"/notes/{table}").status_code == 401
        assert list(module.TOKENS.values()) == [(None, None)]
