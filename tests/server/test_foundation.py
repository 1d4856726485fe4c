"""The gate and the routes' common ground: API key, order of refusals, bodies, error answers, migrations."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
from typing import Any, Callable, Iterator
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from selfdb.server import Settings, create_app
from selfdb.server import schema as tables_of_the_server
from selfdb.server.clock import SystemClock
from selfdb.server.database import Database, after_commit
from selfdb.server.migrations import STEPS, SchemaTooNew, migrate
from tests.core.kit import wait_until
from tests.support import Http, unique

ROUTES = [
    ("GET", "/users/me"),
    ("POST", "/users/"),
    ("POST", "/users/token"),
    ("POST", "/users/token/refresh"),
    ("GET", "/tables/"),
    ("GET", "/storage/buckets/"),
    ("GET", "/storage/files/"),
    ("GET", "/system/status"),
    ("DELETE", "/nowhere"),
]


@pytest.mark.parametrize("method,path", ROUTES)
@pytest.mark.parametrize("key", [None, ""])
def test_c001_without_api_key_every_route_answers_406(http: Http, method: str, path: str, key: Any) -> None:
    answer = http.request(method, path, key=key)
    assert answer.status_code == 406
    assert answer.json() == {"detail": "Missing required header: X-API-Key"}


@pytest.mark.parametrize("method,path", ROUTES)
def test_c002_a_wrong_api_key_is_401_also_on_an_unknown_path(http: Http, method: str, path: str) -> None:
    for key in ("wrong", http.api_key + "x", http.api_key[:-1]):
        answer = http.request(method, path, key=key)
        assert (answer.status_code, answer.json()) == (401, {"detail": "Invalid API key"})


def test_c003_descriptions_and_preflights_need_no_key(http: Http) -> None:
    document = http.get("/openapi.json", key=None)
    assert document.status_code == 200
    assert document.json()["components"]["securitySchemes"]["ApiKey"]["name"] == "X-API-Key"
    assert http.get("/docs", key=None).status_code == 200
    assert http.get("/redoc", key=None).status_code == 200
    assert http.options("/users/", key=None).status_code not in (401, 406)


def test_every_route_is_described_with_its_refusals(http: Http) -> None:
    paths = http.get("/openapi.json", key=None).json()["paths"]
    for path, operations in paths.items():
        for method, operation in operations.items():
            assert {"401", "406"} <= set(operation["responses"]), (method, path)
            assert operation["security"], (method, path)


@pytest.mark.parametrize("method,path", [("GET", "/users/me"), ("GET", "/users/"), ("POST", "/tables/")])
def test_c007_without_bearer_a_bearer_route_answers_401(http: Http, method: str, path: str) -> None:
    answer = http.request(method, path)
    assert answer.status_code == 401
    assert answer.json() == {"detail": "Not authenticated"}
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("body", [b"{not json", b'{"unknown": 1}', b"\xff\xfe", b"", b"[" * 5000])
def test_refusing_the_caller_comes_before_judging_the_body(http: Http, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    assert http.post("/tables/", data=body, headers=headers).status_code == 401
    assert http.post("/tables/", data=body, headers=headers, bearer="x").status_code == 401
    assert http.patch("/users/x", data=body, headers=headers).status_code == 401


@pytest.mark.parametrize(
    "body,status",
    [
        (b"{not json", 422),
        (b'\xff\xfe{"email"', 422),
        (b"[" * 100_000, 422),
        (b'{"email": ' + b"[" * 500 + b"]" * 500 + b"}", 422),
        (b'{"email": NaN}', 422),
        (b'{"email": 1e999}', 422),
        (b'{"email": ' + b"9" * 10_000 + b"}", 422),
        (b'{"email": "\\ud800"}', 400),
        (b'{"\\u0000": 1}', 400),
        (b'{"email": "a\\u0000b"}', 400),
        (b"null", 422),
        (b"[]", 422),
        (b"", 422),
    ],
)
def test_bodies_that_are_not_what_they_should_be_are_refused(http: Http, body: bytes, status: int) -> None:
    answer = http.post("/users/token", data=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    assert "detail" in answer.json()


def test_a_body_of_another_media_type_is_refused(http: Http) -> None:
    body = json.dumps({"email": "a@b.co", "password": "x"})
    assert http.post("/users/token", data=body, headers={"Content-Type": "text/plain"}).status_code == 422


def test_a_json_body_above_the_limit_is_413(make_server: Callable[..., Any]) -> None:
    http = Http(make_server(json_limit_bytes=1000))
    small = {"email": "nobody@example.com", "password": "x" * 20}
    assert http.post("/users/token", json=small).status_code == 401
    large = json.dumps({"email": "a" * 1000}).encode()
    headers = {"Content-Type": "application/json"}
    answer = http.post("/users/token", data=large, headers=headers)
    assert (answer.status_code, answer.json()) == (413, {"detail": "The body is larger than 1000 bytes"})
    chunked = http.post("/users/token", data=iter([large[:400]] * 50), headers=headers)
    assert chunked.status_code == 413


def test_413_is_answered_before_the_body_has_come(http: Http) -> None:
    target = urlsplit(http.url)
    head = (
        f"POST /users/token HTTP/1.1\r\nHost: {target.netloc}\r\nX-API-Key: {http.api_key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {11 * 1024 * 1024}\r\n\r\n"
    )
    with socket.create_connection((str(target.hostname), int(target.port or 0)), timeout=30) as raw:
        raw.sendall(head.encode())
        assert b" 413 " in raw.recv(4096).split(b"\r\n")[0]


def test_a_refusal_reaches_a_client_that_is_still_sending(http: Http) -> None:
    body = b"x" * (11 * 1024 * 1024)
    for _ in range(5):
        answer = http.post("/users/token", data=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 413
        assert http.post("/users/token", data=body, key="wrong").status_code == 401


def test_unknown_routes_methods_and_slashless_collections(http: Http) -> None:
    unknown = http.get("/nowhere")
    assert (unknown.status_code, unknown.json()) == (404, {"detail": "Not Found"})
    method = http.put("/users/me", bearer=http.admin)
    assert (method.status_code, method.json()) == (405, {"detail": "Method Not Allowed"})
    slashless = http.get("/users", bearer=http.admin)
    assert slashless.status_code == 307
    assert urlsplit(slashless.headers["Location"]).path == "/users/"


def test_c028_an_unknown_query_key_is_400_in_the_order_of_the_request(http: Http) -> None:
    answer = http.get("/users/?zeta=1&limit=5&alpha=2&zeta=3", bearer=http.admin)
    assert (answer.status_code, answer.json()) == (400, {"detail": "Unknown query parameters: zeta, alpha"})
    assert http.get("/users/count?skip=1", bearer=http.admin).status_code == 400
    assert http.get("/users/?bad=1").status_code == 401, "who asks comes first"


def test_validation_errors_name_the_place_and_never_the_value(http: Http) -> None:
    secret = "geheim\x01wort"
    answer = http.post("/users/token", json={"email": "no-address", "password": secret})
    assert answer.status_code == 422
    assert "geheim" not in answer.text
    assert "no-address" not in answer.text
    findings = answer.json()["detail"]
    assert {tuple(finding["loc"]) for finding in findings} == {("body", "email"), ("body", "password")}
    assert all(set(finding) == {"loc", "msg", "type"} for finding in findings)


def test_every_answer_has_a_request_id_of_its_own(http: Http) -> None:
    answers = [http.get("/system/status"), http.get("/system/status", key=None), http.get("/nowhere")]
    assert len({answer.headers["X-Request-ID"] for answer in answers}) == 3


def test_an_unexpected_failure_is_500_without_details_and_is_logged(
    make_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    http = Http(make_server())
    bearer = http.admin

    def broken(*arguments: Any, **named: Any) -> Any:
        raise ZeroDivisionError("inner detail")

    monkeypatch.setattr("selfdb.server.users.get", broken)
    with caplog.at_level(logging.ERROR, logger="selfdb.server"):
        answer = http.get("/users/me?token=hidden", bearer=bearer)
    assert (answer.status_code, answer.json()) == (500, {"detail": "Internal server error"})
    logged = [record for record in caplog.records if record.name == "selfdb.server"]
    assert len(logged) == 1
    assert answer.headers["X-Request-ID"] in logged[0].getMessage()
    assert "hidden" not in caplog.text


def test_the_access_log_has_no_query_and_is_off_unless_asked_for(
    make_server: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    loud, quiet = Http(make_server(access_log=True)), Http(make_server())
    with caplog.at_level(logging.INFO, logger="selfdb.server"):
        quiet.get("/system/status?key=hidden")
        assert not caplog.records
        loud.get("/system/status?key=hidden")
        wait_until(lambda: bool(caplog.records))  # the line is written behind the answer
    assert [record.getMessage().split()[:3] for record in caplog.records] == [["GET", "/system/status", "200"]]
    assert "hidden" not in caplog.text


def test_system_status_needs_the_key_only_and_ignores_a_stale_bearer(fresh_server: Any) -> None:
    http = Http(fresh_server)
    before = http.get("/system/status", bearer="stale")
    assert before.status_code == 200
    assert before.json()["initialized"] is False
    http.login()
    assert http.get("/system/status").json()["initialized"] is True


@pytest.fixture
def make_database(backend: str, request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Callable[[], Database]]:
    with contextlib.ExitStack() as stack:

        def make() -> Database:
            source = tmp_path / f"{unique()}.sqlite3"
            if backend == "postgresql":
                source = stack.enter_context(request.getfixturevalue("postgres").database())
            opened = Database(source)
            stack.callback(opened.close)
            opened.prepare()
            return opened

        yield make


@pytest.fixture
def database(make_database: Callable[[], Database]) -> Database:
    return make_database()


#: Everything that there is in a database.
CATALOGUE = {
    "sqlite": "SELECT type, name, sql FROM sqlite_master",
    "postgresql": """
        SELECT c.relname, c.relkind, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attnum,
            a.attidentity, l.collname, pg_get_expr(d.adbin, d.adrelid), pg_get_indexdef(c.oid)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
        LEFT JOIN pg_collation l ON l.oid = a.attcollation
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE n.nspname = 'selfdb' AND c.relkind IN ('r', 'S')
        UNION ALL SELECT c.relname, 'i', NULL, NULL, NULL, NULL, NULL, NULL, NULL, pg_get_indexdef(c.oid)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'selfdb' AND c.relkind = 'i'
        UNION ALL SELECT r.relname, 'c', k.conname, NULL, NULL, NULL, NULL, NULL, NULL, pg_get_constraintdef(k.oid)
        FROM pg_constraint k JOIN pg_class r ON r.oid = k.conrelid
        JOIN pg_namespace n ON n.oid = r.relnamespace WHERE n.nspname = 'selfdb'
    """,
}


def described(row: Any) -> Any:
    """A row of the catalogue; what a table is made of in any order, but its columns in theirs."""
    *named, text = row
    lines = [line.strip(" \t,") for line in str(text).splitlines()]
    columns = [line for line in lines if "CONSTRAINT" not in line]
    return (*named, *columns, frozenset(lines))


@pytest.mark.parametrize("steps", [None, STEPS], ids=["at once", "step by step"])
def test_the_migrated_database_is_what_the_code_expects(database: Database, steps: Any) -> None:
    assert migrate(database, SystemClock(), steps) == 0
    assert migrate(database, SystemClock()) == len(STEPS), "a second start finds nothing to do"
    expected = sa.MetaData(naming_convention=tables_of_the_server.system.naming_convention)
    place = "selfdb" if database.dialect == "postgresql" else None
    for table in tables_of_the_server.system.sorted_tables:
        if place is None:
            table.to_metadata(expected)
        else:
            table.to_metadata(expected, schema=place)
    with database.read() as connection:
        plain = connection.execution_options(schema_translate_map={})
        context = MigrationContext.configure(
            plain,
            opts={
                "include_schemas": True,
                "include_name": lambda name, kind, parents: kind != "schema" or name == place,
                "compare_type": database.dialect == "postgresql",
            },
        )
        assert compare_metadata(context, expected) == []


def test_a_database_made_at_once_is_the_one_made_step_by_step(
    make_database: Callable[[], Database],
) -> None:
    ways = []
    for steps in (None, STEPS):
        database = make_database()
        migrate(database, SystemClock(), steps)
        with database.read() as connection:
            plain = connection.execution_options(schema_translate_map={})
            ways.append(set(map(described, plain.execute(sa.text(CATALOGUE[database.dialect])))))
    assert ways[0] == ways[1]
    assert len(ways[0]) > len(tables_of_the_server.system.tables)


def test_a_failing_migration_leaves_the_version_before_it(database: Database) -> None:
    migrate(database, SystemClock())

    def good(op: Any) -> None:
        op.create_table("_selfdb_later", sa.Column("id", sa.Integer, primary_key=True))

    def bad(op: Any) -> None:
        good(op)
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        migrate(database, SystemClock(), [*STEPS, bad])
    assert migrate(database, SystemClock(), [*STEPS, good]) == len(STEPS)
    with pytest.raises(SchemaTooNew, match="use a newer selfdb"):
        migrate(database, SystemClock())


def test_work_after_a_commit_is_not_done_without_one(database: Database) -> None:
    done: list[str] = []
    with database.write() as connection:
        after_commit(connection, lambda: done.append("committed"))
        assert done == []
    with pytest.raises(RuntimeError), database.write() as connection:
        after_commit(connection, lambda: done.append("rolled back"))
        raise RuntimeError
    assert done == ["committed"]


def test_settings_come_from_arguments_then_environment_then_files(tmp_path: Any) -> None:
    (tmp_path / "key").write_text("key-of-the-file\n")
    environ = {"SELFDB_PORT": "1234", "SELFDB_HOST": "127.0.0.2", "SELFDB_API_KEY_FILE": str(tmp_path / "key")}
    environ["SELFDB_LIST_USERS"] = "yes"
    settings = Settings.resolve({"host": "::1", "port": None, "data": str(tmp_path)}, environ)
    assert (settings.host, settings.port, settings.list_users) == ("::1", 1234, True)
    assert settings.api_key == "key-of-the-file"
    assert "key-of-the-file" not in repr(settings)
    assert Settings.resolve({"api_key": "given"}, environ).api_key == "given"


@pytest.mark.parametrize(
    "given,environ,word",
    [
        ({"port": 70000}, {}, "port"),
        ({}, {"SELFDB_PORT": "http"}, "SELFDB_PORT"),
        ({}, {"SELFDB_LIST_USERS": "maybe"}, "SELFDB_LIST_USERS"),
        ({"registration": "closed"}, {}, "registration"),
        ({"database": "mysql://x"}, {}, "postgresql"),
        ({"api_key": "with blank"}, {}, "API key"),
        ({"api_key_file": "/does/not/exist"}, {}, "api_key"),
        ({"colour": "red"}, {}, "colour"),
        ({"login_failures": 0}, {}, "login_failures"),
    ],
)
def test_wrong_settings_are_refused_by_name(given: Any, environ: Any, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        Settings.resolve(given, environ)


def test_secrets_at_rest_are_for_the_owner_only(make_server: Callable[..., Any], tmp_path: Any) -> None:
    server = make_server(path=tmp_path / "data", api_key=None)
    data = tmp_path / "data"
    assert data.stat().st_mode & 0o777 == 0o700
    for path in data.iterdir():
        if path.is_file():
            assert path.stat().st_mode & 0o077 == 0, path
    assert (data / "api-key").read_text().strip() == server.api_key
    assert server.api_key.startswith("selfdb-")


def test_processes_on_one_postgresql_agree_on_key_and_tokens(make_server: Callable[..., Any], postgres: Any) -> None:
    import threading

    database = postgres.create_database()
    servers: list[Any] = []
    failures: list[BaseException] = []

    def start() -> None:
        try:
            servers.append(make_server(backend="postgresql", database=database, api_key=None))
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=start) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len({server.api_key for server in servers}) == 1
    bearer = Http(servers[0]).admin
    for server in servers:
        assert Http(server).get("/users/me", bearer=bearer).status_code == 200
        assert Http(server).get("/users/count", bearer=bearer).json() == {"count": 1}
        server.stop()
    postgres.drop_database(database)


def test_an_application_closes_its_database_when_it_fails_to_start(tmp_path: Any) -> None:
    with pytest.raises(ValueError, match="default password"):
        create_app(Settings(data=tmp_path, host="0.0.0.0", hash_time_cost=1, hash_memory_kib=8))


def test_no_log_level_shows_a_secret(make_server: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(1):
        server = make_server(api_key="key-that-is-secret", access_log=True)
        token, _ = Http(server).login()
        assert Http(server).get(f"/users/me?token={token}", bearer=token).status_code == 200
        wait_until(lambda: "/users/me" in served(caplog))
    assert "key-that-is-secret" not in served(caplog)
    assert token not in served(caplog)


def served(caplog: pytest.LogCaptureFixture) -> str:
    """What the server's side logged; the requests of this test log their own addresses."""
    return "\n".join(
        record.getMessage() for record in caplog.records if record.name.startswith(("selfdb.", "uvicorn", "websockets"))
    )
