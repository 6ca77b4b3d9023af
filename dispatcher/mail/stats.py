"""What was done with mails: counted for the run that records it."""

import asyncio
from datetime import datetime

from pydantic import Field

from core.emails.queue.outcomes import UpdatedMail
from core.results import COUNTS, Result

SKIPPED = ("expired", "suppressed", "cancelled")
FAILED = ("dead", "uncertain")


class Sent(Result):
    """What a run found and did: ``done`` were accepted, ``skipped`` stopped before DATA, ``failed`` dead or uncertain.

    ``retried`` wait for another attempt, ``released`` were given back untried. ``sample`` are ids, of a dry run.
    """

    retried: int = 0
    released: int = 0
    by_outcome: dict[str, int] = Field(default_factory=dict)
    sample: list[str] = Field(default_factory=list)


class Tally:
    """Counts as they happen; ``take`` gives and forgets them."""

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
        """Another mail came to this."""
        self._counts[outcome] = self._counts.get(outcome, 0) + 1
        self.changed.set()

    def written(self, mail: UpdatedMail) -> None:
        """A verdict was written down."""
        if mail.status == "queued":
            self.add("retried" if mail.error else "released")
        else:
            self.add(mail.status)

    def take(self, now: datetime) -> Sent:
        """What was counted so far, as of a run that began at ``now``; counting begins anew."""
        counts, found = self._counts, self._found
        self._counts, self._found = {}, 0
        self.changed.clear()
        return Sent(
            now=now,
            found=found,
            done=counts.get("sent", 0),
            skipped=sum(counts.get(name, 0) for name in SKIPPED),
            failed=sum(counts.get(name, 0) for name in FAILED),
            retried=counts.get("retried", 0),
            released=counts.get("released", 0),
            by_outcome=dict(sorted(counts.items())),
        )


def together(first: Sent, second: Sent) -> Sent:
    """Two results as one, of the earlier run."""
    sums = {name: getattr(first, name) + getattr(second, name) for name in (*COUNTS, "retried", "released")}
    outcomes = dict(first.by_outcome)
    for name, count in second.by_outcome.items():
        outcomes[name] = outcomes.get(name, 0) + count
    return first.model_copy(update={**sums, "by_outcome": dict(sorted(outcomes.items()))})
