"""Heat maps, drawn as bars, because plotly's own heat map is a bitmap."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from zoneinfo import ZoneInfo

from core.reports.charts import theme
from core.reports.charts.card import Card, chart_card, empty_card, text_card
from core.reports.data import Period, SkillWeek
from core.reports.document import Chart
from core.reports.formatting import FEW, count, number, percent

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_BLUES = (0xF1, 0xF4, 0xFD), (0x1D, 0x3A, 0x9C)
_GREYS = (0xF1, 0xF2, 0xF5), (0xA9, 0xB1, 0xBF)
_SKILLS, _WEEKS = 12, 13


def week(found: Mapping[tuple[int, int], int], period: Period) -> Card:
    """Sessions by weekday and hour of their planned start."""
    key, unit = "week", f"Planned starts by weekday and hour, {period.zone}"
    n = sum(found.values())
    if not n:
        return empty_card(key, "No session had a planned start in this period", unit)
    sessions_by_hour = {cell: sessions for cell, sessions in found.items() if sessions}
    if n == 1:
        (d, h), *_ = sessions_by_hour
        return text_card(key, f"The one session was planned for {_DAYS[d - 1]} {h}:00", unit)
    first, last = min(9, *(h for _, h in sessions_by_hour), 9), max(16, *(h for _, h in sessions_by_hour), 16)
    days = _weekdays(period) or list(range(1, 6 if max(d for d, _ in sessions_by_hour) < 6 else 8))
    highest = max(sessions_by_hour.values())
    cells = [
        (h - first, at, sessions_by_hour.get((d, h), 0)) for at, d in enumerate(days) for h in range(first, last + 1)
    ]
    wide = last - first > 11
    chart = _cells(
        [(x, y, v / highest if v else None, _short(v) if v else "") for x, y, v in cells],
        rows=[_DAYS[d - 1] for d in days],
        columns=[str(h) for h in range(first, last + 1)],
        left=34,
        row=38 if len(days) < 6 else 30,
        width=theme.WIDE if wide else theme.HALF,
        grey=n < FEW,
    )
    busiest = [cell for cell, sessions in sessions_by_hour.items() if sessions == highest]
    numbers = [f"{_DAYS[d - 1]} {h}:00 {sessions_by_hour[d, h]:,}" for d, h in sorted(sessions_by_hour)]
    d, h = busiest[0]
    if len(busiest) > 1 or n < FEW:
        finding = (
            f"{number(n)} sessions over {len(sessions_by_hour)} hours of the week"
            if len(sessions_by_hour) > 1
            else (f"All {number(n)} sessions: {_DAYS[d - 1]} {h}:00")
        )
    else:
        finding = f"Busiest hour: {_DAYS[d - 1]} {h}:00, {highest:,} of {n:,}"
    return chart_card(key, finding, unit, n, chart, numbers, wide=wide)


def _weekdays(period: Period) -> list[int]:
    """The weekdays of a period of fewer than seven days; empty for a longer one."""
    zone = ZoneInfo(period.zone)
    first, last = period.start.astimezone(zone), (period.end - timedelta(microseconds=1)).astimezone(zone)
    days = (last.date() - first.date()).days + 1
    return sorted((first.weekday() + i) % 7 + 1 for i in range(days)) if 0 < days < 7 else []


def skills(found: Sequence[SkillWeek]) -> Card:
    """Mean share of points by skill and week; the weekly means of fewer than twenty answers are grey."""
    key, unit = "skills", "Mean share of points by skill and week, in per cent; grey: n < 20 answers"
    rows = [one for one in found if one.n]
    if not rows:
        return empty_card(key, "No answer was scored in this period", unit, wide=True)
    mondays, groups = _group_weeks(found)
    sums: dict[str, tuple[float, int]] = {}
    for one in rows:
        points, n = sums.get(one.skill, (0.0, 0))
        sums[one.skill] = points + (one.mean or 0) * one.n, n + one.n
    order = sorted(sums, key=lambda skill: -sums[skill][0] / sums[skill][1])
    every = len(order)
    order = sorted(sorted(order, key=lambda skill: -sums[skill][1])[:_SKILLS], key=order.index)
    cells: list[tuple[float, int, float | None, str]] = []
    for y, skill in enumerate(order):
        for x in range(len(mondays)):
            points, n = groups.get((skill, x), (0.0, 0))
            mean = points / n if n else 0.0
            cells.append(
                (
                    x,
                    y,
                    _signed_shade(mean, n) if n else None,
                    f"{100 * mean:.0f}" if n else "–",
                )
            )
        points, n = sums[skill]
        cells.append(
            (
                len(mondays) + 0.4,
                y,
                None,
                theme.bold(f"{100 * points / n:.0f}") if n >= FEW else theme.grey(f"{100 * points / n:.0f}"),
            )
        )
    n = sum(one.n for one in rows)
    chart = _cells(
        cells,
        rows=[theme.label(skill, 112) for skill in order],
        columns=[*[f"{monday:%d %b}" for monday in mondays]],
        left=122,
        row=25,
        width=theme.WIDE,
        extra="all",
        most=13,
    )
    finding = _skill_finding([(skill, *sums[skill]) for skill in order])
    if every > len(order):
        unit += f"; the {len(order)} most asked of {every}"
    if len(mondays) < len({one.monday for one in found}):
        unit += "; several weeks put together"
    numbers = [f"{skill} {percent(sums[skill][0], sums[skill][1])} of {sums[skill][1]:,}" for skill in order]
    return chart_card(key, finding, unit, n, chart, numbers, wide=True, things="scored answer")


def _signed_shade(mean: float, n: int) -> float:
    """A mean as a shade, which starts at a fifth of the points; negative where n is too small."""
    shade = max(0.01, (mean - 0.2) / 0.8)
    return shade if n >= FEW else -shade


def _skill_finding(sums: Sequence[tuple[str, float, int]]) -> str:
    known = [(points / n, skill, n) for skill, points, n in sums if n >= FEW]
    if len(sums) == 1:
        _, points, n = sums[0]
        return f"One skill: {100 * points / n:.0f}% of points over {count(n, 'answer')}"
    if len(known) < 2:
        return f"{len(sums)} skills, too few answers to compare"
    return f"Skills earn {100 * known[-1][0]:.0f}% to {100 * known[0][0]:.0f}% of their points"


def _group_weeks(rows: Sequence[SkillWeek]) -> tuple[list[date], dict[tuple[str, int], tuple[float, int]]]:
    """Weeks merged into at most _WEEKS columns; (skill, column) → sum of shares, number of answers."""
    mondays = sorted({one.monday for one in rows})
    size = -(-len(mondays) // _WEEKS)
    column = {monday: at // size for at, monday in enumerate(mondays)}
    groups: dict[tuple[str, int], tuple[float, int]] = {}
    for one in (one for one in rows if one.n):
        cell = one.skill, column[one.monday]
        points, n = groups.get(cell, (0.0, 0))
        groups[cell] = points + (one.mean or 0) * one.n, n + one.n
    return mondays[::size], groups


def _cells(
    cells: Sequence[tuple[float, int, float | None, str]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    left: int,
    row: int,
    width: int,
    grey: bool = False,
    extra: str = "",
    most: int = 24,
) -> Chart:
    """Cells of (column, row, shade from 0 to 1, text): None is white, a negative shade grey."""
    shades = [_shade(v, grey) for _, _, v, _ in cells]
    wide = len(columns) + (1.4 if extra else 0)
    # so that a few columns do not become too wide
    room = max(wide, 6 if width == theme.HALF else 8)
    marked = theme.ticks(columns, most)
    trace = {
        "type": "bar",
        "x": [x for x, _, _, _ in cells],
        "base": [y - 0.47 for _, y, _, _ in cells],
        "y": [0.94] * len(cells),
        "width": 0.95,
        "text": [text for _, _, _, text in cells],
        "textposition": "inside",
        "insidetextanchor": "middle",
        "textangle": 0,
        "constraintext": "none",
        "insidetextfont": {
            "size": 9.5,
            "color": ["#ffffff" if v is not None and v > 0.5 and not grey else theme.INK for _, _, v, _ in cells],
        },
        "marker": {"color": shades},
    }
    return theme.chart(
        [trace],
        width=width,
        height=row * len(rows) + 23,
        margin=(left, 2, 4, 21),
        xaxis={
            "tickvals": [*marked["tickvals"], *([len(columns) + 0.4] if extra else [])],
            "ticktext": [*marked["ticktext"], *([extra] if extra else [])],
            "range": [-0.5, room - 0.5],
        },
        yaxis={
            "tickvals": list(range(len(rows))),
            "ticktext": list(rows),
            "range": [len(rows) - 0.5, -0.5],
            "tickfont": {"size": theme.SIZE if left > 60 else 10, "color": theme.TEXT},
            "ticklabelstandoff": 5,
        },
    )


def _shade(value: float | None, grey: bool) -> str:
    if value is None:
        return "#ffffff"
    low, high = _GREYS if grey or value < 0 else _BLUES
    mixed = (round(a + (b - a) * min(1.0, abs(value))) for a, b in zip(low, high, strict=True))
    return "#{:02x}{:02x}{:02x}".format(*mixed)


def _short(value: int) -> str:
    """A count that fits a cell."""
    if value < 1000:
        return str(value)
    if value < 999_500:
        return f"{value / 1000:.1f}k" if value < 9950 else f"{value / 1000:.0f}k"
    return f"{value / 1_000_000:.0f}M"
