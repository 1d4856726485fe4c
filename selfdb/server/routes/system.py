"""Routes about the server itself."""

from __future__ import annotations

from ..._version import __version__
from ..documented import responses
from ..routing import new_router
from ..services import ServicesDep
from ..wire import Status

__all__ = ["router"]

router = new_router(prefix="/system", tags=["system"])


@router.get("/status", response_model=Status, responses=responses())
def status(services: ServicesDep) -> Status:
    """Whether anybody ever signed in, and the version. Needs the API key only."""
    return Status(initialized=services.is_initialized(), version=__version__)
