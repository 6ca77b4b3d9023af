"""The mails that a process has claimed: those that wait for a sender, and those that a sender has."""

import heapq
import threading
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from core.emails.queue import claims
from core.emails.queue.claims import ClaimedMail


class Envelope(NamedTuple):
    """From whom and to whom a mail goes, and what else its server must be able to take."""

    sender: str
    recipient: str
    size: int
    ascii: bool
    smtputf8: bool


class Ready(NamedTuple):
    """A claimed mail as it goes out."""

    mail: ClaimedMail
    envelope: Envelope
    content: bytes


class SendQueue:
    """The most urgent goes first. Used by the senders' threads and the mailer; ``on_change`` may be called by any."""

    def __init__(self, on_change: Callable[[], None], *, senders: int) -> None:
        self._senders = senders
        self._queued: list[tuple[tuple[int, datetime], int, Ready]] = []
        self._held: dict[UUID, str] = {}
        self._number = 0
        self._filled = threading.Condition()
        self._on_change = on_change
        self.low = 0
        """``on_change`` is called when no more than this many wait, and when no mail is held."""
        self.closed = threading.Event()

    @property
    def depth(self) -> int:
        """How many wait for a sender."""
        return len(self._queued)

    @property
    def empty(self) -> bool:
        """Whether no mail waits and no sender has one."""
        return not self._held

    def held(self) -> list[tuple[UUID, str]]:
        """All mails that are here, with the owners of their leases."""
        with self._filled:
            return list(self._held.items())

    def put(self, ready: Ready) -> None:
        """Add a mail, for the next free sender."""
        with self._filled:
            self._held[ready.mail.id] = ready.mail.owner
            self._number += 1
            heapq.heappush(self._queued, (claims.urgency(ready.mail), self._number, ready))
            self._filled.notify()

    def take(self, seconds: float) -> Ready | None:
        """The most urgent mail, once there is one; None: there was none in time, or the queue is closed."""
        with self._filled:
            self._filled.wait_for(lambda: self._queued or self.closed.is_set(), seconds)
            return self._pop()

    def take_ahead(self) -> Ready | None:
        """The most urgent mail, while so many wait that no free sender would have it sooner."""
        with self._filled:
            return self._pop() if len(self._queued) > self._senders else None

    def take_all(self) -> list[Ready]:
        """Every mail that waits."""
        with self._filled:
            taken = [ready for _, _, ready in self._queued]
            self._queued.clear()
            return taken

    def done(self, ready: Ready) -> None:
        """A mail is no longer here, unless it was claimed anew meanwhile."""
        with self._filled:
            if self._held.get(ready.mail.id) == ready.mail.owner:
                del self._held[ready.mail.id]
        if not self._held:
            self._on_change()

    def close(self) -> None:
        """Senders get nothing more."""
        with self._filled:
            self.closed.set()
            self._filled.notify_all()

    def _pop(self) -> Ready | None:
        if self.closed.is_set() or not self._queued:
            return None
        _, _, ready = heapq.heappop(self._queued)
        if len(self._queued) <= self.low:
            self._on_change()
        return ready
