"""The pages of one interview's analytics: outcomes, scores, and its questions one by one."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from markupsafe import Markup
from sqlalchemy.orm import Session

from core.reports import formatting, metrics, significance
from core.reports.charts import bars, dots, heat, points, scores, stacks, times
from core.reports.data import InterviewReport, QuestionStats
from core.reports.document import Document
from core.reports.filenames import days
from core.reports.pages import Tile, TileComparison, document, fact_tile
from core.reports.queue.parameters import required_period

_ROWS = 36
"""Maximum questions in the table."""


def gather(db: Session, parameters: dict[str, Any], as_of: datetime) -> InterviewReport:
    """The interview's data. Raises NotFound."""
    return metrics.interview(db, parameters["interview_id"], required_period(parameters), as_of=as_of)


def name(data: InterviewReport) -> str:
    """The file name without its extension."""
    return f"Interview {data.title} {days(data.stamp.period)}"


def lay_out(data: InterviewReport) -> Document:
    """One interview's analytics as charts and pages."""
    span = formatting.period_names(data.stamp.period)
    cards = [
        bars.outcomes(data.outcomes),
        stacks.outcomes(data.weeks, (), data.stamp.period),
        scores.histogram(data.histogram, data.scores, data.totals.passed, (data.pass_score,)),
        points.ai_human(data.ai_human),
        bars.drop_off(data.started, data.questions),
        dots.questions(data.questions),
        heat.skills(data.skills),
        times.answers(data.questions),
    ]
    return document(
        "interview",
        data.stamp,
        name="Interview analytics",
        title=f"Interview analytics, {formatting.shorten(data.title, 80)}, {span.title}",
        cards=cards,
        lead=_lead(data, span),
        tiles=tiles(data),
        data=data,
        questions=data.questions[:_ROWS],
        discrimination=_discrimination(data.questions),
    )


def _lead(data: InterviewReport, span: formatting.PeriodNames) -> Markup:
    if not data.stamp.n:
        return Markup.escape("No session of this interview falls into this period.")
    now, then = data.totals, data.previous
    done = formatting.completed(now.completed, "session").capitalize()
    stopped = now.completion.whole - now.completion.part
    sentences = [done + (f", {stopped:,} abandoned." if stopped else ".")]
    if now.passed.whole:
        passed = f"{formatting.share(now.passed)} scored {'session' if now.passed.whole == 1 else 'sessions'} passed"
        if now.passed.whole >= formatting.FEW:
            passed = f"{formatting.ratio(now.passed)} of those scored passed"
        if significance.ratios_differ(now.passed, then.passed):
            passed += f", after {formatting.ratio(then.passed)} {span.earlier}"
        sentences.append(passed + ".")
    hard = _hardest(data.questions)
    if hard:
        sentences.append(hard)
    return Markup.escape(" ".join(sentences))


def _hardest(questions: Sequence[QuestionStats]) -> str:
    known = [q for q in questions if q.difficulty is not None and q.scored >= formatting.FEW]
    if len(known) < 2:
        return ""
    known = sorted(known, key=lambda q: q.difficulty or 0)
    low, high = (100 * (q.difficulty or 0) for q in (known[0], known[-1]))
    if dots.hardest(known):
        return f"Question {known[0].ordinal} earns the least: {low:.0f}% of its points on average."
    return f"Questions earn {low:.0f}% to {high:.0f}% of their points."


def _discrimination(questions: Sequence[QuestionStats]) -> str:
    weak = [str(q.ordinal) for q in questions if q.discrimination is not None and q.discrimination < 0.2]
    if not weak:
        return ""
    noun, verb = ("Question", "tells") if len(weak) == 1 else ("Questions", "tell")
    finding = f"{noun} {formatting.join_words(weak)} {verb} little apart"
    return f"{finding}: the correlation with the rest of the score is under 0.20."


def tiles(data: InterviewReport) -> list[Tile]:
    """The interview's figures against those of the period before."""
    tile = TileComparison(data.totals, data.previous, data.weeks)
    middle = data.scores.median
    return [
        tile.count_tile("Sessions planned", lambda t: t.planned),
        tile.count_tile("Completed", lambda t: t.completed, good=1),
        tile.rate_tile("Show rate", lambda t: t.show),
        tile.rate_tile("Completion", lambda t: t.completion),
        fact_tile(
            "Median score",
            formatting.UNDEFINED if middle is None else formatting.number(round(middle, 1)),
            f"n = {data.scores.n:,}; passes at {formatting.number(data.pass_score)}",
            few=0 < data.scores.n < formatting.FEW,
        ),
        tile.rate_tile("Pass rate", lambda t: t.passed, good=0),
        tile.rate_tile("Feedback in time", lambda t: t.feedback_in_time),
        tile.rate_tile("Invite conversion", lambda t: t.conversion),
    ]
