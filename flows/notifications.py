"""Notifications: the safety net for everything that normally goes at once."""

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any

from prefect import State, flow

from core import notifications, reminders
from core.results import JobResult
from dispatcher.mail import drain
from flows.run import job, slot_name

# Reminders before mails: what they queue goes with this run.
PARTS: dict[str, Callable[..., JobResult]] = {
    "notifications": notifications.deliver_due,
    "reminders": reminders.send_due,
    "mails": drain.send_due,
}


def deliver_pending(*, now: datetime, dry_run: bool = False) -> JobResult:
    """Deliver notifications, reminders and mails that are due and were not delivered.

    That one part fails does not keep the others from their work; the first failure is raised in the end. The result
    counts what each part did, of a dry run what each found.
    """
    total, failures = JobResult(now=now, dry_run=dry_run), list[Exception]()
    for name, part in PARTS.items():
        try:
            result = part(now=now, dry_run=dry_run)
        except Exception as error:  # noqa: BLE001 - raised below
            failures.append(error)
            continue
        result.counts = Counter({name: result.found if dry_run else result.done})
        result.sample = [{"part": name, **one} for one in result.sample[:3]]
        total += result
    if failures:
        raise failures[0]
    return total


@flow(name="process-pending-notifications", flow_run_name=slot_name)
async def process_pending_notifications(now: datetime | None = None, dry_run: bool = False) -> JobResult | State[Any]:
    """Delivers what is due and was not delivered: notifications, reminders, mails and their retries, lost leases.

    now: what was due at this time instead of the scheduled one. dry_run: count and show a sample, change nothing.
    """
    return await job(deliver_pending, now=now, dry_run=dry_run)
