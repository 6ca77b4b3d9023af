"""When a reminder is due and until when it may be sent: pure, from moments to moments."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

LATEST = timedelta(minutes=30)
"""How long after its due time a reminder may still be sent, if nothing else says less."""
BEFORE_START = timedelta(minutes=5)
MOVABLE = timedelta(hours=4)
"""Quiet hours move only reminders that are at least so long before the start."""
STILL_USEFUL = timedelta(hours=3)
"""What has to be left before the start for a reminder to wait for the end of quiet hours."""


class Window(NamedTuple):
    """From when, and until when at the latest, a reminder may be sent; in UTC."""

    due_at: datetime
    send_by: datetime


@dataclass(frozen=True, slots=True)
class QuietHours:
    """Hours of each day, by the clocks of a zone, in which nobody wants to be reminded; they may go over midnight."""

    begin: time
    end: time
    zone: ZoneInfo

    def around(self, at: datetime) -> tuple[datetime, datetime] | None:
        """The quiet hours in which this moment lies, in UTC; their end is outside them."""
        for begin, end in self._nights(at):
            if begin <= at < end:
                return begin, end
        return None

    def _nights(self, at: datetime) -> Iterator[tuple[datetime, datetime]]:
        if self.begin == self.end:
            return
        local = at.astimezone(self.zone).date()
        for day in (local - timedelta(days=1), local):
            begin = datetime.combine(day, self.begin, self.zone)
            until = day + timedelta(days=1) if self.end < self.begin else day
            end = datetime.combine(until, self.end, self.zone)
            # An hour that the clocks repeat is quiet to its second end. Of one that they leave out, the later reading
            # of its times is the one that comes after the change.
            yield begin.astimezone(UTC), max(end.replace(fold=fold).astimezone(UTC) for fold in (0, 1))


def window(start: datetime, offset: timedelta, quiet: QuietHours | None = None) -> Window:
    """When to remind of a session that begins at ``start``, so long before it."""
    due = (start - offset).astimezone(UTC)
    if quiet is not None and offset >= MOVABLE and (hours := quiet.around(due)):
        begin, end = hours
        due = end if end <= start - STILL_USEFUL else begin
    return Window(due, min(due + LATEST, due + offset / 2, start.astimezone(UTC) - BEFORE_START))
