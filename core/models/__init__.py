"""Every table of Greenroom (docs/domain.md, "Tables"); times are UTC."""

from core.models.base import Base
from core.models.log import IdempotencyKey, JobCount, PushEventRow, PushLog
from core.models.mail import Email, EmailAttachment, EmailPace, EmailStatus, EmailSuppression
from core.models.notices import Notification, NotificationPreference, NotificationReceipt, Reminder
from core.models.people import ROLES, Candidate, Role, User
from core.models.reports import Report, ReportFile, ReportSlice, ReportStatus
from core.models.sessions import (
    BUSY,
    OPEN,
    STATUSES,
    Answer,
    Feedback,
    Interview,
    InterviewSession,
    Question,
    SessionEvent,
    SessionStatus,
)

__all__ = [
    "BUSY",
    "OPEN",
    "ROLES",
    "STATUSES",
    "Answer",
    "Base",
    "Candidate",
    "Email",
    "EmailAttachment",
    "EmailPace",
    "EmailStatus",
    "EmailSuppression",
    "Feedback",
    "IdempotencyKey",
    "Interview",
    "InterviewSession",
    "JobCount",
    "Notification",
    "NotificationPreference",
    "NotificationReceipt",
    "PushEventRow",
    "PushLog",
    "Question",
    "Reminder",
    "Report",
    "ReportFile",
    "ReportSlice",
    "ReportStatus",
    "Role",
    "SessionEvent",
    "SessionStatus",
    "User",
]
