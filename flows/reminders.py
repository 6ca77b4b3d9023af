"""Reminders: the hourly check.

The dispatcher sends each when it is due; this plans missing ones and sends what was not sent.
"""

from datetime import datetime
from typing import Any

from prefect import State, flow

from core import reminders
from core.results import JobResult
from flows.run import job, slot_name


@flow(name="send-reminders", flow_run_name=slot_name)
async def send_reminders(now: datetime | None = None, dry_run: bool = False) -> JobResult | State[Any]:
    """Plans reminders that are missing, sends what is due, and reports what missed its window since the last run.

    now: what was due at this time instead of the scheduled one. dry_run: count and show a sample, change nothing.
    """
    return await job(reminders.plan_and_send, now=now, dry_run=dry_run)
