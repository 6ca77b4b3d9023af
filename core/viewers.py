"""The viewer: the signed-in user who makes a request, as the ``users`` table (not the token) describes them."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.errors import Forbidden, NotSignedIn
from core.models import Role, User


@dataclass(frozen=True, slots=True)
class Viewer:
    """A signed-in user."""

    id: int
    role: Role
    name: str
    email: str
    token_version: int


STAFF: tuple[Role, ...] = ("admin", "recruiter")


def require(viewer: Viewer, *roles: Role) -> None:
    """Raise Forbidden unless the viewer has one of the roles."""
    if viewer.role not in roles:
        raise Forbidden(f"This needs the role {' or '.join(roles)}; you are {viewer.role}.")


def load(db: Session, user_id: int, *, version: int | None, issued_at: datetime | None) -> Viewer:
    """The user that a verified token names.

    ``version`` must be the user's current one; a token without it (an outside issuer's) must have been issued at or
    after the last raise. Raises NotSignedIn.
    """
    user = db.scalar(select(User).where(User.id == user_id, User.deleted_at.is_(None)))
    if user is None:
        raise NotSignedIn("The token's user does not exist.")
    if version is not None:
        current = version == user.token_version
    else:
        # iat has whole seconds (RFC 7519, section 2, NumericDate as issuers write it).
        raised = user.token_raised_at or datetime.fromtimestamp(0, UTC)
        current = issued_at is not None and issued_at >= raised.replace(microsecond=0)
    if not current:
        raise NotSignedIn("The token was withdrawn; sign in again.")
    return Viewer(user.id, cast(Role, user.role), user.name, user.email, user.token_version)


def by_email(db: Session, email: str) -> User | None:
    """The user with this address who is not deleted; upper and lower case are the same."""
    return db.scalar(select(User).where(func.lower(User.email) == func.lower(email), User.deleted_at.is_(None)))
