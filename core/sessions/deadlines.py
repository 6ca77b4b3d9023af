"""When the status rules of a session become due: one table, for the sweep and for everything that changes a session."""

from datetime import datetime, timedelta
from typing import Literal

from core.sessions.snapshot import SessionSnapshot

Rule = Literal["expire", "no_show", "late", "close", "interrupt", "feedback_overdue"]

LATE_AFTER = timedelta(minutes=5)
SILENT_FOR = timedelta(minutes=2)


def deadlines(s: SessionSnapshot) -> list[tuple[datetime, Rule]]:
    """Every rule that can still apply to the session in its present state, with its due time, by precedence.

    (docs/domain.md, "The status sweep".)
    """
    match s.status:
        case "invited" if s.invitation_expires_at:
            return [(s.invitation_expires_at, "expire")]
        case "scheduled" if s.scheduled_start and s.scheduled_end:
            missed = min(s.scheduled_start + timedelta(minutes=s.no_show_minutes), s.scheduled_end)
            rules: list[tuple[datetime, Rule]] = [(missed, "no_show")]
            if s.late_version != s.schedule_version:
                rules.append((s.scheduled_start + LATE_AFTER, "late"))
            return rules
        case "in_progress":
            return [
                (_overrun(s), "close"),
                (_last_activity(s) + timedelta(minutes=s.idle_minutes), "interrupt"),
            ]
        case "interrupted":
            return [(min(s.status_at + timedelta(minutes=s.resume_minutes), _overrun(s)), "close")]
        case "completed" if s.interviewer_id and s.ended_at and not s.has_feedback and not s.feedback_overdue_at:
            return [(s.ended_at + timedelta(hours=s.feedback_deadline_hours), "feedback_overdue")]
        case _:
            return []


def next_check(s: SessionSnapshot) -> datetime | None:
    """When the sweep has to check the session again; None: never in this state."""
    return min((due for due, _ in deadlines(s)), default=None)


def due_rule(s: SessionSnapshot, now: datetime) -> Rule | None:
    """The first rule that is due at ``now``; None: no rule is."""
    return next((rule for due, rule in deadlines(s) if due <= now), None)


def _last_activity(s: SessionSnapshot) -> datetime:
    return s.last_activity_at or s.started_at or s.status_at


def _overrun(s: SessionSnapshot) -> datetime:
    planned = (s.started_at or s.status_at) + timedelta(minutes=s.duration_minutes + s.overrun_minutes)
    return max(planned, _last_activity(s) + SILENT_FOR)
