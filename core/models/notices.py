"""Reminders, notifications, their receipts, and preferences."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from core.models.base import Base, BigId, Created, EmptyObject, one_of
from core.models.people import ROLES


class Reminder(Base):
    """One planned reminder of one schedule to one recipient."""

    __tablename__ = "reminders"

    id: Mapped[BigId]
    session_id: Mapped[UUID] = mapped_column(ForeignKey("sessions.id"))
    schedule_version: Mapped[int]
    recipient: Mapped[str]
    offset_minutes: Mapped[int]
    due_at: Mapped[datetime]
    send_by: Mapped[datetime]
    status: Mapped[str] = mapped_column(server_default="planned")
    reason: Mapped[str | None]
    sent_at: Mapped[datetime | None]

    __table_args__ = (
        one_of("recipient", ("candidate", "interviewer")),
        one_of("status", ("planned", "sent", "skipped", "void")),
        UniqueConstraint("session_id", "schedule_version", "recipient", "offset_minutes"),
        Index("reminders_due", "due_at", postgresql_where=text("status = 'planned'")),
        Index("reminders_by_due", "due_at", postgresql_include=["status", "reason", "sent_at", "send_by"]),
        Index("reminders_skipped", "send_by", postgresql_where=text("status = 'skipped'")),
    )


_DELIVERED = "status = 'delivered'"


class Notification(Base):
    """A notification to one user, to a role, or (both null) to all; people see it while it is ``delivered``."""

    __tablename__ = "notifications"

    id: Mapped[BigId]
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    role: Mapped[str | None]
    category: Mapped[str]
    title: Mapped[str]
    body: Mapped[str]
    data: Mapped[EmptyObject]
    session_id: Mapped[UUID | None] = mapped_column(ForeignKey("sessions.id"))
    created_by: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    """Who wrote it; null: the system, because of an event."""
    not_before: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    status: Mapped[str] = mapped_column(server_default="pending")
    dedupe_key: Mapped[str | None] = mapped_column(unique=True)
    created_at: Mapped[Created]
    delivered_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]

    __table_args__ = (
        one_of("role", ROLES),
        one_of("status", ("pending", "delivered", "cancelled", "expired")),
        CheckConstraint("user_id IS NULL OR role IS NULL", name="recipient"),
        Index("notifications_deleted", "id", postgresql_where=text("deleted_at IS NOT NULL")),
        Index("notifications_pending", "not_before", postgresql_where=text("status = 'pending'")),
        Index(
            "notifications_expiring",
            "expires_at",
            postgresql_where=text("status IN ('pending', 'delivered') AND expires_at IS NOT NULL"),
        ),
        Index(
            "notifications_inbox",
            "user_id",
            "delivered_at",
            "id",
            postgresql_where=text(f"user_id IS NOT NULL AND {_DELIVERED}"),
        ),
        Index(
            "notifications_broadcasts",
            "role",
            "delivered_at",
            "id",
            postgresql_where=text(f"user_id IS NULL AND {_DELIVERED}"),
        ),
        Index("notifications_of_session", "session_id", postgresql_where=text("session_id IS NOT NULL")),
    )


class NotificationReceipt(Base):
    """When one user saw, read and archived one notification.

    Exists from the start for a notification to that user, unless its category is turned off; for a broadcast from
    the user's first action on it.
    """

    __tablename__ = "notification_receipts"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    notification_id: Mapped[int] = mapped_column(ForeignKey("notifications.id"), primary_key=True)
    seen_at: Mapped[datetime | None]
    read_at: Mapped[datetime | None]
    archived_at: Mapped[datetime | None]

    __table_args__ = (
        Index(
            "notification_receipts_unread", "user_id", postgresql_where=text("read_at IS NULL AND archived_at IS NULL")
        ),
        Index("notification_receipts_of", "notification_id"),
    )


class NotificationPreference(Base):
    """One user's preference for one category on one channel; the daily report is off unless turned on."""

    __tablename__ = "notification_preferences"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    category: Mapped[str] = mapped_column(primary_key=True)
    channel: Mapped[str] = mapped_column(primary_key=True)
    delivery: Mapped[str]

    __table_args__ = (
        one_of("channel", ("in_app", "email")),
        one_of("delivery", ("instant", "off")),
    )
