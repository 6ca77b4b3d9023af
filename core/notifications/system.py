"""What the house says about its own work: reports to who asked for them, jobs to admins.

(DOMAIN, "Who is told what"; what sessions say is in ``core.sessions.notices``, what mails say in ``core.attention``.)
"""

from datetime import datetime
from uuid import UUID

from core.notifications.notify import Told


def report_told(report_id: UUID, kind: str, *, ready: bool, requested_by: int) -> Told:
    """To who asked: the report is ready, or it failed. ``kind`` is its type, as requests name it."""
    name = kind.replace("_", " ").replace("pdf", "PDF").replace("csv", "CSV")
    return Told(
        category="report_ready" if ready else "report_failed",
        title="Your report is ready" if ready else "Your report failed",
        body=f"The {name} can be downloaded." if ready else f"The {name} could not be made. Please try again.",
        dedupe_key=f"report/{report_id}/{'ready' if ready else 'failed'}",
        user_id=requested_by,
        data={"report_id": str(report_id), "type": kind},
    )


def job_failed(run_id: UUID, job: str) -> Told:
    """To admins: a job's run failed; once a run."""
    return Told(
        category="job_failed",
        title=f"Job failed: {job}",
        body=f"A run of {job} failed.",
        dedupe_key=f"job/{run_id}/failed",
        role="admin",
        data={"run_id": str(run_id), "deployment": job},
    )


def job_late(run_id: UUID, job: str, *, since: datetime | None) -> Told:
    """To admins: a job's runs do not start in time; once for all that are late since the last that began."""
    return Told(
        category="job_late",
        title=f"Job late: {job}",
        body=f"A run of {job} has not started in time. Others that follow it are not told of one by one.",
        dedupe_key=_late_key(job, since),
        role="admin",
        data={"run_id": str(run_id), "deployment": job},
    )


def job_back(run_id: UUID, job: str, *, since: datetime | None) -> Told:
    """To admins: runs of a job that was late start again; once for each time that it was told to be late."""
    return Told(
        category="job_back",
        title=f"Job runs again: {job}",
        body=f"A run of {job} has started; it was told to be late.",
        dedupe_key=f"{_late_key(job, since)}/over",
        role="admin",
        data={"run_id": str(run_id), "deployment": job},
    )


def _late_key(job: str, since: datetime | None) -> str:
    return f"job/{job}/late/{since.isoformat() if since else 'first'}"
