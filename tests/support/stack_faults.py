"""The local stack's own parts killed with −9 in turn while the jobs are at work: the outcome of an undisturbed run.

Each round lays out a data set whose right answers a run without kills shows, lets the stack's worker and dispatcher at
it, kills a part at a random moment, and has the next run find what is left. SOAK scales the number of kills.
"""

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from typing import Any

import psycopg

from core import reports
from tests.support import job_data
from tests.support.local_stack import PATIENCE, StackAdmin
from tests.support.processes import PostgresServer, eventually, own_database, use_database
from tests.support.smtp_server import Mailbox
from tests.support.stack_process import Stack

SOAK = float(os.environ.get("SOAK", "1"))
KILLS = round(5 * SOAK) if SOAK > 1 else 2
SIZE = 20 if SOAK > 1 else 8
MOMENTS = {
    "worker": (0.0, 4.0),
    "flow": (1.0, 2.5),
    "dispatcher": (0.0, 1.0),
    "postgres": (1.0, 3.0),
    "prefect": (0.0, 5.0),
}
"""The parts, and between which seconds each is at work: its kill comes at any moment of that."""
AT_ONCE = 2 if SOAK > 1 else 1
"""Jobs at work in a round: a run's process takes seconds of CPU time to begin."""
DAYS = {"date": date(2026, 1, 1), "until": date(2026, 1, 3)}
DAILY = "generate-daily-reports"


@contextmanager
def paused(stack: Stack) -> Iterator[StackAdmin]:
    """The stack with its schedules paused: what runs is what the test starts."""
    admin = StackAdmin(stack, "admin@demo.example")
    for job in job_data.JOBS:
        admin.request("PATCH", f"/api/flows/{job}", {"paused": True})
    yield admin
    for job in job_data.JOBS:
        admin.request("PATCH", f"/api/flows/{job}", {"paused": False})
    admin.http.close()


def rounds(chance: random.Random) -> Iterator[tuple[str, list[str]]]:
    """Which part dies, and which jobs are at work then: each part in turn, and each job with each part."""
    jobs, parts = list(job_data.JOBS), list(MOMENTS)
    chance.shuffle(parts)
    for number in range(KILLS):
        first = number + number // len(parts)
        yield parts[number % len(parts)], [jobs[(first + n) % len(jobs)] for n in range(AT_ONCE)]


def kill_parts(admin: StackAdmin, postgres: PostgresServer, mailbox: Mailbox) -> None:
    """Kill parts of the stack in turn; ``mailbox`` is what takes the mails of the runs in this process."""
    chance, mails, begun = random.Random(), 0, time.monotonic()
    for part, jobs in rounds(chance):
        with own_database(postgres) as url:
            now = job_data.fill(SIZE)
            laid_out = admin.lay_out(url)
            runs = [start(admin, job, now) for job in jobs]
            if part in ("flow", "postgres"):
                admin.begun(len(runs))
            time.sleep(chance.uniform(*MOMENTS[part]))
            admin.kill(part, chance)
            work(jobs, now)
            right = comparable(job_data.contents(url))
            mailbox.accepted.clear()
            what = f"{part} was killed while {', '.join(jobs)} ran"
            admin.abandon(runs)
            with admin.database():
                use_database(admin.stack.database_url)
            work(jobs, now)
        eventually(admin.at_rest, f"every mail comes to an end after {what}", seconds=PATIENCE)
        found = comparable(job_data.contents(admin.stack.database_url))
        for name, rows in right.items():
            assert found[name] == rows, f"{name} after {what}"
        mails += count(admin.mailed() + [f"<{mail.message_id}>" for mail in mailbox.accepted], admin, laid_out, what)
    for run in [start(admin, job, now) for job in jobs]:
        admin.completed(run)
    print(f"\n{dict(admin.killed)} killed in {time.monotonic() - begun:.0f} s; {mails} mails, none lost, none doubled")
    assert sum(admin.killed.values()) >= 0.8 * KILLS - 1, "but for runs that ended before their process was to die"


def start(admin: StackAdmin, job: str, now: datetime) -> str:
    """Have the worker run the job for this slot; the run's id."""
    days = {name: str(day) for name, day in DAYS.items()} if job == DAILY else {}
    return admin.start(job, now=now.isoformat(), **days)


def work(jobs: list[str], now: datetime) -> None:
    """The jobs once, in this process, and the safety net after them."""
    for job in jobs:
        if job == DAILY:
            reports.enqueue_daily(now=now, **DAYS)
        else:
            job_data.JOBS[job](now)
    job_data.JOBS["process-pending-notifications"](now)


def comparable(found: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Without what becomes of reports that were requested, and the notifications to admins about the kills."""
    kept = job_data.final_rows(found)
    return kept | {
        "reports": [key for key, _ in kept["reports"]],
        "notifications": [row for row in kept["notifications"] if not row[0].startswith(("job/", "report/"))],
        "announced": [row for row in kept["announced"] if not row[1].startswith(("flow.", "report."))],
    }


def count(taken: list[str], admin: StackAdmin, since: datetime, what: str) -> int:
    """How many mails were taken, after checking that it is each that should be, once."""
    with psycopg.connect(admin.stack.database_url) as db:
        query = "SELECT message_id, status FROM emails WHERE created_at > %s"
        states: dict[str, str] = dict(db.execute(query, [since - timedelta(minutes=5)]).fetchall())
    assert len(taken) == len(set(taken)), f"a mail was taken twice after {what}"
    assert {states[id_] for id_ in taken} <= {"sent", "uncertain"}, what
    assert {id_ for id_, state in states.items() if state == "sent"} <= set(taken), f"a mail was lost after {what}"
    return len(taken)
