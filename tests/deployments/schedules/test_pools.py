"""One prefect.yaml for pools of processes, of Docker and of Kubernetes: variables say which."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from prefect import get_client
from prefect.utilities.templating import apply_values
from prefect.workers.base import BaseJobConfiguration

from core.errors import GreenroomError
from deployments.schedules import pools
from tests.support.deploy import deploy, withdraw
from tests.support.prefect_server import PrefectProcess
from tests.support.processes import ROOT

COMMAND = "python -m prefect.engine"
DATABASE = "postgresql://greenroom@db.example.com/greenroom"
NET, REMINDERS, DAILY = "process-pending-notifications", "send-reminders", "generate-daily-reports"


@pytest.fixture(scope="module")
def prefect(prefect: PrefectProcess) -> Iterator[PrefectProcess]:
    """The run's server, which is given back without deployments."""
    yield prefect
    withdraw(prefect)


def pool(prefect: PrefectProcess, name: str) -> dict[str, Any]:
    with prefect.http() as http:
        found: dict[str, Any] = http.get(f"/work_pools/{name}").raise_for_status().json()
        return found


async def job(template: dict[str, Any], variables: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a worker makes of a pool's template and a deployment's variables: its own part, and the whole."""
    async with get_client() as client:
        config = await BaseJobConfiguration.from_template_and_values(template, dict(variables), client=client)
    defaults = {
        name: about["default"] for name, about in template["variables"]["properties"].items() if "default" in about
    }
    whole = apply_values(template["job_configuration"], {**defaults, **variables, "env": config.env})
    return config.model_dump(), whole


def pause(prefect: PrefectProcess, found: dict[str, dict[str, Any]]) -> None:
    """One deployment, and the schedule of another."""
    with prefect.http() as http:
        http.post(f"/deployments/{found[REMINDERS]['id']}/pause_deployment").raise_for_status()
        [schedule] = found[NET]["schedules"]
        resting = f"/deployments/{found[NET]['id']}/schedules/{schedule['id']}"
        http.patch(resting, json={"active": False}).raise_for_status()


async def test_docker_and_kubernetes_pools_and_kept_pauses(prefect: PrefectProcess) -> None:
    before = deploy(
        prefect,
        GREENROOM_POOL="hosts",
        GREENROOM_POOL_TYPE="docker",
        GREENROOM_POOL_IMAGE="registry.example.com/greenroom:1",
        GREENROOM_DATABASE_URL=DATABASE,
        GREENROOM_TIMEZONE="Europe/Lisbon",
    )
    assert set(before) == {one["name"] for one in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]}
    assert {one["work_pool_name"] for one in before.values()} == {"hosts"}
    made = pool(prefect, "hosts")
    assert made["type"] == "docker"
    for one in before.values():
        own, whole = await job(made["base_job_template"], one["job_variables"])
        assert (own["command"], whole["image"]) == (COMMAND, "registry.example.com/greenroom:1")
        assert own["env"] == {
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
            "GREENROOM_DATABASE_URL": DATABASE,
            "GREENROOM_TIMEZONE": "Europe/Lisbon",
        }

    assert before[DAILY]["schedules"][0]["schedule"]["timezone"] == "Europe/Lisbon"

    pause(prefect, before)
    found = deploy(
        prefect,
        GREENROOM_POOL="cluster",
        GREENROOM_POOL_TYPE="kubernetes",
        GREENROOM_POOL_SECRET="greenroom",
        GREENROOM_POOL_COMMAND="greenroom-run",
        GREENROOM_DATABASE_URL=DATABASE,
    )
    assert {name: one["id"] for name, one in found.items()} == {name: one["id"] for name, one in before.items()}
    assert {name for name, one in found.items() if one["paused"]} == {REMINDERS}
    active = {name: [each["active"] for each in one["schedules"]] for name, one in found.items()}
    assert active.pop(NET) == [False]
    assert all(each for schedules in active.values() for each in schedules)

    assert {one["work_pool_name"] for one in found.values()} == {"cluster"}
    made = pool(prefect, "cluster")
    assert made["type"] == "kubernetes"
    assert DATABASE not in str(made), "settings are the Secret's"
    own, whole = await job(made["base_job_template"], found[NET]["job_variables"])
    assert own["env"] == {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
    [container] = whole["job_manifest"]["spec"]["template"]["spec"]["containers"]
    assert (container["image"], container["args"]) == ("greenroom:latest", "greenroom-run")
    assert container["envFrom"] == [{"secretRef": {"name": "greenroom"}}]
    assert found[DAILY]["schedules"][0]["schedule"]["timezone"] == "UTC"


async def test_a_type_that_the_server_does_not_know_is_named(prefect: PrefectProcess) -> None:
    async with get_client() as client:
        known = await client.read_worker_metadata()
    with pytest.raises(GreenroomError, match=r"GREENROOM_POOL_TYPE is 'steam'.* docker, .* kubernetes, "):
        pools.template(known, pools.LOCAL | {"GREENROOM_POOL_TYPE": "steam"})
