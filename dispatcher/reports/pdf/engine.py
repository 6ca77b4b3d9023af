"""Reports to PDF: a browser kept warm, ended at any fault and at leisure, and started again by the next report."""

import asyncio
from pathlib import Path
from types import TracebackType

from core.reports.document import Document
from dispatcher.reports.pdf.devtools import BrowserGone
from dispatcher.reports.pdf.errors import RenderFailed, TimeLimit
from dispatcher.reports.pdf.find_browser import the_browser
from dispatcher.reports.pdf.tabs import TabPool
from dispatcher.reports.pdf.temp_dirs import remove_leftovers

MOST_AT_ONCE = 5
ANSWER_SECONDS = 2.0
"""Seconds that a rested browser has to say that it is there."""
_MEMORY_CHECK_EVERY = 20
"""Reports after which a browser's memory is looked at."""
RECYCLE_AFTER = 200
"""Reports that one browser prints at most: its memory grows."""
RECYCLE_BYTES = 768 * 1024 * 1024
"""Bytes that a browser's memory may grow by."""
IDLE_SECONDS = 180.0
"""Seconds without a report after which the browser ends, to give its memory back."""


class Engine:
    """Prints reports, at most ``at_once`` at the same time; the browser starts with the first, or with ``warm``.

    One event loop's. Its browser ends with it, with the process, and with the thread that started it.
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
        self._turns = asyncio.Semaphore(at_once)
        self._starting = asyncio.Lock()
        self._warm: TabPool | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._swept = self._closed = False

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
        """Reports that the browser is at."""
        return self._warm.users if self._warm else 0

    async def warm(self, *, seconds: float = 20.0) -> None:
        """Start the browser now, so that the first report need not wait for it. Raises RenderFailed, TimeLimit."""
        try:
            async with asyncio.timeout(seconds):
                await self._make_idle(await self._started())
        except TimeoutError:
            raise TimeLimit(seconds) from None

    async def pdf(self, document: Document, *, seconds: float = 20.0) -> bytes:
        """The document as PDF, within ``seconds`` from now, the wait for its turn included.

        Raises TimeLimit, and RenderFailed for what else goes wrong; both say whether to try again. After a fault the
        browser is gone with all of its processes and files, and the next report starts another.
        """
        try:
            async with asyncio.timeout(seconds) as limit, self._turns:
                return await self._render(document, limit)
        except TimeoutError:
            raise TimeLimit(seconds) from None

    async def close(self) -> None:
        """End the browser; what is being printed fails, and nothing is printed any more."""
        self._closed = True
        self._be_idle(None)
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
                self._retire(warm)  # the others may finish; its tabs are in the middle of something
            raise
        finally:
            warm.users -= 1
            await self._make_idle(warm)

    async def _started(self) -> TabPool:
        async with self._starting:
            if self._closed:
                raise RenderFailed("The engine was closed.", retry=True)
            self._be_idle(None)
            if self._warm is not None and not await self._answers(self._warm):
                await self._drop(self._warm, "The browser did not answer.")
            if self._warm is None:
                if not self._swept:
                    await asyncio.to_thread(remove_leftovers)
                    self._swept = True
                program = self._browser if self._browser else await asyncio.to_thread(the_browser)
                self._warm = await TabPool.start(program, tabs=self._at_once)
            return self._warm

    async def _answers(self, warm: TabPool) -> bool:
        """Whether the browser is still well after a rest; of one at work, its reports' limits will tell."""
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

    async def _make_idle(self, warm: TabPool) -> None:
        """After each report: whether the browser has done enough, or may rest."""
        if warm.printed >= self._recycled or await self._has_grown(warm):
            self._retire(warm)
        if warm.users:
            return
        if warm is self._warm:
            self._be_idle(warm)
        else:
            await self._drop(warm, "The browser was replaced.")

    async def _has_grown(self, warm: TabPool) -> bool:
        if warm.printed % _MEMORY_CHECK_EVERY != 1 or warm.browser.devtools.gone:
            return False
        now = await asyncio.to_thread(warm.browser.memory)
        warm.memory = warm.memory or now
        return now - warm.memory > self._grown

    def _retire(self, warm: TabPool) -> None:
        """No further report for it; it ends with the last one it has."""
        if self._warm is warm:
            self._warm = None

    def _be_idle(self, warm: TabPool | None) -> None:
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
