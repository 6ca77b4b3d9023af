"""SessionDetails: all that mails need to know of a session, read by one query, for one session or a thousand."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from core.emails.draft import Recipient
from core.models import Candidate, Interview, InterviewSession, SessionStatus, User


class Recruiter(NamedTuple):
    """The recruiter named in mails; ``deleted`` when their user was deleted."""

    name: str
    address: str
    deleted: bool


class SessionDetails(NamedTuple):
    """A session's data for its mails; ``interviewer`` is None when only the AI asks."""

    session_id: UUID
    status: SessionStatus
    title: str
    position: str
    duration_minutes: int
    resume_minutes: int
    feedback_deadline_hours: int
    scheduled_start: datetime | None
    scheduled_end: datetime | None
    schedule_version: int
    invitation_expires_at: datetime | None
    ended_at: datetime | None
    ics_uid: str
    ics_sequence: int
    candidate: Recipient
    interviewer: Recipient | None
    recruiter: Recruiter | None

    def recipient(self, party: Literal["candidate", "interviewer"]) -> Recipient | None:
        """The recipient of a mail to that party; None: there is nobody."""
        return self.candidate if party == "candidate" else self.interviewer

    @property
    def reply_to(self) -> str | None:
        """The Reply-To address: the recruiter's, unless their user was deleted."""
        return self.recruiter.address if self.recruiter and not self.recruiter.deleted else None


_s, _i, _c = InterviewSession, Interview, Candidate
_interviewer, _recruiter = aliased(User), aliased(User)

_DETAILS = (
    select(
        _s.id,
        _s.status,
        _i.title,
        _i.position,
        _i.duration_minutes,
        _i.resume_minutes,
        _i.feedback_deadline_hours,
        _s.scheduled_start,
        _s.scheduled_end,
        _s.schedule_version,
        _s.invitation_expires_at,
        _s.ended_at,
        _s.ics_uid,
        _s.ics_sequence,
        _c.email,
        _c.name,
        _c.timezone,
        _c.user_id,
        _interviewer.id,
        _interviewer.email,
        _interviewer.name,
        _interviewer.timezone,
        _recruiter.email,
        _recruiter.name,
        _recruiter.deleted_at,
    )
    .join(_i, _i.id == _s.interview_id)
    .join(_c, _c.id == _s.candidate_id)
    .outerjoin(_interviewer, (_interviewer.id == _s.interviewer_id) & _interviewer.deleted_at.is_(None))
    .outerjoin(_recruiter, _recruiter.id == _s.recruiter_id)
)


def session_details(db: Session, session_ids: Sequence[UUID]) -> dict[UUID, SessionDetails]:
    """The details of these sessions as this transaction sees them, by one query; unknown ids are absent."""
    if not session_ids:
        return {}
    db.flush()
    found = db.execute(_DETAILS.where(_s.id.in_(session_ids)))
    return {row[0]: _from_row(row) for row in found}


def _from_row(row: Any) -> SessionDetails:
    *facts, c_to, c_name, c_zone, c_user, i_id, i_to, i_name, i_zone, r_to, r_name, r_deleted = row
    candidate = Recipient(c_to, c_name, c_zone, "candidate", c_user)
    interviewer = Recipient(i_to, i_name, i_zone, "interviewer", i_id) if i_id is not None else None
    recruiter = Recruiter(r_name, r_to, r_deleted is not None) if r_to else None
    return SessionDetails._make((*facts, candidate, interviewer, recruiter))


def party_of(about: SessionDetails, recipient: Recipient) -> Literal["candidate", "interviewer", "former"]:
    """The recipient's part in the session: an interviewer who was replaced or removed is ``former``."""
    if recipient.party != "interviewer":
        return "candidate"
    now = about.interviewer
    same = now is not None and (now.user_id, now.address) == (recipient.user_id, recipient.address)
    return "interviewer" if same else "former"
