"""One interview's figures against data sets small enough to be counted by hand."""

from collections.abc import Iterator

import pytest

from core.db import transaction
from core.errors import NotFound
from core.reports import metrics
from core.reports.data import AiHuman, InterviewReport, Ratio, Spread
from tests.support.processes import Database
from tests.support.report_rows import NOW, World, at, march


class _Undo(Exception):
    """Ends a test's transaction without a trace."""


@pytest.fixture
def world(shared_database: Database) -> Iterator[World]:
    """An interview of three questions beside another one, gone when the test ends."""
    with pytest.raises(_Undo), transaction() as db:
        other = World(db)
        other.question()
        other.answers(other.held(3, score=5), [5])
        world = World(db)
        world.question(skill="SQL", weight=1, max_score=5)
        world.question(skill="Python", weight=3, max_score=10)
        world.question(skill="SQL", weight=1, max_score=5, required=False)
        yield world
        raise _Undo


def _report(world: World) -> InterviewReport:
    return metrics.interview(world.db, world.interview.id, march(), as_of=NOW)


def test_an_unknown_id(world: World) -> None:
    with pytest.raises(NotFound):
        metrics.interview(world.db, world.interview.id + 1, march(), as_of=NOW)


def test_no_data(world: World) -> None:
    report = _report(world)
    assert (report.title, report.position, report.pass_score, report.started, report.stamp.n) == (
        "Backend",
        "Engineer",
        60.0,
        0,
        0,
    )
    assert [q.ordinal for q in report.questions] == [1, 2, 3] and report.totals.show == Ratio(0, 0)
    for question in report.questions:
        assert (question.reached, question.answered, question.scored, question.seconds) == (0, 0, 0, Spread(0))
        assert question.difficulty is None and question.discrimination is None
    assert report.ai_human == AiHuman(0, None, None, ())
    assert {(one.mean, one.n) for one in report.skills} == {(None, 0)}


def test_its_own_sessions_only(world: World) -> None:
    gone = world.held(3, score=80, deleted_at=at(9))
    world.held(10, score=40)
    world.session("expired", invitation_expires_at=at(17), created_at=at(3))
    world.candidate(applied_at=at(2), hired_at=at(4))  # had no session of this interview
    report = _report(world)
    assert gone.deleted_at and report.started == 2 and report.stamp.n == 3
    assert report.totals.passed == Ratio(1, 2) and report.totals.time_to_hire.n == 0
    assert report.outcomes == dict.fromkeys(report.outcomes, 0) | {"completed": 2, "expired": 1}
    assert [week.totals.planned for week in report.weeks] == [1, 1, 0, 0]
    assert report.scores.median == 60.0 and sum(report.histogram) == 2


def test_drop_off_and_difficulty(world: World) -> None:
    whole, half, skipped, _ = (world.held(day) for day in (3, 4, 5, 6))
    late = world.held(30, hour=0)
    world.answers(whole, [5, 10, 5], seconds=60)
    world.answers(half, [1, 4], seconds=120)
    # The second and the third have no score yet.
    world.answers(skipped, [3, None, None])
    world.answers(late, [0, 0, 0])
    report = _report(world).questions
    assert [(q.reached, q.answered, q.scored) for q in report] == [(3, 3, 3), (3, 3, 2), (2, 2, 1)]
    assert [q.difficulty for q in report] == [pytest.approx(0.6), pytest.approx(0.7), 1.0]
    assert report[0].seconds == Spread(2, 60.0, 75.0, 90.0, 105.0, 120.0) and report[2].seconds.n == 1
    assert [q.required for q in report] == [True, True, False]


def test_human_scores_precede_ai_scores(world: World) -> None:
    session = world.held(3)
    world.answers(session, [5, 10, 1])
    world.answers(session, [1, None, 2], source="human")
    report = _report(world)
    assert [q.difficulty for q in report.questions] == [pytest.approx(0.2), 1.0, pytest.approx(0.4)]
    assert [(one.skill, one.mean, one.n) for one in report.skills if one.n] == [
        ("SQL", pytest.approx(0.3), 2),
        ("Python", 1.0, 1),
    ]
    assert len(report.skills) == 2 * 4 and report.skills[0].monday.day == 2
    # AI 1.0 and 0.2 beside a person's 0.2 and 0.4.
    assert report.ai_human.n == 2 and report.ai_human.mean_difference == pytest.approx(0.3)
    assert report.ai_human.correlation == pytest.approx(-1)
    assert report.ai_human.points == ((0.2, 0.4, 1), (1.0, 0.2, 1))


def test_the_grid_counts_coinciding_scores(world: World) -> None:
    for day, ai in ((3, 2.5), (4, 2.52), (5, 2.7)):
        session = world.held(day)
        world.answers(session, [ai])
        world.answers(session, [5], source="human")
    report = _report(world).ai_human
    assert report.points == ((0.5, 1.0, 2), (0.54, 1.0, 1))
    assert report.correlation is None  # the person always said the same


@pytest.mark.parametrize("sessions", [19, 20])
def test_discrimination_takes_twenty(world: World, sessions: int) -> None:
    for number in range(sessions):
        good = number % 2
        # The first tells good from bad, the third the other way round, and the second is the same for all.
        world.answers(world.held(3 + number), [5 if good else 1, 8, 1 if good else 5])
    first, second, third = (q.discrimination for q in _report(world).questions)
    if sessions < 20:
        assert (first, second, third) == (None, None, None)
    else:
        assert first == pytest.approx(-1) and third == pytest.approx(-1) and second is None


def test_discrimination_weighs_the_rest(world: World) -> None:
    rest, first = [], []
    for number in range(20):
        scores = [(number * 3) % 6, (number * 7) % 11, (number * 5) % 4]
        world.answers(world.held(3 + number), scores)
        first.append(scores[0] / 5)
        rest.append((3 * scores[1] / 10 + scores[2] / 5) / 4)
    mean_first, mean_rest = sum(first) / 20, sum(rest) / 20
    both = sum((a - mean_first) * (b - mean_rest) for a, b in zip(first, rest, strict=True))
    norm = sum((a - mean_first) ** 2 for a in first) * sum((b - mean_rest) ** 2 for b in rest)
    assert _report(world).questions[0].discrimination == pytest.approx(both / norm**0.5)
