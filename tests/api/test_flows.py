"""Runs requested over HTTP: answered at once, done as their parameters say, and read with their result."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect import State, get_client
from prefect.flow_engine import run_flow
from prefect.states import Pending

from core.db import transaction
from core.models import Report
from flows.reports import generate_daily_reports
from flows.sessions import update_session_statuses
from tests.support import processes
from tests.support.deploy import deploy, deployments, withdraw
from tests.support.flow_runs import everything, invited, status
from tests.support.http import Clients, json_body, names, new_clients
from tests.support.prefect_server import AUTH, PrefectProcess
from tests.support.processes import Database

DAILY, SWEEP = "generate-daily-reports", "update-session-statuses"
FLOWS: dict[str, Any] = {DAILY: generate_daily_reports, SWEEP: update_session_statuses}


@pytest.fixture(scope="module")
def prefect(prefect: PrefectProcess) -> Iterator[PrefectProcess]:
    """The run's server with the deployments, which are taken back."""
    deploy(prefect)
    yield prefect
    withdraw(prefect)


@pytest.fixture(scope="module")
def clients(
    prefect: PrefectProcess, shared_database: Database, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Clients]:
    """An API that finds the server, and who asks it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_API_URL", prefect.url)
        patch.setenv("PREFECT_API_AUTH_STRING", AUTH)
        with processes.api_process(shared_database.url, tmp_path_factory.mktemp("api")) as api:
            yield new_clients(api)


async def execute(run_id: str, flow: str) -> State[Any]:
    """Do the run as a worker does."""
    async with get_client() as client:
        await client.set_flow_run_state(UUID(run_id), Pending())
        run: Any = await client.read_flow_run(UUID(run_id))
        execute_flow: Any = run_flow
        state: State[Any] = await execute_flow(FLOWS[flow], flow_run=run, return_type="state")
        return state


async def started(clients: Clients, flow: str, **body: Any) -> dict[str, Any]:
    """What the API says of a run that it started, and that was done."""
    answer = await asyncio.to_thread(clients.admin.post, f"/api/flows/{flow}/runs", json=body)
    run = json_body(answer, 202)
    assert (run["state"], answer.headers["Location"]) == ("SCHEDULED", f"/api/flows/runs/{run['id']}")
    await execute(run["id"], flow)
    return json_body(await asyncio.to_thread(clients.recruiter.get, answer.headers["Location"]))


def days() -> list[tuple[str, str]]:
    """The reports that were requested, by day and type."""
    with transaction() as db:
        keys = [str(row.dedupe_key) for row in db.query(Report)]
    return sorted((key.split("/")[1], key.split("/")[2]) for key in keys)


async def test_a_dry_run_over_http_writes_nothing(clients: Clients) -> None:
    due = invited(expired=timedelta(hours=1))
    before = everything()
    looked = await started(clients, SWEEP, dry_run=True)
    assert everything() == before
    assert looked["name"].endswith("(dry run)")
    assert (looked["state"], looked["result"]["found"], looked["result"]["dry_run"]) == ("COMPLETED", 1, True)
    assert looked["artifact"]["key"] == SWEEP
    assert looked["artifact"]["description"].startswith("Dry run: found 1, done 0, skipped 0, failed 0 (expire 1).")
    found = await started(clients, SWEEP, parameters={"dry_run": False})
    assert (found["result"]["done"], status(due)) == (1, "expired")


async def test_a_dry_run_is_a_parameter_in_the_ui(prefect: PrefectProcess, clients: Clients) -> None:
    """Where Prefect makes a form of the deployment's schema."""
    due = invited(expired=timedelta(hours=1))
    sweep = deployments(prefect)[SWEEP]
    assert sweep["parameter_openapi_schema"]["properties"]["dry_run"]["type"] == "boolean"
    with prefect.http() as http:
        body = {"parameters": {"dry_run": True}, "state": {"type": "SCHEDULED"}}
        run = http.post(f"/deployments/{sweep['id']}/create_flow_run", json=body).raise_for_status().json()
    state = await execute(run["id"], SWEEP)
    assert ((await state.result()).found, status(due)) == (1, "invited")
    await started(clients, SWEEP)
    assert status(due) == "expired"


async def test_backfill_of_a_date_and_of_a_range(clients: Clients) -> None:
    one = await started(clients, DAILY, parameters={"date": "2024-02-29"})
    assert (one["result"]["done"], one["result"]["data"]) == (2, {"first": "2024-02-29", "last": "2024-02-29"})
    looked = await started(clients, DAILY, parameters={"date": "2024-02-28", "until": "2024-03-01"}, dry_run=True)
    assert (looked["result"]["found"], looked["result"]["skipped"], len(days())) == (6, 2, 2)
    more = await started(clients, DAILY, parameters={"date": "2024-02-28", "until": "2024-03-01"})
    assert (more["result"]["done"], more["result"]["skipped"]) == (4, 2)
    kinds = ("dashboard_csv", "dashboard_pdf")
    assert days() == [(day, kind) for day in ("2024-02-28", "2024-02-29", "2024-03-01") for kind in kinds]


async def test_invalid_days_are_refused_or_fail_with_the_reason(clients: Clients) -> None:
    def post(**parameters: Any) -> httpx.Response:
        return clients.admin.post(f"/api/flows/{DAILY}/runs", json={"parameters": parameters})

    before = days()
    names(await asyncio.to_thread(post, date="2024-02-30"), "parameters.date")
    names(await asyncio.to_thread(post, day="2024-02-29"), "parameters.day")
    failed = await started(clients, DAILY, parameters={"date": str(date.today() + timedelta(days=2))})
    assert failed["state"] == "FAILED"
    assert "is not over" in failed["message"]
    assert days() == before


@pytest.mark.parametrize(
    ("flow", "parameter", "written"),
    [
        ("generate-report", "interview_id", "NaN"),
        ("generate-report", "start", r'"\ud800"'),
        ("generate-report", "start", r'"a\u0000"'),
        (DAILY, "date", '"86400"'),
        (SWEEP, "now", '"5"'),
    ],
)
def test_invalid_parameters_are_refused(clients: Clients, flow: str, parameter: str, written: str) -> None:
    body = f'{{"parameters": {{"{parameter}": {written}}}}}'
    headers = {"Content-Type": "application/json"}
    names(clients.admin.post(f"/api/flows/{flow}/runs", content=body, headers=headers), f"parameters.{parameter}")


def test_every_run_is_on_some_page(prefect: PrefectProcess, clients: Clients) -> None:
    """Prefect gives 200 at once, and one more has to be asked for to know of a next page."""
    path = f"/deployments/{deployments(prefect)['send-emails']['id']}/create_flow_run"
    with prefect.http() as http, ThreadPoolExecutor(4) as many:
        made = many.map(lambda _: http.post(path, json={"state": {"type": "COMPLETED"}}).json()["id"], range(201))
        wanted = set(made)
    found: set[str] = set()
    query: dict[str, Any] = {"limit": 200}
    while True:
        page = json_body(clients.recruiter.get("/api/flows/send-emails/runs", params=query))
        found |= {run["id"] for run in page["items"]}
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    assert wanted <= found


async def test_pausing_and_resuming_a_deployment(prefect: PrefectProcess, clients: Clients) -> None:
    ours = deployments(prefect).keys()
    for paused in (True, False):
        changed = json_body(
            await asyncio.to_thread(clients.admin.patch, f"/api/flows/{SWEEP}", json={"paused": paused})
        )
        assert changed["paused"] is paused
        flows = json_body(await asyncio.to_thread(clients.recruiter.get, "/api/flows"))["items"]
        assert {flow["name"] for flow in flows if flow["paused"]} & ours == ({SWEEP} if paused else set())
