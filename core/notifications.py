"""Notifications: told to one user, to a role or to all, in the transaction of what caused them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from core import outbox
from core.db import insert_many
from core.events import NotificationCreated
from core.models import Notification, NotificationReceipt, Role


@dataclass(frozen=True, slots=True)
class Told:
    """One notification to make; with neither ``user_id`` nor ``role`` it is for everybody."""

    category: str
    title: str
    body: str
    dedupe_key: str
    user_id: int | None = None
    role: Role | None = None
    session_id: UUID | None = None


def tell(db: Session, told: Sequence[Told], *, now: datetime) -> int:
    """Make the notifications and announce them; one whose dedupe key exists is nothing. Gives how many were new.

    A user's own gets its receipt at once, which is what makes it count as unread; a broadcast fans out no rows.
    """
    made = insert_many(
        db,
        Notification,
        [
            {
                "user_id": one.user_id,
                "role": one.role,
                "category": one.category,
                "title": one.title,
                "body": one.body,
                "session_id": one.session_id,
                "not_before": now,
                "status": "delivered",
                "delivered_at": now,
                "dedupe_key": one.dedupe_key,
            }
            for one in told
        ],
        once="(dedupe_key)",
        returning=("dedupe_key", "id", "created_at"),
    )
    ids = {key: (id_, created_at) for key, id_, created_at in made}
    new = [one for one in told if one.dedupe_key in ids]
    insert_many(
        db,
        NotificationReceipt,
        [{"user_id": one.user_id, "notification_id": ids[one.dedupe_key][0]} for one in new if one.user_id is not None],
    )
    outbox.publish_many(
        db,
        (
            NotificationCreated(
                notification_id=ids[one.dedupe_key][0],
                user_id=one.user_id,
                role=one.role,
                category=one.category,
                title=one.title,
                body=one.body,
                session_id=one.session_id,
                created_at=ids[one.dedupe_key][1],
            )
            for one in new
        ),
    )
    return len(new)
