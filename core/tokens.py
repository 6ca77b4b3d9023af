"""Bearer tokens: made for the demo and for ops, checked at every edge (RFC 7519)."""

import re
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Annotated, Any

import jwt
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, ValidationError
from sqlalchemy.orm import Session

from core import viewers
from core.errors import NotSignedIn
from core.jwks import key_set
from core.settings import Settings, settings
from core.viewers import Viewer

LIFETIME = timedelta(days=7)
_HMAC = ["HS256"]
_PUBLIC_KEY = ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA"]


def _seconds(value: Any) -> datetime:
    """A NumericDate (RFC 7519, section 2): seconds since 1970, of any size; beyond the calendar's end, that."""
    number = isinstance(value, int) and not isinstance(value, bool)
    if not number and not (isinstance(value, float) and isfinite(value)):
        raise ValueError("is no number of seconds since 1970")
    return datetime.fromtimestamp(min(max(value, 0), _LAST_SECOND), UTC)


def _user_id(value: Any) -> int:
    """Our ids are numbers, and not every issuer writes them as strings (RFC 7519, section 4.1.2): both, and exactly."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not _ID.fullmatch(text) or int(text) > _LARGEST_ID:
        raise ValueError("is no user's id")
    return int(text)


_ID = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)
_LARGEST_ID = 2**63 - 1
_LAST_SECOND = datetime(9999, 12, 31, tzinfo=UTC).timestamp()
NumericDate = Annotated[datetime, BeforeValidator(_seconds)]


class Claims(BaseModel):
    """What a token says, once its signature and times were checked."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    sub: Annotated[int, BeforeValidator(_user_id)]
    exp: NumericDate
    iat: NumericDate | None = None
    ver: Annotated[StrictInt, Field(ge=0, le=_LARGEST_ID)] | None = None


def create_token(sub: int, role: str, *, version: int, now: datetime, lifetime: timedelta = LIFETIME) -> str:
    """A token for the user, signed with the secret. Raises BadSettings when there is none."""
    secret = settings().secret()
    if secret is None:
        raise NotSignedIn("GREENROOM_JWKS_URL is set: its issuer makes the tokens.")
    claims = {"sub": str(sub), "role": role, "ver": version, "iat": now, "exp": now + lifetime}
    return jwt.encode(claims, secret, algorithm=_HMAC[0])


def verify(token: str, *, config: Settings | None = None) -> Claims:
    """The claims of a token whose signature, times, issuer and audience hold. Asks no other server.

    Raises NotSignedIn with the reason, never the token; Unavailable while the issuer's keys were never read.
    """
    config = config or settings()
    secret = config.secret()
    options: jwt.types.Options = {**_OPTIONS, "verify_aud": config.jwt_audience is not None}
    given: dict[str, Any] = {"options": options, "audience": config.jwt_audience, "issuer": config.jwt_issuer}
    try:
        if secret is not None:
            claims = jwt.decode(token, secret, algorithms=_HMAC, leeway=LEEWAY, **given)
        else:
            key = _key(str(config.jwks_url), token)
            claims = jwt.decode(token, key, algorithms=_PUBLIC_KEY, leeway=LEEWAY, **given)
        found = Claims.model_validate(claims)
    except ValidationError as error:
        raise NotSignedIn(f"The token's {error.errors()[0]['loc'][0]} is not valid.") from None
    except (jwt.PyJWTError, TypeError, ValueError, RecursionError) as error:
        # TypeError: the header's algorithm does not go with the key; the others: JSON that nobody can read
        raise NotSignedIn(f"The token is not valid: {type(error).__name__}.") from None
    if found.exp <= datetime.now(UTC):
        raise NotSignedIn("token expired")
    return found


LEEWAY = timedelta(seconds=10)
"""How far the clock of who made a token may be ahead of ours: of ``iat`` and ``nbf``; ``exp`` has none."""
# The expiry is checked by Claims, which has no leeway and no largest year; so is the subject.
_OPTIONS: jwt.types.Options = {"require": ["sub", "exp"], "verify_exp": False, "verify_sub": False}


def _key(url: str, token: str) -> Any:
    """The issuer's key that the token names. Raises NotSignedIn and Unavailable."""
    key_id = jwt.get_unverified_header(token).get("kid")
    key = key_set(url).key(key_id) if isinstance(key_id, str) else None
    if key is None:
        raise NotSignedIn("The token is signed with a key that its issuer does not name.")
    return key


def sign_in(db: Session, token: str) -> tuple[Viewer, datetime]:
    """Who the token's bearer is now, and when the token ends (UTC). Raises NotSignedIn."""
    return viewer_of(db, verify(token))


def viewer_of(db: Session, claims: Claims) -> tuple[Viewer, datetime]:
    """The same for a token that was read already."""
    return viewers.load(db, claims.sub, version=claims.ver, issued_at=claims.iat), claims.exp
