"""Statistics that the queues of mails and of reports share, for monitoring: statuses, retries and durations."""

from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.orm import Session

QUANTILES = (0.5, 0.9, 0.99, 1.0)


class StatusCount(NamedTuple):
    """Rows of one kind with one status; ``again`` counts their attempts after the first of each."""

    status: str
    kind: str
    n: int
    again: int


class Durations(NamedTuple):
    """How many rows were completed, and the seconds they took at each of QUANTILES; empty when there are none."""

    n: int
    seconds: tuple[float, ...]


def count_by_status(db: Session, table: str, kind: str) -> tuple[StatusCount, ...]:
    """Counts of all rows of a queue's table; ``kind`` is the column of their kind."""
    query = f"""
        SELECT status, {kind}, count(*), coalesce(sum(attempts - 1) FILTER (WHERE attempts > 1), 0)
        FROM {table} GROUP BY status, {kind} ORDER BY status, {kind}
    """  # noqa: S608 - our constants
    return tuple(StatusCount(status, of, n, int(again)) for status, of, n, again in db.execute(text(query)))


def durations(db: Session, times: str) -> Durations:
    """Quantiles of the intervals in a query's column ``took``; NULL intervals (not completed yet) are left out."""
    query = f"""
        SELECT count(*), percentile_cont(CAST(:quantiles AS float8[])) WITHIN GROUP (ORDER BY seconds) FROM (
            SELECT CAST(extract(epoch FROM took) AS float8) AS seconds FROM ({times}) AS recent
        ) AS timed WHERE seconds IS NOT NULL
    """  # noqa: S608 - our constants
    n, seconds = db.execute(text(query), {"quantiles": list(QUANTILES)}).one()
    return Durations(n, tuple(seconds or ()))
