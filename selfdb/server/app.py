"""The application: the routes, the gate around them, and what they share."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import Any, AsyncIterator, Dict, Optional

from fastapi import FastAPI
from starlette.routing import WebSocketRoute

from .._version import __version__
from .clock import Clock
from .documented import components
from .errors import install_error_handlers
from .gate import Gate
from .realtime.endpoint import Endpoint
from .realtime.hub import Hub
from .routes import buckets, files, rows, system, tables, users
from .rowlane import RowLane
from .services import open_services
from .settings import Settings

__all__ = ["create_app"]


def create_app(settings: Settings, *, clock: Optional[Clock] = None) -> FastAPI:
    """Open the data of ``settings`` and build the ASGI application that serves it.

    ``app.state.services`` is what its parts share; it is closed when the application shuts down.

    :param clock: where the server takes the time from; the machine by default.
    :raises SettingsError: a host other than loopback while an ADMIN has the default password.
    :raises SchemaTooNew: the data was written by a newer version.
    """
    services = open_services(settings, clock)
    app = FastAPI(
        title="SelfDB",
        version=__version__,
        description="Users, tables and files over HTTP; every call carries the header X-API-Key.",
        lifespan=_lifespan,
    )
    app.state.services = services
    install_error_handlers(app)
    modules = (system, users, tables, rows, buckets, files)
    for module in modules:
        app.include_router(module.router)
    # Newer FastAPI keeps an included router whole, so that `app.routes` does not name what is in it.
    app.state.routes = [route for module in modules for route in module.router.routes]
    hub = Hub(services)
    app.state.hub = hub
    app.router.routes.append(WebSocketRoute("/realtime/socket/websocket", Endpoint(hub, mirrors=False)))
    app.router.routes.append(WebSocketRoute("/realtime/socket", Endpoint(hub, mirrors=True)))
    _describe(app)
    app.add_middleware(RowLane, services=services)
    app.add_middleware(Gate, services=services)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    hub: Hub = app.state.hub
    await hub.start()
    yield
    await hub.stop()
    app.state.services.close()


def _describe(app: FastAPI) -> None:
    """Name the credentials in ``/openapi.json``; each route says by itself which it takes."""
    plain = app.openapi

    def described() -> Dict[str, Any]:
        document = plain()
        document["components"] = components(document["components"]["schemas"])
        return document

    app.openapi = described  # type: ignore[method-assign]
