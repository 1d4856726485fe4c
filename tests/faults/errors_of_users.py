"""Errors as applications make them of ours, and a function that raises them in another process."""

from __future__ import annotations

from typing import Any

from selfdb.exceptions import NotFoundError, SelfDBError


class OfTheUser(NotFoundError):
    """With a constructor of its own, and the way to make it again that this asks for."""

    def __init__(self, order: int, **more: Any) -> None:
        super().__init__(f"order {order} is gone", 404, **more)
        self.order = order

    def __reduce__(self) -> Any:
        return OfTheUser, (self.order,), dict(vars(self))


def made(which: int) -> SelfDBError:
    if which == 0:
        return OfTheUser(7, method="GET", path="/orders/7")
    return NotFoundError("gone", 404, {"detail": ["x"]}, method="GET", path="/x", request_id="r", attempts=2)


def throw(which: int) -> None:
    raise made(which)
