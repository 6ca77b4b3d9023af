"""Prefect's record of reports: one run for each, what was missed recorded afterwards, and a run by hand that waits."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from prefect import State

from core.results import JobResult
from core.settings import settings
from dispatcher.prefect_api import PrefectServer
from dispatcher.reports import run_recorder
from dispatcher.reports.renderer import Renderer
from dispatcher.reports.run_recorder import FLOW, TAG, ReportRunRecorder
from flows import reports as flow
from flows.reports import generate_report
from tests.support import processes
from tests.support.factories import People
from tests.support.prefect_server import AUTH, PrefectProcess
from tests.support.report_queue import claim, days, finish, new_people, ready, request_report, row


@pytest.fixture
def people(database: str, prefect: PrefectProcess) -> People:
    return new_people()


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_recorder, "RETRY_SECONDS", 0.3)


def run_of(prefect: PrefectProcess, report_id: UUID) -> dict[str, Any] | None:
    """The report's run; there is at most one."""
    with prefect.http() as http:
        query = {"flow_runs": {"name": {"any_": [f"{FLOW}/{report_id}"]}}}
        found = http.post("/flow_runs/filter", json=query).raise_for_status().json()
    assert len(found) <= 1
    return found[0] if found else None


def in_state(prefect: PrefectProcess, report_id: UUID, state: str) -> dict[str, Any] | None:
    run = run_of(prefect, report_id)
    return run if run is not None and run["state_type"] == state else None


def shown(prefect: PrefectProcess, run_id: str) -> dict[str, str]:
    """What the run shows, by kind."""
    with prefect.http() as http:
        query = {"artifacts": {"flow_run_id": {"any_": [run_id]}}}
        return {one["type"]: one["data"] for one in http.post("/artifacts/filter", json=query).json()}


async def make(prefect: PrefectProcess, until: Callable[[], Any], *, meanwhile: Callable[[], Awaitable[None]]) -> None:
    """Make what is due, recorded, until the condition is true."""
    async with (
        ReportRunRecorder(PrefectServer(prefect.url, AUTH)) as recorder,
        Renderer(settings(), recorder=recorder) as ours,
    ):
        await ours.drain()
        await meanwhile()
        await asyncio.to_thread(processes.eventually, until, "the reports are recorded")


async def nothing() -> None:
    pass


async def test_a_report_is_one_run_with_the_url_of_its_file(prefect: PrefectProcess, people: People) -> None:
    query = (await asyncio.to_thread(request_report, people)).id
    await make(prefect, lambda: in_state(prefect, query, "COMPLETED"), meanwhile=nothing)
    run = run_of(prefect, query)
    assert run is not None and run["tags"] == [TAG]
    found = shown(prefect, run["id"])
    [result] = json.loads(found["table"])
    assert (result["data"]["report_id"], result["data"]["status"], result["done"]) == (str(query), "ready", 1)
    assert found["markdown"].endswith(f"({settings().public_url}/reports/{query})")


async def test_reports_are_recorded_after_a_prefect_outage(prefect: PrefectProcess, people: People) -> None:
    query = [(await asyncio.to_thread(request_report, people, **days(n))).id for n in range(3)]
    await asyncio.to_thread(prefect.end)

    async def back() -> None:
        assert [row(id_).status for id_ in query] == ["ready"] * 3
        await asyncio.to_thread(prefect.start)

    await make(prefect, lambda: all(in_state(prefect, id_, "COMPLETED") for id_ in query), meanwhile=back)


async def test_runs_of_a_stopped_dispatcher_are_marked_crashed(
    prefect: PrefectProcess, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_recorder, "ORPHANED_AFTER", timedelta(seconds=-5))
    done = await asyncio.to_thread(ready, people)
    queued = (await asyncio.to_thread(request_report, people)).id
    async with PrefectServer(prefect.url, AUTH) as server:
        for id_ in (done, queued):
            await server.begin(FLOW, name=f"{FLOW}/{id_}", key=f"report/{id_}", tags=[TAG])
    async with ReportRunRecorder(PrefectServer(prefect.url, AUTH)):
        await asyncio.to_thread(processes.eventually, lambda: in_state(prefect, done, "COMPLETED"), "it is ended")
    assert in_state(prefect, queued, "RUNNING")


async def test_a_manual_run_waits_for_its_report(
    prefect: PrefectProcess, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "POLL_SECONDS", 0.05)
    running = asyncio.create_task(run_flow(type="dashboard_csv", start="2026-03-01", end="2026-03-02"))
    claimed = await asyncio.to_thread(processes.eventually, claim, "the report is requested")
    assert claimed[0].requested_by is None
    assert await asyncio.to_thread(finish, claimed[0])
    result = await running
    assert isinstance(result, JobResult)
    assert (result.found, result.done, result.data["status"]) == (1, 1, "ready")
    assert result.data["filename"] == "Sessions.csv"
    assert result.data["url"] == f"{settings().public_url}/reports/{claimed[0].id}"


async def test_a_failing_report_fails_the_run(prefect: PrefectProcess, people: People) -> None:
    for given in ({"type": "interview_pdf"}, {"type": "dashboard_csv", "start": "never"}):
        state = await run_flow(return_state=True, **given)
        assert state.is_failed()
    dry = await run_flow(type="dashboard_pdf", dry_run=True)
    assert (dry.found, dry.done, dry.data) == (1, 0, {"type": "dashboard_pdf"})
    assert claim() == []


async def run_flow(**given: Any) -> Any:
    found: JobResult | State[Any] = await generate_report(**given)  # type: ignore[call-overload]
    return found
