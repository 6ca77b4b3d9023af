"""What a report hands to the printer: charts, and a page that places them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup


@dataclass(frozen=True, slots=True)
class Chart:
    """A plotly figure as plain data, and its printed size in CSS pixels (96 an inch)."""

    figure: Mapping[str, Any]
    width: int
    height: int
    alt: str = ""
    """What it shows, for who cannot see it."""


@dataclass(frozen=True, slots=True)
class Document:
    """A report before it is printed: its charts by name, and what writes the whole HTML page around their SVGs.

    ``page`` is called with an SVG for every chart, safe to place as it is.
    """

    title: str
    charts: Mapping[str, Chart]
    page: Callable[[Mapping[str, Markup]], str]
    language: str = "en"
