"""What kept a report from being made, in words for whoever asked, and whether the same may work in a moment."""

import errno
import logging

import psycopg
import sqlalchemy.exc

from core.errors import NotFound, Unavailable
from core.reports.queue.claims import ClaimedReport
from core.reports.queue.outcomes import Failure
from dispatcher.reports.pdf import RenderFailed, TimeLimit

log = logging.getLogger(__name__)

TROUBLE = (sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError, psycopg.OperationalError)
"""What a database that is away, restarting or overloaded looks like."""
_PASSES = (
    ((TimeLimit,), "It could not be printed within its time."),
    ((RenderFailed,), "It could not be printed."),
    ((*TROUBLE, Unavailable), "The database was away, or too slow for it."),
    ((OSError, MemoryError), "The machine that makes reports had too little of something that it needs."),
)
"""What may be over in a moment, with the words for it."""
_FULL = (errno.ENOSPC, errno.EDQUOT)


def classify(claimed: ClaimedReport, error: Exception) -> Failure:
    """The verdict; what people do not need to know is logged and in no words of ours."""
    failure = _known_failure(error)
    known = failure is not None
    failure = failure or Failure("It met an error of ours, which the log tells more of.", retry=False)
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
    if isinstance(error, OSError) and error.errno in _FULL:
        return Failure("There was no room on the disk of the machine that makes reports.", retry=True)
    reason = next((words for kinds, words in _PASSES if isinstance(error, kinds)), None)
    return Failure(reason, retry=True) if reason else None
