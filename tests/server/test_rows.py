"""Rows over raw HTTP, on both databases: inserted, changed, deleted; who may, which one, and many at once."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, List
from urllib.parse import quote

import pytest
from sqlalchemy.exc import ProgrammingError

from selfdb.server import rows as server_rows
from tests.server.tabledata import NOTES, insert, new_table, page, read, refused, route, rows
from tests.support import Http, unique


def change(http: Http, table: Dict[str, Any], row_id: Any, values: Any, **query: Any) -> Any:
    return http.patch(route(table, "data", str(row_id)), params=query, json=values, bearer=http.admin)


def remove(http: Http, table: Dict[str, Any], row_id: Any, **query: Any) -> Any:
    return http.delete(route(table, "data", str(row_id)), params=query, bearer=http.admin)


@pytest.mark.parametrize("given", [{}, {"id": ""}, {"id": None}])
def test_c058_a_declared_uuid_id_is_generated(http: Http, given: Dict[str, Any]) -> None:
    table = new_table(http, {"id": {"type": "uuid", "nullable": False}, "name": {"type": "text"}})
    row = insert(http, table, {"name": "x", **given})
    assert str(uuid.UUID(row["id"])) == row["id"]
    assert rows(http, table) == [row]
    assert change(http, table, row["id"], {"name": "y"}).json()["name"] == "y"


def test_c058_a_given_id_is_kept_and_unique(http: Http) -> None:
    table = new_table(http, {"id": {"type": "uuid"}})
    row_id = str(uuid.uuid4())
    assert insert(http, table, {"id": row_id.upper()})["id"] == row_id
    detail = refused(http, table, {"id": row_id}, status=409)
    assert row_id not in detail
    refused(http, table, {"id": "x"})


def test_c058_an_id_that_may_be_null_may_be_null(http: Http) -> None:
    table = new_table(http, {"id": {"type": "integer", "nullable": True}, "a": {"type": "text"}})
    assert [insert(http, table, {"id": None, "a": "x"})["id"] for _ in range(2)] == [None, None]
    assert insert(http, table, {"a": "x"})["id"] == 1


@pytest.mark.parametrize("type_, highest", [("integer", 2**31 - 1), ("bigint", 2**63 - 1)])
def test_c058_a_whole_id_counts_upwards(http: Http, type_: str, highest: int) -> None:
    table = new_table(http, {"id": {"type": type_}, "name": {"type": "text"}})
    assert [insert(http, table, {"name": "x"})["id"] for _ in range(3)] == [1, 2, 3]
    insert(http, table, {"id": 10, "name": "x"})
    insert(http, table, {"id": -5, "name": "x"})
    assert insert(http, table, {"name": "x"})["id"] == 11
    refused(http, table, {"id": 11, "name": "x"}, status=409)
    refused(http, table, {"id": None, "name": "x"})
    insert(http, table, {"id": highest, "name": "x"})
    refused(http, table, {"name": "x"})


def test_c058_an_id_of_text_must_be_given(http: Http) -> None:
    table = new_table(http, {"id": {"type": "text"}, "a": {"type": "text"}})
    refused(http, table, {"a": "x"})
    assert insert(http, table, {"id": "", "a": "x"})["id"] == ""
    insert(http, table, {"id": "é" * 1024})
    refused(http, table, {"id": "é" * 1024 + "x"})


def test_c059_undeclared_columns_are_kept_by_the_server(http: Http) -> None:
    table = new_table(http, {"text": {"type": "text"}})
    first, second = insert(http, table, {"text": "a"}), insert(http, table, {"text": "b"})
    assert list(first) == ["id", "text", "created_at", "updated_at"]
    assert first["created_at"] == first["updated_at"] < second["created_at"]
    assert [row["text"] for row in rows(http, table, sort_by="created_at")] == ["b", "a"]
    answer = change(http, table, first["id"], {"text": "c"})
    assert answer.status_code == 200
    changed = answer.json()
    assert changed["updated_at"] > first["updated_at"]
    assert {**changed, "updated_at": None} == {**first, "text": "c", "updated_at": None}
    assert rows(http, table, sort_by="updated_at") == [changed, second]
    assert read(http, table)["table_schema"] == {"text": {"type": "text"}}


def test_c059_undeclared_columns_can_be_given(http: Http) -> None:
    table = new_table(http, {"text": {"type": "text"}})
    row_id, then = str(uuid.uuid4()), "2001-02-03T04:05:06.000000+00:00"
    row = insert(http, table, {"id": row_id, "text": "x", "created_at": "2001-02-03 04:05:06"})
    assert (row["id"], row["created_at"]) == (row_id, then)
    refused(http, table, {"text": "x", "created_at": None})
    assert change(http, table, row_id, {"updated_at": then}).json()["updated_at"] == then


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"title": "x", "nope": 1},
        {"Title": "x"},
        {"title": None},
        {"amount": 5},
        {"title": "x", "amount": "x"},
        {"title": "x", "amount": True},
        {"title": "x", "amount": 2**31},
        {"title": "x", "amount": -(2**31) - 1},
        {"title": "x", "amount": 10**30},
        {"title": "x", "amount": 1.5},
        {"title": "x", "amount": []},
        {"title": 5},
        {"title": True},
        {"title": ["x"]},
        {"title": {"a": "b"}},
        {"title": "x", "id": 5},
        {"title": "x", "id": "not-a-uuid"},
    ],
)
def test_c060_what_is_no_row_is_refused(http: Http, row: Dict[str, Any]) -> None:
    table = new_table(http)
    refused(http, table, row)
    kept = insert(http, table, {"title": "kept", "amount": 1})
    if row not in ({"amount": 5},):
        assert change(http, table, kept["id"], row).status_code == 400
    assert rows(http, table) == [kept]


def test_c060_what_reads_as_the_type_is_stored(http: Http) -> None:
    table = new_table(http)
    assert insert(http, table, {"title": "x", "amount": "5"})["amount"] == 5
    assert insert(http, table, {"title": "x", "amount": 7.0})["amount"] == 7
    assert [row["amount"] for row in rows(http, table)] == [5, 7]


@pytest.mark.parametrize("body", ["[]", "null", "5", '"x"', "{", "", "[{}]", '{"title": NaN}', '{"title": 1e999}'])
def test_c060_a_body_must_be_a_json_object(http: Http, body: str) -> None:
    table = new_table(http)
    headers = {"Content-Type": "application/json"}
    for method, path in (("POST", route(table, "data")), ("PATCH", route(table, "data", "x"))):
        answer = http.request(method, path, data=body, headers=headers, bearer=http.admin)
        assert answer.status_code == 422, answer.text
    assert page(http, table)["total"] == 0


def test_c060_reasons_name_the_column_and_never_the_value(http: Http) -> None:
    table = new_table(http)
    detail = refused(http, table, {"title": "x", "amount": "secret" * 50})
    assert '"amount"' in detail
    assert "integer" in detail
    assert "secret" not in detail
    detail = refused(http, table, {"x" * 5000: 1})
    assert len(detail) < 300


@pytest.mark.parametrize(
    "text",
    [
        'it\'s "quoted"',
        "'; DROP TABLE x; --",
        "100% of %s %(x)s :name ?",
        "😀 ß \u0131 İ \u202e \ufffe",
        "line\nbreak\r\n\ttab \x01\x1f\x7f",
        "\\ \\n {}",
        "",
        " ",
        "x" * 100_000,
    ],
)
def test_c061_text_is_stored_verbatim(http: Http, text: str) -> None:
    table = new_table(http, {"t": {"type": "text"}, "j": {"type": "jsonb"}})
    row = insert(http, table, {"t": text, "j": {text[:50]: text}})
    assert (row["t"], row["j"]) == (text, {text[:50]: text})
    assert rows(http, table) == [row]
    if text:
        found = http.patch(
            route(table, "data", text[:2000]), params={"id_column": "t"}, json={"t": "y"}, bearer=http.admin
        )
        assert found.status_code == (200 if len(text) <= 2000 else 404)


@pytest.mark.parametrize("column", ["t", "v", "j", "k"])
@pytest.mark.parametrize("text", ["a\\u0000b", "\\ud800", "x\\udfffy"])
def test_c061_text_that_no_database_keeps_is_refused(http: Http, column: str, text: str) -> None:
    table = new_table(http, {"t": {"type": "text"}, "v": {"type": "varchar"}, "j": {"type": "jsonb"}})
    body = f'{{"j": [{{"{text}": 1}}]}}' if column == "k" else f'{{"{column}": "{text}"}}'
    headers = {"Content-Type": "application/json"}
    answer = http.post(route(table, "data"), data=body, headers=headers, bearer=http.admin)
    assert answer.status_code == 400, answer.text
    unknown = http.post(route(table, "data"), data=f'{{"{text}": 1}}', headers=headers, bearer=http.admin)
    assert unknown.status_code == 400
    assert page(http, table)["total"] == 0


def test_c063_everybody_inserts_into_a_public_table_and_few_change_it(http: Http) -> None:
    _, owner = http.new_user()
    _, stranger = http.new_user()
    table = new_table(http, public=True, bearer=owner)
    made = [http.post(route(table, "data"), json={"title": "x"}, bearer=bearer) for bearer in (None, stranger, owner)]
    assert [answer.status_code for answer in made] == [201, 201, 201]
    path = route(table, "data", made[1].json()["id"])
    for method, body in (("PATCH", {"title": "y"}), ("DELETE", None)):
        anonymous = http.request(method, path, json=body)
        assert (anonymous.status_code, anonymous.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert http.request(method, path, json=body, bearer=stranger).status_code == 403
    assert http.patch(path, json={"title": "y"}, bearer=owner).json()["title"] == "y"
    assert http.delete(path, bearer=http.admin).status_code == 204
    assert page(http, table)["total"] == read(http, table)["row_count"] == 2


def test_c064_a_row_is_found_by_any_column(http: Http) -> None:
    schema = {
        "sku": {"type": "varchar(20)"},
        "n": {"type": "integer"},
        "b": {"type": "boolean"},
        "at": {"type": "timestamp"},
        "u": {"type": "uuid"},
        "d": {"type": "decimal"},
        "f": {"type": "float"},
        "day": {"type": "date"},
        "j": {"type": "jsonb"},
    }
    table = new_table(http, schema)
    insert(http, table, {"sku": "other"})
    u = str(uuid.uuid4())
    row = {
        "sku": "a-1",
        "n": 7,
        "b": True,
        "at": "2025-01-02T03:04:05Z",
        "u": u,
        "d": 1.5,
        "f": 0.1,
        "day": "2025-01-02",
    }
    insert(http, table, row)
    for name, row_id in (
        ("sku", "a-1"),
        ("n", " 7"),
        ("b", "yes"),
        ("at", "2025-01-02T04:04:05+01:00"),
        ("u", u.upper()),
        ("d", "1.50"),
        ("f", "1e-1"),
        ("day", "2025-01-02"),
    ):
        answer = change(http, table, row_id, {"j": name}, id_column=name)
        assert (answer.status_code, answer.json().get("j")) == (200, name), name
    assert [item["j"] for item in rows(http, table)] == [None, "day"]
    for name, row_id in (("n", "x"), ("n", "2147483648"), ("b", "maybe"), ("at", "soon"), ("u", "x"), ("j", "1")):
        for answer in (
            change(http, table, row_id, {"j": 1}, id_column=name),
            remove(http, table, row_id, id_column=name),
        ):
            assert answer.status_code == 400
            assert name in answer.json()["detail"]
    for name in ("nope", "N", "$seq", "seq", "c1", "id; drop table x", ""):
        assert change(http, table, "1", {"j": 1}, id_column=name).status_code == 400
        assert remove(http, table, "1", id_column=name).status_code == 400
    assert page(http, table)["total"] == 2


def test_c064_a_row_that_is_not_there_is_not_found(http: Http) -> None:
    table = new_table(http)
    row = insert(http, table, {"title": "x", "amount": None})
    for row_id, query in ((uuid.uuid4(), {}), ("y", {"id_column": "title"}), ("5", {"id_column": "amount"})):
        for answer in (change(http, table, row_id, {"title": "z"}, **query), remove(http, table, row_id, **query)):
            assert (answer.status_code, answer.json()) == (404, {"detail": "Row not found"})
    assert change(http, table, "not-a-uuid", {"title": "z"}).status_code == 400
    empty = change(http, table, row["id"], {})
    assert (empty.status_code, empty.json()) == (400, {"detail": "Row data cannot be empty"})
    assert rows(http, table) == [row]


def test_c064_a_change_can_be_refused(http: Http) -> None:
    table = new_table(http, {"id": {"type": "integer"}, "a": {"type": "text", "nullable": False}})
    insert(http, table, {"a": "one"})
    two = insert(http, table, {"a": "two"})
    assert change(http, table, 2, {"id": 1}).status_code == 409
    assert change(http, table, 2, {"a": None}).status_code == 400
    assert change(http, table, 2, {"id": None}).status_code == 400
    assert change(http, table, 2, {"a": "x", "nope": 1}).status_code == 400
    assert rows(http, table)[1] == two
    assert change(http, table, 2, {"id": 3}).json()["id"] == 3
    assert change(http, table, 2, {"a": "x"}).status_code == 404


def test_a_column_that_finds_several_rows_changes_none(http: Http) -> None:
    table = new_table(http)
    before = [insert(http, table, {"title": "same", "amount": number}) for number in range(3)]
    for answer in (
        change(http, table, "same", {"amount": 9}, id_column="title"),
        remove(http, table, "same", id_column="title"),
    ):
        assert answer.status_code == 409
    assert rows(http, table) == before
    assert read(http, table)["row_count"] == 3


def test_c065_a_deleted_row_is_gone(http: Http) -> None:
    table = new_table(http)
    kept, row = insert(http, table, {"title": "kept"}), insert(http, table, {"title": "x"})
    assert read(http, table)["row_count"] == 2
    answer = remove(http, table, row["id"])
    assert (answer.status_code, answer.content) == (204, b"")
    assert remove(http, table, row["id"]).status_code == 404
    assert rows(http, table) == [kept]
    assert read(http, table)["row_count"] == 1


@pytest.mark.parametrize("row_id", ["a/b c?#", "50%", "%2F", "ü+&=", "a\\b", ";x=1", "/", "data/1", "x\ny"])
def test_c066_any_text_is_a_row_id(http: Http, row_id: str) -> None:
    table = new_table(http, {"id": {"type": "text"}, "n": {"type": "integer"}})
    insert(http, table, {"id": row_id, "n": 1})
    path = route(table, "data") + "/" + quote(row_id, safe="")
    answer = http.patch(path, json={"n": 2}, bearer=http.admin)
    assert (answer.status_code, answer.json().get("n")) == (200, 2)
    assert http.delete(path, bearer=http.admin).status_code == 204
    assert page(http, table)["total"] == 0


def test_c066_a_row_id_with_nul_is_refused(http: Http) -> None:
    table = new_table(http, {"id": {"type": "text"}})
    for method in ("PATCH", "DELETE"):
        answer = http.request(method, route(table, "data") + "/a%00b", json={"id": "x"}, bearer=http.admin)
        assert answer.status_code == 400


def test_c121_a_write_that_fails_leaves_nothing(http: Http) -> None:
    table = new_table(http, {"id": {"type": "integer"}, "a": {"type": "text"}})
    insert(http, table, {"a": "x"})
    headers = {"Idempotency-Key": unique("k")}
    for _ in range(2):
        answer = http.post(route(table, "data"), json={"id": 1, "a": "y"}, headers=headers, bearer=http.admin)
        assert answer.status_code == 409
    assert read(http, table)["row_count"] == page(http, table)["total"] == 1
    assert insert(http, table, {"a": "z"})["id"] == 2
    # What was refused may be tried again under its key once it can be done.
    remove(http, table, 1)
    answer = http.post(route(table, "data"), json={"id": 1, "a": "y"}, headers=headers, bearer=http.admin)
    assert answer.status_code == 201


@pytest.mark.parametrize("id_type", ["integer", "uuid"])
def test_c124_fifty_inserts_at_once_lose_nothing(http: Http, id_type: str) -> None:
    table = new_table(http, {"id": {"type": id_type}, "n": {"type": "integer"}}, public=True)

    def put(number: int) -> int:
        return http.post(route(table, "data"), json={"n": number}).status_code

    with ThreadPoolExecutor(50) as pool:
        assert set(pool.map(put, range(50))) == {201}
    found = rows(http, table)
    assert sorted(row["n"] for row in found) == list(range(50))
    assert len({row["id"] for row in found}) == 50
    assert read(http, table)["row_count"] == 50
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda row: remove(http, table, row["id"]).status_code, found[:25] * 2))
    assert sorted(answers) == [204] * 25 + [404] * 25
    assert read(http, table)["row_count"] == page(http, table)["total"] == 25


def test_c124_one_of_many_equal_ids_wins(http: Http) -> None:
    table = new_table(http, {"id": {"type": "integer"}}, public=True)
    with ThreadPoolExecutor(10) as pool:
        statuses = list(pool.map(lambda _: http.post(route(table, "data"), json={"id": 7}).status_code, range(10)))
    assert sorted(statuses) == [201] + [409] * 9
    assert read(http, table)["row_count"] == 1


def test_c124_a_table_that_changes_under_its_users_never_breaks(http: Http) -> None:
    table = new_table(http, {"a": {"type": "text"}, "n": {"type": "integer", "default": 1}}, public=True)
    admin = http.admin
    seen: List[int] = []
    done = threading.Event()

    def work(number: int) -> None:
        turn = 0
        while not done.is_set():
            turn += 1
            if number % 2:
                answer = http.post(route(table, "data"), json={"a": f"{number}-{turn}"})
            else:
                answer = http.get(route(table, "data"), params={"sort_by": "id", "search": "1"})
            seen.append(answer.status_code)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        columns = route(table, "columns")
        for turn in range(6):
            for method, path, body in (
                ("PATCH", columns + "/n", {"type": "text"}),
                ("POST", columns, {"name": "extra", "type": "integer", "nullable": False, "default_value": turn}),
                ("PATCH", columns + "/n", {"type": "integer"}),
                ("DELETE", columns + "/extra", None),
            ):
                answer = http.request(method, path, json=body, bearer=admin)
                assert answer.status_code == 200, answer.text
        assert http.delete(route(table), bearer=admin).status_code == 204
    finally:
        done.set()
        for thread in threads:
            thread.join(60)
    assert set(seen) <= {200, 201, 404}
    assert {200, 201} <= set(seen)


class Gone(Exception):
    """What PostgreSQL says of a column that another transaction dropped a moment ago."""

    sqlstate = "42703"


@pytest.mark.parametrize("misses, status", [(0, 200), (4, 200), (5, 503)])
def test_a_table_that_changes_at_every_look_is_503(
    http: Http, monkeypatch: pytest.MonkeyPatch, misses: int, status: int
) -> None:
    table = new_table(http)
    kept = insert(http, table, {"title": "kept"})
    real, seen = server_rows._page, []

    def page_of(*arguments: Any) -> Dict[str, Any]:
        seen.append(arguments)
        if len(seen) <= misses:
            raise ProgrammingError("SELECT", {}, Gone())
        return real(*arguments)

    monkeypatch.setattr(server_rows, "_page", page_of)
    answer = http.get(route(table, "data"), bearer=http.admin)
    assert answer.status_code == status
    if status == 200:
        assert answer.json()["data"] == [kept]
        assert "Retry-After" not in answer.headers
    else:
        detail = "The columns of this table are changing: try again in a moment"
        assert answer.json() == {"detail": detail}
        assert answer.headers["Retry-After"] == "1"
        assert len(seen) == 5
    documented = http.get("/openapi.json").json()["paths"]["/tables/{table_id}/data"]["get"]["responses"]["503"]
    assert "Retry-After" in documented["headers"]


def test_c124_a_row_that_many_change_keeps_every_change(http: Http) -> None:
    schema = {f"c{number}": {"type": "integer"} for number in range(20)}
    table = new_table(http, schema)
    row = insert(http, table, {"c0": 0})
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda n: change(http, table, row["id"], {f"c{n}": n}).status_code, range(20)))
    assert set(answers) == {200}
    (after,) = rows(http, table)
    assert [after[f"c{number}"] for number in range(20)] == list(range(20))


def test_every_table_keeps_its_shape_of_row(http: Http) -> None:
    table = new_table(http, NOTES)
    row = insert(http, table, {"title": "x"})
    assert list(row) == ["id", "title", "amount", "created_at", "updated_at"]
    assert list(rows(http, table)[0]) == list(row)
    assert list(change(http, table, row["id"], {"amount": 1}).json()) == list(row)
