"""Line charts over weeks, compared with the period before; and the chart of completed interviews."""

from collections.abc import Sequence
from math import ceil, floor

from core.reports import formatting, significance
from core.reports.charts import theme
from core.reports.charts.card import Card, chart_card, empty_card, text_card
from core.reports.charts.weeks import MOST, Step, labels, steps, unit
from core.reports.data import Dashboard
from core.reports.document import Chart
from core.reports.formatting import FEW, PeriodNames, number

_MARGIN = (34, 14, 58, 22)


def completed(data: Dashboard, span: PeriodNames) -> Card:
    """Completed interviews by week, compared with the period before."""
    key, before = "completed", span.before
    now, then = data.totals.completed, data.previous.completed
    found, earlier = step_pairs(data)
    unit_text = f"Interviews completed, by {unit(found)}, beside {before}"
    if not now and not then:
        return empty_card(key, "No interviews were completed in this period", f"Interviews completed, beside {before}")
    if now + then < 3:
        return text_card(
            key, _completed_finding(now, then, 0, span), f"Interviews completed; {number(then)} {span.earlier}"
        )
    if len(found) < 2 or now < FEW:
        unit_text = f"Interviews completed, beside {before}"
        chart = two_bars([then, now], [number(then), number(now)], now + then, span)
    else:
        series = [step.count(lambda week: week.totals.completed) for step in found]
        past = [step.count(lambda week: week.totals.completed) for step in earlier]
        chart = line_chart(
            found, [float(n) for n in series], [float(n) for n in past], [number(n) for n in series], now
        )
        unit_text += "; hollow: cut by the period's ends" if any(step.cut for step in found) else ""
    uncut = [step.count(lambda week: week.totals.completed) for step in found if not step.cut]
    finding = _completed_finding(now, then, significance.trend(uncut), span)
    return chart_card(
        key, finding, unit_text, now, chart, [f"this {now}", f"before {then}"], things="completed interview"
    )


def _completed_finding(now: int, then: int, trend: int, span: PeriodNames) -> str:
    if not now:
        return f"No interview was completed, after {number(then)} {span.earlier}"
    if not significance.counts_differ(now, then):
        return formatting.completed(now, "interview") if now < FEW else f"{number(now)} interviews, no clear change"
    direction = {1: ", on a rising trend", -1: ", on a falling trend"}.get(trend, "")
    if then < FEW:
        return f"{number(now)} interviews, after {number(then)}{direction}"
    change = 100 * (now - then) / then
    size = number(abs(round(change, 1 if abs(change) < 9.95 else 0)))
    return f"{size}% {'more' if change > 0 else 'fewer'} interviews{direction}"


def step_pairs(data: Dashboard, size: int = 0) -> tuple[list[Step], list[Step]]:
    """Both periods' weeks, in steps of the same length, at least ``size`` weeks."""
    size = max(size, -(-max(len(data.weeks), len(data.previous_weeks)) // MOST), 1)
    return steps(data.weeks, data.stamp.period, size), steps(data.previous_weeks, None, size)


def line_chart(
    found: Sequence[Step],
    series: Sequence[float | None],
    past: Sequence[float | None],
    texts: Sequence[str],
    n: int,
    *,
    weak: Sequence[bool] = (),
    share: bool = False,
) -> Chart:
    """This period's line over the dashed line of the one before; the last value is printed beside its point."""
    past = past[: len(series)]
    known = [v for v in (*series, *past) if v is not None]
    low, high, marks = _scale(known, share)
    hollow = [step.cut for step in found] if not weak else list(weak)
    colour = theme.color_for(n, theme.BLUE)
    last = max((i for i, v in enumerate(series) if v is not None), default=0)
    few = len(series) <= 16
    before = {
        "type": "scatter",
        "mode": "lines",
        "x": list(range(len(past))),
        "y": list(past),
        "line": {"color": theme.FAINT, "width": 1.4, "dash": "3px,3px"},
    }
    this = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": list(range(len(series))),
        "y": list(series),
        "line": {"color": colour, "width": 2.2},
        "marker": {
            "size": [7 if i == last else 5 if h or few else 0.1 for i, h in enumerate(hollow)],
            "opacity": 1,
            "color": ["#ffffff" if h else colour for h in hollow],
            "line": {"color": colour, "width": 1.4},
        },
        "cliponaxis": False,
    }
    if not share:
        this |= {"fill": "tozeroy", "fillcolor": theme.WASH if n >= FEW else "#f3f4f7"}
    end = float(series[last] or 0)
    previous = [v for v in past if v is not None]
    notes = [_line_label(last, end, theme.bold(texts[last]), colour, 11)]
    if len(previous) > 1:
        at = max(i for i, v in enumerate(past) if v is not None)
        apart = (high - low) * 15 / (theme.TALL - _MARGIN[1] - _MARGIN[3])
        y = previous[-1]
        if at >= last - 1 and abs(y - end) < apart:
            y = end - apart if y <= end and end - apart >= low else end + apart
        notes.append(_line_label(max(at, last), y, "before", theme.GREY, 10))
    return theme.chart(
        [this, before],
        width=theme.HALF,
        height=theme.TALL,
        margin=_MARGIN,
        xaxis=theme.ticks(labels(found), 5)
        | {"range": [-0.3, len(series) - 0.7], "ticks": "outside", "ticklen": 3, "tickcolor": theme.RULE},
        yaxis=theme.marks(marks, "%" if share else "") | {"range": [low, high], "showgrid": True},
        annotations=notes,
    )


def _line_label(x: float, y: float, text: str, colour: str, size: float) -> theme.Figure:
    return theme.note(x, y, text, xanchor="left", yanchor="middle", xshift=7, font={"size": size, "color": colour})


def _scale(known: Sequence[float], share: bool) -> tuple[float, float, list[float]]:
    """The axis: counts start at zero; shares cover the values, at least _LEAST points, so that noise stays small."""
    if not share:
        marks = theme.steps(max(known, default=1) or 1, 5)
        return 0, marks[-1], marks
    low = max(0, 10 * floor((min(known, default=0) - 4) / 10))
    high = min(100, 10 * ceil((max(known, default=100) + 4) / 10))
    while high - low < _LEAST:
        low, high = (low - 10, high) if high == 100 else (low, high + 10)
    size = 10 if high - low <= 50 else 20
    return low, high + (high - low) / 60, [float(at) for at in range(high, low - 1, -size)]


_LEAST = 40
"""Minimum range of an axis of shares, in percentage points."""


def two_bars(values: Sequence[float], texts: Sequence[str], n: int, span: PeriodNames, high: float = 0) -> Chart:
    """Two bars, instead of a line with one point."""
    trace = {
        "type": "bar",
        "x": [0, 1],
        "y": list(values),
        "text": list(texts),
        "textposition": "outside",
        "cliponaxis": False,
        "textfont": {"size": 11, "color": theme.INK},
        "marker": {"color": [theme.FAINTER, theme.color_for(n, theme.BLUE)]},
    }
    return theme.chart(
        [trace],
        width=theme.HALF,
        height=theme.TALL,
        margin=(34, 20, 34, 24),
        bargap=0.5,
        xaxis={"tickvals": [0, 1], "ticktext": [span.before, span.now], "range": [-0.6, 1.6]},
        yaxis=theme.axis(range=[0, high or theme.top(values)]),
    )
