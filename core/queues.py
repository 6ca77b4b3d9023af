"""What the queues of mails and of reports have in common for those who watch: states, retries, and how long it took."""

from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.orm import Session

QUANTILES = (0.5, 0.9, 0.99, 1.0)


class StatusCount(NamedTuple):
    """Rows of one kind in one state; ``again`` are their attempts after the first of each."""

    status: str
    kind: str
    n: int
    again: int


class Durations(NamedTuple):
    """How many came to their end, and for each of QUANTILES within how many seconds; no seconds when none did."""

    n: int
    seconds: tuple[float, ...]


def count_by_status(db: Session, table: str, kind: str) -> tuple[StatusCount, ...]:
    """All rows of a queue's table; ``kind`` is the column that tells theirs."""
    query = f"""
        SELECT status, {kind}, count(*), coalesce(sum(attempts - 1) FILTER (WHERE attempts > 1), 0)
        FROM {table} GROUP BY status, {kind} ORDER BY status, {kind}
    """  # noqa: S608 - our own words
    return tuple(StatusCount(status, of, n, int(again)) for status, of, n, again in db.execute(text(query)))


def durations(db: Session, times: str) -> Durations:
    """Of a query's intervals ``took``; those that are NULL are not over yet."""
    query = f"""
        SELECT count(*), percentile_cont(CAST(:quantiles AS float8[])) WITHIN GROUP (ORDER BY seconds) FROM (
            SELECT CAST(extract(epoch FROM took) AS float8) AS seconds FROM ({times}) AS recent
        ) AS timed WHERE seconds IS NOT NULL
    """  # noqa: S608 - our own words
    n, seconds = db.execute(text(query), {"quantiles": list(QUANTILES)}).one()
    return Durations(n, tuple(seconds or ()))
