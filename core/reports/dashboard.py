"""The dashboard's pages: tiles, charts and lists from what was read for it."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from markupsafe import Markup
from sqlalchemy.orm import Session

from core.reports import formatting, metrics, significance
from core.reports.charts import bars, curve, dots, heat, lines, rates, scores, stacks
from core.reports.data import Attention, Dashboard, Operations, Ratio, Totals, Wait
from core.reports.document import Document
from core.reports.filenames import days
from core.reports.pages import Tile, TileComparison, document, fact_tile
from core.reports.queue.parameters import required_period

_KINDS = {
    "feedback_overdue": "Feedback overdue",
    "undecided": "No decision yet",
    "no_show": "No-show, no new attempt",
    "interviewer_no_show": "Interviewer missing",
    "expiring": "Invitation ends",
    "mail": "Mail not delivered",
}


def gather(db: Session, parameters: dict[str, Any], as_of: datetime) -> Dashboard:
    """The dashboard's data."""
    return metrics.dashboard(db, required_period(parameters), as_of=as_of)


def name(data: Dashboard) -> str:
    """The file's name without its ending."""
    return f"Dashboard {days(data.stamp.period)}"


def lay_out(data: Dashboard) -> Document:
    """The dashboard as charts and pages."""
    span = formatting.span(data.stamp.period)
    cards = [
        bars.funnel(data.funnel),
        stacks.outcomes(data.weeks, data.previous_weeks, data.stamp.period),
        dots.waits(data.totals, data.previous, span.before),
        lines.completed(data, span),
        *rates.rates(data, span),
        scores.histogram(data.histogram, data.scores, data.totals.passed, data.pass_scores),
        scores.positions(data.positions),
        curve.feedback(data.feedback),
        bars.loads(data.interviewers, data.interviewer_count),
        heat.week(data.heat, data.stamp.period),
    ]
    return document(
        "dashboard",
        data.stamp,
        name="Interview dashboard",
        title=f"Interview dashboard, {span.title}",
        cards=cards,
        lead=lead(data, span),
        tiles=tiles(data),
        operations=operations(data.operations),
        notes=notes(data),
        attention=[one._replace(kind=_kind(one)) for one in data.attention],
        attention_count=data.attention_count,
        attention_title=_attention(data.attention_count),
    )


def lead(data: Dashboard, span: formatting.PeriodNames) -> Markup:
    """What the figures say, in two or three sentences; only what chance hardly makes is called a change."""
    now, then = data.totals, data.previous
    if not data.stamp.n:
        said = ["No session falls into this period."]
    else:
        said = [_volume(now, then, span)]
        moved = [*_moved(now, then)]
        if moved:
            said.append(formatting.listed(moved[:3]).capitalize() + ".")
        elif now.show.whole >= formatting.FEW:
            said.append(f"{formatting.ratio(now.show)} of the candidates expected came; nothing else clearly changed.")
    text = Markup.escape(" ".join(said))
    if data.attention_count:
        text += Markup(' <a href="#attention">{}</a>.').format(_attention(data.attention_count))
    return text


def _volume(now: Totals, then: Totals, span: formatting.PeriodNames) -> str:
    done = formatting.completed(now.completed, "interview").capitalize()
    if significance.counts_differ(now.completed, then.completed) and then.completed >= formatting.FEW:
        change = 100 * (now.completed - then.completed) / then.completed
        return f"{done}, {abs(change):.0f}% {'more' if change > 0 else 'fewer'} than {span.earlier}."
    return f"{done}; {formatting.number(then.completed)} {span.earlier}."


def _moved(now: Totals, then: Totals) -> Sequence[str]:
    found: list[str] = []
    ratios: list[tuple[str, Callable[[Totals], Ratio]]] = [
        ("the show rate", lambda t: t.show),
        ("the pass rate", lambda t: t.passed),
        ("feedback in time", lambda t: t.feedback_in_time),
        ("completion", lambda t: t.completion),
        ("invite conversion", lambda t: t.conversion),
    ]
    for label, of in ratios:
        a, b = of(now), of(then)
        if significance.ratios_differ(a, b) and formatting.ratio(a) != formatting.ratio(b):
            found.append(
                f"{label} {_way((a.value or 0) - (b.value or 0))} to {formatting.ratio(a)} from {formatting.ratio(b)}"
            )
    spans: list[tuple[str, Callable[[Totals], Wait]]] = [
        ("the time to hire", lambda t: t.time_to_hire),
        ("the time to decision", lambda t: t.time_to_decision),
        ("the scheduling delay", lambda t: t.scheduling_delay),
    ]
    for label, wait in spans:
        x, y = wait(now), wait(then)
        if significance.waits_differ(x, y) and formatting.hours(x.median) != formatting.hours(y.median):
            way = _way((x.median or 0) - (y.median or 0))
            found.append(f"{label} {way} to {formatting.hours(x.median)} from {formatting.hours(y.median)}")
    return found


def _way(change: float) -> str:
    return "rose" if change > 0 else "fell"


def tiles(data: Dashboard) -> list[Tile]:
    """The period's figures against those of the period before."""
    tile = TileComparison(data.totals, data.previous, data.weeks)
    return [
        tile.count_tile("Sessions planned", lambda t: t.planned),
        tile.count_tile("Completed", lambda t: t.completed, good=1),
        tile.rate_tile("Show rate", lambda t: t.show),
        tile.rate_tile("No-show rate", lambda t: t.no_show, good=-1),
        tile.rate_tile("Held rate", lambda t: t.held),
        tile.rate_tile("Completion", lambda t: t.completion),
        tile.rate_tile("Invite conversion", lambda t: t.conversion),
        tile.rate_tile("Pass rate", lambda t: t.passed, good=0),
        tile.rate_tile("Feedback in time", lambda t: t.feedback_in_time),
        tile.wait_tile("Median time to hire", lambda t: t.time_to_hire),
        tile.wait_tile("Median scheduling delay", lambda t: t.scheduling_delay),
        tile.wait_tile("Median time to decision", lambda t: t.time_to_decision),
    ]


def operations(data: Operations) -> list[Tile]:
    """How the backstage did."""
    reminders = data.reminders_in_time
    return [
        fact_tile(
            "Reminders in time",
            formatting.ratio(reminders),
            f"{formatting.number(reminders.part)} of {formatting.number(reminders.whole)}",
            few=0 < reminders.whole < formatting.FEW,
        ),
        fact_tile("Mails sent", formatting.number(data.mails_sent)),
        fact_tile("Mails dead", formatting.number(data.mails_dead), "refused or given up"),
        fact_tile("Mails uncertain", formatting.number(data.mails_uncertain), "perhaps delivered"),
        fact_tile("Late runs", formatting.number(data.late_runs), "of scheduled jobs"),
    ]


def notes(data: Dashboard) -> list[tuple[str, str]]:
    """At most three things to act on, each with the figures that say so."""
    found: list[tuple[str, str]] = []
    feedback, missed, work = data.totals.feedback_in_time, data.totals.no_show, data.operations
    late = feedback.whole - feedback.part
    if late:
        said = (
            f"{formatting.of(Ratio(late, feedback.whole))} of the feedback due came after its deadline or is missing."
        )
        found.append(("Ask for feedback", said))
    if missed.part:
        said = f"{formatting.of(missed)} of the candidates expected did not come."
        found.append(("Act on no-shows", said))
    failed = [
        f"{formatting.count(n, 'mail')} {what}"
        for n, what in ((work.mails_dead, "could not be delivered"), (work.mails_uncertain, "may not have arrived"))
        if n
    ]
    if failed:
        found.append(("Look after mail", formatting.listed(failed) + "."))
    if work.late_runs:
        found.append(
            ("See why jobs ran late", f"{formatting.count(work.late_runs, 'run')} of scheduled jobs began late.")
        )
    if not data.attention_count and not found and data.stamp.n:
        found.append(("Nothing to act on", "No feedback is late, nobody was missing, and all mail went out."))
    return found[:3]


def _attention(n: int) -> str:
    if not n:
        return "Nothing needs attention"
    return f"{formatting.number(n)} thing{' needs' if n == 1 else 's need'} attention"


def _kind(one: Attention) -> str:
    return _KINDS.get(one.kind, one.kind.replace("_", " ").capitalize())
