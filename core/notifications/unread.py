"""How many notifications somebody has not read: always counted from the table, never kept beside it."""

from collections.abc import Iterable, Iterator, Sequence

from sqlalchemy import text
from sqlalchemy.orm import Session

from core import outbox
from core.db import array
from core.events import NotificationUnread

# A broadcast has no rows of its users' own until they touch it, so it is counted by what is missing. Nobody has
# missed what was told before they came.
_COUNTS = text("""
    SELECT u.id, own.unread + broadcasts.unread
    FROM users u,
    LATERAL (
        SELECT count(*) AS unread
        FROM notification_receipts r JOIN notifications n ON n.id = r.notification_id
        WHERE r.user_id = u.id AND r.read_at IS NULL AND r.archived_at IS NULL
            AND n.user_id = u.id AND n.status = 'delivered'
    ) own,
    LATERAL (
        SELECT count(*) AS unread
        FROM (
            SELECT id, category FROM notifications
            WHERE user_id IS NULL AND role IS NULL AND status = 'delivered' AND delivered_at >= u.created_at
            UNION ALL
            SELECT id, category FROM notifications
            WHERE user_id IS NULL AND role = u.role AND status = 'delivered' AND delivered_at >= u.created_at
        ) n
        WHERE NOT EXISTS (
            SELECT FROM notification_receipts r
            WHERE r.user_id = u.id AND r.notification_id = n.id AND (r.read_at IS NOT NULL OR r.archived_at IS NOT NULL)
        ) AND NOT EXISTS (
            SELECT FROM notification_preferences p
            WHERE p.user_id = u.id AND p.category = n.category AND p.channel = 'in_app' AND p.delivery = 'off'
        )
    ) broadcasts
    WHERE u.id = ANY(CAST(:users AS bigint[]))
    ORDER BY u.id
""")


def counts(db: Session, users: Iterable[int]) -> dict[int, int]:
    """How many each of the users has not read, in one query; somebody unknown is absent."""
    return dict(db.execute(_COUNTS, {"users": array(list(users))}).tuples().all())


def count(db: Session, user_id: int) -> int:
    """How many the user has not read: neither read nor archived, delivered and still valid, and not turned off."""
    return counts(db, [user_id]).get(user_id, 0)


def announce(db: Session, *users: int) -> None:
    """Push the users' counts when this transaction commits: counted last, so that none is older than one before it."""
    outbox.publish_late(db, _events, *users)


def _events(db: Session, users: Sequence[int]) -> Iterator[NotificationUnread]:
    for user_id, unread in counts(db, users).items():
        yield NotificationUnread(user_id=user_id, unread=unread)
