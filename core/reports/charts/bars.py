"""Bar charts: funnel, outcomes, interviewers' loads, and drop-off by question."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from core.reports import significance
from core.reports.charts import theme
from core.reports.charts.card import Card, chart_card, empty_card, text_card
from core.reports.data import Load, QuestionStats, Ratio, Stage
from core.reports.document import Chart
from core.reports.formatting import FEW, all_of, count, name, number, percent, share

OUTCOMES = {
    "completed": "completed",
    "abandoned": "abandoned",
    "no_show": "no-show",
    "interviewer_no_show": "interviewer missing",
    "late": "late",
    "expired": "expired",
    "cancelled": "cancelled",
    "open": "still open",
}
"""Names of outcomes, in the order in which they are drawn."""


def funnel(stages: Sequence[Stage]) -> Card:
    """How many of the period's sessions reached each stage, as bars from the first stage to the last."""
    key, unit = "funnel", "Sessions invited in the period that got at least so far"
    if not stages or not stages[0].sessions:
        return empty_card(key, "No session was invited in this period", unit)
    whole = stages[0].sessions
    if whole == 1:
        reached = [stage.name for stage in stages if stage.sessions]
        return text_card(key, f"The one session got as far as: {reached[-1]}", unit)
    last = Ratio(stages[-1].sessions, whole)
    chart = _horizontal_bars(
        [stage.name.capitalize() for stage in stages],
        [stage.sessions for stage in stages],
        [f"{stage.sessions:,}  {theme.grey(percent(stage.sessions, whole))}" for stage in stages],
        colours=[theme.color_for(whole, theme.PALE, theme.FAINTER)] * (len(stages) - 1)
        + [theme.color_for(whole, theme.BLUE)],
        height=theme.TALL,
    )
    numbers = [f"{stage.name} {stage.sessions:,}, {percent(stage.sessions, whole)}" for stage in stages]
    return chart_card(key, _funnel_finding(last, stages[-1].name), unit, whole, chart, numbers)


def _funnel_finding(last: Ratio, stage: str) -> str:
    all_ = count(last.whole, "session")
    if not last.part:
        return f"Of {all_} none is {stage} yet"
    if last.part == last.whole:
        return f"{all_of(last.whole)} sessions are {stage}"
    if last.whole >= FEW and last.whole >= 10 * last.part:
        return f"One session in {number(round(last.whole / last.part))} is {stage}"
    be = "is" if last.part == 1 else "are"
    return f"{last.part} of {last.whole} sessions {be} {stage}" if last.whole < FEW else f"{share(last)} are {stage}"


def outcomes(found: Mapping[str, int], *, key: str = "outcomes", attended: bool = False) -> Card:
    """Outcomes of sessions, as bars; ``attended``: those scheduled for one candidate."""
    unit = "Sessions that had a time, by how they went" if attended else "Sessions by what became of them"
    kinds = [kind for kind in OUTCOMES if kind in found and (found[kind] or kind in {"completed", "no_show"})]
    kinds += [kind for kind in found if kind not in OUTCOMES and found[kind]]
    whole = sum(n for kind, n in found.items() if kind != "late")
    if not whole:
        return empty_card(key, "No session had a time yet" if attended else "No sessions in this period", unit)
    if whole == 1:
        only = next(kind for kind, n in found.items() if n and kind != "late")
        return text_card(key, f"The one session: {OUTCOMES.get(only, only.replace('_', ' '))}", unit)
    chart = _horizontal_bars(
        [OUTCOMES.get(kind, kind.replace("_", " ")).capitalize() for kind in kinds],
        [found[kind] for kind in kinds],
        [f"{found[kind]:,}  {theme.grey(percent(found[kind], whole))}" for kind in kinds],
        colours=[
            theme.color_for(whole, theme.BLUE if kind == "completed" else theme.PALE, theme.FAINT) for kind in kinds
        ],
        height=max(90, 30 * len(kinds) + 10) if attended else theme.TALL,
    )
    done = found.get("completed", 0)
    numbers = [f"{OUTCOMES.get(kind, kind)} {found[kind]:,}" for kind in kinds]
    if attended and 0 < done < whole:
        finding = f"{done} of {whole} sessions with a time {'was' if done == 1 else 'were'} completed"
    elif done == whole:
        finding = f"{all_of(whole)} sessions were completed"
    elif not done:
        finding = f"None of {whole:,} sessions was completed"
    elif whole < FEW:
        finding = f"{done} of {whole} sessions {'was' if done == 1 else 'were'} completed"
    else:
        finding = f"{percent(done, whole)} of sessions were completed"
    return chart_card(key, finding, unit, whole, chart, numbers)


def loads(found: Sequence[Load], interviewers: int) -> Card:
    """Sessions held by each interviewer, the busiest first."""
    key = "loads"
    held = [load for load in found if load.sessions]
    shown = f"; the busiest {len(held)} of {interviewers:,}" if interviewers > len(held) else ""
    unit = f"Sessions held and their hours, by interviewer{shown}"
    if not held:
        return empty_card(
            key, "No session was held with an interviewer", "Sessions held and their hours, by interviewer"
        )
    n = sum(load.sessions for load in held)
    most = held[0].sessions
    if n == 1:
        return text_card(key, name(held[0].name, 32) + " held the one session", unit)
    first = [load for load in held if load.sessions == most]
    chart = _horizontal_bars(
        [load.name for load in held],
        [load.sessions for load in held],
        [f"{load.sessions:,}  {theme.grey(number(round(load.hours, 1)) + ' h')}" for load in held],
        colours=[
            theme.color_for(n, theme.BLUE if load.sessions == most else theme.PALE, theme.FAINTER) for load in held
        ],
        height=max(213, 19 * len(held) + 16),
        least=6,
    )
    numbers = [f"{load.name}: {load.sessions:,}, {number(round(load.hours, 1))} h" for load in held]
    finding: Markup | str
    if len(held) == 1:
        finding = name(held[0].name, 32) + f" held {count(most, 'session')}"
    elif len(first) == len(held):
        finding = f"Each of {len(held)} interviewers held {count(most, 'session')}"
    elif len(first) == 1:
        finding = name(first[0].name, 32) + f" held the most: {count(most, 'session')}"
    else:
        finding = f"{len(first)} interviewers held the most: {count(most, 'session')} each"
    return chart_card(key, finding, unit, n, chart, numbers)


def drop_off(started: int, questions: Sequence[QuestionStats]) -> Card:
    """How many sessions reached each question; the bar after the largest loss is highlighted."""
    key, unit = "drop_off", "Started sessions that answered this question or a later one, in per cent"
    if not started or not questions:
        return empty_card(key, "No session was started in this period", unit, wide=True)
    reached = [min(q.reached, started) for q in questions]
    if started == 1:
        last = max((q.ordinal for q, n in zip(questions, reached, strict=True) if n), default=0)
        ended = (
            "reached the last question" if reached[-1] else f"got to question {last}" if last else "answered nothing"
        )
        return text_card(key, f"The one session started {ended}", unit, wide=True)
    lost = [before - now for before, now in zip([started, *reached], reached, strict=False)]
    worst = max(range(len(lost)), key=lambda i: lost[i])
    clear = started >= FEW and all(significance.counts_differ(lost[worst], n) for i, n in enumerate(lost) if i != worst)
    colours = [
        theme.color_for(started, theme.BLUE if clear and i == worst else theme.PALE, theme.FAINTER)
        for i in range(len(lost))
    ]
    trace = {
        "type": "bar",
        "x": list(range(len(questions))),
        "y": [100 * n / started for n in reached],
        "text": [percent(n, started) if len(reached) < 13 else f"{100 * n / started:.0f}" for n in reached]
        if len(reached) < 28
        else [],
        "textposition": "outside",
        "cliponaxis": False,
        "textfont": {"size": 10},
        "marker": {"color": colours},
    }
    chart = theme.chart(
        [trace],
        width=theme.WIDE,
        height=156,
        margin=(38, 18, 8, 20),
        xaxis=theme.ticks([f"Q{q.ordinal}" for q in questions], 24) | {"range": [-0.6, max(len(questions), 6) - 0.4]},
        yaxis=theme.marks([0, 50, 100], "%") | {"range": [0, 100], "showgrid": True},
    )
    numbers = [f"question {q.ordinal}: {percent(n, started)}" for q, n in zip(questions, reached, strict=True)]
    end = reached[-1]
    if end == started:
        finding = f"{all_of(started)} started sessions reached the last question"
    elif clear:
        finding = (
            f"Question {questions[worst].ordinal} loses the most: {lost[worst]:,} of {started:,} stopped before it"
        )
    else:
        finding = f"{share(Ratio(end, started))} of started sessions" if started >= FEW else share(Ratio(end, started))
        finding += " reached the last question"
    return chart_card(key, finding, unit, started, chart, numbers, wide=True, things="started session")


def _horizontal_bars(
    labels: Sequence[str],
    values: Sequence[float],
    texts: Sequence[str],
    *,
    colours: Sequence[str],
    height: int,
    least: int = 3,
) -> Chart:
    """Horizontal bars, the first on top, each with its text at its end."""
    trace = {
        "type": "bar",
        "orientation": "h",
        "y": list(range(len(values))),
        "x": list(values),
        "text": list(texts),
        "textposition": "outside",
        "cliponaxis": False,
        "textfont": {"size": 10.5, "color": theme.INK},
        "marker": {"color": list(colours)},
    }
    named, left = theme.row_labels(labels, 132, least)
    return theme.chart(
        [trace],
        width=theme.HALF,
        height=height,
        margin=(left, 2, 84, 2),
        xaxis=theme.axis(range=[0, theme.top(values)]),
        yaxis=named,
    )
