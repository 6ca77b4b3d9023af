"""Whether the mail server can be reached: while it cannot, mails are left in the queue."""

import asyncio
import random
from datetime import datetime, timedelta

FIRST, LONGEST = 1.0, 60.0
"""Seconds between two tries, doubled each time."""


class Away(Exception):
    """The server was found to be away a moment ago, and is not tried again yet."""


class Link:
    """The way to the server, as all connections of a process have found it."""

    def __init__(self) -> None:
        self.closed_until: datetime | None = None
        self.opening = asyncio.Lock()
        """Held while a connection is opened: when the server is away one hand finds out, at the cost of one mail."""
        self._pause = FIRST

    def closed(self, now: datetime) -> bool:
        """Whether it is too early to try again."""
        return self.closed_until is not None and now < self.closed_until

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
        pause = self._pause * random.uniform(0.75, 1.25)  # noqa: S311 - spreads load, guards nothing
        self.closed_until = now + timedelta(seconds=pause)
        self._pause = min(self._pause * 2, LONGEST)
        return news
