"""The system's notifications about its own work: reports to their requesters, failing jobs and mails to admins.

(docs/domain.md, "Who is notified"; those about sessions are in ``core.sessions.notices``.)
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from core.models import Email
from core.notifications.notify import Notice, notify

_MAIL_TROUBLE = {
    "dead": ("A mail was not delivered", "The {kind} mail {id} could not be delivered."),
    "uncertain": ("A mail may not have arrived", "Nobody can say whether the {kind} mail {id} was accepted."),
}


def report_notice(report_id: UUID, kind: str, *, ready: bool, requested_by: int) -> Notice:
    """To the requester: the report is ready, or it failed. ``kind`` is its type, as requests name it."""
    name = kind.replace("_", " ").replace("pdf", "PDF").replace("csv", "CSV")
    return Notice(
        category="report_ready" if ready else "report_failed",
        title="Your report is ready" if ready else "Your report failed",
        body=f"The {name} can be downloaded." if ready else f"The {name} could not be made. Please try again.",
        dedupe_key=f"report/{report_id}/{'ready' if ready else 'failed'}",
        user_id=requested_by,
        data={"report_id": str(report_id), "type": kind},
    )


def job_failed(run_id: UUID, job: str) -> Notice:
    """To admins: a run of a job failed; once a run."""
    return Notice(
        category="job_failed",
        title=f"Job failed: {job}",
        body=f"A run of {job} failed.",
        dedupe_key=f"job/{run_id}/failed",
        role="admin",
        data={"run_id": str(run_id), "deployment": job},
    )


def job_late(run_id: UUID, job: str, *, since: datetime | None) -> Notice:
    """To admins: runs of a job do not start in time; once for all that are late since the last run that started."""
    return Notice(
        category="job_late",
        title=f"Job late: {job}",
        body=f"A run of {job} has not started in time. Later ones are not reported one by one.",
        dedupe_key=_late_key(job, since),
        role="admin",
        data={"run_id": str(run_id), "deployment": job},
    )


def job_recovered(run_id: UUID, job: str, *, since: datetime | None) -> Notice:
    """To admins: runs of a job that was late start again; once for each ``job_late``."""
    return Notice(
        category="job_back",
        title=f"Job runs again: {job}",
        body=f"A run of {job} has started; it was reported late.",
        dedupe_key=f"{_late_key(job, since)}/over",
        role="admin",
        data={"run_id": str(run_id), "deployment": job},
    )


def _late_key(job: str, since: datetime | None) -> str:
    return f"job/{job}/late/{since.isoformat() if since else 'first'}"


def _mail_key(email: Email) -> str:
    """One dedupe key for each attempt; ``due_at``, because a retry by hand counts attempts from 1 again."""
    return f"mail/{email.id}/{email.status}/{email.due_at.isoformat()}/{email.attempts}"


def notify_mail_trouble(db: Session, email: Email, *, now: datetime) -> None:
    """Notify admins that a mail is dead or uncertain, in the transaction that set the status: once for each attempt.

    Does nothing for any other status. Names the mail, but neither address nor reason: the list of mails shows them.
    """
    if email.status not in _MAIL_TROUBLE:
        return
    title, body = _MAIL_TROUBLE[email.status]
    notice = Notice(
        category=f"mail_{email.status}",
        title=title,
        body=body.format(kind=email.kind, id=email.id),
        dedupe_key=_mail_key(email),
        role="admin",
        data={"email_id": str(email.id)},
    )
    notify(db, [notice], now=now)
