"""The one door through which handlers change things: a transaction, its permission, its kept answer."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import Annotated, Any, Callable, ContextManager, Dict, Optional

from fastapi import Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError

from . import idempotency
from .access import known_caller
from .errors import ApiError
from .services import Services, ServicesDep

__all__ = ["Effect", "Permit", "Reply", "Write", "WriteUnit"]

#: PostgreSQL's "serialization failure" and "deadlock detected": the transaction may simply be done again.
_AGAIN = {"40001", "40P01"}
_TRIES = 5


@dataclass(frozen=True)
class Reply:
    """What a write answers: a status and a JSON value or model; ``None`` sends no body."""

    status: int
    body: Any = None


Effect = Callable[[Connection], Reply]
Permit = Callable[[Connection], None]


class WriteUnit:
    """Runs the write of one request."""

    def __init__(self, services: Services, keyed: Optional[idempotency.Keyed], key: Optional[str]) -> None:
        self._services = services
        self._keyed = keyed
        self._echo: Dict[str, str] = {} if key is None else {idempotency.HEADER: key}

    @property
    def keyed(self) -> bool:
        """Whether an answer that was kept may be given again; if not, an effect may check its own permission."""
        return self._keyed is not None

    def run(self, effect: Effect, permit: Optional[Permit] = None) -> Response:
        """Do ``effect`` in one write transaction and answer what it returns.

        ``permit`` runs first, also before a kept answer is given again; it raises for a caller who may not,
        and returns if the thing in question is gone. Both may be run again after PostgreSQL gave up one of
        two transactions that stood in each other's way, so they do nothing outside ``connection``; see
        :func:`selfdb.server.database.after_commit` for what must follow.

        :raises ApiError: from either, or 409 while a twin with the same Idempotency-Key is under way.
        """
        alone: ContextManager[None] = contextlib.nullcontext()
        if self._keyed is not None:
            alone = self._services.in_flight.only(self._keyed.scope)
        try:
            with alone:
                return self._until_done(effect, permit)
        except ApiError as refusal:
            refusal.headers.update(self._echo)
            raise
        except RequestValidationError as refusal:
            refusal.headers = self._echo  # type: ignore[attr-defined]
            raise

    def _until_done(self, effect: Effect, permit: Optional[Permit]) -> Response:
        for _ in range(_TRIES - 1):
            try:
                return self._once(effect, permit)
            except OperationalError as problem:
                if getattr(problem.orig, "sqlstate", None) not in _AGAIN:
                    raise
        return self._once(effect, permit)

    def _once(self, effect: Effect, permit: Optional[Permit]) -> Response:
        headers = dict(self._echo)
        with self._services.database.write() as connection:
            if permit is not None:
                permit(connection)
            kept = None
            if self._keyed is not None:
                kept = idempotency.find(self._services, connection, self._keyed)
            if kept is None:
                reply = effect(connection)
                kept = idempotency.StoredReply(reply.status, _rendered(reply.body))
                if self._keyed is not None:
                    idempotency.keep(self._services, connection, self._keyed, kept)
            else:
                headers["Idempotency-Replayed"] = "true"
        if kept.body is None:
            return Response(status_code=kept.status, headers=headers)
        return Response(kept.body, status_code=kept.status, headers=headers, media_type="application/json")


def _rendered(body: Any) -> Optional[str]:
    if body is None:
        return None
    if isinstance(body, BaseModel):
        body = body.model_dump(mode="json", by_alias=True)
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


async def _write(request: Request, services: ServicesDep) -> WriteUnit:
    key = request.headers.get(idempotency.HEADER)
    if key is None:
        return WriteUnit(services, None, None)
    idempotency.check_key(key)
    caller = known_caller(request)
    owner = "" if caller is None else caller.user_id
    keyed = idempotency.identify(
        services, owner, request.method, request.url.path, request.url.query, await request.body(), key
    )
    return WriteUnit(services, keyed, key)


#: ``write: Write`` in a handler; then ``return write.run(effect, permit)``.
Write = Annotated[WriteUnit, Depends(_write)]
