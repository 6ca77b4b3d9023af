"""What the house says about its own work: reports to who asked for them, jobs to admins.

(DOMAIN, "Who is told what"; what sessions say is in ``core.sessions.told``, what mails say in ``core.attention``.)
"""

from typing import Literal
from uuid import UUID

from core.notifications.telling import Told


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


def job_told(run_id: UUID, deployment: str, trouble: Literal["late", "failed"]) -> Told:
    """To admins: a job's run is late, or failed; once a run."""
    return Told(
        category=f"job_{trouble}",
        title=f"Job {trouble}: {deployment}",
        body=f"A run of {deployment} {'has not started in time' if trouble == 'late' else 'failed'}.",
        dedupe_key=f"job/{run_id}/{trouble}",
        role="admin",
        data={"run_id": str(run_id), "deployment": deployment},
    )
