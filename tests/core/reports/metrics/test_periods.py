"""Weeks, periods before, and clocks, by calendars whose days are not all of 24 hours; and the snapshot below."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import InternalError

from core.db import snapshot, transaction
from core.reports import metrics
from core.reports.data import Period
from core.reports.metrics.periods import midnight, previous, weeks, zone_offsets
from tests.support.report_rows import NOW, World, march

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = ("Europe/Berlin", "America/Havana", "America/Santiago", "Africa/Casablanca", "Asia/Kathmandu", "CET")


def _days(zone: str, first: date, last: date) -> Period:
    return Period(midnight(first, ZoneInfo(zone)), midnight(last, ZoneInfo(zone)), zone)


@pytest.mark.parametrize(
    ("day", "hours_before"), [(date(2026, 3, 30), 23), (date(2026, 10, 26), 25), (date(2026, 7, 1), 24)]
)
def test_the_day_before_has_its_own_length(day: date, hours_before: int) -> None:
    period = _days("Europe/Berlin", day, day + timedelta(days=1))
    before = previous(period)
    assert before.end == period.start and before.end - before.start == timedelta(hours=hours_before)
    assert before.start.astimezone(BERLIN).hour == 0


def test_a_month_over_the_change_of_clocks() -> None:
    before = previous(_days("Europe/Berlin", date(2026, 3, 1), date(2026, 4, 1)))
    assert before.start.astimezone(BERLIN).isoformat() == "2026-01-29T00:00:00+01:00"


def test_a_period_of_hours_goes_back_by_hours() -> None:
    start = datetime(2026, 3, 29, 10, tzinfo=BERLIN)
    before = previous(Period(start, start + timedelta(hours=24), "Europe/Berlin"))
    assert before.end - before.start == timedelta(hours=24)
    assert before.start.astimezone(BERLIN).isoformat() == "2026-03-28T09:00:00+01:00"


def test_weeks_begin_on_local_mondays() -> None:
    result = weeks(_days("Europe/Berlin", date(2026, 3, 25), date(2026, 4, 7)))
    assert [week.monday.isoformat() for week in result] == ["2026-03-23", "2026-03-30", "2026-04-06"]
    assert [(week.end - week.start) / timedelta(hours=1) for week in result] == [5 * 24 - 1, 7 * 24, 24]


@pytest.mark.parametrize(("zone", "at"), [("Etc/GMT-14", "2026-03-08T10:00"), ("Etc/GMT+12", "2026-03-09T12:00")])
def test_weeks_in_extreme_zones(zone: str, at: str) -> None:
    start = datetime.fromisoformat(at).replace(tzinfo=UTC)
    result = weeks(Period(start - timedelta(seconds=1), start + timedelta(seconds=1), zone))
    assert [(week.monday.isoformat(), week.start) for week in result][1:] == [("2026-03-09", start)]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(ZONES), st.datetimes(datetime(2019, 1, 1), datetime(2031, 1, 1)), st.integers(1, 60 * 24 * 40))
def test_weeks_cut_a_period_without_gap_or_overlap(zone: str, start: datetime, minutes: int) -> None:
    period = Period(start.replace(tzinfo=UTC), start.replace(tzinfo=UTC) + timedelta(minutes=minutes), zone)
    result = weeks(period)
    assert result[0].start == period.start and result[-1].end == period.end
    assert all(one.end == other.start for one, other in pairwise(result))
    for week in result:
        for moment in (week.start, week.end - timedelta(microseconds=1)):
            local = moment.astimezone(ZoneInfo(zone)).date()
            assert week.monday.weekday() == 0 and week.monday <= local < week.monday + timedelta(days=7)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(ZONES), st.datetimes(datetime(1971, 1, 1), datetime(2099, 1, 1)))
def test_clocks_are_the_zones(zone: str, naive: datetime) -> None:
    moment = naive.replace(tzinfo=UTC)
    result = zone_offsets(zone)
    place = sum(since <= moment for since in result.since) - 1
    assert timedelta(seconds=result.seconds[place]) == moment.astimezone(ZoneInfo(zone)).utcoffset()


@pytest.mark.usefixtures("database")
def test_a_snapshot_does_not_see_what_is_committed_meanwhile() -> None:
    with transaction() as db:
        world = World(db)
        world.held(3)
    with snapshot() as db:
        before = metrics.dashboard(db, march(), as_of=NOW)
        with transaction() as other:
            World(other).held(4)
        assert metrics.dashboard(db, march(), as_of=NOW) == before
        with pytest.raises(InternalError, match="read-only"):
            db.execute(text("DELETE FROM answers"))
    with snapshot() as db:
        assert metrics.dashboard(db, march(), as_of=NOW).totals.planned == before.totals.planned + 1
        # What was tuned for a report is not left to whoever has the connection next.
    with transaction() as db:
        assert db.execute(text("SHOW enable_indexscan")).scalar_one() == "on"
