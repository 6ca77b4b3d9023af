"""When a reminder is due and until when it may be sent: every rule of docs/domain.md, on every clock there is."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.reminders.windows import QuietHours, window

NIGHT = (time(22), time(7))


def hours(n: float) -> timedelta:
    return timedelta(hours=n)


def minutes(n: float) -> timedelta:
    return timedelta(minutes=n)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def quiet(zone: str, begin: time = NIGHT[0], end: time = NIGHT[1]) -> QuietHours:
    return QuietHours(begin, end, ZoneInfo(zone))


@pytest.mark.parametrize(
    ("offset", "until"),
    [
        (minutes(1440), minutes(-1440 + 30)),
        (minutes(60), minutes(-60 + 30)),
        (minutes(40), minutes(-40 + 20)),
        (minutes(15), minutes(-15 + 7.5)),
        (minutes(16), minutes(-16 + 8)),
        (minutes(34), minutes(-34 + 17)),
    ],
)
def test_the_window_is_the_smallest_of_its_three_limits(offset: timedelta, until: timedelta) -> None:
    start = at("2026-03-10T12:00:00+00:00")
    assert window(start, offset) == (start - offset, start + until)


@pytest.mark.parametrize(
    ("case", "start", "offset", "zone", "due"),
    [
        ("in the day nothing moves", "2026-03-11T15:00+00:00", 24, "UTC", "2026-03-10T15:00+00:00"),
        ("to the end, 3 h are left", "2026-03-11T10:00+00:00", 4, "UTC", "2026-03-11T07:00+00:00"),
        ("to the beginning, less is left", "2026-03-11T09:59+00:00", 4, "UTC", "2026-03-10T22:00+00:00"),
        ("a day before: to the end", "2026-03-11T23:00+00:00", 24, "UTC", "2026-03-11T07:00+00:00"),
        ("below 4 h nothing moves", "2026-03-11T07:30+00:00", 3.9, "UTC", "2026-03-11T03:36+00:00"),
        ("the first quiet moment", "2026-03-11T22:00+00:00", 24, "UTC", "2026-03-11T07:00+00:00"),
        ("the moment after the last", "2026-03-12T07:00+00:00", 24, "UTC", "2026-03-11T07:00+00:00"),
        ("by the recipient's clock", "2026-03-11T23:00+00:00", 24, "Pacific/Kiritimati", "2026-03-10T23:00+00:00"),
        ("14 h ahead", "2026-03-12T10:00+00:00", 24, "Pacific/Kiritimati", "2026-03-11T17:00+00:00"),
        ("12 h behind", "2026-03-12T12:00+00:00", 24, "Etc/GMT+12", "2026-03-11T19:00+00:00"),
        ("the night that loses an hour", "2026-03-29T12:00+02:00", 5, "Europe/Berlin", "2026-03-29T07:00+02:00"),
        ("and in New York", "2026-03-08T10:00-04:00", 6, "America/New_York", "2026-03-08T07:00-04:00"),
        ("the night that has one more", "2026-10-25T10:30+01:00", 8, "Europe/Berlin", "2026-10-25T07:00+01:00"),
        ("begins before the change", "2026-10-25T09:00+01:00", 5, "Europe/Berlin", "2026-10-24T22:00+02:00"),
        ("29 February", "2028-03-01T10:00+00:00", 24 + 4, "UTC", "2028-02-29T07:00+00:00"),
        ("into 29 February", "2028-03-01T09:00+00:00", 24 + 6, "UTC", "2028-02-29T07:00+00:00"),
        ("no 29 February", "2027-03-01T09:00+00:00", 24 + 6, "UTC", "2027-02-28T07:00+00:00"),
        ("over the year's end", "2027-01-01T09:00+00:00", 5, "UTC", "2026-12-31T22:00+00:00"),
    ],
)
def test_quiet_hours(case: str, start: str, offset: float, zone: str, due: str) -> None:
    found = window(at(start), hours(offset), quiet(zone))
    assert found.due_at == at(due), case
    assert found.send_by == min(found.due_at + minutes(30), at(start) - minutes(5))


@pytest.mark.parametrize(
    ("case", "start", "begin", "end", "due"),
    [
        # Europe/Berlin, 29 March 2026: after 01:59 comes 03:00
        ("their end was left out", "2026-03-29T07:00+02:00", time(0), time(2, 30), "2026-03-29T03:30+02:00"),
        ("their beginning was left out", "2026-03-29T08:00+02:00", time(2, 30), time(6), "2026-03-29T03:30+02:00"),
        # 25 October 2026: after 02:59 comes 02:00 again
        ("their end comes twice: the second", "2026-10-25T06:00+01:00", time(0), time(2, 30), "2026-10-25T02:30+01:00"),
        ("their beginning comes twice", "2026-10-25T08:00+01:00", time(2, 30), time(7), "2026-10-25T02:30+02:00"),
    ],
)
def test_quiet_hours_with_a_boundary_in_the_clock_change(
    case: str, start: str, begin: time, end: time, due: str
) -> None:
    for offset in (4, 4.25):
        assert window(at(start), hours(offset), quiet("Europe/Berlin", begin, end)).due_at == at(due), case


def test_equal_quiet_hours_bounds_mean_none() -> None:
    start = at("2026-03-11T03:00+00:00")
    assert window(start, hours(24), quiet("UTC", time(3), time(3))).due_at == start - hours(24)


ZONES = (
    "UTC Europe/Berlin America/New_York Pacific/Kiritimati Etc/GMT+12 Etc/GMT-14 Asia/Kathmandu Australia/Lord_Howe "
    "America/St_Johns Africa/Casablanca Pacific/Apia Antarctica/Troll"
)
zones = st.sampled_from(ZONES.split())
clock = st.times().map(lambda t: t.replace(second=0, microsecond=0))


@given(
    st.datetimes(datetime(2024, 1, 1), datetime(2032, 12, 31)).map(lambda d: d.replace(tzinfo=UTC)),
    st.integers(15, 7 * 1440),
    zones,
    clock,
    clock,
)
def test_windows_in_every_zone_and_clock_change(
    start: datetime, offset: int, zone: str, begin: time, end: time
) -> None:
    off, hush = minutes(offset), quiet(zone, begin, end)
    plain, moved = window(start, off), window(start, off, hush)
    assert moved.due_at <= moved.send_by, "there is a time to send it"
    assert moved.send_by <= start - minutes(5)
    assert moved.send_by - moved.due_at <= min(minutes(30), off / 2)
    if moved.due_at == plain.due_at:
        return
    assert off >= hours(4)
    night = hush.around(plain.due_at)
    assert night is not None
    if moved.due_at > plain.due_at:
        assert moved.due_at == night[1] <= start - hours(3)
    else:
        assert moved.due_at == night[0]
        assert night[1] > start - hours(3)
