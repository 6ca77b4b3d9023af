"""The reports' SQL says what plain Python says, whatever the rows, at every edge of the period and of the clocks."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from core.db import transaction
from core.models import STATUSES
from core.reports import metrics
from core.reports.csv import rows as csv_rows
from core.reports.data import Dashboard, Period, Totals, Week
from core.reports.metrics import periods
from tests.support import plain_metrics as plain
from tests.support.report_rows import World, at

ZONES = (
    "UTC", "Europe/Berlin", "America/New_York", "America/Havana", "America/Santiago", "Asia/Kathmandu", "Asia/Beirut",
    "Africa/Casablanca", "Pacific/Chatham", "Etc/GMT-14", "Etc/GMT+12", "CET",
)  # fmt: skip
SCORES = st.sampled_from([0, 4.99, 5, 59.99, 60, 60.01, 95, 100])
MICRO = timedelta(microseconds=1)
# Around the days on which clocks of these zones change.
DAYS = st.sampled_from([datetime(2026, 3, 8), datetime(2026, 3, 29), datetime(2026, 9, 6), datetime(2026, 10, 25)])


class _Undo(Exception):
    """Ends an example's transaction without a trace."""


@st.composite
def drawn_period(draw: st.DrawFn) -> Period:
    """A period of days by some zone's midnights, or of any length."""
    zone = draw(st.sampled_from(ZONES))
    day = (draw(DAYS) + timedelta(days=draw(st.integers(-20, 3)))).date()
    if draw(st.booleans()):
        days = draw(st.sampled_from([1, 2, 7, 28]))
        start, end = (periods.midnight(one, ZoneInfo(zone)) for one in (day, day + timedelta(days=days)))
        return Period(start, end, zone)
    start = datetime(day.year, day.month, day.day, draw(st.integers(0, 23)), tzinfo=UTC)
    return Period(start, start + timedelta(hours=draw(st.integers(1, 500))), zone)


@st.composite
def moments(draw: st.DrawFn, period: Period) -> datetime:
    """At or next to an edge of the period, of the one before, of a week; or anywhere near."""
    length = period.end - period.start
    edges = [period.start, period.end, plain.before(period).start]
    edges += [slice_.start for slice_ in periods.weeks(period)]
    if draw(st.booleans()):
        return draw(st.sampled_from(edges)) + draw(st.sampled_from([-MICRO, timedelta(0), MICRO]))
    return period.start - length * 1.3 + draw(st.floats(0, 1)) * length * 2.6


@st.composite
def sessions(draw: st.DrawFn, period: Period) -> dict[str, Any]:
    """The columns of a session, in any state, with any moments; and of its candidate, and its feedback."""
    status = draw(st.sampled_from(STATUSES))
    maybe = st.none() | moments(period)
    start = draw(moments(period) if status == "scheduled" else maybe)
    ended = status in ("completed", "abandoned", "no_show", "cancelled", "expired")
    hours = st.sampled_from([0.0, 1.5, 24.0, 48.0, 48.0 + 1 / 3600, 60.0, 200.0])
    return {
        "status": status,
        "created_at": draw(moments(period)),
        "opened_at": draw(maybe),
        "invitation_expires_at": draw(moments(period) if status == "invited" else maybe),
        "scheduled_start": start,
        "started_at": draw(maybe) if status in ("completed", "abandoned", "in_progress", "cancelled") else None,
        "ended_at": draw(moments(period)) if ended else None,
        "no_show_party": draw(st.sampled_from([None, "candidate", "interviewer"])) if status == "no_show" else None,
        "score": draw(st.none() | st.sampled_from([0, 4.99, 59.99, 60, 60.01, 95, 100]))
        if status == "completed"
        else None,
        "decision": (decision := draw(st.sampled_from([None, "advance", "reject", "hold"]))),
        "decided_at": draw(moments(period)) if decision else None,
        "deleted_at": draw(maybe),
        # Open sessions of one interviewer may not overlap.
        "interviewer": draw(st.sampled_from([None, 0, 1])) if ended else None,
        "feedback": draw(st.none() | hours),
        "applied_at": draw(maybe),
        "hired_at": draw(maybe),
    }


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Period, list[dict[str, Any]], datetime]:
    """A period, sessions, and as of when they are looked at."""
    period = draw(drawn_period())
    some = draw(st.lists(sessions(period), max_size=12))
    # As of some edge; or of the moment when feedback of a session that ended at one is due.
    as_of = draw(moments(period)) + draw(st.sampled_from([timedelta(0), timedelta(hours=48), timedelta(days=60)]))
    return period, some, as_of


def _fill(world: World, some: list[dict[str, Any]]) -> plain.Plain:
    found, people = [], []
    for columns in some:
        given_ = dict(columns)
        person = world.candidate(applied_at=given_.pop("applied_at"), hired_at=given_.pop("hired_at"))
        who, hours = given_.pop("interviewer"), given_.pop("feedback")
        by = world.interviewers[who].id if who is not None else None
        row = plain.Row(world.session(candidate=person, interviewer_id=by, **given_), person, 60.0, 48)
        if by is not None and hours is not None and row.session.ended_at is not None:
            world.feedback(row.session, hours)
            row.feedback_at = row.session.ended_at + timedelta(hours=hours)
        people.append(person)
        found.append(row)
    return plain.Plain(found, people, datetime.max.replace(tzinfo=UTC))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
@given(worlds())
@example((Period(at(2, 0), at(3, 0), "UTC"), [], at(3)))
@pytest.mark.usefixtures("shared_database")
def test_sql_agrees_with_plain_python(drawn: tuple[Period, list[dict[str, Any]], datetime]) -> None:
    period, some, as_of = drawn
    with pytest.raises(_Undo), transaction() as db:
        world = World(db, settings={"pass_score": 60, "feedback_deadline_hours": 48})
        want = _fill(world, some)
        want.as_of = as_of
        report = metrics.dashboard(db, period, as_of=want.as_of)
        _compare(report, want, period)
        # All sessions are of one interview here.
        one = metrics.interview(db, world.interview.id, period, as_of=want.as_of)
        assert (one.stamp, one.totals, one.previous, one.weeks) == (
            report.stamp,
            report.totals,
            report.previous,
            report.weeks,
        )
        assert (one.histogram, one.scores) == (report.histogram, report.scores)
        assert len(b"".join(csv_rows(db, period)).splitlines()) == 1 + report.stamp.n
        raise _Undo


def _compare(report: Dashboard, want: plain.Plain, period: Period) -> None:
    now, before = _within(period), _within(plain.before(period))
    assert report.stamp.n == want.n(now)
    _same(report.totals, want.totals(now))
    _same(report.previous, want.totals(before))
    for weeks, of in ((report.weeks, now), (report.previous_weeks, before)):
        for week in weeks:
            _week(week, want, of, period.zone)
        assert sum(week.totals.planned for week in weeks) == want.totals(of).planned
    assert [stage.sessions for stage in report.funnel] == want.funnel(now)
    scores = [(r.score, r.session) for r in want.rows if now(r.began) and r.score is not None]
    assert report.histogram == tuple(sum(min(int(score // 5), 19) == bin_ for score, _ in scores) for bin_ in range(20))
    assert report.scores == pytest.approx(plain.spread(score for score, _ in scores))
    due = [r for r in want.rows if now(r.due) and r.due and r.due <= want.as_of]
    for share, came in report.feedback.curve:
        shares = [(r.feedback_at - r.session.ended_at) / timedelta(hours=48) for r in due if r.feedback_at]
        assert came == pytest.approx(sum(one <= share + 1e-12 for one in shares) / len(due))
    local = [r.session.scheduled_start for r in want.rows if now(r.session.scheduled_start)]
    hours = (at.astimezone(ZoneInfo(period.zone)) for at in local if at)
    assert report.heat == Counter((at.isoweekday(), at.hour) for at in hours)
    held = Counter(
        r.session.interviewer_id
        for r in want.rows
        if now(r.began) and r.session.status == "completed" and r.session.interviewer_id
    )
    assert report.interviewer_count == len(held)
    assert sorted(load.sessions for load in report.interviewers) == sorted(held.values())


def _within(period: Period) -> Any:
    return lambda at: at is not None and period.start <= at < period.end


def _week(week: Week, want: plain.Plain, of: Any, zone: str) -> None:
    def within(at: datetime | None) -> bool:
        return at is not None and of(at) and plain.monday(at, zone) == week.monday

    assert week.outcomes == want.outcomes(within)
    _same(week.totals, want.totals(within))


def _same(one: Totals, other: Totals) -> None:
    for name in Totals.__dataclass_fields__:
        assert getattr(one, name) == pytest.approx(getattr(other, name)), name
