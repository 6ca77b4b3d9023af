"""The durable log of push events, the counts of job runs, and the stored responses of idempotent requests."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, CheckConstraint, ForeignKey, Index, text
from sqlalchemy.dialects.postgresql import JSON, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from core.models.base import Base, BigId, Created, one_of
from core.models.people import ROLES


class PushEventRow(Base):
    """One message to one destination; ids are assigned under the outbox's lock, so their order is commit order."""

    __tablename__ = "push_events"

    id: Mapped[BigId]
    destination: Mapped[str]
    audience: Mapped[str | None]
    type: Mapped[str]
    payload: Mapped[Any] = mapped_column(JSON)
    """json, not jsonb: its text is sent to sockets unchanged."""
    dedupe_key: Mapped[str | None]
    created_at: Mapped[Created]
    delivered_at: Mapped[datetime | None]

    __table_args__ = (
        one_of("audience", ROLES),
        Index("push_events_replay", "destination", "id"),
        Index("push_events_once", "dedupe_key", unique=True, postgresql_where=text("dedupe_key IS NOT NULL")),
        Index(
            "push_events_undelivered",
            "destination",
            "id",
            postgresql_where=text("delivered_at IS NULL AND destination LIKE '/user/%'"),
        ),
    )


class PushLog(Base):
    """One row about the log: every id up to ``pruned_through`` was pruned."""

    __tablename__ = "push_log"

    one: Mapped[bool] = mapped_column(Boolean, primary_key=True, server_default="true")
    pruned_through: Mapped[int] = mapped_column(BigInteger, server_default="0")

    __table_args__ = (CheckConstraint("one", name="one"),)


class JobCount(Base):
    """How often something has happened to a job, and when last: runs are pruned, and counters must never decrease."""

    __tablename__ = "job_counts"

    job: Mapped[str] = mapped_column(primary_key=True)
    what: Mapped[str] = mapped_column(primary_key=True)
    count: Mapped[int] = mapped_column(BigInteger)
    last_at: Mapped[datetime]


class IdempotencyKey(Base):
    """The response to a request that a client may repeat for 24 hours."""

    __tablename__ = "idempotency_keys"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    route: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    body_hash: Mapped[str]
    status: Mapped[int | None]
    answer: Mapped[Any | None] = mapped_column(JSONB)
    created_at: Mapped[Created]

    __table_args__ = (Index("idempotency_keys_age", "created_at"),)
