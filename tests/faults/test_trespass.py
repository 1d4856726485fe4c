"""Nobody reads, changes or guesses what is another's: by odd requests, by odd values, by what refusals give away."""

from __future__ import annotations

import http.client
import json
import uuid
from typing import Any, Dict, Iterator, List, Tuple
from urllib.parse import urlsplit

import pytest

from selfdb.server import schema
from tests.faults.permissions import Thing, World
from tests.support import Http, unique


@pytest.fixture
def world(server: Any) -> Iterator[World]:
    made = World(server)
    yield made
    made.close()


def raw(world: World, method: str, target: str, headers: Dict[str, str], body: bytes = b"") -> Tuple[int, bytes]:
    """A request whose target is sent as it is, which no library would do."""
    parts = urlsplit(world.url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=30)
    try:
        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        with connection.getresponse() as answer:
            return answer.status, answer.read()
    finally:
        connection.close()


#: ``{t}`` private table, ``{T}`` in capitals, ``{o}`` another (public) table, ``{b}`` private bucket, ``{p}`` a public
#: one, ``{f}`` private file, ``{u}`` the owner's id, ``{m}`` one's own.
ODD_PATHS = [
    "//tables/{t}",
    "/tables//{t}",
    "/tables/./{t}",
    "/tables/{t}/",
    "/tables/{t}//data",
    "/tables/{t}/data/",
    "/TABLES/{t}",
    "/tables/{T}",
    "/tables/{o}/../{t}",
    "/tables/{o}/..%2f{t}",
    "/tables/{o}/%2e%2e/{t}/data",
    "/tables/{o};/{t}",
    "/tables/%2f{t}",
    "/tables/{t}%00",
    "/tables/{t}%20",
    "/tables/{t}%2fdata",
    "/tables/%7B{t}%7D",
    "/tables/urn:uuid:{t}",
    "/tables/{t}?id={o}",
    "/tables/{o}/data?table_id={t}",
    "/users/me/../{u}",
    "/users/{m}/../{u}",
    "/users/{m}%2f..%2f{u}",
    "/users/me?user_id={u}",
    "/users//{u}",
    "/users/{u}/",
    "/users/{u}%20",
    "/storage/files/download/{p}/../{b}/a.txt",
    "/storage/files/download/{p}/..%2f{b}%2fa.txt",
    "/storage/files/download/{p}/%2e%2e/{b}/a.txt",
    "/storage/files/download/{p}%2f..%2f{b}/a.txt",
    "/storage/files/download/{b}//a.txt",
    "/storage/files/download/{b}/%61.txt",
    "/storage/files/download//{b}/a.txt",
    "/storage/files/download/{p}/..%5c{b}%5ca.txt",
    "/storage/files/download/{p}/%c0%ae%c0%ae/{b}/a.txt",
    "/storage/files/{f}/",
    "/storage/files//{f}",
    "/storage/files/?bucket_id={i}",
    "/storage/files/count?bucket_id={i}",
    "/storage/files/?bucket_id={q}&bucket_id={i}",
    "/storage/buckets/{i}/",
    "/storage/buckets//{i}",
    "/storage/buckets/{I}",
    "/openapi.json/../tables/{t}",
    "/docs/%2e%2e/tables/{t}",
    "/openapi.json%2f..%2ftables/{t}",
]


def places(world: World) -> Dict[str, str]:
    private, table = world.make("private table").names, world.make("public table").names
    bucket, public = world.make("private bucket").names, world.make("public bucket").names
    me = world.ask("GET", "/users/me", headers=world.headers(world.stranger.access)).json()["id"]
    owner = world.ask("GET", "/users/me", headers=world.headers(world.owner.access)).json()["id"]
    return {
        "t": private["table_id"], "T": private["table_id"].upper(), "o": table["table_id"], "b": bucket["bucket_name"],
        "p": public["bucket_name"], "f": bucket["file_id"], "i": bucket["bucket_id"], "I": bucket["bucket_id"].upper(),
        "q": public["bucket_id"], "u": owner, "m": me,
    }  # fmt: skip


def test_g19_no_spelling_of_a_path_leads_to_what_is_anothers(world: World) -> None:
    there = places(world)
    owner = world.ask("GET", f"/users/{there['u']}", headers=world.headers(world.owner.access)).json()
    secrets = [owner["email"].encode(), b"secret", there["b"].encode(), owner["id"].encode()]
    for path in ODD_PATHS:
        target = path.format_map(there)
        echoed = [part for part in secrets if part in target.encode()]
        for bearer in ("", world.stranger.access):
            status, body = raw(world, "GET", target, world.headers(bearer))
            assert status < 500, (path, status, body)
            if status < 300:
                assert not any(part in body for part in secrets), (path, body)
            for part in secrets:
                assert part not in body or part in echoed, (path, body)
        # Without the key there is nothing at all, whatever the beginning of the path looks like.
        assert raw(world, "GET", target, {})[0] == 406, path


def test_g19_headers_change_neither_method_nor_path_nor_address(world: World) -> None:
    thing = world.make("private table")
    path = f"/tables/{thing.names['table_id']}"
    before = world.state(thing)
    for name, value in (
        ("X-HTTP-Method-Override", "DELETE"),
        ("X-HTTP-Method", "DELETE"),
        ("X-Method-Override", "DELETE"),
        ("X-Original-URL", path),
        ("X-Rewrite-URL", path),
        ("X-Forwarded-Prefix", path),
        ("X-User-Id", "1"),
        ("X-Role", "ADMIN"),
        ("Cookie", f"access_token={world.owner.access}; token={world.owner.access}"),
    ):
        assert world.ask("GET", path, headers={**world.headers(world.owner.access), name: value}).status_code == 200
        assert world.ask("GET", path, headers={**world.headers(world.stranger.access), name: value}).status_code == 403
        assert world.ask("GET", path, headers={**world.headers(), name: value}).status_code == 401
        assert world.ask("POST", path, headers={**world.headers(world.owner.access), name: value}).status_code == 405
    for query in (f"?access_token={world.owner.access}", f"?token={world.owner.access}", "?_method=DELETE"):
        assert world.ask("GET", path + query, headers=world.headers()).status_code == 401
    for key in (f"?X-API-Key={world.key}", f"?api_key={world.key}"):
        assert world.ask("GET", path + key).status_code == 406
    assert world.state(thing) == before


def test_g19_refusals_do_not_tell_what_is_there(world: World) -> None:
    """What exists in a private place is refused like what does not; ids cannot be guessed."""
    table, bucket = world.make("private table").names, world.make("private bucket").names
    data, download = f"/tables/{table['table_id']}/data", f"/storage/files/download/{bucket['bucket_name']}"
    for method, there, absent in (
        ("PATCH", f"{data}/{table['row_id']}", f"{data}/{uuid.uuid4()}"),
        ("DELETE", f"{data}/{table['row_id']}", f"{data}/{uuid.uuid4()}"),
        ("PATCH", f"{data}/{table['row_id']}?id_column=a", f"{data}/{table['row_id']}?id_column=nothing"),
        ("GET", f"{data}?sort_by=a", f"{data}?sort_by=nothing"),
        ("GET", f"{data}?search=secret", f"{data}?search=nothing"),
        ("PATCH", f"/tables/{table['table_id']}/columns/b", f"/tables/{table['table_id']}/columns/nothing"),
        ("DELETE", f"/tables/{table['table_id']}/columns/b", f"/tables/{table['table_id']}/columns/nothing"),
        ("GET", f"{download}/a.txt", f"{download}/nothing.txt"),
        ("HEAD", f"{download}/a.txt", f"{download}/nothing.txt"),
        (
            "POST",
            f"/storage/buckets/{bucket['bucket_id']}/files?filename=a.txt",
            f"/storage/buckets/{bucket['bucket_id']}/files?filename=nothing.txt",
        ),
    ):
        for bearer, status in (("", 401), (world.stranger.access, 403)):
            seen = []
            for path in (there, absent):
                body = {"nullable": True} if "columns" in path else {"a": "b"}
                options: Dict[str, Any] = {} if method in ("GET", "HEAD", "DELETE") else {"json": body}
                answer = world.ask(method, path, headers=world.headers(bearer), **options)
                headers = {
                    name: value for name, value in answer.headers.items() if name not in ("x-request-id", "date")
                }
                seen.append((answer.status_code, answer.content, headers))
            assert seen[0] == seen[1], (method, there)
            assert seen[0][0] == status, (method, there)
    for place in (f"/tables/{table['table_id']}", f"/tables/{uuid.uuid4()}"):
        assert raw(world, "OPTIONS", place, {}) == (405, b'{"detail":"Method Not Allowed"}')
    for name in ("table_id", "row_id"):
        assert uuid.UUID(table[name]).version == 4
    for name in ("bucket_id", "file_id"):
        assert uuid.UUID(bucket[name]).version == 4


def test_g19_no_list_can_be_asked_about_what_it_does_not_show(world: World) -> None:
    me, owner = world.headers(world.stranger.access), world.headers(world.owner.access)
    victim = world.ask("GET", "/users/me", headers=owner).json()
    table, bucket = world.make("private table").names, world.make("private bucket").names
    for path, term in (
        ("/users/", victim["email"]),
        ("/users/", "argon2"),
        ("/users/", victim["id"]),
        ("/tables/", table["table_name"]),
        ("/storage/buckets/", bucket["bucket_name"]),
        ("/storage/files/", bucket["bucket_name"]),
    ):
        for counted in ("", "count" if path != "/storage/files/" else "total-count"):
            answer = world.ask("GET", f"{path}{counted}", params={"search": term}, headers=me)
            found = answer.json()
            assert (found.get("data", found) if isinstance(found, dict) else found) in ([], {"count": 0}), (path, term)
    admin = world.headers(world.admin.access)
    assert world.ask("GET", "/users/", params={"search": "argon2"}, headers=admin).json() == []
    for path, column in (
        ("/users/", "password_hash"), ("/users/", "email_key"), ("/users/", "is_active"), ("/tables/", "owner_id"),
        ("/tables/", "table_schema"), ("/storage/buckets/", "owner_id"), ("/storage/files/", "version"),
        ("/storage/files/", "owner_id"), ("/users/", "created_at desc, password_hash"), ("/users/", "(select 1)"),
    ):  # fmt: skip
        assert world.ask("GET", path, params={"sort_by": column}, headers=admin).status_code == 422, (path, column)
    # Columns that the server keeps for itself are no columns.
    mine = world.make("public table").names
    data = f"/tables/{mine['table_id']}/data"
    for column in ("_seq", "seq", "_selfdb_seq", "rowid", "_rowid_", "oid", "ctid", "xmin", "tableoid", "a;--", '"a"'):
        assert world.ask("GET", data, params={"sort_by": column}, headers=me).status_code == 400, column
        path = f"{data}/1?id_column={column}"
        assert world.ask("PATCH", path, json={"a": "b"}, headers=owner).status_code == 400, column
        assert world.ask("POST", data, json={column: 1}, headers=owner).status_code == 400, column


#: What the server alone decides, or what other software would call it.
SYSTEM_KEYS = {
    "users": "id isAdmin is_active created_at updated_at password_hash email_key first_name __proto__ constructor",
    "tables": "id owner_id row_count created_at updated_at owner columns schema_name user_id",
    "buckets": "id owner_id file_count total_size created_at updated_at owner user_id",
    "files": "id owner_id bucket_id size path mime_type version created_at name",
}


def test_g19_nothing_is_set_that_was_not_offered(world: World) -> None:
    """Keys of the server's own, sent along with good ones, are refused, and nothing is made or changed."""
    table, bucket, user = world.make("public table"), world.make("public bucket"), world.make("user")
    stranger = world.ask("GET", "/users/me", headers=world.headers(world.stranger.access)).json()["id"]
    before = world.state(table)
    new = {"name": unique(), "table_schema": {"a": {"type": "text"}}}
    fresh = {"email": f"{unique()}@example.com", "password": "password123", "firstName": "A", "lastName": "B"}
    calls: List[Tuple[str, str, str, Dict[str, Any], Thing]] = [
        ("users", "POST", "/users/", fresh, user),
        ("users", "PATCH", f"/users/{user.names['user_id']}", {"firstName": "X"}, user),
        ("tables", "POST", "/tables/", new, table),
        ("tables", "PATCH", f"/tables/{table.names['table_id']}", {"description": "X"}, table),
        ("buckets", "POST", "/storage/buckets/", {"name": unique()}, bucket),
        ("buckets", "PATCH", f"/storage/buckets/{bucket.names['bucket_id']}", {"description": "X"}, bucket),
        ("files", "PATCH", f"/storage/files/{bucket.names['file_id']}", {"metadata": {}}, bucket),
    ]
    for family, method, path, body, thing in calls:
        for key in SYSTEM_KEYS[family].split():
            sent = {**body, key: stranger}
            answer = world.ask(method, path, json=sent, headers=world.headers(thing.owner.access))
            assert answer.status_code == 422, (method, path, key, answer.text)
    # Of a key said twice the last counts: it is not the first that is judged and the last that is stored.
    twice = json.dumps(fresh)[:-1] + ', "role": "USER", "role": "ADMIN"}'
    json_type = {**world.headers(), "Content-Type": "application/json"}
    assert world.ask("POST", "/users/", data=twice, headers=json_type).status_code == 403
    me = {**world.headers(user.owner.access), "Content-Type": "application/json"}
    for said in (
        '{"role": "USER", "role": "ADMIN"}',
        '{"isActive": true}',
        '{"role": "USER"}',
        '{"r\\u006fle": "ADMIN"}',
    ):
        path = f"/users/{user.names['user_id']}"
        assert world.ask("PATCH", path, data=said, headers=me).status_code == 403, said
    # A body that does not say that it is JSON is not taken for it.
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "text/json"):
        answer = world.ask("POST", "/users/", data=json.dumps(fresh), headers={**world.headers(), "Content-Type": kind})
        assert answer.status_code == 422, kind
    assert world.state(table) == before


def test_g19_an_address_is_nobody_elses_however_it_is_written(world: World) -> None:
    user = world.make("user")
    other = world.make("user")
    local = user.email.partition("@")[0]
    fields = {"password": "password123", "firstName": "A", "lastName": "B"}
    taken = [user.email, user.email.upper(), f"{local}@EXAMPLE.com", f"{local.capitalize()}@Example.Com"]
    odd = [
        user.email + "\n", user.email + " ", " " + user.email, f"{local}@example.com.",
        f"{local}@ex\u0430mple.com", f"{local}@example\u3002com", f"{local}\uff20example.com",
        f"{local}\u200b@example.com",
        f"\uff55{local[1:]}@example.com", f"{local}@\u212aample.com", f'"{local}"@example.com',
        f"{local}(x)@example.com",
        f"x <{user.email}>", f"{user.email},x@example.com", f"{local}%40example.com", f"mailto:{user.email}",
        f"{local}@example.com\r\nBcc: x@example.com", f"{local}@EXAMPLE.\u0131o", f"{local}@xn--\u00e9.com",
    ]  # fmt: skip
    before = world.state()
    for email, status in [*((email, 409) for email in taken), *((email, 422) for email in odd)]:
        body = {"email": email, **fields}
        assert world.ask("POST", "/users/", json=body, headers=world.headers()).status_code == status, email
        path, mine = f"/users/{other.names['user_id']}", world.headers(other.owner.access)
        assert world.ask("PATCH", path, json={"email": email}, headers=mine).status_code == status, email
        login = {"email": email, "password": "password124"}
        answer = world.ask("POST", "/users/token", json=login, headers=world.headers())
        assert answer.status_code == (401 if status == 409 else 422), email
    assert world.state() == before


def test_g19_a_kept_answer_is_given_to_nobody_else(world: World) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    table = world.make("public table").names["table_id"]
    path, body = f"/tables/{table}/data", {"a": unique()}
    first = world.ask("POST", path, json=body, headers={**world.headers(world.owner.access), **key})
    assert first.status_code == 201
    ids = {first.json()["id"]}
    for bearer in (world.stranger.access, world.admin.access, ""):
        answer = world.ask("POST", path, json=body, headers={**world.headers(bearer), **key})
        assert "Idempotency-Replayed" not in answer.headers
        ids.add(answer.json()["id"])
    assert len(ids) == 4
    # Once the table is private its owner's answer may be repeated, a stranger's own may not.
    private = {"json": {"public": False}, "headers": world.headers(world.owner.access)}
    assert world.ask("PATCH", f"/tables/{table}", **private).status_code == 200
    for bearer, status in ((world.owner.access, 201), (world.stranger.access, 403), ("", 401)):
        answer = world.ask("POST", path, json=body, headers={**world.headers(bearer), **key})
        assert answer.status_code == status
    # An administrator's answer is not repeated once he is none.
    boss, bearer = Http(_Served(world)).new_user(role="ADMIN")
    new = {"email": f"{unique()}@example.com", "password": "password123", "firstName": "A", "lastName": "B"}
    keyed = {"json": {**new, "role": "ADMIN"}, "headers": {**world.headers(bearer), **key}}
    assert world.ask("POST", "/users/", **keyed).status_code == 201
    demoted = {"json": {"role": "USER"}, "headers": world.headers(world.admin.access)}
    assert world.ask("PATCH", f"/users/{boss['id']}", **demoted).status_code == 200
    assert world.ask("POST", "/users/", **keyed).status_code == 403


class _Served:
    def __init__(self, world: World) -> None:
        self.url, self.api_key = world.url, world.key


def test_g19_no_answer_of_any_route_holds_a_hash(world: World) -> None:
    """What is kept of a password appears nowhere that anybody may look, administrators included."""
    with world.services.database.read() as connection:
        hashes = list(connection.scalars(schema.users.select().with_only_columns(schema.users.c.password_hash)))
    assert len(hashes) >= 3
    for path in ("/users/", "/users/me", "/tables/", "/storage/buckets/", "/storage/files/", "/openapi.json"):
        for bearer in (world.admin.access, world.owner.access):
            text = world.ask("GET", path, headers=world.headers(bearer)).text
            assert "argon2" not in text
            assert not any(each in text for each in hashes)
