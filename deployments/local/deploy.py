"""Tells a Prefect server what there is to run; ``python -m deployments.local.deploy [prefect.yaml]``.

The work pool, every deployment of prefect.yaml, and the automation that finds runs whose process is gone.
One short-lived process for all, because importing Prefect takes seconds and 80 MB; safe to repeat.
"""

import asyncio
import contextlib
import sys
from datetime import timedelta
from pathlib import Path

from prefect.cli import app as prefect_cli
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.workers.process import ProcessWorker

from core.errors import Unavailable

POOL = "local"
HEARTBEAT = "prefect.flow-run.heartbeat"
ENDS = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed")}
ZOMBIES = AutomationCore(
    name="greenroom: runs without a heartbeat have crashed",
    description="A run's process sends a heartbeat every 30 s; when none comes for 60 s it was killed.",
    trigger=EventTrigger(
        match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
        for_each={"prefect.resource.id"},
        after={HEARTBEAT},
        expect={HEARTBEAT, *ENDS},
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(seconds=60),
    ),
    actions=[
        ChangeFlowRunState(
            state=StateType.CRASHED, name="Crashed", message="No heartbeat for 60 s: the run's process is gone."
        )
    ],
)


async def prepare(client: PrefectClient, *, pool: str = POOL) -> None:
    """Make the work pool and the zombie automation where they are absent; what is there is left as it is."""
    try:
        await client.read_work_pool(pool)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        with contextlib.suppress(ObjectAlreadyExists):  # somebody else was as quick
            await client.create_work_pool(
                WorkPoolCreate(name=pool, type=ProcessWorker.type, base_job_template=template)
            )
    if not await client.read_automations_by_name(ZOMBIES.name):
        await client.create_automation(ZOMBIES)


async def server_ready(client: PrefectClient, *, within: float = 120) -> None:
    """Wait until the server answers.

    Raises Unavailable when it has not within this many seconds.
    """
    deadline = asyncio.get_running_loop().time() + within
    while (problem := await client.api_healthcheck()) is not None:
        if asyncio.get_running_loop().time() > deadline:
            raise Unavailable(f"Prefect's server at {client.api_url} does not answer: {problem}")
        await asyncio.sleep(0.1)


async def _prepare() -> None:
    async with get_client() as client:
        await server_ready(client)
        await prepare(client)


def main(prefect_file: Path) -> None:
    """Prepare the server, then deploy just as ``prefect --no-prompt deploy --all`` does; exits non-zero on trouble."""
    asyncio.run(_prepare())
    sys.argv = ["prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(prefect_file)]
    prefect_cli()


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "prefect.yaml"))
