"""Mail in figures, for those who watch: how many in which state, how late, how soon accepted."""

from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.orm import Session

RECENT_MINUTES = 15
RECENT_MAILS = 10_000
QUANTILES = (0.5, 0.9, 0.99, 1.0)


class Counted(NamedTuple):
    """Mails of one kind in one state; ``again`` are their attempts after the first of each."""

    status: str
    kind: str
    mails: int
    again: int


class Figures(NamedTuple):
    """The mails that are kept, by the database's clock.

    ``overdue_seconds`` is how long the mail that waits longest for an attempt has been due, 0 when none is.
    ``accepted_seconds`` has, for each of QUANTILES, the seconds from a mail's INSERT to the server's yes being
    written down, of those ``accepted`` among the newest RECENT_MAILS made within RECENT_MINUTES; empty when none was.
    """

    counted: tuple[Counted, ...]
    overdue_seconds: float
    accepted: int
    accepted_seconds: tuple[float, ...]
    suppressed_addresses: int


_COUNTED = text("""
    SELECT status, kind, count(*), coalesce(sum(attempts - 1) FILTER (WHERE attempts > 1), 0)
    FROM emails GROUP BY status, kind ORDER BY status, kind
""")
_OVERDUE = text("""
    SELECT coalesce(extract(epoch FROM clock_timestamp() - least(
        (SELECT min(due_at) FROM emails WHERE status = 'queued'),
        (SELECT min(due_at) FROM emails
         WHERE status = 'sending' AND lease_until IS NOT NULL AND data_started_at IS NULL)
    )), 0)
""")
_ACCEPTED = text(f"""
    SELECT count(*), percentile_cont(CAST(:quantiles AS float8[])) WITHIN GROUP (ORDER BY took) FROM (
        SELECT CAST(extract(epoch FROM sent_at - created_at) AS float8) AS took FROM emails
        WHERE created_at > clock_timestamp() - interval '{RECENT_MINUTES} minutes'
        ORDER BY created_at DESC LIMIT {RECENT_MAILS}
    ) AS recent WHERE took IS NOT NULL
""")  # noqa: S608 - our own numbers


def figures(db: Session) -> Figures:
    """The figures now; one index is read through, in some hundred milliseconds a million mails."""
    accepted, quantiles = db.execute(_ACCEPTED, {"quantiles": list(QUANTILES)}).one()
    return Figures(
        counted=tuple(Counted(status, kind, mails, int(again)) for status, kind, mails, again in db.execute(_COUNTED)),
        overdue_seconds=max(0.0, float(db.execute(_OVERDUE).scalar_one())),
        accepted=accepted,
        accepted_seconds=tuple(quantiles or ()),
        suppressed_addresses=db.execute(text("SELECT count(*) FROM email_suppressions")).scalar_one(),
    )
