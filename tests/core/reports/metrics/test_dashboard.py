"""The dashboard's figures against data sets small enough to be counted by hand."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy.orm import Session

from core.db import transaction
from core.models import Notification, Reminder
from core.reminders import sending
from core.reports import metrics
from core.reports.csv import rows
from core.reports.data import Attention, Dashboard, Period, Ratio, Spread, Wait
from core.reports.metrics.moments import OUTCOMES
from core.reports.metrics.operations import LATE
from tests.support.factories import email
from tests.support.processes import Database
from tests.support.report_rows import NOW, World, at, march

MICRO = timedelta(microseconds=1)


class _Undo(Exception):
    """Ends a test's transaction without a trace."""


@pytest.fixture
def db(shared_database: Database) -> Iterator[Session]:
    """A transaction that is rolled back."""
    with pytest.raises(_Undo), transaction() as db:
        yield db
        raise _Undo


@pytest.fixture
def world(db: Session) -> World:
    """An interview with interviewers."""
    return World(db, settings={"pass_score": 60, "feedback_deadline_hours": 48})


def _dashboard(world: World, period: Period | None = None) -> Dashboard:
    world.db.flush()
    return metrics.dashboard(world.db, period or march(), as_of=NOW)


def _outcomes(**counts: int) -> dict[str, int]:
    return dict.fromkeys(OUTCOMES, 0) | counts


def test_rates_without_data_are_undefined(world: World) -> None:
    report = _dashboard(world)
    assert report.stamp.n == 0 and report.totals == report.previous
    assert report.totals.show == report.totals.conversion == report.totals.feedback_in_time == Ratio(0, 0)
    assert report.totals.show.value is None
    assert report.totals.time_to_hire == Wait(0, None, None) and report.scores == Spread(0)
    assert [week.monday.day for week in report.weeks] == [2, 9, 16, 23] and report.weeks[0].totals == report.totals
    assert [week.monday.isoformat() for week in report.previous_weeks][::3] == ["2026-02-02", "2026-02-23"]
    assert report.histogram == (0,) * 20 and report.pass_scores == () and report.positions == ()
    assert report.feedback.curve == () and report.heat == {} and report.attention == () and report.attention_count == 0


def test_show_rates(world: World) -> None:
    for day in (2, 3, 4):
        world.held(day)
    world.session("abandoned", scheduled_start=at(5), started_at=at(5), ended_at=at(5, 13), deleted_at=at(20))
    world.session("no_show", scheduled_start=at(6), no_show_party="candidate")
    world.session("no_show", scheduled_start=at(6), no_show_party="interviewer")
    world.session("cancelled", scheduled_start=at(9))
    world.session("scheduled", scheduled_start=at(10))
    # It was held after all: the correction does not say when it began.
    world.session("completed", scheduled_start=at(11), ended_at=at(11, 13))
    world.held(30, hour=0)  # the period's end is no longer in it
    world.held(1, hour=23.99)
    report = _dashboard(world)
    assert report.totals.planned == 9 and report.totals.completed == 4
    assert report.totals.show == Ratio(5, 6) and report.totals.no_show == Ratio(1, 6)
    assert report.totals.held == Ratio(4, 9)
    assert report.totals.completion == Ratio(4, 5)
    assert report.weeks[0].outcomes == _outcomes(completed=3, abandoned=1, no_show=2)
    assert report.weeks[1].outcomes == _outcomes(completed=1, cancelled=1, open=1)
    assert report.weeks[1].totals.held == Ratio(1, 3) and report.weeks[1].totals.completion == Ratio(1, 1)
    assert report.previous.planned == 1 and report.previous_weeks[-1].totals.show == Ratio(1, 1)


def test_invitations(world: World) -> None:
    expires = {"created_at": at(1), "invitation_expires_at": at(15)}
    world.session("completed", started_at=at(3), ended_at=at(3, 13), **expires)
    world.session("expired", **expires, deleted_at=at(29))
    world.session("cancelled", **expires)
    world.session("invited", created_at=at(2), invitation_expires_at=NOW + timedelta(seconds=1))
    world.session("completed", created_at=at(2), started_at=at(4), ended_at=at(5))  # was never invited
    report = _dashboard(world)
    assert report.totals.conversion == Ratio(1, 3)
    assert [week.totals.conversion for week in report.weeks] == [Ratio(1, 1), Ratio(0, 2), Ratio(0, 0), Ratio(0, 0)]
    assert [week.outcomes["expired"] for week in report.weeks] == [0, 1, 0, 0]
    assert report.stamp.n == 5


@pytest.mark.parametrize("which", ["created_at", "scheduled_start", "started_at", "expires", "due", "decided_at"])
def test_a_session_is_of_the_period_by_any_of_its_moments(world: World, which: str) -> None:
    for moment in (at(2, 0), at(2, 0) - MICRO, at(30, 0)):
        columns: dict[str, Any] = {"created_at": at(-90), "started_at": at(-90), "ended_at": at(-90)}
        if which == "expires":
            columns = {"created_at": at(-90), "invitation_expires_at": moment}
        elif which == "due":
            columns |= {"ended_at": moment - timedelta(hours=48), "interviewer_id": world.interviewers[0].id}
        else:
            columns[which] = moment
        world.session("cancelled" if which == "expires" else "completed", **columns)
    assert _dashboard(world).stamp.n == 1
    header, line = b"".join(rows(world.db, march())).splitlines()
    assert header and str(world.sessions[0].id).encode() in line


def test_a_deadline_at_the_current_moment_counts_as_passed(world: World) -> None:
    world.session("cancelled", invitation_expires_at=at(9))
    world.held(7, hour=11, interviewer_id=world.interviewers[0].id)
    for as_of, over in ((at(9), 1), (at(9) - MICRO, 0)):
        report = metrics.dashboard(world.db, march(), as_of=as_of).totals
        assert report.conversion == Ratio(0, over) and report.feedback_in_time == Ratio(0, over)


def test_waits(world: World) -> None:
    for day, waited in ((2, 24), (3, 48), (4, 72), (10, 240)):
        world.held(day, created_at=at(day, 10) - timedelta(hours=waited), decided_at=at(day, 11 + waited / 24))
    world.held(5, created_at=at(6))  # invited after it was planned for: a wrong record
    for day, days in ((3, 10), (4, 20), (16, 60)):
        world.candidate(applied_at=at(day) - timedelta(days=days), hired_at=at(day), deleted_at=at(29))
    world.candidate(hired_at=at(5))
    report = _dashboard(world)
    assert report.totals.scheduling_delay == Wait(4, 60.0, pytest.approx(72 + 0.7 * 168))
    assert report.totals.time_to_decision == Wait(4, 2.5, pytest.approx(3 + 0.7 * 7))
    assert report.totals.time_to_hire == Wait(3, 480.0, pytest.approx(480 + 0.8 * 960))
    assert [week.totals.time_to_hire.n for week in report.weeks] == [2, 0, 1, 0]
    assert report.weeks[0].totals.scheduling_delay == Wait(3, 48.0, pytest.approx(48 + 0.8 * 24))


def test_feedback(world: World) -> None:
    by = {"interviewer_id": world.interviewers[0].id}
    for hours in (0.0, 12.0, 48.0, 48.001, 96.0, 300.0):
        world.feedback(world.held(3, **by), hours)
    world.held(3, **by)
    world.held(3)  # nobody owes feedback of what only the AI asked
    world.held(29, hour=20, **by)  # due on the 31st
    report = _dashboard(world)
    assert report.totals.feedback_in_time == report.feedback.in_time == Ratio(3, 7)
    curve = dict(report.feedback.curve)
    assert len(curve) == 76 and list(curve) == sorted(curve)
    assert [curve[x] for x in (0.0, 0.24, 0.28, 0.96, 1.0, 1.04, 2.0, 3.0)] == [
        pytest.approx(n / 7) for n in (1, 1, 2, 2, 3, 4, 5, 5)
    ]
    assert report.feedback.deadline_hours == Wait(7, 48.0, 48.0)


def test_funnel(world: World) -> None:
    hired = world.candidate(hired_at=at(40))
    world.session("invited", created_at=at(2, 0), invitation_expires_at=at(60))
    world.session("invited", created_at=at(3), opened_at=at(4), invitation_expires_at=at(60))
    world.session("abandoned", created_at=at(3), started_at=at(4), ended_at=at(4))
    world.held(5, created_at=at(3), decision="reject", decided_at=at(9))
    world.held(5, created_at=at(3), decision="advance", decided_at=at(9))
    world.held(5, created_at=at(3), decision="advance", decided_at=at(9), candidate=hired)
    world.held(5, created_at=at(3), decision="hold", decided_at=at(9), candidate=hired)
    world.held(5, created_at=at(1))
    report = _dashboard(world)
    assert [tuple(stage) for stage in report.funnel] == [
        ("invited", 7), ("opened", 6), ("started", 5), ("completed", 4), ("advanced", 2), ("hired", 1)
    ]  # fmt: skip


def test_scores(world: World) -> None:
    for score in (0, 4.99, 5, 60, 61, 62, 63, 64, 100):
        world.held(4, score=score, deleted_at=None)
    world.held(4)
    other = World(world.db, position="<b>Chef</b>", settings={"pass_score": 70})
    other.held(4, score=70)
    report = _dashboard(world)
    assert report.totals.passed == Ratio(7, 10) and report.pass_scores == (60.0, 70.0)
    assert {bin_: n for bin_, n in enumerate(report.histogram) if n} == {0: 2, 1: 1, 12: 5, 14: 1, 19: 1}
    engineers, chefs = report.positions
    assert engineers == ("Engineer", Spread(9, 0.0, 5.0, 61.0, 63.0, 100.0), ())
    assert chefs == ("<b>Chef</b>", Spread(1, 70.0, 70.0, 70.0, 70.0, 70.0), ())
    assert report.scores.n == 10 and report.scores.median == 61.5
    for score in (59, 58):
        world.held(5, score=score)
    for _ in range(8):
        world.held(5, score=61)
    position = _dashboard(world).positions[0]
    # The box is 59.5 to 61, its whiskers may reach from 57.25 to 63.25.
    assert position.spread == Spread(19, 58.0, 59.5, 61.0, 61.0, 63.0)
    assert position.outliers == (0.0, 4.99, 5.0, 64.0, 100.0)


def test_whiskers_reach_one_and_a_half_boxes(world: World) -> None:
    # The box is 40 to 60: 10 and 90 are just within reach, 9.99 and 90.01 are not.
    for score in (9.99, 10, 40, 40, 40, 50, 60, 60, 60, 90, 90.01):
        world.held(4, score=score)
    report = _dashboard(world).positions[0]
    assert report.spread == Spread(11, 10.0, 40.0, 50.0, 60.0, 90.0) and report.outliers == (9.99, 90.01)


def test_load_and_heat_are_the_zones(world: World) -> None:
    first, second = (person.id for person in world.interviewers)
    world.held(2, interviewer_id=first, hour=22.5)
    world.held(28, interviewer_id=second, hour=23)
    world.held(29, interviewer_id=second, hour=22, ended_at=at(30, 0.5))
    world.session("cancelled", scheduled_start=at(28, 23.5), interviewer_id=first)
    for minutes in (59, 60):
        world.session("cancelled", scheduled_start=at(29, 0) + timedelta(minutes=minutes))
    report = _dashboard(world, Period(at(2, 0), at(30, 0), "Europe/Berlin"))
    assert report.interviewer_count == 2
    assert [tuple(load) for load in report.interviewers] == [("Ilja", 2, 3.5), ("Ida", 1, 1.0)]
    # On Sunday the 29th the clocks of Berlin go from one hour ahead to two.
    assert report.heat == {(1, 23): 1, (7, 0): 2, (1, 0): 1, (7, 1): 1, (7, 3): 1}


def test_attention_lists(world: World) -> None:
    by = {"interviewer_id": world.interviewers[1].id}
    missed = world.session("no_show", scheduled_start=at(3), no_show_party="candidate")
    again = world.session("no_show", scheduled_start=at(4), no_show_party="candidate")
    world.session("invited", retry_of=again.id, created_at=at(5), invitation_expires_at=NOW + timedelta(hours=47))
    gone = world.candidate(withdrawn_at=at(9))
    world.session("no_show", scheduled_start=at(4), no_show_party="candidate", candidate=gone)
    world.held(5, candidate=gone, **by)
    alone = world.session("no_show", scheduled_start=at(3), no_show_party="interviewer", **by)
    overdue, undecided = world.held(5, **by), world.held(6)
    world.held(7, decision="hold", decided_at=at(8))
    world.held(7, decision=None, deleted_at=at(8))
    dead = email(world.db, now=at(9), status="dead", kind="reminder", created_at=at(9), to_address="x@example.com")
    email(world.db, now=at(9), status="dead", created_at=at(60))
    report = _dashboard(world)
    assert [(one.kind, one.session_id, one.at) for one in report.attention] == [
        ("interviewer_no_show", alone.id, at(3)),
        ("mail", None, at(9)),
        ("feedback_overdue", overdue.id, at(7, 11)),
        ("no_show", missed.id, at(3)),
        ("undecided", undecided.id, at(6, 11)),
    ]
    assert dead and report.attention[1][2:4] == ("x@example.com", "reminder dead")
    assert report.attention[2][2:4] == ("Ilja", "Backend") and report.attention_count == 5
    # Of the present, what expires within two days is listed too.
    present = metrics.dashboard(world.db, Period(at(2, 0), NOW, "UTC"), as_of=NOW)
    assert [one.kind for one in present.attention].count("expiring") == 1 and present.attention_count == 7
    for day in range(2, 29):
        world.session("no_show", scheduled_start=at(day), no_show_party="candidate")
        world.held(day, **by)
    many = _dashboard(world)
    assert len(many.attention) == 30 and many.attention_count == 59 - 1
    assert {one.kind for one in many.attention} == {one.kind for one in report.attention}
    assert isinstance(many.attention[0], Attention) and many.attention[0].kind == "interviewer_no_show"


def test_operations(world: World) -> None:
    session = world.held(20)
    kinds = [("sent", None, 0), ("sent", None, 40), ("skipped", LATE, None), ("skipped", "too late", None)]
    for offset, (status, reason, minutes) in enumerate([*kinds, ("void", None, None), ("planned", None, None)], 60):
        sent = at(10) + timedelta(minutes=minutes) if minutes is not None else None
        world.db.add(
            Reminder(
                session_id=session.id, schedule_version=1, recipient="candidate", offset_minutes=offset,
                due_at=at(10), send_by=at(10, 12.5), status=status, reason=reason, sent_at=sent,
            )
        )  # fmt: skip
    for status, day in (("sent", 3), ("sent", 4), ("sent", 31), ("dead", 5), ("uncertain", 6), ("queued", 7)):
        email(world.db, now=at(day), status=status, created_at=at(day))
    for day, category, role in ((3, "job_late", "admin"), (3, "job_failed", "admin"), (31, "job_late", "admin")):
        world.db.add(
            Notification(
                category=category, role=role, title="Late", body="Late", not_before=at(day), delivered_at=at(day),
                status="delivered", dedupe_key=str(uuid4()),
            )
        )  # fmt: skip
    report = _dashboard(world).operations
    assert report.reminders_in_time == Ratio(1, 3) and LATE == sending.MISSED
    assert (report.mails_sent, report.mails_dead, report.mails_uncertain, report.late_runs) == (2, 1, 1, 1)
