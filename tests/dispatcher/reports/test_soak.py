"""Dispatchers killed at random while they make reports, and PostgreSQL's connections cut: nothing lost or doubled."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import UUID

import psutil
import psycopg
import pytest
from sqlalchemy import text

from core.db import transaction
from tests.support import processes, report_queue
from tests.support.factories import People
from tests.support.report_queue import days, mailed, new_people, pushed, request_report, row

KILLS = 8 * int(os.environ.get("SOAK", "1"))
ROUND = 6
"""Reports requested before each kill."""
TESTS = "the tests of reports"


class Dispatcher:
    """A real one, in a process of its own."""

    def __init__(self, url: str, log: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "PGAPPNAME"} | {
            "GREENROOM_DATABASE_URL": url,
            "GREENROOM_SMTP_URL": "smtp://127.0.0.1:9",  # away: mails stay where they can be counted
            "PREFECT_API_URL": "http://127.0.0.1:9/api",  # away, which is nothing to reports
        }
        with log.open("ab") as out:
            command = [sys.executable, "-m", "deployments.cli", "dispatcher"]
            self.process = subprocess.Popen(command, cwd=processes.ROOT, env=environment, stdout=out, stderr=out)

    def kill(self) -> None:
        """End it without a chance to say anything; whatever it had started must end by itself."""
        below = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        _, left = psutil.wait_procs(below, timeout=10)
        assert not left, f"left behind: {[process.name() for process in left]}"


def makers(among: list[Dispatcher]) -> list[Dispatcher]:
    """Those that have reports in their hands."""
    with transaction() as db:
        query = "SELECT DISTINCT lease_owner FROM reports WHERE status = 'running'"
        pids = {int(owner.split("/")[1]) for owner in db.execute(text(query)).scalars()}
    return [one for one in among if one.process.pid in pids]


def time_passes_for_the_dead(living: list[Dispatcher]) -> None:
    """Retries come at once, and the leases of processes that are gone run out; those of the living are theirs."""
    pids = {one.process.pid for one in living}
    with transaction() as db:
        db.execute(text("UPDATE reports SET due_at = now() WHERE status = 'queued' AND due_at > now()"))
        # what is killed here several times in a row would be given up; that is tried elsewhere
        db.execute(text("UPDATE reports SET attempts = 1 WHERE attempts > 1 AND status IN ('queued', 'running')"))
        for owner in db.execute(text("SELECT DISTINCT lease_owner FROM reports WHERE status = 'running'")).scalars():
            if int(owner.split("/")[1]) not in pids:
                query = "UPDATE reports SET lease_until = now() WHERE lease_owner = :owner AND status = 'running'"
                db.execute(text(query), {"owner": owner})
        db.execute(text("SELECT pg_notify('greenroom_work', '')"))


def unfinished(living: list[Dispatcher]) -> int:
    """How many have not come to an end yet."""
    time_passes_for_the_dead(living)
    with transaction() as db:
        query = "SELECT count(*) FROM reports WHERE status IN ('queued', 'running')"
        return int(db.execute(text(query)).scalar_one())


def cut_connections(database: str) -> None:
    """As when PostgreSQL is restarted, but for our own."""
    with psycopg.connect(database.rsplit("/", 1)[0] + "/postgres", autocommit=True) as admin:
        query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND application_name <> %s"
        admin.execute(query, (database.rsplit("/", 1)[1], TESTS))


def request_some(people: People, number: int) -> list[UUID]:
    """A round of reports, each to be mailed."""
    kinds = ("dashboard_pdf", "dashboard_csv")
    return [
        request_report(people, kinds[n % 2], **days(number * ROUND + n), email_to=f"r{n}@example.com").id
        for n in range(ROUND)
    ]


@pytest.mark.soak
def test_kills_neither_lose_nor_repeat_a_report(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGAPPNAME", TESTS)
    people, log, requested, struck = new_people(), tmp_path / "dispatchers.log", list[UUID](), 0
    living = [Dispatcher(database, log) for _ in range(2)]
    try:
        for number in range(KILLS):
            requested += request_some(people, number)
            at_work = processes.eventually(lambda: makers(living), "reports are being made", seconds=60)
            time.sleep(random.uniform(0, 0.6))  # the moment of the kill is what is tried here
            if number % 4 == 3:
                cut_connections(database)
            victim = random.choice(at_work)
            victim.kill()
            struck += bool(makers([victim]))
            living.remove(victim)
            living.append(Dispatcher(database, log))
            time_passes_for_the_dead(living)
        processes.eventually(lambda: unfinished(living) == 0, "every report comes to an end", seconds=120)
    finally:
        for dispatcher in living:
            dispatcher.kill()
    for id_ in requested:
        assert row(id_).status == "ready", row(id_).last_error
        assert (pushed(id_).count("ready"), report_queue.files(id_), len(mailed(str(id_)))) == (1, 1, 1)
        assert report_queue.notified(id_) == [(people.ids["recruiter"], "report_ready")]
    print(f"{len(requested)} reports, {struck} of {KILLS} kills left some in the middle")
    assert struck >= KILLS // 4  # else nothing was tried here
