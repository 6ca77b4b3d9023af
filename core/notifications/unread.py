"""Users' counts of unread notifications: always counted from the tables, never stored."""

from collections.abc import Iterable, Sequence

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from core import outbox
from core.db import array
from core.events import BROADCASTS, NotificationUnread, user_queue

# A broadcast has no receipt of a user until their first action on it, so it is counted by missing receipts. Broadcasts
# delivered before a user was created do not count for them.
_COUNTS = text("""
    SELECT u.id, own.unread + broadcasts.unread AS unread, u.role,
           (SELECT coalesce(max(id), 0) FROM push_events) AS newest
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


def _count_users(db: Session, users: Iterable[int]) -> Sequence[Row[tuple[int, int, str, int]]]:
    """Each user's id, count and role, and the newest push event in the snapshot in which they were counted."""
    return db.execute(_COUNTS, {"users": array(list(users))}).all()


def counts(db: Session, users: Iterable[int]) -> dict[int, int]:
    """The unread count of each user, by one query; unknown users are absent."""
    return {row.id: row.unread for row in _count_users(db, users)}


def count(db: Session, user_id: int) -> int:
    """The user's unread count: delivered, not expired, neither read nor archived, and not of a category turned off."""
    return counts(db, [user_id]).get(user_id, 0)


def publish_counts(db: Session, *users: int) -> None:
    """Push the users' counts when this transaction commits: none is older than one with a lower id."""
    outbox.publish_late(db, _compute_counts, *users)


def _compute_counts(db: Session, users: Sequence[int]) -> outbox.Finish:
    """Count before the outbox's lock is taken; under it, recount only users for whom an event was pushed in between.

    Every change of a count is pushed to its user's queue or as a broadcast; and counting a long inbox takes a while.
    """
    before = _count_users(db, users)

    def finish() -> Iterable[NotificationUnread]:
        newest = min((row.newest for row in before), default=0)
        pushed = {(destination, audience) for destination, audience in db.execute(_PUBLISHED_SINCE, {"newest": newest})}
        stale = [
            row.id
            for row in before
            if pushed & {(user_queue(row.id, "notifications"), None), (BROADCASTS, None), (BROADCASTS, row.role)}
        ]
        recounted = counts(db, stale) if stale else {}
        return [NotificationUnread(user_id=row.id, unread=recounted.get(row.id, row.unread)) for row in before]

    return finish


_PUBLISHED_SINCE = text("SELECT DISTINCT destination, audience FROM push_events WHERE id > :newest")
