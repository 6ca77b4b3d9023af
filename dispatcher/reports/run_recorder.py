"""The record that Prefect keeps of reports: one ``generate-report`` run for each, however many attempts it takes.

Nothing waits for it. While Prefect's server is away reports are made all the same; what they came to is told when it is
back. A report that an operator's run asked for has that run already.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, NamedTuple, Self
from uuid import UUID

import httpx

from core.clock import utcnow
from core.db import transaction
from core.emails import report_page
from core.errors import NotFound
from core.models import ReportStatus
from core.reports import outcome
from core.reports.queue.claims import ClaimedReport
from core.reports.queue.outcomes import Failure, RenderedReport
from dispatcher.prefect_api import TROUBLE, PrefectServer

log = logging.getLogger(__name__)

FLOW, TAG = "generate-report", "report"
ASKED_BY_A_RUN = "flow-run/"
"""How the dedupe keys begin of reports that ``flows.reports.generate_report`` asked for."""
AGAIN_SECONDS = 5.0
LOOK_SECONDS = 60.0
STOP_SECONDS = 0.5
FORSAKEN = timedelta(minutes=2)
"""A run that is running after this time may be of a dispatcher that is gone: its report is looked at."""
MOST = 1000
"""What may wait to be told; beyond it the oldest is forgotten, since the reports themselves tell it too."""


class Told(NamedTuple):
    """Something to tell of a report's run: that it began, without ``state``, or how it ended."""

    report_id: UUID
    at: datetime
    state: str | None = None
    message: str = ""
    row: dict[str, Any] | None = None
    file: str | None = None


class ReportRunRecorder:
    """Records the reports that a renderer makes, while open."""

    def __init__(self, server: PrefectServer) -> None:
        self._server = server
        self._untold: deque[Told] = deque(maxlen=MOST)
        self._news = asyncio.Event()
        self._away = False

    async def __aenter__(self) -> Self:
        await self._server.__aenter__()
        self._task = asyncio.create_task(self._run(), name="record reports")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Tell what is left, if that can be said at once."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        with suppress(TimeoutError, *TROUBLE):
            async with asyncio.timeout(STOP_SECONDS):
                await self._tell()
        await self._server.__aexit__(kind, error, trace)

    def begun(self, claimed: ClaimedReport) -> None:
        """An attempt at the report begins."""
        self._add(claimed, Told(claimed.id, utcnow()))

    def ready(self, claimed: ClaimedReport, made: RenderedReport) -> None:
        """The report is ready."""
        message = f"{made.filename}, {made.spool.size} bytes."
        row = _row(claimed, "ready") | {"size": made.spool.size, "sha256": made.spool.sha256}
        self._add(claimed, Told(claimed.id, utcnow(), "COMPLETED", message, row, made.filename))

    def failed(self, claimed: ClaimedReport, failure: Failure) -> None:
        """The report failed for good."""
        row = _row(claimed, "failed") | {"reason": failure.reason}
        self._add(claimed, Told(claimed.id, utcnow(), "FAILED", failure.reason, row))

    def _add(self, claimed: ClaimedReport, told: Told) -> None:
        if not (claimed.dedupe_key or "").startswith(ASKED_BY_A_RUN):
            self._untold.append(told)
            self._news.set()

    async def _run(self) -> None:
        look_at = 0.0
        loop = asyncio.get_running_loop()
        while True:
            work: Callable[[], Awaitable[None]] = self._tell
            if loop.time() >= look_at:
                work, look_at = self._end_forsaken, loop.time() + LOOK_SECONDS
            self._news.clear()
            try:
                await work()
            except Exception as error:
                if isinstance(error, TROUBLE) and not _refused(error):
                    if self._untold and not self._away:
                        log.warning("reports are made and recorded later: %s", str(error) or type(error).__name__)
                    self._away = bool(self._untold)
                    await asyncio.sleep(AGAIN_SECONDS)
                    continue
                log.exception("a report's run could not be recorded")
                if work == self._tell and self._untold:
                    self._untold.popleft()  # what the server does not take must not keep back all that follows
            self._away = False
            if not self._untold:
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(look_at):
                        await self._news.wait()

    async def _tell(self) -> None:
        while self._untold:
            told = self._untold[0]
            run_id = await self._server.begin(
                FLOW, name=f"{FLOW}/{told.report_id}", key=f"report/{told.report_id}", tags=[TAG]
            )
            if told.state is not None:
                if told.row:
                    await self._server.show(run_id, FLOW, told.row, told.message)
                if told.file:
                    await self._server.link(run_id, "report", report_page(told.report_id), told.file)
                await self._server.end(run_id, state=told.state, message=told.message)
            if self._untold and self._untold[0] is told:
                self._untold.popleft()

    async def _end_forsaken(self) -> None:
        """End the runs of reports that came to their end without a word: their dispatcher was killed just then."""
        ids = await self._server.running(FLOW, tag=TAG, since=utcnow() - FORSAKEN)
        for run in await self._server.runs(ids) if ids else ():
            status = await asyncio.to_thread(_status, run.name.rpartition("/")[2])
            if status in ("queued", "running"):
                continue
            state = {"ready": "COMPLETED", "failed": "FAILED"}.get(status or "", "CRASHED")
            why = f"The report is {status}." if status else "Its report is gone."
            await self._server.end(run.id, state=state, message=f"{why} Told afterwards: its dispatcher is gone.")


def _refused(error: Exception) -> bool:
    """Whether the server answered that it will never take this."""
    return isinstance(error, httpx.HTTPStatusError) and error.response.status_code in (400, 404, 409, 422)


def _row(claimed: ClaimedReport, status: ReportStatus) -> dict[str, Any]:
    ready = status == "ready"
    return {
        "found": 1,
        "done": int(ready),
        "skipped": 0,
        "failed": int(not ready),
        "report_id": str(claimed.id),
        "type": claimed.type,
        "status": status,
        "attempts": claimed.attempts,
        "parameters": claimed.parameters,
        "seconds": round((utcnow() - claimed.created_at).total_seconds(), 3),
        "url": report_page(claimed.id) if ready else None,
    }


def _status(report_id: str) -> ReportStatus | None:
    try:
        with transaction() as db:
            return outcome(db, UUID(report_id)).status
    except (NotFound, ValueError):
        return None
