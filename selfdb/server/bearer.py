"""The tokens on the wire: signed claims, and nothing that must be remembered to read them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any, Dict, Optional

import jwt

__all__ = ["ACCESS", "REFRESH", "Claims", "Tokens"]

ACCESS = "access"
REFRESH = "refresh"
_ISSUER = "selfdb"
_ALGORITHM = "HS256"
#: Tokens that are remembered as genuine.
_KEPT = 2048


@dataclass(frozen=True)
class Claims:
    """What a token of ours says.

    ``token_id`` of a refresh token is the id of its row; that of an access token starts with the id of the
    refresh token that it was given out with.
    """

    user_id: str
    role: str
    session_id: str
    kind: str
    issued_at: datetime
    expires_at: datetime
    token_id: str

    @property
    def refresh_id(self) -> str:
        """The refresh token that this token is, or was given out with."""
        return self.token_id.partition(".")[0]


class Tokens:
    """Signs and reads tokens with one secret. Equal claims give equal tokens. Thread-safe."""

    def __init__(self, secret: str) -> None:
        self._secret = secret
        # A token is checked once and sent many times. Only genuine ones are kept; whether they are still valid is
        # judged at each reading, with the time and the database.
        self._genuine = lru_cache(maxsize=_KEPT)(self._checked)

    def __repr__(self) -> str:
        return "Tokens()"

    def sign(self, claims: Claims) -> str:
        """The token for ``claims``; times are cut to whole seconds."""
        payload: Dict[str, Any] = {
            "sub": claims.user_id,
            "role": claims.role,
            "sid": claims.session_id,
            "token_type": claims.kind,
            "iat": int(claims.issued_at.timestamp()),
            "exp": int(claims.expires_at.timestamp()),
            "jti": claims.token_id,
            "iss": _ISSUER,
        }
        return jwt.encode(payload, self._secret, algorithm=_ALGORITHM)

    def read(self, token: str, kind: str, now: Optional[datetime]) -> Optional[Claims]:
        """The claims of a genuine token of ``kind`` that is valid at ``now`` (``None``: at any time), else ``None``."""
        try:
            claims = self._genuine(token)
        except (jwt.InvalidTokenError, ValueError, OverflowError, RecursionError):
            return None
        if claims.kind != kind or (now is not None and claims.expires_at <= now):
            return None
        return claims

    def _checked(self, token: str) -> Claims:
        """The claims of a genuine token; raises for any other, which ``lru_cache`` does not keep."""
        payload = jwt.decode(
            token,
            self._secret,
            algorithms=[_ALGORITHM],
            issuer=_ISSUER,
            # The times are compared below, with the server's clock.
            options={
                "require": ["sub", "role", "sid", "token_type", "iat", "exp", "jti", "iss"],
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
            },
        )
        return Claims(
            user_id=str(payload["sub"]),
            role=str(payload["role"]),
            session_id=str(payload["sid"]),
            kind=str(payload["token_type"]),
            issued_at=datetime.fromtimestamp(int(payload["iat"]), timezone.utc),
            expires_at=datetime.fromtimestamp(int(payload["exp"]), timezone.utc),
            token_id=str(payload["jti"]),
        )
