"""Whom a reminder reaches: who cannot sign in gets the mail only, and a new schedule has reminders of its own."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import text

from core import reminders, sessions
from core.clock import utcnow
from core.db import transaction
from core.emails.queue.suppressions import suppress
from core.models import Candidate, Notification
from core.sessions import SessionPatch
from tests.support.factories import People
from tests.support.reminders import mails, minutes, notified, people, planned, soon, statuses, windows


def cannot_sign_in(who: People) -> str:
    """The candidate has no user from now on; gives their address."""
    with transaction() as db:
        row = db.get_one(Candidate, who.candidate_id)
        row.user_id = None
        return row.email


def test_who_cannot_sign_in_gets_the_mail_and_nobody_else_the_notification(database: str) -> None:
    who = people(reminder_offsets=[60])
    address, id_ = cannot_sign_in(who), soon(who)
    assert reminders.send_due(now=utcnow()).done == 2
    assert (address, "queued") in mails(id_)
    with transaction() as db:
        found = [(one.user_id, one.role) for one in db.query(Notification).filter_by(session_id=id_)]
    assert found == [(who.interviewer_id, None)], "one without a user or a role would be everybody's"


def test_a_reminder_that_nobody_can_get_is_skipped_with_the_reason(database: str) -> None:
    who = people(reminder_offsets=[60])
    address, id_ = cannot_sign_in(who), soon(who)
    with transaction() as db:
        suppress(db, address, reason="unknown recipient", now=utcnow())
    result = reminders.send_due(now=utcnow())
    assert (result.done, result.skipped) == (1, 1)
    assert {row[1]: row[3:] for row in planned(id_)} == {
        "candidate": ("skipped", "the mail is suppressed"),
        "interviewer": ("sent", None),
    }


def _earlier(session_id: UUID, by: float) -> None:
    """Time passes: what is planned of the session comes nearer by so many minutes."""
    with transaction() as db:
        nearer = {"by": minutes(by), "id": session_id}
        db.execute(
            text("UPDATE sessions SET scheduled_start = scheduled_start - :by, scheduled_end = scheduled_end - :by"
                 " WHERE id = :id"), nearer)  # fmt: skip
        db.execute(
            text("UPDATE reminders SET due_at = due_at - :by, send_by = send_by - :by WHERE session_id = :id"
                 " AND status = 'planned'"), nearer)  # fmt: skip


def test_the_same_offset_of_another_schedule_is_sent_again(database: str) -> None:
    who = people(reminder_offsets=[60])
    id_ = soon(who)
    assert reminders.send_due(now=utcnow()).done == 2
    with transaction() as db:
        patch = SessionPatch(scheduled_start=utcnow() + minutes(90))
        sessions.change(db, id_, patch, by=who.viewer("recruiter"), now=utcnow())
    assert reminders.send_due(now=utcnow()).found == 0
    _earlier(id_, by=31)
    assert reminders.send_due(now=utcnow()).done == 2
    both = sorted([who.ids["candidate"], who.interviewer_id])
    assert notified(id_) == sorted(both * 2)
    assert sorted(state for _, state in mails(id_)) == ["cancelled", "cancelled", "queued", "queued"]


def test_a_schedule_that_was_imported_anew_is_planned_anew(database: str) -> None:
    """Its version was raised past the application, so that nothing voided or planned reminders."""
    who = people(reminder_offsets=[60])
    id_ = soon(who, due_in=600)
    with transaction() as db:
        db.execute(text("UPDATE sessions SET schedule_version = 2 WHERE id = :id"), {"id": id_})
    assert reminders.plan_missing(now=utcnow()) == 2
    assert [(row[0], row[3]) for row in planned(id_)] == [(1, "planned")] * 2 + [(2, "planned")] * 2


def test_the_next_interviewer_is_reminded_and_not_the_one_before(database: str) -> None:
    who, other = people(reminder_offsets=[60]), people()
    id_ = soon(who, due_in=60)
    with transaction() as db:
        patch = SessionPatch(interviewer_id=other.interviewer_id)
        sessions.change(db, id_, patch, by=who.viewer("recruiter"), now=utcnow())
    _earlier(id_, by=2)
    assert reminders.send_due(now=utcnow()).done == 2
    assert notified(id_) == sorted([who.ids["candidate"], other.interviewer_id])
    assert statuses(id_) == ["void", "void", "sent", "sent"]


def test_what_missed_its_window_after_the_time_of_a_late_run_is_the_next_ones_to_report(database: str) -> None:
    """Both skip by the clock; each reports what was over by its own time."""
    id_ = soon(people(reminder_offsets=[90]), due_in=-3600, offset=90)
    due_at: datetime = windows(id_)["candidate", 90][0]
    late = reminders.plan_and_send(now=due_at + minutes(10))
    assert (late.skipped, late.counts["missed"]) == (2, 0)
    following = reminders.plan_and_send(now=due_at + minutes(59))
    assert (following.skipped, following.counts["missed"]) == (0, 2)
