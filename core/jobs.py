"""The jobs' runs, as admins and dashboards see them: each counted once, and admins notified of trouble once."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from core import outbox
from core.db import array
from core.events import FlowState, PushEvent
from core.notifications import Notice, job_failed, job_late, job_recovered, notify
from core.results import COUNTS

ENDS = ("completed", "skipped", "failed", "crashed", "cancelled")
"""How a run ends; ``skipped``: it had nothing to do, because another run does its work."""
_BEGUN, _LATE, _ROWS = "begun", "late", "rows "


def record_states(db: Session, states: Sequence[tuple[UUID, FlowState]], *, now: datetime) -> None:
    """Publish states of runs, each once however often it is given; count those of jobs, notify admins of trouble.

    A job is what has a deployment. Admins are notified once that its runs are late, until a run of it has begun again.
    """
    counted: list[_Count] = []
    for state_id, change in states:
        key = f"prefect:{state_id}"
        outbox.publish(db, change, dedupe_key=key)
        if change.deployment is not None and (what := _what(change)):
            rows = _rows(change) if what == "completed" else ()
            counted.append(_Count(key, change.deployment, what, change.occurred_at, rows))
    outbox.publish_late(db, _count, *counted)
    notify(db, _notices(db, [change for _, change in states]), now=now)


class JobStats(NamedTuple):
    """One job's counts: runs by end, rows of completed runs by what became of them; and how it stands."""

    job: str
    runs: dict[str, int]
    rows: dict[str, int]
    late: int
    is_late: bool
    completed_at: datetime | None


def job_stats(db: Session) -> list[JobStats]:
    """Every job that has had a run, by name."""
    found: dict[str, dict[str, tuple[int, datetime]]] = {}
    for job, what, count, last_at in db.execute(text("SELECT job, what, count, last_at FROM job_counts ORDER BY job")):
        found.setdefault(job, {})[what] = count, last_at
    return [
        JobStats(
            job,
            runs={end: of.get(end, _NEVER)[0] for end in ENDS},
            rows={row: of.get(_ROWS + row, _NEVER)[0] for row in COUNTS},
            late=of.get(_LATE, _NEVER)[0],
            is_late=_outage(of.get(_LATE, _NEVER)[1], of.get(_BEGUN, _NEVER)[1]),
            completed_at=of.get("completed", _NEVER)[1],
        )
        for job, of in found.items()
    ]


_NEVER: tuple[int, datetime | None] = (0, None)


class _Count(NamedTuple):
    key: str
    job: str
    what: str
    at: datetime
    rows: tuple[tuple[str, int], ...]


def _what(change: FlowState) -> str | None:
    """What is counted of a state: that the run is late, has begun, or how it has ended; a dry run did nobody's work."""
    if (change.result or {}).get("dry_run"):
        return None
    if change.state_name == "Late":
        return _LATE
    if change.state == "RUNNING":
        return _BEGUN
    if change.state == "COMPLETED" and change.state_name == "Skipped":
        return "skipped"
    end = change.state.lower()
    return end if end in ENDS else None


def _rows(change: FlowState) -> tuple[tuple[str, int], ...]:
    result = change.result or {}
    return tuple((row, result[row]) for row in COUNTS if isinstance(result.get(row), int))


_KNOWN = text("SELECT dedupe_key FROM push_events WHERE dedupe_key = ANY(CAST(:keys AS text[]))")
_ADD = text("""
    INSERT INTO job_counts (job, what, count, last_at)
    SELECT * FROM unnest(
        CAST(:job AS text[]), CAST(:what AS text[]), CAST(:count AS bigint[]), CAST(:at AS timestamptz[]))
    ON CONFLICT (job, what) DO UPDATE
    SET count = job_counts.count + excluded.count, last_at = greatest(job_counts.last_at, excluded.last_at)
""")


def _count(db: Session, counted: Sequence[_Count]) -> outbox.Finish:
    def finish() -> Iterable[PushEvent]:
        # under the outbox's lock, which every state is published under: what is not there yet is counted by us alone
        known = set(db.scalars(_KNOWN, {"keys": array([one.key for one in counted])}))
        counts, last = Counter[tuple[str, str]](), dict[tuple[str, str], datetime]()
        for one in counted:
            if one.key not in known:
                for what, number in ((one.what, 1), *((_ROWS + row, n) for row, n in one.rows)):
                    counts[one.job, what] += number
                    last[one.job, what] = max(one.at, last.get((one.job, what), one.at))
        if counts:
            jobs, whats = zip(*counts, strict=True)
            columns: dict[str, Sequence[Any]] = {"job": jobs, "what": whats, "count": list(counts.values())}
            columns["at"] = [last[which] for which in counts]
            db.execute(_ADD, {name: array(values) for name, values in columns.items()})
        return ()

    return finish


_LAST = text("SELECT job, what, last_at FROM job_counts WHERE what IN ('late', 'begun') AND job = ANY(:jobs)")


def _notices(db: Session, changes: Sequence[FlowState]) -> list[Notice]:
    """Notices to admins: runs that failed; that a job is late, and that it is no more, each once an outage.

    An outage is known by the last run that began before it, so that all who notify of it use one key.
    """
    notices: list[Notice] = []
    rows = db.execute(_LAST, {"jobs": sorted({change.deployment for change in changes if change.deployment})})
    last: dict[tuple[str, str], datetime] = {(job, what): at for job, what, at in rows}
    for change in sorted(changes, key=lambda one: one.occurred_at):
        if (job := change.deployment) is None or (what := _what(change)) is None:
            continue
        at, begun, late = change.occurred_at, last.get((job, _BEGUN)), last.get((job, _LATE))
        if what in ("failed", "crashed"):
            notices.append(job_failed(change.run_id, job))
        elif what == _LATE and _outage(at, begun):
            notices.append(job_late(change.run_id, job, since=begun))
        elif what == _BEGUN and late is not None and _outage(late, begun) and at > late:
            notices.append(job_recovered(change.run_id, job, since=begun))
        last[job, what] = max(at, last.get((job, what), at))
    return notices


def _outage(late: datetime | None, begun: datetime | None) -> bool:
    """Whether a run was late, and none has begun since."""
    return late is not None and (begun is None or late > begun)
