"""The input of printing: a report's charts, and the page that contains them."""

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
    """The text alternative."""


@dataclass(frozen=True, slots=True)
class Document:
    """A report before it is printed: its charts by name, and a function that writes the HTML page with their SVGs.

    ``page`` is called with one SVG for each chart, safe to insert unescaped.
    """

    title: str
    charts: Mapping[str, Chart]
    page: Callable[[Mapping[str, Markup]], str]
    language: str = "en"
