"""One move, requested by a person."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from sqlalchemy.orm import Session

from core.errors import Forbidden, IllegalMove, Invalid
from core.fields import Input, Moment, Prose
from core.models import SessionStatus
from core.sessions.apply_moves import Move, planned_end, write_moves
from core.sessions.conflicts import translate_conflicts
from core.sessions.moves import MOVES, Actor
from core.sessions.schedule import schedule
from core.sessions.snapshot import SessionSnapshot, lock
from core.viewers import Viewer


class NewStatus(Input):
    """A requested move; ``scheduled_start`` is for ``scheduled``, when the session has no time yet."""

    status: SessionStatus
    reason: Prose | None = None
    no_show_party: Literal["candidate", "interviewer"] | None = None
    scheduled_start: Moment | None = None


def move(db: Session, session_id: UUID, given: NewStatus, *, by: Viewer, now: datetime) -> None:
    """Move a session as the viewer.

    Raises NotFound (also when the viewer may not see it), IllegalMove (not in the table, or too late), Forbidden (not
    allowed to the viewer's role in this session), Invalid, AlreadyOpen and DoubleBooked.
    """
    s = lock(db, session_id)
    actor = s.actor(by)
    check(s, given.status, actor, now)
    if given.no_show_party and given.status != "no_show":
        raise Invalid("no_show_party", f"goes with no_show, not with {given.status}")
    if given.scheduled_start and given.status != "scheduled":
        raise Invalid("scheduled_start", f"goes with scheduled, not with {given.status}")
    if given.status == "scheduled":
        start = given.scheduled_start or s.scheduled_start
        if start is None:
            raise Invalid("scheduled_start", "a session without a time needs one to be scheduled")
        assert actor in ("candidate", "recruiter", "admin")  # noqa: S101 - by the table of moves
        schedule(db, s, start, s.interviewer_id, by=by, actor=actor, reason=given.reason, now=now)
        return
    party = (given.no_show_party or "candidate") if given.status == "no_show" else None
    start = s.scheduled_start or now
    busy = (s.interviewer_id, start, s.scheduled_end or planned_end(s, start))
    with translate_conflicts(db, s.id, s.candidate_id, s.interview_id, busy=busy):
        write_moves(db, [Move(s, given.status, actor, by.id, given.reason, party)], now=now)


def check(s: SessionSnapshot, to: SessionStatus, actor: Actor, now: datetime) -> None:
    """Raise IllegalMove or Forbidden unless the actor may make this move at ``now``."""
    allowed = MOVES.get((s.status, to))
    if allowed is None:
        raise IllegalMove(s.id, s.status, to)
    if actor not in allowed:
        raise Forbidden(f"A session goes from {s.status} to {to} by {' or '.join(sorted(allowed))}; you are {actor}.")
    if s.status == "no_show" and to == "in_progress" and (s.scheduled_end is None or now >= s.scheduled_end):
        raise IllegalMove(s.id, s.status, to, "its scheduled end has passed")
    if s.status == "invited" and s.invitation_expires_at and now >= s.invitation_expires_at and to != "cancelled":
        raise IllegalMove(s.id, s.status, to, "its invitation has expired")
