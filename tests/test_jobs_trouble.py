"""Jobs that are late, break or are stuck: told to admins, counted, and tidied after."""

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow, get_client
from sqlalchemy import text

from core import jobs
from core.clock import utcnow
from core.db import transaction
from core.events import FlowState
from flows import janitor, watcher
from flows.janitor import STUCK, TAG, tidy
from flows.prefect_api import PrefectServer, Run
from flows.watcher import Watcher
from tests.parts import eventually
from tests.prefect_server import AUTH, PrefectProcess


def rows(query: str, **given: Any) -> list[tuple[Any, ...]]:
    with transaction() as db:
        return [tuple(row) for row in db.execute(text(query), given)]


def alarms(*deployments: str) -> list[tuple[str, str, str]]:
    """Category, role and deployment of what admins were told of these."""
    query = "SELECT category, role, data->>'deployment' FROM notifications WHERE category LIKE 'job_%' ORDER BY id"
    return [(category, role, deployment) for category, role, deployment in rows(query) if deployment in deployments]


def change(**more: Any) -> watcher.Told:
    fields: dict[str, Any] = dict.fromkeys(FlowState.model_fields)
    fields |= {"flow": "f", "deployment": "f", "run_id": uuid4(), "run_name": "r", "state": "RUNNING"}
    return uuid4(), FlowState(**{**fields, "state_name": "Running", "occurred_at": utcnow(), **more})


def in_figures() -> list[jobs.Figures]:
    with transaction() as db:
        return jobs.figures(db)


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


def test_an_outage_is_told_once_and_so_is_its_end(database: str) -> None:
    begun = utcnow() - timedelta(hours=1)

    def at(minute: int, state_name: str, deployment: str = "f") -> watcher.Told:
        state = "RUNNING" if state_name == "Running" else "SCHEDULED"
        occurred = begun + timedelta(minutes=minute)
        return change(state=state, state_name=state_name, deployment=deployment, occurred_at=occurred)

    first = [at(minute, "Late") for minute in (1, 6, 11)]
    watcher.store([at(0, "Running"), first[0], at(2, "Late", "other")])
    watcher.store(first[1:])
    assert alarms("f", "other") == [("job_late", "admin", "f"), ("job_late", "admin", "other")]
    assert [(one.job, one.late, one.is_late) for one in in_figures()] == [("f", 3, True), ("other", 1, True)]

    back = [at(minute, "Running") for minute in (12, 13)]
    watcher.store(back)
    watcher.store([at(11, "Late"), *first, *back])  # by a watcher that hears of it afterwards
    assert alarms("f")[1:] == [("job_back", "admin", "f")]
    assert [one.is_late for one in in_figures()] == [False, True]

    watcher.store([at(20, "Late"), at(21, "Running"), at(22, "Running")])
    assert alarms("f")[2:] == [("job_late", "admin", "f"), ("job_back", "admin", "f")]
    assert alarms("other") == [("job_late", "admin", "other")]


async def test_a_run_that_nobody_takes_is_late_and_one_that_breaks_has_failed(
    prefect: PrefectProcess, database: str
) -> None:
    """Prefect says so after some seconds; the watcher hears it."""

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


class Returning(PrefectServer):
    """A server that is away first, and whose runs' heartbeats come a moment after it has returned."""

    away, heard = True, False

    async def answers(self) -> None:
        if self.away:
            raise ConnectionRefusedError
        await super().answers()

    async def has_heartbeat(self, run: Run, *, since: datetime) -> bool:
        return self.heard


async def test_a_run_is_not_taken_for_stuck_because_the_server_was_away(
    prefect: PrefectProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(janitor, "EVERY_SECONDS", 0.1)
    monkeypatch.setattr(janitor, "STUCK", timedelta(0))
    monkeypatch.setattr(janitor, "HEARD", timedelta(seconds=2))

    @flow(name="long")
    async def long() -> None:
        """Is at work all the time."""

    async with get_client() as client:
        made = {"flow_id": str(await client.create_flow(long)), "tags": [TAG], "state": {"type": "RUNNING"}}
    with prefect.http() as http:
        run = http.post("/flow_runs/", json=made).raise_for_status().json()

        def state() -> str:
            return str(http.get(f"/flow_runs/{run['id']}").json()["state_type"])

        server = Returning(prefect.url, AUTH)
        keeping = asyncio.create_task(janitor.keep(server))
        try:
            await asyncio.sleep(0.5)
            server.away = False
            await asyncio.sleep(1)
            server.heard = True
            await asyncio.sleep(2.5)
            assert state() == "RUNNING"
            server.heard = False
            await asyncio.to_thread(eventually, lambda: state() == "CRASHED", "its process is gone")
        finally:
            keeping.cancel()


async def test_a_run_that_goes_on_while_others_are_looked_at_is_not_ended(prefect: PrefectProcess) -> None:
    @flow(name="slow to begin")
    async def slow_to_begin() -> None:
        """Begins after all."""

    async with get_client() as client:
        made = {"flow_id": str(await client.create_flow(slow_to_begin)), "tags": [TAG], "state": {"type": "PENDING"}}
    with prefect.http() as http:
        run = http.post("/flow_runs/", json=made).raise_for_status().json()

        class Begins(PrefectServer):
            async def unfinished(self, tag: str, *, since: datetime, states: list[str]) -> list[tuple[Run, str]]:
                found = await super().unfinished(tag, since=since, states=states)
                begun = {"state": {"type": "RUNNING", "name": "Running"}, "force": True}
                http.post(f"/flow_runs/{run['id']}/set_state", json=begun).raise_for_status()
                return [(one, state) for one, state in found if str(one.id) == run["id"]]

        async with Begins(prefect.url, AUTH) as server:
            assert await tidy(server, now=utcnow() + STUCK) == []
        assert http.get(f"/flow_runs/{run['id']}").json()["state_type"] == "RUNNING"
        http.delete(f"/flow_runs/{run['id']}").raise_for_status()
