"""Telling people in tests, and asking what they heard of it."""

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import text

from core import notifications
from core.clock import utcnow
from core.db import transaction
from core.notifications import NewNotification, Notice, notify
from tests.support.factories import People


def new_notice(category: str = "completed", **more: Any) -> Notice:
    """Something to tell, with a key of its own."""
    return Notice(category=category, title="Title", body="Body", dedupe_key=str(uuid4()), **more)


def write(people: People, by: str = "admin", *, now: datetime | None = None, **given: Any) -> int:
    """A notification that somebody wrote; gives its id."""
    with transaction() as db:
        new = NewNotification(title="Hear, hear", **given)
        return notifications.create(db, new, by=people.viewer(by), now=now or utcnow()).id


def send_notices(*send_notices: Notice) -> int:
    """Tell it in a transaction; gives how many were new."""
    with transaction() as db:
        return notify(db, send_notices, now=utcnow())


def queue(people: People, role: str) -> str:
    """The user's queue as the log names it."""
    return f"/user/{people.ids[role]}/queue/notifications"


def unread(people: People, *roles: str) -> list[int]:
    """What the users with these roles have not read."""
    with transaction() as db:
        return [notifications.count(db, people.ids[role]) for role in roles]


def inbox(people: People, role: str, box: notifications.Box = "inbox") -> list[int]:
    """What is in the user's inbox, newest first."""
    with transaction() as db:
        return [item.id for item in notifications.page(db, box, by=people.viewer(role), after=0, limit=200)]


def pushed_to(people: People, role: str) -> list[Any]:
    """What came to the user's queue, shortened to kind and what matters."""
    with transaction() as db:
        rows = db.execute(
            text("SELECT type, payload FROM push_events WHERE destination = :d ORDER BY id"), {"d": queue(people, role)}
        )
        short: dict[str, Callable[[dict[str, Any]], Any]] = {
            "notification.created": lambda data: data["notification_id"],
            "notification.read": lambda data: data["notification_ids"],
            "notification.archived": lambda data: data["notification_ids"],
            "notification.unread": lambda data: data["unread"],
        }
        return [(kind.removeprefix("notification."), short[kind](data)) for kind, data in rows]


def receipts(notification_id: int) -> list[tuple[int, bool, bool, bool]]:
    """Who has a receipt of it, and whether they saw, read and archived it."""
    with transaction() as db:
        rows = db.execute(
            text("""
                SELECT user_id, seen_at IS NOT NULL, read_at IS NOT NULL, archived_at IS NOT NULL
                FROM notification_receipts WHERE notification_id = :id ORDER BY user_id
            """),
            {"id": notification_id},
        )
        return [tuple(row) for row in rows]
