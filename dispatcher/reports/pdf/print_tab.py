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
"""The page's own style takes precedence. Without ligatures, so that a search for their letters finds the text."""
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
        # The page's policy allows no network request; this blocks them a second time.
        await call("Network.enable", session)
        await call("Network.setBlockedURLs", session, urls=["http://*", "https://*", "file://*", "ftp://*", "ws*://*"])
        return cls(browser, session)

    async def print(self, page: str, *, title: str, language: str) -> bytes:
        """The PDF: tagged, titled, with an outline of the headings."""
        call, event = self._browser.devtools.call, self._browser.devtools.event
        try:
            # A new document for each page, so that the last one's policy and memory are released.
            blank = event("Page.loadEventFired", self._session)
            frame = (await call("Page.navigate", self._session, url="about:blank"))["frameId"]
            await blank
            loaded = event("Page.loadEventFired", self._session)
            await call(
                "Page.setDocumentContent", self._session, frameId=frame, html=_with_policy(page, title, language)
            )
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


def _with_policy(page: str, title: str, language: str) -> str:
    """The page after our own ``<head>``: the parser merges the page's ``<html>`` and ``<head>`` into it, so that
    nothing of the page comes before the policy, and language and title are always set."""
    return (
        f'<!doctype html><html lang="{html.escape(language)}"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style>{page}"
    )


def _read(data: str) -> bytes:
    """The bytes, with the structure's ids renumbered from 1: the browser's continue from document to document."""
    pdf = base64.b64decode(data)
    known = {old: b"(node%08d)" % new for new, old in enumerate(sorted(set(_NODE.findall(pdf))), start=1)}
    return _NODE.sub(lambda found: known[found[1]], pdf)
