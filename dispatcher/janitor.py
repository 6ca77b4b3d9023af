"""Ends the records of runs whose process is gone, so that Prefect does not show them as running for ever.

Nothing is lost with them: the truth is in our tables, and the next run finds what is left. An automation of Prefect's
does it for runs that had a heartbeat, but its time runs on while the server is away: were it short, whatever lived
through that would be taken for crashed as soon as the server is back. So it waits long
(deployments.schedules.deploy), and is for when no dispatcher runs.
"""

import asyncio
import logging
from datetime import datetime, timedelta
from typing import NamedTuple

from core.clock import utcnow
from dispatcher.backoff import Backoff
from dispatcher.prefect_api import TROUBLE, PrefectServer, Run

log = logging.getLogger(__name__)

TAG = "greenroom"
"""Of every deployment in prefect.yaml: runs of others are none of our business."""
EVERY_SECONDS = 10.0
"""Less often, and a server could be away and back unseen for as long as two heartbeats are apart."""
HEARD = timedelta(minutes=2)
"""How long the server has to be there before a run is judged: what lives tells so once it can."""
SILENT = timedelta(seconds=60)
"""How long a run may be without a heartbeat, of which there are two a minute."""


class Stuck(NamedTuple):
    """A state that a run may be in for so long; then it gets the final one."""

    longest: timedelta
    end: str
    why: str


STUCK = {
    "PENDING": Stuck(timedelta(minutes=5), "CRASHED", "It was handed to a process that never began it."),
    "RUNNING": Stuck(SILENT, "CRASHED", f"No heartbeat for {SILENT.seconds} s: its process is gone."),
    "CANCELLING": Stuck(timedelta(minutes=5), "CANCELLED", "It was to be cancelled, and nobody is left to do it."),
}


async def keep(server: PrefectServer) -> None:
    """Tidy until cancelled, every few seconds; a server that is away is waited for, and then what it missed of runs."""
    backoff = Backoff(most=EVERY_SECONDS)
    since: datetime | None = None
    async with server:
        while True:
            try:
                await server.answers()
                since = since or utcnow()
                if utcnow() - since >= HEARD:
                    await tidy(server, now=utcnow())
                backoff.reset()
                await asyncio.sleep(EVERY_SECONDS)
            except TROUBLE:
                since = None
                await backoff.sleep()  # the watcher says that the server is away
            except Exception:
                log.exception("stuck runs could not be looked for")
                await backoff.sleep()


async def tidy(server: PrefectServer, *, now: datetime) -> list[Run]:
    """End every run of ours that is stuck as of ``now``; gives those it ended."""
    ended = []
    since = {state: now - stuck.longest for state, stuck in STUCK.items()}
    for run, state in await server.unfinished(TAG, since=since):
        if state == "RUNNING" and await server.has_heartbeat(run, since=since[state]):
            continue
        if [now_is.state_id for now_is in await server.runs([run.id])] != [run.state_id]:
            continue  # it went on while the others were looked at
        await server.end(run.id, state=STUCK[state].end, message=STUCK[state].why)
        log.warning("a run was stuck", extra={"run_id": str(run.id), "run": run.name, "was": state})
        ended.append(run)
    return ended
