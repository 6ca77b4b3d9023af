"""The dashboard's pages: tiles, charts and lists."""

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
    """The file name without its extension."""
    return f"Dashboard {days(data.stamp.period)}"


def lay_out(data: Dashboard) -> Document:
    """The dashboard as charts and pages."""
    span = formatting.period_names(data.stamp.period)
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
    """The main findings in two or three sentences; only a statistically clear difference is called a change."""
    now, then = data.totals, data.previous
    if not data.stamp.n:
        sentences = ["No session falls into this period."]
    else:
        sentences = [_completed_finding(now, then, span)]
        changes = [*_trends(now, then)]
        if changes:
            sentences.append(formatting.join_words(changes[:3]).capitalize() + ".")
        elif now.show.whole >= formatting.FEW:
            sentences.append(
                f"{formatting.ratio(now.show)} of the candidates expected came; nothing else clearly changed."
            )
    text = Markup.escape(" ".join(sentences))
    if data.attention_count:
        text += Markup(' <a href="#attention">{}</a>.').format(_attention(data.attention_count))
    return text


def _completed_finding(now: Totals, then: Totals, span: formatting.PeriodNames) -> str:
    done = formatting.completed(now.completed, "interview").capitalize()
    if significance.counts_differ(now.completed, then.completed) and then.completed >= formatting.FEW:
        change = 100 * (now.completed - then.completed) / then.completed
        return f"{done}, {abs(change):.0f}% {'more' if change > 0 else 'fewer'} than {span.earlier}."
    return f"{done}; {formatting.number(then.completed)} {span.earlier}."


def _trends(now: Totals, then: Totals) -> Sequence[str]:
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
                f"{label} {_verb((a.value or 0) - (b.value or 0))} to {formatting.ratio(a)} from {formatting.ratio(b)}"
            )
    spans: list[tuple[str, Callable[[Totals], Wait]]] = [
        ("the time to hire", lambda t: t.time_to_hire),
        ("the time to decision", lambda t: t.time_to_decision),
        ("the scheduling delay", lambda t: t.scheduling_delay),
    ]
    for label, wait in spans:
        x, y = wait(now), wait(then)
        if significance.waits_differ(x, y) and formatting.hours(x.median) != formatting.hours(y.median):
            direction = _verb((x.median or 0) - (y.median or 0))
            found.append(f"{label} {direction} to {formatting.hours(x.median)} from {formatting.hours(y.median)}")
    return found


def _verb(change: float) -> str:
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
    """The tiles about reminders, mails and job runs."""
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
    """At most three things to act on, each with its figures."""
    found: list[tuple[str, str]] = []
    feedback, missed, work = data.totals.feedback_in_time, data.totals.no_show, data.operations
    late = feedback.whole - feedback.part
    if late:
        share = formatting.share(Ratio(late, feedback.whole))
        text = f"{share} of the feedback due came after its deadline or is missing."
        found.append(("Ask for feedback", text))
    if missed.part:
        text = f"{formatting.share(missed)} of the candidates expected did not come."
        found.append(("Act on no-shows", text))
    failed = [
        f"{formatting.count(n, 'mail')} {what}"
        for n, what in ((work.mails_dead, "could not be delivered"), (work.mails_uncertain, "may not have arrived"))
        if n
    ]
    if failed:
        found.append(("Look after mail", formatting.join_words(failed) + "."))
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
