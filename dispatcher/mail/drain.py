"""Sending what is due once: for a run that a person or a schedule starts, beside whatever dispatchers are doing."""

import asyncio
from datetime import datetime

from core.db import transaction
from core.emails.queue import claims
from core.results import SAMPLE, JobResult
from core.settings import settings
from dispatcher.mail.mailer import Mailer
from dispatcher.mail.stats import SendStats


def send_due(*, now: datetime, dry_run: bool = False) -> JobResult:
    """Send every mail that is due at ``now``, retries included, and take over what a lease that ran out left.

    Safe beside dispatchers and beside itself: each mail is claimed by one. ``dry_run`` counts and sends nothing. It
    ends early, without an error, when the mail server cannot be reached: what is left stays due.
    """
    if dry_run:
        with transaction() as db:
            found, sample = claims.count_due(db, now=now, sample=SAMPLE)
        return JobResult(now=now, dry_run=True, found=found, sample=[{"email_id": str(id_)} for id_ in sample])
    stats = SendStats()
    asyncio.run(_drain(stats, now))
    return stats.take(now)


async def _drain(stats: SendStats, now: datetime) -> None:
    async with Mailer(settings(), stats=stats) as mailer:
        await mailer.drain(now)
