"""Reminders: planned when a session is scheduled, sent in their window or skipped (docs/domain.md, "Reminders")."""

from core.reminders.hourly import plan_and_send, plan_missing
from core.reminders.planning import plan, replan, void
from core.reminders.quiet_hours import lock_candidate, lock_user, replan_for_quiet_hours
from core.reminders.sending import next_due, send_due

__all__ = [
    "lock_candidate",
    "lock_user",
    "next_due",
    "plan",
    "plan_and_send",
    "plan_missing",
    "replan",
    "replan_for_quiet_hours",
    "send_due",
    "void",
]
