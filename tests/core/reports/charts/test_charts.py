"""Charts: what their titles claim at every size, that plotly takes them, and that hostile text stays text."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import plotly.graph_objects as go
import pytest
from markupsafe import Markup

from core.reports import candidate, dashboard, formatting, interview, significance
from core.reports.charts import bars, curve, dots, heat, lines, points, rates, scores, stacks, theme, times
from core.reports.charts.card import Card
from core.reports.data import FeedbackTimes, Load, Ratio, Spread, Stage, Wait
from core.reports.document import Document
from tests.support import report_samples as samples


def cards(n: int, names: tuple[str, ...] = samples.NAMES) -> Iterator[Card]:
    """Every chart of the three reports over n sessions."""
    board, one, person = samples.dashboard(n, names=names), samples.interview(n), samples.candidate(min(n, 100))
    span = formatting.period_names(board.stamp.period)
    yield bars.funnel(board.funnel)
    yield stacks.outcomes(board.weeks, board.previous_weeks, board.stamp.period)
    yield dots.waits(board.totals, board.previous, span.before)
    yield lines.completed(board, span)
    yield from rates.rates(board, span)
    yield scores.histogram(board.histogram, board.scores, board.totals.passed, board.pass_scores)
    yield scores.positions(board.positions)
    yield curve.feedback(board.feedback)
    yield bars.loads(board.interviewers, board.interviewer_count)
    yield heat.week(board.heat, board.stamp.period)
    yield bars.outcomes(one.outcomes)
    yield points.ai_human(one.ai_human)
    yield bars.drop_off(one.started, one.questions)
    yield dots.questions(one.questions)
    yield heat.skills(one.skills)
    yield times.answers(one.questions)
    yield times.timeline(person.sessions, samples.ZONE)
    yield times.trend(person.sessions)
    yield bars.outcomes(person.attendance, key="attendance", attended=True)
    yield from dots.skills(person.skills)


@pytest.mark.parametrize("n", samples.SIZES)
def test_every_chart_is_valid_plotly_or_states_no_data(n: int) -> None:
    for card in cards(n):
        if n == 0:
            assert card.chart is None
        if card.chart is None:
            assert card.n < 2
            continue
        go.Figure(card.chart.figure)
        assert "nan" not in json.dumps(card.chart.figure, allow_nan=False).lower()
        assert card.chart.figure["layout"]["width"] == card.chart.width in (theme.HALF, theme.WIDE)
        assert card.chart.alt.startswith(card.finding.striptags())


@pytest.mark.parametrize("n", samples.SIZES)
def test_titles_and_units_are_complete(n: int) -> None:
    for card in cards(n):
        for said in (card.finding.striptags(), card.unit):
            assert said
            assert not re.search(r"\bnan\b|None of 1 |\bNone\b(?! of)|  |\binf\b", said), said
            assert not re.search(r"\b1 (sessions|interviews|questions|feedbacks|answers|scores|skills)\b", said), said
            assert not re.search(r"\bAll [12]\b", said), said


@pytest.mark.parametrize("n", [0, 1, 12])
def test_small_samples_are_grey_and_without_claims(n: int) -> None:
    for card in cards(n):
        if card.n < formatting.FEW and card.key not in ("loads", "skills_0"):
            assert not re.search(r"rose|fell|trend|highest|hardest|longest|more|fewer", card.finding.striptags())
    colours = {theme.BLUE, theme.PALE, theme.DEEP}
    for card in (c for c in cards(n) if c.few and c.chart and c.key not in ("weekly_outcomes", "skills_0")):
        assert card.chart
        markers = [trace.get("marker", {}).get("color", []) for trace in card.chart.figure["data"]]
        assert not colours & {c for marker in markers for c in ([marker] if isinstance(marker, str) else marker)}


def test_findings_of_a_season() -> None:
    said = {card.key: card.finding.striptags() for card in cards(100_000)}
    assert said["funnel"] == "One session in 12 is hired"
    assert said["show_rate"] == "Show rate rose to 91.5% from 89.7%"
    assert said["conversion"] == "Invite conversion 77.8%, no clear change"
    assert said["completed"] == "23% more interviews, on a rising trend"
    assert said["positions"] == "Backend Engineer scores highest: median 66.6"
    assert said["waits"].startswith("Time to hire fell to a median of")
    assert said["ai_human"] == "AI scores 3.0 pt higher than people"
    assert said["questions"] == "Question 1 is the hardest: 45% of its points"
    assert said["drop_off"] == "Question 6 loses the most: 6,796 of 86,000 stopped before it"
    few = {card.key: card.finding.striptags() for card in cards(60)}
    assert few["questions"] == "Questions earn 45% to 77% of their points"
    assert few["show_rate"] == "Show rate 91%, no clear change"


def test_funnels_of_every_size() -> None:
    def said(*sessions: int) -> str:
        return bars.funnel([Stage(name, n) for name, n in zip(("invited", "hired"), sessions, strict=True)]).finding

    assert said(0, 0) == "No session was invited in this period"
    assert said(1, 0) == "The one session got as far as: invited"
    assert said(2, 2) == "Both sessions are hired"
    assert said(12, 1) == "1 of 12 sessions is hired"
    assert said(12, 0) == "Of 12 sessions none is hired yet"
    assert said(40, 20) == "50% are hired"
    assert said(4812, 128) == "One session in 38 is hired"


def test_shares_are_never_rounded_to_all_or_nothing() -> None:
    assert formatting.percent(0, 0) == "–"
    assert formatting.percent(0, 400) == "0%"
    assert formatting.percent(400, 400) == "100%"
    assert formatting.percent(1, 100_000) == "<0.1%"
    assert formatting.percent(99_999, 100_000) == ">99.9%"
    assert formatting.percent(17, 19) == "89%"
    assert formatting.share(Ratio(17, 19)) == "17 of 19"


def test_formatting_of_times_and_numbers() -> None:
    assert [formatting.hours(h) for h in (None, 0.0, 0.4, 5, 30, 74, 456)] == [
        "–",
        "0 min",
        "24 min",
        "5 h",
        "30 h",
        "3.1 d",
        "19 d",
    ]
    assert formatting.number(1948) == "1,948"
    assert formatting.number(-3.25) == "−3.2"
    assert formatting.count(0, "session") == "no sessions"
    assert formatting.join_words(["a", "b", "c"]) == "a, b and c"


@pytest.mark.parametrize(
    ("days", "title", "before"),
    [
        (1, "Sunday 22 Nov 2026", "the day before"),
        (7, "16 Nov – 22 Nov 2026", "the week before"),
        (84, "31 Aug – 22 Nov 2026", "the 84 days before"),
    ],
)
def test_periods_have_names(days: int, title: str, before: str) -> None:
    span = formatting.period_names(samples.period(days))
    assert (span.title, span.before) == (title, before)
    assert span.interval.endswith("23 Nov 2026)")


def test_only_significant_differences_are_claimed() -> None:
    assert not significance.counts_differ(110, 100)
    assert significance.counts_differ(1100, 1000)
    assert not significance.ratios_differ(Ratio(18, 19), Ratio(1, 19))
    assert significance.ratios_differ(Ratio(90, 100), Ratio(70, 100))
    assert not significance.waits_differ(Wait(19, 10, 20), Wait(400, 99, 200))
    assert significance.waits_differ(Wait(400, 10, 20), Wait(400, 20, 40))
    assert not significance.medians_differ(Spread(19, 0, 1, 2, 3, 4), Spread(900, 80, 85, 90, 95, 99))
    assert significance.trend([1, 3, 2, 4, 3, 5, 4]) in (0, 1)
    assert significance.trend([5, 5, 5, 5, 5, 5]) == 0
    assert significance.trend([8, 7, 6, 5, 4, 3, 2]) == -1


@pytest.mark.parametrize("name", [*samples.HOSTILE, "A & B <i>", "$x$", "%{x}"])
def test_hostile_text_is_shown_as_text(name: str) -> None:
    card = bars.loads([Load(name, 30, 20.0), Load(name, 3, 2.0)], 2)
    assert card.chart
    texts = card.chart.figure["layout"]["yaxis"]["ticktext"]
    assert len(texts) == 2
    for text in texts:
        assert "<" not in text
        assert not re.search(r"&(?!#?\w+;)|%\{|\$|\u202e", text)
    assert Markup("<script") not in card.finding
    assert "<bdi>" in card.finding


def test_long_names_are_truncated_between_characters() -> None:
    for name in (*samples.NAMES, "W" * 80, "👩‍👩‍👧‍👦" * 20, "क्षि" * 40, "漢" * 40, "🇩🇰" * 30):
        cut = theme.fit(name, 90)
        assert theme.measure(cut) <= 90 or cut == name
        assert formatting.shorten(name * 8, 20).endswith("…")
    assert theme.fit("👩‍👩‍👧‍👦" * 20, 90).rstrip("…").endswith("👩‍👩‍👧‍👦")
    assert not theme.fit("ก็" * 40, 90).endswith("ก…") or theme.fit("ก็" * 40, 90) == ""


def test_long_user_text_is_wrapped_and_truncated() -> None:
    assert formatting.passage(" one\r\ntwo\u202e\n") == "one\ntwo"
    assert formatting.passage("a\n" * 5000) == "a\n" * 29 + "a…"
    assert formatting.passage("x" * 5000) == "x" * 1200 + "…"


def test_labels_that_would_overlap_are_moved_apart() -> None:
    placed = theme.spread_labels([10, 11, 12, 99, 99], 6, 3, 97)
    assert all(b - a >= 6 for a, b in pairwise(placed))
    assert 3 <= placed[0] <= placed[-1] <= 97


def test_feedback_curves_begin_at_zero_and_reach_the_edge() -> None:
    card = curve.feedback(FeedbackTimes(Ratio(30, 40), ((0.5, 0.5), (1.0, 0.75)), Wait(40, 48, 48)))
    assert card.chart
    line = card.chart.figure["data"][0]
    assert (line["x"][0], line["y"][0]) == (0.0, 0.0)
    assert line["x"][-1] == card.chart.figure["layout"]["xaxis"]["range"][1]
    assert card.finding == "75% of feedback is in by the deadline"


def test_one_axis_holds_years_of_weeks() -> None:
    data = samples.dashboard(100_000, days=3650)
    card = lines.completed(data, formatting.period_names(data.stamp.period))
    assert card.chart
    assert len(card.chart.figure["data"][0]["x"]) <= 53
    assert "weeks" in card.unit


def test_a_document_has_alt_texts_for_its_charts() -> None:
    made: list[Document] = [
        dashboard.lay_out(samples.dashboard(480)),
        interview.lay_out(samples.interview(480)),
        candidate.lay_out(replace(samples.candidate(12), name="<b>x</b>")),
    ]
    assert [len(one.charts) for one in made] == [13, 8, 4]
    assert made[2].title == "Candidate analytics, <b>x</b>"
    for one in made:
        assert all(chart.alt for chart in one.charts.values())
