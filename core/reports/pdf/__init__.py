"""The printer of reports: charts by plotly and pages by one warm headless Chromium, safe and within a time limit."""

from core.reports.charts.fonts import FONTS
from core.reports.charts.plain import plain
from core.reports.pdf.engine import Engine
from core.reports.pdf.failing import RenderFailed, TimeLimit
from core.reports.pdf.finding import find_browser

__all__ = ["FONTS", "Engine", "RenderFailed", "TimeLimit", "find_browser", "plain"]
