"""The renderer: claims due reports, renders them with one running browser, and stores the result or the failure."""

import asyncio
import logging
import os
import secrets
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import date as Day  # noqa: N812 - as core.reports.queue.daily has it
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

from sqlalchemy.orm import Session

from core.clock import utcnow
from core.db import transaction
from core.reports import build
from core.reports.queue import claims, outcomes
from core.reports.queue.claims import ClaimedReport
from core.reports.queue.daily import day_of
from core.reports.queue.outcomes import Failure, RenderedReport
from core.settings import Settings
from dispatcher.backoff import Backoff
from dispatcher.reports.failures import DATABASE_UNAVAILABLE, classify
from dispatcher.reports.pdf import Engine
from dispatcher.reports.run_recorder import ReportRunRecorder

log = logging.getLogger(__name__)

PRINT_SECONDS = 20.0
"""Time limit of printing a report, charts included; with a running browser it takes less than one."""
RENEW_SECONDS = 10.0
STORE_SECONDS = 60.0
"""How long a rendered report waits for a database that is away; then it is rendered again."""
STOP_SECONDS = 0.8
LOCKED_RETRY = timedelta(seconds=0.5)

T = TypeVar("T")
DayLayout = asyncio.Task[tuple[build.PageLayout, RenderedReport]]


class FoundReports(NamedTuple):
    """The result of one read of the queue: claimed reports, and when the next is due."""

    claimed: Sequence[ClaimedReport]
    due: datetime | None


class Renderer:
    """Makes up to ``report_concurrency`` reports at once, while open.

    Any number of them may run on any number of machines: each report is rendered by one at a time, and its result is
    written once. The reports of one that is killed are claimed by the others when their leases expire.
    """

    def __init__(
        self, settings: Settings, *, recorder: ReportRunRecorder | None = None, engine: Engine | None = None
    ) -> None:
        self._concurrency = settings.report_concurrency
        self._engine = engine or Engine(at_once=self._concurrency)
        self._recorder = recorder
        # A pool of its own: long work must leave the loop's threads to mails, reminders, and the leases here. One more
        # thread, because a day's reports may be one more than the concurrency.
        self._threads = ThreadPoolExecutor(self._concurrency + 1, thread_name_prefix="make report")
        self._name = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        self._claims = 0
        self._rendering: dict[asyncio.Task[None], ClaimedReport] = {}
        self._room = asyncio.Event()
        self._fetching: asyncio.Task[FoundReports] | None = None
        self._stopping = False

    async def __aenter__(self) -> Self:
        self._renewing = asyncio.create_task(self._renew_leases(), name="hold reports")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Reports in progress are released to the queue, and the browser is ended."""
        self._stopping = True
        held = dict(self._rendering)
        for task in (self._renewing, *held):
            task.cancel()
        await asyncio.gather(self._renewing, *held, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)
        with suppress(TimeoutError, *DATABASE_UNAVAILABLE):
            async with asyncio.timeout(STOP_SECONDS):
                await asyncio.gather(self._release(list(held.values())), self._engine.close())

    async def _release(self, held: list[ClaimedReport]) -> None:
        if self._fetching is not None:
            held += (await asyncio.shield(self._fetching)).claimed
        if held:
            await asyncio.to_thread(_in_transaction, partial(claims.release, reports=held))

    async def fetch_due(self) -> datetime | None:
        """Claim reports that are due and start them; returns when to fetch again, None: nothing is planned.

        Waits first until fewer than ``report_concurrency`` are in progress; a report marked ``alone`` fills all slots.
        """
        while len(self._rendering) >= self._concurrency or any(held.alone for held in self._rendering.values()):
            self._room.clear()
            await self._room.wait()
        self._claims += 1
        owner, limit = f"{self._name}/{self._claims}", self._concurrency - len(self._rendering)
        work = asyncio.to_thread(_in_transaction, partial(_claim, owner=owner, limit=limit, idle=not self._rendering))
        # shielded, with its result received even when cancelled: a claim that was made must be known, to be released
        self._fetching = asyncio.create_task(work)
        self._fetching.add_done_callback(self._receive)
        found = await asyncio.shield(self._fetching)
        if len(found.claimed) == limit:
            return utcnow()
        # a due report that was not claimed is locked by another process: try again in a moment
        return None if found.due is None else max(found.due, utcnow() + LOCKED_RETRY)

    async def drain(self) -> None:
        """Render all that is due, and wait until it is done."""
        while ((due := await self.fetch_due()) is not None and due <= utcnow()) or self._rendering:
            if self._rendering:
                await asyncio.wait(self._rendering, return_when=asyncio.FIRST_COMPLETED)

    def _receive(self, fetching: "asyncio.Task[FoundReports]") -> None:
        if self._stopping:
            return
        self._fetching = None
        if fetching.cancelled() or fetching.exception():
            return
        claimed_now = fetching.result().claimed
        days = Counter(day_of(claimed.dedupe_key) for claimed in claimed_now)
        day_layouts: dict[Day | None, DayLayout] = {
            day: asyncio.create_task(self._in_thread(partial(build.lay_out_day, claimed.parameters)))
            for claimed in claimed_now
            if (day := day_of(claimed.dedupe_key)) is not None and days[day] > 1 and build.prints(claimed.type)
        }
        for claimed in claimed_now:
            same_day = day_layouts.get(day_of(claimed.dedupe_key))
            task = asyncio.create_task(self._render_and_complete(claimed, same_day), name=f"make report {claimed.id}")
            self._rendering[task] = claimed
            task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._rendering.pop(task, None)
        self._room.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            # its lease expires, and it is claimed again
            log.error("a report was not completed", exc_info=error)

    async def _renew_leases(self) -> None:
        """Renew the leases of the reports in progress."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            if not self._rendering:
                continue
            try:
                await asyncio.to_thread(_in_transaction, partial(claims.renew, reports=list(self._rendering.values())))
            except DATABASE_UNAVAILABLE:
                continue  # the reports in progress meet the same error, and log it
            except Exception:
                log.exception("leases of reports could not be renewed")

    async def _render_and_complete(self, claimed: ClaimedReport, same_day: DayLayout | None) -> None:
        if self._recorder:
            self._recorder.begun(claimed)
        outcome = await self._attempt(claimed, same_day)
        if isinstance(outcome, RenderedReport):
            try:
                won = await _store(partial(outcomes.mark_ready, claimed=claimed, rendered=outcome, now=utcnow()))
            except DATABASE_UNAVAILABLE:
                raise
            except Exception as error:  # noqa: BLE001 - classified, and logged
                outcome = classify(claimed, error)
            else:
                if won:
                    log.info("a report is ready", extra={"report_id": str(claimed.id), "type": claimed.type})
                    if self._recorder:
                        self._recorder.ready(claimed, outcome)
                return
            finally:
                if isinstance(outcome, RenderedReport):
                    outcome.spool.close()
        failed = await _store(partial(outcomes.mark_failed, claimed=claimed, failure=outcome, now=utcnow()))
        if failed and self._recorder:
            self._recorder.failed(claimed, outcome)

    async def _attempt(self, claimed: ClaimedReport, same_day: DayLayout | None) -> RenderedReport | Failure:
        """Render one report; ``same_day``: the reports of a day are read together, in one snapshot."""
        if claimed.attempts > outcomes.ATTEMPTS:
            return Failure(outcomes.TOO_MANY_LOST_LEASES, retry=False)
        try:
            if not build.prints(claimed.type):
                if same_day is not None:
                    return (await asyncio.shield(same_day))[1]
                return await self._in_thread(partial(build.write_rows, claimed.type, claimed.parameters))
            if same_day is not None:
                laid_out = (await asyncio.shield(same_day))[0]
            else:
                laid_out = await self._in_thread(partial(build.lay_out, claimed.type, claimed.parameters))
            pdf = await self._engine.pdf(laid_out.document, seconds=PRINT_SECONDS)
            return build.finish_pdf(laid_out, pdf)
        except Exception as error:  # noqa: BLE001 - classified, and logged
            return classify(claimed, error)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _claim(db: Session, *, owner: str, limit: int, idle: bool) -> FoundReports:
    return FoundReports(claims.claim(db, owner=owner, limit=limit, idle=idle), claims.next_due(db))


def _in_transaction(work: Callable[[Session], T]) -> T:
    with transaction() as db:
        return work(db)


async def _store(write: Callable[[Session], T]) -> T:
    """The transaction's result, retried while the database is away, so that the rendered report is not lost."""
    backoff, loop = Backoff(), asyncio.get_running_loop()
    until = loop.time() + STORE_SECONDS
    while True:
        try:
            return await asyncio.to_thread(_in_transaction, write)
        except DATABASE_UNAVAILABLE as error:
            if loop.time() >= until:
                raise
            if backoff.first:
                log.warning("a report waits to be stored: %s", str(error).splitlines()[0])
            await backoff.sleep()
