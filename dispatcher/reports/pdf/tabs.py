"""A browser that is ready to print: its tabs are open, plotly.js is loaded."""

import asyncio
from pathlib import Path

from core.reports.document import Document
from dispatcher.reports.pdf.browser import Browser
from dispatcher.reports.pdf.charts import ChartTab, draw, write_page
from dispatcher.reports.pdf.devtools import BrowserGone, CommandRefused
from dispatcher.reports.pdf.errors import RenderFailed
from dispatcher.reports.pdf.print_tab import PrintTab


class TabPool:
    """One browser with as many chart tabs and as many page tabs as reports may be printed at once."""

    def __init__(self, browser: Browser, tabs: int) -> None:
        self.browser = browser
        self.users = 0
        self.printed = 0
        self.memory = 0
        """Bytes when its first report was printed."""
        self._charts: asyncio.Queue[ChartTab] = asyncio.Queue(tabs)
        self._prints: asyncio.Queue[PrintTab] = asyncio.Queue(tabs)
        self._opening: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, program: Path, *, tabs: int) -> "TabPool":
        """Start a browser and open its first tabs; the others follow. Raises RenderFailed with the browser ended."""
        browser = await Browser.start(program)
        self = cls(browser, tabs)
        try:
            page = await asyncio.to_thread(write_page, browser.folder)
            await asyncio.gather(self._open_chart(page), self._open_print())
        except (BrowserGone, CommandRefused, OSError) as error:
            await asyncio.shield(browser.kill())
            raise RenderFailed(f"The browser {program} failed as it started: {error}", retry=True) from error
        except BaseException:
            await asyncio.shield(browser.kill())
            raise
        if tabs > 1:
            self._opening = asyncio.create_task(self._open(page, tabs - 1), name="reports-tabs")
        return self

    async def _open(self, page: Path, more: int) -> None:
        try:
            for _ in range(more):
                await asyncio.gather(self._open_chart(page), self._open_print())
        except (BrowserGone, CommandRefused, RenderFailed) as error:
            self.browser.devtools.fail_all(f"Another tab did not open: {error}")

    async def _open_chart(self, page: Path) -> None:
        self._charts.put_nowait(await ChartTab.open(self.browser, page))

    async def _open_print(self) -> None:
        self._prints.put_nowait(await PrintTab.open(self.browser))

    async def render(self, document: Document) -> bytes:
        """The document as PDF. Raises RenderFailed for a document that cannot be printed, BrowserGone at any point
        when the browser ends."""
        work = asyncio.create_task(self._render(document), name="reports-render")
        gone = asyncio.create_task(self.browser.devtools.wait_until_gone(), name="reports-gone")
        try:
            done, _ = await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            if gone in done:
                raise BrowserGone(gone.result())
            return work.result()
        finally:
            gone.cancel()
            work.cancel()
            work.add_done_callback(
                lambda task: task.cancelled() or task.exception()
            )  # no «exception was never retrieved»

    async def _render(self, document: Document) -> bytes:
        svgs = await draw(self._charts, document.charts)
        page = await asyncio.to_thread(document.page, svgs)
        tab = await self._prints.get()
        try:
            pdf = await tab.print(page, title=document.title, language=document.language)
        except RenderFailed:
            self._prints.put_nowait(tab)
            raise
        self._prints.put_nowait(tab)
        self.printed += 1
        return pdf
