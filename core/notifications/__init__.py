"""Notifications to one user, to a role or to all, created in the transaction of their cause; and users' inboxes."""

from core.notifications.create import NewNotification, create, withdraw
from core.notifications.deliver import deliver_due, next_due
from core.notifications.inbox import Box, change_preferences, get, mark_archived, mark_read, mark_seen, page, read_all
from core.notifications.notify import Notice, notify
from core.notifications.system import job_failed, job_late, job_recovered, report_notice
from core.notifications.unread import count, counts

__all__ = [
    "Box",
    "NewNotification",
    "Notice",
    "change_preferences",
    "count",
    "counts",
    "create",
    "deliver_due",
    "get",
    "job_failed",
    "job_late",
    "job_recovered",
    "mark_archived",
    "mark_read",
    "mark_seen",
    "next_due",
    "notify",
    "page",
    "read_all",
    "report_notice",
    "withdraw",
]
