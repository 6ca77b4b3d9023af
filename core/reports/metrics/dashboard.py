"""The dashboard's figures."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from core.db import array
from core.reports.data import Dashboard, Load, Period, Stage, Stamp
from core.reports.metrics.attention import attention
from core.reports.metrics.counts import STAGES
from core.reports.metrics.moments import build_query, query_parameters, tune, within
from core.reports.metrics.operations import operations
from core.reports.metrics.periods import span, zone_offsets
from core.reports.metrics.scores import scores
from core.reports.metrics.totals import period_totals

INTERVIEWERS = 15

HEAT = f"""
    SELECT CAST(date_part('isodow', local) AS int), CAST(date_part('hour', local) AS int), count(*) FROM (
        SELECT planned AT TIME ZONE 'UTC' + interval '1 second' * (CAST(:seconds AS int[]))[
            width_bucket(planned, CAST(:since AS timestamptz[]))] AS local
        FROM moments WHERE {within("planned")}
    ) AS starts GROUP BY 1, 2
"""  # noqa: S608 - our constants
"""Scheduled starts by weekday and hour in the period's zone."""

LOADS = f"""
    SELECT users.name, sessions, hours, found FROM (
        SELECT interviewer_id, count(*) AS sessions, count(*) OVER () AS found,
            coalesce(sum(date_part('epoch', ended - began)) FILTER (WHERE ended > began), 0) / 3600 AS hours
        FROM moments WHERE {within("began")} AND status = 'completed' AND interviewer_id IS NOT NULL GROUP BY 1
        ORDER BY sessions DESC, hours DESC, interviewer_id LIMIT {INTERVIEWERS}
    ) AS held JOIN users ON users.id = interviewer_id ORDER BY sessions DESC, hours DESC, users.id
"""  # noqa: S608 - our constants
"""The interviewers' completed sessions, by their start, and their hours from start to end."""


def dashboard(db: Session, period: Period, *, as_of: datetime) -> Dashboard:
    """All figures of a period; consistent when ``db`` is one snapshot."""
    cut = span(period)
    parameters = query_parameters(cut, as_of=as_of)
    operation_figures = operations(db, parameters)  # before tune(): it needs the index-only scans that tune() turns off
    tune(db)
    found = period_totals(db, cut, parameters)
    scored = scores(db, parameters)
    loads = db.execute(build_query(LOADS), parameters).all()
    listed, waiting = attention(db, found.feedback_counts, parameters)
    return Dashboard(
        stamp=Stamp(period, as_of, found.n),
        totals=found.now,
        previous=found.before,
        funnel=tuple(
            Stage(name, sum(n for step, n in found.stages.items() if step > place)) for place, name in enumerate(STAGES)
        ),
        weeks=found.weeks,
        previous_weeks=found.weeks_before,
        histogram=scored.histogram,
        pass_scores=scored.pass_scores,
        scores=scored.spread,
        positions=scored.positions,
        feedback=found.feedback,
        interviewers=tuple(Load(name, sessions, hours) for name, sessions, hours, _ in loads),
        interviewer_count=loads[0].found if loads else 0,
        heat=_heat(db, period, parameters),
        attention=listed,
        attention_count=waiting,
        operations=operation_figures,
    )


def _heat(db: Session, period: Period, parameters: Mapping[str, Any]) -> dict[tuple[int, int], int]:
    offsets = zone_offsets(period.zone)
    local = {"since": array(offsets.since), "seconds": array(offsets.seconds)}
    return {(day, hour): n for day, hour, n in db.execute(build_query(HEAT), {**parameters, **local})}
