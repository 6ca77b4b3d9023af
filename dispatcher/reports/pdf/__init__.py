"""Renders reports to PDF: charts by plotly, pages by one headless Chromium that stays running, with a time limit."""

from core.reports.charts.fonts import FONTS
from core.reports.charts.plain import plain
from dispatcher.reports.pdf.engine import Engine
from dispatcher.reports.pdf.errors import RenderFailed, TimeLimit
from dispatcher.reports.pdf.find_browser import find_browser

__all__ = ["FONTS", "Engine", "RenderFailed", "TimeLimit", "find_browser", "plain"]
