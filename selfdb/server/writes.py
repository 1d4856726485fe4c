"""The one door through which handlers change things: a transaction, its permission, its kept answer."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Annotated, Any, Callable, ContextManager, Dict, Optional

from fastapi import Depends, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from pydantic_core import to_json
from sqlalchemy.engine import Connection

from . import idempotency
from .access import Principal, confirm, known_caller
from .bodies import read_body
from .errors import ApiError
from .services import Services, ServicesDep

__all__ = ["Effect", "Permit", "Reply", "Write", "WriteUnit", "rendered", "write_unit"]


@dataclass(frozen=True)
class Reply:
    """What a write answers: a status and a JSON value or model; ``None`` sends no body."""

    status: int
    body: Any = None


Effect = Callable[[Connection], Reply]
Permit = Callable[[Connection], None]


class WriteUnit:
    """Runs the write of one request."""

    def __init__(
        self,
        services: Services,
        caller: Optional[Principal],
        keyed: Optional[idempotency.Keyed] = None,
        key: Optional[str] = None,
    ) -> None:
        self._services = services
        self._caller = caller
        self._keyed = keyed
        self._echo: Dict[str, str] = {} if key is None else {idempotency.HEADER: key}

    @property
    def keyed(self) -> bool:
        """Whether an answer that was kept may be given again; if not, an effect may check its own permission."""
        return self._keyed is not None

    def run(self, effect: Effect, permit: Optional[Permit] = None) -> Response:
        """Do ``effect`` in one write transaction and answer what it returns.

        ``permit`` runs first, also before a kept answer is given again; it raises for a caller who may not,
        and returns if the thing in question is gone. Both may be run again (see
        :meth:`selfdb.server.database.Database.transact`), so they do nothing outside ``connection``; what
        must follow the commit is given to :func:`selfdb.server.database.after_commit`.

        :raises ApiError: from either, or 409 while a twin with the same Idempotency-Key is under way.
        """
        alone: ContextManager[None] = contextlib.nullcontext()
        if self._keyed is not None:
            alone = self._services.in_flight.only(self._keyed.scope)
        try:
            with alone:
                return self._run(effect, permit)
        except ApiError as refusal:
            refusal.headers.update(self._echo)
            raise
        except RequestValidationError as refusal:
            refusal.headers = self._echo  # type: ignore[attr-defined]
            raise

    def _run(self, effect: Effect, permit: Optional[Permit]) -> Response:
        replayed = False

        def work(connection: Connection) -> idempotency.StoredReply:
            nonlocal replayed
            if self._caller is not None:
                confirm(connection, self._caller)
            if permit is not None:
                permit(connection)
            if self._keyed is not None:
                kept = idempotency.find(self._services, connection, self._keyed)
                if kept is not None:
                    replayed = True
                    return kept
            reply = effect(connection)
            made = idempotency.StoredReply(reply.status, None if reply.body is None else rendered(reply.body).decode())
            if self._keyed is not None:
                idempotency.keep(self._services, connection, self._keyed, made)
            return made

        answer = self._services.database.transact(work)
        headers = {**self._echo, **({"Idempotency-Replayed": "true"} if replayed else {})}
        if answer.body is None:
            return Response(status_code=answer.status, headers=headers)
        return Response(answer.body, status_code=answer.status, headers=headers, media_type="application/json")


def rendered(body: Any) -> bytes:
    """The JSON text of a value or model, as every answer spells it."""
    if isinstance(body, BaseModel):
        body = body.model_dump(mode="json", by_alias=True)
    return to_json(body)


async def write_unit(
    request: Request,
    services: ServicesDep,
    key: Annotated[
        Optional[str],
        Header(
            alias=idempotency.HEADER,
            min_length=1,
            max_length=idempotency.LONGEST,
            pattern="^[ -~]*$",
            description="Repeating a write with the key of an earlier one is answered without doing it again.",
        ),
    ] = None,
) -> WriteUnit:
    """The dependency behind ``Write``."""
    caller = known_caller(request)
    if key is None:
        return WriteUnit(services, caller)
    owner = "" if caller is None else caller.user_id
    # Also where the handler has no use for a body: it is part of what the key was used for.
    body = await read_body(request)
    keyed = idempotency.identify(services, owner, request.method, request.url.path, request.url.query, body, key)
    return WriteUnit(services, caller, keyed, key)


#: ``write: Write`` in a handler; then ``return write.run(effect, permit)``.
Write = Annotated[WriteUnit, Depends(write_unit)]
