"""The theme of all charts: colours, the plotly template, axes, and fitting text into the available width."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from core.reports.charts.fonts import FONTS
from core.reports.charts.plain import plain
from core.reports.document import Chart
from core.reports.formatting import FEW, is_combined

INK, TEXT, GREY, RULE, GRID = "#14213d", "#3d4a63", "#5f6b80", "#cbd2de", "#e6eaf1"
BLUE, DEEP, PALE, WASH = "#2f5bd7", "#1d3a9c", "#b7c7f5", "#edf1fd"
GREEN, ORANGE = "#0f7a5f", "#b8440f"
FAINT, FAINTER = "#9aa4b5", "#d5dae3"
"""For figures with too small an n to compare (n < 20)."""

HALF, WIDE = 300, 644
"""Printed widths inside a card, in CSS pixels: two cards side by side, and one alone."""
TALL = 276
"""The height of charts side by side, in CSS pixels."""
SIZE = 10.5
"""The size of text in charts, in CSS pixels."""

Figure = dict[str, Any]

_AXIS: Figure = {
    "showgrid": False,
    "zeroline": False,
    "showline": False,
    "ticks": "",
    "fixedrange": True,
    "automargin": False,
    "tickangle": 0,
    "tickfont": {"size": 10, "color": GREY},
    "title": {"font": {"size": 10, "color": GREY}, "standoff": 6},
    "gridcolor": GRID,
    "gridwidth": 1,
}
TEMPLATE: Figure = {
    "layout": {
        "font": {"family": FONTS, "size": SIZE, "color": TEXT},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "showlegend": False,
        "hovermode": False,
        "xaxis": _AXIS | {"ticklabelstandoff": 3},
        "yaxis": _AXIS,
        "bargap": 0.3,
        "annotationdefaults": {"showarrow": False, "font": {"size": 10, "color": GREY}},
    }
}


def chart(
    traces: Sequence[Figure],
    *,
    width: int,
    height: int,
    margin: tuple[int, int, int, int],
    **layout: Any,
) -> Chart:
    """A chart in this theme: ``margin`` is left, top, right and bottom, and fixed whatever the labels."""
    left, top, right, bottom = margin
    whole = {
        "template": TEMPLATE,
        "width": width,
        "height": height,
        "margin": {"l": left, "t": top, "r": right, "b": bottom, "pad": 0, "autoexpand": False},
        **layout,
    }
    return Chart({"data": list(traces), "layout": whole}, width, height)


def color_for(n: int, colour: str, pale: str = FAINT) -> str:
    """The colour, or a grey one where n is too small to be compared."""
    return colour if n >= FEW else pale


def note(x: float, y: float, text: str, **more: Any) -> Figure:
    """A text at a position of the chart; text from rows must go through ``label`` first."""
    return {"x": x, "y": y, "text": text, "showarrow": False, "xref": "x", "yref": "y", **more}


def rule_shape(**ends: Any) -> Figure:
    """A straight line as a shape of the layout, under the data."""
    defaults = {"type": "line", "layer": "below", "line": {"color": RULE, "width": 1}}
    return defaults | ends


def bold(text: str) -> str:
    """A label in bold."""
    return f"<b>{text}</b>"


def grey(text: str) -> str:
    """A label in grey."""
    return f'<span style="color:{GREY}">{text}</span>'


def label(text: str, width: float, size: float = SIZE) -> str:
    """Text of a row, for a figure: direction-isolated, cut to ``width`` pixels, and escaped."""
    return "\u2068" + plain(fit(" ".join(text.split()), width, size)) + "\u2069"


def fit(text: str, width: float, size: float = SIZE) -> str:
    """The text, cut with an ellipsis where it is wider than ``width`` pixels; widths are overestimated."""
    if measure(text, size) <= width:
        return text
    room, at = width - 0.9 * size, 0
    while at < len(text) and (room := room - _advance(text[at]) * size) >= 0:
        at += 1
    while at > 1 and is_combined(text, at):
        at -= 1
    return text[:at].rstrip() + "…"


def measure(text: str, size: float = SIZE) -> float:
    """The approximate width of a text in Noto Sans, in pixels; overestimated rather than underestimated."""
    return sum(_advance(c) for c in text) * size


_NARROW = frozenset("ijlrtfI.,:;'|!()[] -/")
_BROAD = frozenset("mwMW@%&")


def _advance(c: str) -> float:
    if unicodedata.combining(c) or unicodedata.category(c) in {"Mn", "Cf"}:
        return 0.0
    if unicodedata.east_asian_width(c) in {"W", "F"}:
        return 1.05 if ord(c) < 0x1F000 else 1.35
    if c in _NARROW:
        return 0.38
    if c in _BROAD:
        return 0.95
    return 0.7 if c.isupper() or ord(c) > 0x590 else 0.6


def spread_labels(wanted: Sequence[float], apart: float, low: float, high: float) -> list[float]:
    """Positions near the wanted (rising) ones, at least ``apart``, so that labels do not overlap; within the ends if
    possible."""
    placed: list[float] = []
    for at in wanted:
        placed.append(max(at, placed[-1] + apart) if placed else max(at, low))
    ceiling = high
    for i in range(len(placed) - 1, -1, -1):
        placed[i] = min(placed[i], ceiling)
        ceiling = placed[i] - apart
    return placed


def ticks(labels: Sequence[str], most: int) -> Figure:
    """Every n-th label, so that an axis has at most ``most`` labels."""
    step = max(1, -(-len(labels) // most))
    at = list(range(0, len(labels), step))
    return {"tickvals": at, "ticktext": [labels[i] for i in at]}


def row_labels(texts: Sequence[str], most: float, least: int = 3) -> tuple[Figure, int]:
    """The labels of rows from top to bottom as an axis, cut to ``most`` pixels, and the left margin that they need.

    The axis has room for at least ``least`` rows, so that few rows are not drawn thicker.
    """
    wide = min(most, max((measure(text) for text in texts), default=0)) + 2
    named = {
        "tickvals": list(range(len(texts))),
        "ticktext": [label(text, wide) for text in texts],
        "tickfont": {"size": SIZE, "color": TEXT},
        "range": [max(len(texts), least) - 0.5, -0.5],
        "ticklabelstandoff": 7,
    }
    return named, round(wide) + 8


def top(values: Sequence[float | None]) -> float:
    """The upper end of an axis that starts at zero."""
    return max([v for v in values if v is not None], default=0) or 1


def steps(highest: float, most: int = 5) -> list[float]:
    """Round whole numbers from zero to at least ``highest``."""
    size = 1
    while highest > size * most:
        size = size * 5 // 2 if str(size)[0] == "2" else size * 2
    return [float(size * i) for i in range(int(-(-highest // size)) + 1)]


def marks(values: Sequence[float], suffix: str = "") -> Figure:
    """The ticks of an axis: positions and labels."""
    return {"tickvals": list(values), "ticktext": [f"{v:,.0f}{suffix}" for v in values]}


def axis(**more: Any) -> Mapping[str, Any]:
    """An axis without tick labels, with the given options."""
    return {"showticklabels": False, **more}
