"""The process worker: runs the scheduled flows of one work pool, each in a process of its own."""

import asyncio
import os
import signal
import socket
import sys

from prefect.client.orchestration import PrefectClient, get_client
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_WORKER_QUERY_SECONDS, temporary_settings
from prefect.workers.process import ProcessWorker

from deployments.local.processes import MARK

LOOK_AGAIN_SECONDS = 0.5


def run(pool: str = "local") -> None:
    """Run the worker until SIGTERM or SIGINT; it looks for due runs each second.

    Prefect's own worker in our process: ``prefect worker start`` needs a second's more import, gives up when
    the server is away at the start, and on SIGTERM waits for its runs without limit.
    """
    overrides = {} if os.environ.get("PREFECT_WORKER_QUERY_SECONDS") else {PREFECT_WORKER_QUERY_SECONDS: 1}
    # from a virtual environment that is not activated, a deployment's «python -m prefect.engine» must find ours
    os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])
    with temporary_settings(overrides):
        asyncio.run(_run(pool))


async def _run(pool: str) -> None:
    work = asyncio.ensure_future(_work(pool))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    await asyncio.wait([work])
    if not work.cancelled():
        work.result()


async def _work(pool: str) -> None:
    async with get_client() as client:
        while not await _exists(client, pool):  # noqa: ASYNC110  (it is the server that changes)
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
    # one record in the UI for the local stack's worker; elsewhere several may run on one machine
    name = socket.gethostname() if MARK in os.environ else f"{socket.gethostname()}-{os.getpid()}"
    worker = ProcessWorker(work_pool_name=pool, name=name, create_pool_if_not_found=False)
    await worker.start()


async def _exists(client: PrefectClient, pool: str) -> bool:
    """Whether the server answers and has this pool: a worker that starts without it waits 30 s to look again."""
    if await client.api_healthcheck() is not None:
        return False
    try:
        await client.read_work_pool(pool)
    except ObjectNotFound:
        return False
    return True
