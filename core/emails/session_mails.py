"""The mails about sessions, each kind one call in the caller's transaction; a repeated call queues nothing new.

Callers that change a session hold its lock; rendering reads it as this transaction left it.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Literal, NamedTuple
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from core.emails.content import SessionDetails, render, render_generic, session_details
from core.emails.draft import Attachment, Draft, Recipient
from core.emails.kinds import FOLLOW_SCHEDULE, KINDS, EmailKind
from core.emails.queue.enqueue import NewMail, QueuedMail, enqueue
from core.errors import Invalid, NotFound
from core.models import User

SessionParty = Literal["candidate", "interviewer"]
PARTIES: tuple[SessionParty, ...] = ("candidate", "interviewer")


def session_key(kind: EmailKind, session_id: UUID, version: int, recipient: Recipient, *more: str | int) -> str:
    """The key by which a session's mail is queued once for each schedule and recipient."""
    who = recipient.party if recipient.party == "candidate" else f"{recipient.party}-{recipient.user_id}"
    return "/".join(map(str, (kind, session_id, version, who, *more)))


def queue_email(
    db: Session,
    to: Recipient,
    *,
    subject: str,
    text: str,
    now: datetime,
    key: str | None = None,
    html: str | None = None,
    reply_to: str | None = None,
    attachments: tuple[Attachment, ...] = (),
    expires_at: datetime | None = None,
) -> QueuedMail:
    """Queue a mail with a given text. Raises Invalid for an invalid address."""
    draft = render_generic(to, subject=subject, text=text, html=html, reply_to=reply_to, attachments=attachments)
    return enqueue(db, [NewMail(draft, key, to.user_id, expires_at=expires_at)], now=now)[0]


def queue_interview_invitation(db: Session, session_id: UUID, *, now: datetime) -> list[QueuedMail]:
    """Invite both parties to an invited or a scheduled session: once while it is invited, once when it is scheduled."""
    a = _details(db, session_id)
    return enqueue(db, [_invitation(a, recipient, now) for recipient in _recipients(a)], now=now)


def queue_interview_reschedule(
    db: Session,
    session_id: UUID,
    *,
    now: datetime,
    previous_start: datetime | None,
    previous_interviewer_id: int | None,
    missed: Collection[str] = (),
    reason: str | None = None,
) -> list[QueuedMail]:
    """Mail the session's new time: a new interviewer is invited, the replaced one gets a removal notice.

    For a session that still has no time, the candidate gets no mail, unless they ``missed`` their invitation because it
    was withdrawn.
    """
    a = _details(db, session_id)
    replaced = a.interviewer is None or a.interviewer.user_id != previous_interviewer_id
    mails: list[NewMail] = []
    for party in PARTIES:
        recipient = a.recipient(party)
        if recipient is None:
            continue
        new = party == "interviewer" and replaced
        if new or (a.scheduled_start is None and recipient.address in missed):
            mails.append(_invitation(a, recipient, now))
        elif a.scheduled_start is not None:
            render_to = partial(render, "reschedule", a, now=now, previous_start=previous_start, reason=reason)
            mails.append(session_mail("reschedule", a, recipient, now, render_to=render_to, expires_at=a.scheduled_end))
    if replaced:
        mails += _removal_notice(db, a, previous_interviewer_id, now)
    return enqueue(db, mails, now=now)


def queue_removal_notice(
    db: Session, session_id: UUID, interviewer_id: int | None, *, now: datetime
) -> list[QueuedMail]:
    """Mail an interviewer who was replaced or removed, with a cancellation of their calendar event."""
    return enqueue(db, list(_removal_notice(db, _details(db, session_id), interviewer_id, now)), now=now)


def queue_interview_cancellation(
    db: Session, session_id: UUID, *, now: datetime, reason: str | None = None
) -> list[QueuedMail]:
    """Mail both parties that the session will not take place."""
    a = _details(db, session_id)
    render_to = partial(render, "cancellation", a, now=now, reason=reason)
    return enqueue(
        db,
        [session_mail("cancellation", a, recipient, now, render_to=render_to) for recipient in _recipients(a)],
        now=now,
    )


class ReminderMail(NamedTuple):
    """A reminder to mail: of which session, to which party, how long before it; not sent after ``send_by``."""

    about: SessionDetails
    to: SessionParty
    offset_minutes: int
    send_by: datetime


def queue_interview_reminder(
    db: Session, session_id: UUID, *, to: SessionParty, offset_minutes: int, send_by: datetime, now: datetime
) -> QueuedMail | None:
    """Remind one party of the session, once for each offset of a schedule; not sent after ``send_by``.

    Returns None when the session has no such party.
    """
    mail = ReminderMail(_details(db, session_id), to, offset_minutes, send_by)
    return queue_interview_reminders(db, [mail], now=now)[0]


def queue_interview_reminders(db: Session, given: Sequence[ReminderMail], *, now: datetime) -> list[QueuedMail | None]:
    """Queue many reminders, a thousand in as many statements as one; None where the session has no such party."""
    recipients = [one.about.recipient(one.to) for one in given]
    mails = [
        session_mail("reminder", one.about, recipient, now, more=(one.offset_minutes,), expires_at=one.send_by)
        for one, recipient in zip(given, recipients, strict=True)
        if recipient is not None
    ]
    queued = iter(enqueue(db, mails, now=now))
    return [None if recipient is None else next(queued) for recipient in recipients]


def queue_interview_complete(db: Session, session_ids: Sequence[UUID], *, now: datetime) -> list[QueuedMail]:
    """Mail the candidates of completed sessions their thanks, a thousand in as many statements as one."""
    found = session_details(db, session_ids)
    mails = [session_mail("completion", a, a.candidate, now) for id_ in session_ids if (a := found.get(id_))]
    return enqueue(db, mails, now=now)


_WITHDRAW = text("""
    UPDATE emails SET
        status = CASE WHEN uncertain_at IS NULL THEN 'cancelled' ELSE 'uncertain' END,
        retry_at = NULL, lease_owner = NULL, lease_until = NULL, last_error = :why
    WHERE id IN (
        SELECT id FROM emails
        WHERE session_id = :session_id AND kind = ANY(:kinds) AND (
            status IN ('queued', 'sending') AND data_started_at IS NULL OR status = 'uncertain' AND retry_at IS NOT NULL
        )
        ORDER BY id FOR UPDATE
    )
    RETURNING to_address
""")
"""Locks several mails in the order of their ids, as everywhere; conditions are checked again under the locks."""


def withdraw(db: Session, session_id: UUID, *, why: str) -> list[str]:
    """Cancel unsent mails about a schedule that no longer holds; returns the addresses that will not get them.

    The caller holds the session's lock. A mail whose data is being sent can no longer be stopped; an uncertain one
    stays uncertain, and is not retried.
    """
    given = {"session_id": session_id, "kinds": list(FOLLOW_SCHEDULE), "why": why}
    return list(db.scalars(_WITHDRAW, given))


RenderTo = Callable[[Recipient], Draft]


def _details(db: Session, session_id: UUID) -> SessionDetails:
    found = session_details(db, [session_id]).get(session_id)
    if found is None:
        raise NotFound("session", session_id)
    return found


def _recipients(a: SessionDetails) -> Iterator[Recipient]:
    return (recipient for party in PARTIES if (recipient := a.recipient(party)))


def _invitation(a: SessionDetails, recipient: Recipient, now: datetime) -> NewMail:
    return session_mail("invitation", a, recipient, now, more=(a.status,), expires_at=valid_until("invitation", a))


def valid_until(kind: EmailKind, a: SessionDetails) -> datetime | None:
    """When a mail of this kind about the session is over; None: never."""
    moments = {"start": a.scheduled_start, "end": a.scheduled_end or a.invitation_expires_at, None: None}
    return moments[KINDS[kind].valid_until]


def session_mail(
    kind: EmailKind,
    a: SessionDetails,
    recipient: Recipient,
    now: datetime,
    *,
    render_to: RenderTo | None = None,
    more: tuple[str | int, ...] = (),
    expires_at: datetime | None = None,
    key: bool = True,
) -> NewMail:
    """A session's mail to one recipient.

    A mail to an invalid address is stored as dead, so that the change that caused it can commit.
    """
    problem = None
    try:
        draft = render_to(recipient) if render_to else render(kind, a, recipient, now=now)
    except Invalid as error:
        problem = str(error)
        draft = Draft(kind, recipient.address, recipient.name, a.reply_to, f"{a.title}: {kind}", "", None, "generic")
    return NewMail(
        draft,
        key=session_key(kind, a.session_id, a.schedule_version, recipient, *more) if key else None,
        user_id=recipient.user_id,
        session_id=a.session_id,
        schedule_version=a.schedule_version,
        expires_at=expires_at,
        problem=problem,
    )


def _removal_notice(db: Session, a: SessionDetails, interviewer_id: int | None, now: datetime) -> Iterator[NewMail]:
    user = interviewer_id and db.scalar(select(User).where(User.id == interviewer_id, User.deleted_at.is_(None)))
    if user:
        former = Recipient(user.email, user.name, user.timezone, "interviewer", user.id)
        # its own key: an interviewer who gets the session back must get its cancellation too
        yield session_mail("cancellation", a, former, now, more=("replaced",))
