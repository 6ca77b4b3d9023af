"""Reports: the daily ones are requested, and one that an operator wants; the dispatcher makes them."""

import time
from datetime import date as Day  # noqa: N812 - the parameter is called date, as people give it
from datetime import datetime
from typing import Any

import httpx
from prefect import State, flow, get_run_logger, runtime
from prefect.artifacts import acreate_link_artifact
from prefect.exceptions import PrefectException
from prefect.states import Failed

from core import reports
from core.clock import utcnow
from core.db import transaction
from core.errors import GreenroomError
from core.reports.registry import ReportType
from core.results import JobResult
from dispatcher.reports.run_recorder import RUN_KEY_PREFIX, report_result
from flows.run import job, slot_name

WAIT_SECONDS = 600.0
POLL_SECONDS = 0.5


@flow(name="generate-daily-reports", flow_run_name=slot_name)
async def generate_daily_reports(
    date: Day | None = None, until: Day | None = None, now: datetime | None = None, dry_run: bool = False
) -> JobResult | State[Any]:
    """Requests the dashboard of yesterday as PDF and CSV, once a day however often it runs.

    date: of this day instead; with until: of each day from date to until. now: yesterday as of this time.
    dry_run: say which would be requested, change nothing.
    """
    return await job(reports.enqueue_daily, now=now, dry_run=dry_run, own_slot=True, date=date, until=until)


class ReportNotReady(GreenroomError):
    """No dispatcher made the report while a run waited for it."""


@flow(name="generate-report", flow_run_name=slot_name)
async def generate_report(
    type: ReportType,
    start: str | None = None,
    end: str | None = None,
    interview_id: int | None = None,
    candidate_id: int | None = None,
    dry_run: bool = False,
) -> JobResult | State[Any]:
    """Requests a report, and waits until the dispatcher has made it. Admins may download it.

    start, end: the period, before end, as dates or times; the last 30 days unless given. interview_id, candidate_id:
    what it is about. dry_run: check what is requested, make nothing.
    """
    given = reports.NewReport.model_validate(
        {"type": type, "start": start, "end": end, "interview_id": interview_id, "candidate_id": candidate_id}
    )
    key = f"{RUN_KEY_PREFIX}{runtime.flow_run.id}"
    result = await job(enqueue_and_wait, now=None, dry_run=dry_run, own_slot=True, given=given, key=key)
    if not isinstance(result, JobResult):
        return result
    if result.done:
        try:
            await acreate_link_artifact(key="report", link=result.data["url"], link_text=result.data["filename"])
        except (PrefectException, httpx.HTTPError) as error:
            # the report is there: a run that cannot show it has not failed
            get_run_logger().warning("The link could not be shown: %s", error)
    return Failed(message=result.data["reason"]) if result.failed else result


def enqueue_and_wait(*, now: datetime, dry_run: bool, given: reports.NewReport, key: str) -> JobResult:
    """Queue the report, once for a key, and wait until it is ready or failed. Raises Invalid and ReportNotReady."""
    if dry_run:
        with transaction() as db:
            reports.check_request(db, given, now=now)
        return JobResult(now=now, dry_run=True, found=1, data={"type": given.type})
    with transaction() as db:
        report_id = reports.enqueue_as_system(db, given, key=key, now=utcnow()).id
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        with transaction() as db:
            found = reports.outcome(db, report_id)
        if found.status in ("ready", "failed"):
            break
        if time.monotonic() > deadline:
            raise ReportNotReady(
                f"Report {report_id} is {found.status} after {WAIT_SECONDS:g} s; does a dispatcher run?"
            )
        time.sleep(POLL_SECONDS)
    about = {"filename": found.file and found.file.filename, "size": found.file and found.file.size}
    return report_result(report_id, given.type, found.status, now=now, reason=found.reason, **about)
