"""Mails for staff: list, read, retry and cancel."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session, defer

from core import outbox
from core.emails.kinds import FOLLOW_SCHEDULE, EmailKind
from core.emails.queue.suppressions import find_suppressed
from core.errors import Conflict, NotFound
from core.fields import Input
from core.models import Email, EmailAttachment, EmailStatus, InterviewSession
from core.viewers import STAFF, Viewer, require


class EmailFilter(Input):
    """Which mails to list; those that need attention are ``dead`` and ``uncertain``."""

    status: tuple[EmailStatus, ...] = ()
    kind: tuple[EmailKind, ...] = ()
    session_id: UUID | None = None


class AttachmentInfo(NamedTuple):
    """An attachment without its content; ``size`` in bytes."""

    filename: str
    content_type: str
    size: int


def page(db: Session, where: EmailFilter, *, by: Viewer, after: UUID | None, limit: int) -> Sequence[Email]:
    """Mails without their bodies, newest first, after the given one. Raises Forbidden."""
    require(by, *STAFF)
    bodies = [defer(column, raiseload=True) for column in (Email.text_body, Email.html_body, Email.headers)]
    query = select(Email).options(*bodies).order_by(Email.id.desc()).limit(limit)
    if after is not None:
        query = query.where(Email.id < after)
    if where.status:
        query = query.where(Email.status.in_(where.status))
    if where.kind:
        query = query.where(Email.kind.in_(where.kind))
    if where.session_id is not None:
        query = query.where(Email.session_id == where.session_id)
    return db.scalars(query).all()


def get(db: Session, email_id: UUID, *, by: Viewer) -> tuple[Email, Sequence[AttachmentInfo]]:
    """One mail with its rendered contents. Raises Forbidden and NotFound."""
    require(by, *STAFF)
    found = db.scalar(select(Email).where(Email.id == email_id).execution_options(populate_existing=True))
    if found is None:
        raise NotFound("email", email_id)
    a = EmailAttachment
    sizes = select(a.filename, a.content_type, func.length(a.content)).where(a.email_id == email_id)
    return found, [AttachmentInfo._make(row) for row in db.execute(sizes.order_by(a.ordinal))]


def retry(db: Session, email_id: UUID, *, by: Viewer, now: datetime) -> None:
    """Queue a dead or uncertain mail again, with the same Message-ID; attempts are counted from 1 again.

    Raises Forbidden, NotFound, and Conflict when it has another status, has expired, its text was pruned, its session
    has another schedule now, or its address is suppressed.
    """
    require(by, *STAFF)
    mail = _lock(db, email_id)
    if mail.status not in ("dead", "uncertain"):
        raise _refuse(mail, "only a dead or uncertain mail can be retried")
    if mail.expires_at is not None and mail.expires_at <= now:
        raise _refuse(mail, f"it expired at {mail.expires_at.isoformat()}")
    if mail.text_body is None:
        raise _refuse(mail, "its text is no longer kept")
    if mail.kind in FOLLOW_SCHEDULE and mail.session_id is not None:
        s = db.get_one(InterviewSession, mail.session_id, populate_existing=True)
        if s.schedule_version != mail.schedule_version:
            raise _refuse(mail, f"session {s.id} was rescheduled")
        if s.status not in ("invited", "scheduled") or s.deleted_at is not None:
            raise _refuse(mail, f"session {s.id} is {s.status}")
    if reason := find_suppressed(db, [(mail.to_address, mail.category)]).get(0):
        raise _refuse(mail, f"its address gets no more mail ({reason})")
    mail.status, mail.due_at = "queued", now
    mail.attempts = 0
    mail.lease_owner = mail.lease_until = mail.data_started_at = mail.retry_at = None
    db.flush()
    outbox.wake(db)


def cancel(db: Session, email_id: UUID, *, by: Viewer) -> None:
    """Cancel a mail that is queued, or being sent and not yet at DATA.

    Raises Forbidden, NotFound, and Conflict, naming the status, when it is too late.
    """
    require(by, *STAFF)
    mail = _lock(db, email_id)
    if mail.status not in ("queued", "sending") or mail.data_started_at is not None:
        begun = mail.status == "sending"
        raise _refuse(mail, "its data is being sent" if begun else "only a queued mail can be cancelled")
    mail.status = "cancelled"
    mail.lease_owner = mail.lease_until = None
    db.flush()


def _lock(db: Session, email_id: UUID) -> Email:
    """The mail, locked after its session, as everywhere."""
    session_id = select(Email.session_id).where(Email.id == email_id).scalar_subquery()
    db.execute(select(InterviewSession.id).where(InterviewSession.id == session_id).with_for_update(read=True))
    query = select(Email).where(Email.id == email_id).with_for_update()
    found = db.scalar(query.execution_options(populate_existing=True))
    if found is None:
        raise NotFound("email", email_id)
    return found


def _refuse(mail: Email, why: str) -> Conflict:
    return Conflict(f"Email {mail.id} is {mail.status}: {why}.", email_id=mail.id, old=mail.status)
