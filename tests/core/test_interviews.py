"""An interview that is changed: from the next sweep on its waiting sessions are checked by the new minutes."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core import interviews
from core.db import transaction
from core.interviews import InterviewPatch
from core.sessions import update_statuses
from core.viewers import Viewer
from tests.support.sweep_data import INTERVIEWER, NOW, Stage, minutes, staged

ADMIN = Viewer(1, "admin", "Admin", "admin@example.com", 1)

# What is changed, a session that waits for it, and the rule and status that the shorter time brings at NOW.
SHORTENED: dict[str, tuple[dict[str, int], dict[str, Any], str, str]] = {
    "no-show": (
        {"no_show_minutes": 8},
        {"status": "scheduled", "scheduled_start": NOW - minutes(8), "late_version": 1},
        "no_show",
        "no_show",
    ),
    "idle": (
        {"idle_minutes": 4},
        {"status": "in_progress", "started_at": NOW - minutes(9), "last_activity_at": NOW - minutes(4)},
        "interrupt",
        "interrupted",
    ),
    "resume": (
        {"resume_minutes": 5},
        {"status": "interrupted", "started_at": NOW - minutes(20), "status_at": NOW - minutes(5)},
        "close",
        "abandoned",
    ),
    "overrun": (
        {"overrun_minutes": 3},
        {"status": "in_progress", "started_at": NOW - minutes(63), "last_activity_at": NOW - minutes(2)},
        "close",
        "abandoned",
    ),
    "duration": (
        {"duration_minutes": 30},
        {"status": "in_progress", "started_at": NOW - minutes(60), "last_activity_at": NOW - minutes(2)},
        "close",
        "abandoned",
    ),
    "feedback deadline": (
        {"feedback_deadline_hours": 3},
        {"status": "completed", "ended_at": NOW - timedelta(hours=3), "interviewer_id": INTERVIEWER},
        "feedback_overdue",
        "completed",
    ),
}


@pytest.fixture
def stage(database: str) -> Iterator[Stage]:
    with staged(database) as made:
        yield made


def change(interview_id: int, **fields: Any) -> None:
    with transaction() as db:
        interviews.change(db, interview_id, InterviewPatch(**fields), by=ADMIN)


@pytest.mark.parametrize("what", SHORTENED)
def test_a_shorter_time_counts_from_the_next_sweep_on(stage: Stage, what: str) -> None:
    fields, columns, rule, becomes = SHORTENED[what]
    id_, other = stage.session(**columns), stage.session(**columns, interview_id=stage.interview(2))
    assert update_statuses(now=NOW).found == 0
    planned = stage.get(id_).sweep_at
    assert planned > NOW, "the sweep has found out when it has to look again"
    change(1, **fields)
    assert stage.get(other).sweep_at == planned, "the sessions of other interviews are left alone"
    assert update_statuses(now=NOW).counts == {rule: 1}
    assert stage.status(id_) == becomes


@pytest.mark.parametrize("what", SHORTENED)
def test_a_longer_time_counts_too(stage: Stage, what: str) -> None:
    fields, columns, _, _ = SHORTENED[what]
    [(field, shorter)] = fields.items()
    change(1, **{field: shorter})
    id_ = stage.session(**columns)
    update_statuses(now=NOW - minutes(1))
    assert stage.get(id_).sweep_at == NOW, "by the shorter time it is due now"
    change(1, **{field: shorter + 2})
    assert update_statuses(now=NOW).counts == {}
    assert stage.status(id_) == columns["status"]
    assert stage.get(id_).sweep_at > NOW


def test_a_change_wakes_no_session_that_the_sweep_has_done_with(stage: Stage) -> None:
    ended = stage.session("cancelled", sweep_at=None)
    waiting = stage.session("invited", invitation_expires_at=NOW + minutes(1))
    update_statuses(now=NOW)
    change(1, no_show_minutes=8)
    assert stage.get(ended).sweep_at is None
    assert stage.get(waiting).sweep_at == datetime.fromtimestamp(0, UTC)
    update_statuses(now=NOW)
    assert stage.get(waiting).sweep_at == NOW + minutes(1)
