"""Reminders: planned with the schedule, sent once at their moment or not at all, whoever else is at the session."""

from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from sqlalchemy import text, update

from core import reminders, sessions
from core.clock import utcnow
from core.db import transaction
from core.emails.queue.suppressions import suppress
from core.models import Email, Interview, InterviewSession, Reminder, User
from core.sessions import NewSession, NewStatus, SessionPatch
from tests.support import factories
from tests.support.reminders import FAR, booked, mails, minutes, notified, people, planned, soon, statuses, windows

# planning


def test_scheduling_plans_each_offset_for_both_sides(database: str) -> None:
    who = people()
    id_ = booked(who, FAR, now=FAR - timedelta(days=7))
    assert planned(id_) == [
        (1, "candidate", 1440, "planned", None),
        (1, "candidate", 60, "planned", None),
        (1, "interviewer", 1440, "planned", None),
        (1, "interviewer", 60, "planned", None),
    ]
    assert windows(id_)["candidate", 60] == (FAR - minutes(60), FAR - minutes(30))


def test_reminders_past_when_planned_are_skipped(database: str) -> None:
    id_ = booked(people(reminder_offsets=[1440, 60, 15]), FAR, now=FAR - minutes(60))
    assert [(offset, status, why) for _, to, offset, status, why in planned(id_) if to == "candidate"] == [
        (1440, "skipped", "too late"),
        (60, "planned", None),
        (15, "planned", None),
    ]


def test_an_interview_without_offsets_and_one_with_the_same_twice(database: str) -> None:
    assert planned(booked(people(reminder_offsets=[]), FAR, now=FAR - timedelta(days=7))) == []
    twice = booked(people(reminder_offsets=[30, 30]), FAR, now=FAR - timedelta(days=7))
    assert [offset for _, _, offset, _, _ in planned(twice)] == [30, 30], "once for each side"


def test_quiet_hours_are_each_recipients_own(database: str) -> None:
    who = people(reminder_offsets=[1440])
    with transaction() as db:
        quiet = {"quiet_from": time(22), "quiet_until": time(7)}
        db.execute(update(User).where(User.id == who.ids["candidate"]).values(timezone="Pacific/Kiritimati", **quiet))
        db.execute(update(User).where(User.id == who.interviewer_id).values(timezone="Etc/GMT+12", **quiet))
    found = windows(booked(who, FAR, now=FAR - timedelta(days=7)))
    # 12:00 UTC is 02:00 the next day in Kiritimati, and 00:00 the same day at GMT+12
    assert found["candidate", 1440][0] == datetime(2030, 5, 13, 17, tzinfo=UTC)
    assert found["interviewer", 1440][0] == datetime(2030, 5, 13, 19, tzinfo=UTC)


def test_a_reschedule_voids_and_replans_reminders(database: str) -> None:
    who, now = people(reminder_offsets=[60]), FAR - timedelta(days=7)
    id_ = booked(who, FAR, now=now)
    with transaction() as db:
        patch = SessionPatch(scheduled_start=FAR + minutes(90))
        sessions.change(db, id_, patch, by=who.viewer("recruiter"), now=now)
    why = "the session was rescheduled"
    assert planned(id_) == [
        (1, "candidate", 60, "void", why),
        (1, "interviewer", 60, "void", why),
        (2, "candidate", 60, "planned", None),
        (2, "interviewer", 60, "planned", None),
    ]


def test_an_invitation_has_no_reminders_until_it_is_scheduled(database: str) -> None:
    who, now = people(reminder_offsets=[60]), FAR - timedelta(days=7)
    with transaction() as db:
        given = NewSession(candidate_id=who.candidate_id, interview_id=who.interview_id)
        id_ = sessions.create(db, given, by=who.viewer("recruiter"), now=now)
    assert planned(id_) == []
    with transaction() as db:
        move = NewStatus(status="scheduled", scheduled_start=FAR)
        sessions.move(db, id_, move, by=who.viewer("candidate"), now=now)
    assert planned(id_) == [(1, "candidate", 60, "planned", None)], "nobody else takes part"


@pytest.mark.parametrize(("to", "role"), [("cancelled", "recruiter"), ("in_progress", "candidate")])
def test_reminders_of_a_moved_session_are_voided(database: str, to: Any, role: str) -> None:
    who, now = people(reminder_offsets=[60]), FAR - timedelta(days=7)
    id_ = booked(who, FAR, now=now)
    with transaction() as db:
        sessions.move(db, id_, NewStatus(status=to), by=who.viewer(role), now=now)
    assert statuses(id_) == ["void", "void"]


def test_imported_rows_and_changed_offsets_are_planned_by_the_hourly_run(database: str) -> None:
    who, now = people(reminder_offsets=[60]), FAR - timedelta(days=7)
    with transaction() as db:
        imported = [
            factories.session(db, now=now, scheduled_start=FAR, scheduled_end=FAR + minutes(30)) for _ in range(5)
        ]
        past = factories.session(
            db, now=now - timedelta(days=3), scheduled_start=now - minutes(9), scheduled_end=now + minutes(30)
        )
    changed = booked(who, FAR, now=now)
    with transaction() as db:
        db.execute(update(Interview).where(Interview.id == who.interview_id).values(reminder_offsets=[60, 120]))
    assert reminders.plan_missing(now=now, dry_run=True) == 6
    assert all(planned(id_) == [] for id_ in imported)
    assert reminders.plan_missing(now=now, batch=2) == 5 * 4 + 2
    assert reminders.plan_missing(now=now) == 0, "twice is once"
    assert all(statuses(id_) == ["planned"] * 4 for id_ in imported)
    assert {offset for _, _, offset, _, _ in planned(changed)} == {60, 120}
    assert planned(past) == []


# sending


def test_a_due_reminder_is_one_mail_and_notification_to_each_party(database: str) -> None:
    who = people(reminder_offsets=[60])
    id_ = soon(who)
    later = soon(people(reminder_offsets=[60]), due_in=100)
    result = reminders.send_due(now=utcnow())
    assert (result.found, result.done, result.skipped, result.failed, result.counts["locked"]) == (2, 2, 0, 0, 0)
    assert statuses(id_) == ["sent", "sent"]
    assert statuses(later) == ["planned", "planned"]
    assert [state for _, state in mails(id_)] == ["queued", "queued"]
    assert notified(id_) == sorted([who.ids["candidate"], who.interviewer_id])
    assert reminders.send_due(now=utcnow()).found == 0
    assert len(mails(id_)) == 2
    with transaction() as db:
        row = db.query(Reminder).where(Reminder.session_id == id_).first()
        mail = db.query(Email).where(Email.session_id == id_, Email.kind == "reminder").first()
        assert row and mail
        assert (mail.expires_at, mail.schedule_version) == (row.send_by, 1)
        assert mail.attempts == 0 and mail.priority == 1
        files = db.execute(text("SELECT content_type FROM email_attachments WHERE email_id = :id"), {"id": mail.id})
        assert [kind.split(";")[0] for kind in files.scalars()] == ["text/calendar"]


def test_a_dry_run_counts_and_writes_nothing(database: str) -> None:
    id_ = soon(people(reminder_offsets=[60]))
    result = reminders.send_due(now=utcnow(), dry_run=True)
    assert (result.found, result.done, result.skipped, result.counts) == (2, 0, 0, {"would be sent": 2})
    assert [one["outcome"] for one in result.sample] == ["would be sent"] * 2
    assert (statuses(id_), mails(id_), notified(id_)) == (["planned"] * 2, [], [])


def test_reminders_past_their_window_are_skipped_with_the_reason(database: str) -> None:
    id_ = soon(people(reminder_offsets=[60]), due_in=-31 * 60)
    result = reminders.plan_and_send(now=utcnow())
    assert (result.found, result.done, result.skipped, result.counts["missed"]) == (2, 0, 2, 2)
    assert result.counts == {"missed its window": 2, "missed": 2}
    assert {row[3:] for row in planned(id_)} == {("skipped", "missed its window")}
    assert (mails(id_), notified(id_)) == ([], [])
    again = reminders.plan_and_send(now=utcnow())
    assert (again.found, again.counts["missed"]) == (0, 2), "shown by every run within the hour"
    assert {one["session_id"] for one in again.sample} == {str(id_)}


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"status": "cancelled"}, "the session is not scheduled any more"),
        ({"deleted_at": FAR}, "the session is not scheduled any more"),
        ({"schedule_version": 2}, "the session has another schedule"),
    ],
)
def test_the_session_is_checked_again_before_sending(database: str, columns: dict[str, Any], why: str) -> None:
    """Changed by hand, so that nothing voided the reminders."""
    id_ = soon(people(reminder_offsets=[60]))
    with transaction() as db:
        db.execute(update(InterviewSession).where(InterviewSession.id == id_).values(**columns))
    assert reminders.send_due(now=utcnow()).counts == {why: 2}
    assert {row[3:] for row in planned(id_)} == {("void", why)}
    assert (mails(id_), notified(id_)) == ([], [])


def test_an_offset_that_the_interview_no_longer_has(database: str) -> None:
    who = people(reminder_offsets=[60])
    id_ = soon(who)
    with transaction() as db:
        db.execute(update(Interview).where(Interview.id == who.interview_id).values(reminder_offsets=[30]))
    reminders.send_due(now=utcnow())
    assert statuses(id_) == ["void", "void"]
    assert mails(id_) == []


def test_a_suppressed_address_gets_no_mail(database: str) -> None:
    who = people(reminder_offsets=[60])
    id_ = soon(who)
    with transaction() as db:
        row = db.get_one(User, who.interviewer_id)
        suppress(db, row.email, reason="unknown recipient", now=utcnow())
    reminders.send_due(now=utcnow())
    assert sorted(state for _, state in mails(id_)) == ["queued", "suppressed"]
    assert {row[1]: row[3:] for row in planned(id_)} == {
        "candidate": ("sent", None),
        "interviewer": ("sent", "the mail is suppressed"),
    }
    assert len(notified(id_)) == 2, "notified in the app all the same"


def test_one_failing_reminder_does_not_block_the_others(database: str) -> None:
    bad, good = people(reminder_offsets=[60]), people(reminder_offsets=[60])
    first, second = soon(bad, due_in=-1), soon(good)
    with transaction() as db:
        # a title that no column of a notification takes
        db.execute(text("ALTER TABLE notifications ADD CONSTRAINT odd CHECK (body NOT LIKE '%Bad%')"))
        db.execute(update(Interview).where(Interview.id == bad.interview_id).values(title="Bad"))
    result = reminders.send_due(now=utcnow())
    assert (result.found, result.done, result.failed, result.skipped) == (4, 2, 2, 0)
    assert {row[3:] for row in planned(first)} == {("skipped", "could not be written: IntegrityError")}
    assert mails(first) == []
    assert statuses(second) == ["sent", "sent"]


def test_the_next_due_is_the_earliest_planned(database: str) -> None:
    with transaction() as db:
        assert reminders.next_due(db) is None
    id_ = soon(people(reminder_offsets=[60]), due_in=500)
    soon(people(reminder_offsets=[60]), due_in=900)
    with transaction() as db:
        assert reminders.next_due(db) == windows(id_)["candidate", 60][0]
