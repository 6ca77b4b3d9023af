"""Computes when a reminder is due and until when it may be sent; pure functions of times."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

MAX_DELAY = timedelta(minutes=30)
"""How long after its due time a reminder may still be sent, if no other limit is shorter."""
MIN_BEFORE_START = timedelta(minutes=5)
MIN_MOVABLE_OFFSET = timedelta(hours=4)
"""Quiet hours move only reminders with at least this offset."""
MIN_LEAD = timedelta(hours=3)
"""A reminder waits for the end of quiet hours only if that is at least so long before the start."""


class Window(NamedTuple):
    """From when and until when a reminder may be sent, in UTC."""

    due_at: datetime
    send_by: datetime


@dataclass(frozen=True, slots=True)
class QuietHours:
    """Daily hours, in local time of a zone, in which a user gets no reminders; they may span midnight."""

    begin: time
    end: time
    zone: ZoneInfo

    def around(self, at: datetime) -> tuple[datetime, datetime] | None:
        """The quiet hours that contain this moment, as ``[begin, end)`` in UTC; None: it is outside them."""
        for begin, end in self._periods(at):
            if begin <= at < end:
                return begin, end
        return None

    def _periods(self, at: datetime) -> Iterator[tuple[datetime, datetime]]:
        if self.begin == self.end:
            return
        local = at.astimezone(self.zone).date()
        for day in (local - timedelta(days=1), local):
            begin = datetime.combine(day, self.begin, self.zone)
            until = day + timedelta(days=1) if self.end < self.begin else day
            end = datetime.combine(until, self.end, self.zone)
            # When clocks go back, the repeated hour is quiet until its second end. When they go forward, the later
            # reading of a skipped time is the one after the change.
            yield begin.astimezone(UTC), max(end.replace(fold=fold).astimezone(UTC) for fold in (0, 1))


def window(start: datetime, offset: timedelta, quiet: QuietHours | None = None) -> Window:
    """The window of the reminder of a session that starts at ``start``, due ``offset`` before it."""
    due = (start - offset).astimezone(UTC)
    if quiet is not None and offset >= MIN_MOVABLE_OFFSET and (hours := quiet.around(due)):
        begin, end = hours
        due = end if end <= start - MIN_LEAD else begin
    return Window(due, min(due + MAX_DELAY, due + offset / 2, start.astimezone(UTC) - MIN_BEFORE_START))
