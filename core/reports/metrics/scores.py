"""The scores of sessions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from core.reports.data import Scores, Spread
from core.reports.metrics.moments import build_query
from core.reports.metrics.spreads import BINS, SCORES, spread

POSITIONS = 10


@dataclass(frozen=True, slots=True)
class ScoreStats:
    """The scores of the sessions that started in a period."""

    histogram: tuple[int, ...]
    pass_scores: tuple[float, ...]
    spread: Spread
    positions: tuple[Scores, ...]


def scores(db: Session, given: Mapping[str, Any], only: str = "") -> ScoreStats:
    """The scores of all sessions, or of those of the condition ``only``."""
    bins, lines, whole, positions = [0] * BINS, (), Spread(0), []
    for what, key, n, numbers, others in db.execute(build_query(SCORES, only), {**given, "positions": POSITIONS}):
        if what == "bin":
            bins[n] = int(others[0])
        elif what == "pass":
            lines = tuple(others)
        elif key:
            positions.append(Scores(key[1:], spread(n, numbers), tuple(others or ())))
        else:
            whole = spread(n, numbers)
    return ScoreStats(tuple(bins), lines, whole, tuple(positions))
