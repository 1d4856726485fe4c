"""Buckets and objects, kept in memory."""

from __future__ import annotations

from typing import Any, Dict, Tuple
from urllib.parse import unquote

from tests.servers.aerodb.auth import refusal
from tests.servers.replies import Reply, Request

PREFIX = "/storage/v1"


class FakeStorage:
    """The routes below ``/storage/v1``.

    :ivar objects: content and media type, by bucket and path.
    :ivar wrapped: whether a list comes as ``{"files": ...}``.
    """

    def __init__(self) -> None:
        self.objects: Dict[str, Dict[str, Tuple[bytes, str]]] = {"photos": {}}
        self.wrapped = False

    def answer(self, request: Request) -> Reply:
        """What a request below ``/storage/v1`` is answered."""
        rest = request.path[len(PREFIX) :]
        if rest == "/bucket":
            return self._bucket(request)
        kind, bucket, path = self._place(rest)
        if bucket not in self.objects:
            return refusal(404, "unknown bucket")
        if kind == "list":
            return self._list(request, bucket)
        if request.method == "DELETE":
            for name in request.json["prefixes"]:
                self.objects[bucket].pop(name, None)
            return 204, {}, b""
        if kind == "sign":
            return 200, {}, {"signedURL": f"/storage/v1/object/sign/{bucket}/{path}?token=t"}
        if request.method == "GET":
            found = self.objects[bucket].get(path)
            return refusal(404, "unknown object") if found is None else (200, {"Content-Type": found[1]}, found[0])
        return self._put(request, bucket, path)

    @staticmethod
    def _place(rest: str) -> Tuple[str, str, str]:
        parts = rest[len("/object/") :].split("/")
        kind = parts.pop(0) if parts[0] in ("list", "sign", "public") else "object"
        return kind, unquote(parts[0]), unquote("/".join(parts[1:]))

    def _bucket(self, request: Request) -> Reply:
        if request.method == "GET":
            return 200, {}, [{"name": name} for name in self.objects]
        self.objects[request.json["name"]] = {}
        return 201, {}, request.json

    def _list(self, request: Request, bucket: str) -> Reply:
        asked: Dict[str, Any] = dict(request.query)
        names = sorted(name for name in self.objects[bucket] if name.startswith(asked.get("prefix", "")))
        begin = int(asked["offset"])
        files = [
            {"id": f"id-{name}", "name": name, "size": len(self.objects[bucket][name][0]), "created_at": "2026-01-01"}
            for name in names[begin : begin + int(asked["limit"])]
        ]
        return 200, {}, {"files": files, "total": len(names)} if self.wrapped else files

    def _put(self, request: Request, bucket: str, path: str) -> Reply:
        if path in self.objects[bucket] and request.header("x-upsert") != "true":
            return refusal(409, "it exists")
        self.objects[bucket][path] = request.body, request.header("Content-Type") or ""
        return 200, {}, {"id": f"id-{path}", "created_at": "2026-01-01", "updated_at": "2026-01-02"}
