"""Rates by week: show rate, held rate, invite conversion and pass rate."""

from collections.abc import Callable
from dataclasses import dataclass

from core.reports import significance
from core.reports.charts.card import Card, chart_card, empty_card, text_card
from core.reports.charts.lines import line_chart, step_pairs, two_bars
from core.reports.charts.weeks import unit, weeks_per_step
from core.reports.data import Dashboard, Ratio, Totals
from core.reports.formatting import FEW, UNDEFINED, PeriodNames, ratio, share


@dataclass(frozen=True, slots=True)
class Rate:
    """A ratio to draw over weeks: its name and definition, and sentences for n = 1, few and none."""

    key: str
    title: str
    definition: str
    of: Callable[[Totals], Ratio]
    thing: str
    one: tuple[str, str]
    few: str
    none: str


RATES = (
    Rate(
        "show_rate",
        "Show rate",
        "Started / (started + candidate no-shows)",
        lambda t: t.show,
        "expected session",
        ("The one candidate expected came", "The one candidate expected did not come"),
        "expected candidates came",
        "No candidate was expected in this period",
    ),
    Rate(
        "held_rate",
        "Held rate",
        "Completed / planned, cancelled included",
        lambda t: t.held,
        "planned session",
        ("The one session planned was completed", "The one session planned was not completed"),
        "planned sessions were completed",
        "No session was planned in this period",
    ),
    Rate(
        "conversion",
        "Invite conversion",
        "Ever started / invitations started or past their end",
        lambda t: t.conversion,
        "invitation",
        ("The one invitation led to a start", "The one invitation was not taken up"),
        "invitations led to a start",
        "No invitation came to its end in this period",
    ),
    Rate(
        "pass_rate",
        "Pass rate",
        "Scores at or above the line / scored sessions",
        lambda t: t.passed,
        "scored session",
        ("The one score passes", "The one score does not pass"),
        "scores pass",
        "No session was scored in this period",
    ),
)


def rates(data: Dashboard, span: PeriodNames) -> list[Card]:
    """Each rate by week, hollow where n < 20; two bars when there are too few for weeks."""
    return [_rate(rate, data, span) for rate in RATES]


def _rate(rate: Rate, data: Dashboard, span: PeriodNames) -> Card:
    now, then = rate.of(data.totals), rate.of(data.previous)
    if not now.whole:
        return empty_card(rate.key, rate.none, rate.definition)
    if now.whole == 1:
        return text_card(rate.key, rate.one[0] if now.part else rate.one[1], rate.definition)
    found, earlier = step_pairs(data, weeks_per_step(data.weeks, now.whole))
    if len(found) < 3 or now.whole < FEW:
        unit_text = f"{rate.definition}, beside {span.before}"
        texts = [share(r) if r.whole else UNDEFINED for r in (then, now)]
        chart = two_bars([100 * (r.value or 0) for r in (then, now)], texts, now.whole, span, high=100)
    else:
        unit_text = f"{rate.definition}, by {unit(found)}"
        series = [step.ratio(lambda week: rate.of(week.totals)) for step in found]
        past = [step.ratio(lambda week: rate.of(week.totals)) for step in earlier]
        chart = line_chart(
            found,
            [None if r.value is None else 100 * r.value for r in series],
            [None if r.value is None else 100 * r.value for r in past] if then.whole >= FEW else [],
            [ratio(r) for r in series],
            now.whole,
            weak=[r.whole < FEW for r in series],
            share=True,
        )
        unit_text += "; hollow: n < 20" if any(0 < r.whole < FEW for r in series) else ""
    numbers = [f"this period {ratio(now)} of {now.whole}", f"before {ratio(then)} of {then.whole}"]
    return chart_card(rate.key, _finding(rate, now, then), unit_text, now.whole, chart, numbers, things=rate.thing)


def _finding(rate: Rate, now: Ratio, then: Ratio) -> str:
    if now.whole < FEW:
        return f"{share(now)} {rate.few}"
    if significance.ratios_differ(now, then):
        direction = "rose" if now.part * then.whole > then.part * now.whole else "fell"
        return f"{rate.title} {direction} to {ratio(now)} from {ratio(then)}"
    return f"{rate.title} {ratio(now)}" + (", no clear change" if then.whole >= FEW else "")
