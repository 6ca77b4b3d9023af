"""Mails that staff request: with a text of their own, or a session's mail to its candidate or interviewer once more."""

import re
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints
from sqlalchemy import select
from sqlalchemy.orm import Session

from core.emails.addresses import envelope
from core.emails.content import render_generic, session_details
from core.emails.draft import Attachment, Recipient
from core.emails.kinds import KINDS, OnDemandKind
from core.emails.queue.enqueue import NewMail, QueuedMail, enqueue
from core.emails.session_mails import SessionParty, session_mail, valid_until
from core.errors import Conflict, Invalid, NotFound
from core.fields import Address, Input, Line, no_controls
from core.models import InterviewSession
from core.viewers import STAFF, Viewer, require

MAX_ATTACHMENT_BYTES = 10 * 1024 * 1024
"""Bytes of all attachments of a mail together; many servers accept no more."""

_TYPE = re.compile(
    r"(?!multipart/|message/)[a-z0-9][a-z0-9.+-]{0,60}/[a-z0-9][a-z0-9.+-]{0,80}(; ?[a-z-]+=[\w.-]+)*", re.I
)


def _decode_base64(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return b64decode(value, validate=True)
    except (NotBase64, ValueError):
        raise ValueError("is not base64") from None


def _content_type(value: str) -> str:
    if not _TYPE.fullmatch(value):
        raise ValueError("is no content type of a file; write it like application/pdf")
    return value


MailText = Annotated[str, StringConstraints(min_length=1, max_length=200_000), AfterValidator(no_controls)]
"""The text of a mail: at most 200,000 characters."""


class NewAttachment(Input):
    """A file to attach; ``content`` is base64."""

    filename: Line
    content_type: Annotated[str, AfterValidator(_content_type)] = "application/octet-stream"
    content: Annotated[bytes, BeforeValidator(_decode_base64)]


class NewEmail(Input):
    """A mail to send: ``generic`` with address, subject and text, the other kinds with the session they are about."""

    kind: OnDemandKind
    to: Address | None = None
    subject: Line | None = None
    text: MailText | None = None
    html: MailText | None = None
    attachments: Annotated[tuple[NewAttachment, ...], Field(max_length=20)] = ()
    session_id: UUID | None = None
    recipient: SessionParty | None = Field(None, description="of a session's mail; the candidate unless given")


_GENERIC_FIELDS = ("to", "subject", "text", "html", "attachments")
_SESSION_FIELDS = ("session_id", "recipient")


def queue_on_demand(db: Session, given: NewEmail, *, by: Viewer, now: datetime) -> QueuedMail:
    """Queue a mail that staff request, each time they request it.

    Raises Forbidden, Invalid, NotFound, QueueFull, and Conflict when the session's state or time makes the mail untrue.
    """
    require(by, *STAFF)
    if given.kind == "generic":
        _check_fields(given, _SESSION_FIELDS, needed=("to", "subject", "text"))
        mail = _generic_mail(given, by)
    else:
        _check_fields(given, _GENERIC_FIELDS, needed=("session_id",))
        mail = _session_mail(db, given, now)
    return enqueue(db, [mail], now=now, requested_by=by.id, on_demand=True)[0]


def _check_fields(given: NewEmail, unused: Iterable[str], *, needed: Iterable[str]) -> None:
    for name in unused:
        if getattr(given, name):
            raise Invalid(name, f"does not go with kind {given.kind}")
    for name in needed:
        if getattr(given, name) is None:
            raise Invalid(name, f"is needed for kind {given.kind}")


def _generic_mail(given: NewEmail, by: Viewer) -> NewMail:
    assert given.to and given.subject and given.text  # noqa: S101, PT018 - by _check_fields
    if sum(len(file.content) for file in given.attachments) > MAX_ATTACHMENT_BYTES:
        raise Invalid("attachments", f"are more than {MAX_ATTACHMENT_BYTES} bytes together")
    files = tuple(Attachment(file.filename, file.content_type, file.content) for file in given.attachments)
    try:
        envelope(given.to)
    except Invalid as error:
        raise Invalid("to", error.reason) from None
    draft = render_generic(
        Recipient(given.to),
        subject=given.subject,
        text=given.text,
        html=given.html,
        reply_to=by.email,
        attachments=files,
    )
    return NewMail(draft)


def _session_mail(db: Session, given: NewEmail, now: datetime) -> NewMail:
    s = InterviewSession
    # A shared lock: a concurrent reschedule waits until this mail is visible to it, and can be cancelled.
    query = select(s.status).where(s.id == given.session_id, s.deleted_at.is_(None)).with_for_update(read=True)
    status = db.scalar(query)
    found = session_details(db, [given.session_id]).get(given.session_id) if status and given.session_id else None
    if found is None:
        raise NotFound("session", given.session_id)
    kind = KINDS[given.kind]
    allowed = kind.on_demand_in
    if status not in allowed:
        raise Conflict(
            f"Session {found.session_id} is {status}; a mail of kind {given.kind} goes with {' or '.join(allowed)}.",
            session_id=found.session_id,
            old=status,
        )
    until = valid_until(given.kind, found)
    if until is not None and until <= now:
        raise Conflict(
            f"Session {found.session_id} has started or expired: it is too late for a mail of kind {given.kind}.",
            session_id=found.session_id,
            old=status,
        )
    recipient = found.recipient(given.recipient or "candidate")
    if recipient is None:
        raise Invalid("recipient", f"session {found.session_id} has no interviewer")
    if recipient.party not in kind.parties:
        raise Invalid("recipient", f"a {given.kind} goes to the {' and the '.join(kind.parties)}")
    mail = session_mail(given.kind, found, recipient, now, expires_at=until, key=False)
    if mail.problem:
        raise Conflict(f"The {recipient.party}'s address cannot be used: {mail.problem}.", session_id=found.session_id)
    return mail
