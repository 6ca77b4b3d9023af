"""Documents to print, and what came of them."""

import asyncio
import re
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import psutil
from markupsafe import Markup
from pypdf import PdfReader

from core.reports.document import Chart, Document
from dispatcher.reports.pdf import FONTS

STYLE = f"@page{{size:A4;margin:16mm}} body{{font-family:{FONTS};font-size:10px}} .chart{{break-inside:avoid}}"


def bar_chart(*names: str) -> dict[str, Any]:
    """A figure of bars, each with its name."""
    return {
        "data": [{"type": "bar", "orientation": "h", "y": list(names), "x": list(range(1, len(names) + 1))}],
        "layout": {"font": {"family": FONTS, "size": 10}, "yaxis": {"automargin": True, "dtick": 1}},
    }


def line_chart(*values: float) -> dict[str, Any]:
    """A figure with a line, which plotly clips by a path with an id."""
    return {"data": [{"type": "scatter", "x": list(range(len(values))), "y": list(values)}], "layout": {}}


def document(
    body: str = "<h1>A report</h1>", figures: Mapping[str, Any] | None = None, *, title: str = "A report"
) -> Document:
    """A document with the figures above the body."""

    def page(svgs: Mapping[str, Markup]) -> str:
        drawn = "".join(f'<div class="chart">{svg}</div>' for svg in svgs.values())
        return f"<!doctype html><html><head><style>{STYLE}</style></head><body>{drawn}{body}</body></html>"

    charts = {name: Chart(figure, 660, 260, alt=f"About {name}") for name, figure in (figures or {}).items()}
    return Document(title, charts, page)


def read(pdf: bytes) -> PdfReader:
    """The PDF, read strictly."""
    return PdfReader(BytesIO(pdf), strict=True)


def text_of(pdf: bytes) -> str:
    """All of its text, in one line; letters that have more than one code, by the common one."""
    return unicodedata.normalize("NFKC", " ".join(" ".join(page.extract_text() for page in read(pdf).pages).split()))


def undated(pdf: bytes) -> bytes:
    """The PDF without its two dates."""
    return re.sub(rb"/(CreationDate|ModDate) \(D:[^)]*\)", rb"/\1", pdf)


def processes(folder: Path | None = None) -> set[int]:
    """Browsers' processes whose files are in the folder; None: where ours are."""
    where = str(folder or tempfile.gettempdir())
    return {process.pid for process in _all() if where in " ".join(process.info["cmdline"] or ())}


def _all() -> Iterator[psutil.Process]:
    return (one for one in psutil.process_iter(["cmdline", "status"]) if one.info["status"] != psutil.STATUS_ZOMBIE)


def small() -> Document:
    """One that takes no time."""
    return document(figures={"one": line_chart(1, 2)})


async def until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for what must become true."""
    ends = time.monotonic() + seconds
    while True:
        try:
            if true():
                return
        except ProcessLookupError:
            pass
        assert time.monotonic() < ends, "it did not become true"
        await asyncio.sleep(0.02)


async def gone(folder: Path) -> None:
    """No process is left that was started there."""
    await until(lambda: not processes(folder))
