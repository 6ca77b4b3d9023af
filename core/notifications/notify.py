"""Creates and delivers notifications, a thousand in a few statements."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy.orm import Session

from core import outbox, preferences
from core.db import insert_many
from core.events import NotificationCreated
from core.models import Notification, NotificationReceipt, Role
from core.notifications import unread


@dataclass(frozen=True, slots=True)
class Notice:
    """One notification to create; with neither ``user_id`` nor ``role`` it is for all.

    ``data`` is JSON for programs: what title and body are about.
    """

    category: str
    title: str
    body: str
    dedupe_key: str
    user_id: int | None = None
    role: Role | None = None
    session_id: UUID | None = None
    data: Mapping[str, Any] | None = None


def notify(db: Session, notices: Sequence[Notice], *, now: datetime) -> int:
    """Create the notifications and publish them; one whose dedupe key exists is left out. Returns how many were new.

    One to a user gets its receipt at once, which makes it count as unread; a broadcast creates no rows for its users.
    """
    columns: dict[str, Any] = {
        "user_id": [one.user_id for one in notices],
        "role": [one.role for one in notices],
        "category": [one.category for one in notices],
        "title": [one.title for one in notices],
        "body": [one.body for one in notices],
        "session_id": [one.session_id for one in notices],
        "not_before": now,
        "status": "delivered",
        "delivered_at": now,
        "dedupe_key": [one.dedupe_key for one in notices],
    }
    if any(one.data for one in notices):
        columns["data"] = [dict(one.data or {}) for one in notices]
    inserted = insert_many(db, Notification, columns, conflict_target="(dedupe_key)", returning=("dedupe_key", "id"))
    ids: dict[str, int] = dict(inserted)
    new = [one for one in notices if one.dedupe_key in ids]
    deliver(
        db,
        [
            Delivery(
                ids[one.dedupe_key], one.user_id, one.role, one.category, one.title, one.body, one.data, one.session_id
            )
            for one in new
        ],
        now=now,
    )
    return len(new)


class Delivery(NamedTuple):
    """A notification that has become visible in this transaction."""

    id: int
    user_id: int | None
    role: Role | None
    category: str
    title: str
    body: str
    data: Mapping[str, Any] | None
    session_id: UUID | None
    expires_at: datetime | None = None


def deliver(db: Session, delivered: Sequence[Delivery], *, now: datetime) -> None:
    """Create the receipts of notifications that became visible, and publish them with the new unread counts.

    A notification whose category its user has turned off in the app gets neither: it is in no inbox.
    """
    own = [(one.user_id, one.category) for one in delivered if one.user_id is not None]
    turned_off = preferences.find_turned_off(db, own, "in_app")
    visible = [one for one in delivered if one.user_id is None or (one.user_id, one.category) not in turned_off]
    receipts = [(one.user_id, one.id) for one in visible if one.user_id is not None]
    users = [user_id for user_id, _ in receipts]
    insert_many(db, NotificationReceipt, {"user_id": users, "notification_id": [id_ for _, id_ in receipts]})
    outbox.publish_many(
        db,
        (
            NotificationCreated(
                notification_id=one.id,
                user_id=one.user_id,
                role=one.role,
                category=one.category,
                title=one.title,
                body=one.body,
                data=dict(one.data or {}),
                session_id=one.session_id,
                delivered_at=now,
                expires_at=one.expires_at,
            )
            for one in visible
        ),
    )
    unread.publish_counts(db, *users)
