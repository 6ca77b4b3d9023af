"""What every job gives: a small typed result, which its run shows."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel

COUNTS = ("found", "done", "skipped", "failed")
"""What a result counts, in the order in which people read it."""


class Result(BaseModel):
    """What one run, as of ``now``, found and did; of a dry run, what it would do. A job's own says the rest."""

    now: datetime
    dry_run: bool = False
    found: int = 0
    done: int = 0
    skipped: int = 0
    failed: int = 0

    def headline(self) -> str:
        """One line for people: ``Dry run: found 12, done 0, skipped 3, failed 0 (expire 3, no_show 9).``"""
        told = self.model_dump()
        counts = ", ".join(f"{name} {told[name]}" for name in COUNTS)
        shares: dict[str, Any] = next((value for name, value in told.items() if name.startswith("by_")), {})
        listed = ", ".join(f"{name} {count}" for name, count in shares.items())
        line = f"{counts}{f' ({listed})' if listed else ''}."
        return f"Dry run: {line}" if self.dry_run else line[:1].upper() + line[1:]
