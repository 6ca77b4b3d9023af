"""Whether the mail server can be reached: while it cannot, mails are left in the queue."""

import random
from datetime import datetime, timedelta

FIRST, LONGEST = 1.0, 60.0
"""Seconds between two tries, doubled each time."""


class Link:
    """The way to the server, as all connections of a process have found it."""

    def __init__(self) -> None:
        self.closed_until: datetime | None = None
        self._pause = FIRST

    @property
    def suspect(self) -> bool:
        """Whether the last try failed, so that the next is made with one mail."""
        return self.closed_until is not None

    def works(self) -> bool:
        """A connection opened; whether that is news."""
        news, self.closed_until, self._pause = self.suspect, None, FIRST
        return news

    def failed(self, now: datetime) -> bool:
        """No connection could be opened, and none is open; whether that is news."""
        news = not self.suspect
        if self.closed_until is None or self.closed_until <= now:  # of several that fail at once the first counts
            pause = self._pause * random.uniform(0.75, 1.25)  # noqa: S311 - spreads load, guards nothing
            self.closed_until = now + timedelta(seconds=pause)
            self._pause = min(self._pause * 2, LONGEST)
        return news
