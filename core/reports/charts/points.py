"""Scatter plot of the AI's against people's scores of the same answers."""

from math import sqrt

from core.reports.charts import theme
from core.reports.charts.card import Card, chart_card, empty_card
from core.reports.data import AiHuman
from core.reports.formatting import FEW, count

_MAX_POINTS = 300


def ai_human(data: AiHuman) -> Card:
    """Answers scored by both, as shares of the maximum; on the diagonal the two scores are equal."""
    key, unit = "ai_human", "Share of points by AI and by a person; area: answers; on the line they agree"
    if not data.n or not data.points:
        return empty_card(key, "No answer was scored by both AI and people", unit)
    points = _merge_points(data.points)
    most = max(n for _, _, n in points)
    colour = theme.color_for(data.n, theme.BLUE)
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": [100 * x for x, _, _ in points],
        "y": [100 * y for _, y, _ in points],
        "marker": {
            "size": [round(max(3.2, 13 * sqrt(n / max(most, 4))), 1) for _, _, n in points],
            "color": colour,
            "opacity": 0.4,
            "line": {"width": 0},
        },
    }
    axis = theme.marks([0, 25, 50, 75, 100], "%") | {"range": [-3, 103], "showgrid": True}
    chart = theme.chart(
        [trace],
        width=theme.HALF,
        height=262,
        margin=(46, 6, 14, 40),
        shapes=[
            theme.rule_shape(x0=0, y0=0, x1=100, y1=100, line={"color": theme.INK, "width": 1.1, "dash": "4px,3px"})
        ],
        xaxis=axis | {"title": {"text": "AI"}},
        yaxis=axis | {"title": {"text": "person"}},
    )
    r = "–" if data.correlation is None else f"{data.correlation:.2f}".replace("-", "−")
    unit += f"; r = {r}"
    numbers = [f"correlation {r}", f"mean difference {100 * (data.mean_difference or 0):.1f} points of 100"]
    return chart_card(key, _finding(data), unit, data.n, chart, numbers, things="answer")


def _finding(data: AiHuman) -> str:
    mean = 100 * (data.mean_difference or 0)
    if data.n < FEW or data.mean_difference is None:
        return f"{count(data.n, 'answer')} scored by both"
    n = sum(k for _, _, k in data.points)
    off = sum(k * (100 * (x - y) - mean) ** 2 for x, y, k in data.points)
    error = sqrt(off / max(n - 1, 1) / n)
    if abs(mean) <= 2 * error or abs(mean) < 0.05:
        return "AI and people score alike on average"
    return f"AI scores {abs(mean):.1f} pt {'higher' if mean > 0 else 'lower'} than people"


def _merge_points(points: tuple[tuple[float, float, int], ...]) -> list[tuple[float, float, int]]:
    """The points, merged on a coarser grid while there are more than _MAX_POINTS, so that the SVG stays small."""
    found, size = list(points), 0.02
    while len(found) > _MAX_POINTS and size < 0.2:
        size *= 2
        sums: dict[tuple[float, float], int] = {}
        for x, y, n in points:
            cell = round(round(x / size) * size, 4), round(round(y / size) * size, 4)
            sums[cell] = sums.get(cell, 0) + n
        found = [(min(x, 1.0), min(y, 1.0), n) for (x, y), n in sums.items()]
    return found
