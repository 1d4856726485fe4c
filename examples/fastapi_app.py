"""A FastAPI application: one client of `selfdb.aio` for the program, the visitor's own user in each request. Run it by
``uvicorn --app-dir examples --factory fastapi_app:create_app``, with SELFDB_URL and SELFDB_API_KEY. /login answers
e-mail and password with a token, to be sent as a bearer; /notes/NAME has a table's rows, and /live its changes."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Dict, Optional

from fastapi import Body, Depends, FastAPI, Header, HTTPException, Request
from fastapi.responses import JSONResponse, StreamingResponse

from selfdb.aio import InvalidRequestError, SelfDB, SelfDBError


async def changes(user: SelfDB, name: str) -> AsyncIterator[str]:
    async with user:  # until he goes
        table = await user.tables.get_by_name(name)
        await user.realtime.connect()
        yield ":\n\n"
        async for change in user.realtime.channel(f"table:{name}").follow(user.tables.data.query(table.id)):
            yield f"data: {json.dumps([change.event, change.new or change.old])}\n\n"


async def failed(_: Request, error: Any) -> JSONResponse:
    status = error.status_code or (400 if isinstance(error, InvalidRequestError) else 503)
    return JSONResponse({"error": error.message if status < 500 else "try again later"}, status)


def create_app(client: Optional[SelfDB] = None) -> FastAPI:
    db = client or SelfDB()
    app = FastAPI(exception_handlers={SelfDBError: failed})

    def visitor(authorization: str = Header("")) -> SelfDB:
        if authorization.startswith("Bearer "):
            return db.as_user(authorization[7:])
        raise HTTPException(401, "log in, and send the token as a bearer")

    User = Annotated[SelfDB, Depends(visitor)]

    @app.post("/login")
    async def log_in(email: str = Body(), password: str = Body()) -> str:
        return (await db.as_guest().auth.login(email, password)).access_token

    @app.get("/notes/{name}")
    async def notes(name: str, user: User) -> Dict[str, Any]:
        me, table = await asyncio.gather(user.auth.me(), user.tables.get_by_name(name))
        return {"visitor": me.email, "notes": [note async for note in user.tables.data.query(table.id)]}

    @app.post("/notes/{name}", status_code=201)
    async def add(name: str, user: User, text: str = Body(embed=True)) -> Dict[str, Any]:
        return await user.tables.data.insert((await user.tables.get_by_name(name)).id, {"text": text})

    @app.get("/notes/{name}/live")
    async def live(name: str, user: User) -> StreamingResponse:
        await (stream := changes(user, name)).__anext__()  # raises what keeps him out
        return StreamingResponse(stream, media_type="text/event-stream")

    return app
