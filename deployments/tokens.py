"""``greenroom token``: tokens for users."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.clock import utcnow
from core.db import transaction
from core.errors import Invalid
from core.models import ROLES, User
from core.tokens import create_token
from core.viewers import by_email

DEMO_USERS = (1, 2, 3, 4)


def token_for(*, email: str | None, sub: int | None, role: str | None) -> str:
    """A token for the user with this email, or with this id and role.

    Raises Invalid when the user does not exist or the options name none.
    """
    if (email is None) == (sub is None):
        raise Invalid("token", "say who: --user EMAIL, or --sub ID --role ROLE")
    if role is not None and role not in ROLES:
        raise Invalid("--role", f"{role!r} is none of {', '.join(ROLES)}")
    with transaction() as db:
        user = by_email(db, email) if email is not None else _by_id(db, sub or 0)
        if user is None:
            raise Invalid("--sub" if email is None else "--user", f"there is no user {sub if email is None else email}")
        return create_token(user.id, role or user.role, version=user.token_version, now=utcnow())


def _by_id(db: Session, user_id: int) -> User | None:
    if not 0 < user_id < 2**63:
        return None
    return db.scalar(select(User).where(User.id == user_id, User.deleted_at.is_(None)))


def demo_tokens() -> list[tuple[str, str, str]]:
    """Role, email and token of the demo's four users."""
    with transaction() as db:
        users = [user for id_ in DEMO_USERS if (user := db.get(User, id_))]
        return [(u.role, u.email, create_token(u.id, u.role, version=u.token_version, now=utcnow())) for u in users]
