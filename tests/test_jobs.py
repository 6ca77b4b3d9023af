"""The jobs as Prefect runs them: deployed from prefect.yaml, watched, tidied after, and shown to people."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import yaml
from prefect import State, flow, get_client
from sqlalchemy import text

from core.clock import utcnow
from core.db import transaction
from core.errors import Unavailable
from core.events import FlowState
from core.settings import load
from deployments import jobs
from flows import watcher
from flows.cleanup import cleanup_sessions
from flows.janitor import STUCK, TAG, tidy
from flows.notifications import deliver_pending, process_pending_notifications
from flows.prefect_api import PrefectServer
from flows.reminders import send_reminders
from flows.reports import generate_daily_reports
from flows.run import lock_key, take_lock
from flows.watcher import Watcher
from tests import factories, parts, prefect_server
from tests.parts import ROOT, eventually
from tests.prefect_server import AUTH, PrefectProcess
from tests.test_flows import everything
from tests.test_reminders import mails, people, soon, statuses


@pytest.fixture(scope="module")
def prefect(postgres: parts.PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectProcess]:
    with prefect_server.running(postgres, tmp_path_factory.mktemp("prefect")) as server:
        yield server


@pytest.fixture(scope="module")
def deployed(prefect: PrefectProcess) -> dict[str, dict[str, Any]]:
    """What the server says of each deployment, once prefect.yaml has been deployed as a start does it."""
    environment = os.environ | {
        "PREFECT_API_URL": prefect.url,
        "PREFECT_API_AUTH_STRING": AUTH,
        "GREENROOM_TIMEZONE": "Europe/Lisbon",
    }
    command = [sys.executable, "-m", "deployments.local.deploy", "prefect.yaml"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with prefect.http() as http:
        return {one["name"]: one for one in http.post("/deployments/filter", json={}).json()}


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
    before = everything()
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
    with prefect.http() as http:
        for each in every:
            query = {"flow_runs": {"name": {"like_": f"{each.name}/{utcnow():%Y-}"}}}
            names = [run["name"] for run in http.post("/flow_runs/filter", json=query).json()]
            assert any(name.endswith("Z (dry run)") for name in names), "a run's name says its slot"


def test_the_safety_net_does_all_three_and_one_failure_stops_no_other(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nobody at the mail server's address the mails stay due; the rest is done."""
    monkeypatch.setenv("GREENROOM_SMTP_URL", f"smtp://127.0.0.1:{parts.free_port()}")
    parts.forget_settings()
    due = soon(people(reminder_offsets=[60]))
    with transaction() as db:
        who = factories.people(db)
        pending = """
            INSERT INTO notifications (user_id, category, title, body, not_before, dedupe_key)
            VALUES (:user, 'announcement', 'Soon', '', :at, 'one')"""
        db.execute(text(pending), {"user": who.interviewer_id, "at": utcnow() - timedelta(seconds=1)})
    result = deliver_pending(now=utcnow())
    assert (result.by_part["notifications"], result.by_part["reminders"]) == (1, 2)
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
    parts.forget_settings()


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
            "send-reminders": [("hourly", "0 * * * *", lisbon)],
            "process-pending-notifications": [("every-5-minutes", "*/5 * * * *", lisbon)],
            "generate-daily-reports": [("daily-at-06", "0 6 * * *", lisbon)],
            "update-session-statuses": [("every-10-minutes", "*/10 * * * *", lisbon)],
        }.items()
    )
    written = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert {one["name"] for one in written} == set(deployed)
    for deployment in deployed.values():
        assert TAG in deployment["tags"]
        assert deployment["parameters"]["dry_run"] is False
        assert len(deployment["description"]) > 100
        assert "now" in deployment["parameter_openapi_schema"]["properties"]


def test_people_see_the_jobs(
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
    assert set(by_name) == set(deployed)
    assert "*/10 * * * * Europe/Lisbon" in by_name["update-session-statuses"]
    assert by_name["update-session-statuses"].endswith("paused")
    assert "Completed in" in by_name["process-pending-notifications"]
    assert by_name["process-pending-notifications"].endswith("  2")
    assert "never" in by_name["cleanup-sessions"]
    assert made["state_type"] == "COMPLETED"


def test_without_a_server_people_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{parts.free_port()}/api")
    with pytest.raises(Unavailable, match="cannot be asked"):
        list(jobs.report(load()))


# trouble


def alarms(*deployments: str) -> list[tuple[str, str, str]]:
    """Category, role and deployment of what admins were told of these."""
    query = "SELECT category, role, data->>'deployment' FROM notifications WHERE category LIKE 'job_%' ORDER BY id"
    return [(category, role, deployment) for category, role, deployment in rows(query) if deployment in deployments]


def change(**more: Any) -> watcher.Told:
    fields: dict[str, Any] = dict.fromkeys(FlowState.model_fields)
    fields |= {"flow": "f", "deployment": "f", "run_id": uuid4(), "run_name": "r", "state": "RUNNING"}
    return uuid4(), FlowState(**{**fields, "state_name": "Running", "occurred_at": utcnow(), **more})


def test_admins_are_told_once_of_a_late_and_a_failed_run(database: str) -> None:
    run_id = uuid4()
    states = [
        change(state="SCHEDULED", state_name="Late", run_id=run_id),
        change(state="FAILED", state_name="Failed", run_id=run_id),
        change(state="CRASHED", state_name="Crashed", deployment="other"),
        change(state="COMPLETED", state_name="Completed"),
        change(state="FAILED", state_name="Failed", deployment=None),
    ]
    for _ in range(2):
        watcher.store(states)
    watcher.store([change(state="CRASHED", state_name="Crashed", run_id=run_id)])
    assert alarms("f", "other") == [
        ("job_late", "admin", "f"),
        ("job_failed", "admin", "f"),
        ("job_failed", "admin", "other"),
    ]


async def test_a_run_that_nobody_takes_is_late_and_one_that_breaks_has_failed(
    prefect: PrefectProcess, database: str
) -> None:
    """Prefect says so after 15 seconds; the watcher hears it."""

    @flow(name="breaks")
    async def breaks() -> None:
        raise ValueError("as it is meant to")

    async with get_client() as client:
        deployment_id = await client.create_deployment(flow_id=await client.create_flow(breaks), name="breaks")
        await client.create_flow_run_from_deployment(deployment_id)
        watching = asyncio.create_task(Watcher(PrefectServer(prefect.url, AUTH)).run())
        try:
            late = ("job_late", "admin", "breaks")
            await asyncio.to_thread(
                eventually, lambda: alarms("breaks") == [late], "admins hear that it is late", seconds=60
            )
            [run] = [one for one in await client.read_flow_runs() if one.deployment_id == deployment_id]
            with prefect.http() as http:
                failed = {"state": {"type": "FAILED", "name": "Failed"}, "force": True}
                http.post(f"/flow_runs/{run.id}/set_state", json=failed).raise_for_status()
            both = [late, ("job_failed", "admin", "breaks")]
            await asyncio.to_thread(eventually, lambda: alarms("breaks") == both, "admins hear that it failed")
        finally:
            watching.cancel()
            await client.delete_deployment(deployment_id)


async def test_stuck_runs_are_ended(prefect: PrefectProcess) -> None:
    @flow(name="stuck")
    async def stuck() -> None:
        """Never begins."""

    async with get_client() as client:
        flow_id = str(await client.create_flow(stuck))
    with prefect.http() as http:

        def run(state: str, *tags: str, name: str | None = None) -> UUID:
            made = {"flow_id": flow_id, "tags": tags, "state": {"type": state, "name": name or state.title()}}
            return UUID(http.post("/flow_runs/", json=made).raise_for_status().json()["id"])

        ours = {
            run("PENDING", TAG): "CRASHED",
            run("PENDING", TAG, name="Submitting"): "CRASHED",
            run("RUNNING", TAG): "CRASHED",
            run("CANCELLING", TAG): "CANCELLED",
        }
        others = {run("RUNNING"): "RUNNING", run("COMPLETED", TAG): "COMPLETED", run("SCHEDULED", TAG): "SCHEDULED"}
        lives = run("RUNNING", TAG)
        later = utcnow() + STUCK
        beat = {
            "id": str(uuid4()),
            "occurred": utcnow().isoformat(),
            "event": "prefect.flow-run.heartbeat",
            "resource": {"prefect.resource.id": f"prefect.flow-run.{lives}"},
        }
        http.post("/events", json=[beat]).raise_for_status()
        seen = {"filter": {"event": {"name": [beat["event"]]}, "resource": {"id": [f"prefect.flow-run.{lives}"]}}}
        await asyncio.to_thread(
            eventually, lambda: http.post("/events/filter", json=seen).json()["events"], "the heartbeat is kept"
        )

        def states() -> dict[UUID, str]:
            asked = [*ours, *others, lives]
            return {id_: http.get(f"/flow_runs/{id_}").json()["state_type"] for id_ in asked}

        async with PrefectServer(prefect.url, AUTH) as server:
            assert await tidy(server, now=later - timedelta(minutes=1)) == [], "not before their time"
            ended = await tidy(server, now=later)
            assert {one.id for one in ended} == set(ours)
            assert await tidy(server, now=later) == []
        assert states() == ours | others | {lives: "RUNNING"}


# the dispatcher


def test_the_dispatcher_sends_reminders_when_they_are_due(database: str, tmp_path: Path) -> None:
    """It knows of them when they are planned, and needs no Prefect for it."""
    environment = os.environ | {
        "PREFECT_API_URL": f"http://127.0.0.1:{parts.free_port()}/api",
        "GREENROOM_SMTP_URL": f"smtp://127.0.0.1:{parts.free_port()}",
    }
    with (tmp_path / "log").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "deployments.cli", "dispatcher"],
            cwd=tmp_path,
            env=environment,
            stdout=out,
            stderr=out,
        )
    try:
        eventually(lambda: "listening for work" in (tmp_path / "log").read_text(), "the dispatcher is up", seconds=60)
        ids = [soon(people(reminder_offsets=[60]), due_in=2 + n / 4) for n in range(6)]
        eventually(lambda: all(statuses(id_) == ["sent", "sent"] for id_ in ids), "all are sent", seconds=60)
    finally:
        process.kill()
        process.wait()
    early = rows("""
        SELECT count(*) FROM reminders r JOIN emails e ON e.session_id = r.session_id AND e.kind = 'reminder'
        WHERE e.created_at < r.due_at""")
    assert early == [(0,)], "none before its time"
    assert rows("SELECT count(*) FROM emails WHERE kind = 'reminder'") == [(12,)]
