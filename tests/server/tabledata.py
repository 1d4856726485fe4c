"""What tests of tables share: tables, columns and rows over raw HTTP."""

from __future__ import annotations

from typing import Any, Dict, List, Optional
from urllib.parse import quote

import requests

from tests.support import Http, unique

NOTES: Dict[str, Any] = {
    "title": {"type": "text", "nullable": False},
    "amount": {"type": "integer", "nullable": True},
}


def new_table(http: Http, schema: Optional[Dict[str, Any]] = None, **fields: Any) -> Dict[str, Any]:
    """A new table; the administrator's (unless ``bearer=`` is given) and private (unless ``public=True``)."""
    bearer = fields.pop("bearer", None) or http.admin
    body = {"name": unique("t"), "table_schema": NOTES if schema is None else schema, **fields}
    answer = http.post("/tables/", json=body, bearer=bearer)
    assert answer.status_code == 201, answer.text
    return answer.json()


def route(table: Dict[str, Any], *rest: str) -> str:
    return "/".join(["/tables", table["id"], *(quote(part, safe="") for part in rest)])


def read(http: Http, table: Dict[str, Any]) -> Dict[str, Any]:
    """The table as it now is."""
    answer = http.get(route(table), bearer=http.admin)
    assert answer.status_code == 200, answer.text
    return answer.json()


def insert(http: Http, table: Dict[str, Any], row: Dict[str, Any]) -> Dict[str, Any]:
    """Insert what must succeed; the row."""
    answer = http.post(route(table, "data"), json=row, bearer=http.admin)
    assert answer.status_code == 201, answer.text
    return answer.json()


def refused(http: Http, table: Dict[str, Any], row: Any, status: int = 400) -> str:
    """Insert what must be refused and leave no row; the reason."""
    before = page(http, table)["total"]
    answer = http.post(route(table, "data"), json=row, bearer=http.admin)
    assert answer.status_code == status, (row, answer.status_code, answer.text)
    assert page(http, table)["total"] == before
    assert read(http, table)["row_count"] == before
    detail = answer.json()["detail"]
    assert isinstance(detail, str)
    return detail


def page(http: Http, table: Dict[str, Any], **query: Any) -> Dict[str, Any]:
    answer = http.get(route(table, "data"), params=query, bearer=http.admin)
    assert answer.status_code == 200, answer.text
    return answer.json()


def rows(http: Http, table: Dict[str, Any], **query: Any) -> List[Dict[str, Any]]:
    return list(page(http, table, **query)["data"])


def column(http: Http, table: Dict[str, Any], name: str, changes: Dict[str, Any]) -> requests.Response:
    return http.patch(route(table, "columns", name), json=changes, bearer=http.admin)


def changed(http: Http, table: Dict[str, Any], name: str, changes: Dict[str, Any]) -> Dict[str, Any]:
    """Change a column, which must succeed; the table."""
    answer = column(http, table, name, changes)
    assert answer.status_code == 200, answer.text
    return answer.json()
