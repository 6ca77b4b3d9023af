"""What was done with mails: counted for the run that records it."""

import asyncio
from collections import Counter
from datetime import datetime

from core.emails.queue.outcomes import UpdatedMail
from core.results import JobResult

SKIPPED = ("expired", "suppressed", "cancelled")
FAILED = ("dead", "uncertain")


class SendStats:
    """Counts as they happen, in the event loop's thread; ``take`` gives and forgets them."""

    def __init__(self) -> None:
        self._found = 0
        self._counts: dict[str, int] = {}
        self.changed = asyncio.Event()
        """Set by whatever is counted, until it is taken."""

    @property
    def empty(self) -> bool:
        """Whether nothing has been counted since the last ``take``."""
        return not self._found and not self._counts

    def found(self, count: int) -> None:
        """So many more mails were found due."""
        if count:
            self._found += count
            self.changed.set()

    def add(self, outcome: str) -> None:
        """Another mail ended so."""
        self._counts[outcome] = self._counts.get(outcome, 0) + 1
        self.changed.set()

    def updated(self, mail: UpdatedMail) -> None:
        """A mail's new state was written."""
        if mail.status == "queued":
            self.add("retried" if mail.error else "released")
        else:
            self.add(mail.status)

    def take(self, now: datetime) -> JobResult:
        """What was counted so far, as of a run that began at ``now``; counting begins anew.

        ``done`` were accepted, ``skipped`` stopped before DATA, ``failed`` dead or uncertain; of what else is counted,
        ``retried`` wait for another attempt, and ``released`` were given back untried.
        """
        counts, found = self._counts, self._found
        self._counts, self._found = {}, 0
        self.changed.clear()
        return JobResult(
            now=now,
            found=found,
            done=counts.get("sent", 0),
            skipped=sum(counts.get(name, 0) for name in SKIPPED),
            failed=sum(counts.get(name, 0) for name in FAILED),
            counts=Counter(dict(sorted(counts.items()))),
        )
