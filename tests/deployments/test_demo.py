"""The demo data: what a newcomer is promised, legal in every step, and the same for everybody."""

import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg.rows import namedtuple_row

from core.db import transaction
from core.models import STATUSES
from core.sessions import update_statuses
from core.sessions.apply_moves import completion_scores
from core.sessions.deadlines import next_check
from core.sessions.moves import MOVES
from core.sessions.snapshot import SNAPSHOT_QUERY, to_snapshots
from deployments.demo import load, run_live
from tests.support.processes import Database, PostgresServer, own_database, use_database

NOW = datetime(2026, 11, 25, 14, 37, 12, tzinfo=UTC)
TABLES = ("users", "candidates", "interviews", "questions", "sessions", "session_events", "answers", "feedback")


@pytest.fixture(scope="module")
def loaded(shared_database: Database) -> Iterator[str]:
    """The URL of a database with the demo data."""
    load(now=NOW)
    yield shared_database.url
    use_database(shared_database.url)


@pytest.fixture
def demo(loaded: str) -> str:
    """The same, as this process's database: tests with one of their own come between."""
    use_database(loaded)
    return loaded


@pytest.fixture
def rows(demo: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(demo, row_factory=namedtuple_row) as connection:
        yield connection


def dump(url: str) -> dict[str, list[str]]:
    with psycopg.connect(url) as connection:
        return {
            table: [row[0] for row in connection.execute(f"SELECT t::text FROM {table} t ORDER BY 1")]  # noqa: S608
            for table in TABLES
        }


def test_the_four_users_have_the_documented_ids(rows: psycopg.Connection[Any]) -> None:
    first = rows.execute("SELECT id, email, role FROM users WHERE id <= 4 ORDER BY id").fetchall()
    assert first == [
        (1, "admin@demo.example", "admin"),
        (2, "recruiter@demo.example", "recruiter"),
        (3, "interviewer@demo.example", "interviewer"),
        (4, "candidate@demo.example", "candidate"),
    ]
    assert rows.execute("SELECT email FROM candidates WHERE user_id = 4").fetchall() == [("candidate@demo.example",)]


def test_counts_are_as_documented(rows: psycopg.Connection[Any]) -> None:
    count = {table: rows.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES}  # noqa: S608
    assert (count["users"], count["candidates"], count["interviews"], count["sessions"]) == (10, 40, 6, 600)
    assert rows.execute("SELECT count(*) FROM users WHERE role = 'interviewer'").fetchone() == (7,)
    questions = rows.execute("SELECT count(*) FROM questions GROUP BY interview_id").fetchall()
    assert all(6 <= n <= 10 for (n,) in questions)
    assert count["answers"] > 2000
    assert count["feedback"] > 100


def test_every_status_exists_with_plausible_times(rows: psycopg.Connection[Any]) -> None:
    states = Counter(row.status for row in rows.execute("SELECT status FROM sessions"))
    assert set(states) == set(STATUSES)
    assert states["completed"] > 300
    starts = [
        row.at for row in rows.execute("SELECT coalesce(scheduled_start, invitation_expires_at) at FROM sessions")
    ]
    assert min(starts) > NOW - timedelta(days=92)
    assert max(starts) < NOW + timedelta(days=15)


def test_new_rows_get_ids_after_the_given_ones(rows: psycopg.Connection[Any]) -> None:
    new = rows.execute(
        "INSERT INTO users (email, name, role) VALUES ('new@demo.example', 'New', 'candidate') RETURNING id"
    ).fetchone()
    assert new == (11,)
    rows.rollback()


def test_histories_are_legal_and_match_the_status(rows: psycopg.Connection[Any]) -> None:
    histories: dict[Any, list[Any]] = {}
    for event in rows.execute("SELECT * FROM session_events ORDER BY id"):
        histories.setdefault(event.session_id, []).append(event)
    for s in rows.execute("SELECT * FROM sessions"):
        history = histories[s.id]
        assert history[0].kind == "created"
        assert [e.at for e in history] == sorted(e.at for e in history)
        status = history[0].new_status
        for event in history[1:]:
            if event.new_status:
                assert event.old_status == status
                assert event.actor in MOVES[status, event.new_status]
                status = event.new_status
        assert status == s.status
        assert s.status_at == [e.at for e in history if e.new_status][-1]
        assert all(e.at <= NOW for e in history)
        assert s.schedule_version == 1 + sum(e.kind == "rescheduled" for e in history)


def test_retries_follow_a_finished_session_of_the_same_pair(rows: psycopg.Connection[Any]) -> None:
    retries = rows.execute(
        "SELECT (n.candidate_id, n.interview_id) = (o.candidate_id, o.interview_id)"
        " AND o.ended_at <= n.created_at AS ok"
        " FROM sessions n JOIN sessions o ON o.id = n.retry_of"
    ).fetchall()
    assert len(retries) > 100
    assert all(row.ok for row in retries)


def test_scores_and_next_checks_are_those_of_core(demo: str) -> None:
    with transaction() as db:
        rows = to_snapshots(db.execute(SNAPSHOT_QUERY).all())
        assert [s.id for s in rows if s.sweep_at != next_check(s)] == []
        scores = completion_scores(db, [s.id for s in rows if s.status == "completed"])
    with psycopg.connect(demo) as connection:
        stored = dict(connection.execute("SELECT id, score::float FROM sessions WHERE score IS NOT NULL").fetchall())
    assert stored == scores
    assert len(scores) == sum(s.status == "completed" for s in rows)


def test_the_sweep_has_work_at_any_minute_of_the_hour(demo: str) -> None:
    for minute in range(10, 180, 10):
        swept = update_statuses(now=NOW.replace(minute=0, second=0) + timedelta(minutes=minute), dry_run=True)
        assert swept.found >= 3, minute


def test_the_demo_users_have_their_own_sessions(rows: psycopg.Connection[Any]) -> None:
    own = rows.execute(
        "SELECT status FROM sessions WHERE candidate_id IN (SELECT id FROM candidates WHERE user_id = 4)"
    ).fetchall()
    assert {"in_progress", "scheduled", "invited", "completed"} <= {row.status for row in own}
    theirs = rows.execute("SELECT status FROM sessions WHERE interviewer_id = 3").fetchall()
    assert {"in_progress", "scheduled", "completed"} <= {row.status for row in theirs}


def test_loading_twice_loads_once(database: str) -> None:
    assert "600 sessions" in load(now=NOW)
    before = dump(database)
    assert load(now=NOW + timedelta(days=3)) == "Demo data: nothing to do, there are 10 users already."
    assert dump(database) == before


def test_concurrent_loads_load_once(database: str) -> None:
    results: list[str] = []
    both = [threading.Thread(target=lambda: results.append(load(now=NOW))) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert sorted("nothing to do" in line for line in results) == [False, True]


def test_the_same_hour_gives_the_same_rows(loaded: str, database: str) -> None:
    load(now=NOW.replace(minute=3))
    assert dump(database) == dump(loaded)


@pytest.mark.parametrize("days", range(1, 8))
def test_the_demo_loads_on_any_weekday(postgres: PostgresServer, days: int) -> None:
    with own_database(postgres):
        assert "600 sessions" in load(now=NOW + timedelta(days=days, hours=3 * days))


def test_live_moves_are_pushed(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    load()
    run_live(every=0, count=20)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 20
    with psycopg.connect(database) as connection:
        # Each change commits alone, so the rows of the log come from as many transactions.
        assert connection.execute("SELECT count(DISTINCT xmin::text) FROM push_events").fetchone() == (20,)


def test_live_creates_sessions_when_few_are_open(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    load()
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE sessions SET status = 'cancelled' WHERE status IN ('invited', 'scheduled')")
    run_live(every=0, count=20)
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT count(*) > 5 FROM push_events WHERE type = 'session.created'").fetchone() == (
            True,
        )
