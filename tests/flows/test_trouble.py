"""Jobs that are late, break or are stuck: admins are notified, the runs counted, and stuck ones ended."""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from prefect import flow, get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from sqlalchemy import text

from core import jobs
from core.clock import utcnow
from core.db import transaction
from core.events import FlowState
from core.prefect_rest import Run
from deployments.schedules.deploy import HEARTBEAT, ZOMBIES, prepare
from dispatcher import flow_states, janitor
from dispatcher.flow_states import FlowStateWatcher
from dispatcher.janitor import HEARTBEAT_TIMEOUT, TAG, end_stuck_runs
from dispatcher.prefect_api import PrefectServer
from tests.support.prefect_server import AUTH, PrefectProcess
from tests.support.processes import eventually


def rows(query: str, **given: Any) -> list[tuple[Any, ...]]:
    with transaction() as db:
        return [tuple(row) for row in db.execute(text(query), given)]


def alarms(*deployments: str) -> list[tuple[str, str, str]]:
    """Category, role and deployment of the notifications of these to admins."""
    query = "SELECT category, role, data->>'deployment' FROM notifications WHERE category LIKE 'job_%' ORDER BY id"
    return [(category, role, deployment) for category, role, deployment in rows(query) if deployment in deployments]


def change(**more: Any) -> flow_states.StateOfRun:
    fields: dict[str, Any] = dict.fromkeys(FlowState.model_fields)
    fields |= {"flow": "f", "deployment": "f", "run_id": uuid4(), "run_name": "r", "state": "RUNNING"}
    return uuid4(), FlowState(**{**fields, "state_name": "Running", "occurred_at": utcnow(), **more})


def job_stats() -> list[jobs.JobStats]:
    with transaction() as db:
        return jobs.job_stats(db)


def test_admins_are_notified_once_of_a_late_and_a_failed_run(database: str) -> None:
    run_id = uuid4()
    states = [
        change(state="SCHEDULED", state_name="Late", run_id=run_id),
        change(state="FAILED", state_name="Failed", run_id=run_id),
        change(state="CRASHED", state_name="Crashed", deployment="other"),
        change(state="COMPLETED", state_name="Completed"),
        change(state="FAILED", state_name="Failed", deployment=None),
    ]
    for _ in range(2):
        flow_states.store(states)
    flow_states.store([change(state="CRASHED", state_name="Crashed", run_id=run_id)])
    assert alarms("f", "other") == [
        ("job_late", "admin", "f"),
        ("job_failed", "admin", "f"),
        ("job_failed", "admin", "other"),
    ]


def test_an_outage_and_the_recovery_are_notified_once(database: str) -> None:
    begun = utcnow() - timedelta(hours=1)

    def at(minute: int, state_name: str, deployment: str = "f") -> flow_states.StateOfRun:
        state = "RUNNING" if state_name == "Running" else "SCHEDULED"
        occurred = begun + timedelta(minutes=minute)
        return change(state=state, state_name=state_name, deployment=deployment, occurred_at=occurred)

    first = [at(minute, "Late") for minute in (1, 6, 11)]
    flow_states.store([at(0, "Running"), first[0], at(2, "Late", "other")])
    flow_states.store(first[1:])
    assert alarms("f", "other") == [("job_late", "admin", "f"), ("job_late", "admin", "other")]
    assert [(one.job, one.late, one.is_late) for one in job_stats()] == [("f", 3, True), ("other", 1, True)]

    back = [at(minute, "Running") for minute in (12, 13)]
    flow_states.store(back)
    flow_states.store([at(11, "Late"), *first, *back])  # by a watcher that reads it afterwards
    assert alarms("f")[1:] == [("job_back", "admin", "f")]
    assert [one.is_late for one in job_stats()] == [False, True]

    flow_states.store([at(20, "Late"), at(21, "Running"), at(22, "Running")])
    assert alarms("f")[2:] == [("job_late", "admin", "f"), ("job_back", "admin", "f")]
    assert alarms("other") == [("job_late", "admin", "other")]


async def test_unclaimed_runs_are_late_and_broken_runs_failed(prefect: PrefectProcess, database: str) -> None:
    """Prefect says so after some seconds; the watcher reads it."""

    @flow(name="breaks")
    async def breaks() -> None:
        raise ValueError("as it is meant to")

    async with get_client() as client:
        deployment_id = await client.create_deployment(flow_id=await client.create_flow(breaks), name="breaks")
        await client.create_flow_run_from_deployment(deployment_id)
        watching = asyncio.create_task(FlowStateWatcher(PrefectServer(prefect.url, AUTH)).run())
        try:
            late = ("job_late", "admin", "breaks")
            await asyncio.to_thread(
                eventually, lambda: alarms("breaks") == [late], "admins are notified that it is late", seconds=60
            )
            of_it = DeploymentFilter(id=DeploymentFilterId(any_=[deployment_id]))
            [run] = await client.read_flow_runs(deployment_filter=of_it)
            with prefect.http() as http:
                failed = {"state": {"type": "FAILED", "name": "Failed"}, "force": True}
                http.post(f"/flow_runs/{run.id}/set_state", json=failed).raise_for_status()
            both = [late, ("job_failed", "admin", "breaks")]
            await asyncio.to_thread(eventually, lambda: alarms("breaks") == both, "admins are notified that it failed")
        finally:
            watching.cancel()
            await client.delete_deployment(deployment_id)


async def flow_id(name: str) -> str:
    """A flow that does nothing, known to the server."""

    @flow(name=name)
    async def idle() -> None:
        """Its runs are made by hand."""

    async with get_client() as client:
        return str(await client.create_flow(idle))


def made(http: httpx.Client, flow_id: str, state: str, *tags: str, name: str | None = None) -> UUID:
    """A run in this state, which nobody runs."""
    run = {"flow_id": flow_id, "tags": tags, "state": {"type": state, "name": name or state.title()}}
    return UUID(http.post("/flow_runs/", json=run).raise_for_status().json()["id"])


def state_of(http: httpx.Client, run_id: UUID) -> str:
    return str(http.get(f"/flow_runs/{run_id}").raise_for_status().json()["state_type"])


def beats(http: httpx.Client, run_id: UUID, at: datetime) -> None:
    """The run's process said at this time that it lives."""
    resource = f"prefect.flow-run.{run_id}"
    beat = {"id": str(uuid4()), "occurred": at.isoformat(), "event": HEARTBEAT}
    http.post("/events", json=[beat | {"resource": {"prefect.resource.id": resource}}]).raise_for_status()
    seen = {"filter": {"event": {"name": [HEARTBEAT]}, "resource": {"id": [resource]}}}
    eventually(lambda: http.post("/events/filter", json=seen).json()["events"], "the heartbeat is kept")


async def test_stuck_runs_are_marked_crashed(prefect: PrefectProcess) -> None:
    stuck = await flow_id("stuck")
    with prefect.http() as http:
        unheard = {made(http, stuck, "RUNNING", TAG): "CRASHED"}
        unbegun = {
            made(http, stuck, "PENDING", TAG): "CRASHED",
            made(http, stuck, "PENDING", TAG, name="Submitting"): "CRASHED",
            made(http, stuck, "CANCELLING", TAG): "CANCELLED",
        }
        others = {
            made(http, stuck, "RUNNING"): "RUNNING",
            made(http, stuck, "COMPLETED", TAG): "COMPLETED",
            made(http, stuck, "SCHEDULED", TAG): "SCHEDULED",
        }
        lives = made(http, stuck, "RUNNING", TAG)
        now = utcnow()
        await asyncio.to_thread(beats, http, lives, utcnow())

        async with PrefectServer(prefect.url, AUTH) as server:

            async def resolved_ids(after: timedelta) -> set[UUID]:
                """Of the runs made here: other tests may have left some on the server."""
                ended = await end_stuck_runs(server, now=now + after)
                return {one.id for one in ended} & (unheard | unbegun | others).keys()

            assert await resolved_ids(HEARTBEAT_TIMEOUT - timedelta(seconds=10)) == set(), "not before its time"
            assert await resolved_ids(HEARTBEAT_TIMEOUT) == set(unheard)
            http.post(f"/flow_runs/{lives}/set_state", json={"state": {"type": "COMPLETED"}}).raise_for_status()
            assert await resolved_ids(timedelta(minutes=4)) == set(), "not before their time"
            assert await resolved_ids(timedelta(minutes=5)) == set(unbegun)
            assert await resolved_ids(timedelta(minutes=5)) == set()
        expected = unheard | unbegun | others | {lives: "COMPLETED"}
        assert {id_: state_of(http, id_) for id_ in expected} == expected


async def test_the_automation_keeps_runs_that_survived_a_server_outage(prefect: PrefectProcess) -> None:
    """Its time runs on meanwhile, and is over before the run can say that it lives."""
    long = await flow_id("lives through an outage")
    async with get_client() as client:
        for stale in await client.read_automations_by_name(ZOMBIES.name):
            await client.delete_automation(stale.id)
        short = ZOMBIES.model_copy(deep=True)
        short.trigger.within = timedelta(seconds=60)
        await client.create_automation(short)  # as an older deploy left it
        await prepare(client, {"GREENROOM_POOL": "any", "GREENROOM_POOL_TYPE": "process"})
        [kept] = await client.read_automations_by_name(ZOMBIES.name)
        assert (kept.enabled, kept.trigger, kept.actions) == (True, ZOMBIES.trigger, ZOMBIES.actions)
        await client.pause_automation(kept.id)
        await prepare(client, {"GREENROOM_POOL": "any", "GREENROOM_POOL_TYPE": "process"})
        [kept] = await client.read_automations_by_name(ZOMBIES.name)
        assert not kept.enabled, "who switched it off is heard"
        await client.resume_automation(kept.id)
        try:
            with prefect.http() as http:
                run = made(http, long, "RUNNING", TAG)
                await asyncio.to_thread(beats, http, run, utcnow() - timedelta(seconds=70))
                await asyncio.to_thread(prefect.end)
                await asyncio.to_thread(prefect.start)
                await asyncio.sleep(8)  # it looks every 5 s
                assert state_of(http, run) == "RUNNING"
        finally:
            await client.delete_automation(kept.id)


class Returning(PrefectServer):
    """A server that is away first, and whose runs' heartbeats come a moment after it has returned."""

    away, notified = True, False

    async def check_health(self) -> None:
        if self.away:
            raise ConnectionRefusedError
        await super().check_health()

    async def has_heartbeat(self, run: Run, *, since: datetime) -> bool:
        return self.notified


async def test_a_server_outage_does_not_make_a_run_stuck(
    prefect: PrefectProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(janitor, "INTERVAL_SECONDS", 0.1)
    monkeypatch.setitem(janitor.STUCK, "RUNNING", janitor.STUCK["RUNNING"]._replace(longest=timedelta(0)))
    monkeypatch.setattr(janitor, "SERVER_UP_FOR", timedelta(seconds=2))
    long = await flow_id("long")
    with prefect.http() as http:
        run = made(http, long, "RUNNING", TAG)
        server = Returning(prefect.url, AUTH)
        keeping = asyncio.create_task(janitor.run(server))
        try:
            await asyncio.sleep(0.5)
            server.away = False
            await asyncio.sleep(1)
            server.notified = True
            await asyncio.sleep(2.5)
            assert state_of(http, run) == "RUNNING"
            server.notified = False
            await asyncio.to_thread(eventually, lambda: state_of(http, run) == "CRASHED", "its process is gone")
        finally:
            keeping.cancel()


async def test_a_run_that_progresses_during_the_check_is_kept(prefect: PrefectProcess) -> None:
    slow_to_begin = await flow_id("slow to begin")
    with prefect.http() as http:
        run = made(http, slow_to_begin, "PENDING", TAG)

        class Begins(PrefectServer):
            async def unfinished(self, tag: str, *, since: Mapping[str, datetime]) -> list[Run]:
                found = await super().unfinished(tag, since=since)
                begun = {"state": {"type": "RUNNING", "name": "Running"}, "force": True}
                http.post(f"/flow_runs/{run}/set_state", json=begun).raise_for_status()
                return [one for one in found if one.id == run]

        async with Begins(prefect.url, AUTH) as server:
            assert await end_stuck_runs(server, now=utcnow() + timedelta(minutes=5)) == []
        assert state_of(http, run) == "RUNNING"
        http.delete(f"/flow_runs/{run}").raise_for_status()
