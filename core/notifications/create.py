"""Notifications that staff write: to a user, a role or all, for now or later."""

from datetime import datetime
from typing import Annotated, cast
from uuid import UUID, uuid4

from pydantic import Field, StrictBool, StrictInt, StringConstraints
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core import outbox
from core.errors import Conflict, Invalid, NotFound
from core.fields import Id, Input, Line, Moment, Prose
from core.models import InterviewSession, Notification, Role, User
from core.notifications.notify import Delivery, deliver
from core.notifications.withdraw import WithdrawnNotification, publish_withdrawn
from core.viewers import STAFF, Viewer, require

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,49}$")]
_EXACT = Field(gt=-(2**53), lt=2**53, allow_inf_nan=False)
"""Numbers that JavaScript represents exactly."""
Fact = Prose | StrictBool | Annotated[StrictInt, _EXACT] | Annotated[float, _EXACT] | None


class NewNotification(Input):
    """A notification to create; with neither ``user_id`` nor ``role`` it is for all.

    With a ``dedupe_key`` it is created once, however often it is requested; ``data`` is for programs.
    """

    user_id: Id | None = None
    role: Role | None = None
    category: Slug = "announcement"
    title: Line
    body: Prose = ""
    data: dict[Line, Fact] = Field(default_factory=dict, max_length=50)
    session_id: UUID | None = None
    not_before: Moment | None = None
    expires_at: Moment | None = None
    dedupe_key: Line | None = None


def create(db: Session, given: NewNotification, *, by: Viewer, now: datetime) -> Notification:
    """Create a notification: delivered at once, or pending until its ``not_before``.

    When its dedupe key was used before, returns the notification created then. Raises Forbidden and Invalid.
    """
    require(by, *STAFF)
    _check(db, given, now)
    due = given.not_before is None or given.not_before <= now
    # Prefixed, so that no client can use up a key of the system's own notifications.
    key = f"api/{given.dedupe_key}" if given.dedupe_key else f"made/{uuid4()}"
    n = Notification
    inserted = db.scalar(
        insert(n)
        .values(
            **given.model_dump(exclude={"not_before", "dedupe_key"}),
            created_by=by.id,
            not_before=given.not_before or now,
            status="delivered" if due else "pending",
            delivered_at=now if due else None,
            dedupe_key=key,
        )
        .on_conflict_do_nothing(index_elements=["dedupe_key"])
        .returning(n.id)
    )
    row = db.scalars(select(n).where(n.dedupe_key == key).execution_options(populate_existing=True)).one()
    if inserted is not None and due:
        deliver(db, [to_delivery(row)], now=now)
    if inserted is not None and (row.status == "pending" or row.expires_at):
        outbox.wake(db)
    return row


def to_delivery(row: Notification) -> Delivery:
    """The Delivery of a notification that becomes visible."""
    return Delivery(
        row.id,
        row.user_id,
        cast(Role | None, row.role),
        row.category,
        row.title,
        row.body,
        row.data,
        row.session_id,
        row.expires_at,
    )


def withdraw(db: Session, notification_id: int, *, by: Viewer, now: datetime) -> None:
    """Withdraw a notification that staff wrote: it is not delivered, or it leaves every inbox.

    Raises Forbidden, NotFound (for a recruiter also when somebody else wrote it), and Conflict when it was withdrawn
    before or has expired.
    """
    require(by, *STAFF)
    n = Notification
    query = select(n).where(n.id == notification_id, n.created_by.is_not(None))
    if by.role != "admin":
        query = query.where(n.created_by == by.id)
    row = db.scalar(query.with_for_update(key_share=True).execution_options(populate_existing=True))
    if row is None:
        raise NotFound("notification", notification_id)
    if row.status not in ("pending", "delivered"):
        raise Conflict(f"Notification {row.id} is {row.status} already.", old=row.status)
    previous, row.status, row.deleted_at = row.status, "cancelled", now
    db.flush()
    if previous == "delivered":
        publish_withdrawn(db, [WithdrawnNotification(row.id, row.user_id, cast(Role | None, row.role))], now=now)


def _check(db: Session, given: NewNotification, now: datetime) -> None:
    if given.user_id is not None:
        if given.role is not None:
            raise Invalid("role", "goes without user_id: a notification is for one user, for a role, or for all")
        if not db.scalar(select(User.id).where(User.id == given.user_id, User.deleted_at.is_(None))):
            raise Invalid("user_id", f"there is no user {given.user_id}")
    if given.session_id is not None and db.get(InterviewSession, given.session_id) is None:
        raise Invalid("session_id", f"there is no session {given.session_id}")
    if given.expires_at is not None and given.expires_at <= max(now, given.not_before or now):
        raise Invalid("expires_at", f"{given.expires_at.isoformat()} leaves no time to read it")
