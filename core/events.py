"""Push events, as closed types; each defines its destinations, its audience and its type name."""

from abc import ABC, abstractmethod
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from core.models import Role, SessionStatus


def session_topic(session_id: UUID) -> str:
    """The destination of one session's changes."""
    return f"/topic/session/{session_id}"


def user_queue(user_id: int, queue: str) -> str:
    """One user's queue as the log names it; clients subscribe to ``/user/queue/…``."""
    return f"/user/{user_id}/queue/{queue}"


ALL_SESSIONS = "/topic/sessions"
BROADCASTS = "/topic/notifications"
FLOWS = "/topic/flows"
ACCOUNTS = "/internal/accounts"
"""No client may subscribe to it: notifies every process that a user's tokens were revoked."""


class PushEvent(BaseModel, ABC):
    """One change that is published; its fields are the message's ``data``."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    type: ClassVar[str]

    @abstractmethod
    def destinations(self) -> tuple[str, ...]:
        """The destinations it is published to, in order."""

    def audience(self) -> Role | None:
        """The only role that receives it; None: all who may subscribe."""
        return None


class SessionChange(PushEvent):
    """A change of one session: published to the session's topic and to the topic of all sessions."""

    session_id: UUID

    def destinations(self) -> tuple[str, ...]:
        return session_topic(self.session_id), ALL_SESSIONS


class SessionCreated(SessionChange):
    type = "session.created"
    status: SessionStatus
    candidate_id: int
    interview_id: int
    interviewer_id: int | None
    scheduled_start: datetime | None
    scheduled_end: datetime | None
    schedule_version: int
    invitation_expires_at: datetime | None
    retry_of: UUID | None


class SessionMoved(SessionChange):
    type = "session.moved"
    status: SessionStatus
    previous: SessionStatus
    moved_at: datetime
    by: str
    reason: str | None = None
    no_show_party: str | None = None


class SessionRescheduled(SessionChange):
    type = "session.rescheduled"
    status: SessionStatus
    interviewer_id: int | None
    scheduled_start: datetime
    scheduled_end: datetime
    schedule_version: int


class SessionLate(SessionChange):
    type = "session.late"
    scheduled_start: datetime
    schedule_version: int


class SessionUpdated(SessionChange):
    """Activity, an answer, feedback, or a field that is neither status nor schedule.

    Names the changed fields without values: candidates read this topic too, and may not see scores and decisions.
    """

    type = "session.updated"
    changed: tuple[str, ...]
    last_activity_at: datetime | None = None


class SessionsCleaned(PushEvent):
    """Retention removed rows: how many, by kind. Clients fetch their lists anew."""

    type = "session.cleaned"
    cleaned_at: datetime
    removed: dict[str, int]

    def destinations(self) -> tuple[str, ...]:
        return (ALL_SESSIONS,)


class NotificationCreated(PushEvent):
    """A notification was delivered: to one user's queue, or to all (or a role) as a broadcast."""

    type = "notification.created"
    notification_id: int
    user_id: int | None
    role: Role | None
    category: str
    title: str
    body: str
    data: dict[str, Any] = {}
    session_id: UUID | None
    delivered_at: datetime
    expires_at: datetime | None = None

    def destinations(self) -> tuple[str, ...]:
        return (user_queue(self.user_id, "notifications") if self.user_id else BROADCASTS,)

    def audience(self) -> Role | None:
        return self.role


class NotificationRead(PushEvent):
    type = "notification.read"
    user_id: int
    notification_ids: tuple[int, ...]
    read_at: datetime

    def destinations(self) -> tuple[str, ...]:
        return (user_queue(self.user_id, "notifications"),)


class NotificationArchived(PushEvent):
    """Notifications left the inbox: archived by the user or, for all recipients, expired or withdrawn."""

    type = "notification.archived"
    user_id: int | None
    role: Role | None
    notification_ids: tuple[int, ...]
    archived_at: datetime

    def destinations(self) -> tuple[str, ...]:
        return (user_queue(self.user_id, "notifications") if self.user_id else BROADCASTS,)

    def audience(self) -> Role | None:
        return self.role


class NotificationUnread(PushEvent):
    """How many notifications the user has not read, as of this message's id."""

    type = "notification.unread"
    user_id: int
    unread: int

    def destinations(self) -> tuple[str, ...]:
        return (user_queue(self.user_id, "notifications"),)


class ReportChange(PushEvent):
    """A user's report changed its status: to their own queue. ``attempts`` counts those started so far."""

    report_id: UUID
    user_id: int
    report_type: str
    attempts: int

    def destinations(self) -> tuple[str, ...]:
        return (user_queue(self.user_id, "reports"),)


class ReportQueued(ReportChange):
    """The report waits to be rendered; once more, with the reason, when an attempt failed."""

    type = "report.queued"
    parameters: dict[str, Any]
    reason: str | None = None


class ReportRunning(ReportChange):
    type = "report.running"


class ReportReady(ReportChange):
    """The report's file can be fetched; ``url`` is below this deployment's address."""

    type = "report.ready"
    url: str
    filename: str
    content_type: str
    size: int
    sha256: str
    data_as_of: datetime
    expires_at: datetime


class ReportFailed(ReportChange):
    type = "report.failed"
    reason: str


class FlowState(PushEvent):
    """A flow run entered a state; ``result`` once the run has one."""

    type = "flow.state"
    flow: str
    deployment: str | None
    run_id: UUID
    run_name: str
    state: str
    state_name: str
    message: str | None
    occurred_at: datetime
    expected_start_time: datetime | None
    start_time: datetime | None
    end_time: datetime | None
    result: dict[str, Any] | None

    def destinations(self) -> tuple[str, ...]:
        return (FLOWS,)


class AccountChanged(PushEvent):
    """A user's earlier tokens were revoked: every process closes their sockets."""

    type = "account.changed"
    user_id: int
    token_version: int
    role: Role

    def destinations(self) -> tuple[str, ...]:
        return (ACCOUNTS,)
