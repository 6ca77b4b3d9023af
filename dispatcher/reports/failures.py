"""Classifies the errors of an attempt at a report: the reason for whoever requested it, and whether to retry."""

import errno
import logging

import psycopg
import sqlalchemy.exc

from core.errors import NotFound, Unavailable
from core.reports.queue.claims import ClaimedReport
from core.reports.queue.outcomes import Failure
from dispatcher.reports.pdf import RenderFailed, TimeLimit

log = logging.getLogger(__name__)

DATABASE_UNAVAILABLE = (sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError, psycopg.OperationalError)
"""The errors of a database that cannot be reached, restarts or is overloaded."""
_TRANSIENT = (
    ((TimeLimit,), "It could not be printed within its time."),
    ((RenderFailed,), "It could not be printed."),
    ((*DATABASE_UNAVAILABLE, Unavailable), "The database was away, or too slow for it."),
    ((OSError, MemoryError), "The machine that makes reports lacked memory, disk space or another resource."),
)
"""Errors that may pass in a moment, each with the reason that users see."""
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def classify(claimed: ClaimedReport, error: Exception) -> Failure:
    """The failure to store; details that users do not need are only logged."""
    failure = _known_failure(error)
    known = failure is not None
    failure = failure or Failure("An internal error, see the log.", retry=False)
    log.log(
        logging.WARNING if known else logging.ERROR,
        "a report could not be made: %s",
        str(error) or type(error).__name__,
        extra={"report_id": str(claimed.id), "type": claimed.type, "attempt": claimed.attempts},
        exc_info=None if known else error,
    )
    return failure


def _known_failure(error: Exception) -> Failure | None:
    if isinstance(error, NotFound):
        return Failure(f"The {error.noun} that it is about is no longer there.", retry=False)
    if isinstance(error, RenderFailed) and not error.retry:
        return Failure("It could not be printed.", retry=False)
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return Failure("There was no room on the disk of the machine that makes reports.", retry=True)
    reason = next((reason for kinds, reason in _TRANSIENT if isinstance(error, kinds)), None)
    return Failure(reason, retry=True) if reason else None
