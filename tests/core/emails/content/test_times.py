"""Moments, periods and sizes as people read them."""

from datetime import UTC, datetime, timedelta

import pytest

from core.emails.content.context import period, size
from core.emails.content.times import TimeRange, length, moment, zone_name
from tests.support.mail_samples import NOW, START


@pytest.mark.parametrize(
    ("start", "minutes", "zone", "hours"),
    [
        ("2026-11-24T23:30+00:00", 60, "UTC", "23:30–00:30 the next day"),
        ("2026-11-24T23:30+00:00", 60 * 50, "UTC", "23:30–01:30 on Fri 27 Nov 2026"),
        ("2026-10-25T00:30+00:00", 60, "Europe/Lisbon", "01:30 (UTC+1)–01:30 (UTC)"),
        ("2026-03-29T00:30+00:00", 60, "Europe/Berlin", "01:30 (UTC+1)–03:30 (UTC+2)"),
    ],
)
def test_time_ranges_over_midnight_and_over_the_clock_change(start: str, minutes: int, zone: str, hours: str) -> None:
    begin = datetime.fromisoformat(start)
    assert TimeRange.of(begin, begin + timedelta(minutes=minutes), zone).hours == hours


@pytest.mark.parametrize(
    ("zone", "named"),
    [
        ("UTC", "UTC"),
        ("Etc/GMT+5", "UTC−5"),
        ("Asia/Kolkata", "Kolkata time (UTC+5:30)"),
        ("America/Argentina/Buenos_Aires", "Buenos Aires time (UTC−3)"),
        ("no/such zone", "UTC"),
        ("../../etc/passwd", "UTC"),
    ],
)
def test_zones_have_names_that_people_use(zone: str, named: str) -> None:
    assert zone_name(TimeRange.of(START, START, zone).start) == named


def test_formatting_of_lengths_sizes_and_periods() -> None:
    assert [length(n) for n in (1, 45, 60, 90, 120)] == ["1 minute", "45 minutes", "1 hour", "1 h 30 min", "2 hours"]
    assert [size(n) for n in (840, 12_400, 3_440_000)] == ["840 bytes", "12 KB", "3.4 MB"]
    midnight = datetime(2026, 11, 15, 23, tzinfo=UTC)
    assert period(midnight, midnight + timedelta(days=1), "Europe/Berlin") == "Mon 16 Nov 2026, Berlin time (UTC+1)"
    week = period(midnight, midnight + timedelta(days=7), "Europe/Berlin")
    assert week == "Mon 16 Nov 2026 – Sun 22 Nov 2026, Berlin time (UTC+1)"
    assert period(midnight, NOW, "UTC") == "Sun 15 Nov 2026, 23:00 – Mon 23 Nov 2026, 09:30, UTC"
    assert moment(NOW, "Europe/Lisbon") == "Monday, 23 November 2026, 09:30 Lisbon time (UTC)"
