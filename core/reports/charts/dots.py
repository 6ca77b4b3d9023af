"""Dot plots: waiting times, questions and skills."""

from collections.abc import Sequence
from math import log10
from typing import NamedTuple

from markupsafe import Markup

from core.reports import significance
from core.reports.charts import theme
from core.reports.charts.card import Card, chart_card, empty_card
from core.reports.data import QuestionStats, SkillStats, Totals, Wait
from core.reports.document import Chart
from core.reports.formatting import FEW, count, hours, name

_MARKS = (
    (0.25, "15 min"),
    (1, "1 h"),
    (6, "6 h"),
    (24, "1 d"),
    (72, "3 d"),
    (240, "10 d"),
    (720, "30 d"),
    (2160, "90 d"),
    (8760, "1 y"),
)


class Row(NamedTuple):
    """One line of a dot plot: the highlighted value and what it is compared with, in the axis' units."""

    label: str
    value: float | None
    other: float | None
    n: int
    text: str
    base: int
    """The n of the comparison; ``n`` is that of the value."""


def waits(now: Totals, then: Totals, before: str) -> Card:
    """Median and 90th percentile of the three waits, with the medians of the period before."""
    key, unit = "waits", f"Dot: median; line: to the 90th percentile; upright: the median in {before}"
    rows = [
        ("Scheduling delay", "start − invited", now.scheduling_delay, then.scheduling_delay),
        ("Time to decision", "decided − ended", now.time_to_decision, then.time_to_decision),
        ("Time to hire", "hired − applied", now.time_to_hire, then.time_to_hire),
    ]
    n = max(wait.n for _, _, wait, _ in rows)
    if not n:
        return empty_card(key, "Nothing was scheduled, decided or hired in this period", unit, wide=True)
    known = [v for _, _, a, b in rows for v in (a.median, a.p90, b.median) if v and v > 0]
    low, high = _axis_range(known)
    traces: list[theme.Figure] = []
    notes = []
    for y, (title, meaning, wait, past) in enumerate(rows):
        label = f"{theme.bold(title)}  {theme.grey(meaning)}"
        notes.append(
            theme.note(
                0, y, label, xref="paper", xanchor="right", xshift=-14, font={"color": theme.INK, "size": theme.SIZE}
            )
        )
        if not wait.n or wait.median is None:
            notes.append(theme.note(0, y, "– none in this period", xref="paper", xanchor="left"))
            continue
        median, p90 = (max(v or 0.05, 0.05) for v in (wait.median, wait.p90))
        colour = theme.color_for(wait.n, theme.BLUE)
        traces.append(
            {"type": "scatter", "mode": "lines", "x": [median, p90], "y": [y, y], "line": {"color": colour, "width": 3}}
        )
        if past.n and past.median:
            traces.append(_marks([past.median], [y], theme.GREY, theme.GREY, 15, "line-ns"))
        traces.append(_marks([median], [y], colour, "#ffffff", 11))
        tail = f"p90 {hours(wait.p90)} · n {wait.n:,}" if wait.n > 1 else "n 1"
        notes.append(
            theme.note(
                log10(max(p90, past.median or 0)),
                y,
                f"{theme.bold(hours(wait.median))}  {theme.grey(tail)}",
                xanchor="left",
                xshift=10,
                bgcolor="#ffffff",
                font={"size": theme.SIZE, "color": theme.INK},
            )
        )
    marks = [(at, label) for at, label in _MARKS if low <= at <= high]
    chart = theme.chart(
        traces,
        width=theme.WIDE,
        height=30 * len(rows) + 24,
        margin=(194, 2, 166, 22),
        xaxis={
            "type": "log",
            "range": [log10(low), log10(high)],
            "tickvals": [at for at, _ in marks],
            "ticktext": [label for _, label in marks],
            "showgrid": True,
        },
        yaxis=theme.axis(range=[len(rows) - 0.5, -0.5]),
        annotations=notes,
    )
    numbers = [f"{title}: median {hours(w.median)}, p90 {hours(w.p90)}, n {w.n}" for title, _, w, _ in rows]
    return chart_card(
        key, _finding([(t, a, b) for t, _, a, b in rows]), unit, n, chart, numbers, wide=True, things="case"
    )


def _finding(rows: Sequence[tuple[str, Wait, Wait]]) -> str:
    moved = [(t, a, b) for t, a, b in reversed(rows) if significance.waits_differ(a, b)]
    if moved:
        title, a, b = moved[0]
        direction = "fell" if (a.median or 0) < (b.median or 0) else "rose"
        return f"{title} {direction} to a median of {hours(a.median)} from {hours(b.median)}"
    title, a, _ = next(row for row in reversed(rows) if row[1].n)
    return f"{title}: a median of {hours(a.median)}" if a.n > 1 else f"{title}: {hours(a.median)} in one case"


def _axis_range(known: Sequence[float]) -> tuple[float, float]:
    low, high = max(min(known, default=1), 0.05), max(max(known, default=24), 0.1)
    below = [at for at, _ in _MARKS if at <= low]
    above = [at for at, _ in _MARKS if at >= high]
    return (below[-1] if below else low * 0.8) * 0.85, (above[0] if above else high) * 1.1


def questions(found: Sequence[QuestionStats]) -> Card:
    """Difficulty (mean share of points) and share of answers of each question, the hardest first."""
    key, unit = "questions", "Filled: mean share of points (low is hard); hollow: answered, of those who got there"
    rows = [q for q in found if q.reached or q.scored]
    if not rows:
        return empty_card(key, "No question was reached in this period", unit, wide=True)
    rows = sorted(rows, key=lambda q: (q.difficulty is None, q.difficulty or 0, q.ordinal))
    every, rows = len(rows), rows[:_ROWS]
    plotted = [
        Row(
            f"Q{q.ordinal}  {q.text}",
            None if q.difficulty is None else 100 * q.difficulty,
            100 * q.answered / q.reached if q.reached else None,
            q.scored,
            f"n {q.scored:,}",
            q.scored,
        )
        for q in rows
    ]
    chart = _rows(plotted, 280, shape="circle")
    unit += f"; the {len(rows)} hardest of {every}" if every > len(rows) else ""
    known = [q for q in rows if q.scored >= FEW and q.difficulty is not None]
    n = max(q.reached for q in rows)
    if hardest(known):
        finding = f"Question {known[0].ordinal} is the hardest: {100 * (known[0].difficulty or 0):.0f}% of its points"
    elif len(known) > 1:
        ends = [100 * (q.difficulty or 0) for q in (known[0], known[-1])]
        finding = f"Questions earn {ends[0]:.0f}% to {ends[1]:.0f}% of their points"
    else:
        finding = (
            f"{count(every, 'question')}, too few scores to compare"
            if n < FEW
            else f"{count(every, 'question')} reached"
        )
    numbers = [
        f"question {q.ordinal}: {'–' if q.difficulty is None else f'{100 * q.difficulty:.0f}%'} of points, "
        f"answered {q.answered} of {q.reached}"
        for q in rows
    ]
    return chart_card(key, finding, unit, n, chart, numbers, wide=True)


def hardest(known: Sequence[QuestionStats]) -> bool:
    """Whether the first, of questions sorted by difficulty, is clearly harder than the second."""
    if len(known) < 2:
        return False
    first, second = known[:2]
    return significance.means_differ(first.difficulty or 0, first.scored, second.difficulty or 0, second.scored)


_ROWS = 24


def skills(found: Sequence[SkillStats]) -> list[Card]:
    """For each position, the candidate's share of points and the median of the other candidates."""
    cards = []
    for at, position in enumerate(dict.fromkeys(one.position for one in found)):
        rows = sorted((one for one in found if one.position == position), key=lambda one: -one.mean)[:_ROWS]
        others = max(one.others for one in rows)
        unit = "Share of points; filled: the candidate; hollow: " + (
            f"median of {count(others, 'other')} at this position" if others else "nobody else to compare with yet"
        )
        plotted = [
            Row(
                one.skill,
                100 * one.mean,
                None if one.median is None else 100 * one.median,
                one.n,
                count(one.n, "answer"),
                one.others,
            )
            for one in rows
        ]
        chart = _rows(plotted, 200, shape="diamond")
        compared = [one for one in rows if one.median is not None and one.others >= FEW]
        above = sum(one.mean > (one.median or 0) for one in compared)
        title = name(position, 40)
        if compared:
            finding: Markup = title + f": above the median in {above} of {count(len(compared), 'skill')}"
        else:
            finding = title + f": {count(len(rows), 'skill')}, too few others to compare"
        numbers = [
            f"{one.skill} {100 * one.mean:.0f}%" + ("" if one.median is None else f", median {100 * one.median:.0f}%")
            for one in rows
        ]
        cards.append(
            chart_card(f"skills_{at}", finding, unit, others, chart, numbers, wide=True, things="other candidate")
        )
    return cards


def _rows(rows: Sequence[Row], longest: int, *, shape: str) -> Chart:
    """Lines from 0 to 100 %, each with its two marks, and the value as text beside it."""
    traces: list[theme.Figure] = []
    notes, shapes = [], []
    for y, row in enumerate(rows):
        shapes.append(theme.rule_shape(x0=0, x1=100, y0=y, y1=y, line={"color": theme.RULE, "width": 1}))
        if row.text:
            notes.append(theme.note(1, y, row.text, xref="paper", xanchor="left", xshift=34))
        if row.value is not None:
            notes.append(
                theme.note(
                    1,
                    y,
                    theme.bold(f"{row.value:.0f}%"),
                    xref="paper",
                    xanchor="right",
                    xshift=30,
                    font={"size": 10, "color": theme.color_for(row.n, theme.INK, theme.GREY)},
                )
            )
        else:
            notes.append(theme.note(1, y, "–", xref="paper", xanchor="right", xshift=30))
    others = [(row.other, y) for y, row in enumerate(rows) if row.other is not None]
    if others:
        traces.append(_marks([x for x, _ in others], [y for _, y in others], "#ffffff", theme.GREY, 8, shape))
    values = [
        (row.value, y, theme.color_for(row.base, theme.BLUE)) for y, row in enumerate(rows) if row.value is not None
    ]
    if values:
        traces.append(
            _marks([x for x, _, _ in values], [y for _, y, _ in values], [c for _, _, c in values], "#ffffff", 10)
        )
    named, left = theme.row_labels([row.label for row in rows], longest, 1)
    return theme.chart(
        traces,
        width=theme.WIDE,
        height=(22 if len(rows) < 16 else 15) * len(rows) + 24,
        margin=(left, 2, 92, 22),
        shapes=shapes,
        annotations=notes,
        xaxis=theme.marks([0, 25, 50, 75, 100], "%") | {"range": [-1, 101]},
        yaxis=named,
    )


def _marks(
    x: Sequence[float | None],
    y: Sequence[float],
    fill: str | Sequence[str],
    edge: str,
    size: float,
    shape: str = "circle",
) -> theme.Figure:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": list(x),
        "y": list(y),
        "marker": {"size": size, "symbol": shape, "color": fill, "line": {"color": edge, "width": 1.6}},
        "cliponaxis": False,
    }
