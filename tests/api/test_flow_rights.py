"""Who may do what with flows over HTTP: admins run and pause them, recruiters look, and nobody else does either."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.support import processes
from tests.support.deploy import deploy, deployments, withdraw
from tests.support.http import Clients, json_body, names, new_clients, refused, soon
from tests.support.prefect_server import AUTH, PrefectProcess
from tests.support.processes import Database

FLOW = "cleanup-sessions"
PATH = f"/api/flows/{FLOW}"


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


def paused(prefect: PrefectProcess) -> bool:
    """What Prefect's own server says."""
    return bool(deployments(prefect)[FLOW]["paused"])


def requested(prefect: PrefectProcess) -> list[str]:
    """The runs of this module's deployment that no schedule made; its schedule's are of times to come."""
    where = {
        "deployment_id": {"any_": [deployments(prefect)[FLOW]["id"]]},
        "expected_start_time": {"before_": soon(minutes=1)},
    }
    with prefect.http() as http:
        rows = http.post("/flow_runs/filter", json={"flow_runs": where, "limit": 200}).raise_for_status().json()
    return [row["id"] for row in rows if not row["auto_scheduled"]]


@pytest.mark.parametrize("role", ["recruiter", "interviewer", "candidate"])
def test_only_an_admin_pauses_a_flow(prefect: PrefectProcess, clients: Clients, role: str) -> None:
    refused(clients.by(role).patch(PATH, json={"paused": True}), 403, role, "admin")
    assert not paused(prefect)
    json_body(clients.admin.patch(PATH, json={"paused": True}))
    assert paused(prefect)
    refused(clients.by(role).patch(PATH, json={"paused": False}), 403, role, "admin")
    assert paused(prefect), "nor does anybody else let it go on"
    json_body(clients.admin.patch(PATH, json={"paused": False}))
    assert not paused(prefect)


@pytest.mark.parametrize("role", ["recruiter", "interviewer", "candidate"])
@pytest.mark.parametrize("body", [{}, {"dry_run": True}])
def test_only_an_admin_runs_a_flow(prefect: PrefectProcess, clients: Clients, role: str, body: dict[str, Any]) -> None:
    before = requested(prefect)
    refused(clients.by(role).post(f"{PATH}/runs", json=body), 403, role, "admin")
    assert requested(prefect) == before
    made = json_body(clients.admin.post(f"{PATH}/runs", json=body), 202)
    assert set(requested(prefect)) == {*before, made["id"]}


def test_recruiters_and_admins_read_flows_and_runs(clients: Clients) -> None:
    run = json_body(clients.admin.post(f"{PATH}/runs", json={"dry_run": True}), 202)["id"]
    paths = ("/api/flows", f"{PATH}/runs", f"/api/flows/runs/{run}")
    for path in paths:
        for role in ("admin", "recruiter"):
            json_body(clients.by(role).get(path))
        for role in ("interviewer", "candidate"):
            refused(clients.by(role).get(path), 403, role)


def test_the_key_of_a_run_belongs_to_who_gave_it_and_to_one_flow(prefect: PrefectProcess, clients: Clients) -> None:
    headers = {"Idempotency-Key": str(uuid4())}
    first = json_body(clients.admin.post(f"{PATH}/runs", json={"dry_run": True}, headers=headers), 202)
    again = json_body(clients.admin.post(f"{PATH}/runs", json={"dry_run": True}, headers=headers), 202)
    assert again["id"] == first["id"]
    names(clients.admin.post(f"{PATH}/runs", json={"dry_run": False}, headers=headers), "Idempotency-Key")
    elsewhere = json_body(
        clients.admin.post("/api/flows/send-reminders/runs", json={"dry_run": True}, headers=headers), 202
    )
    other = new_clients(clients.api).admin
    theirs = json_body(other.post(f"{PATH}/runs", json={"dry_run": True}, headers=headers), 202)
    assert len({first["id"], elsewhere["id"], theirs["id"]}) == 3
