"""What the tests of sending share: a mailer on a server of its own, and what became of each mail."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import uvloop
from sqlalchemy import select, text

from core.clock import utcnow
from core.db import transaction
from core.models import Email, EmailSuppression
from core.results import JobResult
from core.settings import settings
from dispatcher.mail.mailer import Mailer
from dispatcher.mail.server import MailServer, Timeouts
from dispatcher.mail.stats import SendStats
from tests.support import factories
from tests.support.smtp_server import Running

IMPATIENT = Timeouts(connect=5, command=1.5, block=1.5, dot=1.5)
"""For servers that hang; a good one answers in a millisecond, on a machine that has one to spare."""


def queued(count: int = 1, **columns: Any) -> list[UUID]:
    """Mails that are due."""
    with transaction() as db:
        return [factories.email(db, now=utcnow(), **columns) for _ in range(count)]


def mail(id_: UUID) -> Email:
    """The mail's row as it is now."""
    with transaction() as db:
        return db.scalars(select(Email).where(Email.id == id_)).one()


def statuses(ids: Sequence[UUID]) -> list[str]:
    """The state of each."""
    return [mail(id_).status for id_ in ids]


def wait_of(row: Email, since: datetime) -> timedelta:
    """How long after this moment the mail is tried again."""
    at = row.retry_at if row.status == "uncertain" else row.due_at
    assert at is not None
    return at - since


def suppressed() -> dict[str, str]:
    """Addresses that get no more mail, with the reason."""
    with transaction() as db:
        return {row.address: row.reason for row in db.scalars(select(EmailSuppression))}


def admin_notices() -> list[str]:
    """Categories of what admins were notified of, in order."""
    with transaction() as db:
        return list(db.execute(text("SELECT category FROM notifications WHERE role = 'admin' ORDER BY id")).scalars())


def time_passes() -> None:
    """Whatever waits for its turn, its retry or the end of a lease has waited long enough."""
    with transaction() as db:
        db.execute(text("UPDATE emails SET due_at = now() WHERE status = 'queued' AND due_at > now()"))
        db.execute(text("UPDATE emails SET retry_at = now() WHERE status = 'uncertain' AND retry_at > now()"))
        db.execute(text("UPDATE emails SET lease_until = now() WHERE lease_until IS NOT NULL"))


def send(
    server: Running | MailServer, *, timeouts: Timeouts | None = None, concurrency: int = 2, rate: float = 0
) -> JobResult:
    """Send everything that is due, as a dispatcher does; what it came to."""
    at = server if isinstance(server, MailServer) else MailServer("127.0.0.1", server.port)
    ours = settings().model_copy(update={"email_concurrency": concurrency, "email_rate": rate})
    stats, now = SendStats(), utcnow()

    async def drain() -> None:
        async with Mailer(ours, server=replace(at, timeouts=timeouts or Timeouts()), stats=stats) as mailer:
            await mailer.drain(now)

    uvloop.run(drain())  # the dispatcher's loop
    return stats.take(now)
