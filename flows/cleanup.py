"""Cleanup: removes what is past its retention."""

from datetime import datetime
from typing import Any

from prefect import State, flow

from core import cleanup
from core.results import JobResult
from flows.run import job, slot_name


@flow(name="cleanup-sessions", flow_run_name=slot_name)
async def cleanup_sessions(now: datetime | None = None, dry_run: bool = False) -> JobResult | State[Any]:
    """Takes old abandoned and expired sessions out of the lists, and removes what else is past its retention.

    now: decide as of this time instead of the scheduled one. dry_run: count and show a sample, change nothing.
    """
    return await job(cleanup.clean_up, now=now, dry_run=dry_run)
