"""Notifications: told to one user, to a role or to all, in the transaction of what caused them; and their inbox."""

from core.notifications.due import Delivered, deliver_due, next_due
from core.notifications.inbox import Box, change_preferences, get, mark_archived, mark_read, mark_seen, page, read_all
from core.notifications.making import NewNotification, create, withdraw
from core.notifications.occasions import job_back, job_failed, job_late, report_told
from core.notifications.telling import Told, tell
from core.notifications.unread import count, counts

__all__ = [
    "Box",
    "Delivered",
    "NewNotification",
    "Told",
    "change_preferences",
    "count",
    "counts",
    "create",
    "deliver_due",
    "get",
    "job_back",
    "job_failed",
    "job_late",
    "mark_archived",
    "mark_read",
    "mark_seen",
    "next_due",
    "page",
    "read_all",
    "report_told",
    "tell",
    "withdraw",
]
