"""Schedules and reschedules a session (its time and its interviewer), and changes its other fields."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from core import outbox, reminders
from core.errors import Conflict, IllegalMove, Invalid
from core.events import SessionRescheduled, SessionUpdated
from core.fields import Id, Input, Moment, Prose
from core.models import InterviewSession, SessionEvent, User
from core.notifications import notify
from core.sessions.apply_moves import Move, planned_end, write_moves
from core.sessions.conflicts import translate_conflicts
from core.sessions.deadlines import next_check
from core.sessions.mails import mail_removal, mail_rescheduled
from core.sessions.moves import ENDED
from core.sessions.notices import removal_notices, reschedule_notices
from core.sessions.snapshot import SessionSnapshot, lock, with_interviewer
from core.viewers import STAFF, Viewer, require


class SessionPatch(Input):
    """The fields of a session that may be changed; a new start or interviewer is a reschedule."""

    scheduled_start: Moment | None = None
    interviewer_id: Id | None = None
    invitation_expires_at: Moment | None = None
    decision: Literal["advance", "reject", "hold"] | None = None
    legal_hold: bool | None = None
    reason: Prose | None = None


def change(db: Session, session_id: UUID, given: SessionPatch, *, by: Viewer, now: datetime) -> None:
    """Reschedule a session, or change fields that are neither its status nor its schedule.

    A start given to an invited session schedules it. Raises Forbidden, NotFound, Invalid and Conflict.
    """
    require(by, *STAFF)
    s = lock(db, session_id)
    fields = given.model_fields_set - {"reason"}
    if not fields:
        raise Invalid("body", "names nothing to change")
    _change_details(db, s, given, fields, by=by, now=now)
    if fields & {"scheduled_start", "interviewer_id"}:
        interviewer = given.interviewer_id if "interviewer_id" in fields else s.interviewer_id
        start = given.scheduled_start if "scheduled_start" in fields else s.scheduled_start
        if s.status == "invited" and start is not None:
            schedule(
                db,
                s,
                start,
                interviewer,
                by=by,
                actor="admin" if by.role == "admin" else "recruiter",
                reason=given.reason,
                now=now,
            )
        else:
            reschedule(db, s, start, interviewer, by=by, reason=given.reason, now=now)


def schedule(
    db: Session,
    s: SessionSnapshot,
    start: datetime,
    interviewer_id: int | None,
    *,
    by: Viewer,
    actor: Literal["candidate", "recruiter", "admin"],
    reason: str | None = None,
    now: datetime,
) -> None:
    """Schedule an invited, locked session. Raises IllegalMove (the invitation expired), Invalid, DoubleBooked."""
    if s.invitation_expires_at and now >= s.invitation_expires_at:
        raise IllegalMove(s.id, s.status, "scheduled", "its invitation has expired")
    check_future("scheduled_start", start, now)
    check_interviewer(db, interviewer_id)
    end = planned_end(s, start)
    planned = with_interviewer(db, s, interviewer_id)._replace(scheduled_start=start, scheduled_end=end)
    with translate_conflicts(db, s.id, s.candidate_id, s.interview_id, busy=(interviewer_id, start, end)):
        set_columns(db, s, interviewer_id=interviewer_id)
        write_moves(db, [Move(planned, "scheduled", actor, by.id, reason)], now=now)
    mail_removal(db, s, interviewer_id, now=now)
    notify(db, list(removal_notices(s, interviewer_id, now=now)), now=now)


def reschedule(
    db: Session,
    s: SessionSnapshot,
    start: datetime | None,
    interviewer_id: int | None,
    *,
    by: Viewer,
    reason: str | None,
    now: datetime,
) -> None:
    """Give a locked session another time or interviewer; the row, its links and its ICS UID stay.

    Raises Conflict when the session is neither invited nor scheduled, Invalid and DoubleBooked.
    """
    if s.status not in ("invited", "scheduled"):
        raise Conflict(
            f"Session {s.id} is {s.status}; only an invited or scheduled session can be rescheduled.", old=s.status
        )
    if start is None and s.status == "scheduled":
        raise Invalid("scheduled_start", "a scheduled session needs a time; cancel it instead")
    if (start, interviewer_id) == (s.scheduled_start, s.interviewer_id):
        return  # nothing changes: no new version, no mails
    if start != s.scheduled_start:
        check_future("scheduled_start", start, now)
    check_interviewer(db, interviewer_id)
    end = planned_end(s, start) if start else None
    new = with_interviewer(db, s, interviewer_id)._replace(
        scheduled_start=start,
        scheduled_end=end,
        schedule_version=s.schedule_version + 1,
    )
    with translate_conflicts(db, s.id, s.candidate_id, s.interview_id, busy=(interviewer_id, start, end)):
        set_columns(
            db,
            s,
            interviewer_id=interviewer_id,
            scheduled_start=start,
            scheduled_end=end,
            schedule_version=new.schedule_version,
            ics_sequence=InterviewSession.ics_sequence + 1,
            sweep_at=next_check(new),
        )
    data = {
        "scheduled_start": start.isoformat() if start else None,
        "previous_start": s.scheduled_start.isoformat() if s.scheduled_start else None,
        "interviewer_id": interviewer_id,
        "previous_interviewer_id": s.interviewer_id,
        "schedule_version": new.schedule_version,
    }
    record(db, s, "rescheduled", by, now, reason=reason, data=data)
    reminders.replan(db, s.id, now=now)
    mail_rescheduled(db, s, now=now, reason=reason)
    if start is None or end is None:
        outbox.publish(db, SessionUpdated(session_id=s.id, changed=("interviewer_id",)))
        notify(db, list(reschedule_notices(s, new, now=now)), now=now)
        return
    outbox.publish(
        db,
        SessionRescheduled(
            session_id=s.id,
            status=s.status,
            interviewer_id=interviewer_id,
            scheduled_start=start,
            scheduled_end=end,
            schedule_version=new.schedule_version,
        ),
    )
    notify(db, list(reschedule_notices(s, new, now=now)), now=now)


def _change_details(
    db: Session, s: SessionSnapshot, given: SessionPatch, fields: set[str], *, by: Viewer, now: datetime
) -> None:
    values: dict[str, Any] = {}
    changed: dict[str, Any] = {}
    if "legal_hold" in fields:
        if given.legal_hold is None:
            raise Invalid("legal_hold", "must be true or false")
        values["legal_hold"] = changed["legal_hold"] = given.legal_hold
    if "decision" in fields:
        if s.status not in ENDED:
            raise Conflict(f"Session {s.id} is {s.status}; it can be decided once it has ended.", old=s.status)
        values |= {"decision": given.decision, "decided_at": now if given.decision else None}
        changed["decision"] = given.decision
    if "invitation_expires_at" in fields:
        if s.status != "invited" or given.invitation_expires_at is None:
            raise Invalid("invitation_expires_at", f"cannot be changed or removed while {s.status}")
        check_future("invitation_expires_at", given.invitation_expires_at, now)
        values["invitation_expires_at"] = values["sweep_at"] = given.invitation_expires_at
        changed["invitation_expires_at"] = given.invitation_expires_at.isoformat()
    if values:
        set_columns(db, s, **values)
        record(db, s, "updated", by, now, reason=given.reason, data=changed)
        outbox.publish(db, SessionUpdated(session_id=s.id, changed=tuple(changed)))


def set_columns(db: Session, s: SessionSnapshot, **values: Any) -> None:
    """Update columns of one session."""
    db.execute(update(InterviewSession).where(InterviewSession.id == s.id).values(**values))


def record(
    db: Session, s: SessionSnapshot, kind: str, by: Viewer, now: datetime, *, reason: str | None, data: dict[str, Any]
) -> None:
    """Add an entry that is not a move to the session's history."""
    db.add(
        SessionEvent(
            session_id=s.id,
            kind=kind,
            actor=by.role,
            actor_id=by.id,
            reason=reason,
            data=data,
            new_status=s.status if kind == "created" else None,
            at=now,
        )
    )


def check_future(field: str, at: datetime | None, now: datetime) -> None:
    """Raise Invalid for a time that is not after ``now``; None is accepted."""
    if at is not None and at <= now:
        raise Invalid(field, f"{at.isoformat()} is already past")


def check_interviewer(db: Session, user_id: int | None) -> None:
    """Raise Invalid when the user does not exist or is not an interviewer; None is accepted."""
    if user_id is None:
        return
    role = db.scalar(select(User.role).where(User.id == user_id, User.deleted_at.is_(None)))
    if role is None:
        raise Invalid("interviewer_id", f"there is no user {user_id}")
    if role != "interviewer":
        raise Invalid("interviewer_id", f"user {user_id} is {role}, not an interviewer")
