"""The record that Prefect keeps of mail: one ``send-emails`` run for each burst.

Nothing waits for it. While Prefect's server cannot be reached mails go out all the same; what became of them is
recorded in one run when it is back.
"""

import asyncio
import logging
import secrets
from contextlib import suppress
from datetime import datetime, timedelta
from types import TracebackType
from typing import NamedTuple, Self
from uuid import UUID

from core.clock import utcnow
from core.results import JobResult
from dispatcher.mail.stats import SendStats
from dispatcher.prefect_api import TROUBLE, PrefectServer

log = logging.getLogger(__name__)

FLOW, TAG = "send-emails", "burst"
QUIET_SECONDS, LONGEST_SECONDS = 5.0, 60.0
POLL_SECONDS = 0.25
RETRY_SECONDS = 5.0
STOP_SECONDS = 1.0
ORPHANED_AFTER = timedelta(minutes=5)
"""A burst's run that is still running after this time was its dispatcher's, which is gone."""


class Unrecorded(NamedTuple):
    """What Prefect's server does not know yet; ``run_id`` if the run had begun."""

    since: datetime
    until: datetime
    result: JobResult
    run_id: UUID | None


class MailRunRecorder:
    """Records what the stats count, while open."""

    def __init__(self, server: PrefectServer, stats: SendStats) -> None:
        self._server, self._stats = server, stats
        self._key, self._bursts = secrets.token_hex(8), 0
        self._began: datetime | None = None
        self._run_id: UUID | None = None
        self._unrecorded: Unrecorded | None = None
        self._unreachable = False

    async def __aenter__(self) -> Self:
        await self._server.__aenter__()
        self._task = asyncio.create_task(self._run(), name="record mails")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the burst's run with its result, if Prefect's server answers at once."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self._end_burst()
        await self._server.__aexit__(kind, error, trace)

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(RETRY_SECONDS if self._unrecorded else None):
                    await self._stats.changed.wait()
            except TimeoutError:
                await self._record()
                continue
            try:
                await self._burst()
            except Exception:
                log.exception("a burst of mails could not be recorded")

    async def _burst(self) -> None:
        loop = asyncio.get_running_loop()
        begun = quiet_since = loop.time()
        self._began = utcnow()
        await self._begin(self._began)
        while loop.time() - quiet_since < QUIET_SECONDS and loop.time() - begun < LONGEST_SECONDS:
            if self._stats.changed.is_set():
                quiet_since = loop.time()
                self._stats.changed.clear()
            await asyncio.sleep(POLL_SECONDS)
        await self._end_burst()

    async def _begin(self, at: datetime) -> None:
        self._bursts += 1
        name = f"{FLOW}/{at:%Y-%m-%dT%H:%M:%SZ}"
        self._run_id = None
        try:
            if self._unrecorded is not None:
                await self._record()
            if self._unrecorded is None:
                self._run_id = await self._server.begin(FLOW, name=name, key=f"{self._key}/{self._bursts}", tags=[TAG])
                await self._end_orphans(at - ORPHANED_AFTER)
        except TROUBLE as error:
            self._missed(error)

    async def _end_burst(self) -> None:
        if self._began is None:
            return
        began, self._began = self._began, None
        # taken before anything is awaited: what is counted from here on belongs to the next burst
        result, run_id = self._stats.take(began), self._run_id
        if self._unrecorded is not None:
            self._unrecorded = self._unrecorded._replace(until=utcnow(), result=self._unrecorded.result + result)
        else:
            self._unrecorded = Unrecorded(began, utcnow(), result, run_id)
        if run_id is not None:
            await self._record(late=False)

    async def _record(self, *, late: bool = True) -> None:
        """Record what was not recorded, in its own run or in one made for it."""
        unrecorded = self._unrecorded
        if unrecorded is None:
            return
        shown, row = unrecorded.result.headline(), unrecorded.result.model_dump(mode="json")
        if late:
            period = f"{unrecorded.since:%H:%M:%S} to {unrecorded.until:%H:%M:%S} UTC"
            shown = f"Recorded afterwards, since Prefect's server was away; mails from {period}. {shown}"
        name = f"{FLOW}/{unrecorded.since:%Y-%m-%dT%H:%M:%SZ}"
        key = f"{self._key}/{unrecorded.since.isoformat()}"
        try:
            run_id = unrecorded.run_id or await self._server.begin(FLOW, name=name, key=key, tags=[TAG])
            self._unrecorded = unrecorded = unrecorded._replace(run_id=run_id)
            await self._server.show(run_id, FLOW, row, shown)
            await self._server.end(run_id, state="COMPLETED", message=shown)
        except TROUBLE as error:
            self._missed(error)
        else:
            self._unrecorded, self._unreachable = None, False

    def _missed(self, error: Exception) -> None:
        if not self._unreachable:
            log.warning("mails go out and are recorded later: %s", str(error) or type(error).__name__)
        self._unreachable = True

    async def _end_orphans(self, since: datetime) -> None:
        for run_id in await self._server.running(FLOW, tag=TAG, since=since):
            why = "Its dispatcher is gone. The mails are in the queue, and none of them rests on this run."
            await self._server.end(run_id, state="CRASHED", message=why)
