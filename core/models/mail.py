"""The mail outbox: rendered when queued, sent under a lease."""

from datetime import datetime
from typing import Any, Literal, get_args
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, SmallInteger, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from core.models.base import Base, BigId, Created, EmptyObject, one_of

EmailStatus = Literal["queued", "sending", "sent", "uncertain", "dead", "suppressed", "cancelled", "expired"]


class Email(Base):
    """One mail to one address, rendered, with its status."""

    __tablename__ = "emails"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    status: Mapped[str] = mapped_column(server_default="queued")
    priority: Mapped[int] = mapped_column(SmallInteger, server_default="5")
    on_demand: Mapped[bool] = mapped_column(server_default="false")
    session_id: Mapped[UUID | None] = mapped_column(ForeignKey("sessions.id"))
    schedule_version: Mapped[int | None]
    requested_by: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    to_address: Mapped[str]
    to_name: Mapped[str | None]
    reply_to: Mapped[str | None]
    message_id: Mapped[str] = mapped_column(unique=True)
    subject: Mapped[str]
    text_body: Mapped[str | None]
    html_body: Mapped[str | None]
    headers: Mapped[EmptyObject]
    category: Mapped[str] = mapped_column(server_default="generic")
    """The category that preferences and suppressions are checked for."""
    idempotency_key: Mapped[str | None] = mapped_column(unique=True)
    due_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(server_default="0")
    lease_owner: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    data_started_at: Mapped[datetime | None]
    """Set by the fenced update before DATA: a connection lost after it makes the mail uncertain."""
    last_error: Mapped[str | None]
    created_at: Mapped[Created]
    sent_at: Mapped[datetime | None]
    uncertain_at: Mapped[datetime | None]
    """When an attempt became uncertain (it may have arrived); stays set, whatever the status is later."""
    retry_at: Mapped[datetime | None]
    """When an uncertain mail is retried automatically; null: it waits for a person."""

    __table_args__ = (
        one_of("status", get_args(EmailStatus)),
        Index("emails_due", "priority", "due_at", postgresql_where=text("status = 'queued'")),
        Index("emails_next", "due_at", postgresql_where=text("status = 'queued'")),
        Index("emails_retry", "retry_at", postgresql_where=text("status = 'uncertain' AND retry_at IS NOT NULL")),
        Index("emails_lease", "lease_until", postgresql_where=text("lease_until IS NOT NULL")),
        Index("emails_on_demand", "due_at", postgresql_where=text("status = 'queued' AND on_demand")),
        Index("emails_attention", "id", postgresql_where=text("status IN ('dead', 'uncertain')")),
        Index("emails_of_session", "session_id", postgresql_where=text("session_id IS NOT NULL")),
        Index("emails_by_time", "created_at", postgresql_include=["status"]),
        Index("emails_counted", "status", "kind", "attempts"),
        Index("emails_content", "created_at", postgresql_where=text("text_body IS NOT NULL OR html_body IS NOT NULL")),
    )


class EmailAttachment(Base):
    """An attachment of a mail."""

    __tablename__ = "email_attachments"

    id: Mapped[BigId]
    email_id: Mapped[UUID] = mapped_column(ForeignKey("emails.id", ondelete="CASCADE"))
    ordinal: Mapped[int]
    filename: Mapped[str]
    content_type: Mapped[str]
    content: Mapped[bytes] = mapped_column(LargeBinary)

    __table_args__ = (UniqueConstraint("email_id", "ordinal"),)


class EmailSuppression(Base):
    """An address that gets no more mail of a category (or, category empty, of any kind)."""

    __tablename__ = "email_suppressions"

    address: Mapped[str] = mapped_column(primary_key=True)
    category: Mapped[str] = mapped_column(primary_key=True, server_default="")
    reason: Mapped[str]
    data: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    created_at: Mapped[Created]


class EmailPace(Base):
    """One row: when the next mail may be sent, so that EMAIL_RATE holds for all dispatchers together."""

    __tablename__ = "email_pace"

    one: Mapped[bool] = mapped_column(primary_key=True, server_default="true")
    next_at: Mapped[datetime]

    __table_args__ = (CheckConstraint("one", name="one"),)
