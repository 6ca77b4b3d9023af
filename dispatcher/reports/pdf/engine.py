"""Reports to PDF: one browser kept running, ended after a fault or when idle, and started again by the next report."""

import asyncio
from pathlib import Path
from types import TracebackType

from core.reports.document import Document
from dispatcher.reports.pdf.devtools import BrowserGone
from dispatcher.reports.pdf.errors import RenderFailed, TimeLimit
from dispatcher.reports.pdf.find_browser import require_browser
from dispatcher.reports.pdf.tabs import TabPool
from dispatcher.reports.pdf.temp_dirs import remove_leftovers

MOST_AT_ONCE = 5
ANSWER_SECONDS = 2.0
"""Seconds in which an idle browser has to answer."""
_MEMORY_CHECK_EVERY = 20
"""A browser's memory is measured once in this number of reports."""
RECYCLE_AFTER = 200
"""The most reports that one browser prints, because its memory grows."""
RECYCLE_BYTES = 768 * 1024 * 1024
"""Growth of a browser's memory, in bytes, after which it is replaced."""
IDLE_SECONDS = 180.0
"""Seconds without a report after which the browser ends, to free its memory."""


class Engine:
    """Prints reports, at most ``at_once`` at the same time; the browser starts with the first, or with ``warm``.

    Belongs to one event loop. Its browser ends with it, with the process, and with the thread that started it.
    """

    def __init__(
        self,
        *,
        at_once: int = 2,
        browser: Path | None = None,
        recycled: int = RECYCLE_AFTER,
        grown: int = RECYCLE_BYTES,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        if not 1 <= at_once <= MOST_AT_ONCE:
            raise ValueError(f"at_once is {at_once}; it may be 1 to {MOST_AT_ONCE}")
        self._at_once, self._browser = at_once, browser
        self._recycled, self._grown, self._idle_seconds = recycled, grown, idle_seconds
        self._slots = asyncio.Semaphore(at_once)
        self._starting = asyncio.Lock()
        self._warm: TabPool | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._leftovers_removed = self._closed = False

    async def __aenter__(self) -> "Engine":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def pid(self) -> int | None:
        """The browser's process; None while there is none."""
        return self._warm.browser.pid if self._warm else None

    @property
    def printing(self) -> int:
        """How many reports the browser is printing."""
        return self._warm.users if self._warm else 0

    async def warm(self, *, seconds: float = 20.0) -> None:
        """Start the browser now, so that the first report does not wait for it. Raises RenderFailed, TimeLimit."""
        try:
            async with asyncio.timeout(seconds):
                await self._after_report(await self._started())
        except TimeoutError:
            raise TimeLimit(seconds) from None

    async def pdf(self, document: Document, *, seconds: float = 20.0) -> bytes:
        """The document as PDF, within ``seconds`` from now, including the wait for a free slot.

        Raises TimeLimit, and RenderFailed for other failures; both have ``retry``. After a fault the
        browser is ended with all of its processes and files, and the next report starts another.
        """
        try:
            async with asyncio.timeout(seconds) as limit, self._slots:
                return await self._render(document, limit)
        except TimeoutError:
            raise TimeLimit(seconds) from None

    async def close(self) -> None:
        """End the browser; reports in progress fail, and later ones are refused."""
        self._closed = True
        self._set_idle_timer(None)
        async with self._starting:
            if self._warm is not None:
                self._drop(self._warm, "The engine was closed.")
        await asyncio.gather(*self._ending)

    async def _render(self, document: Document, limit: asyncio.Timeout) -> bytes:
        warm = await self._started()
        warm.users += 1
        try:
            return await warm.render(document)
        except BrowserGone as error:
            await self._drop(warm, str(error))
            raise RenderFailed(f"The browser failed while it printed: {error}", retry=True) from error
        except asyncio.CancelledError:
            if limit.expired():
                await self._drop(warm, "It was ended for another report, which took too long.")
            else:
                self._retire(warm)  # the others may finish; this report's tabs are in an unknown state
            raise
        finally:
            warm.users -= 1
            await self._after_report(warm)

    async def _started(self) -> TabPool:
        async with self._starting:
            if self._closed:
                raise RenderFailed("The engine was closed.", retry=True)
            self._set_idle_timer(None)
            if self._warm is not None and not await self._answers(self._warm):
                await self._drop(self._warm, "The browser did not answer.")
            if self._warm is None:
                if not self._leftovers_removed:
                    await asyncio.to_thread(remove_leftovers)
                    self._leftovers_removed = True
                program = self._browser if self._browser else await asyncio.to_thread(require_browser)
                self._warm = await TabPool.start(program, tabs=self._at_once)
            return self._warm

    async def _answers(self, warm: TabPool) -> bool:
        """Whether the browser answers after it was idle; while it prints, the reports' time limits detect a hang."""
        if warm.users:
            return not warm.browser.devtools.gone
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await warm.browser.devtools.call("Browser.getVersion")
        except (BrowserGone, TimeoutError):
            return False
        except asyncio.CancelledError:
            await self._drop(warm, "The browser did not answer in time.")
            raise
        return True

    async def _after_report(self, warm: TabPool) -> None:
        """After each report: replace a browser that printed enough or grew too large, else start the idle timer."""
        if warm.printed >= self._recycled or await self._has_grown(warm):
            self._retire(warm)
        if warm.users:
            return
        if warm is self._warm:
            self._set_idle_timer(warm)
        else:
            await self._drop(warm, "The browser was replaced.")

    async def _has_grown(self, warm: TabPool) -> bool:
        if warm.printed % _MEMORY_CHECK_EVERY != 1 or warm.browser.devtools.gone:
            return False
        now = await asyncio.to_thread(warm.browser.memory)
        warm.memory = warm.memory or now
        return now - warm.memory > self._grown

    def _retire(self, warm: TabPool) -> None:
        """Give it no further report; it ends with the last one that it prints."""
        if self._warm is warm:
            self._warm = None

    def _set_idle_timer(self, warm: TabPool | None) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if warm is not None:
            later = asyncio.get_running_loop().call_later
            self._idle = later(self._idle_seconds, lambda: self._drop(warm, "The browser was idle."))

    def _drop(self, warm: TabPool, why: str) -> "asyncio.Future[None]":
        """End the browser now; done when its processes and files are gone."""
        self._retire(warm)
        ending = warm.browser.kill(why)
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        return asyncio.shield(ending)
