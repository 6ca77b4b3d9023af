"""Charts of scores: the histogram with the pass score, and boxes by position."""

from collections.abc import Sequence

from markupsafe import Markup

from core.reports import significance
from core.reports.charts import theme
from core.reports.charts.card import Card, chart_card, empty_card, text_card
from core.reports.data import Ratio, Scores, Spread
from core.reports.document import Chart
from core.reports.formatting import FEW, all_of, count, name, number, ratio, share


def histogram(bins: Sequence[int], scores: Spread, passed: Ratio, lines: Sequence[float]) -> Card:
    """The distribution of scores in bins of five points, with the pass score; several are drawn as a range."""
    key, unit = "histogram", "Scored sessions by score, 0–100, in steps of five points"
    n = sum(bins)
    if not n:
        return empty_card(key, "No session was scored in this period", unit)
    if n == 1:
        return text_card(key, _passing(passed, n, scores), unit)
    low, high = min(lines, default=0.0), max(lines, default=0.0)
    marks = theme.steps(max(bins), 3)
    trace = {
        "type": "bar",
        "x": [2.5 + 5 * i for i in range(len(bins))],
        "y": list(bins),
        "width": 4.4,
        "marker": {
            "color": [
                theme.color_for(n, theme.BLUE if lines and 5 * i >= high else theme.PALE, theme.FAINT)
                for i in range(len(bins))
            ]
        },
    }
    shapes, notes = [], []
    if lines:
        shapes = [
            theme.rule_shape(
                x0=x,
                x1=x,
                y0=0,
                y1=1,
                yref="paper",
                layer="above",
                line={"color": theme.INK, "width": 1.2, "dash": "4px,3px"},
            )
            for x in {low, high}
        ]
        text = f"pass {number(low)}" if low == high else f"pass {number(low)}–{number(high)}"
        right = high <= 72
        notes = [
            theme.note(
                high if right else low,
                1.0,
                theme.bold(text),
                yref="paper",
                yanchor="bottom",
                xanchor="left" if right else "right",
                xshift=-2 if right else 2,
                font={"size": 10, "color": theme.INK},
            )
        ]
    chart = theme.chart(
        [trace],
        width=theme.HALF,
        height=theme.TALL,
        margin=(34, 20, 10, 22),
        shapes=shapes,
        annotations=notes,
        xaxis={"range": [0, 100], "tickvals": [0, 20, 40, 60, 80, 100]},
        yaxis=theme.marks(marks) | {"range": [0, marks[-1]], "showgrid": True},
    )
    numbers = [f"{5 * i} to {5 * i + 5}: {b}" for i, b in enumerate(bins) if b]
    return chart_card(key, _passing(passed, n, scores), unit, n, chart, numbers, things="scored session")


def _passing(passed: Ratio, n: int, scores: Spread) -> str:
    middle = "" if scores.median is None else f"; the median is {number(round(scores.median, 1))}"
    if not passed.whole:
        return f"{count(n, 'score')}{middle}"
    if passed.whole == 1:
        only = "" if scores.median is None else f": {number(round(scores.median, 1))}"
        return f"The one scored session {'passed' if passed.part else 'did not pass'}{only}"
    if passed.part in (0, passed.whole):
        passed_count = all_of(passed.whole) if passed.part else f"None of {passed.whole:,}"
        return f"{passed_count} scored sessions passed{middle}"
    return f"{share(passed)} scored sessions passed" if passed.whole < FEW else f"{ratio(passed)} passed{middle}"


def positions(found: Sequence[Scores]) -> Card:
    """Scores by position: boxes contain the middle half; a clearly highest one is highlighted."""
    key, unit = "positions", "Score by position; box: the middle half; at the right n"
    rows = [row for row in found if row.spread.n and row.spread.median is not None]
    if not rows:
        return empty_card(key, "No session was scored in this period", "Score by position")
    rows = sorted(rows, key=lambda row: -(row.spread.median or 0))
    best = clearly_first([row.spread for row in rows])
    n = sum(row.spread.n for row in rows)
    if n == 1:
        return text_card(key, _highest(rows, best), "Score by position")
    chart = boxes(
        [row.position for row in rows],
        [row.spread for row in rows],
        [row.outliers for row in rows],
        strong=0 if best else None,
        longest=140,
        ends=(0, 100),
        marks=[0, 25, 50, 75, 100],
    )
    numbers = [f"{row.position}: median {number(round(row.spread.median or 0, 1))}, n {row.spread.n}" for row in rows]
    return chart_card(key, _highest(rows, best), unit, n, chart, numbers, things="scored session")


def _highest(rows: Sequence[Scores], best: bool) -> Markup | str:
    medians = [round(row.spread.median or 0, 1) for row in rows]
    if len(rows) == 1:
        of_n = "one score" if rows[0].spread.n == 1 else f"median of {count(rows[0].spread.n, 'score')}"
        return name(rows[0].position, 30) + f": {of_n} {number(medians[0])}"
    if best:
        return name(rows[0].position, 34) + f" scores highest: median {number(medians[0])}"
    if medians[0] == medians[-1]:
        return f"{len(rows)} positions share the median {number(medians[0])}"
    return f"Medians of {len(rows)} positions: {number(medians[-1])} to {number(medians[0])}"


def clearly_first(spreads: Sequence[Spread]) -> bool:
    """Whether the first, of spreads sorted by median, is significantly above each of the others."""
    return len(spreads) > 1 and all(significance.medians_differ(spreads[0], other) for other in spreads[1:])


def boxes(
    labels: Sequence[str],
    spreads: Sequence[Spread],
    outliers: Sequence[Sequence[float]],
    *,
    strong: int | None,
    longest: int,
    ends: tuple[float, float],
    marks: Sequence[float],
    width: int = theme.HALF,
    row: int = 34,
) -> Chart:
    """Horizontal boxes, the first on top, n at the right; those with n < 20 are grey."""
    traces: list[theme.Figure] = []
    for at, one in enumerate(spreads):
        colour = theme.color_for(one.n, theme.BLUE if at == strong else theme.GREY)
        fill = theme.WASH if at == strong else "#f4f6fa"
        traces.append(
            {
                "type": "box",
                "orientation": "h",
                "y": [at],
                "q1": [one.first],
                "median": [one.median],
                "q3": [one.third],
                "lowerfence": [one.low],
                "upperfence": [one.high],
                "width": 0.56,
                "whiskerwidth": 0.5,
                "line": {"color": colour, "width": 1.2 if at != strong else 1.8},
                "fillcolor": fill,
            }
        )
    points = [(value, at) for at, values in enumerate(outliers) for value in values]
    if points:
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [value for value, _ in points],
                "y": [at for _, at in points],
                "marker": {"size": 3, "color": theme.FAINT},
                "cliponaxis": False,
            }
        )
    named, left = theme.row_labels(labels, longest)
    return theme.chart(
        traces,
        width=width,
        height=max(row * max(len(spreads), 3) + 24, theme.TALL if width == theme.HALF else 0),
        margin=(left, 2, 40, 22),
        xaxis=theme.marks(marks) | {"range": list(ends), "showgrid": True},
        yaxis=named,
        annotations=[
            theme.note(1.0, at, f"{one.n:,}", xref="paper", xanchor="left", xshift=6, yanchor="middle")
            for at, one in enumerate(spreads)
        ],
    )
