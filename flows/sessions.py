"""Sessions: moves that are due by the clock."""

from datetime import datetime
from typing import Any

from prefect import State, flow

from core import sessions
from core.results import JobResult
from flows.run import job, slot_name


@flow(name="update-session-statuses", flow_run_name=slot_name)
async def update_session_statuses(now: datetime | None = None, dry_run: bool = False) -> JobResult | State[Any]:
    """Makes the moves that are due by the clock: expired, no-show, interrupted, closed; notifies who is late.

    now: decide as of this time instead of the scheduled one. dry_run: count and show a sample, change nothing.
    """
    return await job(sessions.update_statuses, now=now, dry_run=dry_run)
