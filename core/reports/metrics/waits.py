"""Waiting times: medians and 90th percentiles of a period, of the one before it, and of all their weeks."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from core.reports.data import Wait
from core.reports.metrics.moments import build_query, week, within

Waits = dict[tuple[bool, int | None], Wait]
"""The key is (whether it is the requested period, week number); week None: the whole period."""


def _waits(moment: str, since: str) -> str:
    """The query of waits that end within the periods; those with the end before the start are wrong, and left out."""
    return f"""
        SELECT {moment} >= :start AS current, {week(moment)} AS week, count(*) AS n,
            percentile_cont(ARRAY[0.5, 0.9]) WITHIN GROUP (ORDER BY date_part('epoch', {moment} - {since}) / 3600)
        FROM moments WHERE {within(moment, ":first")} AND {moment} >= {since} {{of}}
        GROUP BY GROUPING SETS ((1, 2), (1))
    """  # noqa: S608 - our constants


SCHEDULING = _waits("planned", "invited").format(of="")
""""Scheduling delay = start − invited" (docs/domain.md, "Report definitions"): the scheduled start, by which sessions
are counted; invited is when the session was created."""

DECIDING = _waits("decided", "ended").format(of="")
""""Time to decision = decided − ended" (docs/domain.md, "Report definitions"), of sessions by their decision's time."""

HIRING = _waits("hired_at", "applied_at").replace("moments", "candidates")
""""Time to hire = hired − applied, median and p90" (docs/domain.md, "Report definitions"), of candidates by when they
were hired; for one interview, of those who had a session of it."""

_OF_INTERVIEW = "AND id IN (SELECT candidate_id FROM sessions WHERE interview_id = :interview)"


def waits(db: Session, query: str, given: Mapping[str, Any], only: str = "") -> Waits:
    """The waits of SCHEDULING or DECIDING, of all sessions or of those of the condition ``only``."""
    return _read(db.execute(build_query(query, only), given))


def hiring(db: Session, given: Mapping[str, Any]) -> Waits:
    """The waits of HIRING, of all candidates or of those of ``given["interview"]``."""
    return _read(db.execute(text(HIRING.format(of=_OF_INTERVIEW if "interview" in given else "")), given))


def _read(rows: Any) -> Waits:
    return {(current, number): Wait(n, *hours) for current, number, n, hours in rows}
