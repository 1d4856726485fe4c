"""Schemathesis hooks: half of the generated requests address things that exist, so that more than 404 is seen.

Loaded by the `schemathesis` command through SCHEMATHESIS_HOOKS. SELFDB_FUZZ_URL, SELFDB_FUZZ_KEY and
SELFDB_FUZZ_TOKEN say which server and which user make those things. What a request deletes is made for that
request, so that the others keep theirs. Every answer becomes a line of the file SELFDB_FUZZ_LOG.
"""

from __future__ import annotations

import functools
import json
import os
import random
import re
import uuid
from typing import Any, Dict, List

import requests
import schemathesis

RANDOM = random.Random(20250102)
COLUMNS: Dict[str, Any] = {
    "title": {"type": "text", "nullable": True},
    "amount": {"type": "integer", "nullable": True, "default": 0},
    "done": {"type": "boolean", "nullable": True},
    "at": {"type": "timestamp", "nullable": True},
    "extra": {"type": "jsonb", "nullable": True},
}
COLUMN_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]{0,62}\\Z")
ROWS = [{"title": "a"}, {"title": None, "amount": "5"}, {"done": True, "extra": [1, {"a": None}]}]


def create(path: str, **options: Any) -> Any:
    with requests.Session() as session:
        session.trust_env = False
        answer = session.post(
            os.environ["SELFDB_FUZZ_URL"] + path,
            headers={
                "X-API-Key": os.environ["SELFDB_FUZZ_KEY"],
                "Authorization": f"Bearer {os.environ['SELFDB_FUZZ_TOKEN']}",
            },
            timeout=30,
            **options,
        )
    assert answer.status_code == 201, f"{path}: {answer.status_code} {answer.text}"
    return answer.json()


def name() -> str:
    return f"f{uuid.uuid4().hex[:12]}"


def new_user() -> Dict[str, str]:
    body = {"email": f"{name()}@example.com", "password": "password123", "firstName": "A", "lastName": "B"}
    return {"user_id": create("/users/", json=body)["id"]}


def new_table() -> Dict[str, str]:
    table = create("/tables/", json={"name": name(), "table_schema": COLUMNS, "public": True})
    for row in ROWS:
        made = create(f"/tables/{table['id']}/data", json=row)
    return {"table_id": table["id"], "row_id": made["id"], "column_name": "title"}


def new_bucket() -> Dict[str, str]:
    bucket = create("/storage/buckets/", json={"name": name(), "public": True})
    path = f"/storage/buckets/{bucket['id']}/files"
    file = create(path, params={"filename": "a.txt"}, data=b"0123456789")
    return {"bucket_id": bucket["id"], "bucket_name": bucket["name"], "file_id": file["file_id"], "path": "a.txt"}


def new_things() -> Dict[str, str]:
    return {**new_user(), **new_table(), **new_bucket()}


@functools.cache
def shared(purpose: str) -> Dict[str, str]:
    """Things that live as long as the run; a ``purpose`` has its own, so that no other changes them."""
    return new_things()


def is_positive(case: Any) -> bool:
    return case.meta is not None and case.meta.generation.mode.is_positive


def put_right(body: Dict[str, Any]) -> None:
    """What a generator cannot read from a document, or a document cannot say."""
    if isinstance(body.get("email"), str):
        # Regular expressions that look ahead are too much for generators; so only the whole address has a bound.
        local, _, domain = body["email"].rpartition("@")
        body["email"] = f"{local[:64].rstrip('.')}@{domain}"
    if isinstance(body.get("table_schema"), dict):
        named = {name: column for name, column in body["table_schema"].items() if COLUMN_NAME.match(name)}
        # Names must differ in more than case.
        for column in named.values():
            # Hardly ever a value of the column's type.
            if isinstance(column, dict) and RANDOM.random() < 0.8:
                column.pop("default", None)
        body["table_schema"] = {name.lower(): column for name, column in named.items()} or {"c": {"type": "text"}}


def is_key(value: Any) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= 255 and all(" " <= character <= "~" for character in value)


def maker_of(parameters: Any) -> Any:
    if "table_id" in parameters:
        return new_table
    return new_user if "user_id" in parameters else new_bucket


@schemathesis.hook
def before_load_schema(context: Any, schema: Dict[str, Any]) -> None:
    """Leave the API key out: what lacks it is 406, which is tested elsewhere; here the bearer is in question."""
    for operations in schema["paths"].values():
        for operation in operations.values():
            for way in operation.get("security", ()):
                way.pop("ApiKey", None)
    components = schema.get("components", {})
    components.get("securitySchemes", {}).pop("ApiKey", None)
    table = components.get("schemas", {}).get("TableCreate")
    if table is not None:
        # The generator knows no propertyNames; what it makes of the other spelling is put right in `map_case`.
        columns = table["properties"]["table_schema"]
        columns["patternProperties"] = {columns.pop("propertyNames")["pattern"]: columns.pop("additionalProperties")}


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    path, made = os.environ.get("SELFDB_FUZZ_LOG"), told_id(response)
    if made is not None and case.path in MAKERS:
        note(case, made)
    if path:
        line = [case.method.upper(), case.path, dict(case.path_parameters or {}), response.status_code]
        with open(path, "a", encoding="utf-8") as log:
            log.write(json.dumps([*line, made], default=repr) + "\n")


def told_id(response: Any) -> Any:
    """The id of what was made."""
    if response.status_code != 201:
        return None
    made = json.loads(response.content)
    return made.get("id", made.get("file_id"))


MADE: Dict[str, List[Dict[str, str]]] = {}
MAKERS = {
    "/users/": "user_id",
    "/tables/": "table_id",
    "/tables/{table_id}/data": "row_id",
    "/storage/buckets/": "bucket_id",
    "/storage/buckets/{bucket_id}/files": "file_id",
    "/storage/files/upload": "file_id",
}


def note(case: Any, made_id: str) -> None:
    """Remember what the run made, with the place in which it is."""
    kind = MAKERS[case.path]
    around = {name: str(value) for name, value in (case.path_parameters or {}).items()}
    MADE.setdefault(kind, []).append({**around, kind: made_id})


def chained(case: Any) -> Any:
    """Most requests of a chain are about what an earlier one made, whether or not it was deleted since."""
    parameters = case.path_parameters
    if isinstance(parameters, dict) and RANDOM.random() < 0.7:
        for kind in ("row_id", "file_id", "table_id", "bucket_id", "user_id"):
            if parameters.get(kind) in {made[kind] for made in MADE.get(kind, ())}:
                break  # a link put it there, and what it leads to is being watched
            if kind in parameters and kind in MADE:
                thing = RANDOM.choice(MADE[kind][-4:])
                parameters.update({name: value for name, value in thing.items() if name in parameters})
                break
    return case


@schemathesis.hook
def map_case(context: Any, case: Any) -> Any:
    """Put real ids and, for inserts, rows that fit in half of the cases; give each keyed write a key of its own."""
    if case.headers and "Idempotency-Key" in case.headers and is_key(case.headers["Idempotency-Key"]):
        case.headers["Idempotency-Key"] = uuid.uuid4().hex
    if isinstance(case.body, dict) and is_positive(case):
        put_right(case.body)
    if case.meta is not None and case.meta.phase.name.value == "stateful":
        return chained(case)
    parameters = case.path_parameters
    if not isinstance(parameters, dict) or not parameters or RANDOM.random() < 0.5:
        return case
    method = case.method.upper()
    things = maker_of(parameters)() if method == "DELETE" else shared(case.operation.label)
    for key in parameters:
        if key in things:
            parameters[key] = things[key]
    if method in ("POST", "PATCH") and "/data" in case.path:
        case.body = dict(RANDOM.choice(ROWS))
    return case
