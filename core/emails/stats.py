"""Statistics of the mail queue for monitoring: mails by status, delay of the oldest, time until accepted."""

from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.orm import Session

from core.queues import Durations, StatusCount, count_by_status, durations

RECENT_MINUTES = 15
RECENT_MAILS = 10_000


class MailStats(NamedTuple):
    """Statistics of all stored mails, by the database's clock.

    ``overdue_seconds`` is how long the oldest due mail has been waiting for an attempt, 0 when none is due.
    ``accepted`` is the time from a mail's INSERT until its acceptance was written, for the newest RECENT_MAILS created
    within RECENT_MINUTES.
    """

    by_status: tuple[StatusCount, ...]
    overdue_seconds: float
    accepted: Durations
    suppressed_addresses: int


_OVERDUE = text("""
    SELECT coalesce(extract(epoch FROM clock_timestamp() - least(
        (SELECT min(due_at) FROM emails WHERE status = 'queued'),
        (SELECT min(due_at) FROM emails
         WHERE status = 'sending' AND lease_until IS NOT NULL AND data_started_at IS NULL)
    )), 0)
""")
_ACCEPTED = f"""
    SELECT sent_at - created_at AS took FROM emails
    WHERE created_at > clock_timestamp() - interval '{RECENT_MINUTES} minutes'
    ORDER BY created_at DESC LIMIT {RECENT_MAILS}
"""  # noqa: S608 - our own numbers


def mail_stats(db: Session) -> MailStats:
    """The statistics now; scans one index, some hundred milliseconds for a million mails."""
    return MailStats(
        by_status=count_by_status(db, "emails", "kind"),
        overdue_seconds=max(0.0, float(db.execute(_OVERDUE).scalar_one())),
        accepted=durations(db, _ACCEPTED),
        suppressed_addresses=db.execute(text("SELECT count(*) FROM email_suppressions")).scalar_one(),
    )
