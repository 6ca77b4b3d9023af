"""All counts of sessions, for every week at once, by one pass over them.

Sessions are first counted in groups (same weeks, same status), some thousand for a million sessions; the figures are
sums over those groups.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from core.reports.metrics.moments import OF_PERIOD, OUTCOME, TOUCHED, build_query, week, within

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
        END"""  # noqa: S608 - our constants
"""The last stage that a session invited in the period reached; it counts as having passed all earlier stages. ``hired``
counts candidates who were hired and whom this session advanced."""

# A volatile column keeps the planner from flattening the subquery: so it estimates few distinct week numbers. Else it
# would expect as many groups as distinct times, and sort a million sessions.
COUNTS = f"""
    WITH session_groups AS MATERIALIZED (
        SELECT planned, began, slot, resolved, came, status, no_show_party, stage,
            count(*) AS n, count(score) AS scored,
            count(*) FILTER (WHERE score >= pass_score) AS passed, count(*) FILTER (WHERE reported) AS reported
        FROM (
            SELECT {week("planned")} AS planned, {week("began")} AS began, {week("slot")} AS slot,
                {week("CASE WHEN began IS NOT NULL OR resolved <= :as_of THEN resolved END")} AS resolved,
                began IS NOT NULL AS came, status, no_show_party, {_STAGE} AS stage, score, pass_score,
                {OF_PERIOD} AS reported, clock_timestamp() AS volatile
            FROM facts WHERE {TOUCHED}
        ) AS classified GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
    )
    SELECT 'planned' AS what, planned AS week, status AS kind, sum(n) AS n,
        sum(n) FILTER (WHERE came) AS came,
        sum(n) FILTER (WHERE NOT came AND status = 'no_show' AND no_show_party = 'candidate') AS missed
    FROM session_groups GROUP BY 2, 3
    UNION ALL
    SELECT 'began', began, status, sum(n), sum(scored), sum(passed) FROM session_groups GROUP BY 2, 3
    UNION ALL
    SELECT 'resolved', resolved, NULL, sum(n), sum(n) FILTER (WHERE came), 0 FROM session_groups GROUP BY 2
    UNION ALL
    SELECT 'outcome', slot, {OUTCOME}, sum(n), 0, 0 FROM session_groups GROUP BY 2, 3
    UNION ALL
    SELECT 'stage', stage, NULL, sum(n), 0, 0 FROM session_groups GROUP BY 2
    UNION ALL
    SELECT 'reported', 0, NULL, sum(reported), 0, 0 FROM session_groups
"""  # noqa: S608 - our constants
"""The figures of docs/domain.md, "Report definitions", that are ratios of sessions:

- by scheduled start, "Show rate = started / (started + candidate no-shows). No-show rate = 1 − show rate."; an
  interviewer's no-show is in neither. "Held rate = completed / planned, cancelled included": and future ones.
- by start, "Completion = completed / (completed + abandoned), sessions started in the period"; and "Pass rate = score ≥
  pass score / scored".
- by when an invitation was resolved, "Invite conversion = ever started / invitations whose expiry has passed or that
  started". (By creation, the newest invitations would include the converted ones only.)
"""


@dataclass(slots=True)
class Counts:
    """The counts: those of weeks by week number; of the period, its funnel stages and its sessions (``n``)."""

    weeks: dict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    outcomes: dict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    stages: Counter[int] = field(default_factory=Counter)
    n: int = 0


def count(db: Session, given: Mapping[str, Any], only: str = "") -> Counts:
    """Count all sessions, or those of the condition ``only``."""
    counts = Counts()
    for what, number, kind, n, second, third in db.execute(build_query(COUNTS, only), given):
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
        into.update(resolved=n, converted=second)
