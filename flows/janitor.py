"""Ends the records of runs whose process is gone, so that Prefect does not show them as running for ever.

Nothing is lost with them: the truth is in our tables, and the next run finds what is left. The zombie automation knows
of runs that had a heartbeat; this is for those killed before their first one, and for a server that was away meanwhile.
"""

import asyncio
import logging
from datetime import datetime, timedelta

from core.clock import utcnow
from flows.backoff import Backoff
from flows.prefect_api import TROUBLE, PrefectServer, Run

log = logging.getLogger(__name__)

TAG = "greenroom"
"""Of every deployment in prefect.yaml: runs of others are none of our business."""
EVERY_SECONDS = 60.0
STUCK = timedelta(minutes=5)
"""How long a run may be handed to a process, or be without a heartbeat, of which there are two a minute."""
HEARD = timedelta(minutes=2)
"""How long the server has to be there before a run is judged: what lives tells so once it can."""
ENDS = {"PENDING": "CRASHED", "RUNNING": "CRASHED", "CANCELLING": "CANCELLED"}
WHY = {
    "PENDING": "It was handed to a process that never began it.",
    "RUNNING": "No heartbeat for 5 minutes: its process is gone.",
    "CANCELLING": "It was to be cancelled, and nobody is left to do it.",
}


async def keep(server: PrefectServer) -> None:
    """Tidy each minute until cancelled; a server that is away is waited for, and then what it missed of the runs."""
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
    for run, state in await server.unfinished(TAG, since=now - STUCK, states=list(ENDS)):
        if state == "RUNNING" and await server.has_heartbeat(run, since=now - STUCK):
            continue
        if [now_is.state_id for now_is in await server.runs([run.id])] != [run.state_id]:
            continue  # it went on while the others were looked at
        await server.end(run.id, state=ENDS[state], message=WHY[state])
        log.warning("a run was stuck", extra={"run_id": str(run.id), "run": run.name, "was": state})
        ended.append(run)
    return ended
