"""What every job returns: one typed result, which its run shows."""

from collections import Counter
from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, Field

COUNTS = ("found", "done", "skipped", "failed")
"""What every result counts, in the order in which people read it."""
SAMPLE = 10
"""How many of the things it found a result names at most."""


class JobResult(BaseModel):
    """What one run, as of ``now``, found and did; of a dry run, what it would do.

    ``counts`` breaks the four numbers down by names of the job's own, and a name that is not there counts 0. ``sample``
    holds a few of the things that were found; ``data`` says in JSON's types what is neither a number nor a thing.
    """

    now: datetime
    dry_run: bool = False
    found: int = 0
    done: int = 0
    skipped: int = 0
    failed: int = 0
    counts: Counter[str] = Field(default_factory=Counter)
    sample: list[dict[str, Any]] = Field(default_factory=list)
    data: dict[str, Any] = Field(default_factory=dict)

    def __add__(self, other: Self) -> Self:
        """Both as one result, as of the earlier of them."""
        return self.model_copy(
            update={
                **{name: getattr(self, name) + getattr(other, name) for name in COUNTS},
                "now": min(self.now, other.now),
                "counts": self.counts + other.counts,
                "sample": (self.sample + other.sample)[:SAMPLE],
                "data": self.data | other.data,
            }
        )

    def headline(self) -> str:
        """One line for people: ``Dry run: found 12, done 0, skipped 3, failed 0 (expire 3, no_show 9).``"""
        numbers = ", ".join(f"{name} {getattr(self, name)}" for name in COUNTS)
        breakdown = ", ".join(f"{name} {count}" for name, count in self.counts.items() if count)
        line = f"{numbers}{f' ({breakdown})' if breakdown else ''}."
        return f"Dry run: {line}" if self.dry_run else line[:1].upper() + line[1:]
