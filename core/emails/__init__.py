"""Mails: their contents, the queue, and queries of their status."""

from core.emails.on_demand import NewAttachment, NewEmail, queue_on_demand
from core.emails.queries import EmailFilter, cancel, get, page, retry
from core.emails.queue.enqueue import QueuedMail
from core.emails.report_mails import queue_daily_report, queue_report_ready, report_page
from core.emails.session_mails import (
    ReminderMail,
    queue_email,
    queue_interview_cancellation,
    queue_interview_complete,
    queue_interview_invitation,
    queue_interview_reminder,
    queue_interview_reminders,
    queue_interview_reschedule,
    queue_removal_notice,
    withdraw,
)

__all__ = [
    "EmailFilter",
    "NewAttachment",
    "NewEmail",
    "QueuedMail",
    "ReminderMail",
    "cancel",
    "get",
    "page",
    "queue_daily_report",
    "queue_email",
    "queue_interview_cancellation",
    "queue_interview_complete",
    "queue_interview_invitation",
    "queue_interview_reminder",
    "queue_interview_reminders",
    "queue_interview_reschedule",
    "queue_on_demand",
    "queue_removal_notice",
    "queue_report_ready",
    "report_page",
    "retry",
    "withdraw",
]
