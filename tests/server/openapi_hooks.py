"""Schemathesis hooks: half of the generated requests address things that exist, so that more than 404 is seen.

Loaded by the `schemathesis` command through SCHEMATHESIS_HOOKS. SELFDB_FUZZ_URL, SELFDB_FUZZ_KEY and
SELFDB_FUZZ_TOKEN say which server and which administrator make those things. What a request deletes is made
for that request, so that the others keep theirs.
"""

from __future__ import annotations

import functools
import os
import random
import uuid
from typing import Any, Dict

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


def maker_of(parameters: Any) -> Any:
    if "table_id" in parameters:
        return new_table
    return new_user if "user_id" in parameters else new_bucket


@schemathesis.hook
def map_case(context: Any, case: Any) -> Any:
    """Put real ids and, for inserts, rows that fit in half of the cases."""
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
