"""One user's inbox: their own notifications and the broadcasts to them, newest first."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from core import outbox, preferences
from core.errors import NotFound
from core.events import NotificationArchived, NotificationRead
from core.models import Role
from core.notifications import unread
from core.preferences import PreferenceChange
from core.viewers import Viewer

Box = Literal["inbox", "unread", "archived"]
"""Which part of the inbox: notifications not archived, those of them not read, or the archived ones."""

_EVENT_IDS = 500
"""Ids in one push event of a read-all, so that none grows beyond a few kilobytes."""


class InboxItem(NamedTuple):
    """One notification with the viewer's receipt."""

    id: int
    user_id: int | None
    role: Role | None
    category: str
    title: str
    body: str
    data: dict[str, Any]
    session_id: UUID | None
    delivered_at: datetime
    expires_at: datetime | None
    seen_at: datetime | None
    read_at: datetime | None
    archived_at: datetime | None


_INBOX_ITEM = """
    SELECT n.id, n.user_id, n.role, n.category, n.title, n.body, n.data, n.session_id, n.delivered_at, n.expires_at,
           r.seen_at, r.read_at, r.archived_at
    FROM notifications n
    LEFT JOIN notification_receipts r ON r.user_id = :viewer AND r.notification_id = n.id
    WHERE n.status = 'delivered'
"""
_SINCE = "n.delivered_at >= (SELECT created_at FROM users WHERE id = :viewer)"
_OWN = "AND n.user_id = :viewer AND r.user_id IS NOT NULL"
_TO_ALL = f"AND n.user_id IS NULL AND n.role IS NULL AND {_SINCE}"
_TO_ROLE = f"AND n.user_id IS NULL AND n.role = :role AND {_SINCE}"
_NOT_TURNED_OFF = """
    AND (n.user_id IS NOT NULL OR NOT EXISTS (
        SELECT FROM notification_preferences p
        WHERE p.user_id = :viewer AND p.category = n.category AND p.channel = 'in_app' AND p.delivery = 'off'))
"""
_BOXES: dict[Box, str] = {
    "inbox": "AND r.archived_at IS NULL",
    "unread": "AND r.archived_at IS NULL AND r.read_at IS NULL",
    "archived": "AND r.archived_at IS NOT NULL",
}
_AFTER = "AND (n.delivered_at, n.id) < (SELECT delivered_at, id FROM notifications WHERE id = :after)"
_NEWEST = "ORDER BY delivered_at DESC, id DESC LIMIT :limit"


def _union(conditions: str) -> str:
    """The three sources of an inbox (own, to all, to the role), each with the same further conditions."""
    return " UNION ALL ".join(f"({_INBOX_ITEM} {source} {conditions})" for source in (_OWN, _TO_ALL, _TO_ROLE))


_PAGES = {
    (box, more): text(f"{_union(f'{_NOT_TURNED_OFF} {where} {_AFTER if more else str()} {_NEWEST}')} {_NEWEST}")
    for box, where in _BOXES.items()
    for more in (False, True)
}
_ONE = text(_union("AND n.id = :id"))


def page(db: Session, box: Box, *, by: Viewer, after: int, limit: int) -> Sequence[InboxItem]:
    """The viewer's notifications in this part of the inbox, newest first, after the given one (0: from the start)."""
    given = {"viewer": by.id, "role": by.role, "limit": limit} | ({"after": after} if after else {})
    return [InboxItem._make(row) for row in db.execute(_PAGES[box, bool(after)], given)]


def get(db: Session, notification_id: int, *, by: Viewer) -> InboxItem:
    """One notification to the viewer. Raises NotFound, also when they may not see it."""
    row = db.execute(_ONE, {"viewer": by.id, "role": by.role, "id": notification_id}).one_or_none()
    if row is None:
        raise NotFound("notification", notification_id)
    return InboxItem._make(row)


def mark_seen(db: Session, items: Collection[InboxItem], *, by: Viewer, now: datetime) -> None:
    """Store that these were shown to the viewer; it changes no count and publishes nothing."""
    if unseen := sorted(item.id for item in items if item.seen_at is None):
        db.execute(_SEEN, {"viewer": by.id, "now": now, "ids": unseen})


# Receipts are locked in the order of their ids, here and in every statement, or two tabs of one user could wait for
# each other.
_SEEN = text("""
    INSERT INTO notification_receipts AS r (user_id, notification_id, seen_at)
    SELECT :viewer, id, :now FROM unnest(CAST(:ids AS bigint[])) AS shown(id) ORDER BY id
    ON CONFLICT (user_id, notification_id) DO UPDATE SET seen_at = excluded.seen_at WHERE r.seen_at IS NULL
""")


def mark_read(db: Session, notification_id: int, *, by: Viewer, now: datetime) -> None:
    """Mark one notification as read; a second time changes nothing. Raises NotFound."""
    get(db, notification_id, by=by)
    if _mark(db, "read_at", notification_id, by, now):
        outbox.publish(db, NotificationRead(user_id=by.id, notification_ids=(notification_id,), read_at=now))
        unread.publish_counts(db, by.id)


def mark_archived(db: Session, notification_id: int, *, by: Viewer, now: datetime) -> None:
    """Archive one notification: it no longer counts as unread; a second time changes nothing. Raises NotFound."""
    get(db, notification_id, by=by)
    if _mark(db, "archived_at", notification_id, by, now):
        archived = NotificationArchived(user_id=by.id, role=None, notification_ids=(notification_id,), archived_at=now)
        outbox.publish(db, archived)
        unread.publish_counts(db, by.id)


def _mark(db: Session, column: Literal["read_at", "archived_at"], id_: int, by: Viewer, now: datetime) -> bool:
    """Set the time if it is not set (True: it was not); a notification read or archived counts as seen."""
    marked = db.execute(_MARKS[column], {"viewer": by.id, "id": id_, "now": now})
    return marked.one_or_none() is not None


_MARKS = {
    column: text(f"""
        INSERT INTO notification_receipts AS r (user_id, notification_id, seen_at, {column})
        VALUES (:viewer, :id, :now, :now)
        ON CONFLICT (user_id, notification_id)
            DO UPDATE SET {column} = excluded.{column}, seen_at = coalesce(r.seen_at, excluded.seen_at)
            WHERE r.{column} IS NULL
        RETURNING true
    """)  # noqa: S608 - the two columns above
    for column in ("read_at", "archived_at")
}


def read_all(db: Session, *, by: Viewer, now: datetime) -> int:
    """Mark all the viewer's unread notifications as read; returns how many there were."""
    given = {"viewer": by.id, "role": by.role, "now": now}
    ids = db.execute(_READ_ALL, given).scalars().all()
    for start in range(0, len(ids), _EVENT_IDS):
        ids_of_event = tuple(ids[start : start + _EVENT_IDS])
        outbox.publish(db, NotificationRead(user_id=by.id, notification_ids=ids_of_event, read_at=now))
    if ids:
        unread.publish_counts(db, by.id)
    return len(ids)


_READ_ALL = text(f"""
    INSERT INTO notification_receipts AS r (user_id, notification_id, seen_at, read_at)
    SELECT :viewer, id, :now, :now FROM ({_union(f"{_NOT_TURNED_OFF} {_BOXES['unread']}")}) AS unread ORDER BY id
    ON CONFLICT (user_id, notification_id)
        DO UPDATE SET read_at = excluded.read_at, seen_at = coalesce(r.seen_at, excluded.seen_at)
        WHERE r.read_at IS NULL AND r.archived_at IS NULL
    RETURNING notification_id
""")  # noqa: S608 - made of the constants above


def change_preferences(db: Session, given: Collection[PreferenceChange], *, by: Viewer) -> None:
    """Store the viewer's preferences. Categories turned off in the app leave the inbox, so the new count is pushed.

    Raises Invalid.
    """
    preferences.update(db, given, by=by)
    unread.publish_counts(db, by.id)
