"""The record that Prefect keeps of reports: one ``generate-report`` run for each, however many attempts it takes.

Nothing waits for it. While Prefect's server is away reports are made all the same, and recorded when it is back. A
report that an operator's run requested has that run already.
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
from core.results import JobResult
from dispatcher.prefect_api import TROUBLE, PrefectServer

log = logging.getLogger(__name__)

FLOW, TAG = "generate-report", "report"
RUN_KEY_PREFIX = "flow-run/"
"""How the dedupe keys begin of reports that ``flows.reports.generate_report`` requested."""
RETRY_SECONDS = 5.0
ORPHAN_CHECK_SECONDS = 60.0
STOP_SECONDS = 0.5
ORPHANED_AFTER = timedelta(minutes=2)
"""A run that is running after this time may be of a dispatcher that is gone: the state of its report is read."""
MAX_PENDING = 1000
"""How many updates may wait for Prefect's server; beyond it the oldest is dropped: the reports' rows have it too."""


class RunUpdate(NamedTuple):
    """What to record of a report's run: that it began, without ``state``, or how it ended."""

    report_id: UUID
    state: str | None = None
    message: str = ""
    result: JobResult | None = None
    file: str | None = None


class ReportRunRecorder:
    """Records the reports that a renderer makes, while open."""

    def __init__(self, server: PrefectServer) -> None:
        self._server = server
        self._pending: deque[RunUpdate] = deque(maxlen=MAX_PENDING)
        self._added = asyncio.Event()
        self._unreachable = False

    async def __aenter__(self) -> Self:
        await self._server.__aenter__()
        self._task = asyncio.create_task(self._run(), name="record reports")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Record what is pending, if the server takes it at once."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        with suppress(TimeoutError, *TROUBLE):
            async with asyncio.timeout(STOP_SECONDS):
                await self._send()
        await self._server.__aexit__(kind, error, trace)

    def begun(self, claimed: ClaimedReport) -> None:
        """An attempt at the report begins."""
        self._add(claimed, RunUpdate(claimed.id))

    def ready(self, claimed: ClaimedReport, made: RenderedReport) -> None:
        """The report is ready."""
        message = f"{made.filename}, {made.spool.size} bytes."
        result = _result(claimed, "ready", filename=made.filename, size=made.spool.size, sha256=made.spool.sha256)
        self._add(claimed, RunUpdate(claimed.id, "COMPLETED", message, result, made.filename))

    def failed(self, claimed: ClaimedReport, failure: Failure) -> None:
        """The report failed for good."""
        result = _result(claimed, "failed", reason=failure.reason)
        self._add(claimed, RunUpdate(claimed.id, "FAILED", failure.reason, result))

    def _add(self, claimed: ClaimedReport, update: RunUpdate) -> None:
        if not (claimed.dedupe_key or "").startswith(RUN_KEY_PREFIX):
            self._pending.append(update)
            self._added.set()

    async def _run(self) -> None:
        check_at = 0.0
        loop = asyncio.get_running_loop()
        while True:
            work: Callable[[], Awaitable[None]] = self._send
            if loop.time() >= check_at:
                work, check_at = self._end_orphans, loop.time() + ORPHAN_CHECK_SECONDS
            self._added.clear()
            try:
                await work()
            except Exception as error:
                if isinstance(error, TROUBLE) and not _refused(error):
                    if self._pending and not self._unreachable:
                        log.warning("reports are made and recorded later: %s", str(error) or type(error).__name__)
                    self._unreachable = bool(self._pending)
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                log.exception("a report's run could not be recorded")
                if work == self._send and self._pending:
                    self._pending.popleft()  # what the server does not take must not keep back all that follows
            self._unreachable = False
            if not self._pending:
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(check_at):
                        await self._added.wait()

    async def _send(self) -> None:
        while self._pending:
            update = self._pending[0]
            key = f"report/{update.report_id}"
            run_id = await self._server.begin(FLOW, name=f"{FLOW}/{update.report_id}", key=key, tags=[TAG])
            if update.state is not None:
                if update.result:
                    await self._server.show(run_id, FLOW, update.result.model_dump(mode="json"), update.message)
                if update.file:
                    await self._server.create_link_artifact(
                        run_id, "report", report_page(update.report_id), update.file
                    )
                await self._server.end(run_id, state=update.state, message=update.message)
            if self._pending and self._pending[0] is update:
                self._pending.popleft()

    async def _end_orphans(self) -> None:
        """End the runs whose dispatcher was killed after it had finished their report and before it recorded that."""
        ids = await self._server.running(FLOW, tag=TAG, since=utcnow() - ORPHANED_AFTER)
        for run in await self._server.runs_by_id(ids) if ids else ():
            status = await asyncio.to_thread(_status, run.name.rpartition("/")[2])
            if status in ("queued", "running"):
                continue
            state = {"ready": "COMPLETED", "failed": "FAILED"}.get(status or "", "CRASHED")
            why = f"The report is {status}." if status else "Its report is gone."
            await self._server.end(run.id, state=state, message=f"{why} Recorded afterwards: its dispatcher is gone.")


def report_result(report_id: UUID, type_: str, status: ReportStatus, *, now: datetime, **more: Any) -> JobResult:
    """The result of a run that was about one report, whoever ran it; its data has the report, and ``more`` of it."""
    ready = status == "ready"
    about = {"report_id": str(report_id), "type": type_, "status": status}
    url = report_page(report_id) if ready else None
    return JobResult(now=now, found=1, done=int(ready), failed=int(not ready), data={**about, "url": url, **more})


def _refused(error: Exception) -> bool:
    """Whether the server answered that it will never take this."""
    return isinstance(error, httpx.HTTPStatusError) and error.response.status_code in (400, 404, 409, 422)


def _result(claimed: ClaimedReport, status: ReportStatus, **more: Any) -> JobResult:
    now = utcnow()
    about = {"attempts": claimed.attempts, "parameters": claimed.parameters}
    seconds = round((now - claimed.created_at).total_seconds(), 3)
    return report_result(claimed.id, claimed.type, status, now=now, **about, seconds=seconds, **more)


def _status(report_id: str) -> ReportStatus | None:
    try:
        with transaction() as db:
            return outcome(db, UUID(report_id)).status
    except (NotFound, ValueError):
        return None
