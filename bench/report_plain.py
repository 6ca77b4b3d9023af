"""The same report in the usual ways: kaleido by default, and matplotlib with reportlab."""

import asyncio
import subprocess
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

import kaleido
import matplotlib as mpl
from markupsafe import Markup
from matplotlib import pyplot as plt
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import Image, Paragraph, SimpleDocTemplate, Table

from bench.report_content import BARS, BINS, BOXES, CHARTS, HEAD, HEAT, HEIGHT, LINES, ROWS, WIDTH, figure, page
from dispatcher.reports.pdf import find_browser

_SIZE: Any = {"format": "svg", "width": WIDTH, "height": HEIGHT}
_POINT = 72 / 96


async def kaleido_a_chart() -> bytes:
    """kaleido's one-shot call for each chart, each with a browser of its own; then a browser that prints."""
    svgs = [await kaleido.calc_fig(figure(kind), opts=_SIZE, kopts={"mathjax": False}) for kind in CHARTS]
    return await asyncio.to_thread(_print, svgs)


async def kaleido_a_report() -> bytes:
    """One Kaleido for all of the report's charts; then a browser that prints."""
    async with kaleido.Kaleido(n=1, mathjax=False) as one:
        svgs = [await one.calc_fig(figure(kind), opts=_SIZE) for kind in CHARTS]
    return await asyncio.to_thread(_print, svgs)


def _print(svgs: list[bytes]) -> bytes:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "page.html").write_text(page({str(n): Markup(svg.decode()) for n, svg in enumerate(svgs)}))  # noqa: S704
        command = [
            *(str(find_browser()), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile"),
            *("--no-pdf-header-footer", f"--print-to-pdf={folder}/page.pdf", (folder / "page.html").as_uri()),
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        return (folder / "page.pdf").read_bytes()


async def matplotlib_reportlab() -> bytes:
    """Charts as bitmaps of 200 dpi, laid out by reportlab."""
    return await asyncio.to_thread(_laid_out)


def _laid_out() -> bytes:
    if "Names" not in pdfmetrics.getRegisteredFontNames():
        mpl.use("agg")
        mpl.rcParams["font.family"] = "Noto Sans"
        pdfmetrics.registerFont(TTFont("Names", mpl.font_manager.findfont("Noto Sans")))
    out, styles = BytesIO(), getSampleStyleSheet()
    charts = [Image(_drawn(kind), WIDTH * _POINT, HEIGHT * _POINT) for kind in CHARTS]
    story = [
        Paragraph("Interview analytics", styles["Heading1"]),
        Paragraph("Charts", styles["Heading2"]),
        Table([charts[n : n + 2] for n in range(0, len(charts), 2)]),
        Paragraph("Sessions", styles["Heading2"]),
        Table([HEAD, *ROWS], repeatRows=1, style=[("FONTNAME", (0, 0), (-1, -1), "Names")]),
    ]
    SimpleDocTemplate(out, pagesize=A4, title="Interview analytics").build(story)
    return out.getvalue()


def _drawn(kind: str) -> BytesIO:
    drawing, axes = plt.subplots(figsize=(WIDTH / 96, HEIGHT / 96), dpi=200)
    axes.set_title(f"What the {kind} say", loc="left", fontsize=9)
    axes.tick_params(labelsize=7)
    if kind == "bars":
        axes.bar_label(axes.barh(list(BARS), list(BARS.values())), fontsize=7)
    elif kind == "lines":
        for line in LINES:
            axes.plot(line)
            axes.fill_between(range(len(line)), line, alpha=0.3)
    elif kind == "heat":
        axes.imshow(HEAT, cmap="Blues", aspect="auto")
        for y, row in enumerate(HEAT):
            for x, count in enumerate(row):
                axes.text(x, y, str(count), ha="center", va="center", fontsize=7)
    elif kind == "boxes":
        axes.boxplot(list(BOXES.values()), orientation="horizontal", tick_labels=list(BOXES))
    else:
        axes.bar(range(len(BINS)), BINS)
    drawing.tight_layout()
    png = BytesIO()
    drawing.savefig(png, format="png")
    plt.close(drawing)
    png.seek(0)
    return png
