"""A session to write mails about, and the people in it."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from core.emails.content import Recruiter, SessionDetails
from core.emails.draft import Recipient

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
START = datetime(2026, 11, 24, 14, tzinfo=UTC)
KINDS: tuple[str, ...] = ("invitation", "reschedule", "cancellation", "reminder", "completion")
MAYA = Recipient("maya@example.com", "Maya Lindqvist", "Europe/Lisbon", "candidate", 4)
IRIS = Recipient("iris@example.com", "Iris Okafor", "America/New_York", "interviewer", 3)


def a_session(**changes: Any) -> SessionDetails:
    """A scheduled session; arguments change it."""
    made = SessionDetails(
        session_id=UUID(int=7),
        status="scheduled",
        title="Backend engineering",
        position="Backend Engineer",
        duration_minutes=60,
        resume_minutes=30,
        feedback_deadline_hours=48,
        scheduled_start=START,
        scheduled_end=START + timedelta(hours=1),
        schedule_version=1,
        invitation_expires_at=NOW + timedelta(days=14),
        ended_at=None,
        ics_uid="7@greenroom",
        ics_sequence=0,
        candidate=MAYA,
        interviewer=IRIS,
        recruiter=Recruiter("Rita Sørensen", "rita@example.com", deleted=False),
    )
    return made._replace(**changes)


OPEN = {"status": "invited", "scheduled_start": None, "scheduled_end": None}


def called(recipient: Recipient, name: str) -> Recipient:
    """The same person by another name."""
    return Recipient(recipient.address, name, recipient.timezone, recipient.party, recipient.user_id)
