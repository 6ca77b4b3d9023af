"""The status sweep: each rule at its boundary, one step a pass, and the same outcome however often it runs or dies."""

import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import namedtuple_row

from core.models import STATUSES
from core.sessions import Swept, update_statuses
from core.sessions.deadlines import Rule, due_rule, next_look
from core.sessions.facts import Facts
from tests.parts import ROOT, PostgresServer, eventually, forget_settings, own_database, use_database

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)
INTERVIEWER, CANDIDATE = 3, 4


def minutes(n: float) -> timedelta:
    return timedelta(minutes=n)


@dataclass
class Stage:
    """A database with an interview of five required questions and a sixth, and sessions as tests want them."""

    url: str
    db: psycopg.Connection[Any]
    numbers: Iterator[int]

    @classmethod
    def at(cls, url: str) -> "Stage":
        stage = cls(url, psycopg.connect(url, autocommit=True, row_factory=namedtuple_row), count(1000))
        for id_, role in enumerate(("admin", "recruiter", "interviewer", "candidate"), 1):
            stage.insert("users", id=id_, email=f"{role}@example.com", name=role.title(), role=role)
        stage.insert("candidates", id=CANDIDATE, user_id=CANDIDATE, email="c@example.com", name="Cleo")
        stage.interview(1)
        return stage

    @contextmanager
    def copy(self, server: PostgresServer) -> Iterator[str]:
        """A copy of the database as it is now, used by this process until the block ends."""
        name = str(conninfo_to_dict(self.url)["dbname"])
        # A database that is copied must have no connections.
        self.db.close()
        forget_settings()
        try:
            with own_database(PostgresServer(server.url, name)) as url:
                yield url
        finally:
            use_database(self.url)

    def insert(self, table: str, **row: Any) -> None:
        names = ", ".join(row)
        places = ", ".join(["%s"] * len(row))
        self.db.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", list(row.values()))  # noqa: S608

    def interview(self, id_: int, **row: Any) -> int:
        self.insert("interviews", id=id_, title=f"Interview {id_}", position="Engineer", **row)
        for n in range(1, 7):
            question = 10 * id_ + n
            self.insert(
                "questions", id=question, interview_id=id_, ordinal=n, text="?", skill="thinking", required=n < 6
            )
        return id_

    def session(self, status: str, *, answered: Sequence[int] = (), **row: Any) -> UUID:
        """A session of a new candidate, with the defaults of an imported row: the sweep looks at it at once."""
        id_, candidate = uuid4(), next(self.numbers)
        self.insert("candidates", id=candidate, email=f"{candidate}@example.com", name=f"Candidate {candidate}")
        start = row.get("scheduled_start")
        end = {"scheduled_end": start + minutes(60)} if start else {}
        given = {"candidate_id": candidate, "interview_id": 1, "status_at": NOW - timedelta(days=1)} | end | row
        self.insert("sessions", id=id_, status=status, ics_uid=f"{id_}@greenroom", **given)
        for n in answered:
            question = 10 * given["interview_id"] + n
            self.insert(
                "answers", session_id=id_, question_id=question, source="ai", score=n, answered_at=given["status_at"]
            )
        return id_

    def get(self, id_: UUID) -> Any:
        return self.db.execute("SELECT * FROM sessions WHERE id = %s", [id_]).fetchone()

    def status(self, id_: UUID) -> str:
        return str(self.get(id_).status)

    def events(self, id_: UUID) -> list[tuple[str, str | None]]:
        rows = self.db.execute("SELECT kind, new_status FROM session_events WHERE session_id = %s ORDER BY id", [id_])
        return [tuple(row) for row in rows]

    def pushed(self, id_: UUID) -> list[str]:
        """The types pushed to the session's own topic, in order."""
        destination = f"/topic/session/{id_}"
        rows = self.db.execute("SELECT type FROM push_events WHERE destination = %s ORDER BY id", [destination])
        return [row.type for row in rows]

    def told(self, id_: UUID) -> set[tuple[str, int | str]]:
        rows = self.db.execute("SELECT category, user_id, role FROM notifications WHERE session_id = %s", [id_])
        return {(row.category, row.user_id or row.role) for row in rows}


@pytest.fixture
def stage(database: str) -> Iterator[Stage]:
    made = Stage.at(database)
    try:
        yield made
    finally:
        made.db.close()


def contents(url: str) -> dict[str, list[Any]]:
    """Everything a pass may write, without what differs between two runs: generated ids and the clock's times."""
    queries = {
        "sessions": "SELECT to_jsonb(s) FROM sessions s ORDER BY s.id",
        "session_events": "SELECT to_jsonb(e) - 'id' FROM session_events e ORDER BY e.session_id, e.id",
        "notifications": "SELECT to_jsonb(n) - 'id' - 'created_at' FROM notifications n ORDER BY n.dedupe_key",
        "notification_receipts": """
            SELECT n.dedupe_key, r.user_id FROM notification_receipts r JOIN notifications n ON n.id = r.notification_id
            ORDER BY 1, 2""",
        "push_events": """
            SELECT destination, audience, type, payload::jsonb - 'notification_id' - 'created_at' AS payload
            FROM push_events WHERE type <> 'notification.unread' ORDER BY 1, 3, 4""",
        # Counts are pushed once a transaction: how many depends on the batches, what they come to does not.
        "unread": """
            SELECT DISTINCT ON (destination) destination, payload->>'unread'
            FROM push_events WHERE type = 'notification.unread' ORDER BY destination, id DESC""",
    }
    with psycopg.connect(url) as db:
        return {table: db.execute(query).fetchall() for table, query in queries.items()}


# Each rule: the session whose rule falls due at NOW, its rule, and the status that follows.
BOUNDARIES: dict[str, tuple[dict[str, Any], Rule, str]] = {
    "an invitation expires": ({"status": "invited", "invitation_expires_at": NOW}, "expire", "expired"),
    "15 minutes without a start": (
        {"status": "scheduled", "scheduled_start": NOW - minutes(15), "late_version": 1},
        "no_show",
        "no_show",
    ),
    "the scheduled end comes first": (
        {
            "status": "scheduled",
            "scheduled_start": NOW - minutes(10),
            "scheduled_end": NOW,
            "late_version": 1,
        },
        "no_show",
        "no_show",
    ),
    "5 minutes late": ({"status": "scheduled", "scheduled_start": NOW - minutes(5)}, "late", "scheduled"),
    "interrupted for 30 minutes, enough answered": (
        {"status": "interrupted", "status_at": NOW - minutes(30), "answered": (1, 2, 3, 4)},
        "close",
        "completed",
    ),
    "interrupted for 30 minutes, too little answered": (
        {"status": "interrupted", "status_at": NOW - minutes(30), "answered": (1, 2, 3, 6)},
        "close",
        "abandoned",
    ),
    "interrupted a moment ago, past its time": (
        {
            "status": "interrupted",
            "status_at": NOW - minutes(3),
            "started_at": NOW - minutes(90),
            "last_activity_at": NOW - minutes(13),
        },
        "close",
        "abandoned",
    ),
    "in progress past its time": (
        {
            "status": "in_progress",
            "started_at": NOW - minutes(90),
            "last_activity_at": NOW - minutes(5),
            "answered": (1, 2, 3, 4, 5, 6),
        },
        "close",
        "completed",
    ),
    "in progress past its time, silent for 2 minutes": (
        {"status": "in_progress", "started_at": NOW - minutes(200), "last_activity_at": NOW - minutes(2)},
        "close",
        "abandoned",
    ),
    "idle for 10 minutes": (
        {"status": "in_progress", "started_at": NOW - minutes(40), "last_activity_at": NOW - minutes(10)},
        "interrupt",
        "interrupted",
    ),
    "begun, and silent since": (
        {"status": "in_progress", "started_at": NOW - minutes(10), "status_at": NOW - minutes(10)},
        "interrupt",
        "interrupted",
    ),
    "feedback is due after 48 hours": (
        {
            "status": "completed",
            "ended_at": NOW - timedelta(hours=48),
            "status_at": NOW - timedelta(hours=48),
            "interviewer_id": INTERVIEWER,
        },
        "feedback_overdue",
        "completed",
    ),
}


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
    assert swept.by_rule == Counter(rule for _, rule, _ in BOUNDARIES.values())
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


def test_the_first_rule_that_fits_is_the_only_one(stage: Stage) -> None:
    missed = stage.session("scheduled", scheduled_start=NOW - minutes(30))
    over = stage.session(
        "in_progress", started_at=NOW - timedelta(hours=5), last_activity_at=NOW - timedelta(hours=4), answered=(1,)
    )
    swept = update_statuses(now=NOW)
    assert swept.by_rule == {"close": 1, "no_show": 1}
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
    assert update_statuses(now=NOW + TICK).by_rule == {"close": 1}
    assert stage.status(id_) == "abandoned"
    assert {stage.status(other) for other in others} == {"expired"}


def every_rule(stage: Stage, times: int) -> list[UUID]:
    made = []
    for _ in range(times):
        for columns, _, _ in BOUNDARIES.values():
            # Nobody can be double-booked by the ones that run: they have no interviewer, or no schedule.
            made.append(stage.session(**columns))
        made.append(stage.session("invited", invitation_expires_at=NOW + minutes(1), interviewer_id=INTERVIEWER))
        made.append(stage.session("expired"))
    return made


def test_a_dry_run_counts_and_writes_nothing(stage: Stage, database: str) -> None:
    every_rule(stage, 3)
    before = contents(database)
    dry = update_statuses(now=NOW, dry_run=True, batch=7)
    assert contents(database) == before
    assert (dry.found, dry.done, dry.failed, dry.dry_run) == (3 * len(BOUNDARIES), 0, 0, True)
    assert 0 < len(dry.sample) <= 10
    wet = update_statuses(now=NOW, batch=7)
    assert (wet.found, wet.done, wet.by_rule) == (dry.found, dry.found, dry.by_rule)
    assert {one["rule"] for one in dry.sample} <= set(wet.by_rule)


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_a_second_pass_at_the_same_time_does_nothing(stage: Stage, database: str, batch: int) -> None:
    every_rule(stage, 2)
    update_statuses(now=NOW, batch=batch)
    once = contents(database)
    again = update_statuses(now=NOW, batch=batch)
    assert (again.found, again.done, again.skipped) == (0, 0, 0)
    assert contents(database) == once


def test_the_batch_size_does_not_change_the_outcome(stage: Stage, postgres: PostgresServer) -> None:
    every_rule(stage, 2)
    with stage.copy(postgres) as copy:
        assert update_statuses(now=NOW, batch=3).done == 2 * len(BOUNDARIES)
        in_threes = contents(copy)
    with stage.copy(postgres) as copy:
        update_statuses(now=NOW)
        assert contents(copy) == in_threes


def test_two_passes_at_once_do_each_effect_once(stage: Stage, postgres: PostgresServer) -> None:
    every_rule(stage, 20)
    with stage.copy(postgres) as copy:
        update_statuses(now=NOW)
        alone = contents(copy)
    with stage.copy(postgres) as copy:
        results: list[Swept] = []
        ready = threading.Barrier(2)

        def run() -> None:
            ready.wait()
            results.append(update_statuses(now=NOW, batch=9))

        threads = [threading.Thread(target=run) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(swept.done for swept in results) == 20 * len(BOUNDARIES)
        assert contents(copy) == alone


# Where the pass is killed: after a batch was committed, or just before its commit, all statements done.
KILLED = """
import os, signal, sys
from datetime import datetime
from core import db
from core.sessions import sweep

def die():
    os.kill(os.getpid(), signal.SIGKILL)

batches = 0
real = sweep._batch
def counted(*args, **kwargs):
    global batches
    if batches == 3 and sys.argv[2] == "between":
        die()
    batches += 1
    return real(*args, **kwargs)
sweep._batch = counted
if sys.argv[2] == "inside":
    db.last_statements.append(lambda _: die() if batches == 3 else None)
sweep.update_statuses(now=datetime.fromisoformat(sys.argv[1]), batch=10)
"""


@pytest.mark.parametrize("where", ["between", "inside"])
def test_a_killed_pass_is_made_good_by_the_next(stage: Stage, postgres: PostgresServer, where: str) -> None:
    every_rule(stage, 5)
    with stage.copy(postgres) as copy:
        update_statuses(now=NOW)
        undisturbed = contents(copy)
    with stage.copy(postgres) as copy:
        killed = subprocess.run([sys.executable, "-c", KILLED, NOW.isoformat(), where], cwd=ROOT, check=False)
        assert killed.returncode == -signal.SIGKILL
        with psycopg.connect(copy, autocommit=True) as db:
            # Its locks are free once the server has seen that it is gone.
            others = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> %s)"
            mine = [db.info.backend_pid]
            eventually(lambda: db.execute(others, mine).fetchone() == (True,), "the killed pass's connection is gone")
            moved = db.execute("SELECT count(*) FROM session_events").fetchone()
        assert moved is not None
        assert 0 < moved[0] < 5 * len(BOUNDARIES)
        update_statuses(now=NOW, batch=10)
        assert contents(copy) == undisturbed


def test_late_is_pushed_once_a_schedule(stage: Stage) -> None:
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
    assert stage.told(id_) == {("late", INTERVIEWER)}
    assert [kind for kind, _ in stage.events(id_)] == ["late", "late"]
    update_statuses(now=later + minutes(15))
    assert stage.status(id_) == "no_show"


def test_a_late_run_does_not_judge_what_came_after_its_time(stage: Stage) -> None:
    # Paused at noon by the candidate; a run of ten minutes before, delayed until now, must not see it at all.
    eager = stage.interview(2, resume_minutes=0)
    paused = stage.session("interrupted", interview_id=eager, status_at=NOW, started_at=NOW - timedelta(hours=9))
    invited = stage.session("invited", status_at=NOW, invitation_expires_at=NOW - minutes(20))
    assert update_statuses(now=NOW - minutes(10)).found == 0
    assert update_statuses(now=NOW).found == 0
    assert (stage.status(paused), stage.status(invited)) == ("interrupted", "invited")
    assert update_statuses(now=NOW + TICK).found == 2


def test_a_stale_pass_after_a_newer_one_changes_nothing(stage: Stage, database: str) -> None:
    every_rule(stage, 2)
    update_statuses(now=NOW)
    after = contents(database)
    assert update_statuses(now=NOW - minutes(10)).done == 0
    assert contents(database) == after


def test_what_somebody_else_holds_is_left_to_the_next_pass(stage: Stage, database: str) -> None:
    ids = [stage.session("invited", invitation_expires_at=NOW - minutes(1)) for _ in range(5)]
    with psycopg.connect(database) as other:
        other.execute("SELECT FROM sessions WHERE id = %s FOR UPDATE", [ids[2]])
        assert update_statuses(now=NOW, batch=2).done == 4
        assert stage.status(ids[2]) == "invited"
    assert update_statuses(now=NOW, batch=2).done == 1
    assert stage.status(ids[2]) == "expired"


def test_a_change_that_commits_first_is_seen_by_the_due_test(stage: Stage, database: str) -> None:
    id_ = stage.session("in_progress", started_at=NOW - minutes(30), last_activity_at=NOW - minutes(20))
    stage.db.execute("UPDATE sessions SET last_activity_at = %s WHERE id = %s", [NOW - minutes(1), id_])
    swept = update_statuses(now=NOW)
    assert (swept.found, swept.skipped, stage.status(id_)) == (0, 1, "in_progress")
    assert stage.get(id_).sweep_at == NOW + minutes(9)


def test_a_status_written_by_hand_makes_the_sweep_look(stage: Stage) -> None:
    id_ = stage.session("in_progress", started_at=NOW - minutes(90), last_activity_at=NOW - minutes(1))
    update_statuses(now=NOW - minutes(5))
    assert stage.get(id_).sweep_at > NOW
    stage.db.execute("UPDATE sessions SET status = 'interrupted', status_at = %s WHERE id = %s", [NOW, id_])
    assert stage.get(id_).sweep_at == datetime.fromtimestamp(0, UTC)
    update_statuses(now=NOW + minutes(0.5))
    assert stage.get(id_).sweep_at == NOW + minutes(1)
    update_statuses(now=NOW + minutes(1))
    assert stage.status(id_) == "abandoned"


def test_deleted_sessions_rest(stage: Stage) -> None:
    id_ = stage.session("invited", invitation_expires_at=NOW - minutes(1), deleted_at=NOW - minutes(1))
    assert update_statuses(now=NOW).found == 0
    assert stage.status(id_) == "invited"


def test_feedback_that_was_given_is_not_overdue(stage: Stage) -> None:
    done = {"ended_at": NOW - timedelta(days=3), "status_at": NOW - timedelta(days=3), "interviewer_id": INTERVIEWER}
    given_, missing = stage.session("completed", **done), stage.session("completed", **done)
    stage.insert("feedback", session_id=given_, interviewer_id=INTERVIEWER, recommendation="yes")
    assert update_statuses(now=NOW).by_rule == {"feedback_overdue": 1}
    assert stage.get(missing).feedback_overdue_at == NOW
    assert stage.get(given_).feedback_overdue_at is None
    assert (stage.get(missing).sweep_at, stage.get(given_).sweep_at) == (None, None)
    assert stage.told(missing) == {("feedback_overdue", INTERVIEWER), ("feedback_overdue", "recruiter")}


TOLD: dict[str, set[tuple[str, int | str]]] = {
    "an invitation expires": {("expired", 3), ("expired", "recruiter")},
    "15 minutes without a start": {("no_show", 3), ("no_show", "recruiter")},
    "5 minutes late": {("late", 3), ("late", 4)},
    "interrupted for 30 minutes, enough answered": {("completed", 3), ("completed", 4), ("completed", "recruiter")},
    "interrupted for 30 minutes, too little answered": {("abandoned", 3), ("abandoned", "recruiter")},
    "idle for 10 minutes": set(),
}


def test_who_is_told(stage: Stage) -> None:
    ids = {}
    for number, case in enumerate(TOLD, 2):
        # An interview each: a candidate has one open session of it. Nobody is double-booked 15 and 5 minutes ago.
        people = {"candidate_id": CANDIDATE, "interviewer_id": INTERVIEWER, "interview_id": stage.interview(number)}
        columns = dict(BOUNDARIES[case][0])
        if "scheduled_start" in columns:
            columns["scheduled_end"] = columns["scheduled_start"] + minutes(10 if case.startswith("15") else 60)
        if case.startswith("15"):
            columns["scheduled_start"] -= minutes(10)
        ids[case] = stage.session(**columns | people)
    update_statuses(now=NOW)
    assert {case: stage.told(id_) for case, id_ in ids.items()} == TOLD
    for case, told in TOLD.items():
        rows = stage.db.execute(
            "SELECT destination, audience FROM push_events WHERE type = 'notification.created'"
            " AND payload->>'session_id' = %s",
            [str(ids[case])],
        )
        assert {tuple(row) for row in rows} == {
            (f"/user/{who}/queue/notifications", None) if isinstance(who, int) else ("/topic/notifications", who)
            for _, who in told
        }, case
    receipts = stage.db.execute("SELECT user_id FROM notification_receipts ORDER BY 1").fetchall()
    assert [row.user_id for row in receipts] == [3, 3, 3, 3, 3, 4, 4]


# The rules once more, as DOMAIN says them, with no thought for speed.
def sentences(s: Facts, now: datetime) -> Iterator[Rule]:
    last_sign = s.last_activity_at or s.started_at or s.status_at
    begun = s.started_at or s.status_at
    past_its_time = now >= begun + minutes(s.duration_minutes) + minutes(s.overrun_minutes)
    silent = now - last_sign >= minutes(2)
    if s.status == "invited" and now >= s.invitation_expires_at:  # type: ignore[operator]
        yield "expire"
    if s.status == "scheduled":
        assert s.scheduled_start
        assert s.scheduled_end
        if now >= min(s.scheduled_start + minutes(s.no_show_minutes), s.scheduled_end):
            yield "no_show"
    if s.status == "interrupted" and now - s.status_at >= minutes(s.resume_minutes):
        yield "close"
    if s.status in ("in_progress", "interrupted") and past_its_time and silent:
        yield "close"
    if s.status == "in_progress" and now - last_sign >= minutes(s.idle_minutes):
        yield "interrupt"
    if s.status == "scheduled" and now >= s.scheduled_start + minutes(5) and s.late_version != s.schedule_version:  # type: ignore[operator]
        yield "late"
    if s.status == "completed" and s.interviewer_id and s.ended_at and not s.has_feedback:
        overdue = now >= s.ended_at + timedelta(hours=s.feedback_deadline_hours)
        if overdue and s.feedback_overdue_at is None:
            yield "feedback_overdue"


def first_sentence(s: Facts, now: datetime) -> Rule | None:
    return next(sentences(s, now), None)


moments = st.integers(-300, 300).map(lambda n: NOW + minutes(n)) | st.integers(-18_000_000, 18_000_000).map(
    lambda n: NOW + timedelta(milliseconds=n)
)
patience = st.integers(0, 120)


@st.composite
def any_facts(draw: st.DrawFn) -> Facts:
    start = draw(moments)
    return Facts(
        id=UUID(int=1),
        status=draw(st.sampled_from(STATUSES)),
        status_at=draw(moments),
        candidate_id=1,
        candidate_user_id=None,
        candidate_name="Cleo",
        interview_id=1,
        title="Interview",
        interviewer_id=draw(st.none() | st.just(INTERVIEWER)),
        scheduled_start=start,
        scheduled_end=start + minutes(draw(st.integers(1, 120))),
        schedule_version=draw(st.integers(1, 2)),
        invitation_expires_at=draw(moments),
        started_at=draw(st.none() | moments),
        last_activity_at=draw(st.none() | moments),
        activity_pushed_at=None,
        ended_at=draw(st.none() | moments),
        late_version=draw(st.none() | st.integers(1, 2)),
        feedback_overdue_at=draw(st.none() | moments),
        has_feedback=draw(st.booleans()),
        sweep_at=None,
        duration_minutes=draw(st.integers(1, 120)),
        no_show_minutes=draw(patience),
        idle_minutes=draw(patience),
        resume_minutes=draw(patience),
        overrun_minutes=draw(patience),
        feedback_deadline_hours=draw(st.integers(0, 6)),
    )


@given(any_facts(), moments)
def test_the_rules_are_the_sentences_of_the_domain(s: Facts, now: datetime) -> None:
    assert due_rule(s, now) == first_sentence(s, now)


@given(any_facts(), moments)
def test_the_next_look_is_the_first_moment_a_rule_is_due(s: Facts, now: datetime) -> None:
    look = next_look(s)
    if first_sentence(s, now):
        assert look is not None
        assert look <= now
    if look is not None:
        assert first_sentence(s, look)
        assert first_sentence(s, look - TICK) is None
