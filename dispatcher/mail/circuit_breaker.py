"""Whether the mail server can be used: while it cannot, mails stay in the queue."""

import logging
import random
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from core.clock import utcnow
from dispatcher.mail.smtp import Connection, Failed

log = logging.getLogger(__name__)

FIRST, LONGEST = 1.0, 60.0
"""Seconds between two tries, doubled each time."""


class CircuitOpen(Exception):
    """The server could not be used a moment ago, and is not tried again yet."""


class CircuitBreaker:
    """Opens the connections of a process, but for a while after one failed while no other was open."""

    def __init__(self, on_trip: Callable[[], None] = lambda: None) -> None:
        """``on_trip`` is called, by any thread, when the server turns out to be unusable."""
        self.open_until: datetime | None = None
        self._on_trip = on_trip
        self._connecting = threading.Lock()
        """Held while a connection is opened: one sender finds out, with one mail, that the server is unreachable."""
        self._connections: set[Connection] = set()
        self._pause = FIRST

    @property
    def tripped(self) -> bool:
        """Whether the last try failed, so that the next is made with one mail."""
        return self.open_until is not None

    def is_open(self, now: datetime) -> bool:
        """Whether it is too early to try again."""
        return self.open_until is not None and now < self.open_until

    def connect(self, connection: Connection) -> None:
        """Open the connection. Raises Failed, or CircuitOpen when it was not tried."""
        with self._connecting:
            if self.is_open(utcnow()):
                raise CircuitOpen
            try:
                connection.open()
            except Failed as failed:
                if not connection.aborted and not any(other.usable for other in tuple(self._connections)):
                    self._trip(connection, failed)
                raise
            self._connections.add(connection)
            if self.tripped:
                log.info("the mail server can be used again")
            self.open_until, self._pause = None, FIRST

    def forget(self, connection: Connection) -> None:
        """The connection is closed."""
        self._connections.discard(connection)

    def _trip(self, connection: Connection, failed: Failed) -> None:
        if not self.tripped:
            log.warning(
                "the mail server cannot be used; mails wait",
                extra={"server": connection.server.host, "why": str(failed)},
            )
        pause = self._pause * random.uniform(0.75, 1.25)  # noqa: S311 - spreads load, guards nothing
        self.open_until = utcnow() + timedelta(seconds=pause)
        self._pause = min(self._pause * 2, LONGEST)
        self._on_trip()
