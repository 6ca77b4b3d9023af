"""Deploys prefect.yaml to a Prefect server; ``python -m deployments.schedules.deploy [prefect.yaml]``.

The work pool, every deployment of prefect.yaml, and an automation that marks runs as crashed whose process is gone.
One short-lived process for all, because importing Prefect takes seconds and 80 MB; safe to repeat.
"""

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import yaml
from prefect.cli import app as prefect_cli
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from core.errors import GreenroomError, Unavailable
from deployments.schedules import pools

HEARTBEAT = "prefect.flow-run.heartbeat"
ENDS = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed")}
# The dispatcher's janitor ends such a run within a minute or so; this is for when no dispatcher runs. It has to wait
# for longer than any outage of the server during a run: the time includes the outage, and may be over when it ends.
ZOMBIES = AutomationCore(
    name="greenroom: runs without a heartbeat have crashed",
    description="A run's process sends a heartbeat every 30 s; when none comes for an hour it was killed. "
    "The dispatcher detects that much sooner; this is for when none runs.",
    trigger=EventTrigger(
        match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
        for_each={"prefect.resource.id"},
        after={HEARTBEAT},
        expect={HEARTBEAT, *ENDS},
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(hours=1),
    ),
    actions=[
        ChangeFlowRunState(
            state=StateType.CRASHED, name="Crashed", message="No heartbeat for an hour: the run's process is gone."
        )
    ],
)


async def prepare(client: PrefectClient, environ: Mapping[str, str]) -> None:
    """Create the work pool if it is absent, and create or update the automation for runs without a heartbeat.

    An automation that was disabled stays disabled.
    """
    name = environ["GREENROOM_POOL"]
    try:
        await client.read_work_pool(name)
    except ObjectNotFound:
        template = pools.template(await client.read_worker_metadata(), environ)
        pool = WorkPoolCreate(name=name, type=environ["GREENROOM_POOL_TYPE"], base_job_template=template)
        with contextlib.suppress(ObjectAlreadyExists):  # another process created it meanwhile
            await client.create_work_pool(pool)
    found = await client.read_automations_by_name(ZOMBIES.name)
    for automation in found:
        await client.update_automation(automation.id, ZOMBIES.model_copy(update={"enabled": automation.enabled}))
    if not found:
        await client.create_automation(ZOMBIES)


async def server_ready(client: PrefectClient, *, within: float = 120) -> None:
    """Wait until the server answers.

    Raises Unavailable when it does not within this many seconds.
    """
    deadline = asyncio.get_running_loop().time() + within
    while (problem := await client.api_healthcheck()) is not None:
        if asyncio.get_running_loop().time() > deadline:
            raise Unavailable(f"Prefect's server at {client.api_url} does not answer: {problem}")
        await asyncio.sleep(0.1)


async def _prepare() -> set[str]:
    """Prepare the server; the names of deployments that are paused there."""
    async with get_client() as client:
        await server_ready(client)
        await prepare(client, os.environ)
        return {deployment.name for deployment in await client.read_deployments() if deployment.paused}


@contextlib.contextmanager
def _with_pauses(prefect_file: Path, paused: set[str]) -> Iterator[Path]:
    """A copy of the file with ``paused`` as on the server: Prefect's command would resume paused deployments."""
    written = yaml.safe_load(prefect_file.read_text())
    for deployment in written["deployments"]:
        deployment["paused"] = deployment["name"] in paused
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(written, file, sort_keys=False)
        file.flush()
        yield Path(file.name)


def main(prefect_file: Path) -> None:
    """Prepare the server, then deploy as ``prefect --no-prompt deploy --all`` does; exits non-zero on trouble.

    Variables that prefect.yaml refers to and that are not set get their defaults: Prefect would use the reference
    itself, or an empty value.
    """
    for name, default in {**pools.LOCAL, "GREENROOM_TIMEZONE": "UTC"}.items():
        os.environ[name] = os.environ.get(name) or default
    try:
        paused = asyncio.run(_prepare())
    except GreenroomError as error:
        sys.exit(f"greenroom: {error}")
    with _with_pauses(prefect_file, paused) as file:
        sys.argv = ["prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
        prefect_cli()


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "prefect.yaml"))
