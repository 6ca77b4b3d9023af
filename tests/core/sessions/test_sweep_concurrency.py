"""The status sweep: the same outcome however often it runs, beside whom, and wherever it dies."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest

from core.results import JobResult
from core.sessions import update_statuses
from tests.support.processes import ROOT, PostgresServer, eventually
from tests.support.sweep_data import BOUNDARIES, NOW, TICK, Stage, contents, every_rule, minutes, staged


@pytest.fixture
def stage(database: str) -> Iterator[Stage]:
    with staged(database) as made:
        yield made


def test_a_dry_run_counts_and_writes_nothing(stage: Stage, database: str) -> None:
    every_rule(stage, 3)
    before = contents(database)
    dry = update_statuses(now=NOW, dry_run=True, batch=7)
    assert contents(database) == before
    assert (dry.found, dry.done, dry.failed, dry.dry_run) == (3 * len(BOUNDARIES), 0, 0, True)
    assert 0 < len(dry.sample) <= 10
    wet = update_statuses(now=NOW, batch=7)
    assert (wet.found, wet.done, wet.counts) == (dry.found, dry.found, dry.counts)
    assert {one["rule"] for one in dry.sample} <= set(wet.counts)


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
        results: list[JobResult] = []
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
def test_the_next_pass_completes_a_killed_one(stage: Stage, postgres: PostgresServer, where: str) -> None:
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


def test_a_late_run_ignores_later_updates(stage: Stage) -> None:
    # Paused at noon by the candidate; a run of ten minutes before, delayed until now, must not see it at all.
    eager = stage.interview(2, resume_minutes=0)
    paused = stage.session("interrupted", interview_id=eager, status_at=NOW, started_at=NOW - timedelta(hours=9))
    invited = stage.session("invited", status_at=NOW, invitation_expires_at=NOW - minutes(20))
    assert update_statuses(now=NOW - minutes(10)).found == 0
    assert update_statuses(now=NOW).found == 0
    assert (stage.status(paused), stage.status(invited)) == ("interrupted", "invited")
    assert update_statuses(now=NOW + TICK).found == 2


def test_an_older_pass_after_a_newer_one_has_no_effect(stage: Stage, database: str) -> None:
    every_rule(stage, 2)
    update_statuses(now=NOW)
    after = contents(database)
    assert update_statuses(now=NOW - minutes(10)).done == 0
    assert contents(database) == after


def test_locked_sessions_are_skipped_until_the_next_pass(stage: Stage, database: str) -> None:
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
