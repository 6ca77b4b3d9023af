"""Charts over time: answer times, and a candidate's sessions and scores by date."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from core.reports.charts import scores, theme
from core.reports.charts.bars import OUTCOMES
from core.reports.charts.card import Card, chart_card, empty_card, text_card
from core.reports.data import QuestionStats, SessionEntry
from core.reports.formatting import FEW, all_of, count, minutes, number

_MOST = 14
_BOXES = 24


def answers(found: Sequence[QuestionStats]) -> Card:
    """The time to answer each question, as boxes in minutes."""
    key, unit = "answers", "Minutes to answer; box: middle half; n at the right"
    rows = [q for q in found if q.seconds.n and q.seconds.median is not None]
    if not rows:
        return empty_card(key, "No answer was timed in this period", unit, wide=True)
    every, rows = len(rows), rows[:_BOXES]
    spreads = [q.seconds._replace(**{k: getattr(q.seconds, k) / 60 for k in q.seconds._fields[1:]}) for q in rows]
    order = sorted(range(len(rows)), key=lambda i: -(spreads[i].median or 0))
    longest = scores.clearly_first([spreads[i] for i in order])
    marks = theme.steps(max(s.high or 0 for s in spreads), 5)
    chart = scores.boxes(
        [f"Q{q.ordinal}  {q.text}" for q in rows],
        spreads,
        [],
        strong=order[0] if longest else None,
        longest=280,
        ends=(0, marks[-1]),
        marks=marks,
        width=theme.WIDE,
        row=22 if len(rows) < 16 else 15,
    )
    first = rows[order[0]]
    n = sum(q.seconds.n for q in rows)
    if longest:
        finding = f"Question {first.ordinal} takes longest: a median of {minutes(first.seconds.median)}"
    elif len(rows) == 1:
        finding = f"One question answered: {minutes(first.seconds.median)}"
    elif max(q.seconds.n for q in rows) < FEW:
        finding = f"Times of {len(rows)} questions, too few to compare"
    else:
        ends = [minutes(rows[i].seconds.median) for i in (order[-1], order[0])]
        finding = f"Medians lie between {ends[0]} and {ends[1]}" if ends[0] != ends[1] else f"Medians are all {ends[0]}"
    unit += f"; the first {len(rows)} of {every} questions" if every > len(rows) else ""
    numbers = [f"question {q.ordinal}: median {minutes(q.seconds.median)}, n {q.seconds.n}" for q in rows]
    return chart_card(key, finding, unit, n, chart, numbers, wide=True, things="timed answer")


def timeline(found: Sequence[SessionEntry], zone: str) -> Card:
    """Each session on a time axis: a line from its invitation to its start, with its status."""
    key, unit = "timeline", "Thin: from invitation to start; dot: planned or actual start, with what became of it"
    if not found:
        return empty_card(key, "No sessions in this period", unit, wide=True)
    rows = list(found[-_MOST:])
    local = ZoneInfo(zone)
    ends = [
        [
            at.astimezone(local).replace(tzinfo=None)
            for at in (row.invited_at, row.started_at or row.scheduled_start or row.ended_at or row.invited_at)
        ]
        for row in rows
    ]
    low, high = min(min(pair) for pair in ends), max(max(pair) for pair in ends)
    pad = max((high - low) * 0.04, timedelta(days=1))
    low, high = low - pad, high + pad
    traces: list[theme.Figure] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [_iso(x) for pair in ends for x in (*pair, None)],
            "y": [y for at in range(len(rows)) for y in (at, at, None)],
            "line": {"color": theme.RULE, "width": 2},
        }
    ]
    traces.append(
        {
            "type": "scatter",
            "mode": "markers",
            "x": [_iso(pair[1]) for pair in ends],
            "y": list(range(len(rows))),
            "marker": {
                "size": 10,
                "color": [theme.BLUE if row.status == "completed" else "#ffffff" for row in rows],
                "line": {
                    "color": [theme.BLUE if row.status == "completed" else theme.GREY for row in rows],
                    "width": 1.8,
                },
            },
            "cliponaxis": False,
        }
    )
    notes = [
        theme.note(1, at, _status(row), xref="paper", xanchor="left", xshift=14, font={"size": 10, "color": theme.INK})
        for at, row in enumerate(rows)
    ]
    places, texts = _dates(low, high)
    named, left = theme.row_labels([row.interview for row in rows], 190)
    chart = theme.chart(
        traces,
        width=theme.WIDE,
        height=24 * max(len(rows), 3) + 24,
        margin=(left, 2, 150, 22),
        xaxis={
            "type": "date",
            "range": [_iso(low), _iso(high)],
            "tickvals": places,
            "ticktext": texts,
            "showgrid": True,
        },
        yaxis=named,
        annotations=notes,
    )
    done = sum(row.status == "completed" for row in found)
    if len(found) == 1:
        finding = f"One session: {OUTCOMES.get(found[0].status, found[0].status.replace('_', ' '))}"
    elif not done:
        finding = f"{count(len(found), 'session')}, none completed"
    else:
        finding = f"{all_of(len(found)) if done == len(found) else f'{done} of {len(found)}'} sessions completed"
    unit += f"; the newest {len(rows)} of {len(found)}" if len(found) > len(rows) else ""
    numbers = [f"{row.interview}: {_plain_status(row)}" for row in rows]
    return chart_card(key, finding, unit, max(len(found), FEW), chart, numbers, wide=True)


def trend(found: Sequence[SessionEntry]) -> Card:
    """Scores in the order of the sessions, over the band of passing scores of each."""
    key, unit = "trend", "Score of each scored session, oldest first, 0–100; band: passes"
    every = [row for row in found if row.score is not None]
    if not every:
        return empty_card(key, "No session is scored yet", unit, wide=True)
    if len(every) == 1:
        ok = (every[0].score or 0) >= every[0].pass_score
        finding = f"One score: {number(round(every[0].score or 0, 1))}, {'' if ok else 'not '}passed"
        return text_card(key, finding, f"Passes at {number(every[0].pass_score)} of 100", wide=True)
    rows = every[-_MOST:]
    values = [row.score or 0.0 for row in rows]
    passed = [row.score is not None and row.score >= row.pass_score for row in rows]
    shapes = [
        {
            "type": "rect",
            "layer": "below",
            "x0": i - 0.5,
            "x1": i + 0.5,
            "y0": row.pass_score,
            "y1": 100,
            "fillcolor": theme.WASH,
            "line": {"width": 0},
        }
        for i, row in enumerate(rows)
    ]
    shapes += [
        theme.rule_shape(
            x0=i - 0.5,
            x1=i + 0.5,
            y0=row.pass_score,
            y1=row.pass_score,
            line={"color": theme.INK, "width": 1.1, "dash": "4px,3px"},
        )
        for i, row in enumerate(rows)
    ]
    room = max(len(rows), 4)
    trace = {
        "type": "scatter",
        "mode": "lines+markers" if len(rows) > 1 else "markers",
        "x": list(range(len(rows))),
        "y": values,
        "line": {"color": theme.FAINT, "width": 1.4},
        "marker": {
            "size": 10,
            "color": [theme.BLUE if ok else "#ffffff" for ok in passed],
            "line": {"color": theme.BLUE, "width": 2},
        },
        "cliponaxis": False,
    }
    labels = [
        f"{theme.label(row.interview, 0.86 * (theme.WIDE - 110) / room, 9.5)}<br>{theme.grey(_day(row))}"
        for row in rows
    ]
    if len(rows) > 8:
        labels = [theme.grey(_day(row)) for row in rows]
    notes = [
        theme.note(
            i,
            v,
            theme.bold(number(round(v, 1))),
            yanchor="bottom" if ok else "top",
            yshift=7 if ok else -7,
            font={"size": 10.5, "color": theme.INK},
        )
        for i, (v, ok) in enumerate(zip(values, passed, strict=True))
    ]
    notes.append(
        theme.note(
            len(rows) - 0.5,
            rows[-1].pass_score,
            f"pass {number(rows[-1].pass_score)}",
            xanchor="left",
            xshift=4,
            font={"size": 10, "color": theme.INK},
        )
    )
    chart = theme.chart(
        [trace],
        width=theme.WIDE,
        height=210,
        margin=(34, 16, 64, 24 if len(rows) > 8 else 38),
        shapes=shapes,
        annotations=notes,
        xaxis=theme.ticks(labels, 8) | {"range": [-0.5, room - 0.5]},
        yaxis=theme.marks([0, 25, 50, 75, 100]) | {"range": [0, 102], "showgrid": True},
    )
    good = sum(row.score is not None and row.score >= row.pass_score for row in every)
    passed_count = all_of(len(every)) if good == len(every) else f"{good or 'None'} of {len(every)}"
    finding = f"{passed_count} scored sessions passed"
    unit += "; filled: passed"
    numbers = [f"{row.interview}: {number(round(row.score or 0, 1))}, line {number(row.pass_score)}" for row in rows]
    return chart_card(key, finding, unit, max(len(every), FEW), chart, numbers, wide=True, things="scored session")


def _day(row: SessionEntry) -> str:
    at = row.started_at or row.scheduled_start or row.invited_at
    return f"{at.day} {at:%b %y}"


def _status(row: SessionEntry) -> str:
    parts = _plain_status(row).split("; ")
    return parts[0] + "".join(f"  {theme.grey(more)}" for more in parts[1:])


def _plain_status(row: SessionEntry) -> str:
    status = OUTCOMES.get(row.status, row.status.replace("_", " "))
    more = "" if row.score is None else f"; {number(round(row.score, 1))}"
    return status + more + ("; new attempt" if row.retry else "")


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(sep=" ", timespec="seconds")


def _dates(low: datetime, high: datetime) -> tuple[list[str | None], list[str]]:
    """Up to six evenly spaced dates, as positions and labels."""
    days = max((high - low).days, 1)
    size = max(1, -(-days // 5))
    first = datetime(low.year, low.month, low.day) + timedelta(days=1)
    found = [first + timedelta(days=size * i) for i in range(6) if first + timedelta(days=size * i) <= high]
    year = days > 330
    return [_iso(at) for at in found], [f"{at.day} {at:%b}" + (f" {at:%y}" if year else "") for at in found]
