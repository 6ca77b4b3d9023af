"""Mails over HTTP: queue, list, read, retry and cancel."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from pydantic import Field
from sqlalchemy.orm import Session

from api.deps import Create, Db, LastId, Out, Page, Pages, Viewer
from core import emails
from core.clock import utcnow
from core.emails.kinds import EmailKind
from core.models import EmailStatus
from core.viewers import Viewer as Viewing

router = APIRouter(prefix="/api/emails", tags=["emails"])


class EmailOut(Out):
    """A mail and its status; ``due_at`` is the time of the next attempt."""

    id: UUID
    kind: EmailKind
    status: EmailStatus
    category: str
    priority: int
    on_demand: bool
    session_id: UUID | None
    schedule_version: int | None
    requested_by: int | None
    to_address: str
    to_name: str | None
    reply_to: str | None
    subject: str
    message_id: str
    due_at: datetime
    expires_at: datetime | None
    attempts: int
    last_error: str | None
    created_at: datetime
    sent_at: datetime | None


class AttachmentOut(Out):
    """A file that goes with a mail; ``size`` in bytes."""

    filename: str
    content_type: str
    size: int


class EmailFull(EmailOut):
    """A mail with its content; the bodies are null once retention has removed them."""

    text_body: str | None
    html_body: str | None
    headers: dict[str, Any]
    attachments: Annotated[list[AttachmentOut], Field(default_factory=list)]


def _full(db: Session, email_id: UUID, viewer: Viewing) -> EmailFull:
    mail, files = emails.get(db, email_id, by=viewer)
    shown = EmailFull.model_validate(mail)
    return shown.model_copy(update={"attachments": [AttachmentOut.model_validate(file) for file in files]})


@router.post("", status_code=202, response_model=EmailOut)
def queue_email(given: emails.NewEmail, create: Create) -> Response:
    """Queue a mail: a text of one's own, or a session's mail to its candidate or interviewer again."""

    def make() -> EmailOut:
        queued = emails.queue_on_demand(create.db, given, by=create.viewer, now=utcnow())
        return EmailOut.model_validate(emails.get(create.db, queued.id, by=create.viewer)[0])

    return create(make, status=202)


def _filter(
    status: Annotated[list[EmailStatus] | None, Query()] = None,
    kind: Annotated[list[EmailKind] | None, Query()] = None,
    session_id: UUID | None = None,
) -> emails.EmailFilter:
    return emails.EmailFilter(status=tuple(status or ()), kind=tuple(kind or ()), session_id=session_id)


Filter = Annotated[emails.EmailFilter, Depends(_filter)]


@router.get("")
def list_emails(db: Db, viewer: Viewer, where: Filter, pages: Pages, last_id: LastId) -> Page[EmailOut]:
    """Mails, newest first; ``status=dead&status=uncertain`` are those that need attention."""
    rows = emails.page(db, where, by=viewer, after=pages.after_uuid(), limit=pages.limit + 1)
    return pages.page(EmailOut, rows, last_id)


@router.get("/{email_id}")
def read_email(email_id: UUID, db: Db, viewer: Viewer) -> EmailFull:
    """One mail, with its content."""
    return _full(db, email_id, viewer)


@router.post("/{email_id}/retry")
def retry_email(email_id: UUID, db: Db, viewer: Viewer) -> EmailFull:
    """Queue a dead or uncertain mail again."""
    emails.retry(db, email_id, by=viewer, now=utcnow())
    return _full(db, email_id, viewer)


@router.post("/{email_id}/cancel")
def cancel_email(email_id: UUID, db: Db, viewer: Viewer) -> EmailFull:
    """Cancel a mail that was not sent to the mail server yet."""
    emails.cancel(db, email_id, by=viewer)
    return _full(db, email_id, viewer)
