"""Reminders: planned when a session gets a time, sent at their moment or not at all (DOMAIN, "The jobs", 2)."""

from core.reminders.hourly import plan_missing, remind
from core.reminders.planning import plan, replan, void
from core.reminders.quiet_hours import lock_candidate, lock_user, replan_for_quiet_hours
from core.reminders.sending import next_due, send_due

__all__ = [
    "lock_candidate",
    "lock_user",
    "next_due",
    "plan",
    "plan_missing",
    "remind",
    "replan",
    "replan_for_quiet_hours",
    "send_due",
    "void",
]
