"""The inbox and its preferences over HTTP, and notifications that staff write."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, Field

from api.deps import Create, Db, LastId, Out, Page, Pages, Viewer
from core import notifications, preferences
from core.clock import utcnow
from core.fields import Id, Input
from core.models import Role

router = APIRouter(prefix="/api", tags=["notifications"])

PathId = Annotated[Id, Path()]


class NotificationOut(Out):
    """A notification as its recipient sees it; with neither ``user_id`` nor ``role`` it went to everybody."""

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


class CreatedNotificationOut(Out):
    """A notification as its author sees it."""

    id: int
    status: str
    user_id: int | None
    role: Role | None
    category: str
    title: str
    body: str
    data: dict[str, Any]
    session_id: UUID | None
    created_by: int | None
    created_at: datetime
    not_before: datetime
    delivered_at: datetime | None
    expires_at: datetime | None


class AllRead(BaseModel):
    """How many notifications this request marked as read."""

    read: int


class UnreadCount(BaseModel):
    """How many notifications the viewer has not read."""

    unread: int
    last_id: int


class Preferences(BaseModel):
    """The viewer's preferences by category and channel; null: the category does not use that channel."""

    items: list[preferences.Preference]


class PreferencesPatch(Input):
    """Changes to preferences; categories that are not named stay as they are."""

    items: Annotated[tuple[preferences.PreferenceChange, ...], Field(max_length=200)]


@router.post("/notifications", status_code=201, response_model=CreatedNotificationOut)
def create_notification(given: notifications.NewNotification, create: Create) -> Response:
    """Notify a user, a role or everybody, at once or at a later time."""
    return create(
        lambda: CreatedNotificationOut.model_validate(
            notifications.create(create.db, given, by=create.viewer, now=utcnow())
        )
    )


@router.get("/notifications")
def list_notifications(
    db: Db, viewer: Viewer, pages: Pages, last_id: LastId, box: notifications.Box = "inbox"
) -> Page[NotificationOut]:
    """The viewer's notifications, newest first. What is listed counts as seen."""
    items = notifications.page(db, box, by=viewer, after=pages.after_id(), limit=pages.limit + 1)
    notifications.mark_seen(db, items[: pages.limit], by=viewer, now=utcnow())
    return pages.page(NotificationOut, items, last_id)


@router.get("/notifications/unread-count")
def count_unread(db: Db, viewer: Viewer, last_id: LastId) -> UnreadCount:
    """How many the viewer has not read."""
    return UnreadCount(unread=notifications.count(db, viewer.id), last_id=last_id)


@router.post("/notifications/read-all")
def read_all_notifications(db: Db, viewer: Viewer) -> AllRead:
    """Mark everything read."""
    return AllRead(read=notifications.read_all(db, by=viewer, now=utcnow()))


@router.get("/notifications/{notification_id}")
def read_notification(notification_id: PathId, db: Db, viewer: Viewer, last_id: LastId) -> NotificationOut:
    """One notification to the viewer."""
    return NotificationOut.model_validate(notifications.get(db, notification_id, by=viewer))


@router.post("/notifications/{notification_id}/read")
def mark_notification_read(notification_id: PathId, db: Db, viewer: Viewer) -> NotificationOut:
    """Mark one read."""
    notifications.mark_read(db, notification_id, by=viewer, now=utcnow())
    return NotificationOut.model_validate(notifications.get(db, notification_id, by=viewer))


@router.post("/notifications/{notification_id}/archive")
def archive_notification(notification_id: PathId, db: Db, viewer: Viewer) -> NotificationOut:
    """Archive one."""
    notifications.mark_archived(db, notification_id, by=viewer, now=utcnow())
    return NotificationOut.model_validate(notifications.get(db, notification_id, by=viewer))


@router.delete("/notifications/{notification_id}", status_code=204)
def withdraw_notification(notification_id: PathId, db: Db, viewer: Viewer) -> None:
    """Withdraw one that the viewer wrote: it is not delivered, or leaves every inbox. Admins may withdraw any."""
    notifications.withdraw(db, notification_id, by=viewer, now=utcnow())


@router.get("/preferences")
def read_preferences(db: Db, viewer: Viewer) -> Preferences:
    """The viewer's preferences, by category, in the app and by mail."""
    return Preferences(items=preferences.for_viewer(db, viewer))


@router.put("/preferences")
def change_preferences(given: PreferencesPatch, db: Db, viewer: Viewer) -> Preferences:
    """Turn categories on or off."""
    notifications.change_preferences(db, given.items, by=viewer)
    return Preferences(items=preferences.for_viewer(db, viewer))
