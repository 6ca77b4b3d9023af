"""Dispatchers killed at random while the mail server misbehaves and people cancel: counted at the server."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import select, text

from core import sessions
from core.clock import utcnow
from core.db import transaction
from core.emails.queue.outcomes import ATTEMPTS, RESENT_WHEN_UNCERTAIN
from core.models import Email
from core.sessions import NewStatus
from tests.support import factories, processes
from tests.support.factories import People

KILLS = 20 * int(os.environ.get("SOAK", "1"))
ROUND = 100
"""Mails queued before each kill."""
KINDS = ("generic", "completion", "report", "reminder", "invitation", "cancellation")
TESTS = "the tests of sending"
FAULTS = 0.03
"""Share of the server's answers that go wrong; of those to the final dot, two of six after the mail was taken."""


class Dispatcher:
    """A real one, in a process of its own."""

    def __init__(self, url: str, port: int, log: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "PGAPPNAME"} | {
            "GREENROOM_DATABASE_URL": url,
            "GREENROOM_SMTP_URL": f"smtp://127.0.0.1:{port}",
            "GREENROOM_JWT_SECRET": processes.SECRET,
            "PREFECT_API_URL": "http://127.0.0.1:9/api",  # away, which is nothing to mail
        }
        with log.open("ab") as out:
            command = [sys.executable, "-m", "deployments.cli", "dispatcher"]
            self.process = subprocess.Popen(command, cwd=processes.ROOT, env=environment, stdout=out, stderr=out)

    def kill(self) -> None:
        """End it without a chance to say anything."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)


@contextmanager
def hostile_server(record: Path) -> Iterator[int]:
    """The misbehaving server in a process of its own; its port."""
    command = [sys.executable, "-m", "tests.support.smtp_server", "--record", str(record), "--faults", str(FAULTS)]
    process = subprocess.Popen(command, cwd=processes.ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def accepted(record: Path) -> dict[UUID, list[datetime]]:
    """When the server took each mail."""
    found: dict[UUID, list[datetime]] = defaultdict(list)
    for line in record.read_text().splitlines():
        message_id, at = line.split(" ")
        found[UUID(message_id.split("@")[0])].append(datetime.fromtimestamp(float(at), UTC))
    return found


class Booked:
    """Sessions whose mails go out, some of them cancelled meanwhile."""

    def __init__(self) -> None:
        self.of_mail: dict[UUID, UUID] = {}
        self.cancelled: dict[UUID, datetime] = {}
        self._waiting: list[tuple[UUID, People]] = []

    def queue(self) -> None:
        """A round of mails of all kinds, a quarter of them of sessions."""
        now = utcnow()
        with transaction() as db:
            for number in range(ROUND):
                kind = KINDS[number % len(KINDS)]
                if kind not in ("reminder", "invitation") or number % 3:
                    factories.email(db, now=now, kind=kind)
                    continue
                people = factories.people(db)
                session_id = factories.session(db, now=now, people=people)
                id_ = factories.email(db, now=now, kind=kind, session_id=session_id, schedule_version=1)
                self.of_mail[id_] = session_id
                self._waiting.append((session_id, people))

    def cancel_some(self) -> None:
        """Cancel half of the sessions, and remember when that had committed."""
        waiting, self._waiting = self._waiting, []
        for session_id, people in waiting[::2]:
            with transaction() as db:
                viewer = people.viewer("recruiter")
                sessions.move(db, session_id, NewStatus(status="cancelled"), by=viewer, now=utcnow())
            self.cancelled[session_id] = utcnow()


def cut_connections(database: str) -> None:
    """As when PostgreSQL is restarted, but for our own."""
    with psycopg.connect(database.rsplit("/", 1)[0] + "/postgres", autocommit=True) as admin:
        query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND application_name <> %s"
        admin.execute(query, (database.rsplit("/", 1)[1], TESTS))


def open_mails() -> int:
    """How many have not come to an end yet; what waits for its time need not wait."""
    time_passes_for_the_dead()
    with transaction() as db:
        query = "SELECT count(*) FROM emails WHERE status IN ('queued', 'sending') OR retry_at IS NOT NULL"
        return int(db.execute(text(query)).scalar_one())


def time_passes_for_the_dead() -> None:
    """Retries come at once, and the leases of processes that are gone run out; those of the living are theirs."""
    with transaction() as db:
        db.execute(text("UPDATE emails SET due_at = now() WHERE status = 'queued' AND due_at > now()"))
        db.execute(text("UPDATE emails SET retry_at = now() WHERE status = 'uncertain' AND retry_at > now()"))
        for owner in db.execute(text("SELECT DISTINCT lease_owner FROM emails WHERE status = 'sending'")).scalars():
            if not _alive(int(owner.split("/")[1])):
                query = "UPDATE emails SET lease_until = now() WHERE lease_owner = :owner AND status = 'sending'"
                db.execute(text(query), {"owner": owner})
        db.execute(text("SELECT pg_notify('greenroom_work', '')"))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.soak
def test_kills_cost_no_mail_and_double_none(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGAPPNAME", TESTS)
    record, log, booked = tmp_path / "record", tmp_path / "dispatchers.log", Booked()
    record.touch()
    struck = 0
    with hostile_server(record) as port:
        living = [Dispatcher(database, port, log) for _ in range(2)]
        try:
            for number in range(KILLS):
                booked.queue()
                canceller = threading.Thread(target=booked.cancel_some)
                canceller.start()
                at_work = processes.eventually(lambda: senders(living), "mails go out", seconds=60)
                time.sleep(random.uniform(0, 0.1))  # the moment of the kill is what is tried here
                if number % 4 == 3:
                    cut_connections(database)
                victim = random.choice(at_work)
                victim.kill()
                struck += bool(senders([victim]))
                living.remove(victim)
                canceller.join(60)
                time_passes_for_the_dead()
                living.append(Dispatcher(database, port, log))
            processes.eventually(lambda: open_mails() == 0, "every mail comes to an end", seconds=120)
        finally:
            for dispatcher in living:
                dispatcher.kill()
    check_all(accepted(record), booked)
    print(f"{struck} of {KILLS} kills left mails in the middle")
    assert struck >= KILLS // 4  # else nothing was tried here


def senders(among: list[Dispatcher]) -> list[Dispatcher]:
    """Those that are sending mails."""
    with transaction() as db:
        query = "SELECT DISTINCT lease_owner FROM emails WHERE status = 'sending'"
        pids = {int(owner.split("/")[1]) for owner in db.execute(text(query)).scalars()}
    return [one for one in among if one.process.pid in pids]


def check_all(taken: dict[UUID, list[datetime]], booked: Booked) -> None:
    """Hold what the tables say against what the server took."""
    with transaction() as db:
        rows = {row.id: row for row in db.scalars(select(Email))}
    counts: dict[str, int] = defaultdict(int)
    for id_, row in rows.items():
        times = taken.get(id_, [])
        counts[row.status] += 1
        counts["doubled"] += len(times) > 1
        check_one(row, times)
        cancelled_at = booked.cancelled.get(booked.of_mail.get(id_, UUID(int=0)))
        if cancelled_at is not None and row.uncertain_at is None:
            check_cancelled(row, times, cancelled_at)
    assert taken.keys() <= rows.keys()
    assert len(rows) >= KILLS * ROUND  # and what the cancels themselves sent
    assert counts["sent"] > len(rows) / 2
    print(f"\n{KILLS} kills, {len(rows)} mails:", dict(sorted(counts.items())))


def check_one(row: Email, times: list[datetime]) -> None:
    """What the rules say of every mail."""
    said = f"{row.id} {row.kind} is {row.status} after {row.attempts} attempts, taken {len(times)} times"
    assert row.status in ("sent", "uncertain", "dead", "cancelled"), said
    assert len(times) <= 1 or (row.kind in RESENT_WHEN_UNCERTAIN and row.uncertain_at is not None), f"doubled: {said}"
    assert len(times) <= row.attempts, said
    if row.status == "sent":
        assert times, f"lost: {said}"
    if row.status == "uncertain":
        assert row.uncertain_at is not None, said
        assert row.kind not in RESENT_WHEN_UNCERTAIN or row.attempts == ATTEMPTS or row.session_id is not None, said
    if row.status in ("dead", "cancelled") and row.uncertain_at is None:
        assert not times, said
    if row.status == "dead":
        assert row.attempts == ATTEMPTS, said


def check_cancelled(row: Email, times: list[datetime], cancelled_at: datetime) -> None:
    """A mail of a session that was cancelled went before the cancel had committed, or not at all."""
    assert row.status == "cancelled" or times, f"{row.id} is {row.status}"
    if row.status == "cancelled":
        assert not times
    else:
        assert row.data_started_at is not None
        assert row.data_started_at <= cancelled_at, f"{row.id} began after its session was cancelled"
