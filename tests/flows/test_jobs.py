"""The jobs as Prefect runs them: deployed from prefect.yaml, watched, and shown to people."""

import asyncio
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import pytest
import yaml
from prefect import State
from sqlalchemy import text

from core.clock import utcnow
from core.db import transaction
from core.errors import Unavailable
from core.settings import load
from deployments import jobs
from dispatcher.janitor import TAG
from flows.cleanup import cleanup_sessions
from flows.notifications import deliver_pending, process_pending_notifications
from flows.reminders import send_reminders
from flows.reports import generate_daily_reports
from flows.run import lock_key, take_lock
from tests.support import factories, processes
from tests.support.deploy import deploy, withdraw
from tests.support.flow_runs import everything
from tests.support.prefect_server import AUTH, PrefectProcess
from tests.support.processes import ROOT
from tests.support.reminders import mails, people, soon, statuses


@pytest.fixture(scope="module")
def deployed(prefect: PrefectProcess) -> Iterator[dict[str, dict[str, Any]]]:
    """What the server says of each deployment, once prefect.yaml has been deployed as a start does it."""
    yield deploy(prefect, GREENROOM_TIMEZONE="Europe/Lisbon")
    withdraw(prefect)


def rows(query: str, **given: Any) -> list[tuple[Any, ...]]:
    with transaction() as db:
        return [tuple(row) for row in db.execute(text(query), given)]


# the flows


async def ran(the_flow: Any, **parameters: Any) -> Any:
    state: State[Any] = await the_flow(**parameters, return_state=True)
    assert state.name == "Completed", state.message
    return await state.result()


async def test_every_job_runs_and_a_dry_run_writes_nothing(prefect: PrefectProcess, database: str) -> None:
    due = soon(people(reminder_offsets=[60]))
    with transaction() as db:
        now = utcnow() - timedelta(days=40)
        old = factories.session(db, now=now, status="expired", status_at=now)
        factories.email(db, now=utcnow(), kind="generic", due_at=utcnow() - timedelta(seconds=1))
    every = (cleanup_sessions, process_pending_notifications, send_reminders, generate_daily_reports)
    before, since = everything(), utcnow()
    looked = [await ran(each, dry_run=True) for each in every]
    assert everything() == before
    assert [(one.found, one.done, one.dry_run) for one in looked] == [
        (1, 0, True),
        (3, 0, True),
        (2, 0, True),
        (2, 0, True),
    ]
    assert (await ran(cleanup_sessions)).done == 1
    assert rows("SELECT id FROM sessions WHERE deleted_at IS NOT NULL") == [(old,)]
    assert (await ran(send_reminders)).done == 2
    assert statuses(due) == ["sent", "sent"]
    assert (await ran(generate_daily_reports)).done == 2
    assert (await ran(generate_daily_reports, date=date(2026, 1, 1), until=date(2026, 1, 3))).done == 6
    for each in every:
        made = {"name": {"like_": f"{each.name}/{since:%Y-}"}, "expected_start_time": {"after_": since.isoformat()}}
        names = [run["name"] for run in prefect.found("flow_runs", flow_runs=made)]
        assert any(name.endswith("Z (dry run)") for name in names), "a run's name says its slot"


def test_process_pending_does_all_three_parts_despite_failures(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With nobody at the mail server's address the mails stay due; the rest is done."""
    monkeypatch.setenv("GREENROOM_SMTP_URL", f"smtp://127.0.0.1:{processes.free_port()}")
    processes.forget_settings()
    due = soon(people(reminder_offsets=[60]))
    with transaction() as db:
        who = factories.people(db)
        pending = """
            INSERT INTO notifications (user_id, category, title, body, not_before, dedupe_key)
            VALUES (:user, 'announcement', 'Soon', '', :at, 'one')"""
        db.execute(text(pending), {"user": who.interviewer_id, "at": utcnow() - timedelta(seconds=1)})
    result = deliver_pending(now=utcnow())
    assert (result.counts["notifications"], result.counts["reminders"]) == (1, 2)
    assert statuses(due) == ["sent", "sent"]
    assert [state for _, state in mails(due)] == ["queued", "queued"]
    with transaction() as db:
        db.execute(text("ALTER TABLE notifications RENAME COLUMN not_before TO not_now"))
    other = soon(people(reminder_offsets=[60]))
    with transaction() as db:
        db.execute(text("UPDATE users SET quiet_from = NULL"))
    with pytest.raises(Exception, match="not_before"):
        deliver_pending(now=utcnow())
    assert statuses(other) != ["planned", "planned"], "reminders were looked at all the same"
    processes.forget_settings()


async def test_a_job_with_its_own_slots_is_never_skipped(prefect: PrefectProcess, database: str) -> None:
    """Two runs of the daily reports at once are two days."""
    holds = await asyncio.to_thread(take_lock, key=lock_key("generate-daily-reports"))
    assert holds is not None
    try:
        assert (await ran(generate_daily_reports)).done == 2
    finally:
        holds.close()


# prefect.yaml


def test_every_job_is_deployed_with_its_schedule(deployed: dict[str, dict[str, Any]]) -> None:
    found = {
        name: [(one["slug"], one["schedule"]["cron"], one["schedule"]["timezone"]) for one in deployment["schedules"]]
        for name, deployment in deployed.items()
        if deployment["schedules"]
    }
    lisbon = "Europe/Lisbon"
    assert (
        found.items()
        >= {
            "cleanup-sessions": [("daily-at-02", "0 2 * * *", lisbon)],
            "send-reminders": [("hourly", "0 * * * *", "UTC")],
            "process-pending-notifications": [("every-5-minutes", "*/5 * * * *", "UTC")],
            "generate-daily-reports": [("daily-at-06", "0 6 * * *", lisbon)],
            "update-session-statuses": [("every-10-minutes", "*/10 * * * *", "UTC")],
        }.items()
    )
    written = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert {one["name"] for one in written} == set(deployed)
    for deployment in deployed.values():
        assert TAG in deployment["tags"]
        assert deployment["parameters"]["dry_run"] is False
        assert len(deployment["description"]) > 100
        if deployment["schedules"]:
            assert "now" in deployment["parameter_openapi_schema"]["properties"]


def test_the_jobs_command_lists_the_jobs(
    prefect: PrefectProcess, deployed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", prefect.url)
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", AUTH)
    with prefect.http() as http:
        sweep, net = (deployed[name]["id"] for name in ("update-session-statuses", "process-pending-notifications"))
        http.post(f"/deployments/{sweep}/pause_deployment").raise_for_status()
        made = http.post(f"/deployments/{net}/create_flow_run", json={"state": {"type": "COMPLETED"}}).json()
        late = {"state": {"type": "SCHEDULED", "name": "Late"}}
        for _ in range(2):
            http.post(f"/deployments/{net}/create_flow_run", json=late).raise_for_status()
    head, *lines = jobs.report(load())
    assert head.split() == ["JOB", "SCHEDULE", "LAST", "RUN", "NEXT", "RUN", "LATE"]
    by_name = {line.split()[0]: line for line in lines}
    assert set(by_name) >= set(deployed), "and what other tests deployed"
    assert "*/10 * * * * UTC" in by_name["update-session-statuses"]
    assert by_name["update-session-statuses"].endswith("paused")
    assert "Completed in" in by_name["process-pending-notifications"]
    assert by_name["process-pending-notifications"].endswith("  2")
    assert "never" in by_name["cleanup-sessions"]
    assert made["state_type"] == "COMPLETED"


def test_the_jobs_command_without_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{processes.free_port()}/api")
    with pytest.raises(Unavailable, match="cannot be asked"):
        list(jobs.report(load()))
