"""A page to PDF: in a tab that runs no script, reaches no network and opens no file."""

import asyncio
import base64
import html
import re

from core.reports.charts.fonts import FONTS
from dispatcher.reports.pdf.browser import Browser
from dispatcher.reports.pdf.devtools import CommandRefused
from dispatcher.reports.pdf.errors import RenderFailed

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:"
STYLE = f"html{{font-family:{FONTS};font-variant-ligatures:none}}"
"""Where the page says nothing else. A ligature is found by no search for its letters."""
_NODE = re.compile(rb"\(node(\d{8})\)")


class PrintTab:
    """A tab that prints one page at a time."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session

    @classmethod
    async def open(cls, browser: Browser) -> "PrintTab":
        """An empty tab."""
        call = browser.devtools.call
        session = await browser.open_tab()
        await call("Emulation.setScriptExecutionDisabled", session, value=True)
        await call("Page.enable", session)
        # The page's policy allows nothing that would ask a network; this holds should it ever.
        await call("Network.enable", session)
        await call("Network.setBlockedURLs", session, urls=["http://*", "https://*", "file://*", "ftp://*", "ws*://*"])
        return cls(browser, session)

    async def print(self, page: str, *, title: str, language: str) -> bytes:
        """The PDF: tagged, titled, with an outline of the headings."""
        call, event = self._browser.devtools.call, self._browser.devtools.event
        try:
            # A new document each: the last one's policy and memory go with it.
            blank = event("Page.loadEventFired", self._session)
            frame = (await call("Page.navigate", self._session, url="about:blank"))["frameId"]
            await blank
            loaded = event("Page.loadEventFired", self._session)
            await call("Page.setDocumentContent", self._session, frameId=frame, html=_guarded(page, title, language))
            await loaded
            answer = await call(
                "Page.printToPDF",
                self._session,
                printBackground=True,
                preferCSSPageSize=True,
                displayHeaderFooter=False,
                generateTaggedPDF=True,
                generateDocumentOutline=True,
            )
        except CommandRefused as error:
            raise RenderFailed(f"The page was not printed: {error}", retry=True) from error
        return await asyncio.to_thread(_read, answer["data"])


def _guarded(page: str, title: str, language: str) -> str:
    """The page behind a head of ours: its own ``<html>`` and ``<head>`` are then read as parts of that one, so that
    nothing of it comes before the policy, and language and title are always there."""
    return (
        f'<!doctype html><html lang="{html.escape(language)}"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style>{page}"
    )


def _read(data: str) -> bytes:
    """The bytes, with the structure's ids counted from 1: the browser's own go on from page to page."""
    pdf = base64.b64decode(data)
    known = {old: b"(node%08d)" % new for new, old in enumerate(sorted(set(_NODE.findall(pdf))), start=1)}
    return _NODE.sub(lambda found: known[found[1]], pdf)
