"""A period's weeks, the period before it, and a zone's UTC offsets; pure functions, by the zone's calendar."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from core.reports.data import Period

_DAY = timedelta(days=1)
_FIRST, _LAST = 1970, 2100


class Slice(NamedTuple):
    """The part of a week that lies in a period."""

    monday: date
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Span:
    """A period and the one before it, divided into weeks: figures of all weeks are read at once, by number."""

    before: tuple[Slice, ...]
    now: tuple[Slice, ...]

    @property
    def bounds(self) -> list[datetime]:
        """The starts of all weeks, and the end of the last, for ``width_bucket``, which numbers them from 1."""
        return [*(week.start for week in (*self.before, *self.now)), self.now[-1].end]


def span(period: Period) -> Span:
    """The weeks of a period and of the one before it."""
    return Span(weeks(previous(period)), weeks(period))


def previous(period: Period) -> Period:
    """The preceding period of the same length: as many calendar days when it goes from midnight to midnight, whether
    they had 23, 24 or 25 hours; else as many seconds."""
    # In UTC: Python compares a time in a repeated hour as unequal to all times of other zones.
    zone, start, end = ZoneInfo(period.zone), period.start.astimezone(UTC), period.end.astimezone(UTC)
    first, last = start.astimezone(zone).date(), end.astimezone(zone).date()
    if (midnight(first, zone), midnight(last, zone)) == (start, end):
        return Period(midnight(first - (last - first), zone), start, period.zone)
    return Period(start - (end - start), start, period.zone)


def weeks(period: Period) -> tuple[Slice, ...]:
    """The weeks of a period, each from Monday's midnight in its zone to the next; the first and last may be partial."""
    return tuple(_weeks(period, ZoneInfo(period.zone)))


def _weeks(period: Period, zone: ZoneInfo) -> Iterator[Slice]:
    start, last = period.start.astimezone(UTC), period.end.astimezone(UTC)
    local = start.astimezone(zone).date()
    monday = local - local.weekday() * _DAY
    while start < last:
        following = monday + 7 * _DAY
        end = min(midnight(following, zone), last)
        if start < end:
            yield Slice(monday, start, end)
            start = end
        monday = following


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """The start of a day, in UTC; where a change of the clocks skips midnight, the first moment after."""
    return datetime.combine(day, time(), zone).astimezone(UTC)


class ZoneOffsets(NamedTuple):
    """A zone's UTC offsets, in seconds, each from the time ``since`` on."""

    since: tuple[datetime, ...]
    seconds: tuple[int, ...]


@lru_cache(maxsize=32)
def zone_offsets(name: str) -> ZoneOffsets:
    """Every change of a zone's UTC offset from 1970 to 2100.

    The database has its own zone data, perhaps of another version, and takes names such as CET for a fixed offset; so
    that a report is consistent, all its times are converted by this list.
    """
    zone, at, last = ZoneInfo(name), datetime(_FIRST, 1, 1, tzinfo=UTC), datetime(_LAST, 1, 1, tzinfo=UTC)
    since, seconds = [at], [_offset_seconds(at, zone)]
    while at < last:
        after = at + _DAY
        if (ahead := _offset_seconds(after, zone)) != seconds[-1]:
            since.append(_change(at, after, zone))
            seconds.append(ahead)
        at = after
    return ZoneOffsets(tuple(since), tuple(seconds))


def _offset_seconds(at: datetime, zone: ZoneInfo) -> int:
    offset = at.astimezone(zone).utcoffset()
    return int(offset.total_seconds()) if offset else 0


def _change(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """The second between the two at which the offset changed."""
    first = _offset_seconds(before, zone)
    while after - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=int((after - before).total_seconds()) // 2)
        before, after = (middle, after) if _offset_seconds(middle, zone) == first else (before, middle)
    return after
