"""Bearer tokens (RFC 7519): created for the demo and for operators, verified by HTTP and STOMP."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import jwt
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy.orm import Session

from core import viewers
from core.errors import NotSignedIn, Unavailable
from core.settings import Settings, settings
from core.viewers import Viewer

LIFETIME = timedelta(days=7)
_HMAC = ["HS256"]
_PUBLIC_KEY = ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA"]


class Claims(BaseModel):
    """A token's claims, after its signature and times were verified."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    sub: int = Field(ge=1, le=2**63 - 1)
    exp: datetime
    iat: datetime | None = None
    ver: int | None = None


def create_token(sub: int, role: str, *, version: int, now: datetime, lifetime: timedelta = LIFETIME) -> str:
    """A token for the user, signed with the secret. Raises BadSettings when there is none."""
    secret = settings().secret()
    if secret is None:
        raise NotSignedIn("GREENROOM_JWKS_URL is set: its issuer makes the tokens.")
    claims = {"sub": str(sub), "role": role, "ver": version, "iat": now, "exp": now + lifetime}
    return jwt.encode(claims, secret, algorithm=_HMAC[0])


def verify(token: str, *, config: Settings | None = None) -> Claims:
    """The claims of a token, after its signature and expiry are verified.

    Raises NotSignedIn with the reason, never the token; Unavailable while the issuer's keys cannot be read.
    """
    config = config or settings()
    secret = config.secret()
    try:
        if secret is not None:
            claims = jwt.decode(token, secret, algorithms=_HMAC, options=_OPTIONS)
        else:
            key = _key(str(config.jwks_url), token)
            claims = jwt.decode(token, key, algorithms=_PUBLIC_KEY, options=_OPTIONS)
        return Claims.model_validate(claims)
    except jwt.ExpiredSignatureError:
        raise NotSignedIn("token expired") from None
    except ValidationError as error:
        raise NotSignedIn(f"The token's {error.errors()[0]['loc'][0]} is not valid.") from None
    except (jwt.PyJWTError, TypeError) as error:  # TypeError: the header's algorithm does not fit the key
        raise NotSignedIn(f"The token is not valid: {type(error).__name__}.") from None


# Our ids are numbers, and not every issuer writes them as strings (RFC 7519, section 4.1.2): Claims accepts both.
_OPTIONS: jwt.types.Options = {"require": ["sub", "exp"], "verify_aud": False, "verify_sub": False}


def _key(url: str, token: str) -> Any:
    try:
        return _keys(url).get_signing_key_from_jwt(token).key
    except (jwt.PyJWKClientConnectionError, jwt.PyJWKSetError, ValueError):
        raise Unavailable("The issuer's keys cannot be read for now; try again.") from None


@lru_cache(maxsize=1)
def _keys(url: str) -> jwt.PyJWKClient:
    # The key set is cached (300 s), single keys are not: those never expire, and a revoked key would stay valid.
    return jwt.PyJWKClient(url, cache_keys=False, lifespan=300, timeout=5)


def sign_in(db: Session, token: str) -> tuple[Viewer, datetime]:
    """The token's user as of now, and when the token expires (UTC). Raises NotSignedIn."""
    claims = verify(token)
    viewer = viewers.load(db, claims.sub, version=claims.ver, issued_at=claims.iat)
    return viewer, claims.exp.astimezone(UTC)
