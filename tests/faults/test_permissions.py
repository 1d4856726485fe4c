"""Every cell of the permission table: the status, and that a refused write changed nothing in the database."""

from __future__ import annotations

import base64
import dataclasses
import json
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, Dict, Iterator, List, Sequence, Tuple, TypeVar

import jwt
import pytest

from selfdb.server.bearer import ACCESS, Claims, Tokens
from tests import soak
from tests.faults.permissions import CALLERS, SENDS, Row, Thing, World, rows

ROWS = rows()
T = TypeVar("T")


@pytest.fixture
def world(backend: str, make_server: Callable[..., Any]) -> Iterator[World]:
    # A wrong password is one of the rows; it is not the throttle that is asked here.
    made = World(make_server(backend=backend, login_failures=1000))
    yield made
    made.close()


def encoded(*parts: Dict[str, Any]) -> str:
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)


def resigned(world: World, **changes: Any) -> str:
    """The owner's access token with other claims, signed by the server itself."""
    claims = world.services.tokens.read(world.owner.access, ACCESS, None)
    return str(world.services.tokens.sign(dataclasses.replace(claims, **changes)))


def broken_bearers(world: World) -> Dict[str, str]:
    """Bearers of the owner (of everything) that are none, by what is wrong with them."""
    plain = jwt.decode(world.owner.access, options={"verify_signature": False})
    head = world.owner.access.partition(".")[0]
    body, signature = world.owner.access.split(".")[1:]
    secret = world.services.tokens._secret
    revoked = world.make("user").owner.access
    assert world.ask("POST", "/users/logout", headers=world.headers(revoked), json={}).status_code == 200
    leaving = world.make("user")
    headers = world.headers(world.admin.access)
    assert world.ask("DELETE", f"/users/{leaving.names['user_id']}", headers=headers).status_code == 204
    past = datetime(2020, 1, 1, tzinfo=timezone.utc)
    administrator = {**plain, "role": "ADMIN"}
    return {
        "deleted user": leaving.owner.access,
        "revoked session": revoked,
        "expired": resigned(world, issued_at=past, expires_at=past + timedelta(hours=1)),
        "refresh token": world.owner.refresh,
        "another server's": Tokens("the secret of another server, as long as ours").sign(
            Claims(plain["sub"], "ADMIN", plain["sid"], ACCESS, past, past.replace(year=2090), plain["jti"])
        ),
        "another issuer": jwt.encode({**plain, "iss": "other"}, secret, algorithm="HS256"),
        "no issuer": jwt.encode({name: plain[name] for name in plain if name != "iss"}, secret, algorithm="HS256"),
        "alg none": encoded({"alg": "none", "typ": "JWT"}, administrator) + ".",
        "alg None, signed": encoded({"alg": "None", "typ": "JWT"}, plain) + "." + signature,
        "alg HS512": jwt.encode(plain, secret * 2, algorithm="HS512"),
        "key of its choice": jwt.encode(plain, "x" * 32, algorithm="HS256", headers={"kid": "../../../dev/null"}),
        "key in its own header": jwt.encode(
            plain, "y" * 32, algorithm="HS256", headers={"jwk": {"kty": "oct", "k": encoded({})}}
        ),
        "other claims, same signature": f"{head}.{encoded(administrator)}.{signature}",
        "no signature": f"{head}.{body}.",
        "session of another": resigned(world, session_id=_session(world.stranger)),
        "user of another": resigned(world, user_id=_subject(world.stranger)),
        "nonsense": "nonsense",
        "empty": "",
    }


def _session(pair: Any) -> str:
    return str(jwt.decode(pair.access, options={"verify_signature": False})["sid"])


def _subject(pair: Any) -> str:
    return str(jwt.decode(pair.access, options={"verify_signature": False})["sub"])


def asked(world: World, row: Row, thing: Thing, headers: Dict[str, str]) -> int:
    options = SENDS[row.sends](thing)
    path = row.path.format_map(thing.names)
    answer = world.ask(row.verb, path, **{**options, "headers": {**headers, **options.get("headers", {})}})
    if answer.status_code >= 400 and row.verb != "HEAD":
        assert "secret" not in answer.text
    return answer.status_code


def test_g19_every_cell_of_the_permission_table(world: World, backend: str) -> None:
    """Who may, may, and something changed; who may not is told so, and nothing did. Rows mean the same on both
    databases: on the second one the suite asks every third of them, by chance, and a soak all."""
    cells = 0
    third = 1 if backend == "sqlite" or soak.LONG else 3
    start = soak.chance("rows on PostgreSQL").randrange(third)
    for row in ROWS[start::third]:
        thing = world.make(row.thing)
        before = world.state(thing)
        refused = [(who, status) for who, status in zip(CALLERS, row.statuses) if status >= 400 or not row.writes]
        for who, status in refused:
            assert asked(world, row, thing, world.headers(world.bearer(who, thing))) == status, f"{row} as {who}"
            cells += 1
        assert world.state(thing) == before, f"{row}: somebody who may not changed something"
        for who, status in zip(CALLERS, row.statuses):
            if (who, status) not in refused:
                thing = world.make(row.thing)
                bearer = world.bearer(who, thing, apart="logout" in row.path)
                before = world.state(thing)
                assert asked(world, row, thing, world.headers(bearer)) == status, f"{row} as {who}"
                assert world.state(thing) != before, f"{row} as {who}: it changed nothing"
                cells += 1
    assert cells == len(ROWS[start::third]) * len(CALLERS)
    soak.figure("G19", f"{world.services.database.dialect}: {cells} cells of the permission table, 0 differ")


def some(found: Sequence[T], start: int, how_many: int) -> Sequence[T]:
    """``how_many`` of ``found``, others for each ``start``, so that all have their turn; in a soak always all."""
    return found if soak.LONG else [found[(start * how_many + k) % len(found)] for k in range(how_many)]


def test_g19_nothing_without_the_key_nor_with_a_bearer_that_is_none(world: World) -> None:
    """Each row without the key, with a wrong one, and with bearers that are not, or no longer, valid."""
    broken = sorted(broken_bearers(world).items())
    idle = world.make("user")
    off = {"json": {"isActive": False}, "headers": world.headers(world.admin.access)}
    assert world.ask("PATCH", f"/users/{idle.names['user_id']}", **off).status_code == 200
    things = {kind: world.make(kind) for kind in sorted({row.thing for row in ROWS})}
    good = {"Authorization": f"Bearer {world.admin.access}"}
    keys: List[Tuple[Dict[str, str], int]] = [
        ({}, 406),
        (good, 406),
        ({"X-API-Key": "", **good}, 406),
        ({"X-API-Key": "wrong", **good}, 401),
        ({"X-API-Key": world.key + " x", **good}, 401),
        ({"X-API-Key": world.key[:-1], **good}, 401),
        ({"X-API-Key": world.key.swapcase(), **good}, 401),
    ]
    before, cells = world.state(*things.values()), 0
    for number, row in enumerate(ROWS):
        thing = things[row.thing]
        if row.open:
            assert {asked(world, row, thing, {}), asked(world, row, thing, {"X-API-Key": "wrong"})} == {200}
            continue
        for headers, status in some(keys, number, 2):
            assert asked(world, row, thing, headers) == status, f"{row} with {headers}"
            cells += 1
        if row.lenient and row.statuses[0] < 400:
            continue  # a bearer that is none is ignored, and nobody needs one
        expected = row.statuses[0] if row.lenient else 401
        for what, token in some(broken, number, 3):
            headers = {**world.headers(), "Authorization": f"Bearer {token}"}
            assert asked(world, row, thing, headers) == expected, f"{row}: {what}"
            cells += 1
        status = asked(world, row, thing, world.headers(idle.owner.access))
        assert status == (expected if row.lenient else 400), f"{row}: a deactivated user"
    assert world.state(*things.values()) == before, "somebody without key or bearer changed something"
    soak.figure("G19", f"{world.services.database.dialect}: {cells} requests without a valid key or bearer, 0 let in")


def test_g19_every_route_is_in_the_permission_table(world: World) -> None:
    """A new route has no cell yet: say who may use it."""
    described = world.ask("GET", "/openapi.json").json()["paths"]
    routes = {(verb.upper(), path) for path, operations in described.items() for verb in operations}
    known = {(row.verb, row.path) for row in ROWS if not row.open}
    assert routes == known


SEES = """
list                                      anonymous     stranger      owner          admin
/tables/                                  public        public        public,private public,private
/storage/buckets/                         public        public        public,private public,private
/storage/files/?page_size=1000            public        public        public,private public,private
/users/                                   -             stranger      owner          admin,owner,stranger
"""


def test_g19_lists_counts_and_sums_hold_what_the_caller_may_read(world: World) -> None:
    marks: Dict[str, str] = {}
    for kind in ("public", "private"):
        table, bucket = world.make(f"{kind} table"), world.make(f"{kind} bucket")
        marks.update({table.names["table_id"]: kind, bucket.names["bucket_id"]: kind, bucket.names["file_id"]: kind})
    marks.update({_subject(getattr(world, who)): who for who in ("stranger", "owner", "admin")})
    head, *lines = [line.split() for line in SEES.splitlines() if line.strip()]
    for path, *cells in lines:
        for who, cell in zip(head[1:], cells):
            headers = world.headers(world.bearer(who, world.make("nothing")))
            expected = sorted(cell.split(",")) if cell != "-" else []
            answer = world.ask("GET", path, headers=headers)
            if not expected:
                assert answer.status_code == 401
                continue
            found = answer.json()
            listed = found["data"] if isinstance(found, dict) else found
            assert sorted(marks[item["id"]] for item in listed) == expected, f"{path} as {who}"
            if isinstance(found, dict):
                assert found["total"] == len(expected)
                stats = world.ask("GET", "/storage/files/stats", headers=headers).json()
                assert stats == {
                    "total_files": len(expected),
                    "total_size": 6 * len(expected),
                    "total_buckets": len(expected),
                    "buckets_count": len(expected),
                }
            for counted in (path.partition("?")[0] + "count", "/storage/files/total-count"):
                if "total-count" not in counted or "files" in path:
                    count = world.ask("GET", counted, headers=headers).json()
                    assert count == {"count": len(expected)}, f"{counted} as {who}"
