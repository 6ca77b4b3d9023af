"""Counts of the jobs' runs: each run once, whoever records it how often, and for ever."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from core import cleanup, jobs
from core.clock import utcnow
from core.db import transaction
from core.events import FlowState
from core.results import COUNTS
from dispatcher import flow_states
from tests.support import processes
from tests.support.processes import Api, eventually
from tests.support.prometheus import Samples, measured

SWEEP, NET = "update-session-statuses", "process-pending-notifications"


@pytest.fixture
def own(database: str, tmp_path: Path) -> Iterator[Api]:
    """An API on a database of the test's own."""
    with processes.api_process(database, tmp_path) as running:
        yield running


def run(
    job: str | None, *states: str, result: dict[str, Any] | None = None, at: datetime
) -> list[flow_states.StateOfRun]:
    """The states of one run, a second apart, as the watcher reads them; the result comes with the last."""
    types = {"Late": "SCHEDULED", "Skipped": "COMPLETED"}
    fields: dict[str, Any] = dict.fromkeys(FlowState.model_fields) | {"flow": job or "f", "deployment": job}
    fields |= {"run_id": uuid4(), "run_name": "r"}
    found = []
    for place, name in enumerate(states):
        last = {"result": result} if place == len(states) - 1 else {}
        state = {
            "state": types.get(name, name.upper()),
            "state_name": name,
            "occurred_at": at + timedelta(seconds=place),
        }
        found.append((uuid4(), FlowState(**fields | state | last)))
    return found


def a_day(at: datetime) -> list[flow_states.StateOfRun]:
    counts = {"found": 5, "done": 3, "skipped": 1, "failed": 1, "dry_run": False}
    return [
        *run(SWEEP, "Pending", "Running", "Completed", result=counts, at=at),
        *run(SWEEP, "Late", "Pending", "Running", "Completed", result=counts | {"done": 5}, at=at),
        *run(SWEEP, "Running", "Completed", result=counts | {"dry_run": True}, at=at),
        *run(SWEEP, "Running", "Skipped", at=at),
        *run(NET, "Running", "Failed", at=at),
        *run(NET, "Running", "Crashed", at=at),
        *run(NET, "Cancelled", at=at),
        *run(None, "Running", "Completed", result=counts, at=at),
    ]


def test_each_state_is_counted_once_by_several_dispatchers(database: str) -> None:
    at = utcnow() - timedelta(minutes=5)
    states = a_day(at)
    with ThreadPoolExecutor(4) as everybody:
        for _ in range(3):
            list(everybody.map(flow_states.store, [states] * 4))
    with transaction() as db:
        net, sweep = jobs.job_stats(db)
    assert (net.job, sweep.job) == (NET, SWEEP), "what is deployed"
    assert sweep.runs == {"completed": 2, "skipped": 1, "failed": 0, "crashed": 0, "cancelled": 0}
    assert sweep.rows == {"found": 10, "done": 8, "skipped": 2, "failed": 2}
    assert (sweep.late, sweep.is_late, sweep.completed_at) == (1, False, at + timedelta(seconds=3))
    assert net.runs == {"completed": 0, "skipped": 0, "failed": 1, "crashed": 1, "cancelled": 1}
    assert (net.rows, net.completed_at) == (dict.fromkeys(COUNTS, 0), None)


def test_counts_outlive_the_deleted_runs(own: Api) -> None:
    """In every API process, and when the log of pushes has been pruned."""
    at = utcnow() - timedelta(minutes=5)
    flow_states.store(a_day(at))
    seen = counted(own, lambda found: key("runs_total", job=SWEEP, end="completed") in found)
    assert seen[key("runs_total", job=SWEEP, end="completed")] == 2
    assert seen[key("runs_total", job=NET, end="crashed")] == 1
    assert seen[key("rows_total", job=SWEEP, outcome="done")] == 8
    assert seen[key("late_runs_total", job=SWEEP)] == 1
    assert seen[key("is_late", job=SWEEP)] == 0
    assert seen[key("last_success_timestamp_seconds", job=SWEEP)] == pytest.approx(at.timestamp() + 3)
    with transaction() as db:
        db.execute(text("UPDATE push_events SET created_at = created_at - interval '8 days'"))
    assert cleanup.clean_up(now=utcnow()).counts["push_events"] > 10
    flow_states.store(a_day(at))
    again = counted(own, lambda found: found[key("runs_total", job=SWEEP, end="completed")] != 2)
    assert again[key("runs_total", job=SWEEP, end="completed")] == 4
    assert all(again[name] >= count for name, count in seen.items() if name[0].endswith("_total"))


def key(name: str, **labels: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    return f"greenroom_job_{name}", tuple(sorted(labels.items()))


def counted(api: Api, true: Any) -> Samples:
    """What is measured of jobs as soon as this is so: what the database says is some seconds old."""
    kept: Samples = {}

    def counted_all() -> bool:
        kept.clear()
        kept.update({name: value for name, value in measured(api).items() if name[0].startswith("greenroom_job")})
        return bool(true(kept))

    eventually(counted_all, "the jobs are counted")
    return kept
