"""How long things took: medians and 90th percentiles of a period, of the one before it, and of all their weeks."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from core.reports.data import Wait
from core.reports.metrics.moments import over, week, within

Waits = dict[tuple[bool, int | None], Wait]
"""By whether it is the period asked for, and by week; None: all of it."""


def _waits(moment: str, since: str) -> str:
    """Those that end within the periods; who ended before beginning is a wrong record, and left out."""
    return f"""
        SELECT {moment} >= :start AS current, {week(moment)} AS week, count(*) AS n,
            percentile_cont(ARRAY[0.5, 0.9]) WITHIN GROUP (ORDER BY date_part('epoch', {moment} - {since}) / 3600)
        FROM moments WHERE {within(moment, ":first")} AND {moment} >= {since} {{of}}
        GROUP BY GROUPING SETS ((1, 2), (1))
    """  # noqa: S608 - our own words


SCHEDULING = _waits("planned", "invited").format(of="")
""""Scheduling delay = start − invited" (DOMAIN, "Report definitions"): the planned start, of sessions by that;
invited is when the session was made."""

DECIDING = _waits("decided", "ended").format(of="")
""""Time to decision = decided − ended" (DOMAIN, "Report definitions"), of sessions by when they were decided."""

HIRING = _waits("hired_at", "applied_at").replace("moments", "candidates")
""""Time to hire = hired − applied, median and p90" (DOMAIN, "Report definitions"), of candidates by when they were
hired; of one interview, those who had a session of it."""

_OF_INTERVIEW = "AND id IN (SELECT candidate_id FROM sessions WHERE interview_id = :interview)"


def waits(db: Session, query: str, given: Mapping[str, Any], only: str = "") -> Waits:
    """What SCHEDULING or DECIDING asks, of all sessions or of ``only`` some."""
    return _read(db.execute(over(query, only), given))


def hiring(db: Session, given: Mapping[str, Any]) -> Waits:
    """What HIRING asks, of all candidates or of those of ``given["interview"]``."""
    return _read(db.execute(text(HIRING.format(of=_OF_INTERVIEW if "interview" in given else "")), given))


def _read(rows: Any) -> Waits:
    return {(current, number): Wait(n, *hours) for current, number, n, hours in rows}
