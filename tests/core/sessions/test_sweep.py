"""The status sweep: each rule at its boundary, one step a pass, and who is notified."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from core.sessions import update_statuses
from tests.support.sweep_data import BOUNDARIES, CANDIDATE, INTERVIEWER, NOW, TICK, Stage, minutes, staged


@pytest.fixture
def stage(database: str) -> Iterator[Stage]:
    with staged(database) as made:
        yield made


@pytest.mark.parametrize("moment", [-TICK, timedelta(0), TICK], ids=["before", "at", "after"])
def test_each_rule_at_its_boundary(stage: Stage, moment: timedelta) -> None:
    ids = {case: stage.session(**columns) for case, (columns, _, _) in BOUNDARIES.items()}
    before = {case: stage.get(id_) for case, id_ in ids.items()}
    swept = update_statuses(now=NOW + moment)
    after = {case: stage.get(id_) for case, id_ in ids.items()}
    if moment < timedelta(0):
        assert (swept.found, swept.done, swept.skipped) == (0, 0, len(BOUNDARIES))
        assert after == {case: row._replace(sweep_at=NOW) for case, row in before.items()}
        assert not any(stage.events(id_) or stage.pushed(id_) for id_ in ids.values())
        return
    assert (swept.found, swept.done, swept.skipped, swept.failed) == (len(BOUNDARIES), len(BOUNDARIES), 0, 0)
    assert swept.counts == Counter(rule for _, rule, _ in BOUNDARIES.values())
    assert {case: row.status for case, row in after.items()} == {case: to for case, (_, _, to) in BOUNDARIES.items()}
    for case, (columns, rule, status) in BOUNDARIES.items():
        row, moved = after[case], status != columns["status"]
        assert row.status_at == (NOW + moment if moved else before[case].status_at), case
        assert row.no_show_party == ("candidate" if status == "no_show" else None), case
        assert stage.events(row.id) == [("moved", status) if moved else (rule, None)], case
        assert stage.pushed(row.id) == (["session.moved"] if moved else ["session.late"] if rule == "late" else []), (
            case
        )


def test_the_ratio_counts_required_questions_and_each_once(stage: Stage) -> None:
    due = {"status_at": NOW - minutes(31)}
    twice = stage.session("interrupted", answered=(1, 2, 3, 6), **due)
    stage.insert("answers", session_id=twice, question_id=11, source="human", score=5, answered_at=NOW)
    exactly = stage.session("interrupted", answered=(2, 3, 4, 5), **due)
    nothing_asked = stage.interview(2, completion_ratio=0)
    free = stage.session("interrupted", interview_id=nothing_asked, **due)
    update_statuses(now=NOW)
    assert [stage.status(id_) for id_ in (twice, exactly, free)] == ["abandoned", "completed", "completed"]


def test_a_completed_session_gets_the_score_of_its_answers(stage: Stage) -> None:
    id_ = stage.session("interrupted", status_at=NOW - minutes(30), answered=(1, 2, 3, 4))
    stage.insert("answers", session_id=id_, question_id=11, source="human", score=5, scored_by=3, answered_at=NOW)
    update_statuses(now=NOW)
    # A person's 5 stands before the AI's 1: (5 + 2 + 3 + 4) of 4 × 5 points.
    assert stage.get(id_).score == 70
    assert stage.get(id_).ended_at == NOW


def test_only_the_first_matching_rule_applies(stage: Stage) -> None:
    missed = stage.session("scheduled", scheduled_start=NOW - minutes(30))
    over = stage.session(
        "in_progress", started_at=NOW - timedelta(hours=5), last_activity_at=NOW - timedelta(hours=4), answered=(1,)
    )
    swept = update_statuses(now=NOW)
    assert swept.counts == {"close": 1, "no_show": 1}
    assert stage.events(missed) == [("moved", "no_show")]
    assert stage.events(over) == [("moved", "abandoned")]
    assert stage.get(missed).late_version is None


def test_one_step_a_pass(stage: Stage) -> None:
    impatient = stage.interview(2, resume_minutes=0, overrun_minutes=600)
    id_ = stage.session(
        "in_progress",
        interview_id=impatient,
        started_at=NOW - minutes(60),
        last_activity_at=NOW - minutes(50),
        answered=(1,),
    )
    others = [stage.session("invited", invitation_expires_at=NOW) for _ in range(5)]
    assert update_statuses(now=NOW, batch=2).done == 6
    assert stage.status(id_) == "interrupted"
    assert update_statuses(now=NOW, batch=2).done == 0
    assert stage.status(id_) == "interrupted"
    assert update_statuses(now=NOW + TICK).counts == {"close": 1}
    assert stage.status(id_) == "abandoned"
    assert {stage.status(other) for other in others} == {"expired"}


def test_late_is_pushed_once_a_schedule_version(stage: Stage) -> None:
    id_ = stage.session("scheduled", scheduled_start=NOW, interviewer_id=INTERVIEWER)
    for at in (5, 6, 9, 14):
        update_statuses(now=NOW + minutes(at))
    assert stage.pushed(id_) == ["session.late"]
    assert stage.get(id_).late_version == 1
    # The schedule changed; an hour later it is late again.
    later = NOW + timedelta(hours=1)
    stage.db.execute(
        "UPDATE sessions SET scheduled_start = %s, scheduled_end = %s, schedule_version = 2, sweep_at = %s"
        " WHERE id = %s",
        [later, later + minutes(60), later, id_],
    )
    for at in (4, 5, 7):
        update_statuses(now=later + minutes(at))
    assert stage.pushed(id_) == ["session.late", "session.late"]
    assert stage.notified(id_) == {("late", INTERVIEWER)}
    assert [kind for kind, _ in stage.events(id_)] == ["late", "late"]
    update_statuses(now=later + minutes(15))
    assert stage.status(id_) == "no_show"


def test_a_status_set_by_sql_is_checked_by_the_sweep(stage: Stage) -> None:
    id_ = stage.session("in_progress", started_at=NOW - minutes(90), last_activity_at=NOW - minutes(1))
    update_statuses(now=NOW - minutes(5))
    assert stage.get(id_).sweep_at > NOW
    stage.db.execute("UPDATE sessions SET status = 'interrupted', status_at = %s WHERE id = %s", [NOW, id_])
    assert stage.get(id_).sweep_at == datetime.fromtimestamp(0, UTC)
    update_statuses(now=NOW + minutes(0.5))
    assert stage.get(id_).sweep_at == NOW + minutes(1)
    update_statuses(now=NOW + minutes(1))
    assert stage.status(id_) == "abandoned"


def test_deleted_sessions_are_not_swept(stage: Stage) -> None:
    id_ = stage.session("invited", invitation_expires_at=NOW - minutes(1), deleted_at=NOW - minutes(1))
    assert update_statuses(now=NOW).found == 0
    assert stage.status(id_) == "invited"


def test_submitted_feedback_is_not_overdue(stage: Stage) -> None:
    done = {"ended_at": NOW - timedelta(days=3), "status_at": NOW - timedelta(days=3), "interviewer_id": INTERVIEWER}
    given_, missing = stage.session("completed", **done), stage.session("completed", **done)
    stage.insert("feedback", session_id=given_, interviewer_id=INTERVIEWER, recommendation="yes")
    assert update_statuses(now=NOW).counts == {"feedback_overdue": 1}
    assert stage.get(missing).feedback_overdue_at == NOW
    assert stage.get(given_).feedback_overdue_at is None
    assert (stage.get(missing).sweep_at, stage.get(given_).sweep_at) == (None, None)
    assert stage.notified(missing) == {("feedback_overdue", INTERVIEWER), ("feedback_overdue", "recruiter")}


NOTIFIED: dict[str, set[tuple[str, int | str]]] = {
    "an invitation expires": {("expired", 3), ("expired", "recruiter")},
    "15 minutes without a start": {("no_show", 3), ("no_show", "recruiter")},
    "5 minutes late": {("late", 3), ("late", 4)},
    "interrupted for 30 minutes, enough answered": {("completed", 3), ("completed", 4), ("completed", "recruiter")},
    "interrupted for 30 minutes, too little answered": {("abandoned", 3), ("abandoned", "recruiter")},
    "idle for 10 minutes": set(),
}


def test_who_is_notified(stage: Stage) -> None:
    ids = {}
    for number, case in enumerate(NOTIFIED, 2):
        # An interview each: a candidate has one open session of it. Nobody is double-booked 15 and 5 minutes ago.
        people = {"candidate_id": CANDIDATE, "interviewer_id": INTERVIEWER, "interview_id": stage.interview(number)}
        columns = dict(BOUNDARIES[case][0])
        if "scheduled_start" in columns:
            columns["scheduled_end"] = columns["scheduled_start"] + minutes(10 if case.startswith("15") else 60)
        if case.startswith("15"):
            columns["scheduled_start"] -= minutes(10)
        ids[case] = stage.session(**columns | people)
    update_statuses(now=NOW)
    assert {case: stage.notified(id_) for case, id_ in ids.items()} == NOTIFIED
    for case, notified in NOTIFIED.items():
        rows = stage.db.execute(
            "SELECT destination, audience FROM push_events WHERE type = 'notification.created'"
            " AND payload->>'session_id' = %s",
            [str(ids[case])],
        )
        assert {tuple(row) for row in rows} == {
            (f"/user/{who}/queue/notifications", None) if isinstance(who, int) else ("/topic/notifications", who)
            for _, who in notified
        }, case
    receipts = stage.db.execute("SELECT user_id FROM notification_receipts ORDER BY 1").fetchall()
    assert [row.user_id for row in receipts] == [3, 3, 3, 3, 3, 4, 4]
