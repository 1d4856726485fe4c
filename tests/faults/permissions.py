"""Who may do what: the permission table of the server as data, and the things that its rows are about.

Each row is a request; its cells are the status that each kind of caller gets. ``tests/faults/test_permissions.py``
makes every cell's request and looks into the database afterwards.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import requests
import sqlalchemy as sa

from selfdb.server import schema
from tests.support import Http, Pair, unique

#: ``stranger`` is another user; ``owner`` owns the thing (a user owns himself). All send the API key.
CALLERS = ("anonymous", "stranger", "owner", "admin")

#: Columns are apart by two blanks or more. ``sends`` names an entry of SENDS. A ``~`` before the verb: a bearer that
#: is not valid is ignored there; a ``!``: not even the API key is needed.
TABLE = """
verb    path                                          thing            sends          anonymous  stranger  owner  admin

~GET    /system/status                                nothing          -              200        200       200    200
!GET    /openapi.json                                 nothing          -              200        200       200    200
!GET    /docs                                         nothing          -              200        200       200    200

~POST   /users/token                                  user             login          200        200       200    200
~POST   /users/token                                  user             wrong login    401        401       401    401
~POST   /users/token/refresh                          user             refresh token  200        200       200    200
~POST   /users/token/refresh                          user             access token   401        401       401    401
~POST   /users/logout                                 user             refresh token  200        401       200    401
~POST   /users/logout                                 user             access token   401        401       401    401
POST    /users/logout                                 user             empty          401        200       200    200
POST    /users/logout/all                             user             -              401        200       200    200
~POST   /users/                                       nothing          new user       201        201       201    201
~POST   /users/                                       nothing          new admin      403        403       403    201
GET     /users/me                                     user             -              401        200       200    200
GET     /users/count                                  user             -              401        200       200    200
GET     /users/                                       user             -              401        200       200    200
GET     /users/{user_id}                              user             -              401        403       200    200
PATCH   /users/{user_id}                              user             new name       401        403       200    200
PATCH   /users/{user_id}                              user             new email      401        403       200    200
PATCH   /users/{user_id}                              user             new password   401        403       200    200
PATCH   /users/{user_id}                              user             role           401        403       403    200
PATCH   /users/{user_id}                              user             inactive       401        403       403    200
DELETE  /users/{user_id}                              user             -              401        403       204    204

POST    /tables/                                      nothing          new table      401        201       201    201
GET     /tables/                                      private table    -              200        200       200    200
GET     /tables/count                                 private table    -              200        200       200    200
GET     /tables/{table_id}                            public table     -              200        200       200    200
GET     /tables/{table_id}                            private table    -              401        403       200    200
PATCH   /tables/{table_id}                            public table     make private   401        403       200    200
PATCH   /tables/{table_id}                            private table    make public    401        403       200    200
DELETE  /tables/{table_id}                            public table     -              401        403       204    204
DELETE  /tables/{table_id}                            private table    -              401        403       204    204
POST    /tables/{table_id}/columns                    public table     new column     401        403       200    200
POST    /tables/{table_id}/columns                    private table    new column     401        403       200    200
PATCH   /tables/{table_id}/columns/{name}             public table     rename         401        403       200    200
PATCH   /tables/{table_id}/columns/{name}             private table    rename         401        403       200    200
DELETE  /tables/{table_id}/columns/{name}             public table     -              401        403       200    200
DELETE  /tables/{table_id}/columns/{name}             private table    -              401        403       200    200

GET     /tables/{table_id}/data                       public table     -              200        200       200    200
GET     /tables/{table_id}/data                       private table    -              401        403       200    200
POST    /tables/{table_id}/data                       public table     row            201        201       201    201
POST    /tables/{table_id}/data                       private table    row            401        403       201    201
PATCH   /tables/{table_id}/data/{row_id}              public table     row            401        403       200    200
PATCH   /tables/{table_id}/data/{row_id}              private table    row            401        403       200    200
DELETE  /tables/{table_id}/data/{row_id}              public table     -              401        403       204    204
DELETE  /tables/{table_id}/data/{row_id}              private table    -              401        403       204    204

POST    /storage/buckets/                             nothing          new bucket     401        201       201    201
GET     /storage/buckets/                             private bucket   -              200        200       200    200
GET     /storage/buckets/count                        private bucket   -              200        200       200    200
GET     /storage/buckets/{bucket_id}                  public bucket    -              200        200       200    200
GET     /storage/buckets/{bucket_id}                  private bucket   -              401        403       200    200
PATCH   /storage/buckets/{bucket_id}                  public bucket    make private   401        403       200    200
PATCH   /storage/buckets/{bucket_id}                  private bucket   make public    401        403       200    200
DELETE  /storage/buckets/{bucket_id}                  public bucket    -              401        403       204    204
DELETE  /storage/buckets/{bucket_id}                  private bucket   -              401        403       204    204

POST    /storage/buckets/{bucket_id}/files            public bucket    new file       201        201       201    201
POST    /storage/buckets/{bucket_id}/files            private bucket   new file       401        403       201    201
POST    /storage/buckets/{bucket_id}/files            public bucket    same file      403        403       200    200
POST    /storage/buckets/{bucket_id}/files            stranger's file  same file      403        200       200    200
POST    /storage/buckets/{bucket_id}/files            nobody's file    same file      403        403       200    200
POST    /storage/files/upload                         public bucket    new upload     201        201       201    201
POST    /storage/files/upload                         private bucket   new upload     401        403       201    201
GET     /storage/files/stats                          private bucket   -              200        200       200    200
GET     /storage/files/total-count                    private bucket   -              200        200       200    200
GET     /storage/files/count                          public bucket    that bucket    200        200       200    200
GET     /storage/files/count                          private bucket   that bucket    401        403       200    200
GET     /storage/files/                               public bucket    that bucket    200        200       200    200
GET     /storage/files/                               private bucket   that bucket    401        403       200    200
GET     /storage/files/{file_id}                      public bucket    -              200        200       200    200
GET     /storage/files/{file_id}                      private bucket   -              401        403       200    200
PATCH   /storage/files/{file_id}                      public bucket    metadata       401        403       200    200
PATCH   /storage/files/{file_id}                      private bucket   metadata       401        403       200    200
PATCH   /storage/files/{file_id}                      stranger's file  metadata       401        200       200    200
PATCH   /storage/files/{file_id}                      nobody's file    metadata       401        403       200    200
DELETE  /storage/files/{file_id}                      public bucket    -              401        403       204    204
DELETE  /storage/files/{file_id}                      private bucket   -              401        403       204    204
DELETE  /storage/files/{file_id}                      stranger's file  -              401        204       204    204
DELETE  /storage/files/{file_id}                      nobody's file    -              401        403       204    204
GET     /storage/files/download/{bucket_name}/{path}  public bucket    -              200        200       200    200
GET     /storage/files/download/{bucket_name}/{path}  private bucket   -              401        403       200    200
GET     /storage/files/download/{bucket_name}/{path}  private bucket   two bytes      401        403       206    206
HEAD    /storage/files/download/{bucket_name}/{path}  public bucket    -              200        200       200    200
HEAD    /storage/files/download/{bucket_name}/{path}  private bucket   -              401        403       200    200
"""


class Row(NamedTuple):
    """One request, and what each of CALLERS is answered."""

    verb: str
    path: str
    thing: str
    sends: str
    statuses: Tuple[int, ...]
    lenient: bool
    open: bool

    @property
    def writes(self) -> bool:
        return self.verb not in ("GET", "HEAD")

    def __str__(self) -> str:
        return f"{self.verb} {self.path} of {self.thing}, sending {self.sends}"


def rows() -> List[Row]:
    head, *lines = [re.split(r" {2,}", line.strip()) for line in TABLE.splitlines() if line.strip()]
    assert tuple(head[4:]) == CALLERS
    found = []
    for verb, path, thing, sends, *statuses in lines:
        lenient, bare = verb.startswith("~"), verb.startswith("!")
        found.append(Row(verb.lstrip("~!"), path, thing, sends, tuple(map(int, statuses)), lenient, bare))
    return found


@dataclass
class Thing:
    """What a row is about: what its path is filled with, and who owns it."""

    names: Dict[str, str]
    owner: Pair
    email: str = ""


def _login(thing: Thing, password: str) -> Dict[str, Any]:
    return {"json": {"email": thing.email, "password": password}}


SENDS: Dict[str, Callable[[Thing], Dict[str, Any]]] = {
    "-": lambda thing: {},
    "empty": lambda thing: {"json": {}},
    "login": lambda thing: _login(thing, "password123"),
    "wrong login": lambda thing: _login(thing, "password124"),
    "refresh token": lambda thing: {"json": {"refresh_token": thing.owner.refresh}},
    "access token": lambda thing: {"json": {"refresh_token": thing.owner.access}},
    "new user": lambda thing: {"json": new_user()},
    "new admin": lambda thing: {"json": {**new_user(), "role": "ADMIN"}},
    "new name": lambda thing: {"json": {"firstName": unique("N")}},
    "new email": lambda thing: {"json": {"email": f"{unique()}@example.com"}},
    "new password": lambda thing: {"json": {"password": unique("password")}},
    "role": lambda thing: {"json": {"role": "ADMIN"}},
    "inactive": lambda thing: {"json": {"isActive": False}},
    "new table": lambda thing: {"json": {"name": unique(), "table_schema": {"a": {"type": "text"}}}},
    "new bucket": lambda thing: {"json": {"name": unique()}},
    "make private": lambda thing: {"json": {"public": False}},
    "make public": lambda thing: {"json": {"public": True}},
    "new column": lambda thing: {"json": {"name": unique(), "type": "text"}},
    "rename": lambda thing: {"json": {"new_name": unique()}},
    "row": lambda thing: {"json": {"a": unique()}},
    "new file": lambda thing: {"params": {"filename": unique()}, "data": b"new"},
    "same file": lambda thing: {"params": {"filename": thing.names["path"]}, "data": b"overwritten"},
    "new upload": lambda thing: {
        "params": {"bucket_id": thing.names["bucket_id"], "filename": unique()},
        "data": b"new",
    },
    "that bucket": lambda thing: {"params": {"bucket_id": thing.names["bucket_id"]}},
    "metadata": lambda thing: {"json": {"metadata": {"a": unique()}}},
    "two bytes": lambda thing: {"headers": {"Range": "bytes=1-2"}},
}


def new_user() -> Dict[str, Any]:
    return {"email": f"{unique('u')}@example.com", "password": "password123", "firstName": "A", "lastName": "B"}


class World:
    """A server, three users, and a maker of things of each kind. Requests go over one kept connection."""

    def __init__(self, server: Any) -> None:
        self.url: str = server.url
        self.key: str = server.api_key
        self.services = server._running().services
        self.session = requests.Session()
        self.session.trust_env = False
        self.admin = Http(server).login()
        self.stranger, self.owner = self._user().owner, self._user().owner
        self._nothing = Thing({}, self.owner)

    def close(self) -> None:
        self.session.close()

    def ask(self, verb: str, path: str, **options: Any) -> requests.Response:
        """A request as it is: without key and bearer, unless ``headers`` say so."""
        return self.session.request(verb, self.url + path, timeout=30, allow_redirects=False, **options)

    def headers(self, bearer: str = "") -> Dict[str, str]:
        return {"X-API-Key": self.key, **({"Authorization": f"Bearer {bearer}"} if bearer else {})}

    def bearer(self, who: str, thing: Thing, *, apart: bool = False) -> str:
        """The access token of one of CALLERS; ``apart`` means one of a user made for it."""
        if who == "anonymous":
            return ""
        if who == "owner":
            return thing.owner.access
        if not apart:
            return {"stranger": self.stranger, "admin": self.admin}[who].access
        return self._user(role=who.replace("stranger", "user").upper()).owner.access

    def make(self, kind: str) -> Thing:
        """A new thing, with all that the paths about it need."""
        if kind == "nothing":
            return self._nothing
        if kind == "user":
            return self._user()
        public = not kind.startswith("private")
        return self._table(public) if kind.endswith("table") else self._bucket(public, kind)

    def _made(self, path: str, bearer: str, **options: Any) -> Dict[str, Any]:
        answer = self.ask("POST", path, headers=self.headers(bearer), **options)
        assert answer.status_code in (200, 201), answer.text
        body: Dict[str, Any] = answer.json()
        return body

    def _user(self, role: str = "USER") -> Thing:
        body = {**new_user(), "role": role}
        user_id = self._made("/users/", self.admin.access, json=body)["id"]
        login = {"email": body["email"], "password": body["password"]}
        pair = self._made("/users/token", "", json=login)
        return Thing({"user_id": user_id}, Pair(pair["access_token"], pair["refresh_token"]), body["email"])

    def _table(self, public: bool) -> Thing:
        body = {"name": unique("t"), "table_schema": {"a": {"type": "text"}, "b": {"type": "text"}}, "public": public}
        table = self._made("/tables/", self.owner.access, json=body)
        row = self._made(f"/tables/{table['id']}/data", self.owner.access, json={"a": "secret"})
        names = {"table_id": table["id"], "name": "b", "row_id": row["id"], "table_name": body["name"]}
        return Thing({name: str(value) for name, value in names.items()}, self.owner)

    def _bucket(self, public: bool, kind: str) -> Thing:
        bucket = self._made("/storage/buckets/", self.owner.access, json={"name": unique("b"), "public": public})
        by = {"stranger's file": self.stranger.access, "nobody's file": ""}.get(kind, self.owner.access)
        path = f"/storage/buckets/{bucket['id']}/files"
        file = self._made(path, by, params={"filename": "a.txt"}, data=b"secret")
        names = {"bucket_id": bucket["id"], "bucket_name": bucket["name"], "file_id": file["file_id"], "path": "a.txt"}
        return Thing(names, self.owner)

    def state(self, *things: Thing) -> Dict[str, Any]:
        """What the server keeps: catalogue, sessions, contents of files, rows of the tables among ``things``."""
        found: Dict[str, Any] = {}
        # `used_at` is left out: that an access token was seen is no change that anybody asked for.
        issued = sa.select(schema.refresh_tokens.c.id, schema.refresh_tokens.c.rotated_at)
        kept = (schema.users, schema.sessions, schema.tables, schema.buckets, schema.files, schema.events)
        with self.services.database.read() as connection:
            for query in (issued, *map(sa.select, kept)):
                found[str(query)] = sorted(map(tuple, connection.execute(query)), key=lambda row: str(row[0]))
            tables = sa.inspect(connection).get_table_names(schema=self._namespace)
            found["tables"] = sorted(tables)
            for name in (
                f"t_{thing.names['table_id'].replace('-', '')}" for thing in things if "table_id" in thing.names
            ):
                if name in tables:
                    rows = sa.select(sa.text("*")).select_from(sa.table(name, schema=self._namespace))
                    found[name] = sorted(map(repr, connection.execute(rows)))
        objects: Path = self.services.settings.data / "objects"
        found["objects"] = sorted((path.name, path.stat().st_size) for path in objects.rglob("*") if path.is_file())
        return found

    @property
    def _namespace(self) -> Optional[str]:
        return schema.DATA_SCHEMA if self.services.database.dialect == "postgresql" else None
