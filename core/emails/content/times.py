"""Formats times for readers: in their own zone, with its name."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

_MINUS = "\u2212"


@lru_cache(maxsize=600)
def zone(name: str) -> ZoneInfo:
    """The IANA zone; UTC for an unknown name, which imported rows may hold."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return ZoneInfo("UTC")


def zone_name(at: datetime) -> str:
    """The zone of a local time by its city, with the offset at that time: "New York time (UTC−5)"."""
    key = getattr(at.tzinfo, "key", "UTC")
    offset = _offset(at.utcoffset() or timedelta())
    place = key.rpartition("/")[2].replace("_", " ")
    if key.startswith("Etc/") or place in ("UTC", "UCT", "GMT", "Zulu", "Universal", "Greenwich"):
        return offset
    return f"{place} time ({offset})"


def _offset(offset: timedelta) -> str:
    minutes = round(offset.total_seconds() / 60)
    if minutes == 0:
        return "UTC"
    hours, remainder = divmod(abs(minutes), 60)
    return f"UTC{'+' if minutes > 0 else _MINUS}{hours}" + (f":{remainder:02}" if remainder else "")


def day(at: datetime) -> str:
    """ "Tuesday, 24 November 2026"."""
    return f"{at:%A}, {date(at)}"


def date(at: datetime) -> str:
    """ "24 November 2026"."""
    return f"{at.day} {at:%B %Y}"


def short_day(at: datetime) -> str:
    """ "Tue 24 Nov 2026"."""
    return f"{at:%a} {at.day} {at:%b %Y}"


def moment(at: datetime, timezone: str) -> str:
    """ "Tuesday, 24 November 2026, 14:00 Lisbon time (UTC)"; the same moment in any zone."""
    local = at.astimezone(zone(timezone))
    return f"{day(local)}, {local:%H:%M} {zone_name(local)}"


def short_moment(at: datetime, timezone: str) -> str:
    """ "Tue 24 Nov 2026, 14:00 Lisbon time (UTC)"."""
    local = at.astimezone(zone(timezone))
    return f"{short_day(local)}, {local:%H:%M} {zone_name(local)}"


def length(minutes: int) -> str:
    """ "45 minutes", "1 hour", "1 h 30 min"."""
    hours, remainder = divmod(minutes, 60)
    if not hours:
        return f"{remainder} minute{'' if remainder == 1 else 's'}"
    if not remainder:
        return f"{hours} hour{'' if hours == 1 else 's'}"
    return f"{hours} h {remainder} min"


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A start and an end in one zone."""

    start: datetime
    end: datetime

    @classmethod
    def of(cls, start: datetime, end: datetime, timezone: str) -> "TimeRange":
        """The two times in that zone."""
        local = zone(timezone)
        return cls(start.astimezone(local), end.astimezone(local))

    @property
    def day(self) -> str:
        """The start's day in full."""
        return day(self.start)

    @property
    def date(self) -> str:
        """The start's day without the weekday."""
        return date(self.start)

    @property
    def short_day(self) -> str:
        """The start's day for a subject."""
        return short_day(self.start)

    @property
    def clock(self) -> str:
        """The start's time of day."""
        return f"{self.start:%H:%M}"

    @property
    def hours(self) -> str:
        """Start and end time; with the offset of each where it changes between them, and the end's day if another."""
        start, end = f"{self.start:%H:%M}", f"{self.end:%H:%M}"
        if self.start.utcoffset() != self.end.utcoffset():
            start, end = (f"{at:%H:%M} ({_offset(at.utcoffset() or timedelta())})" for at in (self.start, self.end))
        days = (self.end.date() - self.start.date()).days
        later = "" if not days else " the next day" if days == 1 else f" on {short_day(self.end)}"
        return f"{start}–{end}{later}"

    @property
    def zone(self) -> str:
        """The zone's name with its offset."""
        return zone_name(self.start)

    @property
    def place(self) -> str:
        """The zone's name without its offset, for short lines."""
        return self.zone.partition(" (")[0]

    def relative(self, now: datetime) -> str:
        """ "today", "tomorrow" or "on Tue 24 Nov 2026", as of ``now`` in the reader's zone."""
        days = (self.start.date() - now.astimezone(self.start.tzinfo).date()).days
        return {0: "today", 1: "tomorrow"}.get(days, f"on {self.short_day}")

    def same_time(self, timezone: str) -> "TimeRange | None":
        """The same times in another zone; None when the local times there are the same."""
        other = TimeRange.of(self.start.astimezone(UTC), self.end.astimezone(UTC), timezone)
        same = other.start.replace(tzinfo=None) == self.start.replace(tzinfo=None)
        return None if same else other
