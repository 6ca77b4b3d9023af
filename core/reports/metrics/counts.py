"""All that is counted of sessions, for every week at once, from one pass over them.

Sessions alike (in the same weeks, of the same status) are counted together first, some thousand groups of a million
sessions; the figures are sums of those.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from core.reports.metrics.moments import OF_PERIOD, OUTCOME, TOUCHED, over, week, within

STAGES = ("invited", "opened", "started", "completed", "advanced", "hired")
_STAGE = f"""CASE
            WHEN NOT ({within("invited")}) THEN 0
            WHEN status = 'completed' AND decision = 'advance'
                AND candidate_id IN (SELECT id FROM candidates WHERE hired_at IS NOT NULL) THEN 6
            WHEN status = 'completed' AND decision = 'advance' THEN 5
            WHEN status = 'completed' THEN 4
            WHEN began IS NOT NULL THEN 3
            WHEN opened IS NOT NULL THEN 2
            ELSE 1
        END"""  # noqa: S608 - our own words
"""How far a session that was invited in the period got; who got to a step passed those before it, whatever is noted of
them. Hired counts who was hired and advanced by this session."""

# A volatile column keeps the planner from looking inside: seen from outside, a week is a number of which there are few.
# Else it expects as many groups as there are moments, and sorts a million sessions.
COUNTS = f"""
    WITH alike AS MATERIALIZED (
        SELECT planned, began, slot, settled, came, status, no_show_party, stage, count(*) AS n, count(score) AS scored,
            count(*) FILTER (WHERE score >= pass_score) AS passed, count(*) FILTER (WHERE reported) AS reported
        FROM (
            SELECT {week("planned")} AS planned, {week("began")} AS began, {week("slot")} AS slot,
                {week("CASE WHEN began IS NOT NULL OR settled <= :as_of THEN settled END")} AS settled,
                began IS NOT NULL AS came, status, no_show_party, {_STAGE} AS stage, score, pass_score,
                {OF_PERIOD} AS reported, clock_timestamp() AS volatile
            FROM facts WHERE {TOUCHED}
        ) AS told GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
    )
    SELECT 'planned' AS what, planned AS week, status AS kind, sum(n) AS n,
        sum(n) FILTER (WHERE came) AS came,
        sum(n) FILTER (WHERE NOT came AND status = 'no_show' AND no_show_party = 'candidate') AS missed
    FROM alike GROUP BY 2, 3
    UNION ALL
    SELECT 'began', began, status, sum(n), sum(scored), sum(passed) FROM alike GROUP BY 2, 3
    UNION ALL
    SELECT 'settled', settled, NULL, sum(n), sum(n) FILTER (WHERE came), 0 FROM alike GROUP BY 2
    UNION ALL
    SELECT 'outcome', slot, {OUTCOME}, sum(n), 0, 0 FROM alike GROUP BY 2, 3
    UNION ALL
    SELECT 'stage', stage, NULL, sum(n), 0, 0 FROM alike GROUP BY 2
    UNION ALL
    SELECT 'reported', 0, NULL, sum(reported), 0, 0 FROM alike
"""  # noqa: S608 - our own words
"""The figures of DOMAIN, "Report definitions", that are ratios of sessions:

- by planned start, "Show rate = started / (started + candidate no-shows). No-show rate = 1 − show rate."; an
  interviewer's no-show is in neither. "Held rate = completed / planned, cancelled included": and those still to come.
- by begin, "Completion = completed / (completed + abandoned), sessions started in the period"; and "Pass rate = score ≥
  pass score / scored".
- by when an invitation was settled, "Invite conversion = ever started / invitations whose expiry has passed or that
  started". (By when they were made, the newest would be the converted ones alone.)
"""


@dataclass(slots=True)
class Counts:
    """What was counted: of weeks by their numbers, of the period its funnel and its sessions."""

    weeks: dict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    outcomes: dict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    stages: Counter[int] = field(default_factory=Counter)
    n: int = 0


def count(db: Session, given: Mapping[str, Any], only: str = "") -> Counts:
    """Count the sessions, or ``only`` some."""
    counts = Counts()
    for what, number, kind, n, second, third in db.execute(over(COUNTS, only), given):
        match what:
            case "outcome":
                counts.outcomes[number][kind] += int(n)
            case "stage":
                counts.stages[number] += int(n)
            case "reported":
                counts.n = int(n or 0)
            case _ if number is not None:
                _add(counts.weeks[number], what, kind, int(n), int(second or 0), int(third or 0))
    return counts


def _add(into: Counter[str], what: str, status: str | None, n: int, second: int, third: int) -> None:
    if what == "planned":
        into.update(planned=n, came=second, missed=third, held=n if status == "completed" else 0)
    elif what == "began":
        into.update(scored=second, passed=third)
        if status in ("completed", "abandoned"):
            into[status] += n
    else:
        into.update(settled=n, converted=second)
