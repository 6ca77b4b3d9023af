"""The content that the ways to render a report are compared on: fourteen charts, two tables, five pages."""

import random
from collections.abc import Mapping
from html import escape
from typing import Any

from markupsafe import Markup

from core.reports.charts.plain import plain
from core.reports.document import Chart, Document
from dispatcher.reports.pdf import FONTS

WIDTH, HEIGHT = 330, 235
NAMES = ("Zoë Ångström", "Đặng Thị Hoa", "Ольга Юрьевна", "محمد علي", "דוד לוי", "अनुष्का शर्मा", "王小明", "Jean Doe")
HEAD = ("No", "Name", "Day", "Score")
_dice = random.Random(5)
BARS = {name: _dice.randint(100, 5000) for name in ("Invited", "Opened", "Started", "Completed", "Advanced", "Hired")}
LINES = [[_dice.randint(90, 190) for _ in range(13)] for _ in range(2)]
HEAT = [[_dice.randint(0, 50) for _ in range(9)] for _ in range(5)]
BOXES = {f"Position {n}": [_dice.gauss(70, 12) for _ in range(80)] for n in range(6)}
BINS = [_dice.randint(0, 90) for _ in range(20)]
KINDS = ("bars", "lines", "heat", "boxes", "bins")
CHARTS = tuple(KINDS[n % len(KINDS)] for n in range(14))
ROWS = [(str(n), NAMES[n % len(NAMES)], f"2026-11-{1 + n % 28:02}", str(n * 37 % 101)) for n in range(100)]


def figure(kind: str) -> dict[str, Any]:
    """One of the charts, for plotly."""
    axis = {"gridcolor": "#e2e8f0", "zeroline": False}
    layout: dict[str, Any] = {
        "font": {"family": FONTS, "size": 10, "color": "#334155"},
        "margin": {"l": 70, "r": 12, "t": 30, "b": 28},
        "title": {"text": f"What the {kind} say", "x": 0, "font": {"size": 12}},
        "showlegend": False,
        "plot_bgcolor": "white",
        "xaxis": dict(axis),
        "yaxis": dict(axis),
    }
    data: list[dict[str, Any]] = []
    if kind == "bars":
        texts = [f"{count:,}" for count in BARS.values()]
        data = [
            {"type": "bar", "orientation": "h", "y": list(map(plain, BARS)), "x": list(BARS.values()), "text": texts}
        ]
    elif kind == "lines":
        data = [{"type": "scatter", "mode": "lines", "y": line, "fill": "tozeroy"} for line in LINES]
    elif kind == "heat":
        layout["shapes"], layout["annotations"] = [], []
        for y, row in enumerate(HEAT):
            for x, count in enumerate(row):
                at = {"x0": x, "x1": x + 0.95, "y0": y, "y1": y + 0.95}
                shade = f"rgb({230 - 4 * count},{235 - 3 * count},250)"
                layout["shapes"].append({"type": "rect", **at, "fillcolor": shade, "line": {"width": 0}})
                layout["annotations"].append({"x": x + 0.5, "y": y + 0.5, "text": str(count), "showarrow": False})
    elif kind == "boxes":
        data = [{"type": "box", "orientation": "h", "name": plain(name), "x": values} for name, values in BOXES.items()]
    else:
        data = [{"type": "bar", "y": BINS}]
    return {"data": data, "layout": layout}


def page(svgs: Mapping[str, Markup]) -> str:
    """The page around the charts."""
    drawn = "".join(f'<div class="chart">{svg}</div>' for svg in svgs.values())
    head = "".join(f"<th>{cell}</th>" for cell in HEAD)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in ROWS)
    return (
        "<!doctype html><html><head><style>@page{size:A4;margin:15mm}body{font-size:10px;margin:0}"
        ".chart{display:inline-block;break-inside:avoid;margin:4px}table{width:100%;border-collapse:collapse}"
        "td{border-top:1px solid #e2e8f0;padding:3px}</style></head><body><h1>Interview analytics</h1><h2>Charts</h2>"
        f"{drawn}<h2>Sessions</h2><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></body></html>"
    )


def document() -> Document:
    """The report for our engine."""
    charts = {f"{kind}-{n}": Chart(figure(kind), WIDTH, HEIGHT, f"The {kind}") for n, kind in enumerate(CHARTS)}
    return Document("Interview analytics", charts, page)
