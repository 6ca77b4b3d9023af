"""Every job killed with −9 at random, its connections cut, and run twice at once: one outcome, nothing doubled.

SOAK scales the number of kills; 1, the default, is what CI can afford.
"""

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from multiprocessing.process import BaseProcess
from pathlib import Path

import psycopg
import pytest

from tests.support import job_data, smtp_server
from tests.support.processes import PostgresServer, eventually, forget_settings, own_database, use_database

pytestmark = pytest.mark.soak
SOAK = float(os.environ.get("SOAK", "1"))
KILLS = max(3, round(5 * SOAK))
"""Of each job, by each way to be killed; 50 at SOAK=10."""
SIZE = 30


@dataclass(frozen=True)
class Stage:
    """A filled database to copy, and the time at which its work is due."""

    postgres: PostgresServer
    name: str
    now: datetime

    @contextmanager
    def copy(self) -> Iterator[str]:
        """A copy of its own, used by this process."""
        with own_database(PostgresServer(self.postgres.url, self.name)) as url:
            yield url


@pytest.fixture(scope="module")
def stage(postgres: PostgresServer) -> Iterator[Stage]:
    with own_database(postgres) as url:
        now = job_data.fill(SIZE)
        name = url.rsplit("/", 1)[1]
        forget_settings()  # a database that is copied must have no connections
        before = os.environ["GREENROOM_DATABASE_URL"]
        yield Stage(postgres, name, now)
        use_database(before)


@pytest.fixture
def mailbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[smtp_server.Mailbox]:
    """A server that takes every mail, and where the jobs find it."""
    with smtp_server.serving() as server:
        monkeypatch.setenv("GREENROOM_SMTP_URL", f"smtp://127.0.0.1:{server.port}")
        yield server.box


def gone(url: str) -> None:
    """Wait until the server has seen that killed clients are gone: their locks are free then."""
    others = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> %s)"
    with psycopg.connect(url, autocommit=True) as db:
        eventually(lambda: db.execute(others, [db.info.backend_pid]).fetchone() == (True,), "only we are connected")


def disturbed(kind: str, process: BaseProcess, url: str, after: float) -> None:
    """Kill the process, or cut its connections, so many seconds from now; and wait for its end."""
    time.sleep(after)
    if kind == "process":
        process.kill()
    else:
        with psycopg.connect(url, autocommit=True) as db:
            cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            db.execute(f"{cut} AND pid <> %s", [db.info.backend_pid])
    process.join(60)
    assert process.exitcode is not None


@pytest.mark.parametrize("kind", ["process", "connections"])
@pytest.mark.parametrize("job", job_data.JOBS)
def test_killed_processes_do_not_change_the_outcome(
    stage: Stage, mailbox: smtp_server.Mailbox, job: str, kind: str
) -> None:
    with stage.copy() as url:
        begun = time.monotonic()
        job_data.JOBS[job](stage.now)
        seconds = time.monotonic() - begun
        undisturbed = job_data.contents(url)
    chance = random.Random(f"{job}/{kind}")
    mailbox.accepted.clear()
    with stage.copy() as url:
        begun_with = job_data.contents(url)
        assert undisturbed != begun_with, "there is something to do"
        for _ in range(KILLS):
            disturbed(kind, job_data.started(job, stage.now), url, chance.uniform(0, seconds))
            gone(url)
        if job == "process-pending-notifications":
            # what a killed process held is free once its lease is over: here, at once
            with psycopg.connect(url, autocommit=True) as db:
                db.execute("UPDATE emails SET lease_until = now() - interval '1 s' WHERE status = 'sending'")
        job_data.JOBS[job](stage.now)
        found = job_data.contents(url)
        assert job_data.final_rows(found) == job_data.final_rows(undisturbed)
        if job != "process-pending-notifications":
            assert found == undisturbed
        with psycopg.connect(url) as db:
            states = dict(db.execute("SELECT trim('<>' from message_id), status FROM emails").fetchall())
    accepted = [mail.message_id for mail in mailbox.accepted]
    assert len(accepted) == len(set(accepted)), "no mail was accepted twice"
    assert {states[id_] for id_ in accepted} <= {"sent", "uncertain"}
    fresh = {id_ for id_, state in states.items() if state == "sent"} - set(accepted)
    assert len(fresh) == SIZE, "but for the old ones that were sent before, what is sent was accepted"


@pytest.mark.parametrize("job", job_data.JOBS)
def test_concurrent_runs_have_the_outcome_of_one(stage: Stage, mailbox: smtp_server.Mailbox, job: str) -> None:
    with stage.copy() as url:
        job_data.JOBS[job](stage.now)
        alone = job_data.contents(url)
    mailbox.accepted.clear()
    with stage.copy() as url:
        both = [job_data.started(job, stage.now) for _ in range(2)]
        for process in both:
            process.join(120)
            assert process.exitcode == 0
        job_data.JOBS[job](stage.now)  # what one of them passed over because the other had locked it
        assert job_data.contents(url) == alone
    sent = [mail.message_id for mail in mailbox.accepted]
    assert len(sent) == len(set(sent))
