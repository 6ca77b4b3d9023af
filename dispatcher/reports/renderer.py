"""The renderer: claims reports that are due, makes them with one warm browser, and writes down what they came to."""

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
from dispatcher.reports.failures import TROUBLE, classify
from dispatcher.reports.pdf import Engine
from dispatcher.reports.run_recorder import ReportRunRecorder

log = logging.getLogger(__name__)

PRINT_SECONDS = 20.0
"""How long a report may be printed, charts and all; warm it takes less than one."""
RENEW_SECONDS = 10.0
STORE_SECONDS = 60.0
"""How long a report that was made waits for a database that is away; then it is made anew."""
STOP_SECONDS = 0.8
SOON = timedelta(seconds=0.5)

T = TypeVar("T")
DayLayout = asyncio.Task[tuple[build.PageLayout, RenderedReport]]


class FoundReports(NamedTuple):
    """What a look at the queue gave: reports to make, and when to look again."""

    claimed: Sequence[ClaimedReport]
    due: datetime | None


class Renderer:
    """Makes up to ``report_concurrency`` reports at once, while open.

    Any number of them may run on any number of machines: each report is made by one at a time, and what it comes to is
    written once. One that is killed loses its reports to the others when their leases run out.
    """

    def __init__(
        self, settings: Settings, *, recorder: ReportRunRecorder | None = None, engine: Engine | None = None
    ) -> None:
        self._concurrency = settings.report_concurrency
        self._engine = engine or Engine(at_once=self._concurrency)
        self._recorder = recorder
        # Of its own: what takes long must leave the loop's threads to mails, reminders, and its own leases. A day's
        # reports may be one more than there was room for.
        self._threads = ThreadPoolExecutor(self._concurrency + 1, thread_name_prefix="make report")
        self._name = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        self._claims = 0
        self._rendering: dict[asyncio.Task[None], ClaimedReport] = {}
        self._freed = asyncio.Event()
        self._fetching: asyncio.Task[FoundReports] | None = None
        self._stopping = False

    async def __aenter__(self) -> Self:
        self._keeping = asyncio.create_task(self._renew_leases(), name="hold reports")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What is being made goes back into the queue, and the browser ends."""
        self._stopping = True
        held = dict(self._rendering)
        for task in (self._keeping, *held):
            task.cancel()
        await asyncio.gather(self._keeping, *held, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)
        with suppress(TimeoutError, *TROUBLE):
            async with asyncio.timeout(STOP_SECONDS):
                await asyncio.gather(self._release(list(held.values())), self._engine.close())

    async def _release(self, held: list[ClaimedReport]) -> None:
        if self._fetching is not None:
            held += (await asyncio.shield(self._fetching)).claimed
        if held:
            await asyncio.to_thread(_in_transaction, partial(claims.release, reports=held))

    async def fetch_due(self) -> datetime | None:
        """Take reports that are due and begin them, while there is room; when to look again, None: nothing is planned.

        Waits for room first: beside a report that goes alone there is none.
        """
        while len(self._rendering) >= self._concurrency or any(held.alone for held in self._rendering.values()):
            self._freed.clear()
            await self._freed.wait()
        self._claims += 1
        owner, limit = f"{self._name}/{self._claims}", self._concurrency - len(self._rendering)
        work = asyncio.to_thread(_in_transaction, partial(_claim, owner=owner, limit=limit, idle=not self._rendering))
        # shielded, and received even so: a claim that was made must be known, to be given back
        self._fetching = asyncio.create_task(work)
        self._fetching.add_done_callback(self._receive)
        found = await asyncio.shield(self._fetching)
        if len(found.claimed) == limit:
            return utcnow()
        # what is due and was not taken is locked by somebody: it is looked at again in a moment
        return None if found.due is None else max(found.due, utcnow() + SOON)

    async def drain(self) -> None:
        """Make all that is due, and wait until it is done."""
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
        together: dict[Day | None, DayLayout] = {
            day: asyncio.create_task(self._in_thread(partial(build.lay_out_day, claimed.parameters)))
            for claimed in claimed_now
            if (day := day_of(claimed.dedupe_key)) is not None and days[day] > 1 and claimed.type == "dashboard_pdf"
        }
        for claimed in claimed_now:
            beside = together.get(day_of(claimed.dedupe_key))
            task = asyncio.create_task(self._render_and_complete(claimed, beside), name=f"make report {claimed.id}")
            self._rendering[task] = claimed
            task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._rendering.pop(task, None)
        self._freed.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            # its lease runs out, and it is taken again
            log.error("a report was given up", exc_info=error)

    async def _renew_leases(self) -> None:
        """Hold what is in our hands."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            if not self._rendering:
                continue
            try:
                await asyncio.to_thread(_in_transaction, partial(claims.renew, reports=list(self._rendering.values())))
            except TROUBLE:
                continue  # whoever makes a report meets it as well, and says so
            except Exception:
                log.exception("leases of reports could not be renewed")

    async def _render_and_complete(self, claimed: ClaimedReport, beside: DayLayout | None) -> None:
        if self._recorder:
            self._recorder.begun(claimed)
        outcome = await self._attempt(claimed, beside)
        if isinstance(outcome, RenderedReport):
            try:
                won = await _store(partial(outcomes.mark_ready, claimed=claimed, rendered=outcome, now=utcnow()))
            except TROUBLE:
                raise
            except Exception as error:  # noqa: BLE001 - judged, and told
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

    async def _attempt(self, claimed: ClaimedReport, beside: DayLayout | None) -> RenderedReport | Failure:
        """``beside``: a day's reports are read together, of one snapshot."""
        if claimed.attempts > outcomes.ATTEMPTS:
            return Failure(outcomes.TOO_MANY_LOST_LEASES, retry=False)
        try:
            if not build.prints(claimed.type):
                if beside is not None:
                    return (await asyncio.shield(beside))[1]
                return await self._in_thread(partial(build.write_rows, claimed.type, claimed.parameters))
            if beside is not None:
                laid_out = (await asyncio.shield(beside))[0]
            else:
                laid_out = await self._in_thread(partial(build.lay_out, claimed.type, claimed.parameters))
            pdf = await self._engine.pdf(laid_out.document, seconds=PRINT_SECONDS)
            return build.finish_pdf(laid_out, pdf)
        except Exception as error:  # noqa: BLE001 - judged, and told
            return classify(claimed, error)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _claim(db: Session, *, owner: str, limit: int, idle: bool) -> FoundReports:
    return FoundReports(claims.claim(db, owner=owner, limit=limit, idle=idle), claims.next_due(db))


def _in_transaction(work: Callable[[Session], T]) -> T:
    with transaction() as db:
        return work(db)


async def _store(write: Callable[[Session], T]) -> T:
    """What the transaction gave, tried again while the database is away: the work is not done for nothing."""
    backoff, loop = Backoff(), asyncio.get_running_loop()
    until = loop.time() + STORE_SECONDS
    while True:
        try:
            return await asyncio.to_thread(_in_transaction, write)
        except TROUBLE as error:
            if loop.time() >= until:
                raise
            if backoff.first:
                log.warning("a report waits to be stored: %s", str(error).splitlines()[0])
            await backoff.sleep()
