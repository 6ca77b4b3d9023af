"""One candidate's figures against data sets small enough to be counted by hand."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from core.db import transaction
from core.errors import NotFound
from core.models import Candidate
from core.reports import metrics
from core.reports.data import CandidateReport, Period, Ratio
from tests.support.processes import Database
from tests.support.report_rows import NOW, World, at, march


class _Undo(Exception):
    """Ends a test's transaction without a trace."""


@pytest.fixture
def world(shared_database: Database) -> Iterator[World]:
    """An interview of two questions, gone when the test ends."""
    with pytest.raises(_Undo), transaction() as db:
        world = World(db)
        world.question(skill="SQL", max_score=5)
        world.question(skill="Python", max_score=10)
        yield world
        raise _Undo


@pytest.fixture
def person(world: World) -> Candidate:
    """The candidate."""
    return world.candidate(name="<i>Zoë</i>", source="fair", applied_at=at(1))


def _report(world: World, person: Candidate, period: Period | None = None) -> CandidateReport:
    return metrics.candidate(world.db, person.id, period, as_of=NOW)


def test_an_unknown_id(world: World, person: Candidate) -> None:
    with pytest.raises(NotFound):
        metrics.candidate(world.db, person.id + 1, march(), as_of=NOW)


@pytest.mark.parametrize("period", [None, march()])
def test_no_data(world: World, person: Candidate, period: Period | None) -> None:
    report = _report(world, person, period)
    assert (report.name, report.source, report.applied_at, report.hired_at) == ("<i>Zoë</i>", "fair", at(1), None)
    assert report.sessions == () and report.skills == () and report.answers == () and report.feedback == ()
    assert set(report.attendance.values()) == {0} and report.show == Ratio(0, 0) and report.stamp.n == 0
    assert report.stamp.period.start < report.stamp.period.end


def test_attendance(world: World, person: Candidate) -> None:
    world.held(3, candidate=person)
    world.held(4, candidate=person, started_at=at(4, 10) + timedelta(minutes=5))
    world.held(5, candidate=person, started_at=at(5, 10) + timedelta(minutes=5, seconds=1), deleted_at=at(9))
    world.session("no_show", scheduled_start=at(6), no_show_party="candidate", candidate=person)
    world.session("no_show", scheduled_start=at(7), no_show_party="interviewer", candidate=person)
    world.session("cancelled", scheduled_start=at(8), candidate=person)
    world.session("scheduled", scheduled_start=at(9), candidate=person)
    world.held(30, hour=0, candidate=person)
    world.held(3)
    report = _report(world, person, march())
    assert report.attendance == {
        "completed": 3, "abandoned": 0, "no_show": 1, "interviewer_no_show": 1, "cancelled": 1, "open": 1, "late": 1
    }  # fmt: skip
    assert report.show == Ratio(3, 4)
    # The eighth was planned for later, but made on the first of the month, which is not in the period either.
    assert report.stamp.n == len(report.sessions) == 7


def test_all_of_the_candidates_time(world: World, person: Candidate) -> None:
    first = world.held(2, candidate=person, created_at=at(-300))
    coming = world.session("scheduled", scheduled_start=NOW + timedelta(days=9), candidate=person, retry_of=first.id)
    report = _report(world, person)
    assert [line.session_id for line in report.sessions] == [first.id, coming.id]
    assert [line.retry for line in report.sessions] == [False, True]
    assert report.stamp.period.start == at(-300) and report.stamp.period.end > NOW + timedelta(days=9)
    assert report.stamp.n == 2 and report.show == Ratio(1, 1)


def test_at_most_the_newest_hundred_sessions_are_listed(world: World, person: Candidate) -> None:
    made = [world.session("cancelled", created_at=at(2 + n / 10), candidate=person) for n in range(103)]
    report = _report(world, person, march())
    assert [line.session_id for line in report.sessions] == [row.id for row in made[3:]] and report.stamp.n == 103
    line = report.sessions[0]
    assert (line.interview, line.position, line.interviewer, line.status) == ("Backend", "Engineer", None, "cancelled")
    assert (line.invited_at, line.score, line.pass_score, line.decision) == (made[3].created_at, None, 60.0, None)


def test_skills_compared_with_others(world: World, person: Candidate) -> None:
    mine = world.held(3, candidate=person)
    world.answers(mine, [1, 10])
    world.answers(mine, [2], source="human")
    world.answers(world.held(4, candidate=person), [4])
    for scores in ([5, 5], [3], [None, 9]):
        world.answers(world.held(-20), scores)
    elsewhere = World(world.db, position="Chef")
    elsewhere.question(skill="SQL", max_score=5)
    elsewhere.answers(elsewhere.held(3), [0])
    report = {one.skill: one for one in _report(world, person, march()).skills}
    assert report["SQL"] == ("Engineer", "SQL", pytest.approx(0.6), 2, pytest.approx(0.8), 2)
    assert report["Python"] == ("Engineer", "Python", 1.0, 1, pytest.approx(0.7), 2)
    assert len(report) == 2
    alone = elsewhere.candidate()
    elsewhere.question(skill="Knives")
    elsewhere.answers(elsewhere.held(5, candidate=alone), [5, 2])
    assert [(one.skill, one.median, one.others) for one in _report(elsewhere, alone).skills] == [
        ("Knives", None, 0),
        ("SQL", 0.0, 1),
    ]


def test_answers_are_of_the_newest_five(world: World, person: Candidate) -> None:
    held = [world.held(day, candidate=person) for day in range(3, 10)]
    for session in held:
        world.answers(session, [3.5, None], seconds=40)
    world.answers(held[-1], [None, 7.25], source="human", scored_by=world.interviewers[0].id)
    world.held(20, candidate=person)
    report = _report(world, person, march()).answers
    assert list(dict.fromkeys(line.session_id for line in report)) == [session.id for session in held[2:]]
    assert len(report) == 5 * 2 + 2
    assert report[-1][1:] == (2, "2?", "Python", "human", 7.25, 10.0, None, "Ida")
    assert report[0][1:] == (1, "1?", "SQL", "ai", 3.5, 5.0, 40, None)


def test_feedback(world: World, person: Candidate) -> None:
    by = {"interviewer_id": world.interviewers[1].id, "candidate": person}
    late, good = world.held(3, **by), world.held(4, **by)
    world.feedback(late, 48.01, "no", comment="=HYPERLINK()")
    world.feedback(good, 48, "strong_yes")
    report = _report(world, person, march()).feedback
    assert [(one.session_id, one.recommendation, one.comment, one.in_time) for one in report] == [
        (late.id, "no", "=HYPERLINK()", False),
        (good.id, "strong_yes", None, True),
    ]
    assert report[0].interviewer == "Ilja" and report[0].submitted_at == at(5, 11) + timedelta(hours=0.01)
