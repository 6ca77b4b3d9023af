"""Outcomes by week, as bars stacked to 100 %, with labels at the right end."""

from collections.abc import Sequence

from core.reports import formatting
from core.reports.charts import theme
from core.reports.charts.bars import OUTCOMES
from core.reports.charts.card import Card, chart_card, empty_card, text_card
from core.reports.charts.weeks import Step, labels, steps, unit, weeks_per_step
from core.reports.data import Period, Ratio, Week
from core.reports.formatting import FEW, all_of, percent, share

_SHADES = {
    "completed": theme.DEEP,
    "abandoned": "#6f8ee6",
    "no_show": "#c2571c",
    "expired": "#aab4c6",
    "cancelled": "#d3d9e4",
    "open": "#eff2f7",
}
"""From dark to light, so that neighbours differ in black and white, too."""


def outcomes(weeks: Sequence[Week], previous: Sequence[Week], period: Period) -> Card:
    """Shares of the outcomes of each week's sessions; a single week is compared with the period before."""
    key, span = "weekly_outcomes", formatting.period_names(period)
    before = span.before
    whole = sum(sum(week.outcomes.values()) for week in weeks)
    size = weeks_per_step(weeks, whole)
    found = steps(weeks, period, size if previous else max(1, min(size, len(weeks) // 3)))
    if not whole:
        return empty_card(key, "No session had its time in this period", "What became of the sessions of each week")
    if whole == 1:
        kinds = [kind for step in found for kind, n in step.outcomes().items() if n]
        return text_card(
            key, f"The one session: {OUTCOMES.get(kinds[0], kinds[0])}", "What became of the period's sessions"
        )
    by_week = len(found) > 2 and (whole >= FEW or not previous)
    if not by_week:
        found = [Step(week[0].monday, tuple(week)) for week in (previous, weeks) if week]
        names = [before, span.now][-len(found) :]
        unit_text = "What became of the period's sessions" + (f", beside {before}" if len(found) > 1 else "")
    else:
        names = labels(found)
        unit_text = f"Outcomes by {unit(found)}; named: shares of the whole period"
    sums = [step.outcomes() for step in found]
    faint = any(0 < sum(one.values()) < FEW for one in sums)
    this = sums if by_week else sums[-1:]
    total = {kind: sum(one.get(kind, 0) for one in this) for kind in _SHADES}
    kinds = [kind for kind in _SHADES if any(one.get(kind) for one in sums)]
    traces = [
        {
            "type": "bar",
            "x": list(range(len(sums))),
            "y": [100 * one.get(kind, 0) / (sum(one.values()) or 1) for one in sums],
            "marker": {
                "color": _SHADES[kind],
                "opacity": [1 if sum(one.values()) >= FEW else 0.45 for one in sums],
                "line": {"color": "#ffffff" if kind != "open" else theme.RULE, "width": 0.6},
            },
        }
        for kind in kinds
    ]
    height, bottom, up = theme.TALL, 22, 8
    chart = theme.chart(
        traces,
        width=theme.HALF,
        height=height,
        margin=(32, up, 104, bottom),
        barmode="stack",
        bargap=0.12 if len(sums) > 3 else 0.45,
        xaxis=theme.ticks(names, 4) | {"range": [-0.6, max(len(sums), 2) - 0.4]},
        yaxis=theme.marks([0, 50, 100], "%") | {"range": [0, 100]},
        annotations=_names(kinds, sums[-1], total, height - bottom - up),
    )
    numbers = [f"{OUTCOMES[kind]} {percent(total[kind], whole)}" for kind in kinds]
    unit_text += "; faint: n < 20" if faint and by_week else ""
    return chart_card(key, _finding(total, whole), unit_text, whole, chart, numbers)


def _finding(total: dict[str, int], whole: int) -> str:
    done, missed = Ratio(total["completed"], whole), Ratio(total["no_show"], whole)
    if done.part == whole:
        return f"{all_of(whole)} sessions were completed"
    if total["open"] == whole:
        return f"{all_of(whole)} sessions are still open"
    if whole < FEW:
        return f"{share(done)} sessions {'was' if done.part == 1 else 'were'} completed"
    also = f", {share(missed)} no-shows" if missed.part else ", no no-shows"
    return f"{share(done)} completed{also}"


def _names(kinds: Sequence[str], last: dict[str, int], total: dict[str, int], pixels: int) -> list[theme.Figure]:
    """Each outcome's label beside its part of the last bar, moved as far as needed so that labels do not overlap."""
    whole, everything = sum(last.values()) or 1, sum(total.values()) or 1
    low, middles = 0.0, []
    for kind in kinds:
        share = 100 * last.get(kind, 0) / whole
        middles.append(low + share / 2)
        low += share
    apart = 100 * 14 / pixels
    return [
        theme.note(
            1.0,
            at,
            f"{OUTCOMES[kind]} {theme.grey(percent(total[kind], everything))}",
            xref="paper",
            xanchor="left",
            yanchor="middle",
            font={"size": 10, "color": theme.INK},
        )
        for kind, at in zip(kinds, theme.spread_labels(middles, apart, 3, 97), strict=True)
    ]
