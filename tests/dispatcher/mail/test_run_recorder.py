"""The dispatcher sends on commit, and Prefect keeps a record of it: one run a burst, and what it missed afterwards."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from core.clock import utcnow
from core.settings import settings
from dispatcher.mail import run_recorder
from dispatcher.mail.mailer import Mailer
from dispatcher.mail.run_recorder import FLOW, MailRunRecorder
from dispatcher.mail.server import MailServer
from dispatcher.mail.stats import SendStats
from dispatcher.prefect_api import PrefectServer
from flows.emails import send_emails
from tests.support import processes
from tests.support.mail_sending import queued, statuses
from tests.support.prefect_server import AUTH, PAGE, PrefectProcess
from tests.support.smtp_server import Running, serving


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bursts that are over soon."""
    monkeypatch.setattr(run_recorder, "QUIET_SECONDS", 0.5)
    monkeypatch.setattr(run_recorder, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(run_recorder, "RETRY_SECONDS", 0.5)


def runs(prefect: PrefectProcess, since: datetime) -> list[dict[str, Any]]:
    """The runs of send-emails that were made since then, oldest first."""
    made = {"expected_start_time": {"after_": since.isoformat()}}
    found = prefect.found("flow_runs", flows={"name": {"any_": [FLOW]}}, flow_runs=made)
    return sorted(found, key=lambda run: str(run["expected_start_time"]))


def finished(prefect: PrefectProcess, since: datetime) -> list[dict[str, Any]]:
    """Those of them that are over."""
    return [run for run in runs(prefect, since) if run["state_type"] in ("COMPLETED", "CRASHED")]


def shown(prefect: PrefectProcess, run: dict[str, Any]) -> dict[str, Any]:
    """The typed result of a run."""
    with prefect.http() as http:
        [artifact] = http.post("/artifacts/filter", json={"artifacts": {"flow_run_id": {"any_": [run["id"]]}}}).json()
    [row] = json.loads(artifact["data"])
    return dict(row)


async def burst(prefect: PrefectProcess, server: Running, mails: int, *, until: Any) -> None:
    """Send mails as the dispatcher does, recorded, until the condition is true."""
    ids = await asyncio.to_thread(queued, mails)
    stats = SendStats()
    ours = Mailer(settings(), server=MailServer("127.0.0.1", server.port), stats=stats)
    async with MailRunRecorder(PrefectServer(prefect.url, AUTH), stats), ours as mailer:
        await mailer.drain(utcnow())
        assert await asyncio.to_thread(statuses, ids) == ["sent"] * mails
        await asyncio.to_thread(processes.eventually, until, "the burst is recorded", seconds=60)


async def test_a_burst_is_one_run_that_says_what_was_done(prefect: PrefectProcess, database: str) -> None:
    since = utcnow()
    with serving() as server:
        await burst(prefect, server, 30, until=lambda: len(finished(prefect, since)) == 1)
        await burst(prefect, server, 3, until=lambda: len(finished(prefect, since)) == 2)
    first, second = finished(prefect, since)
    assert first["name"].startswith("send-emails/20")
    assert (first["state_name"], first["tags"]) == ("Completed", ["burst"])
    assert first["state"]["message"] == "Found 30, done 30, skipped 0, failed 0 (sent 30)."
    row = shown(prefect, first)
    assert (row["found"], row["done"], row["counts"]) == (30, 30, {"sent": 30})
    assert shown(prefect, second)["done"] == 3
    assert first["start_time"] is not None
    assert first["start_time"] <= first["end_time"]


def test_a_new_run_is_seen_however_many_were_recorded_before(prefect: PrefectProcess) -> None:
    """Tests that share the server record bursts too, and it gives 200 runs at once."""
    since = utcnow()
    with prefect.http() as http, ThreadPoolExecutor(4) as many:
        flow_id = http.post("/flows/", json={"name": FLOW}).raise_for_status().json()["id"]
        run = {"flow_id": flow_id, "state": {"type": "COMPLETED"}}

        def made(_: int) -> str:
            return str(http.post("/flow_runs/", json=run).raise_for_status().json()["id"])

        others = set(many.map(made, range(PAGE + 5)))
        before_the_newest = utcnow()
        newest = made(0)
    assert {one["id"] for one in finished(prefect, since)} == others | {newest}
    assert [one["id"] for one in finished(prefect, before_the_newest)] == [newest]


async def test_mail_sent_during_a_prefect_outage_is_recorded_afterwards(prefect: PrefectProcess, database: str) -> None:
    since = utcnow()
    ids, stats = await asyncio.to_thread(queued, 5), SendStats()
    with serving() as server:
        ours = Mailer(settings(), server=MailServer("127.0.0.1", server.port), stats=stats)
        async with MailRunRecorder(PrefectServer(prefect.url, AUTH), stats), ours as mailer:
            await asyncio.to_thread(prefect.end)
            for _ in range(2):
                await mailer.drain(utcnow())
                await asyncio.to_thread(processes.eventually, lambda: stats.empty, "the burst is over")
                ids += await asyncio.to_thread(queued, 4)
            await mailer.drain(utcnow())
            assert await asyncio.to_thread(statuses, ids) == ["sent"] * 13
            await asyncio.to_thread(prefect.start)
            recorded = await asyncio.to_thread(
                processes.eventually, lambda: finished(prefect, since), "the gap is recorded", seconds=60
            )
    assert sum(shown(prefect, run)["done"] for run in recorded) == 13
    assert "Recorded afterwards, since Prefect's server was away" in recorded[0]["state"]["message"]


async def test_the_run_of_a_killed_dispatcher_is_crashed(
    prefect: PrefectProcess, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    since = utcnow()
    async with PrefectServer(prefect.url, AUTH) as api:
        left = await api.begin(FLOW, name="left behind", key="left behind", tags=[run_recorder.TAG])
    monkeypatch.setattr(run_recorder, "ORPHANED_AFTER", timedelta(seconds=-1))
    with serving() as server:
        await burst(prefect, server, 1, until=lambda: len(finished(prefect, since)) >= 2)
    states = {run["id"]: run["state_type"] for run in finished(prefect, since)}
    assert states.pop(str(left)) == "CRASHED"


def test_a_manual_run_sends_what_is_due(
    prefect: PrefectProcess, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = queued(7)
    queued(due_at=utcnow() + timedelta(days=1))
    with serving() as server:
        monkeypatch.setenv("GREENROOM_SMTP_URL", f"smtp://127.0.0.1:{server.port}")
        processes.forget_settings()
        result: Any = asyncio.run(send_emails())
    assert (result.found, result.done) == (7, 7)
    assert statuses(ids) == ["sent"] * 7


@contextmanager
def dispatcher(prefect: PrefectProcess, database: str, smtp: int, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A real one."""
    environment = os.environ | {
        "GREENROOM_DATABASE_URL": database,
        "GREENROOM_SMTP_URL": f"smtp://127.0.0.1:{smtp}",
        "PREFECT_API_URL": prefect.url,
        "PREFECT_API_AUTH_STRING": AUTH,
    }
    with log.open("wb") as out:
        command = [sys.executable, "-m", "deployments.cli", "dispatcher"]
        process = subprocess.Popen(command, cwd=processes.ROOT, env=environment, stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def test_the_dispatcher_sends_on_commit_and_stops_at_a_signal(
    prefect: PrefectProcess, database: str, tmp_path: Path
) -> None:
    since, log = utcnow(), tmp_path / "log"
    with serving() as server, dispatcher(prefect, database, server.port, log) as process:
        first = queued(1)
        processes.eventually(lambda: statuses(first) == ["sent"], "it sends what it finds", seconds=60)
        later = queued(3)  # nothing was due any more: only the NOTIFY of this commit can have woken it
        processes.eventually(lambda: statuses(later) == ["sent"] * 3, "it sends what is committed")
        processes.eventually(lambda: runs(prefect, since), "the burst is recorded", seconds=60)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    [run] = finished(prefect, since)  # its result was recorded at the stop
    assert shown(prefect, run)["done"] == 4
    assert "Traceback" not in log.read_text()
