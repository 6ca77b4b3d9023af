"""Users, who sign in, and candidates, who are interviewed."""

from datetime import datetime, time
from typing import Literal, get_args

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from core.models.base import Base, BigId, Created, one_of

Role = Literal["admin", "recruiter", "interviewer", "candidate"]
ROLES: tuple[Role, ...] = get_args(Role)

NOT_DELETED = text("deleted_at IS NULL")


class User(Base):
    """A person who signs in; ``token_version`` is raised to revoke all their tokens."""

    __tablename__ = "users"

    id: Mapped[BigId]
    email: Mapped[str]
    name: Mapped[str]
    role: Mapped[str]
    timezone: Mapped[str] = mapped_column(server_default="UTC")
    quiet_from: Mapped[time | None]
    quiet_until: Mapped[time | None]
    token_version: Mapped[int] = mapped_column(server_default="1")
    token_raised_at: Mapped[datetime | None]
    """When ``token_version`` was last raised: an outside issuer's tokens carry only ``iat``."""
    created_at: Mapped[Created]
    deleted_at: Mapped[datetime | None]

    __table_args__ = (
        one_of("role", ROLES),
        Index("users_email_living", text("lower(email)"), unique=True, postgresql_where=NOT_DELETED),
    )


class Candidate(Base):
    """The person interviewed; ``user_id`` once they can sign in."""

    __tablename__ = "candidates"

    id: Mapped[BigId]
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"), unique=True)
    email: Mapped[str]
    name: Mapped[str]
    timezone: Mapped[str] = mapped_column(server_default="UTC")
    source: Mapped[str | None]
    applied_at: Mapped[datetime | None]
    hired_at: Mapped[datetime | None]
    withdrawn_at: Mapped[datetime | None]
    created_at: Mapped[Created]
    deleted_at: Mapped[datetime | None]

    __table_args__ = (
        Index("candidates_email_living", text("lower(email)"), unique=True, postgresql_where=NOT_DELETED),
    )
