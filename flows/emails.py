"""Emails: sending what is due. The dispatcher does it at once; this is for when none runs, and to see it done."""

from datetime import datetime
from typing import Any

from prefect import State, flow

from core.results import JobResult
from dispatcher.mail.drain import send_due
from flows.run import job, slot_name


@flow(name="send-emails", flow_run_name=slot_name)
async def send_emails(now: datetime | None = None, dry_run: bool = False) -> JobResult | State[Any]:
    """Sends every mail that is due, retries and what an ended process left behind included.

    now: what was due at this time instead of the scheduled one. dry_run: count and show a sample, send nothing.
    """
    return await job(send_due, now=now, dry_run=dry_run)
