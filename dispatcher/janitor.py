"""Ends the records of runs whose process is gone, so that Prefect does not show them as running for ever.

Nothing is lost with them: the truth is in our tables, and the next run finds what is left. An automation of Prefect's
does the same for runs that had a heartbeat, but it counts the time in which the server was away: if it waited only
briefly, it would end every run that lived through an outage as soon as the server is back. So it waits long
(deployments.schedules.deploy), and is for when no dispatcher runs.
"""

import asyncio
import logging
from datetime import datetime, timedelta
from typing import NamedTuple

from core.clock import utcnow
from core.prefect_rest import Run
from dispatcher.backoff import Backoff
from dispatcher.prefect_api import TROUBLE, PrefectServer

log = logging.getLogger(__name__)

TAG = "greenroom"
"""Of every deployment in prefect.yaml: runs of others are none of our business."""
INTERVAL_SECONDS = 10.0
"""Longer, and the server could be away and back unseen for as long as two heartbeats are apart."""
SERVER_UP_FOR = timedelta(minutes=2)
"""How long the server has to be there before any run is ended: a run that lives sends its heartbeat in that time."""
HEARTBEAT_TIMEOUT = timedelta(seconds=60)
"""How long a run may be without a heartbeat, of which there are two a minute."""


class StuckRule(NamedTuple):
    """How long a run may be in a state; then it gets the final one, with the message."""

    longest: timedelta
    final_state: str
    message: str


STUCK = {
    "PENDING": StuckRule(timedelta(minutes=5), "CRASHED", "It was handed to a process that never began it."),
    "RUNNING": StuckRule(
        HEARTBEAT_TIMEOUT, "CRASHED", f"No heartbeat for {HEARTBEAT_TIMEOUT.seconds} s: its process is gone."
    ),
    "CANCELLING": StuckRule(timedelta(minutes=5), "CANCELLED", "It was to be cancelled, and nobody is left to do it."),
}


async def run(server: PrefectServer) -> None:
    """End stuck runs every few seconds until cancelled; a server that is away is waited for."""
    backoff = Backoff(most=INTERVAL_SECONDS)
    since: datetime | None = None
    async with server:
        while True:
            try:
                await server.check_health()
                since = since or utcnow()
                if utcnow() - since >= SERVER_UP_FOR:
                    await end_stuck_runs(server, now=utcnow())
                backoff.reset()
                await asyncio.sleep(INTERVAL_SECONDS)
            except TROUBLE:
                since = None
                await backoff.sleep()  # dispatcher.flow_states logs that the server is away
            except Exception:
                log.exception("stuck runs could not be looked for")
                await backoff.sleep()


async def end_stuck_runs(server: PrefectServer, *, now: datetime) -> list[Run]:
    """End every run of ours that is stuck as of ``now``; gives those it ended."""
    ended = []
    since = {state: now - rule.longest for state, rule in STUCK.items()}
    for found in await server.unfinished(TAG, since=since):
        state = found.state.type if found.state else ""
        if state == "RUNNING" and await server.has_heartbeat(found, since=since[state]):
            continue
        if [now_is.state_id for now_is in await server.runs_by_id([found.id])] != [found.state_id]:
            continue  # it went on while the others were looked at
        await server.end(found.id, state=STUCK[state].final_state, message=STUCK[state].message)
        log.warning("a run was stuck", extra={"run_id": str(found.id), "run": found.name, "was": state})
        ended.append(found)
    return ended
