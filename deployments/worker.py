"""The process worker: runs the scheduled flows of one work pool, each in a process of its own."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path

import psutil
from prefect.client.orchestration import PrefectClient, get_client
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_WORKER_QUERY_SECONDS, temporary_settings
from prefect.workers.process import ProcessWorker

from deployments.local.processes import MARK

POLL_SECONDS = 0.5
RUNS = 10  # at once: each is a process of 100 MB, and after an outage all missed runs are due together
REPORT_SECONDS = 10.0


def run(pool: str = "local") -> None:
    """Run the worker until SIGTERM or SIGINT; it polls for due runs each second.

    Prefect's own worker, in our process: the command ``prefect worker start`` imports more, fails when the server
    cannot be reached at the start, and at its end kills its runs, which Prefect then shows as running for ever.
    """
    overrides = {} if os.environ.get("PREFECT_WORKER_QUERY_SECONDS") else {PREFECT_WORKER_QUERY_SECONDS: 1}
    # from a virtual environment that is not activated, a deployment's «python -m prefect.engine» must find ours
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    with temporary_settings(overrides):
        asyncio.run(_run(pool))


async def _run(pool: str) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    ending = asyncio.create_task(ended.wait())
    waiting = asyncio.create_task(_wait_for_pool(pool))
    await asyncio.wait([ending, waiting], return_when=asyncio.FIRST_COMPLETED)
    if not waiting.done():
        waiting.cancel()
        return
    waiting.result()
    # one name, so one record in the UI, for the local stack's worker; elsewhere several may run on one machine
    name = socket.gethostname() if MARK in os.environ else f"{socket.gethostname()}-{os.getpid()}"
    worker = ProcessWorker(work_pool_name=pool, name=name, limit=RUNS, create_pool_if_not_found=False)
    working = asyncio.create_task(worker.start())
    await asyncio.wait([ending, working], return_when=asyncio.FIRST_COMPLETED)
    if not working.done():
        await _terminate_runs(worker)
        working.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await working


async def _wait_for_pool(pool: str) -> None:
    """Wait for the server and the pool: a worker that starts without them retries only after 30 s."""
    async with get_client() as client:
        while not await _exists(client, pool):  # noqa: ASYNC110  (the server's state cannot be awaited)
            await asyncio.sleep(POLL_SECONDS)


async def _exists(client: PrefectClient, pool: str) -> bool:
    if await client.api_healthcheck() is not None:
        return False
    try:
        await client.read_work_pool(pool)
    except ObjectNotFound:
        return False
    return True


async def _terminate_runs(worker: ProcessWorker) -> None:
    """Send SIGTERM to the runs' processes, and wait until each has reported that it crashed.

    A cancelled worker kills them at once, and Prefect would show them as running until their heartbeat is missed.
    """
    terminated: set[psutil.Process] = set()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(REPORT_SECONDS):
            while worker.limiter.borrowed_tokens:  # Prefect's own count of active runs
                for child in set(psutil.Process().children()) - terminated:
                    terminated.add(child)
                    with contextlib.suppress(psutil.NoSuchProcess):
                        child.terminate()
                await asyncio.sleep(0.05)
