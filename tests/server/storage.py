"""What tests of storage share: buckets, uploads and downloads over raw HTTP."""

from __future__ import annotations

from typing import Any, Dict, Optional
from urllib.parse import quote

import requests

from tests.support import Http, unique


def new_bucket(http: Http, bearer: Optional[str] = None, **fields: Any) -> Dict[str, Any]:
    """A new bucket of the administrator's, or of ``bearer``'s; public unless told otherwise."""
    body = {"name": unique("b"), "public": True, **fields}
    answer = http.post("/storage/buckets/", json=body, bearer=bearer or http.admin)
    assert answer.status_code == 201, answer.text
    return answer.json()


def upload(
    http: Http,
    bucket: Dict[str, Any],
    filename: str,
    data: Any,
    *,
    path: Optional[str] = None,
    mime: Optional[str] = "application/octet-stream",
    bearer: Optional[str] = None,
    **options: Any,
) -> requests.Response:
    query = {"filename": filename}
    if path is not None:
        query["path"] = path
    headers = {} if mime is None else {"Content-Type": mime}
    route = f"/storage/buckets/{bucket['id']}/files"
    return http.post(route, params=query, data=data, headers=headers, bearer=bearer, **options)


def stored(http: Http, bucket: Dict[str, Any], filename: str, data: Any, **options: Any) -> Dict[str, Any]:
    """Upload what must succeed; the reply's JSON."""
    answer = upload(http, bucket, filename, data, **options)
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


def download(http: Http, bucket: Dict[str, Any], path: str, **options: Any) -> requests.Response:
    return http.get(f"/storage/files/download/{bucket['name']}/{quote(path)}", **options)


def listed(http: Http, bucket: Dict[str, Any], **options: Any) -> Dict[str, Any]:
    """The page of a bucket's files."""
    options.setdefault("bearer", http.admin)
    params = {"bucket_id": bucket["id"], **options.pop("params", {})}
    answer = http.get("/storage/files/", params=params, **options)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refreshed(http: Http, bucket: Dict[str, Any]) -> Dict[str, Any]:
    answer = http.get(f"/storage/buckets/{bucket['id']}", bearer=http.admin)
    assert answer.status_code == 200, answer.text
    return answer.json()
